"""What a local Ray runs as a worker: a request to be forked, in the place of Ray's own script.

Run as a script it takes milliseconds and imports nothing of gansweep. Where no fork server answers,
the process becomes Ray's script, and imports what it needs itself.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Final

SERVER, SCRIPT = "GANSWEEP_FORK_SERVER", "GANSWEEP_WORKER_SCRIPT"
"""Variables: the server's name among Linux' abstract sockets, and the path of Ray's own script."""

DONE: Final = b"\1"
"""The server's answer once the worker lives."""

BADNESS: Final = Path("/proc/self/oom_score_adj")
"""How likely a process is to be ended where the machine's memory runs out: raylets set it."""


def ask(arguments: list[str]) -> bool:
    """Have the server fork a worker with these arguments and all else that is this process's."""
    order = {
        "arguments": arguments,
        "folder": os.getcwd(),
        "variables": dict(os.environ),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "badness": BADNESS.read_text(),
    }
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"\0{os.environ[SERVER]}")
        if user_of(server) != os.getuid():
            return False
        socket.send_fds(server, [DONE], [0, 1, 2])
        server.sendall(json.dumps(order).encode())
        server.shutdown(socket.SHUT_WR)
        return server.recv(len(DONE)) == DONE


def user_of(peer: socket.socket) -> int:
    """The id of the user whose process is at the other end."""
    form = "3i"
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    return int(struct.unpack(form, credentials)[1])


def main() -> None:
    """Ask, or else become Ray's script."""
    arguments = [os.environ[SCRIPT], *sys.argv[1:]]
    try:
        forked = ask(arguments)
    except (OSError, KeyError):
        forked = False
    if not forked:
        os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
