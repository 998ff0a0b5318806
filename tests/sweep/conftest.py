"""A clock that stands still until a test moves it, and collections of a worker's garbage alone."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gansweep.sweep import board, spending


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """That of the board and of the account."""
    clock = Clock()
    for module in (board, spending):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(scope="module")
def little_to_collect() -> Iterator[None]:
    """A worker looks for garbage after each pack: a third of a second in all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
