from __future__ import annotations

from gansweep.report.endings import reasons
from gansweep.sweep.plan import Entry


def ended(name: str, reason: str) -> Entry:
    return Entry(name, name, {}, 0, 30, state="diverged", reason=reason)


def test_those_of_one_reason_are_together() -> None:
    trials = [
        ended("lr=3", "score/swd was inf at g_step 30"),
        ended("lr=1", "loss/d was nan at g_step 6"),
        ended("lr=2", "loss/d was nan at g_step 17"),
    ]
    assert reasons(trials) == [
        "2 trials: loss/d was nan at g_steps 6 to 17 (lr=1; lr=2)",
        "lr=3: score/swd was inf at g_step 30",
    ]
    assert reasons([]) == []


def test_a_reason_without_a_step_and_steps_within_one_are_left_as_they_are() -> None:
    reason = "RuntimeError: at g_step 3 it broke"
    assert reasons([ended("a", reason), ended("b", reason)]) == [f"2 trials: {reason} (a; b)"]
    same = "loss/d was nan at g_step 6"
    assert reasons([ended("a", same), ended("b", same)]) == [f"2 trials: {same} (a; b)"]


def test_of_many_trials_and_reasons_the_first_ones_are_told() -> None:
    trials = [ended(f"t{n}", "loss/d was nan at g_step 6") for n in range(4)]
    assert reasons(trials[:3])[0].endswith("(t0; t1; t2)")
    assert reasons(trials)[0].endswith("(t0; t1; t2; 1 more)")
    others = [ended(f"o{n}", f"error {n}") for n in range(6)]
    assert len(reasons([*trials, *others[:4]])) == 5
    assert reasons([*trials, *others])[5:] == ["2 trials for 2 other reasons"]
