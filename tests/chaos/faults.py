"""Injuries to a sweep in training, each at a moment that a seeded generator draws."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import psutil
from e2e.command import Place, wait_for

from .sweep import NAME


@dataclass
class Scene:
    """A sweep in training: its driver, its folder, and the dice."""

    place: Place
    driver: subprocess.Popen[Any]
    folder: Path
    rng: random.Random

    def processes(self, word: str) -> list[psutil.Process]:
        """Those below the driver whose command line has `word`."""
        found = []
        for process in self.place.processes():
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("trials/*/checkpoint.pt"))


class Fault(ABC):
    """One kind of injury. `driver_survives`: whether the command is to complete in spite of it."""

    driver_survives: ClassVar[bool] = False

    @abstractmethod
    def inject(self, scene: Scene) -> None:
        """Do it now."""


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@final
class WorkerKilled(Fault):
    """As the kernel does where memory is short."""

    driver_survives = True

    def inject(self, scene: Scene) -> None:
        workers = scene.processes("PackWorker") or scene.processes("ray::")
        kill([scene.rng.choice(workers)] if workers else [])


@final
class DriverKilled(Fault):
    """With its login shell, say."""

    def inject(self, scene: Scene) -> None:
        scene.driver.kill()


@final
class RayletKilled(Fault):
    """The node's manager: all workers go with it."""

    def inject(self, scene: Scene) -> None:
        kill(scene.processes("raylet/raylet"))


@final
class Terminated(Fault):
    """As batch systems do, with a grace time."""

    def inject(self, scene: Scene) -> None:
        scene.driver.send_signal(signal.SIGTERM)


@final
class Warned(Fault):
    """Slurm's --signal=USR1."""

    def inject(self, scene: Scene) -> None:
        scene.driver.send_signal(signal.SIGUSR1)


@final
class InterruptedTwice(Fault):
    """Ctrl-C, and again before the trials are put aside."""

    def inject(self, scene: Scene) -> None:
        scene.driver.send_signal(signal.SIGINT)
        time.sleep(scene.rng.uniform(0.0, 0.5))
        with contextlib.suppress(ProcessLookupError):
            scene.driver.send_signal(signal.SIGINT)


@final
class CheckpointTorn(Fault):
    """The driver is killed, and the end of a checkpoint never reached the disk."""

    def inject(self, scene: Scene) -> None:
        DriverKilled().inject(scene)
        scene.driver.wait()
        assert scene.place.left_after(20) == []
        path = scene.rng.choice(scene.checkpoints())
        path.write_bytes(path.read_bytes()[: scene.rng.randrange(path.stat().st_size)])


@final
class BitFlipped(Fault):
    """The same, with one wrong bit."""

    def inject(self, scene: Scene) -> None:
        DriverKilled().inject(scene)
        scene.driver.wait()
        assert scene.place.left_after(20) == []
        path = scene.rng.choice(scene.checkpoints())
        data = bytearray(path.read_bytes())
        data[scene.rng.randrange(len(data))] ^= 1 << scene.rng.randrange(8)
        path.write_bytes(data)


@final
class DatabaseLocked(Fault):
    """Another process holds MLflow's database for longer than SQLite waits at once."""

    driver_survives = True

    def inject(self, scene: Scene) -> None:
        connection = sqlite3.connect(scene.place.folder / "mlflow.db", isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(scene.rng.uniform(6.0, 12.0))
            connection.execute("ROLLBACK")


@final
class DiskFull(Fault):
    """For a while nothing can be written to the sweep's folder, a small file system of its own."""

    driver_survives = True

    def inject(self, scene: Scene) -> None:
        filler = scene.folder / "filler"
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(b"0" * 65536)
                file.flush()
        time.sleep(scene.rng.uniform(0.5, 2.0))
        filler.unlink()


FAULTS: dict[str, Fault] = {
    fault.__name__: fault()
    for fault in (
        WorkerKilled,
        DriverKilled,
        RayletKilled,
        Terminated,
        Warned,
        InterruptedTwice,
        CheckpointTorn,
        BitFlipped,
        DatabaseLocked,
        DiskFull,
    )
}


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """`folder` is a file system of so many MB; needs the right to mount one."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "gansweep-chaos", str(folder)],
        check=True,
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def may_mount() -> bool:
    """Whether this process may mount file systems."""
    return (
        os.geteuid() == 0
        and subprocess.run(
            ["unshare", "--mount", "true"], capture_output=True, check=False
        ).returncode
        == 0
    )


def in_training(scene: Scene) -> None:
    """Returns once every trial has a checkpoint, or the driver has ended."""
    wait_for(
        lambda: len(scene.checkpoints()) >= 2 or scene.driver.poll() is not None,
        seconds=180,
        what=f"the first checkpoints of {NAME}",
    )
