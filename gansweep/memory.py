"""Memory: a ceiling on what a pack may take, and what running out of it looks like."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

OUT_OF_MEMORY: Final = "out_of_memory"
"""Begins the reason of a trial that failed for want of memory, of the host's or of a GPU's."""

GB: Final = 1e9

_MEMINFO: Final = Path("/proc/meminfo")

_OWN_GROUPS: Final = Path("/proc/self/cgroup")
_GROUPS: Final = Path("/sys/fs/cgroup")
_VERSION_1: Final = (
    "memory.limit_in_bytes", "memory.usage_in_bytes", r"^total_inactive_file (\d+)",
)  # fmt: skip
_VERSION_2: Final = ("memory.max", "memory.current", r"^inactive_file (\d+)")
"""Of a control group's files: its limit, what it takes, and of it the files' that are given up."""

_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_LOOK_SECONDS, _AGAIN_SECONDS = 0.05, 5.0
"""Between two looks at the memory, and after one that found too much."""

_WORDS: Final = re.compile(
    r"out of memory|can(?:'t|not) allocate memory|unable to allocate|std::bad_alloc|ALLOC_FAILED",
    re.IGNORECASE,
)
"""Of CUDA, torch's allocator, the system, NumPy, C++ and cuBLAS, in this order."""

_GPU_WORDS: Final = re.compile(r"\b(?:CUDA|CUBLAS|CUDNN|HIP|NCCL)", re.IGNORECASE)
"""That it was a GPU's memory."""

_RAYS_WORDS: Final = re.compile(r"OutOfMemoryError|NODE_OUT_OF_MEMORY|running low on memory")
"""Not those on SIGKILL, which guess that it may have been the system's own OOM killer."""


def ran_out(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, says that there was no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False


def gpu_ran_out(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, says that a GPU had no memory."""
    while error is not None:
        if _WORDS.search(str(error)) and _GPU_WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False


def ray_says_so(text: str) -> bool:
    """Whether Ray ended a worker since its machine was short of memory, by Ray's own words."""
    return bool(_RAYS_WORDS.search(text))


class AboveCeilingError(MemoryError):
    """A pack takes more of the host's memory than it may."""

    def __str__(self) -> str:
        return "it takes more than resources.memory_gb allows"


@final
@dataclass(frozen=True)
class Ceiling:
    """Most bytes that a pack may take of the host's memory and of the GPU's; None: any number."""

    host: float | None = None
    gpu: float | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """It holds for this process while the block lasts, beyond what the process has already.

        Above the host's, AboveCeilingError is raised in the block's thread, between two operations:
        one operation may take more for as long as it runs. The kernel's limits would be sharper
        (RLIMIT_DATA, RLIMIT_AS), but they strike whoever asks next: in a Ray worker that was gRPC,
        whose abort never ends. The GPU's is that of torch's allocator, which raises at once.
        """
        if self.gpu is not None:  # first: CUDA takes memory of the host as it starts
            _limit_gpu(self.gpu)
        if self.host is None:
            yield
            return
        watch = _Watch(self.host)
        try:
            watch.start()
            yield
        finally:
            try:
                watch.end()
            except AboveCeilingError:  # raised as the block ended: it must not keep the watch alive
                watch.end()


@final
class _Watch(threading.Thread):
    """Looks again and again at what this process has; made by the thread that it raises in."""

    def __init__(self, most: float) -> None:
        super().__init__(name="memory", daemon=True)
        _give_back()
        self._limit = _own() + most
        self._watched = ctypes.c_ulong(threading.get_ident())
        self._over = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        pause = _LOOK_SECONDS
        while not self._over.wait(pause):
            above = _own() > self._limit
            with self._lock:
                if above and not self._over.is_set():
                    self._raise(ctypes.py_object(AboveCeilingError))
            # It may be swallowed, as what is raised in a probe: then it comes again.
            pause = _AGAIN_SECONDS if above else _LOOK_SECONDS

    def end(self) -> None:
        """Nothing is raised after this."""
        with self._lock:
            self._over.set()
            self._raise(None)

    def _raise(self, error: Any) -> None:
        """In the watched thread, between two instructions of Python; None takes it back."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(self._watched, error)


def available() -> int | None:
    """Bytes that this process could have now without swapping; None where nothing tells.

    Of the machine's, and of what a control group has left: a job of Slurm is in one, and a pod.
    """
    rooms = [*_of_the_machine(), *_of_control_groups()]
    return min(rooms, default=None)


def _of_the_machine() -> Iterator[int]:
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
        if found:
            yield int(found[1]) * 1024


def _of_control_groups() -> Iterator[int]:
    """Of each that this process is in, and of those around it, where it has a limit."""
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _GROUPS / "memory" if controllers else _GROUPS
        limit, use, cache = _VERSION_1 if controllers else _VERSION_2
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                with suppress(OSError, ValueError):  # it is none, or its limit is "max"
                    most, taken = (int((folder / file).read_text()) for file in (limit, use))
                    found = re.search(cache, (folder / "memory.stat").read_text(), re.MULTILINE)
                    yield max(0, most - taken + (int(found[1]) if found else 0))


def _limit_gpu(size: float) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # of an earlier pack
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))


def _own() -> int:
    """Bytes of this process that are resident and its own, libraries and shared memory apart."""
    _, resident, shared, *_ = map(int, _STATM.read_text(encoding="ascii").split())
    return (resident - shared) * _PAGE_BYTES


def _give_back() -> None:
    """Let the system have what malloc keeps of an earlier pack: it is none of the next one's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim:
        trim(0)
