"""GAN: the adversarial game of Goodfellow et al. (2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.objectives import Minimax, NonSaturating, Objective
from gansweep.settings import setting

GAME: dict[str, type[Objective]] = {"minimax": Minimax, "non_saturating": NonSaturating}


@dataclass(frozen=True)
class GANSettings(VariantSettings):
    loss: Literal["non_saturating", "minimax"] = setting(
        "non_saturating", "G's loss: -log D(G(z)), or the saturating log(1 - D(G(z)))"
    )


@final
class GAN(AlternatingModule):
    """Goodfellow et al. 2014, Algorithm 1, with k = n_critic.

    Defaults of the authors' code (goodfeli/adversarial, mnist.yaml): the maxout networks, z
    uniform of 100 dimensions, SGD at 0.1 with momentum 0.5, batches of 100. Their schedules
    (momentum to 0.7, an exponential decay of the learning rate) are not applied.
    """

    Settings = GANSettings
    published: ClassVar[Published] = {
        "network": {"name": "maxout"},
        "latent": {"dim": 100, "distribution": "uniform"},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5},
        "data": {"batch_size": 100},
    }

    @classmethod
    def formulate(cls, settings: GANSettings) -> Formulation:
        return Formulation(GAME[settings.loss]())
