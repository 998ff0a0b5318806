"""The files of a trial's folder that hold its state."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = "checkpoint.pt"
"""Holds the whole state."""

BEST = "best.pt"
"""The same at the g_step of the best value of the score that `score.best` names."""

GENERATION = "generation-"
"""Begins the names of files with its state at a generation, for others to go on from."""


def generation_file(g_step: int) -> str:
    """Name of such a file of a member of a population."""
    return f"{GENERATION}{g_step}.pt"


def previous(path: Path) -> Path:
    """Where the checkpoint at `path` is kept while a newer one takes its name."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")
