"""Running out of memory is told from other errors, and a ceiling is held."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from gansweep import memory
from gansweep.errors import ConfigError
from gansweep.memory import (
    OUT_OF_MEMORY,
    AboveCeilingError,
    Ceiling,
    _Watch,
    available,
    gpu_ran_out,
    ran_out,
    ray_says_so,
)
from gansweep.progress import Outcome
from gansweep.replica import fail
from gansweep.tracking.memory import MemoryTracker

HUGE = 10**17  # bytes; no machine has so many


def caused() -> None:
    try:
        np.empty(HUGE, np.uint8)
    except MemoryError as error:
        raise ConfigError.single("data.path", "cannot be read") from error


RAN_OUT = {
    "torch on the host": lambda: torch.empty(HUGE, dtype=torch.uint8),
    "NumPy": lambda: np.empty(HUGE, np.uint8),
    "Python": lambda: bytearray(HUGE),
    "the cause of another": caused,
}


@pytest.mark.parametrize("case", RAN_OUT)
def test_want_of_memory_is_known_by_what_is_really_raised(case):
    with pytest.raises(Exception) as caught:  # noqa: PT011  each raises its own kind
        RAN_OUT[case]()
    assert ran_out(caught.value)
    outcome, tracker = Outcome(), MemoryTracker()
    fail(outcome, tracker, caught.value)
    assert outcome.state == "failed"
    assert outcome.reason.startswith(f"{OUT_OF_MEMORY}: {type(caught.value).__name__}: ")
    assert "Traceback" in tracker.texts["traceback.txt"]
    assert not gpu_ran_out(caught.value)  # the host did


GPU_RAN_OUT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
]


@pytest.mark.parametrize("error", GPU_RAN_OUT)
def test_a_gpus_memory_is_told_from_the_hosts(error):
    assert ran_out(error)
    assert gpu_ran_out(error)
    wrong = ConfigError.single("data.path", "cannot be read")
    wrong.__cause__ = error
    assert gpu_ran_out(wrong)
    assert not gpu_ran_out(RuntimeError("CUDA error: device-side assert triggered"))
    assert not gpu_ran_out(None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("the network broke"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (6x4 and 8x2)"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_and_nothing_else_is(error, expected):
    assert ran_out(error) is expected
    outcome = Outcome()
    fail(outcome, MemoryTracker(), error)
    assert outcome.reason.startswith(OUT_OF_MEMORY) is expected


def test_ray_is_believed_when_it_knows_and_not_when_it_guesses():
    known = (
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\n"
        "Memory on the node (IP: 127.0.0.1, ID: 1) was 31GB / 32GB (0.97)"
    )
    guessed = (
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
        "Worker exit detail: There are some potential root causes. (1) The process is killed by "
        "SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called."
    )
    assert ray_says_so(known)
    assert not ray_says_so(guessed)


def test_what_the_machine_has_left():
    left = available()
    assert left is not None
    assert 10**7 < left < 10**14


VERSION_2 = {"memory.max": "max", "memory.current": "900", "memory.stat": "inactive_file 0"}
VERSION_1 = {
    "memory.limit_in_bytes": str(2**63 - 4096),
    "memory.usage_in_bytes": "900",
    "memory.stat": "inactive_file 0\ntotal_inactive_file 0",
}
GROUPS = {
    "version 2": (
        "0::/slice/job_7/step_0\n",
        {
            "": {},
            "slice": VERSION_2,
            "slice/job_7": {
                "memory.max": "1000",
                "memory.current": "900",
                "memory.stat": "anon 1\ninactive_file 150\nactive_file 30",
            },
            "slice/job_7/step_0": {**VERSION_2, "memory.max": "5000"},
        },
        250,
    ),
    "version 1": (
        "9:cpu:/a\n4:hugetlb,memory:/slurm/job\n0::/init.scope\n",
        {
            "memory": VERSION_1,
            "memory/slurm/job": {
                "memory.limit_in_bytes": "4000",
                "memory.usage_in_bytes": "1000",
                "memory.stat": "inactive_file 7\ntotal_inactive_file 70",
            },
        },
        3070,
    ),
    "a container, which sees its own group as the root": (
        "4:memory:/docker/0123\n",
        {"memory": {**VERSION_1, "memory.limit_in_bytes": "600"}},
        0,
    ),
    "no limit": ("0::/user.slice\n", {"": {}, "user.slice": VERSION_2}, None),
    "none": ("", {}, None),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_control_group_may_leave_less_than_the_machine(case, tmp_path, monkeypatch):
    """As in a job of Slurm and a pod of Kubernetes, whose limits the machine's memory exceeds."""
    own, groups, expected = GROUPS[case]
    (tmp_path / "own").write_text(own)
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemAvailable:     10 kB\n")
    for name, files in groups.items():
        (tmp_path / "groups" / name).mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (tmp_path / "groups" / name / file).write_text(f"{content}\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own", raising=False)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups", raising=False)
    assert available() == (10 * 1024 if expected is None else expected)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "not there")
    assert available() == expected


CHILD = """
import time
import torch
from gansweep.memory import AboveCeilingError, Ceiling, _give_back, _own

MB = 10**6
kept = []

def refused(size, patience=0):
    try:
        for _ in range(10):
            kept.append(torch.ones(size // 10, dtype=torch.uint8))
            time.sleep(0.1)
        for _ in range(patience):  # a busy machine looks late
            time.sleep(0.1)
    except AboveCeilingError:
        return True
    finally:
        kept.clear()
    return False

_give_back()  # else the pieces take what malloc has free, which is the process's own already
before = _own()
pieces = [torch.ones(MB, dtype=torch.uint8) for _ in range(400)]
print("use", 400 * MB <= _own() - before < 450 * MB)
del pieces
try:
    with Ceiling(host=300 * MB).held():
        print("within", refused(250 * MB))
        print("beyond", refused(400 * MB, patience=300))
    print("ended")
except AboveCeilingError:
    print("too late")
print("after", refused(400 * MB))
with Ceiling().held():
    print("none", refused(400 * MB))
for _ in range(20):  # nothing is raised once it has ended
    try:
        with Ceiling(host=1).held():
            kept.append(torch.ones(10 * MB, dtype=torch.uint8))
            time.sleep(0.06)
    except AboveCeilingError:
        pass
    kept.clear()
    sum(range(100_000))
print("quiet")
"""


@pytest.mark.long
def test_a_ceiling_is_held_while_it_lasts_and_counts_what_is_added(monkeypatch):
    """What an earlier pack has freed stays in malloc's heap here, and is none of the next one's."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(256 * 1024**2))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(1024**3))
    ended = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=250, check=False
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "use True",
        "within False",
        "beyond True",
        "ended",
        "after False",
        "none False",
        "quiet",
    ]


def test_a_refusal_as_the_block_ends_leaves_no_watch_behind(monkeypatch):
    """It would refuse what a later pack takes."""
    ends, end = [], _Watch.end

    def interrupted(watch):
        ends.append(watch)
        if len(ends) == 1:
            raise AboveCeilingError
        end(watch)

    monkeypatch.setattr(_Watch, "end", interrupted)
    with Ceiling(host=HUGE).held():
        pass
    assert len(ends) == 2
    ends[0].join(5)
    assert not ends[0].is_alive()
