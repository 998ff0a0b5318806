"""A generator and a discriminator of linear layers, for images and for vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.networks.base import Architecture
from gansweep.networks.condition import ConditionJoin
from gansweep.networks.projection import Projection
from gansweep.networks.spectral import SpectralLinear
from gansweep.settings import setting

_NORMS: dict[str, Callable[[int], list[nn.Module]]] = {
    "none": lambda width: [],
    "batch": lambda width: [nn.BatchNorm1d(width)],
    "layer": lambda width: [nn.LayerNorm(width)],
    "spectral": lambda width: [],
}
_LINEAR: dict[str, type[nn.Linear]] = {"spectral": SpectralLinear}


@dataclass(frozen=True)
class MLPSettings:
    width: int = setting(256, "units of every hidden layer", ge=1)
    depth: int = setting(3, "number of hidden layers", ge=1)
    generator_norm: Literal["none", "batch"] = setting(
        "none", "normalisation of every hidden layer of the generator"
    )
    discriminator_norm: Literal["none", "batch", "layer", "spectral"] = setting(
        "none",
        "normalisation of every hidden layer of the discriminator; spectral: of all its weights",
    )
    discriminator_condition: Literal["join", "projection"] = setting(
        "join", "how a condition enters the discriminator: joined with x, or projected on features"
    )
    dropout: float = setting(
        0.0, "share of hidden units dropped, in the discriminator only", ge=0, lt=1
    )
    leak: float = setting(
        0.2, "slope of the discriminator's and an encoder's LeakyReLU below 0", ge=0, lt=1
    )


@final
class MLP(Architecture):
    """Plain multilayer perceptrons for any data.

    Hidden layers are Linear, norm, ReLU (generator) or Linear, norm, LeakyReLU, Dropout
    (discriminator). Neither the input nor the output is normalised; "spectral" divides each weight
    of the discriminator by its spectral norm instead. Weights and biases keep PyTorch's default
    initialisation, U(-1/sqrt(fan_in), 1/sqrt(fan_in)). A condition is joined directly with z and
    with the flattened x, or projected on the discriminator's last hidden layer. An encoder is
    Linear, the generator's norm, LeakyReLU, and linear at its output. Any data fit.
    """

    Settings: ClassVar[type[Any]] = MLPSettings
    settings: MLPSettings

    def generator(
        self, *, latent_dim: int, spec: DataSpec, condition: Condition | None
    ) -> nn.Module:
        return MLPGenerator(latent_dim, spec, condition, self.settings)

    def discriminator(self, *, spec: DataSpec, condition: Condition | None) -> nn.Module:
        return MLPDiscriminator(spec, condition, self.settings)

    def encoder(self, *, latent_dim: int, spec: DataSpec) -> nn.Module:
        width, norm = self.settings.width, _NORMS[self.settings.generator_norm]
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(spec.shape)
        for _ in range(self.settings.depth):
            layers += [nn.Linear(inputs, width), *norm(width), nn.LeakyReLU(self.settings.leak)]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(width, latent_dim))


@final
class MLPGenerator(nn.Module):
    """forward(z [N, latent_dim], labels) -> [N, *spec.shape]; tanh for images, else linear."""

    def __init__(
        self, latent_dim: int, spec: DataSpec, condition: Condition | None, settings: MLPSettings
    ) -> None:
        super().__init__()
        self.join = ConditionJoin(condition)
        layers: list[nn.Module] = []
        width = latent_dim + self.join.width
        for _ in range(settings.depth):
            layers += [
                nn.Linear(width, settings.width),
                *_NORMS[settings.generator_norm](settings.width),
            ]
            layers += [nn.ReLU()]
            width = settings.width
        layers += [nn.Linear(width, math.prod(spec.shape))]
        layers += [nn.Tanh()] if spec.is_image else []
        self.body = nn.Sequential(*layers, nn.Unflatten(1, spec.shape))
        self.separable = settings.generator_norm != "batch"

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x: Tensor = self.body(self.join(z, labels))
        return x


@final
class MLPDiscriminator(nn.Module):
    """forward(x [N, *spec.shape], labels) -> logits [N]."""

    def __init__(self, spec: DataSpec, condition: Condition | None, settings: MLPSettings) -> None:
        super().__init__()
        linear = _LINEAR.get(settings.discriminator_norm, nn.Linear)
        projected = condition if settings.discriminator_condition == "projection" else None
        self.join = ConditionJoin(None if projected else condition)
        self.projection = Projection(projected, settings.width, linear) if projected else None
        layers: list[nn.Module] = []
        width = math.prod(spec.shape) + self.join.width
        for _ in range(settings.depth):
            layers += [
                linear(width, settings.width),
                *_NORMS[settings.discriminator_norm](settings.width),
                nn.LeakyReLU(settings.leak),
                *([nn.Dropout(settings.dropout)] if settings.dropout else []),
            ]
            width = settings.width
        self.body = nn.Sequential(*layers, linear(width, 1))
        self.separable = settings.discriminator_norm not in ("batch", "spectral")

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.projection is not None:
            logits: Tensor = self.projection(self.body, x.flatten(1), labels)
            return logits
        logits = self.body(self.join(x.flatten(1), labels))
        return logits.squeeze(1)
