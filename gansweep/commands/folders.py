"""Where a sweep keeps its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gansweep.errors import ConfigError

PLAN_FILE = "plan.json"

DEFAULT_ROOT = Path("runs")


def sweep_folder(root: Path, name: str) -> Path:
    """The folder of the sweep `name`: plan, log, checkpoints and sample sheets."""
    return (root / name).resolve()


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """The sweep's folder for this process alone; ConfigError where another one has it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError.single(
            str(folder), "another gansweep drives this sweep", "wait for it, or use another --dir"
        ) from None
    try:
        yield
    finally:
        lock.release()
