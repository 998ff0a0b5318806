"""What a local Ray runs as a worker: a request to be forked, in the place of Ray's own script.

Run as a script it takes milliseconds and imports nothing of gansweep. Where no fork server answers,
the process becomes Ray's script, and imports what it needs itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Final

SERVER, SCRIPT = "GANSWEEP_FORK_SERVER", "GANSWEEP_WORKER_SCRIPT"
"""Variables: the path of the server's socket, and that of Ray's own script."""

DONE: Final = b"\1"
"""What the worker answers once it lives; the client's first byte, which brings its files."""


def ask(arguments: list[str]) -> bool:
    """Have a worker forked with these arguments and all else that is this process's."""
    order = {
        "arguments": arguments,
        "folder": os.getcwd(),
        "variables": dict(os.environ),
        "blocked": list(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "client": os.getpid(),
    }
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SERVER])
        socket.send_fds(server, [DONE], [0, 1, 2])
        server.sendall(json.dumps(order).encode())
        server.shutdown(socket.SHUT_WR)
        return server.recv(len(DONE)) == DONE


def main() -> None:
    """Ask, or else become Ray's script."""
    script = os.environ[SCRIPT]
    try:
        forked = ask([script, *sys.argv[1:]])
    except (OSError, KeyError):
        forked = False
    if not forked:
        own = sys.argv[0]
        os.execv(sys.executable, [script if word == own else word for word in sys.orig_argv])


if __name__ == "__main__":
    main()
