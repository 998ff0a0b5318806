"""Opening MLflow: its import (over a second) happens here, quietly, and nowhere else."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gansweep.excerpt import beginning
from gansweep.redaction import redact
from gansweep.tracking.mlflow.uri import ARTIFACT_FOLDER, artifact_location

_PLACE: Final = "DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH"
"""MLflow's name for where artifacts of a database lie: a path that begins in the current folder."""

_DEFAULTS = {
    # No report of each run's URL in the worker's output, no usage reports to the maker.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own retries sleep for minutes after a server is back, and hold up the driver while it
    # is away; a courier has its own, and what it does not deliver stays in the spools.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}

# What the store will refuse again, however often it is asked.
_REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})

# A server that does not answer, or one that answers with a 5xx; a database that does not.
_PASSING = frozenset({"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"})

# The store logs a traceback at each refused statement; the error reaches us as an exception.
_LOUD = {
    "mlflow.store.db.utils": logging.CRITICAL,
    "alembic": logging.WARNING,
}


def open_client(uri: str) -> Any:
    """An MlflowClient of `uri`. A database is created or opened at once (0.5 to 2 s).

    Raises whatever MLflow raises for a store that it cannot open.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    for name, level in _LOUD.items():
        logging.getLogger(name).setLevel(level)
    with _own_experiment_here():
        return MlflowClient(tracking_uri=uri)


@contextmanager
def _own_experiment_here() -> Iterator[None]:
    """Have MLflow's own experiment, `Default`, lie in this folder whatever that is called.

    It comes with the first opening of a database. Where MLflow has changed, all is as there.
    """
    from mlflow.tracking._tracking_service import utils

    folder = Path.cwd() / ARTIFACT_FOLDER
    plain = getattr(utils, _PLACE, None)
    if plain is None or artifact_location(folder) == str(folder):
        yield
        return
    setattr(utils, _PLACE, artifact_location(folder))
    try:
        yield
    finally:
        setattr(utils, _PLACE, plain)


def is_away(error: BaseException) -> bool:
    """Whether a store could not be reached, or was locked by another process, for now."""
    if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy", "requests"):
        return False
    return is_locked(error) or error_code(error) in _PASSING or isinstance(error, OSError)


def is_locked(error: BaseException) -> bool:
    """Whether another process holds the SQLite database for longer than the call waited."""
    return "(sqlite3.OperationalError) database is locked" in str(error)


def error_code(error: BaseException) -> str | None:
    """MLflow's own word for what went wrong, such as `INVALID_PARAMETER_VALUE`; else None."""
    code = getattr(error, "error_code", None)
    return code if isinstance(code, str) else None


def is_refusal(error: BaseException) -> bool:
    """Whether the store will say so again; else it is away, locked or out of order for now."""
    if isinstance(error, (OSError, json.JSONDecodeError)):  # a connection's, a proxy's
        return False
    return error_code(error) in _REFUSALS or isinstance(error, (TypeError, ValueError))


def reason(error: BaseException) -> str:
    """Why a store does not answer, in a few words."""
    # requests wraps urllib3 wraps the socket's own words, which are the useful ones.
    text = str(error) or type(error).__name__
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)|(timed out)", text)
    if found:
        return found.group(1) or found.group(2)
    return beginning(redact(text.splitlines()[0]), 200)
