"""`python -m benchmarks.gpu`: single trials and packs on one CUDA device. Ends within 8 minutes.

Needs torch, pytorch-lightning and omegaconf, and neither Ray nor MLflow nor a data set: the images
are random, since only time is measured. `run_trial` against the same hand-written loop as on a CPU.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import stacked, workloads
from benchmarks.measure import Case, machine, show, write_results
from benchmarks.plan import Plan
from benchmarks.single import compare, hand_written

SECONDS = 420
"""No case is begun after so long."""

IMAGES = 10_000

PACKS = [
    *(("wgan of width 512, 1x28x28", "wgan", 28, 1, 512, k) for k in (1, 4, 16, 32)),
    *((f"dcgan of width {w}, 3x64x64", "dcgan", 64, 3, w, 8) for w in (16, 32, 64)),
]
"""Title, model, side, channels, width, replicas."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument(
        "--out", type=Path, default=Path("build/benchmarks-gpu.json"), help="file of the raw times"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"bench-gpu: torch {torch.__version__} sees no CUDA device here. It measures GPUs; "
            "`make bench` measures the CPU."
        )
    torch.set_num_threads(1)
    start = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - start:4.0f} s] {text}", flush=True)

    about = machine()
    cases: list[Case] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["GANSWEEP_CACHE"] = name
        for model, side, channels, width, count in (
            ("wgan", 28, 1, 512, 400),
            ("dcgan", 64, 3, 16, 400),
            ("dcgan", 64, 3, 32, 400),
            ("dcgan", 64, 3, 64, 400),
        ):
            title = f"{model} of width {width}, {channels}x{side}x{side}"
            if time.perf_counter() - start > SECONDS:
                cases.append(Case("gpu", title, notes={"not measured": "out of time"}))
                continue
            cases.append(
                measure(
                    title,
                    model,
                    images(Path(name), side, channels),
                    width=width,
                    count=50 if arguments.quick else count,
                    rounds=1 if arguments.quick else arguments.rounds,
                    device=arguments.device,
                    say=say,
                )
            )
            write_results(arguments.out, cases, about)
        plan = Plan(1 if arguments.quick else arguments.rounds, arguments.quick, say)
        for title, model, side, channels, width, replicas in PACKS:
            if time.perf_counter() - start > SECONDS:
                cases.append(Case("gpu packs", title, notes={"not measured": "out of time"}))
                continue
            data = {"name": "npz", "path": str(images(Path(name), side, channels))}
            tree = (workloads.wgan if model == "wgan" else workloads.dcgan)(width, data=data)
            cases.append(
                stacked.measure(
                    title,
                    {**tree, "device": arguments.device},
                    plan,
                    replicas=replicas,
                    figure="gpu packs",
                    choices={k: v for k, v in stacked.CHOICES.items() if k != "in turns, compiled"},
                    device=arguments.device,
                    seconds=0.5,
                )
            )
            write_results(arguments.out, cases, about)
    show(cases, about)
    print(f"raw times: {arguments.out}")


def images(folder: Path, side: int, channels: int) -> Path:
    """A file of random images, uint8 [N, channels, side, side]."""
    path = folder / f"{channels}x{side}.npz"
    if not path.exists():
        rng = np.random.default_rng(0)
        shape = (IMAGES, channels, side, side)
        np.savez(path, x=rng.integers(0, 256, shape, dtype=np.uint8))
    return path


def measure(
    title: str,
    model: str,
    file: Path,
    *,
    width: int,
    count: int,
    rounds: int,
    device: str,
    say: workloads.Say,
) -> Case:
    """Both, eager and compiled as far as there is such a thing."""
    data = {"name": "npz", "path": str(file)}
    tree = (workloads.wgan if model == "wgan" else workloads.dcgan)(width, data=data)
    x = torch.from_numpy(np.load(file)["x"]).float().div_(127.5).sub_(1.0).to(device)
    return compare(
        title,
        {**tree, "device": device},
        hand_written(model, width, x),
        warm=50,
        count=count,
        rounds=rounds,
        say=say,
        figure="gpu",
    )


if __name__ == "__main__":
    main()
