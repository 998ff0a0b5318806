"""WGAN-GP: a Wasserstein critic under a gradient penalty (Gulrajani et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.objectives import Wasserstein
from gansweep.penalties import GradientPenalty
from gansweep.settings import setting


@dataclass(frozen=True)
class WGANGPSettings(VariantSettings):
    n_critic: int = setting(5, "critic steps per generator step", ge=1)
    penalty_weight: float = setting(10.0, "lambda, the weight of the gradient penalty", ge=0)


@final
class WGANGP(AlternatingModule):
    """Gulrajani et al. 2017, Algorithm 1, as in the authors' code (igul222/improved_wgan_training).

    lambda 10, n_critic 5, Adam at 1e-4 with betas (0.5, 0.9) (the MNIST and CIFAR scripts;
    beta1 is 0 in the paper's ResNet experiments), z normal of 128 dimensions, batches of 64, and
    LayerNorm in the critic in the place of BatchNorm.
    """

    Settings = WGANGPSettings
    penalises_slopes: ClassVar[bool] = True
    published: ClassVar[Published] = {
        "network": {"name": "dcgan", "discriminator_norm": "layer"},
        "latent": {"dim": 128, "distribution": "normal"},
        "optimizer": {"name": "adam", "lr": 1e-4, "beta1": 0.5, "beta2": 0.9},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: WGANGPSettings) -> Formulation:
        return Formulation(Wasserstein(), penalty=GradientPenalty(settings.penalty_weight))
