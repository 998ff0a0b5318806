"""A trial that two worker processes of a local Ray train together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from sweep_files import text

from .command import REPOSITORY, Place
from .record import Record

pytestmark = pytest.mark.long

TRIAL = {
    "model": {"name": "gan"},
    "data": {"name": "ring8", "n": 1000, "batch_size": 8},
    "budget": {"g_steps": 20},
    "samples": {"every": 10, "rows": 2},
    "score": {"samples": 64},
    "log": {"every": 1},
    "checkpoint": {"every": 5},
    "diagnosis": {"every": 0},
    "compile": "false",
}


def trained(place: Place, **sections: object) -> str:
    """What a sweep of two seeds says."""
    path = os.pathsep.join([place.environment["PYTHONPATH"], str(REPOSITORY / "tests")])
    place.environment["PYTHONPATH"] = path
    network = {"name": "own_parts:Mortal", "once": str(place.folder / "died"), "at": 12}
    own = {"processes": 2, **sections}
    (place.folder / "small.yaml").write_text(
        text(trial={**TRIAL, "network": network}, space=None, seeds=2, resources=own)
    )
    said = place.run("run", "small.yaml").text
    plan = json.loads((place.folder / "runs" / "small" / "plan.json").read_text())
    assert [trial["state"] for trial in plan["trials"]] == ["completed"] * 2
    assert not place.left_after(10)
    return said


def test_two_processes_train_a_trial_and_survive_each_other(
    new_place: Callable[..., Place],
) -> None:
    """One dies in the first trial, which goes on from its checkpoint; losses are those of one."""
    two, one = new_place("two"), new_place("one")
    assert "packs of 1: in turns, eager: 2 processes train each trial" in trained(two)
    assert (two.folder / "died").exists()
    trained(one, processes=1, engine="interleaved")
    assert not (one.folder / "died").exists()
    ran = 0
    mine, theirs = (Record(place.uri, "small").trials.values() for place in (two, one))
    assert len(mine) == len(theirs) == 2
    for run in mine:
        (other,) = (o for o in theirs if o.tags["gansweep.seed"] == run.tags["gansweep.seed"])
        for loss in ("loss/d", "loss/g"):
            found, expected = run.curves[loss], other.curves[loss]
            assert run.steps(loss) == list(range(1, 21))
            assert found == [(s, pytest.approx(v, rel=1e-4, abs=1e-5)) for s, v in expected]
            ran += 1
    assert ran == 4
