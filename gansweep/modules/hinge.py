"""The hinge game under spectral normalisation (Miyato et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import nn

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.networks.spectral import SpectralConv2d, SpectralLinear
from gansweep.objectives import Hinge
from gansweep.optimizers import OptimizerSpec
from gansweep.settings import setting


@dataclass(frozen=True)
class HingeSettings(VariantSettings):
    n_critic: int = setting(5, "discriminator steps per generator step", ge=1)


@final
class HingeGAN(AlternatingModule):
    """Lim & Ye 2017, with the spectrally normalised discriminator of SNGAN (Miyato et al. 2018).

    Defaults of the authors' code (pfnet-research/sngan_projection, sn_cifar10_unconditional.yml):
    n_critic 5, Adam at 2e-4 with betas (0, 0.9), z normal of 128 dimensions, batches of 64. Its
    networks are residual ones; here DCGAN's.
    """

    Settings = HingeSettings
    published: ClassVar[Published] = {
        "network": {"name": "dcgan", "discriminator_norm": "spectral"},
        "latent": {"dim": 128, "distribution": "normal"},
        "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.0, "beta2": 0.9},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: HingeSettings) -> Formulation:
        return Formulation(Hinge())

    @classmethod
    def advice(
        cls, settings: HingeSettings, *, optimizer: OptimizerSpec, discriminator: nn.Module
    ) -> list[str]:
        if any(isinstance(m, (SpectralLinear, SpectralConv2d)) for m in discriminator.modules()):
            return []
        return [
            "the hinge loss is published with a spectrally normalised discriminator (Miyato et al. "
            "2018): use network.discriminator_norm: spectral"
        ]
