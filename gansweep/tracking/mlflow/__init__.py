"""The record in MLflow: the only package that imports mlflow, and only when a store is opened."""

from gansweep.tracking.mlflow.client import is_refusal, reason
from gansweep.tracking.mlflow.courier import Backlog, Courier
from gansweep.tracking.mlflow.delivery import noted_run
from gansweep.tracking.mlflow.server import (
    EVERY_ADDRESS,
    SERVER_ENVIRONMENT,
    own_name,
    server_command,
    server_environment,
)
from gansweep.tracking.mlflow.store import MlflowStore, StoreStatus, TrialRecord
from gansweep.tracking.mlflow.uri import tracking_uri

__all__ = [
    "EVERY_ADDRESS",
    "SERVER_ENVIRONMENT",
    "Backlog",
    "Courier",
    "MlflowStore",
    "StoreStatus",
    "TrialRecord",
    "is_refusal",
    "noted_run",
    "own_name",
    "reason",
    "server_command",
    "server_environment",
    "tracking_uri",
]
