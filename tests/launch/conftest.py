"""A working folder, a state folder that is not the user's, and clusters to submit to."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.command import Place, wait_for

from gansweep import cli, trust
from gansweep.tracking.mlflow import SERVER_ENVIRONMENT, server_command

from .site import Site, free_ports, what_is_missing

Gansweep = Callable[..., tuple[int, str, str]]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with profiles, state and configuration of its own."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "SLURM_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(trust, "own_code", True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GANSWEEP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def gansweep(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Gansweep:
    """Run the command line: exit code, stdout, stderr."""
    monkeypatch.setattr(cli, "_exit", sys.exit)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gansweep", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


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
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
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

    def healthy() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(f"{address}/health", timeout=2).status == 200)
        return False

    try:
        wait_for(healthy, seconds=120, what="the tracking server's start")
        yield address
    finally:
        place.close()


class RayCluster:
    """A Ray of raylets on loopback, with a core each; the first is its head."""

    def __init__(self, *, dashboard: bool, nodes: int = 1) -> None:
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
            self._start("head", *head)
            for number in range(1, nodes):
                self._start(f"worker{number}", f"--address={self.address}")
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, *options: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("w") as target:
            subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("ray")), "start", "--block",
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
