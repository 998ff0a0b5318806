"""Trials that raise, diverge or are stopped early, and what is trained again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from .command import Ended, Place
from .conftest import CLUSTER
from .record import Record

pytestmark = pytest.mark.long

SWEEP = """
name: {name}
trial:
  model: {{name: gan}}
  network: {{name: "mylab:Net"}}
  latent: {{dim: 8}}
  optimizer: {{name: sgd, lr: 0.001, momentum: 0}}
  data: {{name: digits, batch_size: 16}}
  budget: {{g_steps: {g_steps}}}
  samples: {{every: 4, rows: 2, columns: 2}}
  score: {{samples: 64}}
  log: {{every: 2}}
  checkpoint: {{every: 5}}
  diagnosis: {{every: 10}}  # which calls D, too: the lab's networks count
space:
  {space}
search: {{metric: score/swd, mode: min, {search}}}
"""


def write(
    place: Place, name: str, *, g_steps: int, space: str, search: str = "method: grid"
) -> Path:
    path = place.folder / f"{name}.yaml"
    path.write_text(SWEEP.format(name=name, g_steps=g_steps, space=space, search=search))
    return path


@dataclass(frozen=True)
class Broken:
    first: Ended
    record: Record
    traceback: str
    ranked: list[dict[str, object]]
    again: Ended
    retried: Ended
    mended: Record


@pytest.fixture(scope="module")
def broken(new_place: Callable[..., Place], cluster: str) -> Broken:
    """A sweep with a good trial and three bad ones; again; mended and with --retry-failed."""
    place = new_place("broken", **CLUSTER)
    path = write(
        place, "broken", g_steps=20, space="network.mode: {grid: [nan, raises, good, dies]}"
    )
    command = ("run", path, "--address", cluster)
    first = place.run(*command, code=1)
    record = Record(place.uri, "broken")
    traceback = record.text(record.named("mode=raises"), "traceback.txt")
    ranked = json.loads(place.run("show", "broken", "--json").text)["trials"]
    again = place.run(*command, code=1)
    assert Record(place.uri, "broken").trials == record.trials
    lab = place.folder / "lab" / "mylab.py"
    text = lab.read_text()
    assert text.count("BROKEN_AT = 13") == 1
    lab.write_text(text.replace("BROKEN_AT = 13", "BROKEN_AT = 1300"))
    retried = place.run(*command, "--retry-failed")
    return Broken(first, record, traceback, ranked, again, retried, Record(place.uri, "broken"))


def test_a_trial_that_raises_is_failed_with_its_traceback(broken: Broken) -> None:
    run = broken.record.named("mode=raises")
    assert run.status == "FAILED"
    assert run.tags["gansweep.state"] == "failed"
    assert run.tags["gansweep.reason"] == "RuntimeError: broken on purpose"
    assert 'raise RuntimeError("broken on purpose")' in broken.traceback
    assert "mylab.py" in broken.traceback
    assert broken.record.parent.status == "FAILED"
    assert "failed  mode=raises: RuntimeError: broken on purpose" in broken.first.text


def test_the_others_go_on(broken: Broken) -> None:
    run = broken.record.named("mode=good")
    assert run.status == "FINISHED"
    assert run.tags["gansweep.state"] == "completed"
    assert run.steps("loss/d") == list(range(2, 21, 2))


def test_a_diverging_trial_is_finished_with_its_reason_and_ranked_last(broken: Broken) -> None:
    run = broken.record.named("mode=nan")
    assert run.status == "FINISHED"
    assert run.tags["gansweep.state"] == "diverged"
    assert run.tags["gansweep.reason"].endswith("was nan at g_step 6")
    assert f"diverged  mode=nan: {run.tags['gansweep.reason']}" in broken.first.text
    states = [trial["state"] for trial in broken.ranked]
    assert states[0] == "completed"
    assert sorted(states[1:]) == ["diverged", "failed", "failed"]


def test_failed_trials_are_left_alone_until_asked_for(broken: Broken) -> None:
    assert "starting the workers" not in broken.again.text


def test_retry_failed_trains_what_failed_and_nothing_else(broken: Broken) -> None:
    before, after = broken.record, broken.mended
    for mode in ("good", "nan"):
        assert after.named(f"mode={mode}") == before.named(f"mode={mode}")
    for mode in ("raises", "dies"):
        run = after.named(f"mode={mode}")
        assert run.id == before.named(f"mode={mode}").id
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        assert run.tags["gansweep.reason"] == ""
    assert after.parent.status == "FINISHED"


def test_a_worker_that_is_killed_is_a_failed_trial(broken: Broken) -> None:
    run = broken.record.named("mode=dies")
    assert run.status == "FAILED"
    assert run.tags["gansweep.state"] == "failed"
    assert run.tags["gansweep.reason"].startswith("the worker died: ")
    assert 5 <= run.steps("loss/d")[-1] <= 12


@pytest.mark.parametrize("mode", ["raises", "dies"])
def test_a_trial_that_goes_on_after_a_failure_has_every_step_once(
    broken: Broken, mode: str
) -> None:
    """It failed beyond its last checkpoint, with values of the steps in between recorded."""
    run = broken.mended.named(f"mode={mode}")
    assert run.steps("loss/d") == list(range(2, 21, 2))
    assert run.steps("score/swd") == list(range(4, 21, 4))
    assert {step: len(found) for step, found in run.images.items()} == dict.fromkeys(
        range(4, 21, 4), 1
    )
    assert run.learning == broken.mended.named("mode=good").learning


LEVELS = "network.level: {grid: [-0.9, -0.1, 0.2, 0.5, 0.7, 0.9]}"  # ever further from the digits


SCHEDULERS = {
    "asha": "scheduler: asha, grace: 4, reduction: 2",
    "median": "scheduler: median, grace: 4",
}


@pytest.fixture(scope="module")
def early(new_place: Callable[..., Place], cluster: str) -> dict[str, Place]:
    """A sweep under each scheduler, side by side; one worker each, so that the order is known."""

    def run(name: str) -> Place:
        place = new_place(name, **CLUSTER)
        path = write(place, "early", g_steps=16, space=LEVELS, search=SCHEDULERS[name])
        place.run("run", path, "--address", cluster, "resources.concurrent=1")
        return place

    with ThreadPoolExecutor(len(SCHEDULERS)) as pool:
        return dict(zip(SCHEDULERS, pool.map(run, SCHEDULERS), strict=True))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_stops_bad_trials(scheduler: str, early: dict[str, Place]) -> None:
    record = Record(early[scheduler].uri, "early")
    assert len(record.trials) == 6
    steps: dict[str, list[int]] = {"completed": [], "stopped": []}
    for run in record.trials.values():
        assert run.status == "FINISHED"
        state = run.tags["gansweep.state"]
        last = run.steps("score/swd")[-1]
        steps[state].append(last)
        if state == "stopped":  # at the score that decided, not at a later one
            reason = run.tags["gansweep.reason"]
            assert reason.startswith(f"{scheduler}: ")
            assert reason.endswith(f" at g_step {last}")
            assert max(run.images) == last
    assert set(steps["completed"]) == {16}
    assert steps["stopped"]
    assert max(steps["stopped"]) < 16
    scores = {run.name: run.curves["score/swd"][-1][1] for run in record.trials.values()}
    best = record.named(min(scores, key=scores.__getitem__))
    assert best.tags["gansweep.state"] == "completed"


def test_stopped_trials_are_not_trained_again(early: dict[str, Place]) -> None:
    place = early["asha"]
    before = Record(place.uri, "early").trials
    assert "starting the workers" not in place.run("run", place.folder / "early.yaml").text
    assert Record(place.uri, "early").trials == before


def test_tpe_chooses_points_and_repeats_none(new_place: Callable[..., Place], cluster: str) -> None:
    """14 points: beyond TPE's first ten, which are random, a point depends on those that ended."""
    place = new_place("tpe", **CLUSTER)
    path = write(
        place, "tpe", g_steps=2, space="optimizer.lr: {loguniform: [1.0e-4, 1.0e-1]}",
        search="method: tpe, samples: 14",
    )  # fmt: skip
    place.run("run", path, "--address", cluster, "search.samples=12")
    first = Record(place.uri, "tpe").trials
    assert len({run.point["optimizer.lr"] for run in first.values()}) == 12
    assert all(run.tags["gansweep.state"] == "completed" for run in first.values())
    again = place.run("run", path, "--address", cluster, "search.samples=12")
    assert Record(place.uri, "tpe").trials == first
    assert "starting the workers" not in again.text, "Ray is not started for nothing"


def test_where_no_ray_starts_no_experiment_is_left(new_place: Callable[..., Place]) -> None:
    place = new_place("no-ray")
    place.environment["RAY_TMPDIR"] = os.devnull  # in which no folder can be made
    path = write(place, "no_ray", g_steps=20, space="network.mode: {grid: [good]}")
    ended = place.run("run", path, code=2)
    assert "gansweep: 1 mistake, nothing was started:\n  Ray: a Ray of our own" in ended.text
    found = MlflowClient(place.uri).search_experiments(view_type=ViewType.ALL)
    assert [experiment.name for experiment in found] == ["Default"]
    assert not list(place.folder.rglob("plan.json"))
