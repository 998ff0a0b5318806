"""The best value of each score so far, and when it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from gansweep.metrics.base import Mode


@final
class Best:
    """By score its best value and the g_step of it; the first of equals stays."""

    def __init__(self) -> None:
        self._best: dict[str, tuple[float, int]] = {}

    def offer(self, score: str, value: float, g_step: int, *, mode: Mode) -> bool:
        """Whether `value` is the best so far; one that is not finite never is."""
        sign = 1 if mode == "min" else -1
        before = self._best.get(score)
        if not math.isfinite(value) or (before and sign * value >= sign * before[0]):
            return False
        self._best[score] = (value, g_step)
        return True

    def forget(self, score: str) -> None:
        """Begin anew with `score`."""
        self._best.pop(score, None)

    def state_dict(self) -> dict[str, Any]:
        return {score: list(best) for score, best in self._best.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best = {score: (float(value), int(step)) for score, (value, step) in state.items()}
