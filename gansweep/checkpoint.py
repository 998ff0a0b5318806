"""Checkpoint files: whole or not there, and loaded without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from gansweep.errors import ConfigError

FORMAT = 2
"""Version of the layout of a checkpoint."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values) to `path`: flushed, then renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state at `path`, on the CPU; None where there is none. ConfigError on another format."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("format") != FORMAT:
        raise ConfigError.single(
            str(path),
            f"has checkpoint format {state.get('format')}, this version reads {FORMAT}",
            "train the trial anew, or use the version that wrote it",
        )
    return state
