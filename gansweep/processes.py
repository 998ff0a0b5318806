"""Processes that this one started, and those that they started."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def below(process: int) -> list[int]:
    """The ids of a process's children, and of theirs (of none where the system does not tell)."""
    found: list[int] = []
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, listed.read_text().split()):
                found += [child, *below(child)]
    return found


def kill(*processes: int) -> None:
    """End them at once; those that have ended by themselves are no mistake."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
