"""Two checkouts side by side: a pack's step in each, taking turns of a second in one run.

    git worktree add ../before HEAD~1
    python -m benchmarks.checkouts ../before [--width 64] [--engine stacked] [--eager] [--rounds 16]

Printed: ms of CPU time per generator step and replica in both, medians and least, and the median of
the rounds' ratios; above 1 means that this checkout is the faster one. Each has a process of its
own, so that whatever slows the machine for a while falls on both alike.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import final

from benchmarks.inside import allocator
from benchmarks.measure import ROOT

TURN_SECONDS = 0.6


@final
class Contender:
    """A process that trains a pack of 8 by the code of `checkout`, when asked to."""

    def __init__(self, checkout: Path, words: list[str]) -> None:
        # -P: by that checkout's code, and not by this file's neighbours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "--serve", str(checkout), *words],
            cwd=checkout,
            env={**os.environ, **allocator(), "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def turn(self) -> float:
        """ms of CPU time per generator step and replica."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a contender ended with {self._process.wait()}")
        return line


def serve(width: int, engine: str, *, eager: bool) -> None:
    """A line for each that comes in: what a turn took."""
    import torch

    from benchmarks import stacked, workloads
    from gansweep.engines import Choice

    torch.set_num_threads(1)
    choice = Choice(engine == "stacked", not eager, "")
    pack = stacked.Timed(workloads.wgan(width), choice, replicas=stacked.REPLICAS, device="cpu")
    pack.steps(3)
    gc.collect()
    gc.freeze()  # as a worker's
    print("ready", flush=True)
    for _ in sys.stdin:
        began, cpu, count = time.perf_counter(), time.thread_time(), 0
        while time.perf_counter() - began < TURN_SECONDS:
            pack.steps(4)
            count += 4
        spent = time.thread_time() - cpu
        print(spent / count / stacked.REPLICAS * 1e3, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="the other one, of the same benchmarks")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--engine", choices=["stacked", "interleaved"], default="stacked")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.width, given.engine, eager=given.eager)
        return
    words = ["--width", str(given.width), "--engine", given.engine]
    words += ["--eager"] if given.eager else []
    both = [Contender(checkout.resolve(), words) for checkout in (given.checkout, ROOT)]
    times: list[list[float]] = [[], []]
    for number in range(given.rounds):
        for i in (0, 1) if number % 2 == 0 else (1, 0):
            times[i].append(both[i].turn())
    for contender in both:
        contender.end()
    for name, each in zip(("there", "here"), times, strict=True):
        print(f"{name:6} {statistics.median(each):.3f} ms, at least {min(each):.3f}")
    ratios = [there / here for there, here in zip(*times, strict=True)]
    print(f"there / here {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
