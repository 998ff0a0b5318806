"""What trials leave behind, to be compared bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gansweep.checkpoint import read_checkpoint
from gansweep.tracking.memory import MemoryTracker

CLOCKS = ["time/seconds", "time/g_steps_per_s"]
"""The only metrics that two equal trainings may differ in."""


def steady(metrics: Any) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in CLOCKS}


def record(*trackers: MemoryTracker) -> tuple[list[Any], list[Any]]:
    """(step, metrics) and (step, image) in the order logged, without the clocks."""
    calls = [(m.step, steady(m.values)) for tracker in trackers for m in tracker.metrics]
    images = [(i.step, i.image) for tracker in trackers for i in tracker.images]
    return calls, images


def equal(a: Any, b: Any) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(
                a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8)
            )
        )
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def state(folder: Path) -> dict[str, Any]:
    """The checkpoint without the clocks."""
    saved = read_checkpoint(folder / "checkpoint.pt")
    assert saved is not None
    del saved["seconds"]
    saved["metrics"] = steady(saved["metrics"])
    return saved
