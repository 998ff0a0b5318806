"""What a trial's steps take once dead units have left subnormal numbers in the optimizer.

    python -m benchmarks.subnormals [sweeps/pacgan_ring.yaml [KEY=VALUE ...]] [--after 2000]

Two equal trials, compiled, one as trials train and one whose subnormal numbers are computed with,
take turns of a second on one thread after so many g_steps. Printed are the share of subnormal
numbers in their discriminators' Adam, ms per g_step, medians, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import nullcontext
from pathlib import Path
from typing import final

import torch

from benchmarks import stacked
from benchmarks.measure import ROOT
from gansweep.engines import Choice
from gansweep.subnormals import flushed
from gansweep.sweep.file import load_sweep


@final
class Contender:
    """One trial, whose thread flushes subnormal numbers or does not."""

    def __init__(self, file: Path, changes: list[str], *, flushes: bool) -> None:
        self._mode = flushed if flushes else nullcontext
        tree = load_sweep(file, changes, one_trial=True).trial
        self.pack = stacked.Timed(tree, Choice(False, True, ""), replicas=1, device="cpu")

    def steps(self, count: int) -> None:
        with self._mode():
            self.pack.steps(count)

    def measure(self) -> float:
        """ms per g_step."""
        with self._mode():
            return self.pack.measure(0, seconds=1.0)

    def share(self) -> float:
        """Of the means of the discriminator's gradients, how many are subnormal."""
        state = self.pack.first.d_optimizer.state.values()
        means = torch.cat([each["exp_avg"].flatten() for each in state]).abs()
        return float(((means > 0) & (means < torch.finfo(means.dtype).tiny)).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "sweeps" / "pacgan_ring.yaml")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--after", type=int, default=2000, help="g_steps before the first turn")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ours, plain = (Contender(given.file, given.changes, flushes=each) for each in (True, False))
    for each in (ours, plain):
        each.steps(given.after)
    times = [(ours.measure(), plain.measure()) for _ in range(given.rounds)]
    for name, each, took in zip(
        ("flushed", "kept"), (ours, plain), zip(*times, strict=True), strict=True
    ):
        print(
            f"{name:8} {each.share():6.1%} subnormal {statistics.median(took):8.2f} ms per g_step"
        )
    print(f"kept / flushed: {statistics.median(b / a for a, b in times):.2f}")


if __name__ == "__main__":
    main()
