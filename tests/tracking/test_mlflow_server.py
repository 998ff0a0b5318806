from __future__ import annotations

import sys

import pytest

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow import server_command


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
    assert command[-3:] == ["--serve-artifacts", "--artifacts-destination", "/data/a b/mlruns"]


def test_command_for_a_database_server_and_names() -> None:
    command = server_command("postgresql://db/mlflow", host="0.0.0.0", allowed_hosts=["gpu1", "x"])
    assert "--artifacts-destination" not in command
    assert command[-2:] == ["--allowed-hosts", "gpu1,x"]


def test_a_server_needs_none() -> None:
    with pytest.raises(ConfigError, match="is a server already"):
        server_command("http://there:5000")
