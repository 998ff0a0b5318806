"""What the record costs a trial: training with MLflow against training with a tracker in memory.

    python benchmarks/tracking_cost.py [--rounds 5] [--g-steps 600]

Runs both alternately in one process and prints the ratio of the median times. The trial is that of
sweeps/wgan_clip.yaml: curves every 50 g_steps, a sample grid and a score every 250.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from gansweep.config import TrialConfig, resolve
from gansweep.errors import ConfigError, Problem
from gansweep.sweep.file import load_sweep
from gansweep.tracking.base import Tracker
from gansweep.tracking.memory import MemoryTracker
from gansweep.tracking.mlflow import MlflowStore, MlflowTracker, tracking_uri
from gansweep.trial import run_trial

SWEEP = Path(__file__).parent.parent / "sweeps" / "wgan_clip.yaml"


def trial(g_steps: int, seed: int) -> TrialConfig:
    sweep = load_sweep(SWEEP, [f"budget.g_steps={g_steps}", f"seed={seed}"], one_trial=True)
    problems: list[Problem] = []
    config = resolve(sweep.trial, problems)
    if config is None:
        raise ConfigError(problems)
    return config


def seconds(config: TrialConfig, tracker: Tracker) -> float:
    start = time.perf_counter()
    result = run_trial(config, tracker)
    assert result.state == "completed", result
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--g-steps", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {"memory": [], "mlflow": []}
    with tempfile.TemporaryDirectory() as folder:
        store = MlflowStore(tracking_uri(f"sqlite:///{folder}/mlflow.db"))
        experiment = store.experiment("cost")
        for turn in range(arguments.rounds + 1):  # the first round warms up
            config = trial(arguments.g_steps, turn)
            run_id = store.trial_run(experiment, None, config.key, "cost", {})
            for name, tracker in (
                ("memory", MemoryTracker()),
                ("mlflow", MlflowTracker(store.uri, run_id)),
            ):
                spent = seconds(config, tracker)
                if turn:
                    times[name].append(spent)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:7} {medians[name]:7.3f} s  ({min(values):.3f} to {max(values):.3f})")
    print(f"ratio   {medians['mlflow'] / medians['memory']:7.3f}")


if __name__ == "__main__":
    main()
