"""A sweep whose driver is killed: what its trials recorded is neither lost nor stored twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from .command import Ended, Place, wait_for, workers
from .record import Record
from .story import ADDED, LONGER, NAME, words

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

COMMAND = words(clips=(ADDED,), g_steps=LONGER)


@dataclass(frozen=True)
class Killed:
    place: Place
    parents: list[str]
    running: str
    left: list[str]
    synced: Ended
    midway: Record
    again: Ended
    completed: Record


@pytest.fixture(scope="module")
def killed(new_place: Callable[..., Place]) -> Killed:
    """Two trials beyond their first checkpoints; the rest comes by `sync`, then by `run`."""
    place = new_place("killed")
    lab = place.folder / "lab"
    (lab / "hold").touch()
    driver = place.start(*COMMAND)
    wait_for(
        lambda: len(list(lab.glob("held.*.2"))) == 2 or driver.poll() is not None,
        seconds=300,
        what="the second score on both workers",
    )
    assert driver.poll() is None, place.log()
    parents = [" ".join(worker.parent().cmdline()) for worker in workers(place)]
    running = "\n".join(" ".join(process.cmdline()) for process in place.processes())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    left = place.left_after(20)
    (lab / "hold").unlink()
    synced = place.run("sync", NAME)
    midway = Record(place.uri, NAME)
    for folder in (sweep := place.folder / "runs" / NAME, *(sweep / "trials").iterdir()):
        (folder / ".plan.json.0.draft").touch()  # as if it had been killed in writing
    again = place.run(*COMMAND)
    return Killed(place, parents, running, left, synced, midway, again, Record(place.uri, NAME))


def test_workers_are_forked_and_ray_has_no_more_processes_than_a_sweep_needs(
    killed: Killed,
) -> None:
    assert len(killed.parents) == 2
    assert all("gansweep.sweep.forkserver" in parent for parent in killed.parents)
    assert "raylet/raylet" in killed.running
    for spared in ("dashboard/dashboard.py", "_private/monitor.py"):
        assert spared not in killed.running


def test_no_process_outlives_it(killed: Killed) -> None:
    assert killed.left == []


def test_sync_delivers_what_the_trials_wrote(killed: Killed) -> None:
    assert NAME in killed.synced.text
    for run in killed.midway.trials.values():
        assert run.steps("loss/d") == list(range(10, run.steps("loss/d")[-1] + 1, 10))
        assert run.steps("loss/d")[-1] >= 20  # its checkpoint is of 25, and comes after the record


def test_the_same_command_completes_it_with_each_step_once(killed: Killed) -> None:
    for key, run in killed.completed.trials.items():
        assert run.id == killed.midway.trials[key].id
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        assert run.steps("loss/d") == list(range(10, LONGER + 1, 10))
        assert run.steps("score/swd") == list(range(20, LONGER + 1, 20))
        assert {step: len(found) for step, found in run.images.items()} == dict.fromkeys(
            range(20, LONGER + 1, 20), 1
        )
    assert len(killed.completed.trials) == 2


def test_it_takes_none_for_running_before_it_has_workers(killed: Killed) -> None:
    assert "\n2 trials: 2 interrupted; 0s gone - starting the workers\n" in killed.again.text


def test_only_checkpoints_are_left(killed: Killed) -> None:
    sweep = killed.place.folder / "runs" / NAME
    assert not list(sweep.glob(".*.draft"))
    trials = list((sweep / "trials").iterdir())
    assert len(trials) == 2
    kept = [sorted(file.name for file in trial.iterdir()) for trial in trials]
    assert kept == [["best.pt", "checkpoint.pt"]] * 2
