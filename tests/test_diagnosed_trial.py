"""A trial under diagnosis: its record, its verdict, its end by a rule, and that it trains alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from records import equal, record, state
from test_pack import pack
from test_trial import RESUMED, at, trained
from trees import small

from gansweep.checkpoint import read_checkpoint
from gansweep.progress import Continue, Exploit, Interrupt
from gansweep.replica import Common, Job, Replica
from gansweep.sweep.plan import Entry
from gansweep.tracking.memory import MemoryTracker

DOOMED = "own_parts:Doomed"
TOLERANT = {"no_progress": {"distance": 1e9}, "mode_collapse": {"diversity": 0.0, "classes": 0.0}}
"""Thresholds at which none of the built-in rules holds in a few steps of a tiny network."""


def doomed(*, stop=("doomed",), below=9.0, **changed: Any):
    """Readings at 2, 4, 6 ...; the rule holds at all; heard from 4 on, three times: at 8."""
    diagnosis = {
        "every": 2, "samples": 8, "grace": 4, "patience": 3, "stop": list(stop),
        "rules": {DOOMED: {"below": below}, **TOLERANT}, **changed.pop("diagnosis", {}),
    }  # fmt: skip
    return small("gan", "mlp", "ring8", diagnosis=diagnosis, **changed)


def test_the_record():
    result, tracker = trained(small("wgan", "mlp", "ring8"), None)
    names = {n for m in tracker.metrics for n in m.values if n.startswith("diagnosis/")}
    assert names == {
        f"diagnosis/{name}"
        for name in (
            "d_real", "d_fake", "d_wasserstein", "separation", "d_gradient", "g_gradient",
            "d_gradient_layer_01", "clip_pinned", "lipschitz", "lipschitz_max", "diversity",
            "energy_distance", "stalled", "classes_covered",
        )
    }  # fmt: skip
    for name in names:
        assert [g for g, _ in tracker.history(name)] == [3, 6, 9, 12]
        assert all(math.isfinite(value) for _, value in tracker.history(name))
        assert result.metrics[name] == tracker.history(name)[-1][1]


@pytest.mark.parametrize(
    ("variant", "pac"), [("r3gan", 1), ("r3gan", 2), ("lsgan", 3), ("dragan", 2), ("wgan_gp", 2)]
)
def test_pairs_of_samples_and_of_networks_sides_are_diagnosed(variant, pac):
    """D sees `pac` samples at a time, which need not divide those that are looked at."""
    config = small(variant, "mlp", "ring8", model={"pac": pac}, diagnosis={"samples": 7})
    result, tracker = trained(config, None)
    assert result.state == "completed"
    for name in ("separation", "lipschitz", "d_gradient", "g_gradient", "diversity"):
        values = [value for _, value in tracker.history(f"diagnosis/{name}")]
        assert len(values) == 4
        assert all(math.isfinite(value) for value in values)


def test_a_rule_stops_a_trial_after_grace_and_patience(tmp_path):
    result, tracker = trained(doomed(), tmp_path)
    assert (result.state, result.g_steps, result.diagnosis) == ("stopped", 8, "doomed")
    assert result.reason == "doomed (so it is; 3 times since g_step 4) at g_step 8"
    assert tracker.status == "FINISHED"
    assert tracker.tags["gansweep.state"] == "stopped"
    assert tracker.tags["gansweep.reason"] == result.reason
    assert tracker.tags["gansweep.diagnosis"] == "doomed"
    assert tracker.tags["gansweep.evidence"] == "doomed (so it is; 3 times since g_step 4)"
    saved = read_checkpoint(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert saved["module"]["g_step"] == 8  # nothing of it is lost


def test_the_grace_period_is_a_quarter_of_the_budget_unless_it_is_said():
    config = doomed(diagnosis={"grace": None}, budget={"g_steps": 24})
    assert config.grace == 6
    assert trained(config, None)[0].g_steps == 10


@pytest.mark.parametrize(
    ("variant", "judged"),
    [("gan", True), ("dragan", True), ("hinge", False), ("lsgan", False), ("wgan", False)],
)
def test_a_discriminator_can_win_games_of_log_losses_alone(variant, judged):
    """Under thresholds at which every classifier has won."""
    won = {"discriminator_won": {"accuracy": 0.0, "stalled": 0.0, "distance": 0.0}}
    diagnosis = {"samples": 8, "grace": 0, "patience": 1, "rules": {**won, **TOLERANT}}
    result, _ = trained(small(variant, "mlp", "ring8", diagnosis=diagnosis), None)
    assert result.diagnosis == ("discriminator_won" if judged else "")
    assert ("diagnosis/d_accuracy_real" in result.metrics) == (variant != "wgan")


def test_a_verdict_stops_nothing_unless_the_settings_say_so():
    result, tracker = trained(doomed(stop=()), None)
    assert (result.state, result.reason, result.g_steps) == ("completed", "", 12)
    assert result.diagnosis == tracker.tags["gansweep.diagnosis"] == "doomed"
    assert small("gan", "mlp", "ring8").diagnosis.stop == []


def test_a_rule_that_does_not_hold_says_nothing():
    result, tracker = trained(doomed(below=0.0), None)
    assert (result.state, result.diagnosis) == ("completed", "")
    assert "gansweep.diagnosis" not in tracker.tags


def test_at_the_end_of_the_budget_it_is_completed():
    result, _ = trained(doomed(budget={"g_steps": 8}), None)
    assert (result.state, result.g_steps, result.diagnosis) == ("completed", 8, "doomed")


def test_the_last_reading_off_the_interval_is_not_heard(tmp_path):
    result, tracker = trained(doomed(budget={"g_steps": 7}), tmp_path)
    assert [g for g, _ in tracker.history("diagnosis/separation")] == [2, 4, 6, 7]
    assert [g for g, _ in tracker.history("diagnosis/stalled")] == [2, 4, 6]
    assert (result.state, result.diagnosis) == ("completed", "")  # heard at 4 and 6
    longer, _ = trained(doomed(), tmp_path)
    assert (longer.state, longer.g_steps) == ("stopped", 8)
    assert longer.reason == "doomed (so it is; 3 times since g_step 4) at g_step 8"


def test_never_is_never():
    _, tracker = trained(doomed(diagnosis={"every": 0}), None)
    assert not [n for m in tracker.metrics for n in m.values if n.startswith("diagnosis/")]


@pytest.mark.parametrize("place", [3, 5, 7])
def test_an_interrupted_trial_is_judged_as_an_undisturbed_one(place, tmp_path, every_step):
    straight, whole = trained(doomed(), tmp_path / "straight")
    first, one = trained(doomed(), tmp_path / "resumed", at(place, Interrupt()))
    assert first.g_steps == place
    second, other = trained(doomed(), tmp_path / "resumed")
    assert (second.state, second.reason) == (straight.state, straight.reason)
    assert second.diagnosis == "doomed"
    assert equal(state(tmp_path / "resumed"), state(tmp_path / "straight"))
    assert equal(record(one, other), record(whole))


def test_a_resumed_trial_has_the_verdict_of_its_checkpoint(tmp_path, every_step):
    """Not that of the steps since, which are trained again."""
    config = doomed(stop=(), checkpoint={"every": 6})

    def abort(progress):
        if progress.g_steps == 9:
            raise OSError("the node is gone")
        return Continue()

    _, one = trained(config, tmp_path, abort)
    assert one.tags["gansweep.diagnosis"] == "doomed"
    _, other = trained(config, tmp_path, at(7, Interrupt()))
    assert other.tags["gansweep.diagnosis"] == ""


def test_a_stopped_trial_is_finished():
    entry = Entry("k", "n", {}, 0, 12, state="stopped", g_steps=8)
    assert entry.is_finished(12, retry_failed=False)
    assert entry.is_finished(24, retry_failed=True)


def test_the_reports_have_the_verdict(every_step):
    seen = {}

    def report(progress):
        seen[progress.g_steps] = progress.diagnosis
        return Continue()

    trained(doomed(stop=()), None, report)
    assert seen == {g: "doomed" if g >= 8 else "" for g in range(1, 13)}


def test_what_is_not_finite_is_a_diagnosis_too():
    settings = {"fail_at": 13, "poison": True}
    config = small("gan", "own_parts:Fragile", "ring8", network=settings, log={"every": 1})
    result, tracker = trained(config, None)
    assert (result.state, result.diagnosis) == ("diverged", "non_finite")
    assert tracker.tags["gansweep.diagnosis"] == "non_finite"


def test_a_diagnostic_that_is_not_finite_ends_the_trial():
    """The network is poisoned in the fourth g_step, at whose end the first reading falls."""
    settings = {"fail_at": 12, "poison": True}
    config = small(
        "gan", "own_parts:Fragile", "ring8", network=settings, log={"every": 100},
        diagnosis={"every": 4, "samples": 8}, score={"every": 100},
    )  # fmt: skip
    result, _ = trained(config, None)
    assert (result.state, result.g_steps, result.diagnosis) == ("diverged", 4, "non_finite")
    assert result.reason.startswith("diagnosis/d_real was nan")


def test_after_an_exploit_the_diagnosis_begins_anew(tmp_path):
    """What was seen of the old networks says nothing of the donor's."""
    config = doomed(stop=(), diagnosis={"grace": 0, "patience": 2})
    tracker = MemoryTracker()
    one = Replica(Job(config, tracker), Common(config, torch.device("cpu")))
    for _ in range(4):
        one.module.training_step(one.batch(), 0)
        one.record()
    assert (one.outcome.diagnosis, tracker.tags["gansweep.diagnosis"]) == ("doomed", "doomed")
    one.obey(Exploit("donor", str(tmp_path), config.to_dict()), one.module.training_state())
    assert (one.outcome.diagnosis, tracker.tags["gansweep.diagnosis"]) == ("", "")
    for expected in ("", "", "", "doomed"):
        one.module.training_step(one.batch(), 0)
        one.record()
        assert one.outcome.diagnosis == expected


@pytest.mark.parametrize("case", ["dcgan", "wgan", "wgan_gp batch", "cgan"])
def test_training_is_the_same_with_and_without(case, tmp_path):
    """Bit for bit: weights, buffers, optimizers, every stream."""
    *names, sections = RESUMED[case]
    ends = []
    for every in (0, 1):
        config = small(*names, **sections, diagnosis={"every": every, "samples": 7})
        trained(config, tmp_path / str(every))
        ends.append(state(tmp_path / str(every)))
        assert ends[-1]["module"]["g_step"] == 12
    for name in ("module", "order"):
        assert equal(ends[0][name], ends[1][name])
    assert ends[0]["key"] == ends[1]["key"]


@pytest.mark.parametrize("engine", ["interleaved", "stacked"])
@pytest.mark.parametrize("model", ["wgan", "dcgan"])
def test_a_pack_trains_the_same_with_and_without(model, engine, tmp_path):
    network, data = ("dcgan", "digits") if model == "dcgan" else ("mlp", "ring8")
    ends, logged = [], []
    for every in (0, 3):
        folder = tmp_path / str(every)
        configs = [
            small(
                model, network, data, seed=seed, ema={"decay": 0.9},
                diagnosis={"every": every, "samples": 8},
            )
            for seed in range(3)
        ]  # fmt: skip
        ran = pack(configs, folder, engine=engine)
        assert ran.states == ["completed"] * 3
        assert ran.script.choices[0].stacked == (engine == "stacked")
        ends.append([ran.left(i)[0]["module"] for i in range(3)])
        logged.append([tracker.history("diagnosis/separation") for tracker in ran.trackers])
    assert equal(*ends)
    assert logged[0] == [[]] * 3
    assert [[g for g, _ in each] for each in logged[1]] == [[3, 6, 9, 12]] * 3
    assert len({str(each) for each in logged[1]}) > 1  # each its own


def test_a_rule_stops_one_trial_of_a_stack_and_leaves_the_others(tmp_path):
    """Of a pack whose trials differ in a number, the one with the hopeless clip."""

    def one(clip: float):
        return small(
            "wgan", "mlp", "ring8", model={"clip": clip},
            diagnosis={
                "every": 2, "samples": 8, "grace": 4, "patience": 2, "stop": ["clip_saturated"],
            },
        )  # fmt: skip

    ran = pack([one(1e-6), one(0.5), one(0.3)], tmp_path, engine="stacked")
    assert ran.states == ["stopped", "completed", "completed"]
    assert ran.result(0).diagnosis.split(", ")[0] == "clip_saturated"
    assert ran.result(0).reason.startswith("clip_saturated (")
    assert [ran.result(i).g_steps for i in range(3)] == [6, 12, 12]
    assert "clip_saturated" not in ran.result(1).diagnosis
