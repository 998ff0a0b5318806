"""R1: the game of 2014 with D's slope pulled to 0 on the data (Mescheder et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published
from gansweep.modules.gan import GAME, GANSettings
from gansweep.penalties import ZeroCentred
from gansweep.settings import setting


@dataclass(frozen=True)
class R1Settings(GANSettings):
    gamma: float = setting(10.0, "gamma: the penalty is gamma / 2 E[||dD(x)/dx||^2]", ge=0)


@final
class R1GAN(AlternatingModule):
    """Mescheder et al. 2018, section 4.1, on the non-saturating game.

    gamma 10, and of the authors' code (LMescheder/GAN_stability, configs/default.yaml) RMSprop at
    1e-4, z normal of 256 dimensions, batches of 64. The code's reg_param 10 weighs E[||dD/dx||^2]
    itself, which is gamma 20. Its networks are residual ones without normalisation; here DCGAN's,
    without any in D.
    """

    Settings = R1Settings
    penalises_slopes: ClassVar[bool] = True
    published: ClassVar[Published] = {
        "network": {"name": "dcgan", "discriminator_norm": "none"},
        "latent": {"dim": 256, "distribution": "normal"},
        "optimizer": {"name": "rmsprop", "lr": 1e-4},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: R1Settings) -> Formulation:
        return Formulation(GAME[settings.loss](), penalty=ZeroCentred(settings.gamma))
