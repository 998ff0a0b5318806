"""A process that has imported what a worker needs, and forks each worker of a local Ray.

The import takes seconds of a core, which each worker would pay, and some 300 MB, which all share
now. Of Ray it imports nothing: Ray reads its variables as it is imported, and each worker has its
own. Nor does anything here compute, start a thread or ask for a GPU: what a library has begun, a
fork does not go on with. (OpenBLAS has threads from its import on, and sees to forks by itself.)
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

from gansweep.imports import importing
from gansweep.processes import below, kill
from gansweep.sweep.forked import DONE

NEEDED: Final = (
    "gansweep.sweep.worker",
    *("pandas", "pyarrow.compute", "pydantic.v1.fields", "requests"),
)
"""What a worker imports, but for Ray: the first by itself, the rest by way of Ray. The compiler, a
second of imports, is left to one that compiles: what has been compiled is loaded without."""

THREADLESS: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow's allocator would begin a thread as it is imported."""

PATIENCE_SECONDS = 5.0
"""For a client to go on with what it says."""


_folders: Final[set[Path]] = set()
"""Of the sockets of this process's servers."""


@final
class ForkServer:
    """The process, which ends with this one, and the path of its socket.

    A folder that nobody else may enter holds the socket: who can connect has workers run code.
    """

    def __init__(self, variables: Mapping[str, str], *, niceness: int) -> None:
        """`variables` are those of the workers that libraries read as they are imported.

        Clients may ask at once: they wait until the process has imported what it needs.

        Raises:
            OSError: the system refuses a socket or a process.
        """
        folder = tempfile.mkdtemp(prefix="gansweep-")
        self.path: Final = f"{folder}/forks"
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(self.path)
                door.listen()
                self._process = subprocess.Popen(
                    # -P: of modules in the current folder, workers take care.
                    [
                        *(sys.executable, "-P", "-m", __name__),
                        *(str(door.fileno()), str(niceness), folder),
                    ],
                    env={**os.environ, **variables, **THREADLESS},
                    pass_fds=[door.fileno()],
                    stdin=subprocess.PIPE,  # which ends with this process, however that ends
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is the driver's
                )
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _folders.add(Path(folder))

    @property
    def process(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is there no more."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it, and what it has forked and Ray does not know yet."""
        kill(*below(self.process))
        self._process.kill()
        self._process.communicate()
        folder = Path(self.path).parent
        shutil.rmtree(folder, ignore_errors=True)
        _folders.discard(folder)


def remove_sockets() -> None:
    """Of all servers of this process, which have ended."""
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)


@final
@dataclass(frozen=True)
class Order:
    """One worker. `files` are to be its standard input, output and error."""

    files: tuple[int, ...]
    arguments: list[str]
    folder: str
    variables: dict[str, str]
    blocked: list[int]
    client: int

    def take_after_client(self) -> None:
        """Have what a raylet gave the client, apart from what it says."""
        client = self.client
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, client))
        for name in dir(resource):
            if name.startswith("RLIMIT_"):
                with suppress(OSError, ValueError):
                    number = getattr(resource, name)
                    resource.setrlimit(number, resource.prlimit(client, number))
        with suppress(OSError):
            badness = Path(f"/proc/{client}/oom_score_adj").read_text()
            Path("/proc/self/oom_score_adj").write_text(badness)

    def carry_out(self) -> None:
        """Be that worker: the process of `python SCRIPT ...`, begun by a raylet."""
        os.setpgid(0, 0)  # raylets end the group that a worker leaves
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        for own, given in enumerate(self.files):
            os.dup2(given, own)
            os.close(given)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.variables)
        if "numpy.random" in sys.modules:  # Python's own generator sees to it by itself
            sys.modules["numpy.random"].seed()
        sys.argv[:] = self.arguments
        runpy.run_path(self.arguments[0], run_name="__main__")


def serve(door: socket.socket, *, until: int) -> Order | None:
    """Fork for whoever asks; returns the order in each forked process, None once `until` ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none stays as a zombie
    ends: list[Any] = [door, until]
    while until not in select.select(ends, [], [])[0]:
        client, _ = door.accept()
        with client:
            order = _heard(client)
            if order and _is_forked():
                door.close()
                order.take_after_client()
                _answer(client)
                return order
        for file in order.files if order else ():
            os.close(file)
    return None


def _heard(client: socket.socket) -> Order | None:
    """What it asks for, where that makes sense."""
    client.settimeout(PATIENCE_SECONDS)
    files: list[int] = []
    try:
        _, files, _, _ = socket.recv_fds(client, len(DONE), 3)
        words = b"".join(iter(lambda: client.recv(2**16), b""))
        return Order(tuple(files), **json.loads(words))
    except (OSError, ValueError, TypeError):
        for file in files:
            os.close(file)
        return None


def _is_forked() -> bool:
    """Fork; whether this is the new process. Where there is no room for it, the client goes on."""
    try:
        return os.fork() == 0
    except OSError:
        return False


def _answer(client: socket.socket) -> None:
    """Say that the worker lives. Where nobody hears it, another one does already."""
    try:
        client.sendall(DONE)
    except OSError:
        os._exit(0)


def main() -> None:
    """The process of a `ForkServer`."""
    door, niceness, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with suppress(OSError):
        own = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, 0, max(own, niceness))
    with importing():
        for name in NEEDED:
            import_module(name)
    with socket.socket(fileno=door) as listening:
        order = serve(listening, until=sys.stdin.fileno())
    if order:
        order.carry_out()
    else:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
