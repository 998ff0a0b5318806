"""DRAGAN: the game of 2014 under a gradient penalty near the data (Kodali et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published
from gansweep.modules.gan import GAME, GANSettings
from gansweep.penalties import LocalGradientPenalty
from gansweep.settings import setting


@dataclass(frozen=True)
class DRAGANSettings(GANSettings):
    penalty_weight: float = setting(10.0, "lambda, the weight of the gradient penalty", ge=0)
    radius: float = setting(
        0.5, "size of the perturbation, in standard deviations of the batch's numbers", gt=0
    )


@final
class DRAGAN(AlternatingModule):
    """Kodali et al. 2017, as in the authors' code (kodalinaveen3/DRAGAN, DRAGAN.ipynb).

    lambda 10, perturbations up to half a standard deviation, one discriminator step, Adam at 1e-4
    with betas (0.5, 0.9), z uniform of 100 dimensions, batches of 128; networks of one hidden layer
    of 128 ReLU units, no norm.
    """

    Settings = DRAGANSettings
    penalises_slopes: ClassVar[bool] = True
    published: ClassVar[Published] = {
        "network": {"name": "mlp", "width": 128, "depth": 1, "leak": 0.0},
        "latent": {"dim": 100, "distribution": "uniform"},
        "optimizer": {"name": "adam", "lr": 1e-4, "beta1": 0.5, "beta2": 0.9},
        "data": {"batch_size": 128},
    }

    @classmethod
    def formulate(cls, settings: DRAGANSettings) -> Formulation:
        penalty = LocalGradientPenalty(settings.penalty_weight, settings.radius)
        return Formulation(GAME[settings.loss](), penalty=penalty)
