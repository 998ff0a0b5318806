"""LSGAN: the game with least squares in the place of cross entropy (Mao et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from gansweep.errors import ConfigError
from gansweep.formulation import Formulation
from gansweep.modules.alternating import AlternatingModule, Published, VariantSettings
from gansweep.objectives import LeastSquares
from gansweep.settings import setting


@dataclass(frozen=True)
class LSGANSettings(VariantSettings):
    fake_label: float = setting(0.0, "a, what D aims at on generated samples")
    real_label: float = setting(1.0, "b, what D aims at on real samples")
    target: float = setting(1.0, "c, what G wants D to say of generated samples")


@final
class LSGAN(AlternatingModule):
    """Mao et al. 2017, eq. 2, with the labels of eq. 9: (a, b, c) = (0, 1, 1).

    Eq. 8, the one that minimises Pearson's chi-squared divergence, is `fake_label: -1, real_label:
    1, target: 0`. Optimizer and batch as in the authors' code (xudonmao/LSGAN, train_lsun.py): Adam
    at 1e-3 with beta1 0.5, z uniform of 1024 dimensions, batches of 64. Its networks are VGG-like,
    for 112 pixels, and its losses are sums over the batch; here DCGAN's, and means.
    """

    Settings = LSGANSettings
    published: ClassVar[Published] = {
        "network": {"name": "dcgan"},
        "latent": {"dim": 1024, "distribution": "uniform"},
        "optimizer": {"name": "adam", "lr": 1e-3, "beta1": 0.5, "beta2": 0.999},
        "data": {"batch_size": 64},
    }

    @classmethod
    def formulate(cls, settings: LSGANSettings) -> Formulation:
        """ConfigError where D or G is to take generated samples for what they are to leave."""
        for name in ("real_label", "target"):
            value = getattr(settings, name)
            # Under vmap it is a tensor, of numbers that were seen here before.
            if not isinstance(value, Tensor) and not value > settings.fake_label:
                raise ConfigError.single(
                    f"trial.model.{name}",
                    f"is {value:g}, must be above fake_label, which is {settings.fake_label:g}",
                    "larger outputs of D mean real here: (fake_label, real_label, target) is "
                    "(0, 1, 1), or (-1, 1, 0)",
                )
        return Formulation(LeastSquares(settings.fake_label, settings.real_label, settings.target))
