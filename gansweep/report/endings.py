"""Endings: why trials ended as they did, those of one reason together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Protocol

from gansweep.counting import counted

MOST_REASONS: Final = 5
MOST_NAMES: Final = 3

_WHEN: Final = re.compile(r" at g_step (\d+)$")


class Ending(Protocol):
    """How one trial ended, as the plan tells."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


def reasons(endings: Iterable[Ending]) -> list[str]:
    """A line on each reason, with the trials that have it; those of the most trials first.

    Reasons are the same where they differ in the g_step alone.
    """
    groups: defaultdict[str, list[Ending]] = defaultdict(list)
    for ending in endings:
        groups[_WHEN.sub("", ending.reason)].append(ending)
    ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [_line(what, those) for what, those in ranked[:MOST_REASONS]]
    if others := ranked[MOST_REASONS:]:
        trials = sum(len(those) for _, those in others)
        lines.append(f"{counted(trials, 'trial')} for {counted(len(others), 'other reason')}")
    return lines


def _line(what: str, those: list[Ending]) -> str:
    found = (_WHEN.search(ending.reason) for ending in those)
    steps = [int(match[1]) for match in found if match]
    when = ""
    if steps:
        first, last = min(steps), max(steps)
        when = f" at g_step {first}" if first == last else f" at g_steps {first} to {last}"
    if len(those) == 1:
        return f"{those[0].name}: {what}{when}"
    names = "; ".join(ending.name for ending in those[:MOST_NAMES])
    if len(those) > MOST_NAMES:
        names += f"; {len(those) - MOST_NAMES} more"
    return f"{counted(len(those), 'trial')}: {what}{when} ({names})"
