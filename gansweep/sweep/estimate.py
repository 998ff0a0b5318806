"""How long the rest of a sweep takes, by the trials of the same shape that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from gansweep.sweep.pace import Pace, pace_of
from gansweep.sweep.plan import Entry
from gansweep.sweep.trials import Trial


@final
@dataclass(frozen=True)
class Estimate:
    """Of `trials` trials that are left, of which nothing is known of `unknown`.

    seconds: of training of the known ones together; longest: of one of them. finished, probed: of
    how many trials and shapes that was learnt.
    """

    trials: int
    unknown: int
    seconds: float
    longest: float
    finished: int
    probed: int

    @property
    def known(self) -> int:
        """Trials that are left of which something is known."""
        return self.trials - self.unknown

    def clock_seconds(self, workers: int) -> float:
        """By the clock, where so many workers share the training."""
        return max(self.seconds / workers, self.longest)

    def gpu_hours(self, gpu: float) -> float:
        """Where each worker has `gpu` of one."""
        return self.seconds * gpu / 3600


def estimate(
    trials: Sequence[Trial],
    entries: Mapping[str, Entry],
    paces: Mapping[str, Pace],
    *,
    on_gpu: bool,
    total: int | None = None,
) -> Estimate:
    """Of the `trials` of a sweep, of which `entries` say how they stand, by key.

    total: how many trials the sweep has, where `trials` are but examples of them; then `entries`
    are of no others.
    """
    left = [(t, n) for t in trials if (n := _to_go(t, entries))]
    scale, count = 1.0, len(left)
    if total is not None:
        budgets = {trial.config.budget.g_steps for trial in trials}
        done = sum(
            entry.is_finished(
                entry.budget if entry.budget in budgets else max(budgets), retry_failed=False
            )
            for entry in entries.values()
        )
        count = max(0, total - done)
        if not left:  # the other trials are like these, though these are finished
            left = [(trial, trial.config.budget.g_steps) for trial in trials]
        scale = count / len(left) if left else 0.0
    named = [(pace_of(trial.config, on_gpu=on_gpu), n) for trial, n in left if count]
    known = [(paces[name], n) for name, n in named if name in paces]
    used = {name: paces[name] for name, _ in named if name in paces}
    seconds = [pace.seconds_per_g_step * n for pace, n in known]
    return Estimate(
        trials=count,
        unknown=count - round(scale * len(known)),
        seconds=scale * sum(seconds),
        longest=max(seconds, default=0.0),
        finished=sum(pace.trials for pace in used.values()),
        probed=sum(pace.trials == 0 for pace in used.values()),
    )


def unknown_trials(
    trials: Iterable[Trial],
    entries: Mapping[str, Entry],
    paces: Mapping[str, Pace],
    *,
    on_gpu: bool,
) -> dict[str, Trial]:
    """A trial that is left of each pace of which nothing is known, by the pace's name."""
    found: dict[str, Trial] = {}
    for trial in trials:
        name = pace_of(trial.config, on_gpu=on_gpu)
        if name not in paces and _to_go(trial, entries):
            found.setdefault(name, trial)
    return found


def paces_of(
    trials: Iterable[Trial], entries: Mapping[str, Entry], *, on_gpu: bool
) -> dict[str, Pace]:
    """What the plan itself tells, for commands that had no time to write it down."""
    paces: dict[str, Pace] = {}
    for trial in trials:
        entry = entries.get(trial.key)
        if entry and entry.state in ("completed", "stopped") and entry.g_steps and entry.seconds:
            name = pace_of(trial.config, on_gpu=on_gpu)
            paces[name] = paces.get(name, Pace()) + Pace(1, entry.g_steps, entry.seconds)
    return paces


def _to_go(trial: Trial, entries: Mapping[str, Entry]) -> int:
    """g_steps that are left of it."""
    budget = trial.config.budget.g_steps
    entry = entries.get(trial.key)
    if entry is None:
        return budget
    if entry.is_finished(budget, retry_failed=False):
        return 0
    return max(0, budget - entry.g_steps)
