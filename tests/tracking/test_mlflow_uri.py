from __future__ import annotations

from pathlib import Path

import pytest

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow import tracking_uri
from gansweep.tracking.mlflow.uri import sqlite_file


def test_default_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_explicit_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri() == "http://there:5000"
    assert tracking_uri("https://here/mlflow") == "https://here/mlflow"


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = tracking_uri("sqlite:///runs/a b.db?timeout=9")
    assert uri == f"sqlite:///{tmp_path}/runs/a b.db?timeout=9"
    assert tracking_uri(uri) == uri
    assert sqlite_file(uri) == tmp_path / "runs" / "a b.db"
    uri = tracking_uri("sqlite:////x/100%25.db?timeout=9")  # MLflow would make folders of the %25
    assert uri == "sqlite+pysqlite:////x/100%25.db?timeout=9"
    assert tracking_uri(uri) == uri
    assert sqlite_file(uri) == Path("/x/100%.db")
    assert sqlite_file("http://there:5000") is None


def test_refuses_what_workers_could_not_share() -> None:
    cases = ["mlruns", "/abs/mlruns", "file:///x/mlruns", "./mlruns", "sqlite://", "ftp://x"]
    cases += ["sqlite:///:memory:", "sqlite:///", "sqlite:mlflow.db"]
    cases += ["http://", "http:there:5000", "http://there:port", "https://[::1"]
    refused = []
    for case in cases:
        with pytest.raises(ConfigError, match=r"use sqlite:///mlflow\.db"):
            tracking_uri(case)
        refused.append(case)
    assert len(refused) == 13


def test_names_the_culprit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI: 'mlruns' is a folder"):
        tracking_uri()
    with pytest.raises(ConfigError, match=r"^tracking\.uri: "):
        tracking_uri("mlruns", at="tracking.uri")
