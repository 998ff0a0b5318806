"""A real fork server, which imports what a worker needs, and clients as a raylet starts them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gansweep.sweep import forked, forkserver
from gansweep.sweep.forkserver import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a local Ray forks on Linux alone")

NICENESS = 15
OWN = os.getpriority(os.PRIO_PROCESS, 0) if sys.platform == "linux" else 0

SCRIPT = """
import json, os, resource, signal, sys, numpy
if __name__ == "__main__":
    numpy.ones((64, 64)) @ numpy.ones((64, 64))
    if "torch" in sys.modules:
        sys.modules["torch"].ones(64, 64) @ sys.modules["torch"].ones(64, 64)
    print(json.dumps({
        "arguments": sys.argv, "folder": os.getcwd(), "variables": dict(os.environ),
        "process": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0), "input": sys.stdin.read(),
        "children": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "open": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "site": sys.flags.no_user_site,
        "lightning": "pytorch_lightning" in sys.modules, "ray": "ray" in sys.modules,
        "badness": open("/proc/self/oom_score_adj").read().strip(),
        "files": len(os.listdir("/proc/self/fd")), "draw": numpy.random.random(),
    }))
    print("said", file=sys.stderr)
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """Of workers with two threads each."""
    server = ForkServer({"OMP_NUM_THREADS": "2", "ITS": "own"}, niceness=NICENESS)
    yield server
    folder = Path(server.path).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    server.close()
    assert not folder.exists()


def limited() -> None:
    """What a raylet does to a process, or its own parent did."""
    os.setpriority(os.PRIO_PROCESS, 0, min(19, OWN + 16))
    resource.setrlimit(resource.RLIMIT_NOFILE, (321, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    Path("/proc/self/oom_score_adj").write_text("789")


def client(folder: Path, path: str, *arguments: str) -> subprocess.Popen[str]:
    """Asks the server at `path` to run SCRIPT, or runs it."""
    script = folder / "ray.py"
    script.write_text(SCRIPT)
    variables = {"MINE": "\udcff", forked.SERVER: path, forked.SCRIPT: str(script)}
    with (folder / "out").open("w") as output, (folder / "err").open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-s", forked.__file__, *arguments],
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True, preexec_fn=limited,
        )  # fmt: skip


def asked(folder: Path, path: str, *arguments: str, seconds: float = 250) -> dict[str, Any]:
    """What SCRIPT says; `client` is who asked for it, and `code` how that ended."""
    process = client(folder, path, *arguments)
    process.communicate("given", timeout=seconds)
    end = time.monotonic() + seconds
    while (folder / "err").read_text() != "said\n":
        assert time.monotonic() < end, (folder / "err").read_text()
        time.sleep(0.01)
    said = json.loads((folder / "out").read_text())
    return {**said, "client": process.pid, "code": process.returncode}


def gone(process: int, seconds: float = 30) -> None:
    """Returns once it is there no more, or only its name is."""
    end = time.monotonic() + seconds
    while psutil.pid_exists(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
                return
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_fork_is_the_process_that_the_client_would_be(server: ForkServer, tmp_path: Path) -> None:
    found = asked(tmp_path, server.path, "--node", "a b")
    alone = asked(tmp_path, "", "--node", "a b")
    assert found["parent"] == server.process
    assert found["group"] == found["process"]
    assert (found["code"], found["lightning"], found["ray"]) == (0, True, False)
    assert alone["process"] == alone["client"]
    assert (alone["code"], alone["lightning"], alone["site"]) == (3, False, 1)
    assert found["variables"].pop(forked.SERVER) == server.path
    assert "ITS" not in found["variables"]
    alone["variables"].pop(forked.SERVER)
    for same in ("arguments", "folder", "variables", "input", "niceness", "children", "blocked",
                 "open", "badness", "files"):  # fmt: skip
        assert found[same] == alone[same], same
    assert found["arguments"] == [str(tmp_path / "ray.py"), "--node", "a b"]
    assert (found["input"], found["open"], found["badness"]) == ("given", 321, "789")
    assert found["blocked"] == [signal.SIGINT]
    assert found["variables"]["MINE"] == "\udcff"
    assert found["niceness"] == min(19, OWN + 16)


def test_forks_differ_and_leave_nothing(server: ForkServer, tmp_path: Path) -> None:
    found = [asked(tmp_path, server.path) for _ in range(2)]
    assert found[0]["draw"] != found[1]["draw"]
    assert found[0]["process"] != found[1]["process"]
    end = time.monotonic() + 60
    while psutil.Process(server.process).children():  # zombies, too
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_has_no_thread_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    """Else a fork could wait for a lock that nobody opens. OpenBLAS ends its own before a fork."""
    for _ in range(2):
        assert asked(tmp_path, server.path)["parent"] == server.process  # having multiplied
    process = psutil.Process(server.process)
    assert process.num_threads() == 1
    assert process.nice() == max(NICENESS, OWN)


@pytest.mark.long
def test_what_it_imports_asks_for_no_gpu() -> None:
    """Else CUDA would refuse to be used in a fork."""
    code = f"""
import importlib, torch
asked = []
for name in ("init", "_lazy_init", "is_available", "device_count", "current_device"):
    setattr(torch.cuda, name, lambda *_, name=name, plain=getattr(torch.cuda, name): (
        asked.append(name), plain())[1])
for name in {forkserver.NEEDED!r}:
    importlib.import_module(name)
print(asked)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=250, stdout=-1)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("path", ["/no/such/server", "", "x" * 200])
def test_without_a_server_the_client_is_the_worker(path: str, tmp_path: Path) -> None:
    found = asked(tmp_path, path, "--node")
    assert found["process"] == found["client"]
    assert found["arguments"] == [str(tmp_path / "ray.py"), "--node"]
    assert (found["code"], found["lightning"]) == (3, False)


def test_nonsense_is_not_heard(server: ForkServer, tmp_path: Path) -> None:
    for words in (b"", b"no json", b"{}", b'{"files": 1}'):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(server.path)
            socket.send_fds(one, [forked.DONE], [0])
            one.sendall(words)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(1) == b""
    assert asked(tmp_path, server.path)["parent"] == server.process


@pytest.mark.long
def test_a_silent_client_holds_nobody_up_for_long(server: ForkServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(server.path)
        began = time.monotonic()
        assert asked(tmp_path, server.path)["parent"] == server.process
        waited = time.monotonic() - began
    assert forkserver.PATIENCE_SECONDS / 2 < waited < 40


def test_nobody_works_for_a_client_that_has_gone(tmp_path: Path) -> None:
    """As one that a raylet gave up while the server imported; another has taken its place."""
    server = ForkServer({}, niceness=0)
    os.kill(server.process, signal.SIGSTOP)
    try:
        lost = client(tmp_path, server.path)
        end, asking = time.monotonic() + 60, psutil.Process(lost.pid)
        while not (asking.net_connections("unix") and asking.status() == psutil.STATUS_SLEEPING):
            assert time.monotonic() < end
            time.sleep(0.01)
        lost.kill()  # it has said all, and waits
        lost.communicate()
        os.kill(server.process, signal.SIGCONT)
        (tmp_path / "other").mkdir()
        assert asked(tmp_path / "other", server.path)["parent"] == server.process
        assert (tmp_path / "out").read_text() == ""
    finally:
        server.close()


def test_where_nothing_can_be_forked_the_client_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    assert not forkserver._is_forked()


def test_it_ends_with_who_has_it_and_the_client_goes_on(tmp_path: Path) -> None:
    """Also while it imports, with a client at the door."""
    code = """
import sys, time
from gansweep.sweep.forkserver import ForkServer
server = ForkServer({}, niceness=0)
print(server.path, server.process, flush=True)
time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    path, process = holder.stdout.readline().split()
    waits = client(tmp_path, path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    waits.communicate("given", timeout=250)
    said = json.loads((tmp_path / "out").read_text())
    assert said["process"] == waits.pid
    gone(int(process))
    assert not Path(path).parent.exists()


def test_it_is_closed_with_what_it_forked(tmp_path: Path) -> None:
    server = ForkServer({}, niceness=0)
    assert not server.has_ended
    one = client(tmp_path, server.path)  # which waits for its input
    assert one.wait(250) == 0
    (fork,) = psutil.Process(server.process).children()
    server.close()
    assert server.has_ended
    gone(fork.pid)
    assert asked(tmp_path, server.path)["lightning"] is False
