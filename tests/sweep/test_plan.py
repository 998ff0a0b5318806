from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from sweep_files import TEXT, load

from gansweep.errors import ConfigError
from gansweep.sweep.plan import Entry, Plan
from gansweep.sweep.trials import planned


def entry(**values: Any) -> Entry:
    return Entry(**{"key": "k", "name": "n", "point": {"a": 1}, "seed": 0, "budget": 10, **values})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    plan = Plan.load(path, "s")
    assert plan.entries == {}
    assert not path.parent.exists()  # reading makes nothing
    for trial in planned(load(tmp_path, TEXT)):
        plan.add(trial)
    first = next(iter(plan.entries.values()))
    first.state, first.run_id, first.reason = "diverged", "r", 'loss "x"\nü'
    first.g_steps, first.seconds = 4, 1.5
    first.metrics = {"score/swd": None, "loss/d": -0.25}
    plan.save()
    again = Plan.load(path, "s")
    assert again.entries == plan.entries
    assert list(again.entries) == list(plan.entries)
    assert os.listdir(path.parent) == ["plan.json"]  # the temporary file is gone


def test_add_keeps_what_is_known_and_takes_the_new_budget(tmp_path: Path) -> None:
    (trial, _) = planned(load(tmp_path, TEXT))
    (longer, _) = planned(load(tmp_path, TEXT, ["budget.g_steps=50"]))
    assert trial.key == longer.key
    plan = Plan(tmp_path / "plan.json", "s")
    known = plan.add(trial)
    known.state, known.g_steps = "completed", 5
    known.point = {"model.clip": "0.01"}  # as another file wrote it
    assert plan.add(longer) is known
    assert known.point == longer.point
    assert (known.budget, known.state, known.g_steps) == (50, "waiting", 5)
    assert len(plan.entries) == 1


def test_what_the_file_means_no_more_is_kept_apart(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.json", "s")
    first, second = (plan.add(trial) for trial in planned(load(tmp_path, TEXT)))
    assert plan.meant == [first, second]
    plan.mean({second.key, "another"}, unlisted=3)
    plan.save()
    again = Plan.load(plan.path, "s")
    assert (again.meant, again.left_out, again.size) == ([second], {first.key}, 5)
    again.mean({first.key, second.key}, unlisted=0)
    assert (again.meant, again.size) == ([first, second], 2)


TAKEN_UP = [
    ("completed", 10, False, "completed"),
    ("completed", 11, False, "waiting"),
    ("waiting", 10, False, "completed"),
    ("waiting", 9, True, "completed"),
    ("waiting", 11, False, "waiting"),
    ("failed", 10, False, "failed"),
    ("failed", 10, True, "waiting"),
    ("diverged", 50, True, "diverged"),
    ("interrupted", 50, False, "interrupted"),
]


@pytest.mark.parametrize(("state", "budget", "retry_failed", "then"), TAKEN_UP)
def test_what_is_to_be_trained_further_waits(
    state: str, budget: int, retry_failed: bool, then: str
) -> None:
    """Else who reads the plan meanwhile takes it for one that has ended."""
    one = entry(state=state, g_steps=10)
    one.take_up(budget, retry_failed=retry_failed)
    assert (one.state, one.budget, one.g_steps) == (then, budget, 10)


def test_what_a_killed_command_trained_is_interrupted(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.json", "s")
    states = ("running", "completed", "waiting", "failed", "interrupted")
    plan.entries = {state: entry(state=state, reason="why", g_steps=3) for state in states}
    plan.put_aside()
    found = [(each.state, each.reason, each.g_steps) for each in plan.entries.values()]
    assert found[0] == ("interrupted", "its command was killed", 3)
    assert found[1:] == [(state, "why", 3) for state in states[1:]]


def test_what_failed_and_waits_has_not_completed() -> None:
    one = entry(state="failed", g_steps=10, reason="ValueError")
    one.take_up(10, retry_failed=True)
    one.take_up(10)
    assert one.state == "waiting"


def test_failed_save_leaves_the_old_plan(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.json", "s")
    plan.entries["k"] = entry()
    plan.save()
    plan.entries["k"].metrics["x"] = float("nan")  # not JSON
    with pytest.raises(ValueError, match="not JSON compliant"):
        plan.save()
    assert Plan.load(tmp_path / "plan.json", "s").entries == {"k": entry()}


def test_reader_never_sees_half_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(tmp_path / "plan.json", "s")
    plan.entries["k"] = entry()
    plan.save()
    seen = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        assert json.loads(self.read_text())["trials"]  # complete before it takes the name
        seen.append(Plan.load(tmp_path / "plan.json", "s").entries["k"].state)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    plan.entries["k"].state = "running"
    plan.save()
    assert seen == ["waiting"]


def test_a_plan_of_the_first_format_opens(tmp_path: Path) -> None:
    """As its version wrote it: one object with indents, without a name for the writing."""
    tree = {
        "format": 1,
        "sweep": "s",
        "population": "pbt",
        "trials": [vars(entry(state="stopped"))],
    }
    (tmp_path / "plan.json").write_text(json.dumps(tree, indent=1))
    plan = Plan.load(tmp_path / "plan.json", "s")
    assert (plan.population, plan.basis) == ("pbt", "")
    assert plan.entries == {"k": entry(state="stopped")}
    plan.save()
    again = json.loads((tmp_path / "plan.json").read_text())
    assert (again["format"], again["population"], len(again["trials"])) == (2, "pbt", 1)


def test_the_basis_is_that_of_all_trials_or_none(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.json", "s")
    plan.meet("one")
    assert plan.basis == "one"
    plan.meet("another")  # it has no trials yet
    assert plan.basis == "another"
    plan.entries["k"] = entry()
    plan.meet("another")
    plan.save()
    assert Plan.load(plan.path, "s").basis == "another"
    plan.meet("one")
    assert plan.basis == ""
    plan.meet("one")
    assert plan.basis == ""


GOOD = {"key": "k", "name": "n", "point": {}, "seed": 0, "budget": 1}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        '{"format": 1}',
        '{"format": 99, "trials": []}',
        '{"trials": []}',
        '{"format": 1, "trials": [3]}',
        '{"format": 1, "trials": [{"key": "k"}]}',
        json.dumps({"format": 1, "trials": [{**GOOD, "colour": "red"}]}),
    ],
)
def test_damaged_plan_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"plan\.json: is no plan of a sweep.*move it away"):
        Plan.load(path, "s")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no plan of a sweep"):
        Plan.load(path, "s")


def test_is_finished() -> None:
    states = (
        "waiting", "running", "completed", "diverged", "stopped", "interrupted", "failed",
    )  # fmt: skip
    finished = []
    for state, budget, retry in itertools.product(states, (5, 10, 20), (False, True)):
        if entry(state=state, g_steps=10).is_finished(budget, retry_failed=retry):
            finished.append((state, budget, retry))
    expected = [("completed", budget, retry) for budget in (5, 10) for retry in (False, True)]
    for state in ("diverged", "stopped"):
        expected += [(state, budget, retry) for budget in (5, 10, 20) for retry in (False, True)]
    expected += [("failed", budget, False) for budget in (5, 10, 20)]
    assert sorted(finished) == sorted(expected)
