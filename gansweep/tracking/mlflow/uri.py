"""Where the record is: the tracking URI, chosen once by the driver and handed to every worker."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from gansweep.addresses import is_http_address
from gansweep.errors import ConfigError
from gansweep.redaction import remember

DEFAULT_FILE = "mlflow.db"
ARTIFACT_FOLDER = "mlruns"

_REMEDY = f"use sqlite:///{DEFAULT_FILE} or http://HOST:PORT of an MLflow server"
_SCHEMES = ("http", "https", "postgresql", "mysql", "mssql", "databricks")


def tracking_uri(explicit: str | None = None, *, at: str = "tracking uri") -> str:
    """`explicit`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder.

    A relative SQLite path becomes absolute, since workers run in other folders. `at` names the
    setting in the message.

    Raises:
        ConfigError: a plain folder or `file:` URI (MLflow has given up its file store), an
            in-memory database (no other process could see it), or an unknown scheme.
    """
    uri, where = explicit, at
    if not uri:
        uri, where = os.environ.get("MLFLOW_TRACKING_URI"), "MLFLOW_TRACKING_URI"
    if not uri:
        return sqlite_uri(Path(DEFAULT_FILE))
    remember(uri)
    scheme, colon, rest = uri.partition(":")
    family = scheme.lower().partition("+")[0]
    if not colon or family == "file":
        raise ConfigError.single(where, f"{uri!r} is a folder; MLflow stores none now", _REMEDY)
    if family == "sqlite":
        path, mark, options = rest.removeprefix("//").removeprefix("/").partition("?")
        if not rest.startswith("///") or path in ("", ":memory:"):
            raise ConfigError.single(
                where, f"{uri!r} names no file; each trial is another process", _REMEDY
            )
        return sqlite_uri(Path(unquote(path)), scheme=scheme) + mark + options
    if family not in _SCHEMES:
        raise ConfigError.single(where, f"{uri!r} is no tracking URI", _REMEDY)
    if family in ("http", "https") and not is_http_address(uri):
        raise ConfigError.single(where, f"{uri!r} names no server", _REMEDY)
    return uri


def sqlite_file(uri: str) -> Path | None:
    """The database file of a SQLite URI as `tracking_uri` returns it; None for other stores."""
    scheme, _, rest = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite":
        return None
    return Path(unquote(rest.partition("?")[0]))


def is_http(uri: str) -> bool:
    """Whether the store is a server, which keeps artifacts where it pleases."""
    return uri.startswith(("http://", "https://"))


def sqlite_uri(path: Path, *, scheme: str = "sqlite") -> str:
    # SQLAlchemy unquotes the path and ends it at `?`; MLflow reads spaces literally. What is quoted
    # it would make a folder of, but where the driver is named.
    absolute = os.path.abspath(path.expanduser())
    quoted = absolute.replace("%", "%25").replace("?", "%3F")
    if quoted != absolute and scheme == "sqlite":
        scheme = "sqlite+pysqlite"
    return f"{scheme}:///{quoted}"


def artifact_location(folder: Path) -> str:
    """As MLflow, which unquotes a plain path too, takes it for `folder`.

    Of the place of its own experiment it makes a literal of Python's, as a part of an SQL statement
    in which `:x` is a parameter.
    """
    text = str(folder)
    plain = text.isprintable() and not set(text) & set("%:'\"\\")
    return text if plain else folder.as_uri()
