"""One sweep, run four times, whose record most tests here read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .command import SWEEPS, Ended, Place
from .record import Record

FILE = SWEEPS / "wgan_clip.yaml"
NAME = "wgan_clip"
CLIPS, OPTIMIZERS = (0.01, 0.1), ("rmsprop", "sgd")
LONGER, ADDED = 100, 0.05
SMALL = (
    "network.width=32", "model.clip_timing=after", "log.every=10", "samples.every=20",
    "score.samples=128", "score.names=[swd, 'mylab:Meeting', 'mylab:Gate']", "checkpoint.every=25",
    "space.optimizer.name.grid=[rmsprop, sgd]", "space.optimizer.lr={loguniform: [1e-3, 1e-2]}",
)  # fmt: skip


def words(*, clips: tuple[float, ...], g_steps: int) -> tuple[str, ...]:
    return (
        "run", str(FILE), f"budget.g_steps={g_steps}", f"space.model.clip.grid={list(clips)}",
        *SMALL,
    )  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """The record after one command."""

    ended: Ended
    record: Record


@dataclass(frozen=True)
class Story:
    place: Place
    plan: list[dict[str, Any]]
    first: Stage
    again: Stage
    longer: Stage
    wider: Stage

    @property
    def folder(self) -> Path:
        return self.place.folder / "runs" / NAME


def tell(new_place: Callable[..., Place]) -> Story:
    """Run the sweep four times: small, the same again, with a longer budget, with one clip more.

    Artifacts and checkpoints are those of the last stage.
    """
    place = new_place("sweep")

    def stage(clips: tuple[float, ...], g_steps: int) -> Stage:
        ended = place.run(*words(clips=clips, g_steps=g_steps))
        return Stage(ended, Record(place.uri, NAME))

    plan = place.run("plan", *words(clips=CLIPS, g_steps=50)[1:], "--json")
    return Story(
        place,
        json.loads(plan.text)["trials"],
        first=stage(CLIPS, 50),
        again=stage(CLIPS, 50),
        longer=stage(CLIPS, LONGER),
        wider=stage((*CLIPS, ADDED), LONGER),
    )


def checkpoint(folder: Path, key: str) -> dict[str, Any]:
    return dict(torch.load(folder / "trials" / key / "checkpoint.pt", weights_only=True))
