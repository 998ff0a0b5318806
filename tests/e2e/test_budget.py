"""A budget of the whole sweep that ends amid it, and a larger one that goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from .command import Ended, Place
from .record import Record
from .story import ADDED, LONGER, NAME, Story, checkpoint, words
from .test_interrupt import same

pytestmark = pytest.mark.long

COMMAND = (*words(clips=(ADDED,), g_steps=LONGER), "resources.concurrent=1")
"""Two trials that `story` trained in one go; here the second one waits for the first."""

HELD_SECONDS = 8.0
"""Of each of a trial's five scores."""

SECONDS = 25
"""The budget: more than the worker's start, less than four of the first trial's scores."""


@dataclass(frozen=True)
class Tale:
    place: Place
    first: Ended
    left: list[str]
    stopped: Record
    spent: dict[str, float]
    g_step: int
    again: Ended
    larger: Ended
    completed: Record


@pytest.fixture(scope="module")
def tale(new_place: Callable[..., Place]) -> Tale:
    place = new_place("budget")
    lab = place.folder / "lab"
    (lab / "hold").write_text(str(HELD_SECONDS))
    (lab / "met").mkdir()
    for other in "ab":  # or a single worker would wait for a second one
        (lab / "met" / other).touch()
    first = place.run(*COMMAND, f"time_budget={SECONDS}s", code=3)
    left = place.left_after(5)
    stopped = Record(place.uri, NAME)
    folder = place.folder / "runs" / NAME
    spent = json.loads((folder / "spent.json").read_text())
    (key,) = stopped.trials
    g_step = checkpoint(folder, key)["module"]["g_step"]
    again = place.run(*COMMAND, f"time_budget={SECONDS}s", code=3)
    (lab / "hold").unlink()
    larger = place.run(*COMMAND, "time_budget=1h", code=0)
    return Tale(place, first, left, stopped, spent, g_step, again, larger, Record(place.uri, NAME))


def test_the_running_trial_is_put_aside_and_no_other_begins(tale: Tale) -> None:
    assert tale.left == []
    assert tale.stopped.parent.status == "KILLED"
    ((_, run),) = tale.stopped.trials.items()
    assert run.status == "KILLED"
    assert run.tags["gansweep.state"] == "interrupted"
    assert run.tags["gansweep.reason"] == f"time_budget spent at g_step {tale.g_step}"
    assert 0 < tale.g_step < LONGER
    assert run.curves["loss/d"][-1][0] <= tale.g_step  # what was recorded has arrived
    assert run.tags["gansweep.g_steps"] == str(tale.g_step)


def test_it_says_so_and_how_to_go_on(tale: Tale) -> None:
    assert re.search(
        rf"out of budget: time_budget, \d+s of {SECONDS}s spent; 2 trials to go: the same command "
        r"with a larger time_budget goes on from the checkpoints",
        tale.first.text,
    )
    assert "interrupted" in tale.first.text  # in the table
    assert SECONDS <= tale.spent["seconds"] <= SECONDS + 20
    assert tale.spent["gpu_hours"] == 0


def test_the_same_budget_trains_nothing_more(tale: Tale) -> None:
    assert "starting the workers" not in tale.again.text
    assert "out of budget: time_budget" in tale.again.text


def test_a_larger_budget_ends_as_if_there_had_been_none(tale: Tale, story: Story) -> None:
    assert f"time_budget, {round(tale.spent['seconds'])}s of 1h00m spent" in tale.larger.text
    undisturbed = story.wider.record
    assert tale.completed.parent.status == "FINISHED"
    assert len(tale.completed.trials) == 2
    compared = 0
    for key, run in tale.completed.trials.items():
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        assert run.tags["gansweep.reason"] == ""
        assert run.learning == undisturbed.trials[key].learning
        ours = checkpoint(tale.place.folder / "runs" / NAME, key)
        theirs = checkpoint(story.folder, key)
        for part in ("module", "order", "engine"):
            compared += same(ours[part], theirs[part], part)
    assert compared > 2 * 30
    rows = table(tale.larger.text)
    assert len(rows) == 2
    assert [row for row in table(story.wider.ended.text) if row in rows] == rows


def table(text: str) -> list[str]:
    """The rows of the ranked table, without their places."""
    found = re.findall(r"^ *\d+ +(clip=\S+ .*?completed) *", text, re.MULTILINE)
    return [" ".join(row.split()) for row in found]
