"""Where the time from `gansweep run` to the first training step goes.

    python benchmarks/start_time.py [--rounds 5] [--workers 2]

Each round runs the real command in an empty folder, on a tiny sweep whose network notes when it is
built and first called. Printed are the medians, in seconds since the command was started.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROBE = """
import os, time
from gansweep.networks.base import Architecture
from gansweep.networks.mlp import MLP, MLPSettings

def note(what):
    with open(os.environ["START_TIME_NOTES"], "a") as notes:
        notes.write(f"{time.time()} {os.getpid()} {what}\\n")

note("imported")

class Probe(Architecture):
    Settings = MLPSettings

    def generator(self, **shape):
        generator, calls = MLP(self.settings).generator(**shape), 0

        def called(module, inputs, output):
            nonlocal calls
            calls += 1
            if output.device.type != "meta" and calls in (1, 100):
                note(f"call {calls}")

        generator.register_forward_hook(called)
        return generator

    def discriminator(self, **shape):
        return MLP(self.settings).discriminator(**shape)
"""

SWEEP = """
name: start
trial:
  model: {name: gan}
  network: {name: 'start_time_probe:Probe', width: 32, depth: 2}
  data: {name: mnist5k, batch_size: 64}
  budget: {g_steps: 200}
  samples: {every: 200}
  score: {samples: 64}
seeds: %d
"""

PHASES = {
    "the sweep file's parts are looked up": "driver imported",
    "plan checked": "stdout 0",
    "Ray up, record begun": "stdout 1",
    "a worker begins its trial": "worker imported",
    "first training step": "worker call 1",
    "50th training step": "worker call 100",
    "the command has ended": "end",
}
"""What is printed, and the event that it stands for."""


def events(folder: Path, workers: int) -> dict[str, float]:
    """Run the command; the first time of each event, in seconds since its start."""
    (folder / "start_time_probe.py").write_text(PROBE)
    (folder / "start.yaml").write_text(SWEEP % workers)
    notes = folder / "notes.txt"
    began = time.time()
    driver = subprocess.Popen(
        [str(Path(sys.executable).with_name("gansweep")), "run", "start.yaml"],
        cwd=folder,
        env={**os.environ, "START_TIME_NOTES": str(notes)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    times: dict[str, float] = {}
    printed = []
    for count, line in enumerate(driver.stdout):
        printed.append(line)
        times[f"stdout {count}"] = time.time() - began
    assert driver.wait() == 0, "".join(printed)
    times["end"] = time.time() - began
    for line in notes.read_text().splitlines():
        at, pid, what = line.split(maxsplit=2)
        process = "driver" if int(pid) == driver.pid else "worker"
        times.setdefault(f"{process} {what}", float(at) - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(events(Path(folder), arguments.workers))
    for phase, event in PHASES.items():
        seconds = [each[event] for each in rounds]
        median = statistics.median(seconds)
        print(f"{phase:38}{median:7.2f}  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
