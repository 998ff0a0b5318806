"""The data and the small settings that every architecture is tried on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import Problem
from gansweep.networks.base import Architecture
from gansweep.networks.catalogue import ARCHITECTURES

LATENT = 6
IMAGES = [(1, 8, 8), (1, 28, 28), (3, 16, 16), (3, 33, 33)]
VECTORS = [(2,), (17,)]
CONDITIONS = [None, Condition("class", 5), Condition("vector", 3)]
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 8, "depth": 2},
    "maxout": {
        "generator_width": 8,
        "generator_latent_width": 5,
        "generator_condition_width": 4,
        "discriminator_width": 7,
        "discriminator_condition_width": 3,
        "generator_irange": 0.5,
        "discriminator_irange": 0.5,
    },
    "dcgan": {"width": 4},
    "pacgan": {"generator_width": 8, "discriminator_width": 6},
    "bigan": {"width": 8},
}


def build(name: str, **settings: Any) -> Architecture:
    """The architecture `name` with `settings` over its defaults."""
    problems: list[Problem] = []
    part = ARCHITECTURES.part({"name": name, **settings}, at="network", problems=problems)
    assert part is not None, problems
    return part.cls(part.settings)


def pair(
    architecture: Architecture, shape: tuple[int, ...], condition: Condition | None = None
) -> tuple[nn.Module, nn.Module]:
    spec = DataSpec(shape, condition)
    return (
        architecture.generator(latent_dim=LATENT, spec=spec, condition=condition),
        architecture.discriminator(spec=spec, condition=condition),
    )


def labels_for(condition: Condition | None, n: int) -> Tensor | None:
    if condition is None:
        return None
    if condition.kind == "class":
        return torch.arange(n) % condition.size
    return torch.randn(n, condition.size)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
