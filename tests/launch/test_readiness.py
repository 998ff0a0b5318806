from __future__ import annotations

from collections.abc import Iterator

import pytest

from gansweep.launch import readiness

from .conftest import Clock

pytestmark = pytest.mark.usefixtures("clock")


def test_waits_for_every_node() -> None:
    counts = iter([ConnectionError("not yet"), 1, 1, 3])

    def count() -> int:
        value = next(counts)
        if isinstance(value, Exception):
            raise value
        return value

    assert readiness.wait_for_nodes(count, 3, 5) == ""
    assert list(counts) == []


def test_says_how_many_are_missing(clock: Clock) -> None:
    began = clock.now
    assert readiness.wait_for_nodes(lambda: 2, 3, 7) == "2 of 3 nodes joined Ray within 7 s"
    assert clock.now - began == 7

    def never() -> int:
        raise ConnectionError

    assert readiness.wait_for_nodes(never, 2, 0.0).startswith("0 of 2 nodes")
    assert readiness.wait_for_nodes(never, 1, 0.0) == "0 of 1 node joined Ray within 0 s"


def test_what_has_joined_may_have_left() -> None:
    def counts() -> Iterator[int]:
        yield from (2, 1, 1)

    found = counts()
    assert readiness.wait_for_nodes(lambda: next(found, 1), 3, 10).startswith("1 of 3")
