"""Where a sweep keeps its files."""

from __future__ import annotations

from pathlib import Path

PLAN_FILE, LOG_FILE, SHEET_FILE = "plan.json", "driver.log", "samples.png"


def sweep_folder(root: Path, name: str) -> Path:
    """The folder of the sweep `name`: plan, log, checkpoints and sample sheets."""
    return (root / name).resolve()
