"""ASHA: asynchronous successive halving (Li et al. 2020)."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Literal, final

from gansweep.counting import counted
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
        self._share = (1 - 1 / reduction) * 100 / 100  # rounded as NumPy's percentiles are
        rungs = []
        while grace <= budget:
            rungs.append(grace)
            grace *= reduction
        self._rungs = {rung: _Rung() for rung in reversed(rungs)}

    def decide(self, key: str, g_steps: int, value: float) -> Decision:
        reward = -self._sign * value
        for rung, recorded in self._rungs.items():
            if g_steps < rung or key in recorded.keys:
                continue
            bar = recorded.quantile(self._share)
            recorded.add(key, reward)
            if bar is not None and reward < bar:
                best = f"the best 1/{self._reduction} of {len(recorded)}"
                at = f"the rung of {counted(rung, 'g_step')}"
                return Stop(f"asha: {value:.4g} is not in {best} at {at}")
            break
        return Continue()


@final
@dataclass
class _Rung:
    """The rewards recorded at a rung, in order: a report costs no look at all of them."""

    keys: set[str] = field(default_factory=set)
    ordered: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ordered)

    def add(self, key: str, reward: float) -> None:
        self.keys.add(key)
        insort(self.ordered, reward)

    def quantile(self, share: float) -> float | None:
        """Linear between values, as NumPy has it; None of none."""
        if not self.ordered:
            return None
        place = (len(self.ordered) - 1) * share
        below = int(place)
        low = self.ordered[below]
        high = self.ordered[min(below + 1, len(self.ordered) - 1)]
        part = place - below
        # From the nearer end, so that two equal values give this value.
        return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
