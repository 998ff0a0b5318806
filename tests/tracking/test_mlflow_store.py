from __future__ import annotations

import contextlib
import gc
import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from PIL import Image

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow import MlflowStore, store, tracking_uri
from gansweep.tracking.mlflow.client import is_away, open_client, reason


def test_experiment_creates_database_and_folder_once(tmp_path: Path) -> None:
    uri = tracking_uri(f"sqlite:///{tmp_path}/new folder/mlflow.db")
    first = MlflowStore(uri)
    first.check()
    assert list(tmp_path.iterdir()) == []  # check writes nothing

    number = first.experiment("wgan / clip")
    assert first.experiment("wgan / clip") == number
    assert MlflowStore(uri).experiment("wgan / clip") == number
    experiment = MlflowClient(uri).get_experiment(number)
    assert experiment.artifact_location == str(tmp_path / "new folder" / "mlruns" / "wgan-clip")
    first.check()


def test_pictures_lie_beside_the_database_whatever_its_folder_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does MLflow's own experiment, where the command is given there; nothing lies beside
    the folder."""
    names = ["plain", "a b", "50%", "a%20b", "#%41?é[x]", "it's", 'its "it\'s"', ":x", "a\\:b\n"]
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        opened = MlflowStore(tracking_uri())
        assert opened.uri == tracking_uri(f"sqlite:///{quote(str(folder))}/mlflow.db")
        run = opened.parent_run(opened.experiment("sweep"), "sweep")
        own = MlflowClient(opened.uri).get_experiment("0").artifact_location
        assert Path(local_file_uri_to_path(own)) == folder / "mlruns" / "0"
        MlflowClient(opened.uri).log_image(run, Image.new("L", (4, 4)), key="samples", step=1)
        pictures = list((folder / "mlruns" / "sweep" / run / "artifacts" / "images").glob("*.png"))
        assert len(pictures) == 1, name
        assert opened.last_image(run) is not None, name
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_deleted_experiment_is_explained(uri: str, experiment: str) -> None:
    MlflowClient(uri).delete_experiment(experiment)
    with pytest.raises(ConfigError, match=rf"was deleted.*restore --experiment-id {experiment}"):
        MlflowStore(uri).experiment("sweep")


def test_runs_are_found_again(uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    one, two = MlflowStore(uri), MlflowStore(uri)
    parent = one.parent_run(experiment, "it's", {"file": "a.yaml"})
    trial = one.trial_run(experiment, parent, "k1", "lr=1", {"lr": 1})
    other = one.trial_run(experiment, parent, "k2", "lr=2", {"lr": 2})
    assert len({parent, trial, other}) == 3
    for run_id in (parent, trial):
        one.settle(run_id, "KILLED")
    assert two.parent_run(experiment, "it's", {"file": "b.yaml"}) == parent
    assert two.trial_run(experiment, parent, "k1", "renamed", {"lr": 9, "new": 3}) == trial

    client = MlflowClient(uri)
    assert len(client.search_runs([experiment])) == 3
    run = client.get_run(parent)
    assert run.info.status == "RUNNING"
    assert run.data.tags["gansweep.sweep"] == "it's"
    assert run.data.tags["gansweep.file"] == "b.yaml"
    assert "mlflow.parentRunId" not in run.data.tags
    run = client.get_run(trial)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"lr": "1", "new": "3"}
    assert run.data.tags["gansweep.key"] == "k1"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["mlflow.source.name"] == "gansweep"
    assert run.data.tags["mlflow.user"]
    assert run.info.run_name == run.data.tags["mlflow.runName"] == "renamed"
    assert run.info.status == "RUNNING"


def test_a_deleted_run_is_made_anew(uri: str, experiment: str, run_id: str) -> None:
    MlflowClient(uri).delete_run(run_id)
    store = MlflowStore(uri)
    parent = store.parent_run(experiment, "sweep")
    assert store.trial_run(experiment, parent, "k0", "trial 0", {}) != run_id


def test_many_and_long_params(uri: str, experiment: str) -> None:
    store = MlflowStore(uri)
    params: dict[str, object] = {f"group.p{i}": i for i in range(250)}
    params |= {"long": "x" * 7000, "just": "y" * 6000, "none": None, "empty": ""}
    run_id = store.trial_run(experiment, None, "key", "name", params)
    stored = MlflowClient(uri).get_run(run_id).data.params
    assert len(stored) == 254
    assert stored["group.p249"] == "249"
    assert len(stored["long"]) == 6000
    assert stored["long"].endswith("x ... [shortened: 7000 characters in all]")
    assert stored["just"] == "y" * 6000
    assert stored["none"] == "None"
    assert stored["empty"] == ""


def test_tags_and_artifacts(uri: str, run_id: str, tmp_path: Path) -> None:
    store = MlflowStore(uri)
    store.set_tags(run_id, {f"t{i}": str(i) for i in range(150)} | {"mlflow.note.content": "hi"})
    store.set_tags(run_id, {"t0": "later", "gansweep.t1": "own"})
    store.log_text(run_id, "a: 1\n", "config/sweep.yaml")
    picture = tmp_path / "figure.png"
    picture.write_bytes(b"\x89PNG bytes")
    store.log_image_file(run_id, picture)

    client = MlflowClient(uri)
    tags = client.get_run(run_id).data.tags
    assert (tags["gansweep.t0"], tags["gansweep.t1"], tags["gansweep.t149"]) == (
        "later",
        "own",
        "149",
    )
    assert tags["mlflow.note.content"] == "hi"
    root = tmp_path / "mlruns" / "sweep" / run_id / "artifacts"
    assert (root / "config" / "sweep.yaml").read_text() == "a: 1\n"
    assert (root / "figure.png").read_bytes() == picture.read_bytes()
    assert [a.path for a in client.list_artifacts(run_id)] == ["config", "figure.png"]


def test_settle(uri: str, run_id: str) -> None:
    store, client = MlflowStore(uri), MlflowClient(uri)
    seen = []
    for status in ("FINISHED", "RUNNING", "FAILED", "RUNNING", "KILLED"):
        store.settle(run_id, status)
        info = client.get_run(run_id).info
        assert info.status == status
        assert info.end_time is not None
        seen.append(status)
    assert len(seen) == 5


def test_trials_reads_all_pages(uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PAGE", 3)
    driver = MlflowStore(uri)
    parent = driver.parent_run(experiment, "sweep")
    ids = [
        driver.trial_run(experiment, parent, f"k{i}", f"t{i}", {"lr": i}, {"seed": str(i)})
        for i in range(8)
    ]
    MlflowClient(uri).log_metric(ids[3], "best/fd", 1.5)
    MlflowClient(uri).create_run(experiment)  # someone else's
    driver.settle(ids[3], "FINISHED")

    records = driver.trials("sweep")
    assert [r.key for r in records] == [f"k{i}" for i in range(8)]
    third = records[3]
    assert (third.run_id, third.name, third.status) == (ids[3], "t3", "FINISHED")
    assert third.params == {"lr": "3"}
    assert third.tags == {"seed": "3", "key": "k3"}
    assert third.metrics == {"best/fd": 1.5}
    with pytest.raises(ConfigError, match=r"no such sweep.*did you mean 'sweep'"):
        driver.trials("sweeep")
    with pytest.raises(ConfigError, match=r"\(valid: sweep, template\)$"):  # not `Default`
        driver.trials("another")


def test_a_completed_trial_has_no_values_of_steps_beyond_its_end(
    uri: str, experiment: str, run_id: str
) -> None:
    """It was killed beyond its last checkpoint, and its budget is shorter now."""
    store, client = MlflowStore(uri), MlflowClient(uri)
    for step, value in ((20, 0.7), (60, 0.9), (40, 0.5)):
        client.log_metric(run_id, "score/swd", value, step=step)
    client.log_metric(run_id, "loss/d", 1.5, step=40)
    client.log_metric(run_id, "best/score/swd", 0.3, step=60)

    def found(state: str, g_steps: int) -> dict[str, float]:
        store.set_tags(run_id, {"state": state, "g_steps": str(g_steps)})
        (record,) = store.trials("sweep")
        return dict(record.metrics)

    all_of_them = {"score/swd": 0.9, "loss/d": 1.5, "best/score/swd": 0.3}
    assert found("completed", 60) == all_of_them
    assert found("running", 40) == all_of_them  # the tag is behind
    assert found("completed", 40) == {"score/swd": 0.5, "loss/d": 1.5}
    assert found("completed", 59) == {"score/swd": 0.5, "loss/d": 1.5}
    assert found("completed", 39) == {"score/swd": 0.7}


def test_a_trial_that_never_told_its_g_steps_has_those_of_its_last_values(
    uri: str, experiment: str, run_id: str
) -> None:
    """It was killed before its first score."""
    store, client = MlflowStore(uri), MlflowClient(uri)

    def g_steps() -> int:
        (record,) = store.trials("sweep")
        return record.g_steps

    assert g_steps() == 0
    for name, step in (("loss/d", 30), ("loss/g", 20)):
        client.log_metric(run_id, name, 0.5, step=step)
    assert g_steps() == 30
    store.set_tags(run_id, {"g_steps": "25"})
    assert g_steps() == 25


def test_runs_are_read_without_a_search_for_cycles(
    uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the objects of 10,000 runs it took more time than all else. It goes on afterwards."""
    own = MlflowStore(uri)
    own.trial_run(experiment, None, "k1", "lr=1", {})
    search, seen = own._client.search_runs, []

    def noted(*words: object, **more: object) -> Any:
        seen.append(gc.isenabled())
        if len(seen) > 1:
            raise MlflowException("away")
        return search(*words, **more)

    monkeypatch.setattr(own._client, "search_runs", noted)
    assert [record.key for record in own.each_trial("sweep") if gc.isenabled()] == ["k1"]
    with pytest.raises(MlflowException, match="away"):
        own.trials("sweep")
    assert (seen, gc.isenabled()) == ([False, False], True)


def test_comparison_url() -> None:
    expected = (
        "http://localhost:5000/#/experiments/7/runs?searchFilter=tags.%60gansweep.key%60%20LIKE"
        "%20%27%25%27&orderByKey=metrics.%60score%2Fswd%60&orderByAsc=true&compareRunsMode=CHART"
        "&workflowType=machine_learning"
    )
    url = MlflowStore.comparison_url("7", "http://localhost:5000/", metric="score/swd")
    assert url == expected


def test_check_refuses_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        port = silent.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(ConfigError, match="no MLflow server answers"):
            MlflowStore(f"http://127.0.0.1:{port}").check()
        assert 0.25 < time.monotonic() - start < 6
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"no MLflow server answers \(Connection refused\)"):
        MlflowStore(f"http://127.0.0.1:{port}").check()
    assert time.monotonic() - start < 6


def test_check_judges_the_answer() -> None:
    answers = [
        (200, b'{"experiments": []}', None),
        (200, b"<html>", "is no MLflow server"),
        (404, b"{}", "is no MLflow server"),
        (401, b"who?", "refuses us: 401 who"),
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, _ = answers[self.server.turn]  # type: ignore[attr-defined]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver = MlflowStore(f"http://127.0.0.1:{server.server_port}")
        for turn, (_, _, problem) in enumerate(answers):
            server.turn = turn  # type: ignore[attr-defined]
            if problem is None:
                driver.check()
            else:
                with pytest.raises(ConfigError, match=problem):
                    driver.check()
        server.shutdown()
    assert turn == 3


def test_check_refuses_a_useless_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, this one")
    (tmp_path / "empty.db").touch()
    sqlite3.connect(tmp_path / "real.db").execute("create table t (x)").connection.close()
    cases = {
        f"{tmp_path}/notes.txt": "is no SQLite database",
        f"{tmp_path}": "is a folder",
        f"{tmp_path}/notes.txt/sub/mlflow.db": "is not a writable folder",
        f"{tmp_path}/empty.db": None,
        f"{tmp_path}/real.db": None,
    }
    for path, problem in cases.items():
        driver = MlflowStore(f"sqlite:///{path}")
        if problem is None:
            driver.check()
        else:
            with pytest.raises(ConfigError, match=problem):
                driver.check()
    assert len(cases) == 5


def test_check_names_a_missing_driver() -> None:
    with pytest.raises(ConfigError, match="driver is missing"):
        MlflowStore("postgresql://user@127.0.0.1:1/mlflow").check()


def test_another_schema_is_explained(tmp_path: Path, uri: str) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    with pytest.raises(ConfigError, match="mlflow db upgrade"):
        MlflowStore(uri).experiment("sweep")


def locked(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def test_a_locked_database_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    """Beyond what MLflow waits when it opens a database, which is else 5 s."""
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    holder = locked(path)
    tries: list[float] = []

    def tried(uri: str) -> Any:
        tries.append(time.monotonic())
        if len(tries) == 2:
            holder.close()
        return open_client(uri)

    monkeypatch.setattr(store, "open_client", tried)
    number = MlflowStore(f"sqlite:///{path}?timeout=0.1").experiment("late")
    assert MlflowClient(f"sqlite:///{path}").get_experiment(number).name == "late"
    assert len(tries) == 2


def test_a_database_that_stays_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.0)
    with contextlib.closing(locked(path)), pytest.raises(Exception, match="locked") as caught:
        MlflowStore(f"sqlite:///{path}?timeout=0.1").experiment("never")
    assert is_away(caught.value)
    assert "database is locked" in reason(caught.value)


def test_a_store_that_is_away_is_told_from_one_that_refuses(uri: str) -> None:
    with pytest.raises(MlflowException) as refused:
        MlflowClient(uri).get_run("0" * 32)
    with pytest.raises(MlflowException) as away:
        MlflowStore("http://127.0.0.1:9").existing_experiment("any")
    assert not is_away(refused.value)
    assert not is_away(OSError("a disk of ours"))
    assert is_away(away.value)


def test_no_secret_is_stored(
    uri: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    store = MlflowStore(uri)
    parent = store.parent_run(experiment, "sweep", {"overrides": "data.path=hf_abcdefgh"})
    params = {"path": "http://a:b@c"}
    run = store.trial_run(experiment, parent, "k1", "t", params, {"x": "token=abc"})
    store.set_tags(run, {"reason": "hf_abcdefgh"})
    store.log_text(run, "# hf_abcdefgh", "source/a.yaml")
    client = MlflowClient(uri)
    assert client.get_run(parent).data.tags["gansweep.overrides"] == "data.path=***"
    data = client.get_run(run).data
    assert data.params == {"path": "http://***@c"}
    assert (data.tags["gansweep.x"], data.tags["gansweep.reason"]) == ("token=***", "***")
    file = tmp_path / "mlruns" / "sweep" / run / "artifacts" / "source" / "a.yaml"
    assert file.read_text() == "# ***"


def _searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []
    real = MlflowClient.search_runs

    def counted(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        made.append(named["filter_string"])
        return real(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    return made


def test_runs_of_an_index_are_found_without_a_search(
    uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = MlflowStore(uri)
    parent = one.parent_run(experiment, "sweep")
    known = [one.trial_run(experiment, parent, f"k{i}", f"trial {i}", {}) for i in range(3)]
    one.settle(known[0], "KILLED")
    MlflowClient(uri).delete_run(known[2])
    store = MlflowStore(uri)
    made = _searches(monkeypatch)
    store.index_trials(experiment)
    assert len(made) == 1
    assert store.trial_run(experiment, parent, "k0", "renamed", {"lr": 1}) == known[0]
    assert store.trial_run(experiment, parent, "k1", "trial 1", {}) == known[1]
    fresh = [store.trial_run(experiment, parent, f"k{i}", f"trial {i}", {}) for i in range(2, 9)]
    assert len({*known, *fresh}) == 10
    again = [store.trial_run(experiment, parent, f"k{i}", f"trial {i}", {}) for i in range(2, 9)]
    assert again == fresh
    assert len(made) == 1
    run = MlflowClient(uri).get_run(known[0])
    assert (run.info.status, run.info.run_name, run.data.params) == (
        "RUNNING", "renamed", {"lr": "1"},
    )  # fmt: skip
    assert MlflowStore(uri).trial_run(experiment, parent, "k5", "trial 5", {}) == fresh[3]


def test_a_run_that_a_call_may_have_made_is_searched_for(
    uri: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server made it, and its answer was lost."""
    store = MlflowStore(uri)
    store.index_trials(experiment)
    real = MlflowClient.create_run

    def lost(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        real(self, *arguments, **named)
        raise MlflowException("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", lost)
        with pytest.raises(MlflowException, match="timed out"):
            store.trial_run(experiment, None, "k", "trial", {})
    made = _searches(monkeypatch)
    run_id = store.trial_run(experiment, None, "k", "trial", {})
    assert len(made) == 1
    assert len(MlflowClient(uri).search_runs([experiment], filter_string="")) == 1
    assert MlflowClient(uri).get_run(run_id).data.tags["gansweep.key"] == "k"


def test_a_run_that_the_store_does_not_know_has_no_picture(uri: str, experiment: str) -> None:
    assert MlflowStore(uri).last_image("0" * 32) is None


def test_a_long_name_is_cut(uri: str, experiment: str) -> None:
    """PostgreSQL and MySQL refuse more than 250 characters."""
    store = MlflowStore(uri)
    for _ in range(2):  # made, and found
        run_id = store.trial_run(experiment, None, "key", "clip=0.1 " * 40, {})
        (found,) = store.trials("sweep")
        assert found.run_id == run_id
        assert found.name == ("clip=0.1 " * 40)[:249] + "…"
