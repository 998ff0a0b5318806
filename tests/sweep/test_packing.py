from __future__ import annotations

import random

import pytest

from gansweep.sweep.file import Resources, Search
from gansweep.sweep.packing import MOST_ON_CPU, MOST_ON_GPU, TPE_ROUNDS, fair_share, pack_size

CPU, GPU = Resources(), Resources(gpu=1.0)
GRID, TPE, PBT = Search(), Search(method="tpe"), Search(scheduler="pbt")

SIZES = [
    # resources, search, waiting, total, workers without a pack -> trials
    (CPU, GRID, 4, 4, 2, 2),  # spread first: a worker that idles saves no time
    (CPU, GRID, 5, 8, 2, 3),
    (CPU, GRID, 2, 16, 1, 2),
    (CPU, GRID, 2, 2, 8, 1),
    (CPU, GRID, 1, 16, 4, 1),
    (CPU, GRID, 0, 16, 4, 1),
    (CPU, GRID, 100, 100, 2, MOST_ON_CPU),
    (GPU, GRID, 100, 100, 2, MOST_ON_GPU),
    (GPU, GRID, 10, 10, 1, 10),
    (Resources(pack=3), GRID, 100, 100, 2, 3),
    (Resources(pack=3), GRID, 2, 2, 2, 3),
    (Resources(pack=50), PBT, 10, 10, 2, 50),
    (Resources(processes=2), GRID, 100, 100, 2, 1),
    (CPU, TPE, 64, 64, 2, MOST_ON_CPU),
    (CPU, TPE, 16, 16, 2, 2),  # four rounds: what ended tells it where to look
    (CPU, TPE, 3, 16, 1, 3),
    (CPU, TPE, 16, 16, 8, 1),
    (CPU, PBT, 40, 40, 2, 20),  # the whole population at once
    (CPU, PBT, 5, 40, 2, 20),
    (CPU, PBT, 40, 41, 2, 21),
]


@pytest.mark.parametrize(("resources", "search", "waiting", "total", "workers", "size"), SIZES)
def test_pack_size(
    resources: Resources, search: Search, waiting: int, total: int, workers: int, size: int
) -> None:
    assert pack_size(resources, search, waiting=waiting, total=total, workers=workers) == size


def test_a_bound_of_its_own_holds_for_what_nobody_asked_for() -> None:
    def size(resources: Resources) -> int:
        return pack_size(resources, GRID, waiting=100, total=100, workers=2, most=5)

    assert size(GPU) == 5
    assert size(Resources(gpu=1.0, pack=7)) == 7
    by_memory = Resources(gpu_memory_gb=1.0)
    assert pack_size(by_memory, GRID, waiting=100, total=100, workers=2) == MOST_ON_GPU


def test_a_population_is_together_as_far_as_a_card_holds_it() -> None:
    """Where its memory is known; its packs take turns then."""
    for resources, bound in ((Resources(gpu_memory_gb=1.0), 5), (GPU, 20), (CPU, 20)):
        for total, size in ((40, bound), (8, 4)):
            found = pack_size(resources, PBT, waiting=total, total=total, workers=2, most=5)
            assert found == size


def test_no_worker_is_left_without_a_pack() -> None:
    """Packs made one after the other, each for the workers that have none yet."""
    ran = 0
    for trials in range(1, 40):
        for workers in range(1, 7):
            waiting, packs = trials, []
            while waiting and len(packs) < workers:
                free = workers - len(packs)
                size = pack_size(CPU, GRID, waiting=waiting, total=trials, workers=free)
                packs.append(min(size, waiting))
                waiting -= packs[-1]
            assert len(packs) == min(trials, workers)
            assert max(packs) - min(packs) <= 1
            ran += 1
    assert ran == 39 * 6


@pytest.mark.parametrize(
    ("waiting", "others", "own", "share"),
    [
        (4, [], 0.0, 4),
        (5, [0.0], 0.0, 3),
        (4, [4.0], 0.0, 4),  # the other has as much to do already
        (4, [8.0], 0.0, 4),
        (4, [2.0], 0.0, 3),
        (4, [0.1], 0.0, 2),  # as if both had ended
        (4, [1.0, 9.0, 0.0], 0.0, 2),  # 5 / 3 each; the third has enough
        (2, [0.0], 1.0, 1),  # it has one of them
        (1, [0.0], 1.0, 0),
        (4, [0.1], 2.5, 1),  # then both end at 3.1 and 3.5
        (1, [0.1], 3.0, 0),
        (4, [0.0, 0.0], 0.0, 2),  # somebody takes the fourth one
        (0, [1.0], 0.0, 0),
        (4, [0.0], 4.5, 0),
        (1, [2.0], 6.0, 0),  # others would end before it with all of them
    ],
)
def test_a_fair_share(waiting: int, others: list[float], own: float, share: int) -> None:
    assert fair_share(waiting, others, own=own) == share


def test_no_other_share_would_end_sooner() -> None:
    """Against each trial given to whoever ends soonest with it, which is best for equal ones."""
    draw = random.Random(0)
    for _ in range(500):
        own, *others = loads = [round(draw.uniform(0, 5), 2) for _ in range(draw.randint(1, 5))]
        waiting = draw.randint(0, 20)
        for _ in range(waiting):
            place = min(range(len(loads)), key=lambda i: (loads[i] + 1, i))
            loads[place] += 1
        assert own + fair_share(waiting, others, own=own) == pytest.approx(loads[0])


def test_workers_that_take_their_share_end_together() -> None:
    """Whoever ends first takes a pack: no other order of packs would save one trial's time."""
    draw = random.Random(0)
    for _ in range(300):
        workers = draw.randint(1, 6)
        loads = [draw.choice([0.0, draw.uniform(0, 8)]) for _ in range(workers)]
        waiting = draw.randint(0, 40)
        least = max(*loads, (sum(loads) + waiting) / workers, 0.0)
        while waiting:
            now = min(loads)
            place = loads.index(now)
            others = [load - now for load in (*loads[:place], *loads[place + 1 :])]
            size = pack_size(CPU, GRID, waiting=waiting, total=40, workers=workers, others=others)
            size = min(size, waiting)
            loads[place] += size
            waiting -= size
        assert least <= max(loads) < least + 1


@pytest.mark.parametrize(
    ("alike", "sizes"),
    [(8, [8]), (9, [5, 4]), (10, [5, 5]), (16, [8, 8]), (17, [6, 6, 5]), (3, [3])],
)
def test_packs_of_a_shape_are_about_equally_large(alike: int, sizes: list[int]) -> None:
    """In a sweep that has many trials of other shapes too, so that no worker lacks work."""
    found = []
    while alike:
        found.append(pack_size(CPU, GRID, waiting=100, total=100, workers=2, alike=alike))
        alike -= found[-1]
    assert found == sizes
    asked = Resources(pack=8)
    assert pack_size(asked, GRID, waiting=10, total=10, workers=1, alike=10) == 8


def test_the_rounds_of_tpe() -> None:
    size = pack_size(GPU, TPE, waiting=64, total=64, workers=1)
    assert 64 / size == TPE_ROUNDS
