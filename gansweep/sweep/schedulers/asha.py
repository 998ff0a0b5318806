"""ASHA: asynchronous successive halving (Li et al. 2020)."""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from gansweep.sweep.schedulers.base import SIGN, AtOnce, Continue, Decision, Stop


@final
class ASHA(AtOnce):
    """At rungs of g_steps, the best 1 / `reduction` of the trials go on (after Li et al. 2020).

    Rungs lie at grace * reduction^k, up to the budget. A report is recorded at the highest rung
    that it reached and at which its trial is not recorded yet. The trial goes on unless its value
    is worse than the (1 - 1 / reduction) quantile (linear between values) of those that other
    trials recorded there before. Nobody waits for a rung to fill: where the paper leaves a trial
    paused, to be promoted later, it stops, and the first one at a rung always goes on.

    The decisions are those of Ray's AsyncHyperBandScheduler with one bracket. So is what happens
    where reports are further apart than rungs: a trial that skipped a rung is compared there at
    its next report, with the values that others had when they were younger. Scores at every rung
    (`score.every` a divisor of `grace`) avoid it.
    """

    def __init__(
        self, *, mode: Literal["min", "max"], budget: int, grace: int, reduction: int
    ) -> None:
        """Budget and grace in g_steps."""
        super().__init__()
        self._sign = SIGN[mode]
        self._reduction = reduction
        self._share = (1 - 1 / reduction) * 100
        rungs = []
        while grace <= budget:
            rungs.append(grace)
            grace *= reduction
        self._rungs: dict[int, dict[str, float]] = {rung: {} for rung in reversed(rungs)}

    def decide(self, key: str, g_steps: int, value: float) -> Decision:
        reward = -self._sign * value
        for rung, recorded in self._rungs.items():
            if g_steps < rung or key in recorded:
                continue
            before = list(recorded.values())
            recorded[key] = reward
            if before and reward < np.percentile(before, self._share):
                best = f"the best 1/{self._reduction} of {len(before) + 1}"
                return Stop(f"asha: {value:.4g} is not in {best} at the rung of {rung} g_steps")
            break
        return Continue()
