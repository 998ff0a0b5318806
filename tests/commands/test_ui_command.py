from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from gansweep.commands import ui
from gansweep.processes import below
from gansweep.tracking.mlflow import MlflowStore

SERVER = """
import http.server, sys
sys.stderr.write("a word too many\\n" * 100_000)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).handle_request()
"""

DEAF = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
"""


def stand_in(uri: str, *, port: int, **options: object) -> list[str]:
    """The command of a server that answers once."""
    return [sys.executable, "-c", SERVER, str(port)]


def test_a_server_may_say_a_lot(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    monkeypatch.setattr(ui, "START_SECONDS", 20.0)
    assert ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=_free_port()) == 0
    assert "compare http://127.0.0.1:" in capsys.readouterr().out


def test_the_address_for_others_is_this_machines_name(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    monkeypatch.setattr(ui, "own_name", lambda host: "login1" if host == "0.0.0.0" else host)
    monkeypatch.setattr(ui, "START_SECONDS", 20.0)
    port = _free_port()
    assert ui.ui_command(None, uri=store.uri, host="0.0.0.0", port=port) == 0
    assert f"compare http://login1:{port}\n" in capsys.readouterr().out


def test_a_server_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "END_SECONDS", 0.3)
    server = subprocess.Popen([sys.executable, "-c", DEAF])
    while not (started := below(server.pid)):
        time.sleep(0.05)
    ui._end(server)
    assert server.returncode == -9
    end = time.monotonic() + 5
    while any(_runs(process) for process in started) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_runs(process) for process in started)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
