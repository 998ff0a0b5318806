from __future__ import annotations

import sys

import pytest
from mlflow.server.security_utils import is_allowed_host_header

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow import server_command, server_environment


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


def test_command_for_a_database_server_and_names() -> None:
    command = server_command("postgresql://db/mlflow", host="0.0.0.0", allowed_hosts=["gpu1", "x"])
    assert "--artifacts-destination" not in command
    assert command[-2:] == ["--allowed-hosts", "gpu1,x"]


def test_on_another_address_mlflow_itself_says_who_may_ask() -> None:
    assert "--allowed-hosts" not in server_command("postgresql://db/mlflow", host="0.0.0.0")


def test_a_password_is_in_the_environment_alone() -> None:
    uri = "postgresql://me:hunter2@db/mlflow"
    assert not any("hunter2" in word for word in server_command(uri))
    assert server_environment(uri)["MLFLOW_BACKEND_STORE_URI"] == uri


def test_a_server_needs_none() -> None:
    with pytest.raises(ConfigError, match="is a server already"):
        server_command("http://there:5000")
