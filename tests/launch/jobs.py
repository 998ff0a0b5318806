"""Jobs for the tests of launchers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep_files import TEXT

from gansweep.launch.base import Job
from gansweep.sweep.file import load_sweep
from gansweep.sweep.trials import planned

URI = "http://127.0.0.1:5000"


def job(folder: Path, content: str = TEXT, *, uri: str = URI, overrides: Sequence[str] = ()) -> Job:
    """The job of a sweep file of that content in `folder`, which keeps its files in runs/."""
    (folder / "file.yaml").write_text(content, encoding="utf-8")
    sweep = load_sweep(folder / "file.yaml", overrides)
    return Job(sweep, tuple(planned(sweep)), folder, folder / "runs", uri)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path
