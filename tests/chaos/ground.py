"""What a sweep runs on: a folder alone, a small disk, an MLflow server, a cluster of two nodes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import psutil
from e2e.command import Place, answers, wait_for, workers
from e2e.conftest import CLUSTER, free_port

from gansweep.tracking.mlflow import SERVER_ENVIRONMENT, server_command

from .sweep import NAME

START_SECONDS = 180.0
"""A server imports for 10 to 20 s on a quiet machine."""


@final
class Server:
    """A real MLflow server over a database in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.database = folder / "mlflow.db"
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns once it answers."""
        with (self.place.folder / "server.log").open("ab") as log:
            subprocess.Popen(
                server_command(f"sqlite:///{self.database}", port=self._port),
                cwd=self.place.folder,
                env={**self.place.environment, **SERVER_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(
            lambda: answers(self.uri), seconds=START_SECONDS, what="an answer of the MLflow server"
        )

    def kill(self) -> None:
        """All its processes at once; returns when they are gone."""
        self.place.close()
        assert self.place.left_after(20) == []


@final
class TwoNodes:
    """A Ray cluster of two nodes of one core each, on loopback.

    cache: theirs; without one each has its own, and its own scratch folder, as machines that share
    no disk.
    """

    def __init__(self, cache: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gs"))  # short: Ray puts sockets in it
        self.head, self.second = (
            Place(
                self.folder / name,
                GANSWEEP_CACHE=cache or str(self.folder / name / "cache"),
                GANSWEEP_SCRATCH=str(self.folder / name / "scratch"),
                **CLUSTER,
            )
            for name in "12"
        )
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._start(self.head, "--head", f"--port={port}", f"--temp-dir={self.folder}",
                    "--include-dashboard=false")  # fmt: skip
        self._start(self.second, f"--address={self.address}")

    def _start(self, node: Place, *words: str) -> None:
        ports = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export",
                 "runtime-env-agent")  # fmt: skip
        log = node.folder / "ray.log"
        with log.open("w") as target:
            subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("ray")), "start", *words, "--block",
                    "--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats",
                    *(f"--{name}-port={free_port()}" for name in ports),
                ],
                env=node.environment,
                stdout=target,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        wait_for(
            lambda: "Ray runtime started" in log.read_text(),
            seconds=START_SECONDS,
            what=f"Ray's start on node {node.folder.name}",
        )

    def workers(self, *nodes: Place) -> list[psutil.Process]:
        """Those that train, on all nodes or on some."""
        return [worker for node in nodes or (self.head, self.second) for worker in workers(node)]

    def close(self) -> None:
        for node in (self.head, self.second):
            node.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Ground:
    """`words` are what the command says of it; `database` is the SQLite file behind `uri`."""

    uri: str
    database: Path
    words: tuple[str, ...] = ()
    server: Server | None = None
    nodes: TwoNodes | None = None


@contextlib.contextmanager
def folder(place: Place) -> Iterator[Ground]:
    """Nothing but the folder of `place`, and a local Ray."""
    yield Ground(place.uri, place.folder / "mlflow.db")


@contextlib.contextmanager
def small_disk(place: Place, megabytes: int = 8) -> Iterator[Ground]:
    """The sweep's folder is a file system of so many MB; needs the right to mount one."""
    where = place.folder / "runs" / NAME
    where.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "gansweep-chaos", str(where)],
        check=True,
    )
    try:
        with folder(place) as ground:
            yield ground
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@contextlib.contextmanager
def served(place: Place) -> Iterator[Ground]:
    """The record is kept by an MLflow server."""
    server = Server(place.folder / "server")
    try:
        server.start()
        yield Ground(
            server.uri, server.database, words=("--tracking-uri", server.uri), server=server
        )
    finally:
        server.place.close()


@contextlib.contextmanager
def two_nodes(place: Place) -> Iterator[Ground]:
    """The same, and the sweep runs on a cluster. No worker is left on it in the end."""
    nodes = TwoNodes(place.environment["GANSWEEP_CACHE"])
    place.environment.update(CLUSTER)
    try:
        with served(place) as ground:
            words = (*ground.words, "--address", nodes.address)
            yield replace(ground, words=words, nodes=nodes)
        wait_for(lambda: not nodes.workers(), seconds=60, what="the end of the last worker")
    finally:
        nodes.close()


def may_mount() -> bool:
    """Whether this process may mount file systems."""
    return (
        os.geteuid() == 0
        and subprocess.run(
            ["unshare", "--mount", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )
