from __future__ import annotations

import logging
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.tracking import MlflowClient

import gansweep.tracking.mlflow.courier
import gansweep.tracking.mlflow.delivery
from gansweep.tracking.mlflow import Backlog, Courier, MlflowStore, noted_run
from gansweep.tracking.mlflow.delivery import NOTE, Delivery
from gansweep.tracking.mlflow.uri import sqlite_file
from gansweep.tracking.spool import FOLDER, LINES, SpoolTracker

BIGGEST = sys.float_info.max
NOTHING = Backlog()

MakeCourier = Callable[..., Courier]


@pytest.fixture
def make(uri: str) -> Iterator[MakeCourier]:
    """Makes couriers of the store, which are closed in the end."""
    made: list[Courier] = []

    def courier(where: str = uri, **settings: Any) -> Courier:
        made.append(Courier(where, **{"interval_s": 0.05, **settings}))
        return made[-1]

    yield courier
    for each in made:
        each.close()


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """The folder of a trial."""
    return tmp_path / "trial"


@pytest.fixture
def more(store: MlflowStore, experiment: str) -> Callable[[str], str]:
    """Makes runs of further trials."""
    return lambda key: store.trial_run(experiment, None, key, f"trial {key}", {})


def _history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run_id, name)]


def _status(uri: str, run_id: str) -> str:
    return str(MlflowClient(uri).get_run(run_id).info.status)


def _pictures(uri: str, run_id: str) -> list[tuple[str, int]]:
    """(key, step) of each picture of a run."""
    found = [Path(a.path).name for a in MlflowClient(uri).list_artifacts(run_id, "images")]
    return sorted((n.split("+")[0], int(n.split("+")[2])) for n in found if n.endswith(".png"))


def _fails_first(monkeypatch: pytest.MonkeyPatch, name: str, times: float) -> list[int]:
    """Let the client's method raise its first `times` calls; the list counts all calls."""
    original: Callable[..., Any] = getattr(MlflowClient, name)
    calls: list[int] = []

    def call(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= times:
            raise MlflowException("database is locked", error_code=INTERNAL_ERROR)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, name, call)
    return calls


def _wait(until: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- what arrives


@pytest.mark.parametrize("delivered_before", [True, False])
def test_a_clock_set_back_between_two_processes_leaves_the_order_of_time(
    uri: str,
    run_id: str,
    trial: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
    delivered_before: bool,
) -> None:
    """The second one may find a spool to go on with, or none."""
    started = time.time_ns()
    for first, hours_back in ((1, 0), (3, 1)):
        monkeypatch.setattr(
            time, "time_ns", lambda hours=hours_back: started - hours * 3600 * 10**9
        )
        tracker = SpoolTracker(trial)
        for step in (first, first + 1):
            tracker.log_metrics({"loss/d": 1.0}, step=step)
        tracker.finish("KILLED")
        if hours_back or delivered_before:
            courier = make()
            courier.add(run_id, trial)
            assert courier.drain(20) == NOTHING
            assert not (trial / FOLDER).exists()
    found = MlflowClient(uri).get_metric_history(run_id, "loss/d")
    assert [(m.step, m.timestamp) for m in found] == [(n, started // 10**6) for n in (1, 2, 3, 4)]


def test_everything_arrives(
    uri: str,
    run_id: str,
    tmp_path: Path,
    trial: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    tracker = SpoolTracker(trial)
    before = time.time_ns() // 1_000_000
    for step in range(1, 301):
        tracker.log_metrics({"loss/g": step / 4, "loss/d": -float(step)}, step=step)
        if step % 100 == 0:
            tracker.log_image("samples/ema", torch.full((3, 8, 6), step % 256).byte(), step=step)
    tracker.log_image("gray", torch.zeros(1, 4, 4, dtype=torch.uint8), step=0)
    tracker.log_text("a: 1", "config/trial.yaml")
    tracker.set_tags({"stop": "budget", "mlflow.note.content": "fine"})
    tracker.set_tags({"stop": "diverged"})
    logged = time.time_ns() // 1_000_000
    tracker.finish("FINISHED")
    time.sleep(0.05)
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING

    assert _history(uri, run_id, "loss/g") == [(s, s / 4) for s in range(1, 301)]
    assert _history(uri, run_id, "loss/d") == [(s, -float(s)) for s in range(1, 301)]
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["gansweep.stop"] == "diverged"
    assert run.data.tags["mlflow.note.content"] == "fine"
    assert run.data.tags["mlflow.loggedImages"] == "True"
    stamps = [m.timestamp for m in client.get_metric_history(run_id, "loss/g")]
    assert before <= stamps[0] <= stamps[-1] <= logged
    images = [Path(a.path).name for a in client.list_artifacts(run_id, "images")]
    assert len(images) == 8  # each with its small copy
    assert _pictures(uri, run_id) == [
        ("gray", 0), ("samples~ema", 100), ("samples~ema", 200), ("samples~ema", 300),
    ]  # fmt: skip
    root = tmp_path / "mlruns" / "sweep" / run_id / "artifacts"
    assert (root / "config" / "trial.yaml").read_text() == "a: 1"
    from PIL import Image

    (picture,) = root.glob("images/samples~ema+step+200+*.png")
    with Image.open(picture) as opened:
        assert opened.size == (6, 8)
        assert opened.getpixel((0, 0)) == (200, 200, 200)
    assert list(trial.iterdir()) == []  # the spool is gone


def test_non_finite_values(uri: str, run_id: str, trial: Path, make: MakeCourier) -> None:
    tracker = SpoolTracker(trial)
    values = [1.0, math.nan, math.inf, -math.inf, math.nan]
    for step, value in enumerate(values):
        tracker.log_metrics({"loss/g": value}, step=step)
    tracker.finish("FAILED")
    courier = make()
    courier.add(run_id, trial)
    courier.drain()
    stored = _history(uri, run_id, "loss/g")
    assert [step for step, _ in stored] == [0, 1, 2, 3, 4]
    assert [str(v) for _, v in stored] == [
        str(v) for v in (1.0, math.nan, BIGGEST, -BIGGEST, math.nan)
    ]
    assert _status(uri, run_id) == "FAILED"


def test_what_is_written_arrives_while_the_trial_goes_on(
    uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    """Also where the courier knows of the spool before there is one."""
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    tracker = SpoolTracker(trial)
    for step in range(1, 4):
        tracker.log_metrics({"a/b": float(step)}, step=step)
        tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=step)
        tracker.flush()
        _wait(lambda step=step: len(_pictures(uri, run_id)) == step)  # type: ignore[misc]
        assert _history(uri, run_id, "a/b")[-1] == (step, float(step))
    assert courier.drain() == NOTHING
    assert list((trial / FOLDER).glob("*.npy")) == []  # those delivered are not kept
    assert (trial / FOLDER / LINES).exists()  # it has not ended
    tracker.finish("FINISHED")
    assert courier.drain() == NOTHING
    assert _status(uri, run_id) == "FINISHED"
    assert not (trial / FOLDER).exists()


def test_a_look_that_a_shared_disk_refuses_ends_no_delivery(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    real = Path.stat

    def stale(self: Path, **options: Any) -> Any:
        if threading.current_thread().name == "courier" and not looks:
            looks.append(self)
            raise OSError(116, "Stale file handle")
        return real(self, **options)

    tracker = SpoolTracker(trial)
    courier = make(uri, interval_s=0.02)
    monkeypatch.setattr(Path, "stat", stale)
    courier.add(run_id, trial)
    tracker.log_metrics({"loss/d": 1.0}, step=1)
    tracker.flush()
    _wait(lambda: _history(uri, run_id, "loss/d") == [(1, 1.0)])
    assert looks
    tracker.finish("FINISHED")


@pytest.mark.parametrize("what", ["complete_bytes", "count_records"])
@pytest.mark.parametrize("for_good", [True, False])
def test_what_cannot_be_looked_at_is_not_said_to_have_arrived(
    what: str,
    for_good: bool,
    uri: str,
    run_id: str,
    trial: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the end; a passing refusal is waited for."""
    real = getattr(gansweep.tracking.mlflow.delivery, what)
    refused: list[Path] = []

    def stale(lines: Path, *rest: Any) -> Any:
        in_thread = threading.current_thread().name == "courier"
        if not in_thread and (for_good or (what == "complete_bytes" and len(refused) < 2)):
            refused.append(lines)
            raise OSError(116, "Stale file handle")
        return real(lines, *rest)

    courier = make(interval_s=0.02)
    courier.add(run_id, trial)
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"loss/d": 1.0}, step=1)
    tracker.flush()
    monkeypatch.setattr(gansweep.tracking.mlflow.delivery, what, stale)
    if for_good:
        _wait(lambda: _history(uri, run_id, "loss/d") == [(1, 1.0)])
    left = courier.drain(0.3 if for_good else 120)
    if for_good and what == "count_records":  # which tells in the end
        assert left == Backlog(reason="Stale file handle", unread=1)
        assert left.is_something
    else:
        assert left == NOTHING
        assert not left.is_something
    assert bool(refused) == (for_good or what == "complete_bytes")


def test_a_last_look_that_is_refused_ends_no_delivery(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a spool that is over: another time it is removed."""
    looks: list[Path] = []
    real = gansweep.tracking.mlflow.delivery.is_ended

    def stale(lines: Path) -> bool:
        looks.append(lines)
        if len(looks) == 1:
            raise OSError(116, "Stale file handle")
        return real(lines)

    monkeypatch.setattr(gansweep.tracking.mlflow.delivery, "is_ended", stale)
    courier = make(interval_s=0.02)
    courier.add(run_id, trial)
    courier.release(trial)
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"loss/d": 1.0}, step=1)
    tracker.finish("FINISHED")
    _wait(lambda: not (trial / FOLDER).exists())
    assert len(looks) == 2
    assert _status(uri, run_id) == "FINISHED"


def test_many_lines_are_few_calls(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _fails_first(monkeypatch, "log_batch", 0)
    tracker = SpoolTracker(trial)
    for step in range(500):
        tracker.log_metrics({"a/n": 1.0, "a/m": 2.0, "a/o": 3.0}, step=step)
        tracker.set_tags({"g_steps": str(step)})
    tracker.finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    courier.drain()
    assert len(_history(uri, run_id, "a/n")) == 500
    assert MlflowClient(uri).get_run(run_id).data.tags["gansweep.g_steps"] == "499"
    assert len(calls) == 2


def test_more_metrics_in_one_call_than_a_batch_holds(
    uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"a/x": 0.0}, step=0)
    tracker.log_metrics({f"replica/{i}": float(i) for i in range(2500)}, step=1)
    tracker.log_metrics({}, step=2)
    tracker.finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    courier.drain()
    assert len(MlflowClient(uri).get_run(run_id).data.metrics) == 2501


def test_one_courier_delivers_many_trials(
    uri: str, more: Callable[[str], str], tmp_path: Path, make: MakeCourier
) -> None:
    """While each is written to by a process of its own."""
    runs = [more(f"k{i}") for i in range(4)]
    script = """
import sys, time
from pathlib import Path
from gansweep.tracking.spool import SpoolTracker
tracker = SpoolTracker(Path(sys.argv[1]))
for step in range(200):
    tracker.log_metrics({"a/b": float(step), "a/c": step / 2}, step=step)
    if step % 10 == 0: tracker.flush()
    time.sleep(0.002)
tracker.finish("FINISHED")
"""
    courier = make()
    for run in runs:
        courier.add(run, tmp_path / run)
    processes = [subprocess.Popen([sys.executable, "-c", script, tmp_path / run]) for run in runs]
    assert [process.wait(250) for process in processes] == [0] * 4
    assert courier.drain() == NOTHING
    for run in runs:
        assert _history(uri, run, "a/b") == [(s, float(s)) for s in range(200)]
        assert _history(uri, run, "a/c") == [(s, s / 2) for s in range(200)]
        assert _status(uri, run) == "FINISHED"


def test_a_spool_that_is_forgotten_is_left_to_another_courier(
    uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    courier, other = make(), make()
    courier.add(run_id, trial)
    tracker = SpoolTracker(trial)
    _log(tracker, range(4))
    tracker.flush()
    courier.drain()
    courier.forget(trial)
    _log(tracker, range(4, 8))
    tracker.finish("FINISHED")
    assert courier.drain() == NOTHING
    assert _history(uri, run_id, "a/b")[-1] == (3, 3.0)
    other.add(run_id, trial)
    assert other.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(8)]
    assert _pictures(uri, run_id) == [("samples~ema", 0), ("samples~ema", 4)]


def test_a_spool_is_forgotten_once_nothing_of_it_is_on_its_way(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another courier begins then, and delivers the rest alone."""
    calls, go_on = threading.Event(), threading.Event()
    real = MlflowClient.log_image

    def slow(self: MlflowClient, *args: Any, **rest: Any) -> None:
        calls.set()
        assert go_on.wait(120)
        real(self, *args, **rest)

    monkeypatch.setattr(MlflowClient, "log_image", slow)
    courier, other = make(), make()
    tracker = SpoolTracker(trial)
    _log(tracker, range(40))
    tracker.flush()
    courier.add(run_id, trial)
    assert calls.wait(120)
    forgetting = threading.Thread(target=courier.forget, args=(trial,))
    forgetting.start()
    forgetting.join(0.5)
    assert forgetting.is_alive()
    go_on.set()
    forgetting.join(120)
    assert not forgetting.is_alive()
    assert len(_pictures(uri, run_id)) <= 1
    other.add(run_id, trial)
    assert other.drain() == NOTHING
    assert _pictures(uri, run_id) == [("samples~ema", step) for step in range(0, 40, 4)]
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(40)]


def test_a_store_that_hangs_is_not_waited_for_to_forget(
    run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, go_on = threading.Event(), threading.Event()

    def hangs(self: MlflowClient, *args: Any, **rest: Any) -> None:
        calls.set()
        assert go_on.wait(120)

    monkeypatch.setattr(MlflowClient, "log_batch", hangs)
    monkeypatch.setattr(gansweep.tracking.mlflow.courier, "_CLOSE_SECONDS", 0.2)
    courier = make()
    tracker = SpoolTracker(trial)
    _log(tracker, range(4))
    tracker.flush()
    courier.add(run_id, trial)
    assert calls.wait(120)
    began = time.monotonic()
    courier.forget(trial)
    assert 0.1 < time.monotonic() - began < 5
    go_on.set()


# --- once, and in order


def _log(tracker: SpoolTracker, steps: range) -> None:
    for step in steps:
        tracker.log_metrics({"a/b": float(step)}, step=step)
        if step % 4 == 0:
            tracker.log_image("samples/ema", torch.zeros(1, 2, 2).byte(), step=step)


@pytest.mark.parametrize("note", ["lost", "damaged", "behind"])
def test_nothing_is_twice_where_the_note_is_behind(
    note: str, uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    """A process was killed after a delivery and before its note."""
    tracker = SpoolTracker(trial)
    _log(tracker, range(10))
    tracker.flush()
    behind = trial / FOLDER / NOTE
    kept = {path: path.read_bytes() for path in (trial / FOLDER).glob("*.npy")}
    first = make()
    first.add(run_id, trial)
    early = behind.read_bytes()
    first.drain()
    first.close()
    for path, data in kept.items():
        path.write_bytes(data)
    if note == "lost":
        behind.unlink()
    else:
        behind.write_bytes(early if note == "behind" else b"{")
    _log(tracker, range(10, 14))
    tracker.finish("FINISHED")
    second = make()
    second.add(run_id, trial)
    assert second.backlog().records == 14 + 4 + 1
    assert second.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(14)]
    assert _pictures(uri, run_id) == [("samples~ema", s) for s in (0, 12, 4, 8)] or _pictures(
        uri, run_id
    ) == [("samples~ema", s) for s in (0, 4, 8, 12)]
    assert not (trial / FOLDER).exists()


def test_another_run_has_nothing_yet(
    uri: str, run_id: str, more: Callable[[str], str], trial: Path, make: MakeCourier
) -> None:
    """The first one was deleted, say, or is in another store: what lies here is all for it."""
    tracker = SpoolTracker(trial)
    _log(tracker, range(6))
    tracker.flush()
    first = make()
    first.add(run_id, trial)
    assert first.drain() == NOTHING
    first.close()
    _log(tracker, range(6, 8))
    tracker.finish("FINISHED")
    other = more("other")
    second = make()
    second.add(other, trial)
    second.drain()
    assert _history(uri, other, "a/b") == [(s, float(s)) for s in range(8)]


def test_what_is_noted_is_not_sent_again(
    run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process, of a trial that goes on."""
    texts = _fails_first(monkeypatch, "log_text", 0)
    tracker = SpoolTracker(trial)
    for text in "ab":
        _log(tracker, range(10))
        tracker.log_text(text, f"{text}.txt")
        tracker.flush()
        courier = make()
        courier.add(run_id, trial)
        assert courier.backlog().records == 14
        assert courier.drain() == NOTHING
        courier.close()
    assert len(texts) == 2
    assert noted_run(trial) == run_id


@pytest.mark.parametrize("meanwhile", [True, False])
def test_a_trial_that_comes_by_the_same_steps_again_has_each_once(
    meanwhile: bool, uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    """It went to step 9, its checkpoint was of step 6. Delivered `meanwhile`, or all at once."""
    courier = make()
    if meanwhile:
        courier.add(run_id, trial)
    first = SpoolTracker(trial)
    _log(first, range(10))
    first.flush()
    if meanwhile:
        courier.drain()
    with (trial / FOLDER / LINES).open("a") as file:
        file.write('{"v":1,"torn')
    second = SpoolTracker(trial)
    _log(second, range(7, 15))
    second.finish("FINISHED")
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(15)]
    assert _pictures(uri, run_id) == [("samples~ema", s) for s in (0, 4, 8, 12)]


def test_an_end_is_none_where_the_trial_went_on(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = _fails_first(monkeypatch, "set_terminated", 0)
    SpoolTracker(trial).finish("KILLED")
    again = SpoolTracker(trial)
    again.log_metrics({"a/b": 1.0}, step=1)
    again.flush()
    courier = make()
    courier.add(run_id, trial)
    courier.drain()
    assert (len(ends), _status(uri, run_id)) == (0, "RUNNING")
    again.finish("FINISHED")
    courier.drain()
    assert (len(ends), _status(uri, run_id)) == (1, "FINISHED")


def test_a_torn_line_is_waited_for_by_nobody(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    courier = make()
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.flush()
    with (trial / FOLDER / LINES).open("a") as file:
        file.write('{"v":1,"torn')
    courier.add(run_id, trial)
    start = time.monotonic()
    assert courier.drain(120) == NOTHING
    assert time.monotonic() - start < 15
    advance = courier._advance
    monkeypatch.setattr(courier, "_advance", lambda each: (looks.append(1), advance(each)))
    time.sleep(0.5)
    assert len(looks) <= 1
    again = SpoolTracker(trial)
    again.log_metrics({"a/b": 2.0}, step=2)
    again.finish("FINISHED")
    assert courier.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(1, 1.0), (2, 2.0)]


def test_a_failing_store_loses_nothing_and_keeps_order(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[int]] = []
    original = MlflowClient.log_batch

    def log_batch(self: MlflowClient, run_id: str, metrics: Any = (), **rest: Any) -> Any:
        batches.append([m.step for m in metrics])
        if len(batches) <= 3:
            raise MlflowException("database is locked", error_code=INTERNAL_ERROR)
        if len(batches) == 4:  # stored, but the answer gets lost
            original(self, run_id, metrics=metrics, **rest)
            raise ConnectionResetError("the server went away")
        return original(self, run_id, metrics=metrics, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    images = _fails_first(monkeypatch, "log_image", 2)
    ends = _fails_first(monkeypatch, "set_terminated", 1)
    courier = make()
    courier.add(run_id, trial)
    tracker = SpoolTracker(trial)
    for step in range(200):
        tracker.log_metrics({"a/b": float(step)}, step=step)
        if step == 150:
            tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=step)
        if step % 20 == 0:
            tracker.flush()
            time.sleep(0.05)
    tracker.finish("FINISHED")
    assert courier.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(200)]
    assert all(batches[i][: len(batches[0])] == batches[0] for i in range(4))
    delivered = [step for batch in batches[4:] for step in batch]
    assert delivered[-1] == 199
    assert delivered == sorted(set(delivered))
    assert (len(images), len(ends)) == (3, 2)
    assert _status(uri, run_id) == "FINISHED"


# --- while the store is away


def test_an_outage_costs_a_trial_nothing_and_all_arrives_afterwards(
    uri: str,
    store: MlflowStore,
    run_id: str,
    more: Callable[[str], str],
    tmp_path: Path,
    make: MakeCourier,
) -> None:
    """Another process has the database for itself."""
    runs = [run_id, more("k1"), more("k2")]
    courier = make()
    trackers = []
    for run in runs:
        courier.add(run, tmp_path / run)
        trackers.append(SpoolTracker(tmp_path / run))
        trackers[-1].log_metrics({"a/b": 0.0}, step=0)
        trackers[-1].flush()
    assert courier.drain() == NOTHING
    path = sqlite_file(uri)
    assert path
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        longest = 0.0
        for step in range(1, 200):
            for tracker in trackers:
                start = time.monotonic()
                tracker.log_metrics({"a/b": float(step)}, step=step)
                if step % 10 == 0:
                    tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=step)
                    tracker.flush()
                longest = max(longest, time.monotonic() - start)
            time.sleep(0.005)
        start = time.monotonic()
        for tracker in trackers:
            tracker.finish("FINISHED")
        longest = max(longest, time.monotonic() - start)
        left = courier.drain(0.3)
        other.execute("ROLLBACK")
    assert longest < 1.0
    assert (left.records, left.runs) == (3 * (199 + 19 + 1), 3)
    assert courier.drain() == NOTHING
    for run in runs:
        assert _history(uri, run, "a/b") == [(s, float(s)) for s in range(200)]
        assert _pictures(uri, run) == [("x", s) for s in range(10, 200, 10)]
        assert _status(uri, run) == "FINISHED"


def test_a_dead_store_is_asked_ever_more_rarely_and_given_up(
    uri: str,
    run_id: str,
    more: Callable[[str], str],
    tmp_path: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = [run_id, more("k1")]
    calls = _fails_first(monkeypatch, "log_batch", math.inf)
    courier = make()
    for run in runs:
        tracker = SpoolTracker(tmp_path / run)
        tracker.log_metrics({"a/b": 1.0}, step=1)
        tracker.finish("FINISHED")
        courier.add(run, tmp_path / run)
    _wait(lambda: len(calls) > 1)
    start = time.monotonic()
    left = courier.drain(1.0)
    assert 0.9 < time.monotonic() - start < 6
    assert left == Backlog(4, 2, "INTERNAL_ERROR: database is locked") or (
        left == Backlog(4, 2, "database is locked")
    )
    assert len(calls) < 12
    assert _status(uri, run_id) == "RUNNING"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    start = time.monotonic()
    courier.close()
    assert time.monotonic() - start < 4
    monkeypatch.undo()
    later = make()  # by another process, say
    for run in runs:
        later.add(noted_run(tmp_path / run), tmp_path / run)
    assert later.backlog().records == 4
    assert later.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(1, 1.0)]


def test_a_missing_database_is_not_made(tmp_path: Path, make: MakeCourier) -> None:
    courier = make(f"sqlite:///{tmp_path}/far/mlflow.db")
    SpoolTracker(tmp_path / "trial").finish("FINISHED")
    courier.add("0" * 32, tmp_path / "trial")
    _wait(lambda: bool(courier.backlog().reason))
    left = courier.drain(0.1)
    assert left.records == 1
    assert "is not on this machine" in left.reason
    assert not (tmp_path / "far").exists()


def test_mlflow_neither_sleeps_nor_waits_for_minutes_by_itself(
    run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a user's own setting counts."""
    own, ours = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.setenv(own, "7")
    monkeypatch.setenv(ours, "120")
    monkeypatch.delenv(ours)
    SpoolTracker(trial).finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    assert (os.environ[own], os.environ[ours]) == ("7", "20")


def test_an_end_of_patience_is_kept_whatever_the_progress(
    run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = SpoolTracker(trial)
    for i in range(40):
        tracker.log_text("", f"text{i}")
    tracker.finish("FINISHED")
    real, hurry = MlflowClient.log_text, threading.Event()

    def slow(*args: Any) -> None:
        hurry.wait(0.5)
        real(*args)

    monkeypatch.setattr(MlflowClient, "log_text", slow)
    courier = make()
    courier.add(run_id, trial)
    start = time.monotonic()
    assert courier.drain(within_s=1.0).records > 0
    assert 0.9 < time.monotonic() - start < 3
    hurry.set()
    assert courier.drain() == NOTHING


def test_who_waits_for_a_long_spool_waits_for_no_rests(
    run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A courier takes 1 MiB at a time, and rests for most of the time else."""
    monkeypatch.setattr("gansweep.tracking.mlflow.courier._LONGEST_REST_SECONDS", 100.0)
    monkeypatch.setattr("gansweep.tracking.mlflow.courier._MOST_OF_THE_TIME", 1e-6)
    tracker = SpoolTracker(trial)
    for i in range(4):
        tracker.log_text("x" * 2**20, f"text{i}")
    tracker.finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    start = time.monotonic()
    assert courier.drain() == NOTHING
    assert time.monotonic() - start < 8


# --- what is refused


def test_a_malformed_metric_costs_only_itself(
    uri: str, run_id: str, trial: Path, make: MakeCourier, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = SpoolTracker(trial)
    for step in range(50):
        tracker.log_metrics({"a/b": float(step)}, step=step)
    tracker.log_metrics({"bad?name*": 1.0, "a/c": 5.0}, step=50)
    tracker.set_tags({"fine": "yes", "bad\nname": "no"})
    tracker.log_image("bad?key", torch.zeros(1, 2, 2).byte(), step=50)
    tracker.log_metrics({"a/b": 51.0}, step=51)
    tracker.finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    steps = [*range(50), 51]
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in steps]
    assert _history(uri, run_id, "a/c") == [(50, 5.0)]
    assert MlflowClient(uri).get_run(run_id).data.tags["gansweep.fine"] == "yes"
    assert caplog.text.count("dropped") == 1
    assert "bad" in caplog.text
    assert _status(uri, run_id) == "FINISHED"


def test_an_unreadable_line_or_picture_costs_only_itself(
    uri: str, run_id: str, trial: Path, make: MakeCourier, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = SpoolTracker(trial)
    tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=1)
    (picture,) = (trial / FOLDER).glob("*.npy")
    picture.write_bytes(b"torn")
    tracker.flush()
    with (trial / FOLDER / LINES).open("a") as file:
        file.write("what is this?\n")
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    assert _history(uri, run_id, "a/b") == [(1, 1.0)]
    assert _pictures(uri, run_id) == []
    assert caplog.text.count("dropped") == 1


def test_a_picture_that_a_shared_disk_refuses_once_is_not_lost(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    real = np.load

    def stale(*arguments: Any, **rest: Any) -> Any:
        reads.append(arguments)
        if len(reads) == 1:
            raise OSError(116, "Stale file handle")
        return real(*arguments, **rest)

    monkeypatch.setattr(np, "load", stale)
    tracker = SpoolTracker(trial)
    _log(tracker, range(8))
    tracker.finish("FINISHED")
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    assert _pictures(uri, run_id) == [("samples~ema", 0), ("samples~ema", 4)]
    assert len(reads) == 3


def test_pictures_that_the_run_may_have_are_not_sent_before_that_is_known(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed before its note, and the artifacts are away as the next one begins."""
    tracker = SpoolTracker(trial)
    _log(tracker, range(8))
    tracker.flush()
    kept = {path: path.read_bytes() for path in (trial / FOLDER).glob("*")}
    first = make()
    first.add(run_id, trial)
    first.drain()
    first.close()
    for path, data in kept.items():
        path.write_bytes(data)
    (trial / FOLDER / NOTE).unlink()
    listings = _fails_first(monkeypatch, "list_artifacts", 2)
    second = make()
    second.add(run_id, trial)
    assert second.drain() == NOTHING
    monkeypatch.undo()
    assert len(listings) == 3
    assert _pictures(uri, run_id) == [("samples~ema", 0), ("samples~ema", 4)]
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(8)]


def test_a_run_without_pictures_is_not_searched_for_them(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search takes as long as a picture."""
    tracker = SpoolTracker(trial)
    _log(tracker, range(8))
    tracker.flush()
    listings = _fails_first(monkeypatch, "list_artifacts", 0)
    courier = make()
    courier.add(run_id, trial)
    assert courier.drain() == NOTHING
    assert listings == []
    assert _pictures(uri, run_id) == [("samples~ema", 0), ("samples~ema", 4)]


def test_a_first_picture_whose_delivery_was_killed_is_not_sent_again(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files were there, and MLflow had not yet tagged the run as one with pictures."""
    tracker = SpoolTracker(trial)
    _log(tracker, range(1))
    tracker.flush()
    kept = {path: path.read_bytes() for path in (trial / FOLDER).glob("*")}
    killed = threading.Event()
    log_image = MlflowClient.log_image

    def is_killed(self: MlflowClient, *args: Any, **rest: Any) -> None:
        def at_its_tag(*_: Any) -> None:
            killed.set()
            sys.exit()  # from the courier's thread

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_tag", at_its_tag)
            log_image(self, *args, **rest)

    monkeypatch.setattr(MlflowClient, "log_image", is_killed)
    first = make()
    first.add(run_id, trial)
    assert killed.wait(120)
    first.close()
    monkeypatch.undo()
    assert _pictures(uri, run_id) == [("samples~ema", 0)]
    for path, data in kept.items():
        path.write_bytes(data)
    second = make()
    second.add(run_id, trial)
    assert second.drain() == NOTHING
    assert _pictures(uri, run_id) == [("samples~ema", 0)]


@pytest.mark.parametrize("gone", ["deleted", "unknown"])
def test_a_run_that_is_gone_holds_up_no_other(
    gone: str,
    uri: str,
    run_id: str,
    more: Callable[[str], str],
    tmp_path: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = _fails_first(monkeypatch, "log_batch", 0)
    lost = more("lost") if gone == "deleted" else "0" * 32
    if gone == "deleted":
        MlflowClient(uri).delete_run(lost)
    courier = make()
    for run in (lost, run_id):
        tracker = SpoolTracker(tmp_path / run)
        for step in range(3000):
            tracker.log_metrics({"a/b": float(step)}, step=step)
        tracker.finish("FINISHED")
        courier.add(run, tmp_path / run)
    start = time.monotonic()
    assert courier.drain() == NOTHING
    assert time.monotonic() - start < 60
    assert len(_history(uri, run_id, "a/b")) == 3000
    assert _status(uri, run_id) == "FINISHED"
    assert caplog.text.count("dropped") == 1
    assert len(calls) < 1000  # not one a metric: it is known to be gone
    assert not (tmp_path / lost / FOLDER).exists()


def test_a_run_with_a_trouble_of_its_own_holds_up_no_other(
    uri: str,
    run_id: str,
    more: Callable[[str], str],
    tmp_path: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the store has against it, and however often it is asked."""
    bad = more("bad")
    original = MlflowClient.log_batch
    tries: list[int] = []
    mended = threading.Event()

    def log_batch(self: MlflowClient, run: str, *args: Any, **rest: Any) -> Any:
        if run == bad and not mended.is_set():
            tries.append(1)
            raise MlflowException("a lock of its own", error_code=INTERNAL_ERROR)
        return original(self, run, *args, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    courier = make()
    trackers = {run: SpoolTracker(tmp_path / run) for run in (bad, run_id)}
    for run in trackers:
        courier.add(run, tmp_path / run)
    for step in range(20):
        for tracker in trackers.values():
            tracker.log_metrics({"a/b": float(step)}, step=step)
            tracker.flush()
        if step < 5:
            _wait(lambda step=step: len(_history(uri, run_id, "a/b")) == step + 1)  # type: ignore[misc]
            assert _history(uri, bad, "a/b") == []
    for tracker in trackers.values():
        tracker.finish("FINISHED")
    _wait(lambda: len(tries) >= 3)
    mended.set()
    assert courier.drain() == NOTHING
    for run in trackers:
        assert _history(uri, run, "a/b") == [(s, float(s)) for s in range(20)]


def test_artifacts_that_cannot_be_stored_do_not_hold_up_metrics(
    uri: str,
    run_id: str,
    tmp_path: Path,
    trial: Path,
    make: MakeCourier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "mlruns").write_text("a file where the artifacts' folder should be")
    tracker = SpoolTracker(trial)
    for step in range(3):
        tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=step)
        tracker.log_metrics({"a/b": float(step)}, step=step)
    tracker.finish("FINISHED")
    courier = make(artifact_patience_s=1.0)
    courier.add(run_id, trial)
    start = time.monotonic()
    assert courier.drain(60) == NOTHING
    assert 1.0 < time.monotonic() - start < 15
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(3)]
    assert caplog.text.count("dropped") == 1
    assert _status(uri, run_id) == "FINISHED"


def test_artifacts_wait_while_the_store_itself_is_away(
    uri: str, run_id: str, trial: Path, make: MakeCourier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short the patience with them."""
    courier = make(artifact_patience_s=0.0)
    courier.add(run_id, trial)
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"a/b": 1.0}, step=0)
    tracker.flush()
    assert courier.drain() == NOTHING
    tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=1)
    with monkeypatch.context() as patch:
        _fails_first(patch, "log_image", math.inf)
        tries = _fails_first(patch, "get_run", math.inf)
        tracker.flush()
        assert courier.drain(0.2).records == 1
        _wait(lambda: len(tries) > 1)
        assert courier.backlog().records == 1
    tracker.finish("FINISHED")
    assert courier.drain() == NOTHING
    assert _pictures(uri, run_id) == [("x", 1)]


# --- the threads


def test_to_a_server_several_spools_are_delivered_at_a_time(
    uri: str,
    more: Callable[[str], str],
    tmp_path: Path,
    make: MakeCourier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two that wrote to a database of this machine would wait for each other."""
    assert (Courier(uri)._at_once, Courier("http://h:5000")._at_once) == (1, 8)
    courier, runs = make(), [more(str(i)) for i in range(3)]
    courier._at_once = 3
    met, advance = threading.Barrier(3, timeout=60), Delivery.advance

    def together(delivery: Delivery, client: Any) -> Iterator[None]:
        met.wait()
        yield from advance(delivery, client)

    monkeypatch.setattr(Delivery, "advance", together)
    with courier._changed:  # it looks once all is there
        for run in runs:
            courier.add(run, tmp_path / run)
            tracker = SpoolTracker(tmp_path / run)
            tracker.log_metrics({"a/b": 1.0}, step=1)
            tracker.finish("FINISHED")
    assert courier.drain() == NOTHING
    assert [_history(uri, run, "a/b") for run in runs] == [[(1, 1.0)]] * 3
    assert [_status(uri, run) for run in runs] == ["FINISHED"] * 3


def test_one_thread_one_client_and_no_work_where_nothing_happens(
    uri: str, more: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gansweep.tracking.mlflow.courier as module

    clients: list[str] = []
    opened = module.open_client
    monkeypatch.setattr(module, "open_client", lambda u: (clients.append(u), opened(u))[1])
    before = threading.active_count()
    courier = Courier(uri, interval_s=0.05)
    assert threading.active_count() == before
    for i in range(5):
        run = more(str(i))
        courier.add(run, tmp_path / run)
        tracker = SpoolTracker(tmp_path / run)
        tracker.log_metrics({"a/b": 1.0}, step=1)
        tracker.flush()
    courier.drain()
    assert threading.active_count() == before + 1
    assert clients == [uri]
    advanced: list[object] = []
    monkeypatch.setattr(courier, "_advance", advanced.append)
    begun = time.process_time()
    time.sleep(1)
    assert time.process_time() - begun < 0.2
    assert advanced == []
    courier.close()
    assert threading.active_count() == before
    shutil.rmtree(tmp_path / run)


def test_importing_it_imports_neither_mlflow_nor_torch() -> None:
    script = "import sys, gansweep.tracking.mlflow; print({'mlflow', 'torch'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_the_spool_of_a_trial_that_will_not_go_on_is_looked_at_no_more(
    uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    """Nobody drains for it: a sweep has many trials, and few at a time."""
    courier = make()
    courier.add(run_id, trial)
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.finish("FINISHED")
    _wait(lambda: _status(uri, run_id) == "FINISHED")
    assert list(courier._deliveries) == [trial]  # it may go on, for all that is known
    courier.release(trial)
    _wait(lambda: not courier._deliveries)
    assert list(trial.iterdir()) == []
    assert _history(uri, run_id, "a/b") == [(1, 1.0)]
    courier.release(trial)  # no harm
    assert courier.drain() == NOTHING


def test_what_is_released_is_delivered_first(
    uri: str, run_id: str, trial: Path, make: MakeCourier
) -> None:
    courier = make()
    tracker = SpoolTracker(trial)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.flush()
    courier.add(run_id, trial)
    courier.release(trial)  # without an end: its worker died
    _wait(lambda: _history(uri, run_id, "a/b") == [(1, 1.0)])
    assert courier.drain() == NOTHING
    assert list(courier._deliveries) == [trial]  # who settles the run sees to it
