"""The command that shows a record: an MLflow server over a store."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import sysconfig
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from gansweep.errors import ConfigError
from gansweep.redaction import without_userinfo
from gansweep.tracking.mlflow.uri import ARTIFACT_FOLDER, artifact_location, is_http, sqlite_file

SERVER_ENVIRONMENT: Final = MappingProxyType(
    {
        # Eight more processes (1.2 GB) for jobs of language-model evaluation.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
)
"""Variables to add to the environment of any MLflow server, unless the user has set them."""

ANOTHER_SERVERS: Final = (
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "MLFLOW_REGISTRY_STORE_URI", "MLFLOW_ARTIFACTS_ONLY",
    "MLFLOW_STATIC_PREFIX", "MLFLOW_GUNICORN_OPTS", "MLFLOW_UVICORN_OPTS",
)  # fmt: skip
"""Variables with which MLflow would show something else, or elsewhere, than its command says."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine to itself."""

PRIVATE: Final = ("10.*", "192.168.*", *(f"172.{n}.*" for n in range(16, 32)))
"""Addresses of private networks (RFC 1918), which MLflow answers to by itself."""

EVERY_ADDRESS: Final = ("0.0.0.0", "::", "[::]")
"""What a server listens on to be reached by whatever address its machine has."""


def own_name(host: str) -> str:
    """By what name others reach a server of this machine that listens on `host`."""
    if host not in EVERY_ADDRESS:
        return host
    full = socket.getfqdn()
    return socket.gethostname() if full.startswith("localhost") else full


def server_environment(uri: str) -> dict[str, str]:
    """The environment of `server_command` over `uri`: what everybody may read is not the place of
    a database's password."""
    others = [*ANOTHER_SERVERS, *(["MLFLOW_DEFAULT_ARTIFACT_ROOT"] if sqlite_file(uri) else [])]
    own = {name: value for name, value in os.environ.items() if name not in others}
    # Nor does Python find modules in the current folder.
    return {**SERVER_ENVIRONMENT, **own, "MLFLOW_BACKEND_STORE_URI": uri, "PYTHONSAFEPATH": "1"}


def server_command(
    uri: str, *, host: str = "127.0.0.1", port: int = 5000, allowed_hosts: Sequence[str] = ()
) -> list[str]:
    """The argv of an MLflow server over the store `uri`; it answers `/health` after 10 to 20 s.

    A `uri` with a password is not in it, since every user may list it: `server_environment` has it.
    Runs that lie in a SQLite store show their artifacts from where they are; those of trials
    that write through this server land beside the database too. There is no password: leave
    `host` on loopback unless the network is trusted. It answers to loopback's names, so that no
    page of another site gets at it, to those in `allowed_hosts`, and where it listens elsewhere to
    this machine's own names and to private addresses; on any port, since it may be the other end of
    a tunnel. Requests for other names are refused.

    Raises:
        ConfigError: `uri` is a server already.
    """
    if is_http(uri):
        raise ConfigError.single(uri, "is a server already", "open it in a browser")
    command = [sys.executable, "-m", "mlflow", "server"]
    # Modules in the current folder are none of its, which uvicorn would find first.
    command += ["--uvicorn-opts", f"--app-dir={shlex.quote(sysconfig.get_path('stdlib'))}"]
    if without_userinfo(uri) == uri:
        command += ["--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if path := sqlite_file(uri):
        command += ["--serve-artifacts"]
        command += ["--artifacts-destination", artifact_location(path.parent / ARTIFACT_FOLDER)]
    own = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS", "")
    names = [*LOOPBACK, *allowed_hosts, *filter(None, map(str.strip, own.split(",")))]
    if host not in LOOPBACK:
        names += [own_name(host), socket.gethostname()]
    patterns = [form for name in dict.fromkeys(names) for form in _with_any_port(name)]
    patterns += () if host in LOOPBACK else PRIVATE
    return [*command, "--allowed-hosts", ",".join(patterns)]


def _with_any_port(name: str) -> list[str]:
    """The forms of a name in requests, as MLflow compares them: whole, or as a shell's pattern."""
    has_port = "*" in name or ":" in name.rpartition("]")[2]
    return [name] if has_port else [name, f"{name.replace('[', '[[]')}:*"]
