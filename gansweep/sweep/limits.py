"""What a whole sweep may spend: time by the clock, and GPU hours."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from gansweep.errors import Problem
from gansweep.settings import fill, setting

DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?\s*(?:(?P<h>\d+(?:\.\d+)?)h)?\s*"
    r"(?:(?P<m>\d+(?:\.\d+)?)m)?\s*(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
GRAMMAR = "as 90m, 2h, 1d 12h or 1h30m, with d, h, m, s in this order, or in seconds"

MOST_SECONDS = 100 * 365 * UNITS["d"]
"""Beyond, a duration is a slip of the pen."""


@final
@dataclass(frozen=True)
class Limits:
    """The budget of a whole sweep; None: without end."""

    time_budget: int | float | str | None = setting(
        None, "time by the clock, of all commands of the sweep together: 90m, 1d 12h, or seconds"
    )
    gpu_hours: float | None = setting(
        None, "share of a GPU times hours, summed over the workers of all commands", gt=0
    )

    @property
    def given(self) -> list[str]:
        """The keys of those that there are."""
        return [key for key in LIMITS if getattr(self, key) is not None]

    def shared(self, count: int) -> Limits:
        """Of one of `count` shares of the sweep, which are trained side by side."""
        return self if self.gpu_hours is None else replace(self, gpu_hours=self.gpu_hours / count)

    @property
    def seconds(self) -> float | None:
        """The time budget."""
        return None if self.time_budget is None else parse_duration(self.time_budget)


LIMITS = tuple(field.name for field in dataclasses.fields(Limits))
"""Their keys, at the top of a sweep file."""


def parse_duration(value: float | str) -> float:
    """Seconds; ValueError where it is no duration above 0."""
    seconds = math.nan
    if isinstance(value, str):
        text = value.strip()
        found = DURATION.fullmatch(text)
        if found:
            parts = found.groupdict(default="0")
            seconds = sum(float(parts[unit]) * each for unit, each in UNITS.items())
        elif re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
    elif not isinstance(value, bool) and value <= MOST_SECONDS:  # a larger one may be no float
        seconds = float(value)
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"{value!r} is no duration")
    return seconds


def read_limits(tree: Mapping[str, Any], problems: list[Problem], *, gpus: bool) -> Limits:
    """Those of a sweep file; `gpus`: whether its trials take any."""
    before = len(problems)
    limits = fill(Limits, {k: tree[k] for k in LIMITS if k in tree}, at="", problems=problems)
    if limits is None or len(problems) > before:
        return Limits()
    try:
        _ = limits.seconds
    except ValueError as error:
        problems.append(Problem("time_budget", str(error), GRAMMAR))
    if limits.gpu_hours is not None and not gpus:
        what = "is set, and resources.gpu is 0"
        problems.append(Problem("gpu_hours", what, "set resources.gpu, or limit time_budget"))
    return limits
