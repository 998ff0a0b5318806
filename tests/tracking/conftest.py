"""A fresh SQLite store for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gansweep.tracking.mlflow import MlflowStore, tracking_uri


@pytest.fixture(autouse=True)
def _no_mlflow_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow needs a second to create its tables; the tests copy them."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowStore(tracking_uri(f"sqlite:///{path}")).experiment("template")
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    path = shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return tracking_uri(f"sqlite:///{path}")


@pytest.fixture
def store(uri: str) -> MlflowStore:
    return MlflowStore(uri)


@pytest.fixture
def experiment(store: MlflowStore) -> str:
    return store.experiment("sweep")


@pytest.fixture
def run_id(store: MlflowStore, experiment: str) -> str:
    parent = store.parent_run(experiment, "sweep")
    return store.trial_run(experiment, parent, "k0", "trial 0", {"lr": 1e-4})
