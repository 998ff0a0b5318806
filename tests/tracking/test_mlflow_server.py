from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow.server.security_utils import is_allowed_host_header

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow import own_name, server_command, server_environment
from gansweep.tracking.mlflow.uri import sqlite_uri


def test_command_shows_a_sqlite_store_on_loopback() -> None:
    command = server_command("sqlite:////data/a b/mlflow.db", port=5077)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    options = dict(zip(command[4::2], command[5::2], strict=False))
    assert options["--backend-store-uri"] == "sqlite:////data/a b/mlflow.db"
    assert (options["--host"], options["--port"], options["--workers"]) == (
        "127.0.0.1",
        "5077",
        "1",
    )
    served = ["--serve-artifacts", "--artifacts-destination", "/data/a b/mlruns"]
    assert command[-5:-2] == served
    assert command[-2] == "--allowed-hosts"
    allowed = command[-1].split(",")
    asked = {
        "127.0.0.1:5077": True, "localhost": True, "localhost:8080": True, "[::1]:5077": True,
        "evil.org": False, "evil.org:5077": False, "10.0.0.1:5077": False, "0.0.0.0": False,
    }  # fmt: skip
    for host, expected in asked.items():
        assert is_allowed_host_header(allowed, host) is expected, host


def test_artifacts_lie_beside_a_database_in_any_folder() -> None:
    """MLflow unquotes a plain path."""
    command = server_command(sqlite_uri(Path("/data/a%20b/mlflow.db")))
    place = command[command.index("--artifacts-destination") + 1]
    assert place == "file:///data/a%2520b/mlruns"


def test_command_for_a_database_server_and_names() -> None:
    command = server_command("postgresql://db/mlflow", host="0.0.0.0", allowed_hosts=["gpu1", "x"])
    assert "--artifacts-destination" not in command
    assert answers(command, "gpu1", "gpu1:5000", "x:1", "localhost:5000", "10.1.2.3:5000")
    assert not answers(command, "gpu2", "gpu1.evil.org", "xy:1")


def answers(command: list[str], *hosts: str) -> bool:
    """Whether all of them are let in, or all refused."""
    assert command[-2] == "--allowed-hosts"
    (verdict,) = {is_allowed_host_header(command[-1].split(","), host) for host in hosts}
    return verdict


def test_on_every_address_the_machine_answers_to_its_own_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "login1")
    monkeypatch.setattr(socket, "getfqdn", lambda: "login1.lab.org")
    for host in ("0.0.0.0", "::"):
        command = server_command("postgresql://db/mlflow", host=host)
        assert answers(command, "login1", "login1:5000", "login1.lab.org:5000", "192.168.0.9:5000")
        assert not answers(command, "evil.org:5000", "141.5.6.7:5000", "login1.evil.org")
        assert own_name(host) == "login1.lab.org"
    assert answers(server_command("postgresql://db/m", host="141.5.6.7"), "141.5.6.7:5000")
    assert own_name("141.5.6.7") == "141.5.6.7"
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost.localdomain")
    assert own_name("0.0.0.0") == "login1"


def test_what_mlflows_own_variable_allows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "tracking.lab.org, a.org:80")
    command = server_command("postgresql://db/mlflow")
    assert answers(command, "tracking.lab.org", "tracking.lab.org:5000", "a.org:80")
    assert not answers(command, "a.org", "a.org:81")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*")
    assert answers(server_command("postgresql://db/mlflow"), "anything")


def test_a_password_is_in_the_environment_alone() -> None:
    uri = "postgresql://me:hunter2@db/mlflow"
    assert not any("hunter2" in word for word in server_command(uri))
    assert server_environment(uri)["MLFLOW_BACKEND_STORE_URI"] == uri


@pytest.mark.parametrize("uri", ["postgresql://me:hunter2@db/mlflow", "sqlite:////data/mlflow.db"])
def test_no_variable_makes_another_server_of_it(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://other/mlflow")
    monkeypatch.setenv("MLFLOW_STATIC_PREFIX", "/mlflow")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_ONLY", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    monkeypatch.setenv("MLFLOW_SERVE_ARTIFACTS", "false")
    found = server_environment(uri)
    assert found["MLFLOW_BACKEND_STORE_URI"] == uri
    assert not {"MLFLOW_STATIC_PREFIX", "MLFLOW_ARTIFACTS_ONLY"} & set(found)
    assert found["MLFLOW_DISABLE_TELEMETRY"] == found["MLFLOW_SERVE_ARTIFACTS"] == "false"
    assert found["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert found["PATH"] == os.environ["PATH"]


def test_a_server_needs_none() -> None:
    with pytest.raises(ConfigError, match="is a server already"):
        server_command("http://there:5000")


@pytest.mark.long
def test_modules_of_the_folder_are_none_of_its(tmp_path: Path) -> None:
    """A real server, begun in a folder that has a file of the name of a module of Python's."""
    (tmp_path / "random.py").write_text("raise RuntimeError('the own one')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    uri = sqlite_uri(tmp_path / "mlflow.db")
    server = subprocess.Popen(
        server_command(uri, port=port),
        cwd=tmp_path, env=server_environment(uri), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for _ in range(1200):
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health") as answer:
                assert answer.status == 200
                break
            if server.poll() is not None:
                pytest.fail(server.communicate()[1])
            time.sleep(0.1)
        else:
            pytest.fail("no answer")
    finally:
        server.terminate()
        server.communicate()
