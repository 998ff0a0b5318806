"""The command that shows a record: an MLflow server over a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from gansweep.errors import ConfigError
from gansweep.tracking.mlflow.uri import ARTIFACT_FOLDER, is_http, sqlite_file

SERVER_ENVIRONMENT: Final = MappingProxyType(
    {
        # Eight more processes (1.2 GB) for jobs of language-model evaluation.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
)
"""Variables to add to the environment of `server_command`, unless the user has set them."""


def server_command(
    uri: str, *, host: str = "127.0.0.1", port: int = 5000, allowed_hosts: Sequence[str] = ()
) -> list[str]:
    """The argv of an MLflow server over the store `uri`; it answers `/health` after 10 to 20 s.

    Runs that lie in a SQLite store show their artifacts from where they are; those of trials
    that write through this server land beside the database too. There is no password: leave
    `host` on loopback unless the network is trusted. A server reached by another name than
    localhost or a private address needs that name in `allowed_hosts`.

    Raises:
        ConfigError: `uri` is a server already.
    """
    if is_http(uri):
        raise ConfigError.single(uri, "is a server already", "open it in a browser")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if path := sqlite_file(uri):
        command += ["--serve-artifacts"]
        command += ["--artifacts-destination", str(path.parent / ARTIFACT_FOLDER)]
    if allowed_hosts:
        command += ["--allowed-hosts", ",".join(allowed_hosts)]
    return command
