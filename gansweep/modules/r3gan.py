"""R3GAN's game: relativistic pairs under R1 and R2 (Huang et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.objectives import RelativisticPairing
from gansweep.penalties import ZeroCentred
from gansweep.settings import setting


@dataclass(frozen=True)
class R3GANSettings(VariantSettings):
    gamma: float = setting(
        0.05, "gamma: the penalty is gamma / 2 (E[||dD(x)/dx||^2] + E[||dD(G(z))/dG(z)||^2])", ge=0
    )


@final
class R3GAN(AlternatingModule):
    """Huang et al. 2024, "The GAN is dead; long live the GAN!": RpGAN + R1 + R2.

    The loss of the paper with its starting values for CIFAR-10 (brownvc/R3GAN, train.py: gamma
    0.05, Adam at 2e-4 with betas (0, 0.9), z normal of 64 dimensions), which the authors then
    anneal; on DCGAN networks without normalisation in the place of their residual ones, and
    without augmentation. The real batch of G's step is that of the last discriminator step.
    """

    Settings = R3GANSettings
    penalises_slopes: ClassVar[bool] = True
    published: ClassVar[Published] = {
        "network": {"name": "dcgan", "generator_norm": "none", "discriminator_norm": "none"},
        "latent": {"dim": 64, "distribution": "normal"},
        "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: R3GANSettings) -> Formulation:
        return Formulation(
            RelativisticPairing(), penalty=ZeroCentred(settings.gamma, settings.gamma)
        )
