"""Where the time from `gansweep run` to the first training step goes.

    python benchmarks/start_time.py [--rounds 5] [--workers 2]

Each round runs the real command in an empty folder, on a tiny sweep whose network notes when it is
built and first called. Printed are the medians, in seconds since the command was started, and the
seconds of CPU that its processes had by the first step: over the cores, the least time of a start.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from gansweep.processes import below

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

FIRST_STEP = "first training step"

PHASES = {
    "the sweep file's parts are looked up": "driver imported",
    "plan checked": "stdout 0",
    "Ray up, record begun": "stdout 1",
    "a worker begins its trial": "worker imported",
    FIRST_STEP: "worker call 1",
    "50th training step": "worker call 100",
    "the command has ended": "end",
}
"""What is printed, and the event that it stands for."""


PARTS = {
    "gcs_server": "Ray's head",
    "raylet/raylet": "Ray's raylet",
    "dashboard/agent.py": "Ray's agents",
    "runtime_env/agent/main.py": "Ray's agents",
    "ray::DashboardAgent": "Ray's agents",
    "ray::RuntimeEnvAgent": "Ray's agents",
    "log_monitor.py": "Ray's log monitor",
    "ray::": "workers",
    "gansweep.sweep.forkserver": "fork server",
    "forked.py": "workers",
    "default_worker.py": "workers",
}
"""What a process is, by a word of its command."""

EVERY = 0.1
"""Seconds between two looks at the processes."""

Spent = dict[str, float]
"""Seconds of CPU by part."""


class Processes:
    """What the command's processes have had of the CPU, as it went."""

    def __init__(self, driver: int) -> None:
        self._driver = driver
        self._spent: dict[int, tuple[str, float]] = {}
        self._looks: list[tuple[float, Spent]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def until(self, moment: float) -> Spent:
        return next((spent for at, spent in self._looks if at >= moment), self._looks[-1][1])

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            for process in (self._driver, *below(self._driver)):
                with contextlib.suppress(OSError):  # it has ended: its last count holds
                    self._look(process)
            total: Spent = {}
            for part, seconds in self._spent.values():
                total[part] = total.get(part, 0.0) + seconds
            self._looks.append((time.time(), total))

    def _look(self, process: int) -> None:
        folder = Path(f"/proc/{process}")
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
        part = next((name for word, name in PARTS.items() if word in command), "others")
        seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        self._spent[process] = ("driver" if process == self._driver else part, seconds)


def events(folder: Path, workers: int) -> tuple[dict[str, float], Spent]:
    """Run the command; the first time of each event, in seconds since its start, and the CPU's."""
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
    processes = Processes(driver.pid)
    times: dict[str, float] = {}
    printed = []
    for count, line in enumerate(driver.stdout):
        printed.append(line)
        times[f"stdout {count}"] = time.time() - began
    assert driver.wait() == 0, "".join(printed)
    times["end"] = time.time() - began
    processes.end()
    for line in notes.read_text().splitlines():
        at, pid, what = line.split(maxsplit=2)
        process = "driver" if int(pid) == driver.pid else "worker"
        times.setdefault(f"{process} {what}", float(at) - began)
    return times, processes.until(began + times[PHASES[FIRST_STEP]])


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
        seconds = [each[event] for each, _ in rounds]
        median = statistics.median(seconds)
        print(f"{phase:38}{median:7.2f}  ({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"\nseconds of CPU until the {FIRST_STEP}")
    parts = dict.fromkeys(part for _, spent in rounds for part in spent)
    for part in parts:
        print(f"{part:38}{statistics.median(spent.get(part, 0.0) for _, spent in rounds):7.2f}")
    print(f"{'all':38}{statistics.median(sum(spent.values()) for _, spent in rounds):7.2f}")


if __name__ == "__main__":
    main()
