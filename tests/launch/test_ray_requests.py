"""Ray Jobs' requests as text; a real cluster takes them in test_ray_jobs.py."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from sweep_files import TEXT, text

from gansweep.errors import AwayError, ConfigError
from gansweep.launch import ray_jobs
from gansweep.launch.base import JobState, Submitted
from gansweep.launch.ray_jobs import RayJobs, _environment

from .jobs import job


def launcher(**settings: Any) -> RayJobs:
    return RayJobs(RayJobs.Settings(**settings))


def test_the_request_says_what_travels(work: Path) -> None:
    (work / "extra.txt").write_text("x")
    tree = yaml.safe_load(launcher(files=["extra.txt"], stop_seconds=9).render(job(work)))
    assert tree["address"] == "http://127.0.0.1:8265"
    assert tree["submission_id"].startswith("gansweep-small-")
    assert tree["entrypoint"] == (
        f"python -P -m gansweep.cli run sweep/file.yaml --dir {work}/runs "
        "--tracking-uri http://127.0.0.1:5000 --address auto"
    )
    assert tree["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "9"}
    *files, package = tree["files"]
    assert files == ["extra.txt", "sweep/file.yaml"]
    assert package.startswith("gansweep/ (")


def test_a_cluster_elsewhere_has_none_of_our_files(work: Path) -> None:
    here = job(work, uri="sqlite:////x/mlflow.db")
    assert launcher().problems(here) == []
    first, second = launcher(address="http://head:8265").problems(here)
    assert (first.where, second.where) == ("storage", "tracking uri")
    elsewhere = launcher(address="http://head:8265", storage="/s")
    assert elsewhere.problems(job(work, uri="http://mlflow:5000")) == []
    for uri in ("http://127.0.0.1:5000", "http://[::1]:5000", "https://localhost"):
        (found,) = elsewhere.problems(job(work, uri=uri))
        assert str(found).startswith(f"tracking uri: {uri} is this machine (start an MLflow server")
        assert launcher().problems(job(work, uri=uri)) == []
    for address in ("head:8265", "http://", "http://[::1", "http://head:port", "ray://head:10001"):
        (found,) = launcher(address=address).problems(here)
        assert str(found).startswith(f"address: is {address!r} (http://HOST:8265")
    (found,) = launcher(address="http://me:hunter2@127.0.0.1:8265").problems(here)
    assert str(found).startswith("address: has a password, which the job's record would keep")


def test_data_by_a_relative_path_has_to_travel(work: Path) -> None:
    (work / "sets").mkdir()
    images = np.zeros((64, 8, 8), dtype=np.uint8)
    np.savez(work / "sets" / "x.npz", x=images)
    trial = {**yaml.safe_load(TEXT)["trial"], "data": {"name": "npz", "path": "sets/x.npz"}}
    (found,) = launcher().problems(job(work, text(trial=trial)))
    assert found.where == "data.path"
    assert "sets/x.npz" in found.remedy
    assert launcher(files=["sets"]).problems(job(work, text(trial=trial))) == []
    assert launcher(files=["elsewhere"]).problems(job(work, text(trial=trial))) == [found]
    trial["data"] = {"name": "npz", "path": str(work / "sets" / "x.npz")}
    assert launcher().problems(job(work, text(trial=trial))) == []


def test_a_missing_file_is_a_mistake(work: Path) -> None:
    with pytest.raises(ConfigError, match=r"files: there is no .*absent"):
        launcher(files=["absent"]).render(job(work))


def test_no_dashboard(work: Path) -> None:
    away = launcher(address="http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="no Ray dashboard answers"):
        away.submit(job(work))
    with pytest.raises(AwayError, match="no Ray dashboard answers"):
        away.state(Submitted("x"))


def refusing(words: str) -> type:
    """Ray's client, over a dashboard that answers with `words`."""

    class Client:
        def __init__(self, address: str) -> None:
            raise RuntimeError(words)

    return Client


def test_a_dashboard_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_jobs, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = launcher(address=f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(AwayError, match="timed out"):
            silent.state(Submitted("x"))


def test_rays_variables_are_ours_for_the_time_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    monkeypatch.delenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", raising=False)
    before = dict(os.environ)
    with _environment():
        assert "RAY_ADDRESS" not in os.environ
        assert os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] == "1"
    assert dict(os.environ) == before


ANSWERS = [
    ("Request failed with status code 500: Traceback: ActorUnavailableError", AwayError),
    ("Request failed with status code 503: the agent is not up yet", AwayError),
    ("Request failed with status code 400: no such route", ConfigError),
]


@pytest.mark.parametrize(("words", "kind"), ANSWERS)
def test_an_answer_that_may_be_another_one_soon(
    monkeypatch: pytest.MonkeyPatch, words: str, kind: type[ConfigError]
) -> None:
    import ray.job_submission

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", refusing(words))
    with pytest.raises(ConfigError) as caught:
        launcher().state(Submitted("x"))
    assert type(caught.value) is kind


def test_a_cluster_that_was_started_anew_knows_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.job_submission

    words = "Request failed with status code 404: Job x does not exist."
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", refusing(words))
    assert list(launcher().logs(Submitted("x"), follow=True)) == []
    assert launcher().state(Submitted("x")).phase == "forgotten"


@pytest.mark.usefixtures("clock")
def test_a_job_that_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own words on what it waits for, and an end of the waiting."""
    words = "Job has not started yet. It may be waiting for resources to become available."
    info = SimpleNamespace(status="PENDING", message=words, driver_exit_code=None)
    client = SimpleNamespace(get_job_info=lambda name: info, get_job_logs=lambda name: "")

    @contextmanager
    def one(self: RayJobs) -> Iterator[Any]:
        yield client

    monkeypatch.setattr(RayJobs, "_client", one)
    patient = launcher(start_seconds=7)
    heard: list[JobState] = []
    with pytest.raises(ConfigError, match=r"x: has not started within 7 s: waiting \(Job has not"):
        list(patient.logs(Submitted("x"), follow=True, on_state=heard.append))
    assert {state.reason for state in heard} == {words}
    assert len(heard) >= 3


class Closed(http.server.BaseHTTPRequestHandler):
    """A dashboard that wants a token."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"Unauthorized: Missing authentication token")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_no_permission(work: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Closed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(ConfigError) as caught:
            launcher(address=address).submit(job(work))
    finally:
        server.shutdown()
        server.server_close()
    (problem,) = caught.value.problems
    assert problem.where == address
    assert "RAY_AUTH_TOKEN" in problem.remedy
