"""Injuries to a sweep in training, each at a moment that a seeded generator draws."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import psutil
from e2e.command import Place, wait_for, workers

from . import ground
from .ground import Ground
from .sweep import NAME

HANG_SECONDS = 420.0
"""A sweep of half a minute that takes longer hangs, on a machine with five times its load, too."""

STOP_SECONDS = 90.0
"""The same for a graceful stop, which has a limit of its own of 60 s."""

GONE_SECONDS = 90.0
"""The same for the last process of a killed command.

A worker that Ray was just starting looks for it for some 25 s; it has written nothing, and ends.
"""


@dataclass
class Scene:
    """A sweep in training: its driver, its folder, what it runs on, and the dice.

    before: when each checkpoint was written that was there before the driver.
    """

    place: Place
    driver: subprocess.Popen[Any]
    folder: Path
    ground: Ground
    rng: random.Random
    before: dict[Path, int]

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
    """One kind of injury.

    driver_survives: whether the command is to complete in spite of it; alone: whether it cannot be
    followed by another one; seconds: when the command has ended at the latest; ground: what it
    needs.
    """

    driver_survives: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    seconds: ClassVar[float] = HANG_SECONDS
    ground: Callable[[Place], AbstractContextManager[Ground]] = staticmethod(ground.folder)

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
        found = wait_for(lambda: workers(scene.place), seconds=60, what="a worker that trains")
        kill([scene.rng.choice(found)])


@final
class ForkServerKilled(Fault):
    """What workers are forked from, and one of them: the next one has to start by itself."""

    driver_survives = True

    def inject(self, scene: Scene) -> None:
        kill(scene.processes("gansweep.sweep.forkserver"))
        WorkerKilled().inject(scene)


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

    seconds = STOP_SECONDS

    def inject(self, scene: Scene) -> None:
        scene.driver.send_signal(signal.SIGTERM)


@final
class Warned(Fault):
    """Slurm's --signal=USR1."""

    seconds = STOP_SECONDS

    def inject(self, scene: Scene) -> None:
        scene.driver.send_signal(signal.SIGUSR1)


@final
class InterruptedTwice(Fault):
    """Ctrl-C, and again before the trials are put aside."""

    seconds = STOP_SECONDS

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
        assert scene.place.left_after(GONE_SECONDS) == []
        path = scene.rng.choice(scene.checkpoints())
        path.write_bytes(path.read_bytes()[: scene.rng.randrange(path.stat().st_size)])


@final
class BitFlipped(Fault):
    """The same, with one wrong bit."""

    def inject(self, scene: Scene) -> None:
        DriverKilled().inject(scene)
        scene.driver.wait()
        assert scene.place.left_after(GONE_SECONDS) == []
        path = scene.rng.choice(scene.checkpoints())
        data = bytearray(path.read_bytes())
        data[scene.rng.randrange(len(data))] ^= 1 << scene.rng.randrange(8)
        path.write_bytes(data)


@final
class DatabaseLocked(Fault):
    """Another process holds MLflow's database for longer than SQLite waits at once."""

    driver_survives = True

    def inject(self, scene: Scene) -> None:
        connection = sqlite3.connect(scene.ground.database, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(scene.rng.uniform(6.0, 12.0))
            connection.execute("ROLLBACK")


@final
class DiskFull(Fault):
    """For a while nothing can be written to the sweep's folder, a small file system of its own."""

    driver_survives = True
    ground = staticmethod(ground.small_disk)

    def inject(self, scene: Scene) -> None:
        filler = scene.folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"0" * 65536)
        time.sleep(scene.rng.uniform(0.5, 2.0))
        filler.unlink()


@final
class ServerAway(Fault):
    """The MLflow server gets SIGKILL and comes again after many delivery intervals."""

    driver_survives = True
    ground = staticmethod(ground.served)

    def inject(self, scene: Scene) -> None:
        server = scene.ground.server
        assert server is not None
        server.kill()
        time.sleep(scene.rng.uniform(10.0, 20.0))
        server.start()


@final
class NodeKilled(Fault):
    """Every process of a cluster's second node gets SIGKILL, and the node stays away."""

    driver_survives = True
    alone = True
    ground = staticmethod(ground.two_nodes)

    def inject(self, scene: Scene) -> None:
        nodes = scene.ground.nodes
        assert nodes is not None
        wait_for(
            lambda: nodes.workers(nodes.second), seconds=60, what="training on the second node"
        )
        kill(nodes.second.processes())


@final
class ClockBack(Fault):
    """The wall clock of driver and workers steps backwards, as Python sees it.

    clock/sitecustomize.py shifts `time.time` and `time.time_ns`; monotonic clocks, files' times and
    Ray's C++ keep theirs.
    """

    driver_survives = True

    def inject(self, scene: Scene) -> None:
        clock = Path(scene.place.environment["CHAOS_CLOCK"])
        now = float(clock.read_text()) if clock.exists() else 0.0
        draft = clock.with_suffix(".new")
        draft.write_text(str(now - scene.rng.uniform(60.0, 7200.0)))
        draft.replace(clock)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault()
    for fault in (
        WorkerKilled,
        ForkServerKilled,
        DriverKilled,
        RayletKilled,
        Terminated,
        Warned,
        InterruptedTwice,
        CheckpointTorn,
        BitFlipped,
        DatabaseLocked,
        DiskFull,
        ServerAway,
        NodeKilled,
        ClockBack,
    )
}


def in_training(scene: Scene) -> None:
    """Returns once the present command has written checkpoints of two trials, or has ended."""
    wait_for(
        lambda: (
            sum(scene.before.get(path) != modified(path) for path in scene.checkpoints()) >= 2
            or scene.driver.poll() is not None
        ),
        seconds=300,
        what=f"fresh checkpoints of {NAME}",
    )


def modified(path: Path) -> int:
    """When a file was written, in ns; 0 where it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0
