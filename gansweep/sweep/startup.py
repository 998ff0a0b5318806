"""Ray's start: a local Ray comes up, and what its workers need, while the driver plans."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import math
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn, final

import ray
from ray.job_config import JobConfig

from gansweep.errors import ConfigError
from gansweep.processes import below, kill
from gansweep.sweep.file import Resources, peek_resources
from gansweep.sweep.folder import folder_variable, python_path
from gansweep.sweep.forkserver import ForkServer, remove_sockets
from gansweep.sweep.grace import TERMINATE_SIGNALS
from gansweep.sweep.lean_node import LOCAL_START_SECONDS, lean_node

log = logging.getLogger("gansweep")

OBJECT_STORE_BYTES = 128 * 1024**2
"""Shared memory of a local Ray: trials exchange small results only."""

WARM = "gansweep.sweep.warm"
"""What the workers of a local Ray import at once, as far as the fork server has not."""

SERVICE_NICENESS, WORKER_NICENESS = 10, 15
"""Of a local Ray's own processes and of its workers, whose 15 is Ray's default."""

SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Of the path of a Unix socket."""

WATCH_SECONDS = 1.0
"""Between two looks at whether a local Ray's services live."""

THREAD = "ray"
"""Name of the thread that a Ray lives by."""


@final
class RayStart:
    """Ray, being started in a thread or joined at `address`.

    The thread lives as long as a local Ray: Linux ends the processes that a thread started when
    that thread ends, so they never outlive this one, however it ends.
    """

    def __init__(self, address: str | None, resources: Resources) -> None:
        """`resources` are what a trial takes."""
        self._address = address
        self._asked = resources
        # A local Ray is told how many trials fit and calls each a CPU: it starts a worker for each.
        self.resources: Final = resources if address else replace(resources, cpu=1.0)
        self._have: dict[str, float] = {}
        self._error: BaseException | None = None
        self._on_death: Callable[[str], None] | None = None
        self._up = threading.Event()
        self._over = threading.Event()
        self._forks = fork_server(resources) if self.is_local else None
        self._thread = threading.Thread(target=self._live, name=THREAD, daemon=True)
        self._thread.start()

    @property
    def is_local(self) -> bool:
        """Whether this Ray is of our making."""
        return self._address is None

    def wait(self) -> dict[str, float]:
        """Ray's resources, once it is up.

        Raises:
            ConfigError: there is no such cluster, a local Ray does not start, or a trial asks for
                more than there is.
        """
        if not self._up.wait(LOCAL_START_SECONDS if self.is_local else None):
            raise _not_started(f"it is not up after {LOCAL_START_SECONDS:g} s")
        if self._error:
            raise self._error
        _keep_secrets()
        if self.is_local:
            _spare_other_environments()
        return self._have

    def watch(self, on_death: Callable[[str], None] | None) -> None:
        """Have `on_death` called once, in another thread, if a part of a local Ray ends by itself.

        Ray would wait for it for ever. Of a cluster, those who run it take care. None: no more.
        """
        self._on_death = on_death

    def stop(self) -> None:
        """Leave the cluster. A local Ray begins to end, which takes seconds: none waits for it.

        `exit_at_once` ends what is left of it.

        Tune leaves references to Ray's objects in cycles. Were they collected while Ray ends, in
        whatever thread, its C++ would end this process with the exit code 1: they stay for good.
        """
        gc.freeze()
        _hear_no_more_lines()
        self._over.set()
        if not self.is_local:
            self._thread.join()

    def _live(self) -> None:
        if self.is_local:
            _yield_to_the_driver()
            _shut_the_doors()
        try:
            with lean_node(self._forks) if self.is_local else contextlib.nullcontext():
                self._have = start_ray(self._address, self.resources, asked=self._asked)
        except BaseException as error:
            self._end_forks()
            self._error = error
            self._up.set()
            return
        self._up.set()
        forks = self._forks
        while not self._over.wait(WATCH_SECONDS):
            if forks and forks.has_ended:
                log.warning("the process that forks workers has ended: they start by themselves")
                forks = None
            on_death = self._on_death
            dead = _dead_services() if self.is_local and on_death else []
            if dead and on_death:
                self._on_death = None
                on_death(f"Ray's {dead[0]} has ended")
        ray.shutdown()
        self._end_forks()

    def _end_forks(self) -> None:
        if self._forks:
            self._forks.close()


def _not_started(words: str) -> ConfigError:
    """Of a local Ray, in its own words."""
    _, folder = _temporary()
    return ConfigError.single(
        "Ray",
        f"a Ray of our own did not start: {words}",
        f"its logs are in {folder}/ray/session_latest/logs; it needs a writable folder (RAY_TMPDIR "
        "names another), some space there and in /dev/shm, and free memory",
    )


def _temporary() -> tuple[str, str]:
    """The folder for files of a local Ray, as Ray chooses it, after the variable that names it."""
    for name in ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",):
        if folder := os.environ.get(name):
            return name, folder
    return "RAY_TMPDIR", "/tmp"


def _need_room_for_sockets() -> None:
    """ConfigError where the paths of a local Ray's sockets would be longer than the system has."""
    name, folder = _temporary()
    session = f"session_YYYY-mm-dd_HH-MM-SS_ffffff_{os.getpid()}"
    room = SOCKET_BYTES - len(f"/ray/{session}/sockets/plasma_store")
    if (count := len(os.fsencode(folder.rstrip("/")))) > room:
        raise ConfigError.single(
            name,
            f"{folder} has {count} bytes, and more than {room} make paths of sockets too long",
            "give RAY_TMPDIR, a shorter one for Ray alone, such as /tmp",
        )


def _dead_services() -> list[str]:
    """What of the local Ray is not alive any more, by name. Where Ray has changed, nothing."""
    import ray._private.worker

    try:
        return [str(name) for name, _ in ray._private.worker._global_node.dead_processes()]
    except AttributeError:
        return []


def is_under_way() -> bool:
    """Whether this process has a Ray that comes up or is up."""
    return any(thread.name == THREAD for thread in threading.enumerate())


def exit_at_once(code: int) -> NoReturn:
    """End this process and every one below it, without waiting for a Ray that comes up.

    Python would wait for the thread that starts it, or crash in it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kill(*below(os.getpid()))
    remove_sockets()
    os._exit(code)


def start_ahead(file: Path, overrides: Sequence[str]) -> RayStart | None:
    """A local Ray for the sweep of `file`; None where the file is not good enough to know."""
    resources = peek_resources(file, overrides)
    if resources is None or resources.cpu * resources.processes > cores():
        return None
    for each in TERMINATE_SIGNALS:
        signal.signal(each, lambda number, frame: sys.exit(number))  # as Ray's own for SIGTERM
    return RayStart(None, resources)


def start_ray(
    address: str | None, resources: Resources, *, asked: Resources | None = None
) -> dict[str, float]:
    """Join the cluster at `address`, or start a local Ray; returns its resources.

    `asked` is what a trial takes in truth, where `resources` says it in terms of a local Ray.
    ConfigError where there is no such cluster, or where a trial asks for more than it has.
    """
    if address and address.startswith("ray://"):
        raise ConfigError.single(
            "--address",
            "ray:// clients lose the sweep when the line breaks for 30 s",
            "run this command on the cluster, with --address auto, or submit it as a Ray job",
        )
    variables = {**worker_environment(), **folder_variable()}
    options: dict[str, Any] = {"runtime_env": {"env_vars": variables}}
    if not address:
        _need_room_for_sockets()
        asked = asked or resources
        # Not as a runtime environment, which an agent of Ray's would make for each worker.
        os.environ.update(local_environment(asked))
        count = processes(asked)
        os.environ.update(
            RAY_preload_python_modules=WARM,
            RAY_num_workers_soft_limit=str(count),  # else Ray ends some of those that wait
        )
        options = {
            "num_cpus": count,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    _keep_uv_apart()
    notes = logging.getLogger("ray")
    level = notes.level
    notes.setLevel(logging.ERROR)  # it warns that it runs in a thread, and of tokens
    try:
        with _sigterm_kept():
            ray.init(
                address=address or "local",
                log_to_driver=True,
                configure_logging=False,
                job_config=_without_folders(),
                **options,
            )
    except Exception as error:
        if not address:  # Ray raises anything
            raise _not_started(" ".join(str(error).split())) from error
        if not isinstance(error, ConnectionError | ValueError | RuntimeError):
            raise
        words = " ".join(str(error).split())
        what, remedy = f"no Ray cluster at {address!r}: {words}", ""
        if "ersion mismatch" in words:
            what = f"the cluster at {address!r} has other versions: {words}"
            remedy = "install the same Ray and Python on every node and here"
        raise ConfigError.single("--address", what, remedy) from error
    finally:
        notes.setLevel(level)
    have = ray.cluster_resources()
    of_each = (("CPU", resources.cpu), ("GPU", resources.least_gpu))
    for name, wanted in ((name, each * resources.processes) for name, each in of_each):
        if wanted > have.get(name, 0):
            ray.shutdown()
            raise ConfigError.single(
                f"resources.{name.lower()}",
                f"a trial takes {wanted:g}, the cluster has {have.get(name, 0):g}",
            )
    return {str(name): float(count) for name, count in have.items()}


def _without_folders() -> JobConfig:
    """Of a job whose workers find modules where they are told to, and nowhere before that.

    Ray would put this folder, and the command's, before Python's own modules in each worker. Where
    it has changed, it does so until the worker has its pack.
    """
    config = JobConfig()
    config._py_driver_sys_path = _Empty()
    return config


@final
class _Empty(list[str]):
    """It stays so."""

    def extend(self, items: Iterable[str]) -> None:
        pass


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Whatever handles SIGTERM does so again after the block.

    Ray's C++ puts a handler in its place that prints a stack and aborts. Python cannot mend it from
    a thread, and the driver plans for seconds before it sets the next handler.
    """
    libc = ctypes.CDLL(None)
    handler = ctypes.create_string_buffer(1024)  # of type sigaction, which is smaller everywhere
    libc.sigaction(signal.SIGTERM, None, handler)
    try:
        yield
    finally:
        libc.sigaction(signal.SIGTERM, handler, None)


def _yield_to_the_driver() -> None:
    """Ray's processes, which this thread starts, give way to the driver, which plans meanwhile.

    On busy or few cores a mistake in the file is then told as soon as without them.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), SERVICE_NICENESS)
        on_top = WORKER_NICENESS - SERVICE_NICENESS
        os.environ.update(RAY_worker_niceness=str(on_top))


def _shut_the_doors() -> None:
    """Have a local Ray listen on loopback, and obey those alone who know a token of its own.

    The switch is Ray's for systems whose firewall would ask; an address of loopback in `ray.init`
    it would replace by the machine's. Ray's own token would be written to ~/.ray, whereupon a
    `ray start` of the user's would ask for it; what the user has set holds.
    """
    import ray._private.ray_constants

    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray._private.ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    if not any(os.environ.get(f"RAY_AUTH_{name}") for name in ("MODE", "TOKEN", "TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _keep_uv_apart() -> None:
    """Have a command that `uv run` started train as any other does.

    Ray would pack this folder, with the images in it, and have each worker unpack it and ask uv for
    its environment, which is the driver's. Who sets the variable of Ray's decides.
    """
    import ray._private.ray_constants as constants

    if "RAY_ENABLE_UV_RUN_RUNTIME_ENV" not in os.environ:
        constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False


def _spare_other_environments() -> None:
    """Have Tune's actors be workers as Ray starts them.

    Tune gives them variables as a runtime environment of their own, which an agent of Ray's makes
    and another process sets up. Ours have them from the driver. Where Tune has changed, a start
    takes longer.
    """
    from ray.tune.execution import class_cache

    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(worker_environment())


def _keep_secrets() -> None:
    """Have Tune not pass on keys by way of Ray's logs: workers have them from the driver."""
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(
        [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
    )


def _hear_no_more_lines() -> None:
    """Have Ray print no lines of workers that come while it ends: the terminal would have them.

    The driver's log is closed by then. What Ray holds back so far, since others wrote the same, is
    printed. Where Ray has changed, such lines may be seen.
    """
    with contextlib.suppress(ImportError, AttributeError, TypeError):
        from ray._private import ray_logging, worker

        ray_logging.global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
        for held in (ray_logging.stdout_deduplicator, ray_logging.stderr_deduplicator):
            for batch in held.flush():
                worker.print_worker_logs(batch, sys.stderr, False)


def fork_server(resources: Resources) -> ForkServer | None:
    """For the workers of a local Ray, where the system has what it takes."""
    if sys.platform != "linux":
        return None
    try:
        return ForkServer(local_environment(resources), niceness=WORKER_NICENESS)
    except OSError:
        return None


def local_environment(resources: Resources) -> dict[str, str]:
    """`worker_environment`, for a local Ray whose trials take `resources`."""
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, math.floor(resources.cpu)))
    return {**worker_environment(), "OMP_NUM_THREADS": threads}


def worker_environment() -> dict[str, str]:
    """Variables of the worker processes: a lean start and output, and where a user's parts lie.

    Of the current folder `begin_in_folder` takes care: Ray's own processes need not know it.
    """
    folders = os.pathsep.join(python_path())
    return {
        "PYTHONPATH": folders,  # none of another machine's
        "TQDM_DISABLE": "1",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "PL_DISABLE_FORK": "1",  # Lightning would fork to look for GPUs, which harms Ray
        "PYTHONWARNINGS": "ignore",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # else a relative path would lead from Tune's own folder
        # glibc would give a large tensor's pages back and fetch them anew at every step.
        "MALLOC_MMAP_THRESHOLD_": str(256 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(1024**3),
        "MALLOC_TOP_PAD_": str(64 * 1024**2),
    }


def cores() -> int:
    """Those of this machine that this process may use: in a batch job, the job's."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")  # where Slurm does not bind its jobs
    return min(usable, int(given)) if given.isdecimal() and int(given) else usable


def processes(resources: Resources) -> int:
    """How many worker processes a local Ray has room for, on this machine's cores."""
    each = resources.processes
    most = resources.concurrent and resources.concurrent * each
    alone = replace(resources, gpu=0.0, processes=1, concurrent=most)
    return slots(alone, {"CPU": cores()})


def slots(resources: Resources, have: Mapping[str, float]) -> int:
    """How many workers fit at a time."""
    fits = have.get("CPU", 1) / resources.cpu / resources.processes
    if resources.gpu:
        fits = min(fits, have.get("GPU", 0) / resources.gpu / resources.processes)
    return max(1, min(math.floor(fits + 1e-9), resources.concurrent or 10**6))
