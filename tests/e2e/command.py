"""The real command in a folder of its own, and every process that it leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

GANSWEEP = Path(sys.executable).with_name("gansweep")
REPOSITORY = Path(__file__).resolve().parents[2]
SWEEPS = REPOSITORY / "sweeps"
MARK = "GANSWEEP_E2E"
FOREIGN = re.compile(r"MLFLOW_|RAY_|SLURM_|PYTEST_|COLUMNS$|LINES$")


@dataclass(frozen=True)
class Ended:
    """How a command ended. `text` is stdout and stderr together."""

    code: int
    text: str
    seconds: float


class Place:
    """A folder to run gansweep in. Its processes are known by a variable that they inherit."""

    def __init__(self, folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.mark = uuid.uuid4().hex
        kept = {k: v for k, v in os.environ.items() if not FOREIGN.match(k)}
        self.environment = {**kept, "PYTHONUNBUFFERED": "1", **environment, MARK: self.mark}

    def run(self, *words: object, code: int | None = 0, timeout: float = 600) -> Ended:
        """Run `gansweep WORDS` to its end; its exit code must be `code` (None: any)."""
        began = time.monotonic()
        ended = subprocess.run(
            [str(GANSWEEP), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        seconds = time.monotonic() - began
        if code is not None:
            assert ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}{self.log()}"
        return Ended(ended.returncode, ended.stdout, seconds)

    def start(self, *words: object, **popen: Any) -> subprocess.Popen[Any]:
        """Start `gansweep WORDS` in a session of its own."""
        return subprocess.Popen(
            [str(GANSWEEP), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            **popen,
        )

    def log(self) -> str:
        """The ends of the drivers' logs, for messages."""
        return "".join(
            f"\n--- {path}\n{path.read_text(errors='replace')[-4000:]}"
            for path in self.folder.glob("runs/*/driver.log")
        )

    def processes(self) -> list[psutil.Process]:
        """All processes alive that were started from here, in whatever session they are now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def left_after(self, seconds: float) -> list[str]:
        """The command lines of processes that are still there after `seconds`."""
        end = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        return [" ".join(process.cmdline())[:300] for process in left]

    def close(self) -> None:
        """End what was started from here, by process id."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)


TRAINING = ("ray::PackWorker", "ray::_Inner")
"""How Ray calls the process of a worker that has a pack; others wait, or are Ray's own.

The second is Tune's wrapper, which brings the variables of a sweep in a store.
"""


def workers(place: Place) -> list[psutil.Process]:
    """Those started from `place` that train."""
    found = []
    for process in place.processes():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(TRAINING):
                found.append(process)
    return found


def answers(uri: str) -> bool:
    """Whether the MLflow server there is up."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def wait_for(condition: Any, *, seconds: float, what: str) -> Any:
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")
