"""Room on cards: what share of one a worker takes, and on which nodes."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from gansweep.errors import ConfigError
from gansweep.sweep.cards import CONTEXT_GB, Anywhere, ByMemory, Node, Takes
from gansweep.sweep.file import Resources
from gansweep.sweep.packing import MOST_ON_GPU

SMALL = Node("small", cpus=64, cards=2, memory_gb=24.0)
LARGE = Node("large", cpus=64, cards=1, memory_gb=80.0)


def room(*nodes: Node, gone: set[str] | None = None, **resources: Any) -> ByMemory:
    lost = set() if gone is None else gone
    own = Resources(**resources)
    return ByMemory(own, nodes, alive=lambda: {node.id for node in nodes} - lost)


def test_workers_share_each_card_by_its_memory() -> None:
    """6 GB and CUDA's own 0.5: three in 24 GB, twelve in 80."""
    one = room(SMALL, LARGE, gpu_memory_gb=6.0, pack=1)
    assert one.workers == 2 * 3 + 12
    taken = [one.place(f"p{i}") for i in range(one.workers)]
    assert sorted({(takes.gpu, takes.nodes) for takes in taken}) == [
        (0.0833, ("large",)), (0.3333, ("small",)),
    ]  # fmt: skip
    assert [sum(t.nodes == (name,) for t in taken) for name in ("small", "large")] == [6, 12]


def test_a_worker_that_is_gone_leaves_its_room() -> None:
    one = room(SMALL, LARGE, gpu_memory_gb=30.0, pack=1)
    assert one.workers == 2
    assert [one.place(pack).nodes for pack in "ab"] == [("large",), ("large",)]
    one.leave("a")
    one.leave("a")  # no harm
    assert one.place("c") == Takes(1.0, 0.5, ("large",))


def test_equal_cards_need_no_particular_node() -> None:
    """So that nodes may be lost and others join."""
    one = room(SMALL, Node("other", cpus=8, cards=1, memory_gb=24.0), gpu_memory_gb=6.0, pack=1)
    assert one.place("p") == Takes(1.0, 0.3333)


def test_cores_are_counted_too() -> None:
    few = Node("few", cpus=4, cards=8, memory_gb=80.0)
    assert room(few, gpu_memory_gb=6.0, pack=1, cpu=2.0).workers == 2
    assert room(SMALL, LARGE, gpu_memory_gb=6.0, pack=1, concurrent=5).workers == 5


def test_a_pack_nobody_asked_for_fills_the_smallest_card_that_serves() -> None:
    assert room(SMALL, LARGE, gpu_memory_gb=6.0).most == 3
    assert room(SMALL, LARGE, gpu_memory_gb=30.0).most == 2
    assert room(SMALL, LARGE, gpu_memory_gb=0.01).most == MOST_ON_GPU
    three = room(SMALL, LARGE, gpu_memory_gb=6.0)
    assert three.workers == 2 * 1 + 4
    assert room(LARGE, gpu_memory_gb=6.0, pack=5).most == 5


def test_with_more_memory_alone() -> None:
    one = room(SMALL, LARGE, gpu_memory_gb=6.0, pack=1)
    shares = [one.place(str(times), times=times) for times in (2, 4, 8, 16)]
    assert shares == [
        Takes(1.0, 0.1666, ("large",)),  # which has most room
        Takes(1.0, 0.3333, ("large",)),  # 24.5 GB are beyond the small ones
        Takes(1.0, 1.0, ("large",)),
        Takes(1.0, 1.0, ("large",)),  # more than any has: all of the largest
    ]
    assert [one.grows(times) for times in (1, 2, 4, 8, 12, 14)] == [True] * 5 + [False]
    whole = room(SMALL, gpu_memory_gb=6.0)  # its packs have three trials: one alone has room
    assert whole.place("p", times=2) == Takes(1.0, 1.0)


def test_a_lost_kind_is_not_waited_for() -> None:
    gone: set[str] = set()
    one = room(SMALL, LARGE, gone=gone, gpu_memory_gb=6.0, pack=1)
    assert one.place("p").nodes == ("large",)
    gone.add("large")
    assert one.place("q").nodes == ("small",)
    gone.add("small")
    assert one.place("r").nodes == ("large",)  # they may come back


def test_what_fits_on_no_card_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a pack of 1 takes 80\.5 GB .* the largest has 80"):
        room(SMALL, LARGE, gpu_memory_gb=80.0)
    with pytest.raises(ConfigError, match=r"a pack of 5 takes 100\.5 GB"):
        room(LARGE, gpu_memory_gb=20.0, pack=5)
    with pytest.raises(ConfigError, match="no node has one"):
        room(gpu_memory_gb=20.0)


def test_no_card_is_promised_more_than_it_has() -> None:
    """Packed as Ray does, share by share, on any mixture of cards."""
    draw = random.Random(0)
    ran = 0
    for _ in range(200):
        nodes = [
            Node(str(i), cpus=draw.randint(1, 40), cards=draw.randint(1, 4), memory_gb=size)
            for i, size in enumerate(draw.choices([8.0, 16.0, 24.0, 40.0, 80.0], k=4))
        ]
        each = draw.uniform(0.1, 7.4)
        one = room(*nodes, gpu_memory_gb=each, pack=1)
        free = {node.id: [1.0] * node.cards for node in nodes}
        cores = {node.id: node.cpus for node in nodes}
        held = {node.id: [0.0] * node.cards for node in nodes}
        for number in range(one.workers):
            takes = one.place(str(number))
            where = takes.nodes or tuple(free)
            id, card = next(
                (id, card)
                for id, card in itertools.product(where, range(4))
                if card < len(free[id]) and free[id][card] >= takes.gpu - 1e-9 and cores[id] >= 1
            )  # there is one: all workers fit at once
            free[id][card] -= takes.gpu
            cores[id] -= 1
            held[id][card] += each + CONTEXT_GB
            ran += 1
        for node in nodes:
            assert max(held[node.id]) <= node.memory_gb
    assert ran > 2000


def test_without_memory_each_takes_what_the_file_says() -> None:
    one = Anywhere(Resources(cpu=2.0, gpu=0.3), workers=3, most=32)
    assert [one.place("p", times=times) for times in (1, 2, 4)] == [
        Takes(2.0, 0.3), Takes(2.0, 0.6), Takes(2.0, 1.0),
    ]  # fmt: skip
    assert [one.grows(times) for times in (1, 2, 4)] == [True, True, False]
    whole = Anywhere(Resources(gpu=1.0), workers=3, most=32)
    assert whole.place("p", times=2) == Takes(1.0, 1.0)
    assert not whole.grows(1)
    assert Anywhere(Resources(gpu=1.0, gpu_memory_gb=4.0), workers=1, most=1).grows(1)
    assert not Anywhere(Resources(), workers=3, most=8).grows(1)
    one.leave("p")
