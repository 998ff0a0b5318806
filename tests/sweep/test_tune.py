"""What of Ray Tune's glue can be tried without a cluster."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from gansweep.errors import ConfigError
from gansweep.sweep import tune
from gansweep.sweep.file import Resources, Search

SLOTS = [
    (1.0, 0.0, None, {"CPU": 8.0}, 8),
    (3.0, 0.0, None, {"CPU": 8.0}, 2),
    (0.5, 0.0, None, {"CPU": 2.0}, 4),
    (0.1, 0.0, None, {"CPU": 0.3}, 3),  # 0.3 / 0.1 is 2.9999...
    (1.0, 0.25, None, {"CPU": 8.0, "GPU": 1.0}, 4),
    (1.0, 1.0, None, {"CPU": 2.0, "GPU": 8.0}, 2),
    (1.0, 1.0, None, {"CPU": 8.0}, 1),
    (1.0, 0.0, 3, {"CPU": 8.0}, 3),
    (1.0, 0.0, 30, {"CPU": 8.0}, 8),
    (4.0, 0.0, None, {"CPU": 2.0}, 1),
    (1.0, 0.0, None, {}, 1),
]


@pytest.mark.parametrize(("cpu", "gpu", "concurrent", "have", "count"), SLOTS)
def test_slots(
    cpu: float, gpu: float, concurrent: int | None, have: dict[str, float], count: int
) -> None:
    assert tune.slots(Resources(cpu=cpu, gpu=gpu, concurrent=concurrent), have) == count


ASSIGNED = tune.Assigned(
    key="k", tree="{}", run_id="r", uri="u", folder="f", metric="score/swd", mode="min", waits=True
)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_objective_is_always_finite(mode: str) -> None:
    assigned = replace(ASSIGNED, mode=mode)
    assert assigned.objective({"score/swd": 0.25, "x": math.nan}) == 0.25
    worst = 1e30 if mode == "min" else -1e30
    for value in (math.nan, math.inf, -math.inf, None):
        assert assigned.objective({"score/swd": value}) == worst  # type: ignore[dict-item]
    assert assigned.objective({}) == worst


# --- schedulers


def scheduler(kind: Any, *, mode: Any = "min", budget: int = 100, **options: Any) -> Any:
    stopped: list[str] = []
    search = Search(scheduler=kind, mode=mode, **options)
    made = tune._scheduler(search, budget, lambda result: stopped.append(result["key"]))
    return made, stopped


def result(key: str, g_steps: int, objective: float, **more: Any) -> dict[str, Any]:
    return {
        "key": key, "g_steps": g_steps, "objective": objective, "scored": True,
        "training_iteration": g_steps, **more,
    }  # fmt: skip


def test_no_scheduler_is_fifo() -> None:
    assert isinstance(scheduler("none")[0], FIFOScheduler)


class Fake:
    """Of a Tune trial, what the schedulers look at."""

    def __init__(self, key: str) -> None:
        self.trial_id = key
        self.status = "RUNNING"
        self.checkpoint = None

    def is_finished(self) -> bool:
        return False


PENDING = SimpleNamespace(status="PENDING")
CONTROLLER: Any = SimpleNamespace(get_live_trials=lambda: [PENDING], search_alg=None)


@pytest.mark.parametrize(("mode", "bad"), [("min", 9.0), ("max", -9.0)])
def test_asha_decides_on_scores_alone(mode: str, bad: float) -> None:
    made, stopped = scheduler("asha", mode=mode, grace=10, reduction=2)
    trials = {key: Fake(key) for key in "abcz"}
    for trial in trials.values():
        made.on_trial_add(CONTROLLER, trial)

    def report(key: str, g_steps: int, value: float, **more: Any) -> str:
        return str(
            made.on_trial_result(CONTROLLER, trials[key], result(key, g_steps, value, **more))
        )

    for key in "abc":
        assert report(key, 10, 1.0) == TrialScheduler.CONTINUE
    assert report("z", 10, bad, scored=False) == TrialScheduler.CONTINUE
    assert report("z", 10, bad, done=True) == TrialScheduler.CONTINUE
    assert stopped == []
    assert report("z", 10, bad) == TrialScheduler.STOP
    assert stopped == ["z"]


def test_asha_leaves_a_trial_its_grace_and_its_budget() -> None:
    made, stopped = scheduler("asha", grace=50, reduction=2)
    trials = {key: Fake(key) for key in "abz"}
    for trial in trials.values():
        made.on_trial_add(CONTROLLER, trial)
    for key in "ab":
        made.on_trial_result(CONTROLLER, trials[key], result(key, 49, 0.0))
    early = made.on_trial_result(CONTROLLER, trials["z"], result("z", 49, 9.0))
    assert early == TrialScheduler.CONTINUE
    last = made.on_trial_result(CONTROLLER, trials["a"], result("a", 100, 0.0))
    assert last == TrialScheduler.CONTINUE  # the trial ends by itself, as completed
    assert stopped == []


def test_median_stops_the_worse_half() -> None:
    made, stopped = scheduler("median", grace=1)
    trials = {key: Fake(key) for key in "abcz"}
    for trial in trials.values():
        made.on_trial_add(CONTROLLER, trial)
    for key in "abc":
        for step in (10, 20):
            values = result(key, step, 1.0, time_total_s=step)
            # Not PAUSE, though another trial waits: a worker cannot be paused.
            assert made.on_trial_result(CONTROLLER, trials[key], values) == TrialScheduler.CONTINUE
    values = result("z", 20, 9.0, time_total_s=20)
    ignored = made.on_trial_result(CONTROLLER, trials["z"], {**values, "scored": False})
    assert ignored == TrialScheduler.CONTINUE
    assert made.on_trial_result(CONTROLLER, trials["z"], values) == TrialScheduler.STOP
    assert stopped == ["z"]


@pytest.mark.parametrize(
    ("grace", "budget", "expected"), [(None, 100, 20), (None, 2, 1), (500, 100, 100)]
)
def test_grace(grace: int | None, budget: int, expected: int) -> None:
    made, _ = scheduler("median", budget=budget, grace=grace)
    assert made._grace_period == expected


# --- interrupts


def test_first_signal_asks_the_second_ends() -> None:
    notes: list[str] = []
    interrupts = tune._Interrupts(lambda: notes.append("note"))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    count = 0
    for number in (signal.SIGINT, signal.SIGTERM):
        interrupts = tune._Interrupts(lambda: notes.append("note"))
        with interrupts.listening():
            assert not interrupts.stop_all()
            os.kill(os.getpid(), number)
            assert interrupts.stop_all()
            assert interrupts("trial", {}) is False  # no single trial is stopped by it
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        count += 1
    assert notes == ["note"] * count == ["note", "note"]
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before


# --- what the searcher and the watch pass on


def test_searcher_hands_out_json_until_there_is_no_more() -> None:
    waiting: list[Any] = [ASSIGNED, None]
    searcher = tune._Searcher(lambda: waiting.pop(0), "min")
    told = searcher.suggest("t1")
    assert tune.Assigned(**json.loads(told["assigned"])) == ASSIGNED
    assert searcher.suggest("t2") == tune.Searcher.FINISHED


class Note(tune.Driver):
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def report(self, key: str, result: dict[str, Any]) -> None:
        self.heard.append(("report", key))
        if result.get("bad"):
            raise OSError("the disk is full")

    def lost(self, key: str, reason: str) -> None:
        self.heard.append(("lost", key, reason))


def test_watch_survives_the_driver_and_tells_of_dead_workers(tmp_path: Path) -> None:
    driver = Note()
    watch = tune._Watch(driver)
    watch.on_trial_result(1, [], None, {"key": "a", "bad": True})  # must not raise
    watch.on_trial_result(1, [], None, {"key": "a"})
    errors = tmp_path / "error.txt"
    errors.write_text("Traceback\n  ...\nActorDiedError: out of memory\n")
    trial = SimpleNamespace(
        config={"assigned": json.dumps(asdict(ASSIGNED))}, error_file=str(errors)
    )
    watch.on_trial_error(1, [], trial)
    assert driver.heard == [
        ("report", "a"), ("report", "a"), ("lost", "k", "ActorDiedError: out of memory"),
    ]  # fmt: skip


def test_ray_clients_are_refused_before_anything() -> None:
    with pytest.raises(ConfigError, match="ray://"):
        tune.start_ray("ray://host:10001", Resources())
