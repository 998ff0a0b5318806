"""The networks of BiGAN's permutation-invariant experiment: two hidden layers, z added in D."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.base import Architecture
from gansweep.networks.condition import ConditionCode, ConditionJoin, refuse_labels
from gansweep.networks.maxout import SignedSigmoid, UnitPixels
from gansweep.networks.pacgan import initialise
from gansweep.settings import setting

_LEAK = 0.2


@dataclass(frozen=True)
class BiGANSettings:
    width: int = setting(1024, "units of the two hidden layers of each network", ge=1)
    std: float = setting(0.02, "standard deviation of the initial weights, which are normal", gt=0)


@final
class BiGANNetworks(Architecture):
    """Donahue et al. 2017, permutation-invariant MNIST, as in jeffdonahue/bigan, net.py.

    G (deconvnet_mnist_mlp): z to 1024 units, BatchNorm, ReLU; these and z, each by weights of its
    own and added, to 1024 units, BatchNorm, ReLU; a sigmoid. E and D (mnist_mlp): x to 1024 units,
    LeakyReLU .2; to 1024 units, BatchNorm, LeakyReLU; then linear, z or the logit. In D the
    condition, which is z in a BiGAN, is added to x's features at the second layer, before
    BatchNorm. No layer has a bias, BatchNorm (eps 1e-8) no weights; all weights are N(0, .02).

    Their pixels are in [0, 1], ours in [-1, 1]: G ends in 2 sigmoid(a) - 1, E and D begin with
    (x + 1) / 2. Vectors pass unchanged, with a linear output. A condition of G is joined with z.
    Any data fit.
    """

    Settings: ClassVar[type[Any]] = BiGANSettings
    settings: BiGANSettings

    def generator(
        self, *, latent_dim: int, spec: DataSpec, condition: Condition | None
    ) -> nn.Module:
        return BiGANGenerator(latent_dim, spec, condition, self.settings)

    def discriminator(self, *, spec: DataSpec, condition: Condition | None) -> nn.Module:
        logit = nn.Sequential(_linear(self.settings.width, 1), nn.Flatten(0))
        return BiGANFeatures(logit, spec, condition, self.settings)

    def encoder(self, *, latent_dim: int, spec: DataSpec) -> nn.Module:
        z = _linear(self.settings.width, latent_dim)
        return BiGANFeatures(z, spec, None, self.settings)


@final
class BiGANGenerator(nn.Module):
    """forward(z [N, latent_dim], labels) -> [N, *spec.shape]."""

    def __init__(
        self, latent_dim: int, spec: DataSpec, condition: Condition | None, settings: BiGANSettings
    ) -> None:
        super().__init__()
        self.join = ConditionJoin(condition)
        inputs, width = latent_dim + self.join.width, settings.width
        self.first, self.second = _linear(inputs, width), _linear(width, width)
        self.again = _linear(inputs, width)
        self.norms = nn.ModuleList([_norm(width), _norm(width)])
        self.last = nn.Sequential(
            _linear(width, math.prod(spec.shape)),
            *([SignedSigmoid()] if spec.is_image else []),
            nn.Unflatten(1, spec.shape),
        )
        initialise(self, settings.std)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        z = self.join(z, labels)
        h = relu(self.norms[0](self.first(z)))
        h = relu(self.norms[1](self.second(h) + self.again(z)))
        x: Tensor = self.last(h)
        return x


@final
class BiGANFeatures(nn.Module):
    """forward(x [N, *spec.shape], labels) -> what `last` makes of the features [N, width]."""

    def __init__(
        self, last: nn.Module, spec: DataSpec, condition: Condition | None, settings: BiGANSettings
    ) -> None:
        super().__init__()
        width = settings.width
        self.pixels = UnitPixels() if spec.is_image else nn.Identity()
        self.code = ConditionCode(condition) if condition else None
        self.first, self.second = _linear(math.prod(spec.shape), width), _linear(width, width)
        self.again = _linear(condition.size, width) if condition else None
        self.norm, self.last = _norm(width), last
        initialise(self, settings.std)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        h = leaky_relu(self.first(self.pixels(x).flatten(1)), _LEAK)
        h = self.second(h)
        if self.code is not None and self.again is not None:
            h = h + self.again(self.code(labels, dtype=x.dtype))
        else:
            refuse_labels(labels)
        y: Tensor = self.last(leaky_relu(self.norm(h), _LEAK))
        return y


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def _norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=1e-8, affine=False)
