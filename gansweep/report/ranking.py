"""Ranking: the trials of a sweep by point, the best first, with the spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

from gansweep.counting import counted
from gansweep.errors import ConfigError
from gansweep.metrics.fingerprint import Fingerprint, differences, score_of
from gansweep.sweep.params import flatten

Mode = Literal["min", "max"]


class Standing(Protocol):
    """How one trial stands, as the plan or the record tells."""

    @property
    def name(self) -> str: ...
    @property
    def point(self) -> Mapping[str, Any]: ...
    @property
    def recipe(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def diagnosis(self) -> str: ...
    @property
    def g_steps(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float | None]: ...
    @property
    def fingerprints(self) -> Mapping[str, Fingerprint]: ...


@final
@dataclass(frozen=True)
class PointResult:
    """One point over its seeds.

    mean: of the metric over the seeds that have a value; None where none has. error: its standard
    error (sample standard deviation / sqrt(n)); None below two seeds. `trials` are in seed order.
    """

    name: str
    mean: float | None
    error: float | None
    trials: tuple[Standing, ...]

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(trial.state for trial in self.trials))

    @property
    def is_complete(self) -> bool:
        """Whether all its trials trained their whole budget."""
        return self.states == ("completed",)

    @property
    def ended_badly(self) -> bool:
        """Whether any of its trials diverged or failed."""
        return any(state in LAST for state in self.states)

    @property
    def is_open(self) -> bool:
        """Whether it has a value of less than its whole budget, and no trial that ended badly."""
        return self.mean is not None and not self.is_complete and not self.ended_badly

    @property
    def diagnoses(self) -> tuple[str, ...]:
        """What was found wrong with any of its trials, each once."""
        found = [name for trial in self.trials for name in trial.diagnosis.split(", ") if name]
        return tuple(dict.fromkeys(found))


LAST = ("diverged", "failed")
"""States whose trials have no value to rank, whatever they logged before."""


def value_of(trial: Standing, metric: str) -> float | None:
    """The trial's last value of `metric`; None where it has none or ended badly."""
    value = trial.metrics.get(metric)
    if trial.state in LAST or value is None or not math.isfinite(value):
        return None
    return float(value)


def mean_of(trials: Iterable[Standing], metric: str) -> tuple[float | None, float | None]:
    """Mean of any metric over a point's trials, and its standard error, as in `PointResult`."""
    values = [value for trial in trials if (value := value_of(trial, metric)) is not None]
    if not values:
        return None, None
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    offsets = [value - mean for value in values]
    variance = sum(each * each for each in offsets) / (len(values) - 1)  # ** would raise: too large
    return mean, math.sqrt(variance / len(values))


def check_comparable(
    trials: Iterable[Standing], metric: str, *, across: Collection[str] = ()
) -> None:
    """ConfigError where values of a score are of different fingerprints; it says what differs.

    `across` are keys of fingerprints that may differ. Trials without a value, and those of which
    no fingerprint is known, do not count.
    """
    score = score_of(metric)
    valued = [trial for trial in trials if value_of(trial, metric) is not None]
    known = [trial.fingerprints[score] for trial in valued if score in trial.fingerprints]
    found = {key: each for key, each in differences(known).items() if key not in across}
    if not found:
        return
    words = []
    for key, values in found.items():
        counts = [sum(each.get(key, "none") == value for each in known) for value in values]
        each = (
            f"{value or 'none'} of {counted(n, 'trial')}"
            for value, n in zip(values, counts, strict=True)
        )
        words.append(f"{key} is {', '.join(each)}")
    raise ConfigError.single(
        metric,
        f"its values cannot be compared: {'; '.join(words)}",
        "score all trials alike, in a sweep of another name, or name another metric",
    )


def rank(
    trials: Iterable[Standing], *, metric: str, mode: Mode, across: Collection[str] = ()
) -> list[PointResult]:
    """Points by their mean over seeds, the best first.

    A value after a part of the budget is not compared with one after all of it: points whose
    trials are all completed come first, then those with one that was stopped, was interrupted or
    still runs, then those with one that diverged or failed, and those without any value last;
    equals stay in their order. Raises as `check_comparable` does.
    """
    trials = list(trials)
    check_comparable(trials, metric, across=across)
    results = by_point(trials, metric=metric)
    sign = 1.0 if mode == "min" else -1.0

    def order(result: PointResult) -> tuple[bool, bool, bool, float]:
        value = 0.0 if result.mean is None else sign * result.mean
        return (result.mean is None, result.ended_badly, result.is_open, value)

    return sorted(results, key=order)


def identity(point: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """Equal where points are, however their numbers were written: 1 or 1.0."""
    return frozenset(flatten(point).items())


def by_point(trials: Iterable[Standing], *, metric: str) -> list[PointResult]:
    """Points in their order, not ranked.

    Trials of one point that were trained under other settings beside it are not averaged.
    """
    points: dict[Any, list[Standing]] = {}
    for trial in trials:
        points.setdefault((identity(trial.point), trial.recipe), []).append(trial)
    return [_result(group, metric) for group in points.values()]


def _result(group: list[Standing], metric: str) -> PointResult:
    trials = tuple(sorted(group, key=lambda trial: trial.seed))
    mean, error = mean_of(trials, metric)
    name = trials[0].name
    if len(trials) > 1:
        name = " ".join(word for word in name.split(" ") if not word.startswith("seed=")) or name
    return PointResult(name, mean, error, trials)
