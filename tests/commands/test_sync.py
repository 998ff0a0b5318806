from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from sweep_files import TEXT, load, text

import gansweep.commands.sync as gansweep_sync
from gansweep import ownership
from gansweep.commands.home import find_home
from gansweep.commands.sync import Synced, deliver_spools
from gansweep.ownership import FOLDER, sole_use
from gansweep.progress import RUN_STATUS, TrialResult
from gansweep.sweep import startup
from gansweep.sweep.plan import Plan
from gansweep.sweep.trials import planned
from gansweep.tracking.base import Tracker
from gansweep.tracking.mlflow import Backlog, Courier, MlflowStore
from gansweep.tracking.spool import SpoolTracker, spools

Gansweep = Callable[..., tuple[int, str, str]]

PATIENCE = 0.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a sweep, two of whose trials were recorded while the store was away."""
    return tmp_path / "work" / "runs" / "small"


@pytest.fixture
def plan(tmp_path: Path, folder: Path, store: MlflowStore) -> Plan:
    experiment = store.experiment("small")
    plan = Plan(folder / "plan.json", "small")
    for i, trial in enumerate(planned(load(tmp_path, TEXT))[:2]):
        entry = plan.add(trial)
        entry.run_id = store.trial_run(experiment, None, trial.key, trial.name, {})
        entry.state, entry.reason = ("completed", "") if i == 0 else ("failed", "its worker died")
        tracker = SpoolTracker(folder / "trials" / trial.key)
        tracker.set_tags({"state": "running"})
        for step in range(10):
            tracker.log_metrics({"a/b": float(step)}, step=step)
        if i == 0:
            tracker.set_tags({"state": "completed"})
            tracker.finish("FINISHED")
        else:
            tracker.flush()
    plan.save()
    return plan


def state(store: MlflowStore, run_id: str) -> tuple[str, str, str, int]:
    client = MlflowClient(store.uri)
    run = client.get_run(run_id)
    tags = run.data.tags
    steps = [metric.step for metric in client.get_metric_history(run_id, "a/b")]
    assert steps == list(range(len(steps)))
    return run.info.status, tags["gansweep.state"], tags.get("gansweep.reason", ""), len(steps)


def test_what_lies_undelivered_is_delivered_and_settled(
    gansweep: Gansweep, folder: Path, plan: Plan, store: MlflowStore
) -> None:
    code, out, err = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert (code, err) == (0, "")
    assert out.splitlines() == ["small: delivered 24 records of 2 trials"]
    good, bad = plan.entries.values()
    assert state(store, good.run_id) == ("FINISHED", "completed", "", 10)
    assert state(store, bad.run_id) == ("FAILED", "failed", "its worker died", 10)
    assert spools(folder / "trials") == [folder / "trials" / bad.key]  # it may go on
    before = [MlflowClient(store.uri).get_run(e.run_id).to_dictionary() for e in (good, bad)]
    code, out, _ = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert (code, out) == (0, "small: everything is in MLflow\n")
    after = [MlflowClient(store.uri).get_run(e.run_id).to_dictionary() for e in (good, bad)]
    assert after == before


def test_a_trial_whose_command_was_killed_trains_no_more(
    gansweep: Gansweep, plan: Plan, store: MlflowStore
) -> None:
    _, other = plan.entries.values()
    other.state, other.reason = "running", ""
    plan.save()
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
    why = "its command was killed"
    assert state(store, other.run_id) == ("KILLED", "interrupted", why, 10)
    kept = Plan.load(plan.path, "small").entries[other.key]
    assert (kept.state, kept.reason) == ("interrupted", why)


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("completed", "stopped"), "FINISHED"),
        (("completed", "failed"), "FAILED"),
        (("failed", "interrupted"), "KILLED"),
        (("completed", "waiting"), "KILLED"),
    ],
)
@pytest.mark.parametrize("delivered", [False, True])
def test_a_sweep_whose_end_the_store_missed_is_ended(
    states: tuple[Any, Any],
    status: str,
    delivered: bool,
    gansweep: Gansweep,
    folder: Path,
    plan: Plan,
    store: MlflowStore,
) -> None:
    """Also where all records had arrived before it went away; a second time changes nothing."""
    parent = store.parent_run(store.experiment("small"), "small")
    if delivered:
        assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
        store.settle(parent, "RUNNING")
        for trial in spools(folder / "trials"):
            shutil.rmtree(trial / "spool")
        for entry in plan.entries.values():
            store.settle(entry.run_id, "RUNNING")
    for entry, state in zip(plan.entries.values(), states, strict=True):
        entry.state = state
    plan.save()
    client = MlflowClient(store.uri)
    assert client.get_run(parent).info.status == "RUNNING"
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
    ended = client.get_run(parent).info
    assert ended.status == status
    for entry in plan.entries.values():
        expected = RUN_STATUS.get(entry.state, "RUNNING")
        assert client.get_run(entry.run_id).info.status == expected
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
    assert client.get_run(parent).info.end_time == ended.end_time


def test_a_trial_that_waits_for_a_longer_budget_is_as_it_ended(
    gansweep: Gansweep, plan: Plan, store: MlflowStore
) -> None:
    """Its run says so until it is taken up; so is one that waits to be tried again."""
    good, bad = plan.entries.values()
    good.g_steps = good.budget
    for budget, expected in ((9, "waiting"), (9, "waiting"), (5, "completed")):
        for entry in (good, bad):
            entry.take_up(budget, retry_failed=expected == "waiting")
        assert good.state == expected
        plan.save()
        assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
        assert state(store, good.run_id) == ("FINISHED", "completed", "", 10)
        assert state(store, bad.run_id)[1] == "running"  # its worker died, it never said so


def test_a_sweep_of_which_trials_were_never_drawn_is_not_finished(
    gansweep: Gansweep, plan: Plan, store: MlflowStore
) -> None:
    parent = store.parent_run(store.experiment("small"), "small")
    for entry in plan.entries.values():
        entry.state = "completed"
    plan.size = len(plan.entries) + 1
    plan.save()
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
    assert MlflowClient(store.uri).get_run(parent).info.status == "KILLED"


def test_what_the_file_means_no_more_does_not_keep_a_sweep_from_its_end(
    gansweep: Gansweep, plan: Plan, store: MlflowStore
) -> None:
    """All the same it is delivered, and its run is settled."""
    parent = store.parent_run(store.experiment("small"), "small")
    _, other = plan.entries.values()
    other.state = "interrupted"
    plan.mean(plan.entries.keys() - {other.key}, unlisted=0)
    plan.save()
    code, out, _ = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert (code, out) == (0, "small: delivered 24 records of 2 trials\n")
    assert MlflowClient(store.uri).get_run(parent).info.status == "FINISHED"
    assert state(store, other.run_id)[0] == "KILLED"


def test_a_run_that_trains_nothing_says_what_its_file_means(
    gansweep: Gansweep, folder: Path, plan: Plan, store: MlflowStore, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(startup, "start_ahead", lambda file, overrides: None)
    first, other = plan.entries.values()
    first.g_steps = first.budget
    other.state = "interrupted"
    plan.save()
    load(tmp_path, text(space={"model.clip": {"grid": [0.01]}}, seeds=[0]))
    words = ("run", tmp_path / "file.yaml", "--tracking-uri", store.uri)
    assert gansweep(*words, "--dir", folder.parent)[0] == 0
    assert Plan.load(plan.path, "small").left_out == {other.key}


def test_another_store_is_sent_nothing(
    gansweep: Gansweep, folder: Path, plan: Plan, store: MlflowStore, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    for _ in range(2):
        code, out, _ = gansweep("sync", "small", "--tracking-uri", other)
        assert code == 1
        assert out == "2 trials recorded to another store: name it\n"
        MlflowStore(other).experiment("small")
    assert len(spools(folder / "trials")) == 2
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[1].count("delivered 24 ") == 1


def test_a_store_that_has_lost_the_runs_has_not_everything(
    gansweep: Gansweep, plan: Plan, store: MlflowStore, tmp_path: Path
) -> None:
    """As where mlflow.db was deleted, or another one is named, after all was delivered."""
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0
    good, bad = plan.entries.values()
    shutil.rmtree(plan.path.parent / "trials" / bad.key)
    MlflowStore(empty := f"sqlite:///{tmp_path}/empty.db").experiment("small")
    words = "without a run in this store: deleted, or another one has it"
    assert gansweep("sync", "small", "--tracking-uri", empty)[:2] == (1, f"2 trials {words}\n")
    note = "note: no trial of it has a run in this store"
    assert gansweep("show", "small", "--tracking-uri", empty)[1].splitlines()[-1] == note
    MlflowClient(store.uri).delete_run(good.run_id)
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[:2] == (1, f"1 trial {words}\n")


def test_what_cannot_be_delivered_is_said_and_kept(
    gansweep: Gansweep,
    folder: Path,
    plan: Plan,
    store: MlflowStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*args: Any, **rest: Any) -> None:
        raise ConnectionError("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", away)
        patch.setattr(Courier, "drain", lambda self, real=Courier.drain: real(self, PATIENCE))
        code, out, _ = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert code == 1
    words = re.sub(r"\s+", " ", out)
    assert (
        "24 records of 2 trials are not in MLflow yet (the server is away); what is left lies in "
        f"{folder}, and the same command again or `gansweep sync small` delivers it"
    ) in words
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0


@pytest.mark.parametrize("what", ["drain", "add"])
def test_what_cannot_be_read_is_said(
    what: str,
    gansweep: Gansweep,
    folder: Path,
    plan: Plan,
    store: MlflowStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be all or nothing: no run is settled, and the sweep has not ended."""

    def refused(self: Courier, *args: Any, **rest: Any) -> Backlog:
        if what == "add":
            raise OSError(116, "Stale file handle")
        return Backlog(reason="Stale file handle", unread=2)

    parent = store.parent_run(store.experiment("small"), "small")
    with monkeypatch.context() as patch:
        patch.setattr(Courier, what, refused)
        code, out, err = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert (code, err) == (1, "")
    assert (
        f"records in {folder} cannot be read (Stale file handle): whether MLflow has "
        "all of them is not known; the same command again or `gansweep sync small` finds out"
    ) in re.sub(r"\s+", " ", out)
    assert "everything is in MLflow" not in out
    assert MlflowClient(store.uri).get_run(parent).info.status == "RUNNING"
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0


def test_where_there_is_nothing_it_says_so(
    gansweep: Gansweep, folder: Path, store: MlflowStore
) -> None:
    folder.mkdir(parents=True)
    code, out, _ = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert (code, out) == (0, "small: everything is in MLflow\n")
    code, out, err = gansweep("sync", "smal", "--tracking-uri", store.uri)
    assert (code, out) == (2, "")
    assert "smal: no such sweep in runs (did you mean 'small'?)" in err


def test_it_keeps_off_a_sweep_that_is_driven(
    gansweep: Gansweep, folder: Path, plan: Plan, store: MlflowStore
) -> None:
    with sole_use(folder):
        code, _, err = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert code == 2
    assert "another gansweep drives this sweep" in err
    assert len(spools(folder / "trials")) == 2


def test_who_loses_it_meanwhile_ends_at_once(
    gansweep: Gansweep, folder: Path, plan: Plan, store: MlflowStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It would settle runs, and drop records, of trials that another one trains."""
    ended = threading.Event()
    monkeypatch.setattr(ownership, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())

    def delivered(*args: Any, **rest: Any) -> Synced:
        (folder / FOLDER / "2.json").write_text("{}")
        assert ended.wait(60)
        return Synced(0, 0, Backlog(), 0, 0)

    monkeypatch.setattr(gansweep_sync, "deliver_spools", delivered)
    assert gansweep("sync", "small", "--tracking-uri", store.uri)[0] == 0


@pytest.mark.parametrize("record", ["--record", "--no-record"])
def test_train_keeps_off_it_too(
    record: str,
    gansweep: Gansweep,
    folder: Path,
    store: MlflowStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And others keep off while it trains: all of them write the trials' folders."""
    load(tmp_path, TEXT)
    tried: list[tuple[int, str, str]] = []

    def trained(*args: Any, **rest: Any) -> TrialResult:
        tried.append(gansweep("sync", "small", "--tracking-uri", store.uri))
        return TrialResult("completed", "", 5, 0.1, {})

    monkeypatch.setattr("gansweep.commands.train.run_trial", trained)
    words = ("train", tmp_path / "file.yaml", "--tracking-uri", store.uri, record)
    with sole_use(folder):
        code, _, err = gansweep(*words)
    assert (code, tried) == (2, [])
    assert "another gansweep drives this sweep" in err
    assert gansweep(*words)[0] == 0
    ((code, _, err),) = tried
    assert code == 2
    assert "another gansweep drives this sweep" in err


def test_a_trial_of_train_is_found_by_its_note(
    gansweep: Gansweep,
    folder: Path,
    store: MlflowStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is in no plan."""
    load(tmp_path, TEXT)

    def trained(config: Any, tracker: Tracker, *rest: Any, **more: Any) -> TrialResult:
        for step in range(3):
            tracker.log_metrics({"a/b": float(step)}, step=step)
        tracker.set_tags({"state": "completed"})
        tracker.finish("FINISHED")
        return TrialResult("completed", "", 5, 0.1, {})

    def away(*args: Any, **rest: Any) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr("gansweep.commands.train.run_trial", trained)
    words = ("train", tmp_path / "file.yaml", "--tracking-uri", store.uri)
    with monkeypatch.context() as patch:
        real = MlflowClient.log_batch

        def log_batch(self: Any, run: str, metrics: Any = (), **rest: Any) -> Any:
            return away() if metrics else real(self, run, metrics=metrics, **rest)

        patch.setattr(MlflowClient, "log_batch", log_batch)
        drain = Courier.drain
        patch.setattr(Courier, "drain", lambda self, **_: drain(self, PATIENCE))
        code, out, _ = gansweep(*words)
    assert code == 130
    assert "5 records of 1 trial are not in MLflow yet (the server is away)" in out
    code, out, _ = gansweep("sync", "small", "--tracking-uri", store.uri)
    assert (code, out) == (0, "small: delivered 5 records of 1 trial\n")
    (run,) = store.trials("small")
    assert state(store, run.run_id) == ("FINISHED", "completed", "", 3)


def test_runs_are_not_settled_before_all_is_delivered(
    plan: Plan, folder: Path, store: MlflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[Any] = []
    monkeypatch.setattr(gansweep_sync, "settle_run", lambda *what: settled.append(what))

    class Away:
        def add(self, run_id: str, folder: Path) -> None:
            pass

        def backlog(self) -> Backlog:
            return Backlog(24, 2)

        def drain(self) -> Backlog:
            assert settled == []
            return self.left

        left = Backlog(4, 1)

    courier, home = Away(), find_home(folder.parent, folder.name)
    synced = deliver_spools(store, courier, home, plan)  # type: ignore[arg-type]
    assert (synced.records, synced.runs, settled) == (20, 1, [])
    courier.left = Backlog()
    deliver_spools(store, courier, home, plan)  # type: ignore[arg-type]
    assert len(settled) == 2
