"""Small trials for the tests: trees of settings, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from gansweep.config import TrialConfig, resolve, resolved
from gansweep.errors import Problem

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 8, "depth": 1},
    "maxout": {
        "generator_width": 12,
        "generator_latent_width": 5,
        "generator_condition_width": 6,
        "discriminator_width": 6,
        "discriminator_condition_width": 4,
    },
    "dcgan": {"width": 2},
    "pacgan": {"generator_width": 8, "discriminator_width": 6},
    "bigan": {"width": 8},
}
DATA: dict[str, dict[str, Any]] = {
    "digits": {},
    "mnist5k": {},
    "ring8": {"n": 400},
    "gaussian1d": {"n": 300},
    "npz": {},
    "own_parts:Attributes": {},
    "own_parts:Breaks": {},
    "own_parts:Fragile": {},
}


def tree(model: str, network: str, data: str, /, **sections: Any) -> dict[str, Any]:
    """A trial of 12 g_steps on batches of 6; `sections` go over it, key by key."""
    base: dict[str, Any] = {
        "model": {"name": model},
        "network": {"name": network, **SMALL.get(network, {})},
        "data": {"name": data, "batch_size": 6, **DATA[data]},
        "latent": {"dim": 4},
        "budget": {"g_steps": 12},
        "samples": {"every": 5, "rows": 2, "columns": 3},
        "score": {"every": 4, "samples": 30},
        "log": {"every": 3},
        "checkpoint": {"every": 4},
        "diagnosis": {"every": 3, "samples": 8},
        "device": "cpu",
    }
    if model == "wgan":
        base["model"] |= {"n_critic": 2, "burst_n_critic": 4, "burst_first": 2, "burst_every": 7}
    if model in ("wgan_gp", "hinge"):
        base["model"] |= {"n_critic": 2}
    if network == "own_parts:Fragile":  # it counts its calls
        base["diagnosis"] = {"every": 0}
    for name, value in deepcopy(sections).items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return base


def small(model: str, network: str, data: str, /, **sections: Any) -> TrialConfig:
    return resolved(tree(model, network, data, **sections))


def refused(settings: Mapping[str, Any]) -> list[Problem]:
    """The mistakes of settings that have some."""
    problems: list[Problem] = []
    assert resolve(settings, problems) is None
    assert problems
    return problems
