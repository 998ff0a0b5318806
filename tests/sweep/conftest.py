"""A clock that stands still until a test moves it."""

from __future__ import annotations

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
