"""DCGAN: the game of 2014 on convolutional networks (Radford et al. 2015)."""

from __future__ import annotations

from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published
from gansweep.modules.gan import GAME, GANSettings


@final
class DCGAN(AlternatingModule):
    """Radford et al. 2015, with the defaults of the authors' code (soumith/dcgan.torch).

    Convolutional networks of width 64 with BatchNorm, weights N(0, 0.02), z of 100 dimensions,
    Adam at 2e-4 with betas (0.5, 0.999), batches of 64 (the paper has 128); real and generated
    samples pass through D as separate batches. The authors' code draws z from N(0, 1), the
    paper from U(-1, 1).
    """

    Settings = GANSettings
    published: ClassVar[Published] = {
        "network": {"name": "dcgan"},
        "latent": {"dim": 100, "distribution": "normal"},
        "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.5, "beta2": 0.999},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: GANSettings) -> Formulation:
        return Formulation(GAME[settings.loss]())
