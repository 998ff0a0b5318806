"""For how long a trial's samples have come no nearer to the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

GAIN = 0.05
"""Least relative fall of the energy distance below its best that counts as progress."""


@final
class Stall:
    """The share of training so far that has passed since the last progress: 0 at each, 1 at most.

    Progress is a fall of the energy distance to the data: a distance of samples, no loss. Its state
    is part of the trial's checkpoint.
    """

    def __init__(self) -> None:
        self._best: float | None = None
        self._at = 0

    def after(self, distance: float, *, g_step: int) -> float:
        """`distance` is that of the reading after `g_step` generator steps, from 1 on."""
        if self._best is None or distance < self._best - GAIN * abs(self._best):
            self._best, self._at = distance, g_step
        return (g_step - self._at) / g_step

    def forget(self) -> None:
        """The trial goes on from another one's state: the next reading is its first."""
        self._best, self._at = None, 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "at": self._at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._at = state["best"], state["at"]
