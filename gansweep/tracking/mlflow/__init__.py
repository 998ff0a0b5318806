"""The record in MLflow: the only package that imports mlflow, and only when a store is opened."""

from gansweep.tracking.mlflow.server import SERVER_ENVIRONMENT, server_command
from gansweep.tracking.mlflow.store import MlflowStore, StoreStatus, TrialRecord
from gansweep.tracking.mlflow.tracker import MlflowTracker
from gansweep.tracking.mlflow.uri import tracking_uri

__all__ = [
    "SERVER_ENVIRONMENT",
    "MlflowStore",
    "MlflowTracker",
    "StoreStatus",
    "TrialRecord",
    "server_command",
    "tracking_uri",
]
