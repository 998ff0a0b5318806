"""How many trials share a worker."""

from __future__ import annotations

import math

from gansweep.sweep.file import Resources, Search

MOST_ON_CPU = 8
MOST_ON_GPU = 32
"""Largest packs made unasked: beyond, a core or a card gains little (docs/PERFORMANCE.md)."""

TPE_ROUNDS = 4
"""TPE learns from the trials that ended: a search has at least so many rounds of packs."""


def pack_size(
    resources: Resources,
    search: Search,
    *,
    waiting: int,
    total: int,
    workers: int,
    most: int | None = None,
) -> int:
    """Trials of the next pack, where `waiting` of `total` have not begun.

    They are spread first over the `workers` that are, or soon will be, without a pack: one that
    leaves a worker idle saves no time. `most` is the bound on packs made unasked; None: the usual.
    """
    if resources.processes > 1:
        return 1
    if resources.pack:
        return resources.pack
    most = most or largest(resources)
    if search.scheduler == "pbt":  # the whole population at once, as far as its memory is known
        together = math.ceil(total / workers)
        return min(most, together) if resources.by_memory else together
    share = math.ceil(waiting / workers)
    if search.method == "tpe":
        share = min(share, math.ceil(total / workers / TPE_ROUNDS))
    return max(1, min(most, share))


def largest(resources: Resources) -> int:
    """Trials of the largest pack made unasked where memory is no matter."""
    return MOST_ON_GPU if resources.least_gpu else MOST_ON_CPU
