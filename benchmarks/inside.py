"""What a compiled pack's step is made of, by a sampling profiler, with all cores busy.

    python -m benchmarks.inside [--width 64] [--engine stacked] [--seconds 10]

Linux's `perf` looks 4000 times a second where one process is, while each other core has a process
of its own that does the same work. Printed are ms per generator step and replica by kind: matrix
products, the rest of what was compiled, random numbers, Python, and what is left (memory, torch's
dispatch). The products' line is what no other arrangement of the same arithmetic gets below.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stacked import REPLICAS
from gansweep.sweep.startup import worker_environment

KINDS = {
    "matrix products": r"mkl_|gemm|dnnl|JIT|transpose_mxn|gansweep::turn",
    "random numbers": r"normal_kernel|NormalFill|CPUGeneratorImpl|randperm|random_from_to",
    "compiled, but products": r"\.main\.so|[0-9a-f]{16}\.so|Sleef_",
    "Python": r"libpython|libtorch_python",
    "the rest": r"",
}
"""Each begins with the first of these that a line of the report matches."""

LINES = re.compile(r"^\s*(\d+\.\d+)%\s+(.*)$", re.MULTILINE)


def by_kind(report: str) -> dict[str, float]:
    """Shares of the samples, of a `perf report` by library and symbol."""
    shares = dict.fromkeys(KINDS, 0.0)
    for percent, where in LINES.findall(report):
        kind = next(kind for kind, words in KINDS.items() if re.search(words, where))
        shares[kind] += float(percent) / 100
    total = sum(shares.values()) or 1.0
    return {kind: share / total for kind, share in shares.items()}


def allocator() -> dict[str, str]:
    """The settings of a worker's memory allocator, which it reads as it begins."""
    return {k: v for k, v in worker_environment().items() if k.startswith("MALLOC_")}


def as_a_worker() -> None:
    """Begin again with a worker's memory allocator."""
    own = allocator()
    if not own.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **own})


def train(width: int, engine: str, seconds: float, report: Path | None) -> float:
    """ms per g_step and replica; `report`: where perf's samples go."""
    import torch

    from benchmarks import stacked, workloads
    from gansweep.engines import Choice

    torch.set_num_threads(1)
    choice = Choice(engine == "stacked", True, "")
    pack = stacked.Timed(workloads.wgan(width), choice, replicas=REPLICAS, device="cpu")
    pack.steps(3)
    gc.collect()
    gc.freeze()  # as a worker's
    perf = None
    if report:
        words = ["-e", "cpu-clock", "-F", "4000", "-o", str(report), "-p", str(os.getpid())]
        perf = subprocess.Popen(["perf", "record", *words], stderr=subprocess.DEVNULL)
        time.sleep(1.0)
    steps, began = 0, time.perf_counter()
    while (gone := time.perf_counter() - began) < seconds:
        pack.steps(4)
        steps += 4
    if perf:
        perf.send_signal(signal.SIGINT)
        perf.wait()
    return gone / steps / REPLICAS * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--engine", choices=["stacked", "interleaved"], default="stacked")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    as_a_worker()
    if given.beside:
        train(given.width, given.engine, given.seconds, None)
        return
    if shutil.which("perf") is None:
        parser.error("there is no perf here: Debian has it as linux-perf")
    own = [sys.executable, "-m", "benchmarks.inside", "--beside", "--width", str(given.width)]
    own += ["--engine", given.engine, "--seconds", "3600"]
    others = [subprocess.Popen(own) for _ in range(len(os.sched_getaffinity(0)) - 1)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            samples = Path(folder) / "samples"
            each = train(given.width, given.engine, given.seconds, samples)
            report = ["perf", "report", "-i", str(samples), "--sort", "dso,symbol", "--stdio"]
            told = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    finally:
        for other in others:
            other.kill()
            other.wait()
    print(f"width {given.width}, {given.engine}: {each:.3f} ms per g_step and replica")
    for kind, share in by_kind(told).items():
        print(f"{kind:24}{share * each:7.3f} ms {share:7.1%}")


if __name__ == "__main__":
    main()
