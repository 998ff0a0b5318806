"""What holds for every scheduler."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sweep_files import load, text

from gansweep.sweep.file import Search
from gansweep.sweep.schedulers.base import Continue, Scheduler
from gansweep.sweep.schedulers.catalogue import grace, make_scheduler
from gansweep.sweep.space import parse_space

SPACE = parse_space({"model.clip": {"uniform": [0.01, 1.0]}}, {}, ("model",), [])
KINDS = ("none", "asha", "median", "pbt")


def made(kind: Any, *, budget: int = 40, **options: Any) -> Scheduler:
    return make_scheduler(Search(scheduler=kind, **options), budget, space=SPACE)


def session(scheduler: Scheduler) -> list[Any]:
    """Four trials side by side, the later the worse; ones that stop are over."""
    keys = dict.fromkeys("abcd")
    for place, key in enumerate(keys):
        scheduler.begin(key, {"model.clip": 0.1 * (place + 1)})
    answers: list[Any] = []
    for step in range(4, 41, 4):
        for place, key in enumerate(list(keys)):
            found = scheduler.report(key, step, float(place))
            answers.extend((step, *each) for each in found)
            if any(type(decision).__name__ == "Stop" for _, decision in found):
                keys.pop(key)
                answers.extend((step, *each) for each in scheduler.ended(key))
    return answers


EXPECTED = {
    "none": {"Continue": 40},
    # Rungs at 8 and 24: a is the first there and goes on, the others are worse.
    "asha": {"Continue": 10 + 3 * 1, "Stop": 3},
    # Grace 8, where c and d are worse than the median of two and three others; b has none.
    "median": {"Continue": 2 * 10 + 2 * 1, "Stop": 2},
    # Generations at 4, 8, ... 36; at 40 everybody ends.
    "pbt": {"Continue": 3 * 9 + 4, "Inherit": 9},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_calls_give_the_same_decisions(kind: str) -> None:
    first, again = session(made(kind)), session(made(kind))
    assert first == again
    names = [type(decision).__name__ for _, _, decision in first]
    assert {name: names.count(name) for name in sorted(set(names))} == EXPECTED[kind]
    assert made(kind).waits == (kind != "none")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_report_gets_the_same_answer_and_changes_nothing(kind: str) -> None:
    """As of a trial that was taken up again from a checkpoint before its last scores."""
    plain, repeated = made(kind), made(kind)
    for scheduler in (plain, repeated):
        for place, key in enumerate("abcd"):
            scheduler.begin(key, {"model.clip": 0.1 * (place + 1)})
    told = {}
    count = 0
    for step in range(4, 41, 4):
        for place, key in enumerate("abcd"):
            found = plain.report(key, step, float(place))
            assert repeated.report(key, step, float(place)) == found
            told.update({(who, step): decision for who, decision in found})
        for place, key in enumerate("abcd"):
            for earlier in range(4, step + 1, 4):
                answer = repeated.report(key, earlier, float(place))
                assert answer == [(key, told[key, earlier])]
                count += 1
    assert count == 4 * 55


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_that_is_unknown_or_over_harms_nobody(kind: str) -> None:
    scheduler = made(kind)
    assert scheduler.ended("x") == []
    assert scheduler.report("x", 4, 1.0) == [("x", Continue())]


@pytest.mark.parametrize(
    ("given", "budget", "expected"),
    [(None, 100, 20), (None, 104, 20), (None, 2, 1), (500, 100, 100), (7, 100, 7)],
)
def test_grace(given: int | None, budget: int, expected: int) -> None:
    assert grace(Search(grace=given), budget) == expected


def test_settings_reach_the_schedulers(tmp_path: Any) -> None:
    content = text(
        search={
            "scheduler": "pbt", "mode": "max", "interval": 7, "quantile": 0.5, "resample": 1.0,
            "seed": 3, "grace": 5, "reduction": 4,
        }
    )  # fmt: skip
    sweep = load(tmp_path, content)
    pbt: Any = make_scheduler(sweep.search, 50, space=sweep.space)
    assert (pbt._interval, pbt._quantile, pbt._resample, pbt._seed) == (7, 0.5, 1.0, 3)
    assert (pbt._sign, pbt._budget, pbt._axes) == (-1.0, 50, sweep.space.axes)
    asha: Any = make_scheduler(load(tmp_path, content, ["search.scheduler=asha"]).search, 90,
                               space=sweep.space)  # fmt: skip
    assert (asha._sign, list(asha._rungs)) == (-1.0, [80, 20, 5])
    median: Any = make_scheduler(load(tmp_path, content, ["search.scheduler=median"]).search, 90,
                                 space=sweep.space)  # fmt: skip
    assert (median._sign, median._grace) == (-1.0, 5)


def test_schedulers_import_no_ray() -> None:
    code = """
import sys
import gansweep.sweep.schedulers.catalogue
print([name for name in ("ray", "mlflow", "optuna") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
