"""The networks of the first GAN papers: a ReLU generator and a maxout discriminator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.base import Architecture
from gansweep.networks.condition import ConditionCode, refuse_labels
from gansweep.settings import setting


@dataclass(frozen=True)
class MaxoutSettings:
    generator_width: int = setting(
        1200, "units of the generator's hidden layers (conditional: of its joint layer)", ge=1
    )
    generator_latent_width: int = setting(
        200, "hidden units of z, in a conditional generator only", ge=1
    )
    generator_condition_width: int = setting(
        1000, "hidden units of y, in a conditional generator only", ge=1
    )
    generator_dropout: float = setting(
        0.5, "share of hidden units dropped, in a conditional generator only", ge=0, lt=1
    )
    discriminator_width: int = setting(240, "maxout units of x and of the layer after it", ge=1)
    discriminator_pieces: int = setting(
        5, "linear pieces per maxout unit (except in a conditional joint layer)", ge=1
    )
    discriminator_condition_width: int = setting(
        50, "maxout units of y, in a conditional discriminator only", ge=1
    )
    discriminator_joint_pieces: int = setting(
        4, "linear pieces per unit of a conditional discriminator's joint layer", ge=1
    )
    dropout: float = setting(0.5, "share of the discriminator's hidden units dropped", ge=0, lt=1)
    input_dropout: float = setting(0.2, "share of the discriminator's inputs x dropped", ge=0, lt=1)
    generator_irange: float = setting(
        0.05, "the generator's initial weights are uniform in (-irange, irange)", gt=0
    )
    discriminator_irange: float = setting(
        0.005, "the discriminator's initial weights are uniform in (-irange, irange)", gt=0
    )


@final
class MaxoutNetworks(Architecture):
    """The networks of Goodfellow et al. 2014 and, with a condition, of Mirza & Osindero 2014.

    Unconditional, as in goodfeli/adversarial mnist.yaml: G is z -> 1200 -> 1200 ReLU -> sigmoid,
    weights U(-.05, .05); D is two maxout layers of 240 units and 5 pieces and one logit, weights
    U(-.005, .005), with dropout that keeps .8 of the inputs and .5 of each hidden layer, the kept
    ones scaled up. No dropout in G.

    Conditional, section 4.1 of the paper: G maps z to 200 and y to 1000 ReLU units, both to a
    joint layer of 1200, then to the sigmoid; D maps x to 240x5 and y to 50x5 maxout units, both
    to a joint layer of 240x4, then to the logit; dropout .5 in G and in D. The paper gives
    neither the initialisation nor where dropout acts: here the first from mnist.yaml, and
    dropout on every hidden layer (and on x in D, as in mnist.yaml, with `input_dropout`).

    All biases start at 0; mnist.yaml sets the output's from the data's marginals instead. The
    papers' pixels are in [0, 1], ours in [-1, 1]: G ends in 2 sigmoid(a) - 1 and D begins with
    (x + 1) / 2, so that inside both are as published (a dropped pixel is black). Vectors pass
    unchanged, with a linear output. Any data fit.
    """

    Settings: ClassVar[type[Any]] = MaxoutSettings
    settings: MaxoutSettings

    def generator(
        self, *, latent_dim: int, spec: DataSpec, condition: Condition | None
    ) -> nn.Module:
        if condition is None:
            return MaxoutGenerator(latent_dim, spec, self.settings)
        return ConditionalMaxoutGenerator(latent_dim, spec, condition, self.settings)

    def discriminator(self, *, spec: DataSpec, condition: Condition | None) -> nn.Module:
        if condition is None:
            return MaxoutDiscriminator(spec, self.settings)
        return ConditionalMaxoutDiscriminator(spec, condition, self.settings)


@final
class Maxout(nn.Module):
    """h_i(x) = max_j (x W_ij + b_ij) over `pieces` linear maps j (Goodfellow et al. 2013, sec. 3).

    Row j * units + i of `linear` is piece j of unit i: units side by side are what a processor
    compares many at a time. forward(x [N, features]) -> [N, units].
    """

    def __init__(self, features: int, units: int, pieces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, units * pieces)
        self._shape = (pieces, units)

    def forward(self, x: Tensor) -> Tensor:
        pieces: Tensor = self.linear(x)
        return pieces.reshape(*x.shape[:-1], *self._shape).amax(-2)


@final
class SignedSigmoid(nn.Module):
    """2 sigmoid(a) - 1: a sigmoid output unit for pixels in [-1, 1]. Any shape."""

    def forward(self, a: Tensor) -> Tensor:
        return 2 * torch.sigmoid(a) - 1


@final
class UnitPixels(nn.Module):
    """(x + 1) / 2: pixels in [-1, 1] to [0, 1]. Any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


@final
class MaxoutGenerator(nn.Module):
    """forward(z [N, latent_dim]) -> [N, *spec.shape]. Raises ValueError on labels."""

    def __init__(self, latent_dim: int, spec: DataSpec, settings: MaxoutSettings) -> None:
        super().__init__()
        width = settings.generator_width
        self.body = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            _output(width, spec),
        )
        _initialise(self, settings.generator_irange)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        refuse_labels(labels)
        x: Tensor = self.body(z)
        return x


@final
class ConditionalMaxoutGenerator(nn.Module):
    """forward(z [N, latent_dim], labels) -> [N, *spec.shape]. Raises ValueError without labels."""

    def __init__(
        self, latent_dim: int, spec: DataSpec, condition: Condition, settings: MaxoutSettings
    ) -> None:
        super().__init__()
        z_width, y_width = settings.generator_latent_width, settings.generator_condition_width
        self.code = ConditionCode(condition)
        self.of_z = nn.Sequential(nn.Linear(latent_dim, z_width), nn.ReLU())
        self.of_y = nn.Sequential(nn.Linear(self.code.width, y_width), nn.ReLU())
        self.joint = nn.Sequential(
            nn.Dropout(settings.generator_dropout),
            nn.Linear(z_width + y_width, settings.generator_width),
            nn.ReLU(),
            nn.Dropout(settings.generator_dropout),
            _output(settings.generator_width, spec),
        )
        _initialise(self, settings.generator_irange)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        y = self.code(labels, dtype=z.dtype)
        x: Tensor = self.joint(torch.cat((self.of_z(z), self.of_y(y)), dim=1))
        return x


@final
class MaxoutDiscriminator(nn.Module):
    """forward(x [N, *spec.shape]) -> logits [N]. Raises ValueError on labels."""

    def __init__(self, spec: DataSpec, settings: MaxoutSettings) -> None:
        super().__init__()
        width, pieces = settings.discriminator_width, settings.discriminator_pieces
        self.body = nn.Sequential(
            _input(spec, settings),
            Maxout(math.prod(spec.shape), width, pieces),
            nn.Dropout(settings.dropout),
            Maxout(width, width, pieces),
            nn.Dropout(settings.dropout),
            nn.Linear(width, 1),
        )
        _initialise(self, settings.discriminator_irange)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        refuse_labels(labels)
        logits: Tensor = self.body(x)
        return logits.squeeze(1)


@final
class ConditionalMaxoutDiscriminator(nn.Module):
    """forward(x [N, *spec.shape], labels) -> logits [N]. Raises ValueError without labels."""

    def __init__(self, spec: DataSpec, condition: Condition, settings: MaxoutSettings) -> None:
        super().__init__()
        width, y_width = settings.discriminator_width, settings.discriminator_condition_width
        pieces = settings.discriminator_pieces
        self.code = ConditionCode(condition)
        self.of_x = nn.Sequential(
            _input(spec, settings), Maxout(math.prod(spec.shape), width, pieces)
        )
        self.of_y = Maxout(self.code.width, y_width, pieces)
        self.joint = nn.Sequential(
            nn.Dropout(settings.dropout),
            Maxout(width + y_width, width, settings.discriminator_joint_pieces),
            nn.Dropout(settings.dropout),
            nn.Linear(width, 1),
        )
        _initialise(self, settings.discriminator_irange)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        y = self.code(labels, dtype=x.dtype)
        logits: Tensor = self.joint(torch.cat((self.of_x(x), self.of_y(y)), dim=1))
        return logits.squeeze(1)


def _output(width: int, spec: DataSpec) -> nn.Sequential:
    """[N, width] -> [N, *spec.shape]."""
    layers: list[nn.Module] = [nn.Linear(width, math.prod(spec.shape))]
    layers += [SignedSigmoid()] if spec.is_image else []
    return nn.Sequential(*layers, nn.Unflatten(1, spec.shape))


def _input(spec: DataSpec, settings: MaxoutSettings) -> nn.Sequential:
    """[N, *spec.shape] -> [N, features], with the input's dropout."""
    layers: list[nn.Module] = [UnitPixels()] if spec.is_image else []
    return nn.Sequential(*layers, nn.Flatten(1), nn.Dropout(settings.input_dropout))


def _initialise(net: nn.Module, irange: float) -> None:
    """Weights U(-irange, irange), biases 0: pylearn2's `irange` and `init_bias` of its layers."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -irange, irange)
            nn.init.zeros_(module.bias)
