"""Presets: the settings of published experiments, by name; a trial begins from one by `preset:`.

A preset is one entry here: what it was read from, the settings as a trial's sections, and what of
the source these cannot say. Where a source states the length of training, that is its budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from gansweep.errors import ConfigError, nearest

_DCGAN_SIZE = "images of 64 pixels in colour there; any here"
_RESIDUAL = "residual networks there; DCGAN's here"
_LR_DECAY = "the learning rate falls linearly to 0 there; it stays here"
_G_FIRST = "a round of five steps of D begins with G's step there, and ends with it here"
_ADAM_1E4 = {"name": "adam", "lr": 1e-4, "beta1": 0.5, "beta2": 0.9}


@final
@dataclass(frozen=True)
class Preset:
    """A published experiment.

    source: paper and code that the numbers are from. trial: sections as in a sweep file.
    deviations: what differs from the source all the same, one sentence each.
    """

    source: str
    trial: Mapping[str, Mapping[str, Any]]
    deviations: tuple[str, ...] = ()


def _pacgan(name: str, **data: Any) -> Preset:
    """One of PacGAN's two experiments in the plane; they share everything but the modes."""
    return Preset(
        "Lin et al. 2018 (PacGAN2); fjxmlzn/PacGAN, synthetic_data_experiments: batch_size 100 "
        "counts pairs, that is 200 samples; 400 epochs of 100,000 pairs",
        {
            "model": {"name": "gan", "loss": "non_saturating", "n_critic": 1, "pac": 2},
            "network": {"name": "pacgan"},
            "latent": {"dim": 2, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 1e-4, "beta1": 0.8, "beta2": 0.999},
            "data": {"name": name, "batch_size": 200, "n": 200_000, **data},
            "budget": {"g_steps": 400_000},
            "score": {"samples": 2500},
        },
        (
            "both players step at once, on one batch of samples, there; D first here",
            "the samples of a pair are normalised in batches of their own there, together here",
            "for the paper's GAN set model.pac: 1, data.batch_size: 100 and data.n: 100000",
        ),
    )


PRESETS: dict[str, Preset] = {
    "gan/paper": Preset(
        "Goodfellow et al. 2014; goodfeli/adversarial, mnist.yaml, with AdversaryCost2 of "
        "__init__.py, where D's loss is the half of the sum: its rate is 0.05 here",
        {
            "model": {"name": "gan", "loss": "non_saturating", "n_critic": 1},
            "network": {"name": "maxout"},
            "latent": {"dim": 100, "distribution": "uniform"},
            "optimizer": {
                "name": "sgd",
                "lr": 0.1,
                "momentum": 0.5,
                "discriminator": {"lr": 0.05},
            },
            "data": {"batch_size": 100},
        },
        (
            "momentum rises to 0.7 over 250 epochs and the rate falls by 1.000004 a batch there; "
            "both stay here",
            "z is uniform in (-sqrt 3, sqrt 3) there, in (-1, 1) here",
            "both players step at once, on one batch of samples, there; D first here",
            "the output's biases begin from the data's marginals there, from 0 here",
        ),
    ),
    "cgan/paper": Preset(
        "Mirza & Osindero 2014, section 4.1, alone: code of its authors was not found; the layers "
        "are also those of raphaelsenn/CGAN, src/cgan_fc.py",
        {
            "model": {"name": "cgan", "loss": "non_saturating", "n_critic": 1},
            "network": {"name": "maxout"},
            "latent": {"dim": 100, "distribution": "uniform"},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5},
            "data": {"batch_size": 100},
        },
        (
            "momentum rises to 0.7 and the rate falls by 1.00004 to 1e-6 there; both stay here",
            "z is uniform in (0, 1) there, in (-1, 1) here",
            "the paper says neither how weights begin nor which of the two losses G has; here as "
            "in mnist.yaml of the 2014 paper",
        ),
    ),
    "dcgan/paper": Preset(
        "Radford et al. 2015, section 4 and figure 1; Newmu/dcgan_code, "
        "faces/train_uncond_dcgan.py",
        {
            "model": {"name": "dcgan", "loss": "non_saturating", "n_critic": 1},
            "network": {"name": "dcgan", "width": 128},
            "latent": {"dim": 100, "distribution": "uniform"},
            "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.5, "beta2": 0.999},
            "data": {"batch_size": 128},
        },
        (
            _DCGAN_SIZE,
            "kernels of 5x5 and a weight decay of 1e-5 in the code; 4x4 and none here",
            "in the code each batch steps D or G, in turn; here D on a batch, then G",
        ),
    ),
    "dcgan/official": Preset(
        "soumith/dcgan.torch, main.lua",
        {
            "model": {"name": "dcgan", "loss": "non_saturating", "n_critic": 1},
            "network": {"name": "dcgan", "width": 64},
            "latent": {"dim": 100, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.5, "beta2": 0.999},
            "data": {"batch_size": 64},
        },
        (
            _DCGAN_SIZE,
            "G's step has the samples of D's step, and D's outputs on them from before it, there; "
            "here it draws z anew, and D judges as it has become",
        ),
    ),
    "wgan/paper": Preset(
        "Arjovsky et al. 2017, Algorithm 1: alpha 5e-5, c 0.01, m 64, n_critic 5",
        {
            "model": {
                "name": "wgan",
                "n_critic": 5,
                "clip": 0.01,
                "clip_timing": "after",
                "burst_first": 0,
                "burst_every": 0,
            },
            "network": {"name": "dcgan"},
            "latent": {"dim": 100, "distribution": "normal"},
            "optimizer": {"name": "rmsprop", "lr": 5e-5},
            "data": {"batch_size": 64},
        },
        (_DCGAN_SIZE,),
    ),
    "wgan/official": Preset(
        "martinarjovsky/WassersteinGAN, main.py",
        {
            "model": {
                "name": "wgan",
                "n_critic": 5,
                "clip": 0.01,
                "clip_timing": "before",
                "clip_normalisation": True,
                "burst_n_critic": 100,
                "burst_first": 25,
                "burst_every": 500,
            },
            "network": {"name": "dcgan", "width": 64},
            "latent": {"dim": 100, "distribution": "normal"},
            "optimizer": {"name": "rmsprop", "lr": 5e-5},
            "data": {"batch_size": 64},
        },
        (
            _DCGAN_SIZE,
            "the sign of the critic is the other one there, which changes nothing",
            "an epoch's end cuts a round of critic steps short there, never here",
        ),
    ),
    "wgan_gp/paper": Preset(
        "Gulrajani et al. 2017, Algorithm 1: lambda 10, n_critic 5, alpha 1e-4, betas (0, 0.9)",
        {
            "model": {"name": "wgan_gp", "penalty_weight": 10.0, "n_critic": 5},
            "network": {"name": "dcgan", "discriminator_norm": "layer"},
            "latent": {"dim": 128, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 1e-4, "beta1": 0.0, "beta2": 0.9},
            "data": {"batch_size": 64},
        },
        (_RESIDUAL,),
    ),
    "wgan_gp/toy": Preset(
        "igul222/improved_wgan_training, gan_toy.py, 8gaussians",
        {
            "model": {"name": "wgan_gp", "penalty_weight": 0.1, "n_critic": 5},
            "network": {"name": "mlp", "width": 512, "depth": 3, "leak": 0.0},
            "latent": {"dim": 2, "distribution": "normal"},
            "optimizer": _ADAM_1E4,
            "data": {
                "name": "ring8",
                "batch_size": 256,
                "radius": 2 / 1.414,
                "std": 0.02 / 1.414,
            },
            "budget": {"g_steps": 100_000},
        },
        (
            "weights begin as He et al. have it there, as PyTorch's own here",
            "each point is drawn once there; here from 100,000 points",
        ),
    ),
    "wgan_gp/mnist": Preset(
        "igul222/improved_wgan_training, gan_mnist.py with MODE wgan-gp, where neither network is "
        "normalised",
        {
            "model": {"name": "wgan_gp", "penalty_weight": 10.0, "n_critic": 5},
            "network": {
                "name": "dcgan",
                "width": 64,
                "generator_norm": "none",
                "discriminator_norm": "none",
            },
            "latent": {"dim": 128, "distribution": "normal"},
            "optimizer": _ADAM_1E4,
            "data": {"batch_size": 50},
            "budget": {"g_steps": 200_000},
        },
        (
            "kernels of 5x5 with biases between linear layers, three halvings (28, 14, 7, 4), "
            "weights as He et al. have it there; DCGAN's networks here",
            "pixels in [0, 1] from a sigmoid there, in [-1, 1] from a tanh here",
        ),
    ),
    "lsgan/official": Preset(
        "Mao et al. 2017, eq. 9; xudonmao/LSGAN, train_lsun.py and vgg.py",
        {
            "model": {"name": "lsgan", "fake_label": 0.0, "real_label": 1.0, "target": 1.0},
            "network": {"name": "dcgan", "width": 64},
            "latent": {"dim": 1024, "distribution": "uniform"},
            "optimizer": {"name": "adam", "lr": 1e-3, "beta1": 0.5, "beta2": 0.999},
            "data": {"batch_size": 64},
            "budget": {"g_steps": 1_000_000},
        },
        (
            "losses are sums over the batch there, means here, which Adam does not feel",
            "a generator after VGG, for 112 pixels, there; DCGAN's here",
            "both steps of a round have the same z there, each its own here",
        ),
    ),
    "lsgan/chi_squared": Preset(
        "Mao et al. 2017, eq. 8: Pearson's chi-squared divergence; all else as lsgan/official",
        {
            "model": {"name": "lsgan", "fake_label": -1.0, "real_label": 1.0, "target": 0.0},
            "network": {"name": "dcgan", "width": 64},
            "latent": {"dim": 1024, "distribution": "uniform"},
            "optimizer": {"name": "adam", "lr": 1e-3, "beta1": 0.5, "beta2": 0.999},
            "data": {"batch_size": 64},
            "budget": {"g_steps": 1_000_000},
        },
        ("as lsgan/official",),
    ),
    "sngan/official": Preset(
        "Miyato et al. 2018; pfnet-research/sngan_projection, sn_cifar10_unconditional.yml",
        {
            "model": {"name": "hinge", "n_critic": 5},
            "network": {"name": "dcgan", "discriminator_norm": "spectral"},
            "latent": {"dim": 128, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9},
            "data": {"batch_size": 64},
            "budget": {"g_steps": 50_000},
        },
        (_RESIDUAL, _LR_DECAY, _G_FIRST, "G's step has 128 samples there, 64 here"),
    ),
    "projection/official": Preset(
        "Miyato & Koyama 2018; pfnet-research/sngan_projection, sn_cifar10.yml",
        {
            "model": {"name": "hinge", "n_critic": 5, "conditional": True},
            "network": {
                "name": "dcgan",
                "discriminator_norm": "spectral",
                "discriminator_condition": "projection",
            },
            "latent": {"dim": 128, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9},
            "data": {"batch_size": 64},
            "budget": {"g_steps": 50_000},
        },
        (
            _RESIDUAL,
            _LR_DECAY,
            _G_FIRST,
            "G's step has 128 samples there, 64 here",
            "y enters G by conditional BatchNorm there, joined with z here",
            "labels of generated samples are drawn at will there, those of the real batch here",
        ),
    ),
    "dragan/official": Preset(
        "Kodali et al. 2017; kodalinaveen3/DRAGAN, DRAGAN.ipynb",
        {
            "model": {
                "name": "dragan",
                "loss": "non_saturating",
                "n_critic": 1,
                "penalty_weight": 10.0,
                "radius": 0.5,
            },
            "network": {"name": "mlp", "width": 128, "depth": 1, "leak": 0.0},
            "latent": {"dim": 100, "distribution": "uniform"},
            "optimizer": _ADAM_1E4,
            "data": {"batch_size": 128},
            "budget": {"g_steps": 199_999},
        },
        (
            "weights are normal with variance 2 / fan_in there, PyTorch's own here",
            "pixels in [0, 1] from a sigmoid there, in [-1, 1] from a tanh here",
        ),
    ),
    "r1gan/paper": Preset(
        "Mescheder et al. 2018, section 4.1, with gamma 10; optimizer, batch and average of "
        "LMescheder/GAN_stability, configs/default.yaml",
        {
            "model": {"name": "r1gan", "loss": "non_saturating", "n_critic": 1, "gamma": 10.0},
            "network": {"name": "dcgan", "generator_norm": "none", "discriminator_norm": "none"},
            "latent": {"dim": 256, "distribution": "normal"},
            "optimizer": {"name": "rmsprop", "lr": 1e-4},
            "data": {"batch_size": 64},
            "ema": {"decay": 0.999},
        },
        (_RESIDUAL,),
    ),
    "r1gan/official": Preset(
        "LMescheder/GAN_stability, configs/default.yaml and gan_training/train.py, where reg_param "
        "10 weighs the squared slope without the half: gamma 20",
        {
            "model": {"name": "r1gan", "loss": "non_saturating", "n_critic": 1, "gamma": 20.0},
            "network": {"name": "dcgan", "generator_norm": "none", "discriminator_norm": "none"},
            "latent": {"dim": 256, "distribution": "normal"},
            "optimizer": {"name": "rmsprop", "lr": 1e-4},
            "data": {"batch_size": 64},
            "ema": {"decay": 0.999},
        },
        (_RESIDUAL,),
    ),
    "r3gan/cifar10": Preset(
        "Huang et al. 2024; brownvc/R3GAN, train.py with --preset=CIFAR10 --batch=512",
        {
            "model": {"name": "r3gan", "n_critic": 1, "gamma": 0.05},
            "network": {"name": "dcgan", "generator_norm": "none", "discriminator_norm": "none"},
            "latent": {"dim": 64, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9},
            "data": {"batch_size": 512},
        },
        (
            _RESIDUAL,
            "over 20 million images gamma falls to 0.005, the rate to 5e-5, beta2 rises to 0.99 "
            "and the average lengthens there; the starting values stay here",
            "class-conditional and with augmentation there",
        ),
    ),
    "r3gan/ffhq64": Preset(
        "Huang et al. 2024; brownvc/R3GAN, train.py with --preset=FFHQ-64 --batch=256",
        {
            "model": {"name": "r3gan", "n_critic": 1, "gamma": 2.0},
            "network": {"name": "dcgan", "generator_norm": "none", "discriminator_norm": "none"},
            "latent": {"dim": 64, "distribution": "normal"},
            "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9},
            "data": {"batch_size": 256},
        },
        (
            _RESIDUAL,
            "over 20 million images gamma falls to 0.2, the rate to 5e-5, beta2 rises to 0.99 and "
            "the average lengthens there; the starting values stay here",
            "with augmentation there",
        ),
    ),
    "bigan/paper": Preset(
        "Donahue et al. 2017, permutation-invariant MNIST; jeffdonahue/bigan, train_mnist.sh with "
        "the defaults of train_gan.py: 200 epochs of 50,000 images, 200 more with a falling rate",
        {
            "model": {"name": "bigan", "n_critic": 1},
            "network": {"name": "bigan", "width": 1024, "std": 0.02},
            "latent": {"dim": 50, "distribution": "uniform"},
            "optimizer": {
                "name": "adam",
                "lr": 2e-4,
                "beta1": 0.5,
                "beta2": 0.999,
                "weight_decay": 2.5e-5,
            },
            "data": {"batch_size": 128},
            "budget": {"g_steps": 156_250},
        },
        (
            "over the second half of training the rate falls to 2e-6 there; it stays here",
            "D, G and E step at once, on one batch, there; D first here",
            "the code minimises the half of each sum of losses, beside which its weight decay "
            "weighs twice what 2.5e-5 does here",
            "BatchNorm's statistics for samples are taken anew over 1,000 batches there; running "
            "means here",
        ),
    ),
    "pacgan/ring": _pacgan("ring8", radius=1.0, std=0.01),
    "pacgan/grid": _pacgan("grid25", spacing=2.0, std=0.05),
}
"""The presets by name, VARIANT/EXPERIMENT."""


def load(name: object, *, at: str) -> Preset:
    """The preset called `name`; ConfigError under the key `at` where there is none."""
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    near = nearest(str(name), sorted(PRESETS))
    listed = f"one of {', '.join(sorted(PRESETS))}"
    remedy = f"{near} {listed}" if near.startswith("did") else listed
    raise ConfigError.single(at, f"unknown preset {name!r}", remedy)
