"""The presets: every number beside its source, and what lies over what."""

from __future__ import annotations

import re

import pytest
from trees import refused

from gansweep.assembly import check_fit
from gansweep.config import resolved
from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError
from gansweep.modules.catalogue import VARIANTS
from gansweep.presets import PRESETS, load


def wrong(tree):
    return [str(problem) for problem in refused(tree)]


def told(name):
    """What a preset says, in one line of the numbers that its source gives."""
    c = resolved({"preset": name})
    d, g = c.d_optimizer, c.g_optimizer
    rates = (d.settings.lr, g.settings.lr)
    own = {
        "sgd": lambda s: (s.momentum,),
        "rmsprop": lambda s: (s.alpha, s.momentum),
        "adam": lambda s: (s.beta1, s.beta2),
    }[d.name]
    return (
        (c.model.name, c.model.settings.n_critic, c.network.name),
        (c.latent.dim, c.latent.distribution, c.data.settings.batch_size),
        (d.name, *rates, *own(d.settings)),
    )


NUMBERS = {
    "gan/paper": (
        ("gan", 1, "maxout"),
        (100, "uniform", 100),
        ("sgd", 0.05, 0.1, 0.5),  # D's loss is halved in the authors' code
    ),
    "cgan/paper": (("cgan", 1, "maxout"), (100, "uniform", 100), ("sgd", 0.1, 0.1, 0.5)),
    "dcgan/paper": (
        ("dcgan", 1, "dcgan"),
        (100, "uniform", 128),
        ("adam", 2e-4, 2e-4, 0.5, 0.999),
    ),
    "dcgan/official": (
        ("dcgan", 1, "dcgan"),
        (100, "normal", 64),
        ("adam", 2e-4, 2e-4, 0.5, 0.999),
    ),
    "wgan/paper": (
        ("wgan", 5, "dcgan"),
        (100, "normal", 64),
        ("rmsprop", 5e-5, 5e-5, 0.99, 0.0),
    ),
    "wgan/official": (
        ("wgan", 5, "dcgan"),
        (100, "normal", 64),
        ("rmsprop", 5e-5, 5e-5, 0.99, 0.0),
    ),
    "wgan_gp/paper": (
        ("wgan_gp", 5, "dcgan"),
        (128, "normal", 64),
        ("adam", 1e-4, 1e-4, 0.0, 0.9),
    ),
    "wgan_gp/toy": (("wgan_gp", 5, "mlp"), (2, "normal", 256), ("adam", 1e-4, 1e-4, 0.5, 0.9)),
    "wgan_gp/mnist": (
        ("wgan_gp", 5, "dcgan"),
        (128, "normal", 50),
        ("adam", 1e-4, 1e-4, 0.5, 0.9),
    ),
    "lsgan/official": (
        ("lsgan", 1, "dcgan"),
        (1024, "uniform", 64),
        ("adam", 1e-3, 1e-3, 0.5, 0.999),
    ),
    "lsgan/chi_squared": (
        ("lsgan", 1, "dcgan"),
        (1024, "uniform", 64),
        ("adam", 1e-3, 1e-3, 0.5, 0.999),
    ),
    "sngan/official": (
        ("hinge", 5, "dcgan"),
        (128, "normal", 64),
        ("adam", 2e-4, 2e-4, 0.0, 0.9),
    ),
    "projection/official": (
        ("hinge", 5, "dcgan"),
        (128, "normal", 64),
        ("adam", 2e-4, 2e-4, 0.0, 0.9),
    ),
    "dragan/official": (
        ("dragan", 1, "mlp"),
        (100, "uniform", 128),
        ("adam", 1e-4, 1e-4, 0.5, 0.9),
    ),
    "r1gan/paper": (
        ("r1gan", 1, "dcgan"),
        (256, "normal", 64),
        ("rmsprop", 1e-4, 1e-4, 0.99, 0.0),
    ),
    "r1gan/official": (
        ("r1gan", 1, "dcgan"),
        (256, "normal", 64),
        ("rmsprop", 1e-4, 1e-4, 0.99, 0.0),
    ),
    "r3gan/cifar10": (
        ("r3gan", 1, "dcgan"),
        (64, "normal", 512),
        ("adam", 2e-4, 2e-4, 0.0, 0.9),
    ),
    "r3gan/ffhq64": (
        ("r3gan", 1, "dcgan"),
        (64, "normal", 256),
        ("adam", 2e-4, 2e-4, 0.0, 0.9),
    ),
    "bigan/paper": (("bigan", 1, "bigan"), (50, "uniform", 128), ("adam", 2e-4, 2e-4, 0.5, 0.999)),
    "pacgan/ring": (("gan", 1, "pacgan"), (2, "normal", 200), ("adam", 1e-4, 1e-4, 0.8, 0.999)),
    "pacgan/grid": (("gan", 1, "pacgan"), (2, "normal", 200), ("adam", 1e-4, 1e-4, 0.8, 0.999)),
}
"""(variant, n_critic, networks), (z, batch), (optimizer, rates of D and G, momenta)."""


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_numbers_of_the_source(name):
    assert told(name) == NUMBERS[name]


def test_every_preset_is_told_and_cites_a_source():
    assert set(NUMBERS) == set(PRESETS)
    for name, preset in PRESETS.items():
        assert re.search(r" 20\d\d|\w/\w", preset.source), name  # a paper, or code
        assert preset.trial["model"]["name"] in VARIANTS.names


def test_what_is_of_one_experiment_alone():
    model = {name: resolved({"preset": name}).model.settings for name in PRESETS}
    clip = model["wgan/paper"]
    assert (clip.clip, clip.clip_timing, clip.burst_first, clip.burst_every) == (
        0.01,
        "after",
        0,
        0,
    )
    clip = model["wgan/official"]
    assert (clip.clip, clip.clip_timing, clip.clip_normalisation) == (0.01, "before", True)
    assert (clip.burst_n_critic, clip.burst_first, clip.burst_every) == (100, 25, 500)
    weights = [model[f"wgan_gp/{e}"].penalty_weight for e in ("paper", "toy", "mnist")]
    assert weights == [10.0, 0.1, 10.0]
    for name, labels in (("official", (0, 1, 1)), ("chi_squared", (-1, 1, 0))):
        s = model[f"lsgan/{name}"]
        assert (s.fake_label, s.real_label, s.target) == labels
    assert [model[f"r1gan/{e}"].gamma for e in ("paper", "official")] == [10.0, 20.0]
    assert [model[f"r3gan/{e}"].gamma for e in ("cifar10", "ffhq64")] == [0.05, 2.0]
    s = model["dragan/official"]
    assert (s.penalty_weight, s.radius, s.loss) == (10.0, 0.5, "non_saturating")
    assert [model[f"pacgan/{e}"].pac for e in ("ring", "grid")] == [2, 2]
    assert model["projection/official"].conditional


def test_networks_and_data_of_one_experiment_alone():
    toy = resolved({"preset": "wgan_gp/toy"})
    network = toy.network.settings
    assert (network.width, network.depth, network.leak) == (512, 3, 0.0)
    assert toy.data.name == "ring8"
    assert toy.data.settings.radius == pytest.approx(2 / 1.414)
    assert toy.data.settings.std == pytest.approx(0.02 / 1.414)
    norms = {
        n: resolved({"preset": n}).network.settings for n in ("wgan_gp/paper", "wgan_gp/mnist")
    }
    assert norms["wgan_gp/paper"].discriminator_norm == "layer"
    plain = norms["wgan_gp/mnist"]
    assert (plain.generator_norm, plain.discriminator_norm) == ("none", "none")
    for name in ("sngan/official", "projection/official"):
        assert resolved({"preset": name}).network.settings.discriminator_norm == "spectral"
    condition = resolved({"preset": "projection/official"}).network.settings.discriminator_condition
    assert condition == "projection"
    both = resolved({"preset": "bigan/paper"})
    assert (both.network.settings.width, both.network.settings.std) == (1024, 0.02)
    assert (
        both.d_optimizer.settings.weight_decay == both.g_optimizer.settings.weight_decay == 2.5e-5
    )
    ring, grid = (resolved({"preset": f"pacgan/{e}"}).data for e in ("ring", "grid"))
    assert (ring.name, ring.settings.radius, ring.settings.std) == ("ring8", 1.0, 0.01)
    assert (grid.name, grid.settings.spacing, grid.settings.std) == ("grid25", 2.0, 0.05)
    budgets = {name: resolved({"preset": name}).budget.g_steps for name in PRESETS}
    assert {n: b for n, b in budgets.items() if b != 10_000} == {
        "wgan_gp/toy": 100_000,
        "wgan_gp/mnist": 200_000,
        "lsgan/official": 1_000_000,
        "lsgan/chi_squared": 1_000_000,
        "sngan/official": 50_000,
        "projection/official": 50_000,
        "dragan/official": 199_999,
        "bigan/paper": 156_250,
        "pacgan/ring": 400_000,
        "pacgan/grid": 400_000,
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dcgan/official", "samples of D's step"),
        ("lsgan/official", "have the same z there"),
        ("sngan/official", "begins with G's step there, and ends with it here"),
        ("projection/official", "begins with G's step there, and ends with it here"),
    ],
)
def test_how_the_authors_alternate_is_said_where_it_is_not_so_here(name, words):
    assert any(words in each for each in PRESETS[name].deviations)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_follows_all_advice(name):
    config = resolved({"preset": name})
    spec = DataSpec((2,)) if config.data.name in ("ring8", "grid25") else DataSpec((1, 28, 28))
    if config.model.settings.conditional:
        spec = DataSpec(spec.shape, Condition("class", 10))
    assert check_fit(config, spec) == []


# --- what lies over what


def test_own_settings_go_over_the_preset():
    config = resolved(
        {
            "preset": "wgan/paper",
            "model": {"clip": 0.3},
            "optimizer": {"lr": 1e-3},
            "data": {"name": "digits"},
            "latent": {"dim": 7},
        }
    )
    assert (config.model.name, config.model.settings.clip) == ("wgan", 0.3)
    assert config.model.settings.clip_timing == "after"
    assert (config.d_optimizer.name, config.d_optimizer.settings.lr) == ("rmsprop", 1e-3)
    assert (config.latent.dim, config.latent.distribution) == (7, "normal")
    assert (config.data.name, config.data.settings.batch_size) == ("digits", 64)


def test_a_shared_rate_of_ones_own_goes_over_a_networks_rate_of_the_preset():
    config = resolved({"preset": "gan/paper", "optimizer": {"lr": 0.3}})
    assert (config.d_optimizer.settings.lr, config.g_optimizer.settings.lr) == (0.3, 0.3)
    config = resolved({"preset": "gan/paper", "optimizer": {"generator": {"lr": 0.3}}})
    assert (config.d_optimizer.settings.lr, config.g_optimizer.settings.lr) == (0.05, 0.3)


def test_the_batch_size_holds_for_other_data():
    """What belongs to the preset's data set alone does not."""
    config = resolved({"preset": "wgan_gp/toy", "data": {"name": "swiss_roll"}})
    assert (config.data.name, config.data.settings.batch_size) == ("swiss_roll", 256)
    config = resolved({"preset": "wgan_gp/toy", "data": {"name": "grid25", "batch_size": 9}})
    assert (config.data.settings.std, config.data.settings.batch_size) == (0.05, 9)


def test_another_network_drops_the_presets_settings_of_its_own():
    config = resolved({"preset": "sngan/official", "network": {"name": "mlp"}})
    assert (config.network.name, config.network.settings.discriminator_norm) == ("mlp", "none")


def test_a_preset_is_below_the_variants_name():
    assert resolved({"preset": "wgan/paper", "model": {"name": "wgan"}}) == resolved(
        {"preset": "wgan/paper"}
    )
    (problem,) = wrong({"preset": "wgan/paper", "model": {"name": "gan"}})
    assert "trial.model.name: is 'gan', and the preset 'wgan/paper' is of 'wgan'" in problem


def test_a_preset_is_what_it_stands_for():
    """The same trial, and the same key, as with every setting written out."""
    spelt = {name: dict(section) for name, section in PRESETS["pacgan/ring"].trial.items()}
    assert resolved(spelt) == resolved({"preset": "pacgan/ring"})
    assert resolved(spelt).key == resolved({"preset": "pacgan/ring"}).key
    assert "preset" not in resolved({"preset": "pacgan/ring"}).to_dict()


@pytest.mark.parametrize("name", ["wgan/papr", "nothing like it", 3])
def test_an_unknown_preset_is_one_mistake_with_the_valid_names(name):
    (problem,) = wrong({"preset": name, "model": {"pac": 2}})
    assert problem.startswith(f"trial.preset: unknown preset {name!r}")
    assert all(each in problem for each in PRESETS)
    with pytest.raises(ConfigError, match="unknown preset"):
        load(name, at="here")
    assert ("did you mean 'wgan/paper'?" in problem) == (name == "wgan/papr")


def test_a_mistake_beside_a_preset_keeps_its_key():
    (problem,) = wrong({"preset": "wgan/paper", "model": {"clipp": 1}})
    assert problem.startswith("trial.model.clipp: unknown key (did you mean 'clip'?)")
