from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.tracking import MlflowClient

from gansweep.tracking.mlflow import MlflowStore, MlflowTracker

BIGGEST = sys.float_info.max


def _history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in MlflowClient(uri).get_metric_history(run_id, name)]


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


def test_everything_arrives(
    uri: str, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    tracker = MlflowTracker(uri, run_id)
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
    tracker.finish("FAILED")  # the second says nothing

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
    whole = [name.split("+")[0:3:2] for name in images if name.endswith(".png")]
    expected = [["gray", "0"], *(["samples~ema", str(s)] for s in (100, 200, 300))]
    assert sorted(whole) == expected
    assert len(images) == 8  # each with its small copy
    root = tmp_path / "mlruns" / "sweep" / run_id / "artifacts"
    assert (root / "config" / "trial.yaml").read_text() == "a: 1"
    from PIL import Image

    (picture,) = root.glob("images/samples~ema+step+200+*.png")
    with Image.open(picture) as opened:
        assert opened.size == (6, 8)
        assert opened.getpixel((0, 0)) == (200, 200, 200)


def test_an_image_is_copied_and_judged_at_once(uri: str, run_id: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(uri, run_id)
    image = torch.full((1, 2, 2), 7, dtype=torch.uint8)
    tracker.log_image("x", image, step=1)
    image.zero_()
    bad = [torch.zeros(2, 2), torch.zeros(4, 2, 2).byte(), torch.zeros(3, 2, 2)]
    for wrong in bad:
        with pytest.raises(ValueError, match="an image is uint8"):
            tracker.log_image("x", wrong, step=1)
    tracker.finish("FINISHED")
    from PIL import Image

    (picture,) = (tmp_path / "mlruns" / "sweep" / run_id).glob("artifacts/images/*.png")
    with Image.open(picture) as opened:
        assert opened.getpixel((0, 0)) == 7


def test_non_finite_values(uri: str, run_id: str) -> None:
    tracker = MlflowTracker(uri, run_id)
    values = [1.0, math.nan, math.inf, -math.inf, math.nan]
    for step, value in enumerate(values):
        tracker.log_metrics({"loss/g": value}, step=step)
    tracker.finish("FAILED")
    stored = _history(uri, run_id, "loss/g")
    assert [step for step, _ in stored] == [0, 1, 2, 3, 4]
    assert [str(v) for _, v in stored] == [
        str(v) for v in (1.0, math.nan, BIGGEST, -BIGGEST, math.nan)
    ]
    assert MlflowClient(uri).get_run(run_id).info.status == "FAILED"


def test_flush_stores_and_a_run_can_go_on(uri: str, store: MlflowStore, run_id: str) -> None:
    first = MlflowTracker(uri, run_id, interval_s=3600)
    first.flush()
    first.log_metrics({"a/b": 1.0}, step=1)
    time.sleep(0.05)
    assert _history(uri, run_id, "a/b") == []
    first.flush()
    assert _history(uri, run_id, "a/b") == [(1, 1.0)]
    first.finish("KILLED")
    store.settle(run_id, "RUNNING")
    second = MlflowTracker(uri, run_id)
    second.log_metrics({"a/b": 2.0}, step=2)
    second.finish("FINISHED")
    assert _history(uri, run_id, "a/b") == [(1, 1.0), (2, 2.0)]


def test_delivers_by_time_and_by_number(
    uri: str, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _fails_first(monkeypatch, "log_batch", 0)
    by_time = MlflowTracker(uri, run_id, interval_s=0.3)
    by_number = MlflowTracker(uri, run_id, interval_s=3600)
    by_time.log_metrics({"a/time": 1.0}, step=1)
    for step in range(500):
        by_number.log_metrics({"a/n": 1.0, "a/m": 2.0, "a/o": 3.0}, step=step)
    limit = time.monotonic() + 20
    while time.monotonic() < limit and len(calls) < 3:
        time.sleep(0.05)
    by_time.finish("FINISHED")
    by_number.finish("FINISHED")
    assert len(_history(uri, run_id, "a/time")) == 1
    assert len(_history(uri, run_id, "a/n")) == 500
    assert len(calls) == 3  # 1, and 1500 metrics in two calls


def test_more_metrics_in_one_call_than_a_batch_holds(uri: str, run_id: str) -> None:
    tracker = MlflowTracker(uri, run_id)
    tracker.log_metrics({"a/x": 0.0}, step=0)
    tracker.log_metrics({f"replica/{i}": float(i) for i in range(2500)}, step=1)
    tracker.log_metrics({}, step=2)
    tracker.finish("FINISHED")
    assert len(MlflowClient(uri).get_run(run_id).data.metrics) == 2501


def test_a_failing_store_loses_nothing_and_keeps_order(
    uri: str, run_id: str, monkeypatch: pytest.MonkeyPatch
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
    tracker = MlflowTracker(uri, run_id, interval_s=0.01)
    for step in range(200):
        tracker.log_metrics({"a/b": float(step)}, step=step)
        if step == 150:
            tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=step)
        time.sleep(0.002)
    tracker.finish("FINISHED")
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(200)]
    assert batches[0] == batches[1] == batches[2] == batches[3] == batches[4]
    delivered = [step for batch in batches[4:] for step in batch]
    assert delivered == list(range(200))
    assert (len(images), len(ends)) == (3, 2)
    assert MlflowClient(uri).get_run(run_id).info.status == "FINISHED"


def test_a_dead_store_never_raises_and_is_given_up(
    uri: str, run_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _fails_first(monkeypatch, "log_batch", math.inf)
    tracker = MlflowTracker(uri, run_id, patience_s=1.0)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    start = time.monotonic()
    tracker.flush()
    waited = time.monotonic() - start
    tracker.log_metrics({"a/b": 2.0}, step=2)
    start = time.monotonic()
    tracker.flush()  # the patience is spent already
    assert time.monotonic() - start < 0.2
    start = time.monotonic()
    tracker.finish("FINISHED")
    assert 0.8 < waited < 6
    assert 0.8 < time.monotonic() - start < 3
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "2 calls and the status FINISHED are not stored: database is locked" in warnings[0]
    assert MlflowClient(uri).get_run(run_id).info.status == "RUNNING"


def test_a_missing_database_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = MlflowTracker(f"sqlite:///{tmp_path}/far/mlflow.db", "0" * 32, patience_s=0.5)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.finish("FINISHED")
    assert list(tmp_path.iterdir()) == []
    assert "is not on this machine" in caplog.text


def test_a_malformed_metric_costs_only_itself(
    uri: str, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(uri, run_id)
    for step in range(50):
        tracker.log_metrics({"a/b": float(step)}, step=step)
    tracker.log_metrics({"bad?name*": 1.0, "a/c": 5.0}, step=50)
    tracker.log_image("bad?key", torch.zeros(1, 2, 2).byte(), step=50)
    tracker.log_metrics({"a/b": 51.0}, step=51)
    tracker.finish("FINISHED")
    steps = [*range(50), 51]
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in steps]
    assert _history(uri, run_id, "a/c") == [(50, 5.0)]
    assert caplog.text.count("dropped") == 1
    assert "bad?name*" in caplog.text
    assert MlflowClient(uri).get_run(run_id).info.status == "FINISHED"


def test_artifacts_that_cannot_be_stored_do_not_hold_up_metrics(
    uri: str, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mlruns").write_text("a file where the artifacts' folder should be")
    tracker = MlflowTracker(uri, run_id, patience_s=2.0)
    for step in range(3):
        tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=step)
        tracker.log_metrics({"a/b": float(step)}, step=step)
    tracker.finish("FINISHED")
    assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(3)]
    assert caplog.text.count("dropped") == 1
    assert MlflowClient(uri).get_run(run_id).info.status == "FINISHED"


def test_after_finish_it_only_warns(
    uri: str, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(uri, run_id)
    tracker.finish("FINISHED")
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.flush()
    assert "logged after finish" in caplog.text
    assert _history(uri, run_id, "a/b") == []


def test_many_processes_write_to_one_database(uri: str, store: MlflowStore) -> None:
    number = store.experiment("sweep")
    parent = store.parent_run(number, "sweep")
    runs = [store.trial_run(number, parent, f"k{i}", f"t{i}", {}) for i in range(6)]
    script = """
import sys, time
from gansweep.tracking.mlflow import MlflowTracker
tracker = MlflowTracker(sys.argv[1], sys.argv[2], interval_s=0.02)
for step in range(200):
    tracker.log_metrics({"a/b": float(step), "a/c": step / 2}, step=step)
    time.sleep(0.002)
tracker.finish("FINISHED")
"""
    processes = [subprocess.Popen([sys.executable, "-c", script, uri, run_id]) for run_id in runs]
    assert [process.wait(60) for process in processes] == [0] * 6
    for run_id in runs:
        assert _history(uri, run_id, "a/b") == [(s, float(s)) for s in range(200)]
        assert _history(uri, run_id, "a/c") == [(s, s / 2) for s in range(200)]
    assert [t.status for t in store.trials("sweep")] == ["FINISHED"] * 6


def test_importing_it_imports_neither_mlflow_nor_torch() -> None:
    script = "import sys, gansweep.tracking.mlflow; print({'mlflow', 'torch'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
