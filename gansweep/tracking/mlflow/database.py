"""MLflow's SQLite database, made anew."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from gansweep.cache import cache_folder
from gansweep.drafts import replacing
from gansweep.tracking.mlflow.client import open_client
from gansweep.tracking.mlflow.uri import sqlite_uri


def make_database(path: Path) -> None:
    """Make it under another name first: `path` is whole or not there.

    MLflow builds the schema for a second, and refuses to open what a killed process left of one. So
    an empty database of this version of MLflow is kept in the cache folder, for the next sweep.
    Of several commands that come at once one is the first.

    Raises what MLflow raises.
    """
    made = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}")
    kept = _kept()
    try:
        if not _is_copied(kept, made):
            open_client(sqlite_uri(made))
            _keep(made, kept)
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink(missing_ok=True)


def _kept() -> Path:
    from mlflow.version import VERSION

    return cache_folder() / "mlflow" / f"{VERSION}.db"


def _is_copied(kept: Path, made: Path) -> bool:
    """Whether `made` is a whole copy now, and on the disk."""
    try:
        shutil.copyfile(kept, made)
        with closing(sqlite3.connect(made)) as database:
            whole = database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
            database.execute("SELECT version_num FROM alembic_version")  # an empty file is "ok"
        with made.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, sqlite3.Error):
        whole = False
    if not whole:
        made.unlink(missing_ok=True)
    return whole


def _keep(made: Path, kept: Path) -> None:
    """Without the experiment that MLflow makes, which lies where it is opened.

    Where that is not possible, the next one takes as long.
    """
    with suppress(OSError, sqlite3.Error):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(kept) as draft,
            closing(sqlite3.connect(made)) as database,
            closing(sqlite3.connect(draft)) as copy,
        ):
            database.backup(copy)
            copy.execute("DELETE FROM experiments")
            copy.commit()
