"""`python -m benchmarks.seeds stacked|interleaved true|false`: one point of the demo, 8 seeds.

Trains them as one pack on one core, with that engine, compiled or not, without a record; prints
the scores, their mean with its standard error, and the seconds.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch

from benchmarks import workloads
from benchmarks.measure import ROOT
from gansweep.pack import Pack
from gansweep.replica import Job
from gansweep.sweep.file import load_sweep
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import _Alone, silent

SEEDS = 8


def main() -> None:
    engine: Any = sys.argv[1]
    point = ["model.clip=0.03", "optimizer.name=rmsprop", "samples.every=1200"]
    file = ROOT / "sweeps" / "wgan_clip.yaml"
    tree = load_sweep(file, [*point, f"trial.compile={sys.argv[2]}"], one_trial=True).trial
    torch.set_num_threads(1)
    jobs = [Job(workloads.resolved(tree, seed=seed), MemoryTracker()) for seed in range(SEEDS)]
    trackers = [job.tracker for job in jobs]
    start = time.perf_counter()
    Pack(jobs, _Alone(silent), engine=engine).fit()
    seconds = time.perf_counter() - start
    scores = [t.history("score/swd")[-1][1] for t in trackers if isinstance(t, MemoryTracker)]
    error = statistics.stdev(scores) / len(scores) ** 0.5
    print(" ".join(f"{score:.3f}" for score in scores))
    print(f"mean {statistics.mean(scores):.4f} +- {error:.4f}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
