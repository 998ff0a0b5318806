"""Groups: the points of a sweep by the values of some keys, and the median over each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from gansweep.errors import ConfigError, nearest
from gansweep.report.ranking import Mode, PointResult, mean_of
from gansweep.sweep.params import flatten

UNSET = "-"
"""In a group's name, for a key that its points do not set."""


@final
@dataclass(frozen=True)
class Group:
    """Points that have the same values of the keys; `name` is these values.

    medians: by metric the median over the points' means over seeds; None where half of the points
    or more have no value: such a point counts as worse than all. bests: the best point's mean, of
    those that trained to the end where any did. lost: how many points have no value of the first
    metric. unfinished: how many have one, and did not train to the end.
    """

    name: str
    points: tuple[PointResult, ...]
    medians: Mapping[str, float | None]
    bests: Mapping[str, float | None]
    lost: int
    unfinished: int


def grouped(
    results: Sequence[PointResult], *, keys: Sequence[str], modes: Mapping[str, Mode]
) -> list[Group]:
    """The groups by the median of the first metric, the best first, those without one last.

    modes: the metrics, each with whether smaller or larger is better. ConfigError where no point
    has one of the keys.
    """
    known = {key for result in results for key in flatten(result.trials[0].point)}
    for key in keys:
        if key not in known:
            what = f"no point sets {key!r}"
            raise ConfigError.single("--by", what, nearest(key, sorted(known)))
    groups: dict[tuple[str, ...], list[PointResult]] = {}
    for result in results:
        point = flatten(result.trials[0].point)
        values = tuple(_word(point[key]) if key in point else UNSET for key in keys)
        groups.setdefault(values, []).append(result)
    made = [_group(" ".join(values), points, modes) for values, points in groups.items()]
    first, mode = next(iter(modes.items()))
    return sorted(made, key=lambda group: _badness(group.medians[first], mode))


def _group(name: str, points: Sequence[PointResult], modes: Mapping[str, Mode]) -> Group:
    medians, bests = {}, {}
    for metric, mode in modes.items():
        means = [mean_of(point.trials, metric)[0] for point in points]
        complete = [m for m, point in zip(means, points, strict=True) if point.is_complete]
        ordered = sorted(means, key=lambda mean: _badness(mean, mode))
        bests[metric] = min(complete or means, key=lambda mean: _badness(mean, mode))
        low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
        medians[metric] = None if low is None or high is None else (low + high) / 2
    first = next(iter(modes))
    lost = sum(mean_of(point.trials, first)[0] is None for point in points)
    unfinished = sum(point.is_open for point in points)
    return Group(name, tuple(points), medians, bests, lost, unfinished)


def _word(value: Any) -> str:
    """1 and 1.0 are one value."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _badness(value: float | None, mode: Mode) -> float:
    if value is None:
        return math.inf
    return value if mode == "min" else -value
