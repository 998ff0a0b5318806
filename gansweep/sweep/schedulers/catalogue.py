"""The schedulers by the name that a sweep file gives them."""

from __future__ import annotations

from collections.abc import Callable

from gansweep.sweep.file import Search
from gansweep.sweep.schedulers.asha import ASHA
from gansweep.sweep.schedulers.base import Scheduler
from gansweep.sweep.schedulers.median import MedianRule
from gansweep.sweep.schedulers.none import NoScheduler
from gansweep.sweep.schedulers.pbt import PBT, generation_interval
from gansweep.sweep.space import Space


def make_scheduler(search: Search, budget: int, *, space: Space) -> Scheduler:
    """The scheduler that `search` asks for, over trials of `budget` g_steps."""
    makers: dict[str, Callable[[], Scheduler]] = {
        "none": NoScheduler,
        "asha": lambda: ASHA(
            mode=search.mode,
            budget=budget,
            grace=grace(search, budget),
            reduction=search.reduction,
        ),
        "median": lambda: MedianRule(mode=search.mode, grace=grace(search, budget)),
        "pbt": lambda: PBT(
            space.axes,
            mode=search.mode,
            budget=budget,
            interval=generation_interval(search, budget),
            quantile=search.quantile,
            resample=search.resample,
            seed=search.seed,
        ),
    }
    return makers[search.scheduler]()


def grace(search: Search, budget: int) -> int:
    """g_steps that ASHA and the median rule leave each trial."""
    return min(search.grace or max(1, budget // 5), budget)
