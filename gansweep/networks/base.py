"""What a network architecture is: a matching generator and discriminator, built from a DataSpec."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError


class Architecture(ABC):
    """Builds both networks of a trial as plain modules, called as `net(x, labels)`.

    A subclass names its `Settings` dataclass and builds the two networks. `labels` is None for an
    unconditional model, else y as `Condition` states it.
    """

    Settings: ClassVar[type[Any]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    # A network may say `separable = True`: in training too, each output depends on its own input
    # and label alone, and a call changes nothing. The fakes of all discriminator steps that share
    # a generator's weights are then drawn in one call, and a discriminator sees real and generated
    # samples as one batch.

    @abstractmethod
    def generator(
        self, *, latent_dim: int, spec: DataSpec, condition: Condition | None
    ) -> nn.Module:
        """net(z [N, latent_dim], labels) -> [N, *spec.shape]; images in [-1, 1].

        Raises ConfigError where the data do not fit (vectors to a convolutional network).
        """

    @abstractmethod
    def discriminator(self, *, spec: DataSpec, condition: Condition | None) -> nn.Module:
        """net(x [N, *spec.shape], labels) -> logits [N], no sigmoid."""

    def encoder(self, *, latent_dim: int, spec: DataSpec) -> nn.Module:
        """net(x [N, *spec.shape]) -> z [N, latent_dim], for variants that encode.

        Unless it is overridden: the generator's layers, from the flattened x to the vector z.
        Raises ConfigError where the generator makes images alone.
        """
        inputs, code = math.prod(spec.shape), DataSpec((latent_dim,))
        try:
            layers = self.generator(latent_dim=inputs, spec=code, condition=None)
        except ConfigError as error:
            raise ConfigError.single(
                "network.name",
                f"{type(self).__name__} has no encoder: its generator makes no vectors",
                "give it a method `encoder`, or use network: {name: mlp}",
            ) from error
        return nn.Sequential(nn.Flatten(), layers)


def require_image(spec: DataSpec, *, name: str, sides: tuple[int, int]) -> None:
    """ConfigError unless `spec` is a square image with a side within `sides`."""
    low, high = sides
    if not spec.is_image:
        raise ConfigError.single(
            "network.name",
            f"{name} needs images, the data are vectors of {spec.shape[0]}",
            "use network: {name: mlp}",
        )
    _, height, width = spec.shape
    if height != width or not low <= height <= high:
        raise ConfigError.single(
            "network.name",
            f"{name} needs square images of {low} to {high} pixels, got {height}x{width}",
            "set data.size, or use network: {name: mlp}",
        )
