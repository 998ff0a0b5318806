"""A run in a fresh SQLite store."""

from __future__ import annotations

import pytest

from gansweep.tracking.mlflow import MlflowStore


@pytest.fixture(autouse=True)
def _no_mlflow_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def experiment(store: MlflowStore) -> str:
    return store.experiment("sweep")


@pytest.fixture
def run_id(store: MlflowStore, experiment: str) -> str:
    parent = store.parent_run(experiment, "sweep")
    return store.trial_run(experiment, parent, "k0", "trial 0", {"lr": 1e-4})
