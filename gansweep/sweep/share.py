"""A share of a sweep: task I of N trains its part of the trials, on a Ray of its own."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from gansweep.errors import ConfigError, Problem
from gansweep.sweep.file import Search

if TYPE_CHECKING:
    from gansweep.sweep.trials import Trial


@final
@dataclass(frozen=True)
class Share:
    """Task `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """From "I/N"; ConfigError where it is none."""
        number, _, count = text.partition("/")
        if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return cls(int(number), int(count))
        raise ConfigError.single("--share", f"is {text!r}", "I/N: 1/4 is the first of four tasks")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def share_problems(search: Search) -> list[Problem]:
    """What of a search needs to see all trials, which no share does."""
    problems = []
    if search.scheduler != "none":
        what = f"{search.scheduler} compares all trials, and a share sees its own alone"
        remedy = "scheduler: none, or run the sweep as a whole: on one Ray over several nodes"
        problems.append(Problem("search.scheduler", what, remedy))
    if search.method == "tpe":
        what = "tpe learns from all trials, and a share sees its own alone"
        remedy = "method: random, or run the sweep as a whole: on one Ray over several nodes"
        problems.append(Problem("search.method", what, remedy))
    return problems


def deal(
    trials: Iterable[Trial], count: int, *, size: int, left: Callable[[Trial], int]
) -> list[list[str]]:
    """The trial keys of each of `count` shares, of about equal work, in the order of the trials.

    Dealt are packs of at most `size` trials of one shape, and the seeds of a point are in one pack
    where it has room for them. `left`: g_steps that a trial has to go, which count as its work.
    The largest pack first, each to who has least (Graham 1969, at most 4/3 of the best dealing).
    """
    order: dict[str, int] = {}
    shapes: dict[str, list[Trial]] = {}
    for trial in trials:
        order[trial.key] = len(order)
        shapes.setdefault(trial.config.shape, []).append(trial)
    packs = [
        (sum(map(left, pack)), [trial.key for trial in pack])
        for same in shapes.values()
        for pack in _packs(same, size)
    ]
    shares: list[list[str]] = [[] for _ in range(count)]
    loads = [(0, number) for number in range(count)]
    for work, keys in sorted(packs, key=lambda pack: -pack[0]):
        load, number = loads[0]
        shares[number] += keys
        heapq.heapreplace(loads, (load + work, number))
    return [sorted(keys, key=order.__getitem__) for keys in shares]


def _packs(trials: Sequence[Trial], size: int) -> Iterator[list[Trial]]:
    """Trials of one shape in packs; a point's seeds follow each other."""
    pack: list[Trial] = []
    for _, seeds in itertools.groupby(trials, key=lambda trial: trial.point):
        point = list(seeds)
        if pack and len(pack) + len(point) > size:
            yield pack
            pack = []
        pack += point
        while len(pack) > size:  # more seeds than places
            yield pack[:size]
            pack = pack[size:]
    if pack:
        yield pack
