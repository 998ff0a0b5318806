"""What a large sweep costs its driver: real planning, scheduling and record, simulated workers.

    python -m benchmarks.scale [--trials 100 1000 10000] [--nodes 100] [--gpus 8]
        [--scheduler asha] [--store mlflow|counted] [--tune] [--grid 100 100 100]

Real are the reading of the sweep's file, its plan, proposals, packs, scheduler, journal, board and
record: the spools of the trials, the courier and MLflow on SQLite; with --tune Ray Tune's
controller as well. Simulated are the workers (benchmarks/simulation.py), one on each GPU of each
node: their time is virtual, and they record 20 metrics at each of 10 scores. --store counted counts
calls of the store without one, and delivers nothing.

Printed are the CPU time of the driver's process (no wall clock: the machine may have other work),
memory, bytes and calls. Each size has a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

TRIALS = (100, 1000, 10_000)

Figures = dict[str, float | str]

MEMORY, DRIVER = "MB of memory", "ms of driver a trial"


@final
class Spent:
    """CPU seconds of this thread by what they are for; what is inside another counts for itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[str] = []
        self._since = time.thread_time()

    @contextlib.contextmanager
    def on(self, what: str) -> Iterator[None]:
        self._switch()
        self._inside.append(what)
        try:
            yield
        finally:
            self._switch()
            self._inside.pop()

    def wrap(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            with self.on(what):
                return call(*arguments, **named)

        return wrapped

    def _switch(self) -> None:
        now = time.thread_time()
        self.seconds[self._inside[-1] if self._inside else "rest"] += now - self._since
        self._since = now


@final
class CountedStore:
    """In the place of MlflowStore: runs are numbers, and calls are counted alone."""

    uri = "sqlite:////nowhere/mlflow.db"

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls
        self._runs = 0

    def trial_run(self, *arguments: Any) -> str:
        self._calls["trial_run"] += 1
        self._runs += 1
        return f"{self._runs:032x}"

    def set_tags(self, *arguments: Any) -> None:
        self._calls["set_tags"] += 1

    def settle(self, *arguments: Any) -> None:
        self._calls["settle"] += 1

    def log_text(self, *arguments: Any) -> None:
        self._calls["log_text"] += 1

    def trials(self, *arguments: Any) -> list[Any]:
        self._calls["trials"] += 1
        return []


@final
class NoCourier:
    """In the place of a Courier: the spools stay where they are."""

    def add(self, run_id: str, folder: Path) -> None:
        pass

    def forget(self, folder: Path) -> None:
        pass

    def release(self, folder: Path) -> None:
        pass

    def drain(self, **limits: Any) -> Any:
        from gansweep.tracking.mlflow import Backlog

        return Backlog()

    def close(self) -> None:
        pass


def sweep_text(trials: int, *, scheduler: str, grid: Sequence[int] = ()) -> str:
    """A sweep of so many trials in two shapes, or the grid of so many values on each axis."""
    search: dict[str, Any] = {"scheduler": scheduler}
    if scheduler == "asha":
        search.update(grace=100, reduction=4)
    space: dict[str, Any] = {
        "optimizer.lr": {"loguniform": [1e-5, 1e-2]},
        "model.clip": {"loguniform": [1e-3, 1e-1]},
        "network.width": {"choice": [32, 64]},
    }
    if grid:
        names = ("optimizer.lr", "model.clip", "optimizer.alpha")
        space = {
            name: {"grid": [(place + 1) / (count + 1) for place in range(count)]}
            for name, count in zip(names, grid, strict=False)
        }
    else:
        search.update(method="random", samples=trials)
    tree = {
        "name": "scale",
        "trial": {
            "model": {"name": "wgan"},
            "network": {"name": "mlp", "width": 32, "depth": 2},
            "optimizer": {"name": "rmsprop"},
            "data": {"name": "ring8", "n": 1000},
            "budget": {"g_steps": 1000},
            "score": {"every": 100},
        },
        "space": space,
        "search": search,
    }
    return json.dumps(tree)  # which is YAML


def resident_bytes() -> int:
    """What this process has of the memory now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def count_writes(written: Counter[str]) -> None:
    """Have each writing of the plan counted."""
    from gansweep.sweep.changes import Changes
    from gansweep.sweep.plan import Plan

    whole, append = Plan._save_whole, Changes.append

    def counted_whole(self: Any) -> None:
        whole(self)
        written["whole"] += 1
        written["bytes"] += self._bytes

    def counted_append(self: Any, lines: bytes, *, follows: str) -> None:
        append(self, lines, follows=follows)
        written["appended"] += 1
        written["bytes"] += len(lines)

    Plan._save_whole, Changes.append = counted_whole, counted_append  # type: ignore[method-assign]


def count_calls(calls: Counter[str]) -> None:
    """Have each call of MLflow's client counted, but for those that it makes itself."""
    from mlflow.tracking import MlflowClient

    inside = threading.local()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if getattr(inside, "deep", False):
                return call(*arguments, **named)
            inside.deep = True
            try:
                calls[name] += 1
                return call(*arguments, **named)
            finally:
                inside.deep = False

        return wrapped

    for name, call in list(vars(MlflowClient).items()):
        if callable(call) and not name.startswith("_"):
            setattr(MlflowClient, name, counted(name, call))


def measure(arguments: argparse.Namespace, folder: Path) -> Figures:
    """One size, in this process."""
    from benchmarks import simulation
    from gansweep.commands.home import find_home
    from gansweep.commands.run import _Run
    from gansweep.commands.scope import Whole
    from gansweep.sweep.board import Board
    from gansweep.sweep.driver import SweepDriver
    from gansweep.sweep.file import load_sweep
    from gansweep.sweep.trials import check_data, planned, trial_count
    from gansweep.tracking.mlflow import Courier, MlflowStore, tracking_uri

    written: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    count_writes(written)
    path = folder / "scale.yaml"
    path.write_text(
        sweep_text(arguments.one, scheduler=arguments.scheduler, grid=arguments.grid or ())
    )
    warm = folder / "warm.yaml"
    warm.write_text(sweep_text(2, scheduler="none"))
    check_data(planned(load_sweep(warm)))  # imports, and the data
    workers = arguments.nodes * arguments.gpus
    before = resident_bytes()
    spent = Spent()
    with spent.on("plan"):
        sweep = load_sweep(path)
        trials = planned(sweep)
        advice = check_data(trials)
    planned_bytes = resident_bytes()
    count = trial_count(sweep)
    if arguments.store == "mlflow":
        count_calls(calls)
        store: Any = MlflowStore(tracking_uri(f"sqlite:///{folder}/mlflow.db"))
        experiment = store.experiment(sweep.name)
        parent = store.parent_run(experiment, sweep.name)
        store.index_trials(experiment)
        courier: Any = Courier(store.uri)
    else:
        store, courier = CountedStore(calls), NoCourier()
        experiment = parent = "1"
    for name in ("trial_run", "set_tags", "settle", "log_text", "trials"):
        setattr(store, name, spent.wrap("tracking", getattr(store, name)))
    calls.clear()
    home = find_home(folder / "runs", sweep.name)
    root = home.folder
    root.mkdir(parents=True)
    first: list[float] = []
    delays: list[float] = []
    with spent.on("first"):
        nobody: Any = None
        scope = Whole(root)
        run = _Run(
            sweep, trials, store, home, scope, nobody, nobody, advice=advice, retry_failed=False
        )
        run.courier.close()
        run.plan.save()
        board = Board(run.plan, total=run.proposals.size, workers=workers, keys=run.proposals.keys)
        driver: Any = SweepDriver(
            sweep, run.plan, board, store, run.proposals, courier,
            workers_deliver=False, experiment=experiment, parent=parent, folder=root, tags={},
            advice=advice, budget=run.budget, place=home.trial_place,
        )  # fmt: skip
    begun = time.thread_time()
    del trials, run
    begin, hear = driver.begin, driver.hear

    def first_begin(pack: str) -> Any:
        found = begin(pack)
        if not first and found:
            first.append(time.thread_time() - begun)
        return found

    def delayed_hear(pack: str, message: Any) -> Any:
        since = time.thread_time()
        answers = hear(pack, message)
        if any(answer.refills for answer in answers.values()):
            delays.append(time.thread_time() - since)
        return answers

    driver.begin = spent.wrap("driver", first_begin)
    driver.hear = spent.wrap("driver", delayed_hear)
    driver.over = spent.wrap("driver", driver.over)
    figures: Figures = {"trials": count}
    if arguments.grid:  # planned, and the first pack begun
        driver.begin("the first")
    else:
        with spent.on("simulated"):
            if arguments.tune:
                figures.update(_on_tune(driver, spent, workers=workers, folder=root))
            else:
                simulation.run_simulated(driver, workers=workers)
        with spent.on("board"):
            board.seconds_left()
        ended = resident_bytes()
        with spent.on("settle"):
            driver.settle()
        if driver.trouble or driver.backlog.records:
            raise RuntimeError(driver.trouble or str(driver.backlog))
        states = Counter(entry.state for entry in driver._plan.entries.values())
        figures["states"] = ", ".join(f"{number} {state}" for state, number in states.items())
        figures[MEMORY] = (ended - before) / 1e6
    delivered = 0.0
    if arguments.store == "mlflow" and courier._thread:
        clock = time.pthread_getcpuclockid(courier._thread.ident)
        delivered = time.clock_gettime(clock)
        courier.close()
    spent._switch()
    each = {name: seconds / count * 1000 for name, seconds in spent.seconds.items()}
    figures["s to plan"] = spent.seconds["plan"]
    figures["MB planned"] = (planned_bytes - before) / 1e6
    figures["s from plan to first pack"] = spent.seconds["first"] + (first or [0.0])[0]
    if arguments.grid:
        figures["plan: bytes written"] = written["bytes"]
        return figures
    figures["plan: bytes written a trial"] = written["bytes"] / count
    figures["plan: written whole"] = written["whole"]
    figures["ms to plan a trial"] = each["plan"]
    figures[DRIVER] = each["driver"] + each["first"]
    figures["ms to settle a trial"] = each["settle"]
    if arguments.tune:
        figures["ms of driver and Tune a trial"] = each["driver"] + each["first"] + each["tune"]
        figures["ms of Tune an event"] = spent.seconds["tune"] / float(figures["events"]) * 1000
    if arguments.store == "mlflow":
        figures["ms of tracking a trial, in the driver's thread"] = each["tracking"]
        figures["ms of tracking a trial, in the courier's"] = delivered / count * 1000
    figures["refills of packs"] = len(delays)
    if delays:
        figures["ms from an end to its refill, mean"] = sum(delays) / len(delays) * 1000
        figures["ms from an end to its refill, at most"] = max(delays) * 1000
    for name, number in sorted(calls.items()):
        figures[f"calls of {name} a trial"] = number / count
    return figures


def _on_tune(driver: Any, spent: Spent, *, workers: int, folder: Path) -> Figures:
    import ray

    from benchmarks.simulated_tune import run_on_tune

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    with spent.on("tune"):
        actors = run_on_tune(
            driver,
            simulated=lambda: spent.on("simulated"),
            concurrent=workers,
            folder=folder,
        )
    ray.shutdown()
    return {"events": actors.events.count, "steps": actors.steps}


def further(found: Sequence[Figures]) -> None:
    """What each trial more has cost than in the size before: what is there once does not count."""
    for less, more in itertools.pairwise(found):
        if MEMORY not in more:
            continue
        few, many = float(less["trials"]), float(more["trials"])
        added = float(more[MEMORY]) - float(less[MEMORY])
        more["kB of memory for each further trial"] = added / (many - few) * 1000
        spent = float(more[DRIVER]) * many - float(less[DRIVER]) * few
        more["ms of driver for each further trial"] = spent / (many - few)


def table(found: Sequence[Figures]) -> Iterator[str]:
    """A line of Markdown for each figure."""
    names = list(dict.fromkeys(name for each in found for name in each if name != "trials"))
    yield "| trials | " + " | ".join(f"{each['trials']:,}" for each in found) + " |"
    yield "| --- |" + " ---: |" * len(found)
    for name in names:
        yield f"| {name} | " + " | ".join(_cell(each.get(name)) for each in found) + " |"


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _measured(trials: int, given: Sequence[str], environment: Mapping[str, str]) -> Figures | None:
    """The figures of one size, from a process of its own."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        command = [sys.executable, "-m", "benchmarks.scale", *given]
        command += ["--one", str(trials), "--folder", folder]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
        answer = Path(folder) / "figures.json"
        if done.returncode or not answer.exists():
            return None
        found: Figures = json.loads(answer.read_text())
        return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=list(TRIALS))
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--gpus", type=int, default=8, help="of each node: a worker on each")
    parser.add_argument("--scheduler", choices=("none", "asha", "median"), default="asha")
    parser.add_argument("--store", choices=("mlflow", "counted"), default="counted")
    parser.add_argument("--tune", action="store_true", help="with Ray Tune's controller")
    parser.add_argument("--grid", type=int, nargs="+", help="plan a grid, and begin its first pack")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        figures = measure(arguments, arguments.folder)
        (arguments.folder / "figures.json").write_text(json.dumps(figures))
        sys.stdout.flush()
        os._exit(0)  # what the libraries do at their end takes long, and is not asked for
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    found = []
    for trials in [0] if arguments.grid else arguments.trials:
        measured = _measured(trials, sys.argv[1:], environment)
        if measured is None:
            print(f"{trials} trials: failed", file=sys.stderr)
            return 1
        found.append(measured)
        print(f"{measured['trials']:,} trials measured", file=sys.stderr, flush=True)
    further(found)
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
