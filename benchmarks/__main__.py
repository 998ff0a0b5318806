"""`python -m benchmarks`: measures the figures of docs/PERFORMANCE.md on this machine."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import diagnosis, floor, packs, record, reliability, scores, single, stacked, sweeps
from benchmarks.measure import Case, machine, show, write_results
from benchmarks.plan import Plan

FIGURES: dict[str, Callable[[Plan], Iterator[Case]]] = {
    "floor": floor.run,
    "single": single.run,
    "engines": stacked.run,
    "memory": stacked.run_memory,
    "record": record.run,
    "reliability": reliability.run,
    "scores": scores.run,
    "diagnosis": diagnosis.run,
    "mlp": sweeps.run_mlp,
    "dcgan": sweeps.run_dcgan,
    "quality": packs.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="measure these alone"
    )
    parser.add_argument("--rounds", type=int, help="of each comparison; else the figure's own")
    parser.add_argument(
        "--width", type=int, choices=sweeps.WIDTHS, help="of mlp's networks; else all of them"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few minutes")
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks.json"), help="file of the raw times"
    )
    arguments = parser.parse_args()
    # A sweep under way ends with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - start:6.0f} s] {text}", flush=True)

    plan = Plan(arguments.rounds, arguments.quick, say, arguments.width)
    about = machine()
    cases: list[Case] = []
    for name in FIGURES:
        if name not in arguments.only:
            continue
        for case in FIGURES[name](plan):
            cases.append(case)
            write_results(arguments.out, cases, about)  # an interrupted run keeps what it has
    show(cases, about)
    print(f"raw times: {arguments.out}")


if __name__ == "__main__":
    main()
