"""Profiles, clusters to submit to, and a clock that nobody waits for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from e2e.command import Place, answers, wait_for

from gansweep.launch import base, readiness
from gansweep.tracking.mlflow import SERVER_ENVIRONMENT, server_command

from .site import Site, free_ports, what_is_missing


class Clock:
    """Who sleeps moves it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """That of whoever follows a job, or waits for nodes: no look takes any time."""
    clock = Clock()
    for module in (base, readiness):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def profile(work: Path) -> Callable[..., str]:
    """Write a project's profile; returns its name."""

    def write(name: str, text: str) -> str:
        path = work / "infra" / "profiles" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    return write


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A real Slurm of two nodes."""
    if missing := what_is_missing():
        pytest.skip(missing)
    slurm = Site()
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real tracking server."""
    folder = tmp_path_factory.mktemp("mlflow")
    (port,) = free_ports(1)
    place = Place(folder, **SERVER_ENVIRONMENT)
    with (folder / "server.log").open("w") as log:
        subprocess.Popen(
            server_command(f"sqlite:///{folder}/mlflow.db", port=port),
            env=place.environment, cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    try:
        wait_for(lambda: answers(address), seconds=120, what="the tracking server's start")
        yield address
    finally:
        place.close()


class RayCluster:
    """A Ray of raylets on loopback, with a core each; the first is its head."""

    def __init__(
        self,
        *,
        dashboard: bool,
        nodes: int = 1,
        each: Callable[[int], Sequence[str]] = lambda n: (),
    ) -> None:
        """`each` gives further options of `ray start` for each node, by its number."""
        self.folder = Path(tempfile.mkdtemp(prefix="gs"))  # short: Ray puts sockets in it
        # Ray's own Python first: jobs call `python`.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.place = Place(self.folder, RAY_AUTH_MODE="disabled", PATH=path)
        self.port, self._door, client = free_ports(3)
        self.address = f"127.0.0.1:{self.port}"
        self.dashboard = f"http://127.0.0.1:{self._door}"
        try:
            head = ["--head", f"--port={self.port}", f"--ray-client-server-port={client}"]
            if dashboard:
                head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={self._door}"]
            else:
                head += ["--include-dashboard=false"]
            self._start("head", *head, *each(0))
            for number in range(1, nodes):
                self.join(f"worker{number}", *each(number))
        except BaseException:
            self.close()
            raise

    def join(self, name: str, *options: str, python: Path = Path(sys.executable)) -> None:
        """Start one more raylet, and its workers, with that interpreter."""
        self._start(name, f"--address={self.address}", *options, python=python)

    def _start(self, name: str, *options: str, python: Path = Path(sys.executable)) -> None:
        log = self.folder / f"{name}.log"
        with log.open("w") as target:
            subprocess.Popen(
                [
                    str(python), "-m", "ray.scripts.scripts", "start", "--block",
                    "--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats",
                    "--object-store-memory=134217728", f"--temp-dir={self.folder}/ray",
                    "--min-worker-port=0", "--max-worker-port=0",
                    "--dashboard-agent-listen-port=0", *options,
                ],
                env=self.place.environment, stdout=target, stderr=target, start_new_session=True,
            )  # fmt: skip
        wait_for(
            lambda: "Ray runtime started" in log.read_text(),
            seconds=120,
            what=f"the {name}'s start",
        )

    def close(self) -> None:
        self.place.close()
        shutil.rmtree(self.folder, ignore_errors=True)
