"""How many trials share a worker."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gansweep.sweep.file import Resources, Search

MOST_ON_CPU = 8
MOST_ON_GPU = 32
"""Largest packs made unasked: beyond, a core or a card gains little (docs/PERFORMANCE.md)."""

TPE_ROUNDS = 4
"""TPE learns from the trials that ended: a search has at least so many rounds of packs."""


def fair_share(waiting: int, others: Sequence[float], *, own: float = 0.0) -> int:
    """How many of `waiting` trials a worker takes, so that the last of all workers ends soonest.

    Trials are a unit of work here: the worker has `own` of it to do, and the others what `others`
    say. Could trials be divided, all with less to do than a certain level would be filled up to it.
    """
    loads, below = sorted((own, *others)), 0
    work, level = float(waiting), math.inf
    for load in loads:
        if load >= level:
            break
        work, below = work + load, below + 1
        level = work / below
    if own > level:
        return 0
    whole = [math.floor(level - load) for load in loads[:below]]
    next_ends = sorted(load + n + 1 for load, n in zip(loads, whole, strict=False))
    share, over = math.floor(level - own), waiting - sum(whole)
    return share + (over > 0 and own + share + 1 <= next_ends[over - 1])


def pack_size(
    resources: Resources,
    search: Search,
    *,
    waiting: int,
    total: int,
    workers: int,
    others: Sequence[float] | None = None,
    alike: int = 0,
    most: int | None = None,
) -> int:
    """Trials of the next pack, where `waiting` of `total` have not begun.

    They are shared out so that all `workers` end together. others: how many trials' worth of work
    each other worker has; None: none. alike: how many of those that wait have the shape of the next
    one, 0 where that is not known; where a pack cannot hold them, they become packs of about equal
    size, since a small one gains little. most: the bound on packs made unasked; None: the usual.
    """
    if resources.processes > 1:
        return 1
    if resources.pack:
        return resources.pack
    most = most or largest(resources)
    if search.scheduler == "pbt":  # the whole population at once, as far as its memory is known
        together = math.ceil(total / workers)
        return min(most, together) if resources.by_memory else together
    others = [0.0] * (workers - 1) if others is None else others
    size = fair_share(waiting, others)
    if search.method == "tpe":
        size = min(size, math.ceil(total / workers / TPE_ROUNDS))
    if alike:
        most = math.ceil(alike / math.ceil(alike / most))
    return max(1, min(most, size))


def largest(resources: Resources) -> int:
    """Trials of the largest pack made unasked where memory is no matter."""
    return MOST_ON_GPU if resources.least_gpu else MOST_ON_CPU
