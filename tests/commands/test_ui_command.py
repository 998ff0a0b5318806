from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gansweep.commands import ui
from gansweep.errors import ConfigError
from gansweep.processes import below
from gansweep.tracking.mlflow import MlflowStore

SERVER = """
import http.server, sys
sys.stderr.write("a word too many\\n" * 100_000)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health)
for _ in range(int(sys.argv[2])):
    server.handle_request()
sys.exit(sys.argv[3] or 0)
"""

DEAF = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
"""


def stand_in(uri: str, *, port: int, **options: object) -> list[str]:
    """The command of a server that answers once."""
    return [sys.executable, "-c", SERVER, str(port), "1", ""]


def stand_in_that_stays(uri: str, *, port: int, **options: object) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), "1000", ""]


def stand_in_that_breaks(uri: str, *, port: int, **options: object) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), "1", "the database has gone"]


def test_a_server_may_say_a_lot(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    assert ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=_free_port()) == 0
    assert "compare http://127.0.0.1:" in capsys.readouterr().out


def test_a_path_with_brackets_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    for name in ("[x] 1", "[/x]"):
        (tmp_path / name).mkdir(parents=True)
        uri = f"sqlite:///{tmp_path / name / 'mlflow.db'}"
        MlflowStore(uri).experiment("sweep")
        assert ui.ui_command(None, uri=uri, host="127.0.0.1", port=_free_port()) == 0
        assert f"starting MLflow over {uri}\n" in capsys.readouterr().out


def test_whoever_has_the_port_is_not_taken_for_the_server(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0", "localhost"):
            with pytest.raises(ConfigError, match=rf"port: {port} of {host} .*in use.*--port"):
                ui.ui_command(None, uri=store.uri, host=host, port=port)


def test_of_two_that_begin_on_one_port_the_later_is_told_at_once(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither's server listens yet; to whoever comes once one does, its port says it."""
    port = _free_port()
    seen: list[str] = []

    def healthy(*words: object) -> None:
        with pytest.raises(ConfigError, match=rf"port: {port} .*another gansweep ui.*--port"):
            ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=port)
        seen.append("a second")

    monkeypatch.setattr(ui, "server_command", lambda *words, **more: [sys.executable, "-c", ""])
    monkeypatch.setattr(ui, "_wait_until_healthy", healthy)
    for _ in range(2):
        assert ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=port) == 0
    assert seen == ["a second"] * 2


def test_a_killed_command_takes_its_server_along() -> None:
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with ui._ends_with_us(server):
        pass
    assert server.poll() is None  # it ends as the command does, by other means
    if not (command := os.fork()):
        with ui._ends_with_us(server):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(command, 0)
    assert server.wait(20) == -signal.SIGTERM


def test_a_server_that_breaks_is_told(store: MlflowStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in_that_breaks)
    with pytest.raises(ConfigError, match="MLflow ended: the database has gone"):
        ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=_free_port())


def test_no_proxy_is_asked_for_this_machine(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it looked at the environment once
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{_free_port()}")
    assert ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=_free_port()) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_too(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def unheard(number: int, frame: Any) -> None:
        raise RuntimeError("the signal ended the command alone")

    def healthy(*words: object) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()

    monkeypatch.setattr(ui, "server_command", stand_in_that_stays)
    monkeypatch.setattr(ui, "_wait_until_healthy", healthy)
    others = below(os.getpid())  # of other tests
    before = signal.signal(number, unheard)
    try:
        assert ui.ui_command(None, uri=store.uri, host="127.0.0.1", port=_free_port()) == 0
        assert signal.getsignal(number) is unheard
    finally:
        signal.signal(number, before)
    assert set(below(os.getpid())) <= set(others)


def test_the_address_for_others_is_this_machines_name(
    store: MlflowStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "server_command", stand_in)
    monkeypatch.setattr(ui, "own_name", lambda host: "login1" if host == "0.0.0.0" else host)
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
    end = time.monotonic() + 60
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
