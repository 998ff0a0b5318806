"""Conditional GAN: the game of 2014 with y given to both players (Mirza & Osindero 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published
from gansweep.modules.gan import GAME, GAN, GANSettings
from gansweep.settings import setting


@dataclass(frozen=True)
class ConditionalGANSettings(GANSettings):
    conditional: bool = setting(True, "give the labels y to both networks")


@final
class ConditionalGAN(AlternatingModule):
    """Mirza & Osindero 2014, eq. 2: D(x, y) and G(z, y), y a class or a vector.

    Defaults of the paper's MNIST experiment: the maxout networks with joint layers, z uniform of
    100 dimensions, SGD at 0.1 with momentum 0.5, batches of 100; its schedules are not applied.
    """

    Settings = ConditionalGANSettings
    published: ClassVar[Published] = GAN.published

    @classmethod
    def formulate(cls, settings: ConditionalGANSettings) -> Formulation:
        return Formulation(GAME[settings.loss]())
