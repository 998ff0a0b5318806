"""A PostgreSQL of one's own on loopback, from start to stop, in one folder and not as root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from .command import wait_for
from .conftest import free_port

USERS = ("postgres", "nobody")
"""Who it runs as where the tests run as root, which it refuses; the first that there is."""


def programs() -> Path | None:
    """Where Debian has them; the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def what_is_missing() -> str:
    """Why there can be no such database on this machine, or ""."""
    return "" if programs() else "needs PostgreSQL (Debian's package postgresql)"


class Postgres:
    """The user `mlflow` with the password `password` owns it."""

    password = "a-password-of-the-tests"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gs"))
        self.port = free_port()
        found = programs()
        assert found is not None
        self._programs = found
        self._as: dict[str, Any] = {"cwd": self.folder, "env": {"LC_ALL": "C"}}
        if os.geteuid() == 0:
            known = {user.pw_name: user for user in pwd.getpwall()}
            user = next(known[name] for name in USERS if name in known)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """SQLAlchemy's, as in compose.yaml."""
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/postgres"

    def ask(self, query: str) -> Any:
        """The first value of the answer."""
        import psycopg2

        with psycopg2.connect(self.uri.replace("+psycopg2", "")) as line, line.cursor() as cursor:
            cursor.execute(query)
            (value,) = cursor.fetchone() or (None,)
            return value

    def start(self) -> None:
        """Returns once it answers."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        subprocess.run(
            [
                str(self._programs / "initdb"), "--pgdata=data", "--username=mlflow",
                "--auth=scram-sha-256", "--pwfile=password", "--encoding=UTF8", "--no-sync",
            ],
            **self._as, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        with (self.folder / "server.log").open("wb") as log:
            self._server = subprocess.Popen(
                [
                    str(self._programs / "postgres"), "-D", "data", "-p", str(self.port),
                    "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
                ],
                **self._as, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._answers, seconds=60, what="an answer of PostgreSQL")

    def stop(self) -> None:
        if self._server:
            self._server.terminate()
            self._server.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        import psycopg2

        assert self._server is not None
        assert self._server.poll() is None, (self.folder / "server.log").read_text()
        try:
            return bool(self.ask("select 1") == 1)
        except psycopg2.OperationalError:
            return False
