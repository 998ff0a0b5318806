"""A stop: what begins it, and its upper limit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from gansweep.sweep import grace
from gansweep.sweep.grace import Grace, Interrupts

Made = Callable[[], tuple[Grace, list[tuple[str, float]]]]


class Time:
    """It flies: who waits for what does not come has waited in no time."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def event(self) -> threading.Event:
        class Event(threading.Event):
            def wait(event, timeout: float | None = None) -> bool:  # noqa: N805
                assert timeout is not None
                if not event.is_set():
                    self.now += timeout
                return event.is_set()

        return Event()


def make() -> tuple[Grace, list[tuple[str, float]]]:
    """One, and what it ended after which time."""
    ended: list[tuple[str, float]] = []
    begun = grace.time.monotonic()

    def end(what: str) -> Callable[[], None]:
        return lambda: ended.append((what, grace.time.monotonic() - begun))

    return Grace(end_workers=end("workers"), end_all=end("all")), ended


@pytest.fixture
def flying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Grace's time."""
    time = Time()
    monkeypatch.setattr(grace, "time", time)
    threads = SimpleNamespace(Event=time.event, Thread=threading.Thread)
    monkeypatch.setattr(grace, "threading", threads)


@pytest.mark.usefixtures("flying")
def test_what_does_not_end_is_ended_and_its_stacks_are_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    one, ended = make()
    one.begin()
    one.begin()
    one._thread.join()
    assert ended == [("workers", grace.WORKERS_SECONDS), ("all", grace.ALL_SECONDS)]
    assert capfd.readouterr().err.count("most recent call first") >= 2


@pytest.mark.usefixtures("flying")
def test_once_the_workers_are_gone_only_the_rest_is_limited() -> None:
    one, ended = make()
    one.workers_ended()
    one.begin()
    one._thread.join()
    assert ended == [("all", grace.ALL_SECONDS)]


def test_what_ends_by_itself_is_let_alone() -> None:
    one, ended = make()
    one.begin()
    one.workers_ended()
    one.over()
    one._thread.join(grace.WORKERS_SECONDS / 2)
    assert not one._thread.is_alive()
    other, nothing = make()  # no signal came
    other.over()
    assert (ended, nothing) == ([], [])


# --- what begins it


def test_first_signal_asks_the_second_ends() -> None:
    notes: list[str] = []
    before = [signal.getsignal(number) for number in grace.STOP_SIGNALS]
    count = 0
    for number in grace.STOP_SIGNALS:
        interrupts = Interrupts(lambda: notes.append("note"))
        with interrupts.listening():
            assert not interrupts.stopping
            os.kill(os.getpid(), number)
            assert interrupts.stopping
            os.kill(os.getpid(), signal.SIGUSR1)  # a warning: it is heeded already
            for second in (signal.SIGINT, signal.SIGTERM):
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), second)
        count += 1
    assert notes == ["note"] * count == ["note"] * 3
    after = [signal.getsignal(number) for number in grace.STOP_SIGNALS]
    assert after == before


def test_what_is_due_ends_it_as_a_signal_does_and_the_first_signal_then_changes_nothing() -> None:
    notes: list[str] = []
    due: list[bool] = []
    interrupts = Interrupts(lambda: notes.append("note"), lambda: bool(due))
    with interrupts.listening():
        assert not interrupts.stopping
        due.append(True)
        assert interrupts.stopping
        os.kill(os.getpid(), signal.SIGTERM)  # a batch system's: the checkpoints are being written
        due.clear()
        assert interrupts.stopping
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert notes == ["note"]


def test_grace_ends_workers_that_hang_after_what_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one signal is the first that comes."""
    monkeypatch.setattr(grace, "WORKERS_SECONDS", 0.2)
    watch = grace.Grace(end_all=lambda: None)
    interrupts = Interrupts(watch.begin, lambda: True)
    try:
        with interrupts.listening():
            assert interrupts.stopping
            with pytest.raises(KeyboardInterrupt):
                time.sleep(60)  # the workers hang
    finally:
        watch.over()


def test_before_anything_has_begun_the_first_signal_ends_it() -> None:
    notes: list[str] = []
    begun: list[bool] = []
    count = 0
    for number in grace.STOP_SIGNALS:
        begun.clear()
        interrupts = Interrupts(lambda: notes.append("note"), has_begun=lambda: bool(begun))
        with interrupts.listening():
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
            assert interrupts.stopping  # should whoever catches it go on
        interrupts = Interrupts(lambda: notes.append("note"), has_begun=lambda: bool(begun))
        with interrupts.listening():
            begun.append(True)
            os.kill(os.getpid(), number)
            assert interrupts.stopping
        count += 1
    assert notes == ["note"] * 2 * count == ["note"] * 6


def test_where_nothing_is_left_the_first_signal_ends_it() -> None:
    notes: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        interrupts = Interrupts(lambda: notes.append("note"))
        with interrupts.listening():
            interrupts.nothing_is_left()
            assert not interrupts.stopping
            os.kill(os.getpid(), signal.SIGUSR1)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert notes == []
