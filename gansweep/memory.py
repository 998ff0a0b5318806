"""Memory: a ceiling on what a pack may take, and what running out of it looks like."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

OUT_OF_MEMORY: Final = "out_of_memory"
"""Begins the reason of a trial that failed for want of memory, of the host's or of a GPU's."""

GB: Final = 1e9

_MEMINFO: Final = Path("/proc/meminfo")

_THREAD_BYTES: Final = 72 * 1024**2
"""What a new thread reserves, most of it untouched: 8 MiB of stack, and a heap of its own."""

_WORDS: Final = re.compile(
    r"out of memory|can(?:'t|not) allocate memory|unable to allocate|std::bad_alloc|ALLOC_FAILED",
    re.IGNORECASE,
)
"""Of CUDA, torch's allocator, the system, NumPy, C++ and cuBLAS, in this order."""

_RAYS_WORDS: Final = re.compile(r"OutOfMemoryError|NODE_OUT_OF_MEMORY|running low on memory")
"""Not those on SIGKILL, which guess that it may have been the system's own OOM killer."""


def ran_out(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, says that there was no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or _WORDS.search(str(error)):
            return True
        error = error.__cause__
    return False


def ray_says_so(text: str) -> bool:
    """Whether Ray ended a worker since its machine was short of memory, by Ray's own words."""
    return bool(_RAYS_WORDS.search(text))


@final
@dataclass(frozen=True)
class Ceiling:
    """Most bytes that a pack may take of the host's memory and of the GPU's; None: any number."""

    host: float | None = None
    gpu: float | None = None

    @contextmanager
    def held(self, *, threads: int) -> Iterator[None]:
        """It holds for this process while the block lasts, beyond what the process has already.

        What is refused raises MemoryError or RuntimeError where it is asked for, as on a machine
        without more; `threads` is how many the block will start.

        The host's is RLIMIT_DATA: the kernel refuses private memory beyond it, before a page of it
        is touched, so that no other process feels the attempt; a watch on what is resident would
        come too late for one large tensor. RLIMIT_AS would count what is only reserved, which is
        terabytes with CUDA, and memory shared with Ray. The GPU's is that of torch's allocator.
        """
        if self.gpu is not None:  # first: CUDA takes memory of the host as it starts
            _limit_gpu(self.gpu)
        if self.host is None:
            yield
            return
        import resource

        before, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(_in_use() + self.host + threads * _THREAD_BYTES)
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def available() -> int | None:
    """Bytes that this machine could give now without swapping; None where it does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _limit_gpu(size: float) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # of an earlier pack
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))


def _in_use() -> int:
    """Bytes of private writable memory, as RLIMIT_DATA counts, but for what malloc has free."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return (int(found[1]) * 1024 if found else 0) - _free_in_heaps()


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def _free_in_heaps() -> int:
    """Bytes that malloc would give out again before it asks the kernel: an earlier pack's."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:  # no glibc, or one before 2.33
        return 0
    mallinfo.restype = _Mallinfo
    return int(mallinfo().fordblks)
