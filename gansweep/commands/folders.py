"""Where a sweep keeps its files."""

from __future__ import annotations

from pathlib import Path

PLAN_FILE = "plan.json"

DEFAULT_ROOT = Path("runs")


def sweep_folder(root: Path, name: str) -> Path:
    """The folder of the sweep `name`: plan, log, checkpoints and sample sheets."""
    return (root / name).resolve()
