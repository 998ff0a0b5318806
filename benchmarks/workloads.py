"""The trials and sweeps that are measured, as gansweep's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.baselines.problem import BATCH, GRIDS, LATENT, LOG_EVERY, N_CRITIC, points
from gansweep.config import TrialConfig, resolve
from gansweep.errors import ConfigError, Problem

Tree = dict[str, Any]
Say = Callable[[str], None]

BEYOND = 10**9
"""An interval that no budget reaches."""


def wgan(width: int, *, data: Mapping[str, Any] | None = None, latent: int = LATENT) -> Tree:
    """A WGAN of MLPs with three hidden layers, in Algorithm 1's even rhythm; 8x8 digits."""
    return {
        "model": {
            "name": "wgan",
            "clip": 0.01,
            "n_critic": N_CRITIC,
            "burst_first": 0,
            "burst_every": 0,
        },
        "network": {"name": "mlp", "width": width, "depth": 3},
        "latent": {"dim": latent, "distribution": "normal"},
        "optimizer": {"name": "rmsprop", "lr": 5e-4},
        "data": {"batch_size": BATCH, **(data or {"name": "digits"})},
    }


def dcgan(width: int, *, data: Mapping[str, Any] | None = None, latent: int = LATENT) -> Tree:
    """A DCGAN with Adam at 2e-4; MNIST in 28x28."""
    return {
        "model": {"name": "dcgan"},
        "network": {"name": "dcgan", "width": width},
        "latent": {"dim": latent, "distribution": "normal"},
        "optimizer": {"name": "adam", "lr": 2e-4, "beta1": 0.5},
        "data": {"batch_size": BATCH, **(data or {"name": "mnist5k"})},
    }


def sweep(model: str, width: int, g_steps: int) -> Tree:
    """The sweep file of 16 trials that the baselines train too."""
    trial = (wgan if model == "wgan" else dcgan)(width)
    every = max(1, g_steps // GRIDS)
    keys = {"clip": "model.clip", "lr": "optimizer.lr", "beta1": "optimizer.beta1"}
    grid = points(model)
    return {
        "name": f"bench-{model}",
        "trial": {
            **trial,
            "budget": {"g_steps": g_steps},
            "log": {"every": LOG_EVERY},
            "samples": {"every": every},
            "score": {"every": g_steps},
        },
        "space": {
            keys[name]: {"grid": sorted({point[name] for point in grid})} for name in grid[0]
        },
    }


def accepted(tree: Mapping[str, Any], key: str) -> bool:
    """Whether a trial's setting `key` is known in this version."""
    problems: list[Problem] = []
    resolve(tree, problems)
    return not any(each.where == f"trial.{key}" and each.what == "unknown key" for each in problems)


def resolved(tree: Mapping[str, Any], **sections: Any) -> TrialConfig:
    """The typed trial; `sections` replace the tree's. Raises ConfigError."""
    problems: list[Problem] = []
    config = resolve({**tree, **sections}, problems)
    if config is None:
        raise ConfigError(problems)
    return config


def unrecorded(
    tree: Mapping[str, Any], *, g_steps: int, log_every: int = LOG_EVERY, scored: bool = False
) -> TrialConfig:
    """The trial without samples and checkpoints before its last step, undiagnosed.

    scored: with the scores that it has; else without, before its last step.
    """
    sections: dict[str, Any] = {
        "budget": {"g_steps": g_steps},
        "log": {"every": log_every},
        "samples": {"every": BEYOND},
        "checkpoint": {"every": BEYOND},
        "diagnosis": {"every": 0},
    }
    if scored:
        score_every = resolved(tree).score_every
        return resolved(tree, **sections, score={**tree.get("score", {}), "every": score_every})
    return resolved(tree, **sections, score={"every": BEYOND})
