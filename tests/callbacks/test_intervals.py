"""When callbacks act, and what they hand on."""

from __future__ import annotations

import math

import torch

from gansweep.callbacks.readout import Readout
from gansweep.callbacks.samples import SampleGrid
from gansweep.callbacks.scores import Scores
from gansweep.progress import Clock, Outcome
from gansweep.reference import Floor
from gansweep.tracking.memory import MemoryTracker


class Module:
    """Stands for a training module at `g_step`."""

    device = torch.device("cpu")
    sampled = "the averaged generator"

    def __init__(self, g_step=0, values=()):
        self.d_step, self.images_seen = 5 * g_step, 50 * g_step
        self.values = dict(values)

    def read_meters(self, *, clear=True):
        return dict(self.values)


def drive(callback, *, start=0, stop=10, budget=10, values=(), outcome=None):
    """As a trial does it; the last g_step that was offered."""
    for g_step in range(start + 1, stop + 1):
        if callback.due(g_step, last=g_step >= budget):
            callback.act(Module(g_step, values), g_step)
        if outcome is not None and outcome.over:
            break
    return g_step


class Sampler:
    """Gives the same for the generator that is to be looked at, and for no other."""

    def grid(self, generator):
        assert generator == Module.sampled
        return torch.zeros(3, 2, 2, dtype=torch.uint8)


def test_grids_at_intervals_and_at_the_end():
    tracker = MemoryTracker()
    drive(SampleGrid(tracker, Sampler(), every=4))
    assert [(i.key, i.step) for i in tracker.images] == [("samples", g) for g in (4, 8, 10)]
    tracker = MemoryTracker()
    drive(SampleGrid(tracker, Sampler(), every=5))
    assert [i.step for i in tracker.images] == [5, 10]  # the end once
    tracker = MemoryTracker()
    drive(SampleGrid(tracker, Sampler(), every=4), start=5)
    assert [i.step for i in tracker.images] == [8, 10]  # after a resume


class Of:
    """Stands for a score of this mode."""

    def __init__(self, mode="min"):
        self.mode = mode


class Evaluation:
    """Gives the values of one list after the other, for the generator that is to be looked at."""

    def __init__(self, *, modes=None, seed="0", **values):
        modes = modes or {}
        self.scores = {name: Of(modes.get(name, "min")) for name in values}
        self.values = {name: iter(each) for name, each in values.items()}
        self.floors = {"a": Floor(0.25, 0.125)}
        self.fingerprints = {name: {"seed": seed} for name in values}

    def __call__(self, generator):
        assert generator == Module.sampled
        return {name: next(each) for name, each in self.values.items()}


def test_scores():
    tracker, outcome = MemoryTracker(), Outcome()
    drive(Scores(Evaluation(a=[3.0, 1.0, 2.0, 1.0]), tracker, outcome, every=3))
    assert tracker.history("score/a") == [(3, 3.0), (6, 1.0), (9, 2.0), (10, 1.0)]
    assert tracker.history("best/score/a") == [(3, 3.0), (6, 1.0)]
    assert tracker.history("best_step/score/a") == [(3, 3.0), (6, 6.0)]
    assert tracker.history("floor/score/a") == [(3, 0.25)]
    assert tracker.history("floor_error/score/a") == [(3, 0.125)]
    assert tracker.tags == {"fingerprint.a": '{"seed": "0"}'}
    assert outcome.fingerprints == {"a": {"seed": "0"}}
    assert outcome.metrics == {
        "score/a": 1.0,
        "best/score/a": 1.0,
        "best_step/score/a": 6.0,
        "floor/score/a": 0.25,
        "floor_error/score/a": 0.125,
    }


def test_the_kept_score_says_when_it_was_best_and_by_its_mode():
    evaluation = Evaluation(modes={"b": "max"}, a=[1.0, 2.0, 0.5], b=[1.0, 2.0, 0.5])
    scores = Scores(evaluation, MemoryTracker(), Outcome(), every=1, keep="b")
    improved = []
    for g_step in (1, 2, 3):
        scores.act(Module(), g_step)
        improved.append(scores.improved_at)
    assert improved == [1, 2, 2]


def test_scores_go_on_from_their_state():
    first = Scores(Evaluation(a=[2.0, 3.0]), MemoryTracker(), Outcome(), every=5)
    drive(first)
    tracker, outcome = MemoryTracker(), Outcome()
    outcome.metrics["floor/score/a"] = 0.25  # as a checkpoint has it
    second = Scores(Evaluation(a=[2.0, 1.5]), tracker, outcome, every=5)
    second.load_state_dict(first.state_dict())
    drive(second, start=10, stop=20, budget=20)
    assert tracker.history("best/score/a") == [(20, 1.5)]  # 2.0 is not better than 2.0
    assert tracker.history("floor/score/a") == []  # once in a trial


def test_values_of_another_fingerprint_are_not_gone_on_with():
    first = Scores(Evaluation(a=[1.0, 1.0], b=[1.0, 1.0]), MemoryTracker(), Outcome(), every=5)
    drive(first)
    outcome = Outcome()
    outcome.metrics |= {"score/a": 1.0, "best/score/a": 1.0, "floor/score/a": 0.25, "loss/d": 1.0}
    tracker = MemoryTracker()
    second = Scores(Evaluation(a=[2.0, 3.0], seed="1"), tracker, outcome, every=5)
    second.load_state_dict(first.state_dict())
    assert outcome.metrics == {"loss/d": 1.0}
    assert outcome.fingerprints == {}
    drive(second, start=10, stop=20, budget=20)
    assert tracker.history("best/score/a") == [(15, 2.0)]
    assert tracker.history("floor/score/a") == [(15, 0.25)]
    assert outcome.fingerprints == {"a": {"seed": "1"}}


def test_a_score_that_is_not_finite_stops_the_trial():
    tracker, outcome = MemoryTracker(), Outcome()
    scores = Scores(Evaluation(a=[1.0], lost=[math.inf]), tracker, outcome, every=3, keep="lost")
    assert drive(scores, outcome=outcome) == 3
    assert (outcome.state, outcome.reason) == ("diverged", "score/lost was inf at g_step 3")
    assert tracker.history("score/lost") == [(3, math.inf)]
    assert tracker.history("best/score/lost") == []
    assert scores.improved_at == -1


def test_a_readout_has_the_clocks():
    tracker, outcome, clock = MemoryTracker(), Outcome(), Clock()
    readout = Readout(tracker, clock, outcome, every=4)
    assert drive(readout, values={"loss/d": 2.0}, outcome=outcome) == 10
    assert tracker.history("loss/d") == [(g, 2.0) for g in (4, 8, 10)]
    assert tracker.history("time/d_steps") == [(g, 5 * g) for g in (4, 8, 10)]
    assert tracker.history("time/images_seen") == [(g, 50 * g) for g in (4, 8, 10)]
    assert len(tracker.history("time/seconds")) == 3
    assert outcome.metrics["loss/d"] == 2.0


def test_a_readout_stops_at_the_first_value_that_is_not_finite():
    tracker, outcome = MemoryTracker(), Outcome()
    values = {"loss/d": 1.0, "loss/g": math.nan}
    readout = Readout(tracker, Clock(), outcome, every=4)
    assert drive(readout, values=values, outcome=outcome) == 4
    assert outcome.state == "diverged"
    assert outcome.reason == "loss/g was nan at g_step 4"


def test_nothing_metered_is_nothing_read():
    tracker = MemoryTracker()
    drive(Readout(tracker, Clock(), Outcome(), every=4))
    assert tracker.metrics == []
