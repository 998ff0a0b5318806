"""The networks of PacGAN's experiments in the plane: a ReLU generator, a maxout discriminator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.base import Architecture
from gansweep.networks.condition import ConditionJoin
from gansweep.networks.maxout import Maxout
from gansweep.settings import setting


@dataclass(frozen=True)
class PacGANSettings:
    generator_width: int = setting(400, "units of the generator's hidden layers", ge=1)
    generator_depth: int = setting(4, "number of the generator's hidden layers", ge=1)
    discriminator_width: int = setting(200, "maxout units of the discriminator's layers", ge=1)
    discriminator_depth: int = setting(3, "number of the discriminator's maxout layers", ge=1)
    discriminator_pieces: int = setting(5, "linear pieces per maxout unit", ge=1)
    std: float = setting(0.02, "standard deviation of the initial weights, which are normal", gt=0)


@final
class PacGANNetworks(Architecture):
    """Lin et al. 2018, as in fjxmlzn/PacGAN, synthetic_data_experiments (2DRing, 2DGrid).

    G has 4 hidden layers of 400 units without bias, each with BatchNorm (eps 1e-4; a batch counts
    0.05 in the statistics) and ReLU, and a linear output; D has 3 layers of 200 maxout units with
    5 pieces, then the logit; no dropout. Weights are N(0, 0.02), biases 0. A condition is joined
    with z and with x; images, which are none of the paper's, are flattened and end in tanh.
    """

    Settings: ClassVar[type[Any]] = PacGANSettings
    settings: PacGANSettings

    def generator(
        self, *, latent_dim: int, spec: DataSpec, condition: Condition | None
    ) -> nn.Module:
        return PacGANGenerator(latent_dim, spec, condition, self.settings)

    def discriminator(self, *, spec: DataSpec, condition: Condition | None) -> nn.Module:
        return PacGANDiscriminator(spec, condition, self.settings)


@final
class PacGANGenerator(nn.Module):
    """forward(z [N, latent_dim], labels) -> [N, *spec.shape]."""

    def __init__(
        self, latent_dim: int, spec: DataSpec, condition: Condition | None, settings: PacGANSettings
    ) -> None:
        super().__init__()
        self.join = ConditionJoin(condition)
        width, layers = latent_dim + self.join.width, list[nn.Module]()
        for _ in range(settings.generator_depth):
            layers += [
                nn.Linear(width, settings.generator_width, bias=False),
                nn.BatchNorm1d(settings.generator_width, eps=1e-4, momentum=0.05),
                nn.ReLU(),
            ]
            width = settings.generator_width
        layers += [nn.Linear(width, math.prod(spec.shape)), nn.Unflatten(1, spec.shape)]
        layers += [nn.Tanh()] if spec.is_image else []
        self.body = nn.Sequential(*layers)
        initialise(self, settings.std)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x: Tensor = self.body(self.join(z, labels))
        return x


@final
class PacGANDiscriminator(nn.Module):
    """forward(x [N, *spec.shape], labels) -> logits [N]."""

    separable = True

    def __init__(
        self, spec: DataSpec, condition: Condition | None, settings: PacGANSettings
    ) -> None:
        super().__init__()
        self.join = ConditionJoin(condition)
        width, layers = math.prod(spec.shape) + self.join.width, list[nn.Module]()
        for _ in range(settings.discriminator_depth):
            units = settings.discriminator_width
            layers += [Maxout(width, units, settings.discriminator_pieces)]
            width = units
        self.body = nn.Sequential(*layers, nn.Linear(width, 1))
        initialise(self, settings.std)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.body(self.join(x.flatten(1), labels))
        return logits.squeeze(1)


def initialise(net: nn.Module, std: float) -> None:
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
