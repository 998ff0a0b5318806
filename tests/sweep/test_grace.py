"""The upper limit of a stop."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from gansweep.sweep import grace
from gansweep.sweep.grace import Grace

Made = Callable[[], tuple[Grace, list[tuple[str, float]]]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Made:
    """One with limits of 0.3 and 0.8 s, and what it ended after which time."""
    monkeypatch.setattr(grace, "WORKERS_SECONDS", 0.3)
    monkeypatch.setattr(grace, "ALL_SECONDS", 0.8)

    def made() -> tuple[Grace, list[tuple[str, float]]]:
        ended: list[tuple[str, float]] = []
        begun = time.monotonic()

        def end(what: str) -> Callable[[], None]:
            return lambda: ended.append((what, time.monotonic() - begun))

        return Grace(end_workers=end("workers"), end_all=end("all")), ended

    return made


def test_what_does_not_end_is_ended_and_its_stacks_are_told(
    make: Made, capfd: pytest.CaptureFixture[str]
) -> None:
    one, ended = make()
    one.begin()
    one.begin()
    one._thread.join(5)
    assert [what for what, _ in ended] == ["workers", "all"]
    assert ended[0][1] == pytest.approx(0.3, abs=0.2)
    assert ended[1][1] == pytest.approx(0.8, abs=0.2)
    assert capfd.readouterr().err.count("most recent call first") >= 2


def test_once_the_workers_are_gone_only_the_rest_is_limited(make: Made) -> None:
    one, ended = make()
    one.begin()
    one.workers_ended()
    one._thread.join(5)
    assert [what for what, _ in ended] == ["all"]
    assert ended[0][1] == pytest.approx(0.8, abs=0.2)


def test_what_ends_by_itself_is_let_alone(make: Made) -> None:
    one, ended = make()
    one.begin()
    one.over()
    one._thread.join(5)
    assert not one._thread.is_alive()
    other, nothing = make()  # no signal came
    other.over()
    assert (ended, nothing) == ([], [])
