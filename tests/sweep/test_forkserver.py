"""A real fork server, which imports what a worker needs, and clients as a raylet starts them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gansweep.sweep import forked, forkserver
from gansweep.sweep.forkserver import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a local Ray forks on Linux alone")

NICENESS = 15

SCRIPT = """
import json, os, signal, sys, numpy
if __name__ == "__main__":
    print(json.dumps({
        "arguments": sys.argv, "folder": os.getcwd(), "variables": dict(os.environ),
        "process": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0), "input": sys.stdin.read(),
        "children": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        "lightning": "pytorch_lightning" in sys.modules, "ray": "ray" in sys.modules,
        "badness": open("/proc/self/oom_score_adj").read().strip(),
        "files": len(os.listdir("/proc/self/fd")), "draw": numpy.random.random(),
    }))
    print("said", file=sys.stderr)
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer({"OMP_NUM_THREADS": "1"}, niceness=NICENESS)
    yield server
    server.close()


def asked(folder: Path, name: str, *arguments: str, seconds: float = 60) -> dict[str, object]:
    """What SCRIPT says, run by way of the server `name`; `client` is who asked for it."""
    script, out, err = folder / "ray.py", folder / "out", folder / "err"
    script.write_text(SCRIPT)
    with out.open("w") as output, err.open("w") as errors:
        client = subprocess.Popen(
            [sys.executable, forked.__file__, *arguments],
            cwd=folder,
            env={**os.environ, "MINE": "\udcff", forked.SERVER: name, forked.SCRIPT: str(script)},
            stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True,
            preexec_fn=lambda: os.nice(16),
        )  # fmt: skip
        client.communicate("given", timeout=seconds)
    end = time.monotonic() + seconds
    while err.read_text() != "said\n":
        assert time.monotonic() < end, err.read_text()
        time.sleep(0.01)
    return {**json.loads(out.read_text()), "client": client.pid, "code": client.returncode}


def test_a_fork_is_the_process_that_the_client_would_be(server: ForkServer, tmp_path: Path) -> None:
    found = asked(tmp_path, server.name, "--node", "a b")
    assert found["code"] == 0
    assert found["arguments"] == [str(tmp_path / "ray.py"), "--node", "a b"]
    assert found["folder"] == str(tmp_path)
    variables = found["variables"]
    assert isinstance(variables, dict)
    assert variables["MINE"] == "\udcff"
    assert "OMP_NUM_THREADS" not in variables or "OMP_NUM_THREADS" in os.environ
    assert found["input"] == "given"
    assert found["parent"] == server.process
    assert found["group"] == found["process"]
    assert found["niceness"] == max(16, os.getpriority(os.PRIO_PROCESS, 0))
    assert found["children"] is True
    assert found["badness"] == forked.BADNESS.read_text().strip()
    assert found["files"] == 4  # with the folder that is listed
    assert (found["lightning"], found["ray"]) == (True, False)


def test_forks_differ_and_leave_nothing(server: ForkServer, tmp_path: Path) -> None:
    found = [asked(tmp_path, server.name) for _ in range(2)]
    assert found[0]["draw"] != found[1]["draw"]
    assert found[0]["process"] != found[1]["process"]
    end = time.monotonic() + 10
    while psutil.Process(server.process).children():  # zombies, too
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_has_one_thread_and_has_not_asked_for_a_gpu(server: ForkServer, tmp_path: Path) -> None:
    """Else a fork could wait for a lock that nobody opens, and CUDA would refuse it."""
    asked(tmp_path, server.name)
    process = psutil.Process(server.process)
    assert process.num_threads() == 1
    assert process.nice() == max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
    code = f"""
import importlib, torch
def refuse(*_):
    raise AssertionError("CUDA was asked")
for name in ("init", "_lazy_init", "is_available", "device_count", "current_device"):
    getattr(torch.cuda, name)
    setattr(torch.cuda, name, refuse)
importlib.import_module({forkserver.NEEDED!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", ["gansweep-no-such-server", ""])
def test_without_a_server_the_client_is_the_worker(name: str, tmp_path: Path) -> None:
    found = asked(tmp_path, name, "--node")
    assert found["process"] == found["client"]
    assert found["arguments"] == [str(tmp_path / "ray.py"), "--node"]
    assert (found["code"], found["lightning"]) == (3, False)


def test_nonsense_is_not_heard(server: ForkServer, tmp_path: Path) -> None:
    for words in (b"", b"no json", b"{}", b'{"files": 1}'):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0{server.name}")
            socket.send_fds(client, [forked.DONE], [0])
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    assert asked(tmp_path, server.name)["parent"] == server.process


def test_it_ends_with_who_has_it_and_the_client_goes_on(tmp_path: Path) -> None:
    """Also while it imports, with a client at the door."""
    code = """
import sys, time
from gansweep.sweep.forkserver import ForkServer
server = ForkServer({}, niceness=0)
print(server.name, server.process, flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    name, number = holder.stdout.readline().split()
    process = psutil.Process(int(number))
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    found = asked(tmp_path, name)
    assert found["process"] == found["client"]
    process.wait(30)


def test_it_is_closed(tmp_path: Path) -> None:
    server = ForkServer({}, niceness=0)
    server.close()
    assert not psutil.pid_exists(server.process)
    assert asked(tmp_path, server.name)["lightning"] is False
