"""A record in SQLite, and the command line in an empty working folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gansweep import cli
from gansweep.tracking.mlflow import MlflowStore, tracking_uri

Gansweep = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow needs a second to create its tables; the tests copy them."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowStore(tracking_uri(f"sqlite:///{path}")).experiment("template")
    return path


@pytest.fixture
def store(tmp_path: Path, _empty_database: Path) -> MlflowStore:
    path = shutil.copyfile(_empty_database, tmp_path / "mlflow.db")
    return MlflowStore(tracking_uri(f"sqlite:///{path}"))


@pytest.fixture
def gansweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Gansweep:
    """Run the command line: exit code, stdout, stderr."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gansweep", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run
