"""Ray's start, as far as it can be tried without Ray."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from ray._common.utils import get_default_ray_temp_dir
from ray._private.utils import validate_socket_filepath
from ray.job_config import JobConfig
from ray.tune.execution import class_cache

from gansweep.errors import ConfigError
from gansweep.sweep import startup
from gansweep.sweep.file import Resources
from gansweep.sweep.folder import begin_in_folder

SLOTS = [
    (1.0, 0.0, None, {"CPU": 8.0}, 8),
    (3.0, 0.0, None, {"CPU": 8.0}, 2),
    (0.5, 0.0, None, {"CPU": 2.0}, 4),
    (0.1, 0.0, None, {"CPU": 0.3}, 3),  # 0.3 / 0.1 is 2.9999...
    (1.0, 0.25, None, {"CPU": 8.0, "GPU": 1.0}, 4),
    (1.0, 1.0, None, {"CPU": 2.0, "GPU": 8.0}, 2),
    (1.0, 1.0, None, {"CPU": 8.0}, 1),
    (1.0, 0.0, 3, {"CPU": 8.0}, 3),
    (1.0, 0.0, 30, {"CPU": 8.0}, 8),
    (4.0, 0.0, None, {"CPU": 2.0}, 1),
    (1.0, 0.0, None, {}, 1),
]


@pytest.mark.parametrize(("cpu", "gpu", "concurrent", "have", "count"), SLOTS)
def test_slots(
    cpu: float, gpu: float, concurrent: int | None, have: dict[str, float], count: int
) -> None:
    assert startup.slots(Resources(cpu=cpu, gpu=gpu, concurrent=concurrent), have) == count


def test_several_processes_are_one_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "cores", lambda: 8)
    two = Resources(processes=2)
    assert startup.slots(two, {"CPU": 8.0}) == 4
    assert startup.slots(Resources(processes=2, gpu=1.0), {"CPU": 8.0, "GPU": 5.0}) == 2
    assert [startup.processes(own) for own in (
        Resources(), two, Resources(cpu=2.0, processes=2), Resources(processes=2, concurrent=1),
    )] == [8, 8, 4, 2]  # fmt: skip


def test_ray_clients_are_refused_before_anything() -> None:
    with pytest.raises(ConfigError, match="ray://"):
        startup.start_ray("ray://host:10001", Resources())
    ray = startup.RayStart("ray://host:10001", Resources())
    with pytest.raises(ConfigError, match="ray://"):
        ray.wait()


def test_cores_are_those_of_a_batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    all_of_them = startup.cores()
    assert 1 <= all_of_them <= (os.cpu_count() or 1)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert startup.cores() == 1
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "9999")
    assert startup.cores() == all_of_them


@pytest.mark.parametrize("cpu", ["0", "a lot", str((os.cpu_count() or 1) + 1)])
def test_nothing_is_started_ahead_for_a_bad_file(tmp_path: Path, cpu: str) -> None:
    file = tmp_path / "file.yaml"
    assert startup.start_ahead(file, []) is None
    file.write_text(f"resources: {{cpu: {cpu}}}")
    assert startup.start_ahead(file, []) is None
    assert not startup.is_under_way()


def test_workers_have_the_commands_pythonpath(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, since a cluster's begin elsewhere."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lab", "", "/opt/lab", "lab"]))
    path = startup.worker_environment()["PYTHONPATH"].split(os.pathsep)
    assert path == [os.path.abspath("lab"), "/opt/lab"]
    for nothing in ("", os.pathsep):  # Python would take it for the current folder
        monkeypatch.setenv("PYTHONPATH", nothing)
        assert startup.worker_environment()["PYTHONPATH"] == ""


def test_on_a_cluster_they_are_told_that_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its nodes' workers begin where their Ray was started; a node may not have the folder."""
    told: list[dict[str, str]] = []

    def init(*, runtime_env: dict[str, Any], job_config: JobConfig, **options: object) -> None:
        told.append(runtime_env["env_vars"])
        job_config._py_driver_sys_path.extend(["/before/python"])  # as Ray does
        assert list(job_config._get_proto_job_config().py_driver_sys_path) == []
        raise ConnectionError("away")

    monkeypatch.setattr(startup.ray, "init", init)
    (tmp_path / "command").mkdir()
    (tmp_path / "ray").mkdir()
    monkeypatch.chdir(tmp_path / "command")
    with pytest.raises(ConfigError, match="away"):
        startup.start_ray("host:1", Resources())
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path / "ray")
    begin_in_folder()
    assert Path.cwd() == tmp_path / "ray"  # of a local Ray: it is there already
    os.environ.update(told[0])
    begin_in_folder()
    assert Path.cwd() == tmp_path / "command"
    monkeypatch.chdir(tmp_path / "ray")
    (tmp_path / "command").rmdir()
    begin_in_folder()
    assert Path.cwd() == tmp_path / "ray"


def test_sigterm_stays_ours_whatever_a_library_puts_in_its_place() -> None:
    """From a thread, too, as Ray is started."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))

    def library() -> None:
        with startup._sigterm_kept():
            ctypes.CDLL(None).signal(signal.SIGTERM, None)  # SIG_DFL

    try:
        thread = threading.Thread(target=library)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


def test_tune_asks_for_workers_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `_spare_other_environments` is no longer needed, or no longer works."""
    monkeypatch.setattr(class_cache, "DEFAULT_ENV_VARS", {"PL_DISABLE_FORK": "1"})
    assert class_cache.DEFAULT_ENV_VARS.items() <= startup.worker_environment().items()
    names = {*class_cache.ENV_VARS_TO_PROPAGATE, "AWS_SECRET_ACCESS_KEY", "OTHER"}
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set(names))
    startup._spare_other_environments()
    startup._keep_secrets()
    assert class_cache.DEFAULT_ENV_VARS == {}
    assert "RAY_CHDIR_TO_TRIAL_DIR" in names
    kept = {n for n in names if not n.startswith(("AWS_", "RAY_CHDIR"))}
    assert kept == class_cache.ENV_VARS_TO_PROPAGATE


DOORS = """
import os
from gansweep.sweep import forked, startup
startup._shut_the_doors()
from ray._private import services
print(services.get_node_ip_address(), len(os.environ.get("RAY_AUTH_TOKEN", "")))
"""


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({}, 64),
        ({"RAY_AUTH_MODE": "disabled"}, 0),
        ({"RAY_AUTH_TOKEN": "mine"}, 4),
        ({"RAY_AUTH_TOKEN_PATH": "/a/file"}, 0),
    ],
)
def test_a_local_ray_is_on_loopback_with_a_token_of_its_own_or_the_users(
    given: dict[str, str], length: int
) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", DOORS],
        env={**clean, **given}, stdout=subprocess.PIPE, text=True, timeout=250, check=True,
    )  # fmt: skip
    assert ended.stdout.split() == ["127.0.0.1", str(length)]


UNDER_UV = """
import ray._private.worker as worker
from gansweep.sweep import startup
startup._keep_uv_apart()
print(sorted(worker._maybe_modify_runtime_env(None, False) or {}))
"""


@pytest.mark.parametrize(
    ("given", "asked_for"),
    [({}, []), ({"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1"}, ["py_executable", "working_dir"])],
)
def test_under_uv_run_ray_packs_this_folder_only_where_it_is_told_to(
    given: dict[str, str], asked_for: list[str], tmp_path: Path
) -> None:
    (tmp_path / "uv").symlink_to(sys.executable)
    command = [sys.executable, "-c", UNDER_UV]
    (tmp_path / "run").write_text(f"import subprocess; subprocess.run({command!r}, check=True)")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    ended = subprocess.run(
        [str(tmp_path / "uv"), "run", "--active", "gansweep"], cwd=tmp_path,
        env={**clean, **given}, stdout=subprocess.PIPE, text=True,
        timeout=250, check=True,
    )  # fmt: skip
    assert ended.stdout == f"{asked_for}\n"


def test_an_exit_at_once_takes_every_process_below_with_it(tmp_path: Path) -> None:
    """Those of another session, too, as a raylet's."""
    below = "import os, subprocess, sys, time; os.setsid(); "
    grandchild = f"open({str(tmp_path / 'up')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    child = f"subprocess.run([sys.executable, '-c', {below + grandchild!r}])"
    program = f"""
import subprocess, sys, time, pathlib
from gansweep.sweep.startup import exit_at_once
subprocess.Popen([sys.executable, "-c", {below + child!r}])
while not (up := pathlib.Path({str(tmp_path / "up")!r})).exists() or not up.read_text():
    time.sleep(0.05)
print("flushed", end="")
exit_at_once(7)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=250, check=False
    )
    assert (ended.returncode, ended.stdout) == (7, "flushed")
    pid = int((tmp_path / "up").read_text())
    end = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_exit_at_once_leaves_no_socket_behind() -> None:
    program = """
from gansweep.sweep.forkserver import ForkServer
from gansweep.sweep.startup import exit_at_once
print(ForkServer({}, niceness=0).path, end="")
exit_at_once(7)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, timeout=250, check=False
    )
    assert ended.returncode == 7
    assert ended.stdout.endswith("/forks")
    assert not Path(ended.stdout).parent.exists()


START = """
from gansweep.errors import ConfigError
from gansweep.sweep.file import Resources
from gansweep.sweep.startup import RayStart
try:
    RayStart(None, Resources()).wait()
except ConfigError as error:
    (problem,) = error.problems
    print(problem)
"""


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_whose_path_is_too_long_for_sockets(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on some clusters. Ray's own check, and its own choice of the folder, say the same."""
    monkeypatch.setenv("TMPDIR", "/tmp/" + "t" * 200)  # not asked where the other one is given
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    session = f"session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"  # as Ray names it
    below = f"{session}/sockets/plasma_store"
    room = startup.SOCKET_BYTES - len(f"/ray/{below}")
    for count in (room, room + 1):
        folder = "/tmp/" + "é" * 10
        folder += "t" * (count - len(folder.encode()))
        monkeypatch.setenv(name, folder)
        made = f"{get_default_ray_temp_dir()}/{below}"
        if count == room:
            validate_socket_filepath(made)
            startup._need_room_for_sockets()
            continue
        with pytest.raises(OSError, match="AF_UNIX path length"):
            validate_socket_filepath(made)
        with pytest.raises(ConfigError) as caught:
            startup.start_ray(None, Resources())
        (problem,) = caught.value.problems
        assert problem.where == name
        assert problem.what.startswith(f"{folder} has {count} bytes, and more than {room} ")
        assert problem.remedy == "give RAY_TMPDIR, a shorter one for Ray alone, such as /tmp"


def test_a_local_ray_that_cannot_start_says_why() -> None:
    folder = os.devnull  # in which no folder can be made
    ended = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, "RAY_TMPDIR": folder},
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Ray: a Ray of our own did not start: ")
    assert f"its logs are in {folder}/ray/session_latest/logs" in ended.stdout
    assert "RAY_TMPDIR" in ended.stdout


def test_a_system_without_what_forking_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(Path(tempfile.gettempdir()).glob("gansweep-*"))

    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert startup.fork_server(Resources()) is None
    assert set(Path(tempfile.gettempdir()).glob("gansweep-*")) == before
    monkeypatch.setattr(startup.sys, "platform", "darwin")
    monkeypatch.setattr(startup, "ForkServer", None)
    assert startup.fork_server(Resources()) is None


TIMED_OUT = "The current node timed out during startup. This could happen because ..."


def test_rays_own_time_limit_and_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise Exception(TIMED_OUT)  # as Ray does

    monkeypatch.setattr(startup, "worker_environment", dict)
    monkeypatch.setattr(startup.ray, "init", init)
    for name in ("OMP_NUM_THREADS", "RAY_preload_python_modules", "RAY_num_workers_soft_limit"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    with pytest.raises(ConfigError, match=f"Ray: a Ray of our own did not start: {TIMED_OUT}"):
        startup.start_ray(None, Resources())

    over = threading.Event()
    monkeypatch.setattr(startup, "fork_server", lambda resources: None)
    monkeypatch.setattr(startup.RayStart, "_live", lambda self: over.wait(120))
    monkeypatch.setattr(startup, "LOCAL_START_SECONDS", 0.1)
    try:
        with pytest.raises(ConfigError, match=r"it is not up after 0\.1 s"):
            startup.RayStart(None, Resources()).wait()
    finally:
        over.set()


@pytest.mark.parametrize("address", [None, "host:1"])
def test_nothing_of_tunes_is_collected_while_ray_ends(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ends a process that drops a reference meanwhile."""

    class Node:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.setattr(startup, "fork_server", lambda resources: None)
    monkeypatch.setattr(startup.RayStart, "_live", lambda self: self._over.wait(30))
    gc.disable()
    try:
        seen = weakref.ref(Node())
        startup.RayStart(address, Resources()).stop()
        gc.collect()
        assert seen() is not None
        gc.unfreeze()
        gc.collect()
        assert seen() is None
    finally:
        gc.enable()


def test_lines_of_workers_that_come_while_ray_ends_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver's log is closed then; those that Ray holds back come before."""
    from ray._private import ray_logging, worker

    shown: list[str] = []
    dispatcher = ray_logging.WorkerStandardStreamDispatcher()
    dispatcher.add_handler("ray_print_logs", shown.append)
    monkeypatch.setattr(ray_logging, "global_worker_stdstream_dispatcher", dispatcher)
    held_back = SimpleNamespace(flush=lambda: ["held back"])
    for name in ("stdout_deduplicator", "stderr_deduplicator"):
        monkeypatch.setattr(ray_logging, name, held_back)
    monkeypatch.setattr(worker, "print_worker_logs", lambda batch, file, plain: shown.append(batch))
    monkeypatch.setattr(startup, "fork_server", lambda resources: None)
    monkeypatch.setattr(startup.RayStart, "_live", lambda self: self._over.wait(30))
    own = startup.RayStart(None, Resources())
    dispatcher.emit("early")
    own.stop()
    dispatcher.emit("late")
    gc.unfreeze()
    assert shown == ["early", "held back", "held back"]
