"""The command that shows a record: an MLflow server over a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from gansweep.errors import ConfigError
from gansweep.redaction import without_userinfo
from gansweep.tracking.mlflow.uri import ARTIFACT_FOLDER, is_http, sqlite_file

SERVER_ENVIRONMENT: Final = MappingProxyType(
    {
        # Eight more processes (1.2 GB) for jobs of language-model evaluation.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
)
"""Variables to add to the environment of any MLflow server, unless the user has set them."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine to itself."""


def server_environment(uri: str) -> dict[str, str]:
    """Variables for `server_command` over `uri`: what everybody may read is not the place of a
    database's password."""
    return {**SERVER_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri}


def server_command(
    uri: str, *, host: str = "127.0.0.1", port: int = 5000, allowed_hosts: Sequence[str] = ()
) -> list[str]:
    """The argv of an MLflow server over the store `uri`; it answers `/health` after 10 to 20 s.

    A `uri` with a password is not in it, since every user may list it: `server_environment` has it.
    Runs that lie in a SQLite store show their artifacts from where they are; those of trials
    that write through this server land beside the database too. There is no password: leave
    `host` on loopback unless the network is trusted. Requests for other names than those in
    `allowed_hosts` are refused; without any, a server on loopback answers to loopback's names, so
    that no page of another site gets at it, and another one to private addresses as well.

    Raises:
        ConfigError: `uri` is a server already.
    """
    if is_http(uri):
        raise ConfigError.single(uri, "is a server already", "open it in a browser")
    command = [sys.executable, "-m", "mlflow", "server"]
    if without_userinfo(uri) == uri:
        command += ["--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if path := sqlite_file(uri):
        command += ["--serve-artifacts"]
        command += ["--artifacts-destination", str(path.parent / ARTIFACT_FOLDER)]
    if not allowed_hosts and host in LOOPBACK:
        # On any port: it may be the other end of a tunnel.
        allowed_hosts = [*LOOPBACK, *(f"{each.replace('[', '[[]')}:*" for each in LOOPBACK)]
    if allowed_hosts:
        command += ["--allowed-hosts", ",".join(allowed_hosts)]
    return command
