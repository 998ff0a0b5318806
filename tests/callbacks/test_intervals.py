"""When callbacks act, and what they hand on."""

from __future__ import annotations

import math

import torch

from gansweep.callbacks.readout import Readout
from gansweep.callbacks.samples import SampleGrid
from gansweep.callbacks.scores import Scores
from gansweep.progress import Clock, Outcome
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

    def evaluation(self, generator):
        assert generator == Module.sampled
        return torch.ones(4, 1)


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


class Mean:
    name = "mean"

    def __call__(self, fake):
        return float(fake.mean())


class Lost:
    name = "lost"

    def __call__(self, fake):
        return math.inf


def test_scores():
    tracker, outcome = MemoryTracker(), Outcome()
    drive(Scores([Mean()], tracker, Sampler(), outcome, every=3))
    assert tracker.history("score/mean") == [(g, 1.0) for g in (3, 6, 9, 10)]
    assert outcome.metrics == {"score/mean": 1.0}


def test_a_score_that_is_not_finite_stops_the_trial():
    tracker, outcome = MemoryTracker(), Outcome()
    scores = Scores([Mean(), Lost()], tracker, Sampler(), outcome, every=3)
    assert drive(scores, outcome=outcome) == 3
    assert (outcome.state, outcome.reason) == ("diverged", "score/lost was inf at g_step 3")
    assert tracker.history("score/lost") == [(3, math.inf)]


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
