"""A process that has imported what a worker needs, and forks each worker of a local Ray.

The import takes seconds of a core, which each worker would pay, and some 300 MB, which all share
now. Of Ray it imports nothing: Ray reads its variables as it is imported, and each worker has its
own.
"""

from __future__ import annotations

import json
import os
import runpy
import secrets
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, final

from gansweep.imports import importing
from gansweep.sweep.forked import BADNESS, DONE, user_of

NEEDED: Final = "gansweep.sweep.worker"
"""What a worker imports, but for Ray."""

PATIENCE_SECONDS = 5.0
"""For a client to say all that it has to say."""


@final
class ForkServer:
    """The process, which lives as long as this one, and its `name`."""

    def __init__(self, variables: Mapping[str, str], *, niceness: int) -> None:
        """`variables` are those of the workers that libraries read as they are imported.

        Clients may ask at once: they wait until the process has imported what it needs.
        """
        self.name: Final = f"gansweep-{secrets.token_hex(16)}"
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(f"\0{self.name}")
            door.listen()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(door.fileno()), str(niceness)],
                env={**os.environ, **variables},
                pass_fds=[door.fileno()],
                stdin=subprocess.PIPE,  # which ends with this process, however that ends
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is the driver's
            )

    @property
    def process(self) -> int:
        """Its id."""
        return self._process.pid

    def close(self) -> None:
        """End it. What it has forked lives on."""
        self._process.kill()
        self._process.communicate()


@final
@dataclass(frozen=True)
class Order:
    """One worker. `files` are to be its standard input, output and error."""

    files: tuple[int, ...]
    arguments: list[str]
    folder: str
    variables: dict[str, str]
    niceness: int
    badness: str

    def carry_out(self) -> None:
        """Be that worker: the process of `python SCRIPT ...`, begun by a raylet."""
        os.setpgid(0, 0)  # raylets end the group that a worker leaves
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for own, given in enumerate(self.files):
            os.dup2(given, own)
            os.close(given)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.variables)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, self.niceness)
        with suppress(OSError):
            BADNESS.write_text(self.badness)
        if "numpy.random" in sys.modules:  # Python's own generator sees to it by itself
            sys.modules["numpy.random"].seed()
        sys.argv[:] = self.arguments
        runpy.run_path(self.arguments[0], run_name="__main__")


def serve(door: socket.socket, *, until: int) -> Order:
    """Fork for whoever asks; returns in each forked process. Ends once the pipe `until` does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none stays as a zombie
    ends: list[Any] = [door, until]
    while until not in select.select(ends, [], [])[0]:
        client, _ = door.accept()
        with client:
            order = _heard(client)
            if order is None:
                continue
            with suppress(OSError):  # no memory for another: the client goes on by itself
                if os.fork() == 0:
                    door.close()
                    return order
                client.sendall(DONE)
        for file in order.files:
            os.close(file)
    sys.exit()


def _heard(client: socket.socket) -> Order | None:
    """What it asks for, where it is the user's own and makes sense."""
    client.settimeout(PATIENCE_SECONDS)
    files: list[int] = []
    try:
        if user_of(client) != os.getuid():
            return None
        _, files, _, _ = socket.recv_fds(client, len(DONE), 3)
        words = b"".join(iter(lambda: client.recv(2**16), b""))
        return Order(tuple(files), **json.loads(words))
    except (OSError, ValueError, TypeError):
        for file in files:
            os.close(file)
        return None


def main() -> None:
    """The process of a `ForkServer`."""
    door, niceness = map(int, sys.argv[1:])
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(own, niceness))
    with importing():
        import_module(NEEDED)
    with socket.socket(fileno=door) as listening:
        order = serve(listening, until=sys.stdin.fileno())
    order.carry_out()


if __name__ == "__main__":
    main()
