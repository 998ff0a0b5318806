"""A whole trial: its clocks, its record, its ends, and bit-exact resume."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace

import numpy as np
import own_parts
import pytest
import torch
from records import equal, record, state, steady
from trees import small

from gansweep.callbacks.best import Best
from gansweep.callbacks.diagnosis import Diagnosis
from gansweep.callbacks.scores import Scores
from gansweep.checkpoint import read_checkpoint, read_newest, write_checkpoint
from gansweep.modules.catalogue import VARIANTS
from gansweep.networks.catalogue import ARCHITECTURES
from gansweep.networks.mlp import MLP, MLPSettings
from gansweep.progress import Continue, Interrupt, Stop
from gansweep.sampling import Sampler
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial


def trained(config, folder, report=None):
    tracker = MemoryTracker()
    result = run_trial(config, tracker, *([report] if report else []), folder=folder)
    return result, tracker


def at(g_step, verdict):
    def report(progress):
        return verdict if progress.g_steps == g_step else Continue()

    return report


# --- the first variants on every network that fits, the later ones on one


PENALISED = ("wgan_gp", "dragan", "r1gan", "r3gan")
FIRST = ("gan", "dcgan", "wgan", "wgan_gp", "cgan")
FITTING = [
    (model, network, data)
    for model in VARIANTS.names
    for network in ARCHITECTURES.names
    for data in ("digits", "ring8", "gaussian1d")
    if network == "mlp" or model in {"pacgan": ("gan",), "bigan": ("bigan",)}.get(network, FIRST)
    if not (network == "dcgan" and data != "digits")
    if not (model == "cgan" and data == "gaussian1d")
]


def test_the_grid_of_cases_is_whole():
    assert len(FITTING) == 11 * 3 + 5 * 3 + 5 + 3 + 3 - 2


@pytest.mark.parametrize(("model", "network", "data"), FITTING)
def test_a_trial(model, network, data):
    config = small(model, network, data)
    result, tracker = trained(config, None)
    assert (result.state, result.reason, result.g_steps) == ("completed", "", 12)
    assert tracker.status == "FINISHED"
    assert tracker.tags["gansweep.state"] == "completed"
    k = [config.model.cls.d_steps(config.model.settings, g) for g in range(12)]
    d_steps = {g: sum(k[:g]) for g in range(13)}
    read = [3, 6, 9, 12]
    assert tracker.tags["gansweep.g_steps"] == "12"
    assert tracker.history("time/d_steps") == [(g, d_steps[g]) for g in read]
    assert tracker.history("time/images_seen") == [(g, 6 * d_steps[g]) for g in read]
    assert [g for g, _ in tracker.history("loss/d")] == read
    assert [g for g, _ in tracker.history("loss/g")] == read
    assert [g for g, _ in tracker.history("score/swd")] == [4, 8, 12]
    series = {"samples"}
    series |= {"critic_weights"} if model == "wgan" else set()
    series |= {"game"} if data == "gaussian1d" and model != "bigan" else set()
    series |= {"reconstructions", "inpainted"} if (model, data) == ("bigan", "digits") else set()
    assert {i.key for i in tracker.images} == series
    for key in series:
        assert [i.step for i in tracker.images if i.key == key] == [5, 10, 12]
    assert [g for g, _ in tracker.history("diagnosis/separation")] == read
    watch = "d/wasserstein" if model.startswith("wgan") else "d/accuracy"
    assert len(tracker.history(watch)) == 4
    assert len(tracker.history("loss/penalty")) == (4 if model in PENALISED else 0)
    assert all(math.isfinite(v) for m in tracker.metrics for v in m.values.values())
    last = {name: value for m in tracker.metrics for name, value in m.values.items()}
    assert result.metrics == last
    assert 0 < result.metrics["time/seconds"] <= result.seconds


def test_a_trial_on_mnist5k():
    config = small("dcgan", "dcgan", "mnist5k", budget={"g_steps": 3})
    result, tracker = trained(config, None)
    assert result.state == "completed"
    assert tracker.images[-1].image.shape == (1, 2 * 29 + 1, 3 * 29 + 1)
    assert [g for g, _ in tracker.history("score/swd")] == [3]


def test_the_scores_value_is_the_scores(tmp_path):
    """The last `score/swd` from the final generator by hand."""
    from gansweep.assembly import build_module, load_samples
    from gansweep.data.base import to_float
    from gansweep.metrics.base import Subject
    from gansweep.metrics.extractors.raw import Raw
    from gansweep.metrics.features import Features
    from gansweep.metrics.swd import SlicedWasserstein
    from gansweep.seeding import stream

    config = small("gan", "mlp", "ring8")
    result, _ = trained(config, tmp_path)
    samples = load_samples(config)
    picked = torch.randperm(400, generator=stream(0, "real"))[:30]
    score = SlicedWasserstein(Subject(samples.spec, seed=0), Raw(samples.spec))
    real = Features(score.extractor(to_float(samples.x[picked])).features)
    real = real.of(score.statistics(real))
    z = config.latent.draw(30, rng=stream(0, "evaluation"))
    generator = build_module(config, samples.spec).generator
    generator.load_state_dict(state(tmp_path)["module"]["generator"])
    with torch.no_grad():
        fake = generator(z)
    found = score(Features(score.extractor(fake).features), real)
    assert result.metrics["score/swd"] == pytest.approx(found, rel=1e-6)


def test_more_scored_samples_than_data():
    config = small("gan", "mlp", "gaussian1d", score={"samples": 700})
    result, _ = trained(config, None)
    assert result.state == "completed"
    assert math.isfinite(result.metrics["score/swd"])


# --- seeds


@pytest.mark.parametrize("model", VARIANTS.names)
def test_the_seed_decides_everything(model, tmp_path):
    network = "maxout" if model in ("gan", "cgan") else "dcgan"
    ends = {}
    for i, seed in enumerate((0, 0, 1)):
        torch.manual_seed(i)
        config = small(model, network, "digits", seed=seed)
        _, tracker = trained(config, tmp_path / str(i))
        ends[i] = (state(tmp_path / str(i)), record(tracker))
    assert equal(ends[0], ends[1])
    one, other = ends[0][0]["module"], ends[2][0]["module"]
    ran = 0
    for net in ("generator", "discriminator"):
        for name, tensor in one[net].items():
            if tensor.is_floating_point() and tensor.unique().numel() > 1:
                assert not torch.equal(tensor, other[net][name])
                ran += 1
    assert ran >= 4
    losses = [[m[1].get("loss/d") for m in ends[i][1][0]] for i in (0, 2)]
    assert losses[0] != losses[1]


def test_trials_of_one_seed_start_from_equal_weights():
    """The data order, the weights and the latents come from streams of their own."""
    from gansweep.assembly import build_module
    from gansweep.dataspec import DataSpec

    weights = [
        build_module(small("gan", "mlp", "ring8", seed=5, **other), DataSpec((2,))).generator
        for other in ({}, {"optimizer": {"lr": 0.5}}, {"data": {"batch_size": 3}})
    ]
    for other in weights[1:]:
        assert equal(other.state_dict(), weights[0].state_dict())


def test_building_leaves_the_global_generator_alone():
    from gansweep.assembly import build_module
    from gansweep.dataspec import DataSpec

    torch.manual_seed(0)
    before = torch.get_rng_state()
    build_module(small("gan", "mlp", "ring8"), DataSpec((2,)))
    assert torch.equal(torch.get_rng_state(), before)


# --- resume


RESUMED = {
    "gan": ("gan", "maxout", "digits", {}),  # dropout, SGD with momentum
    "gan ema": ("gan", "mlp", "ring8", {"ema": {"decay": 0.9}, "network": {"dropout": 0.3}}),
    "dcgan": ("dcgan", "dcgan", "mnist5k", {"ema": {"decay": 0.8}}),  # BatchNorm, Adam, EMA
    "wgan": ("wgan", "mlp", "digits", {"network": {"discriminator_norm": "batch"}}),
    "wgan dcgan": ("wgan", "dcgan", "digits", {"ema": {"decay": 0.5}}),
    "wgan_gp": ("wgan_gp", "dcgan", "mnist5k", {"data": {"batch_size": 3}}),
    "wgan_gp batch": ("wgan_gp", "mlp", "ring8", {"network": {"discriminator_norm": "batch"}}),
    "cgan": ("cgan", "maxout", "digits", {"ema": {"decay": 0.9}}),  # dropout in both
    "cgan vector": ("cgan", "mlp", "own_parts:Attributes", {}),
    "lsgan": ("lsgan", "mlp", "ring8", {}),
    "hinge": ("hinge", "dcgan", "digits", {"model": {"conditional": True}}),  # spectral norm
    "dragan": ("dragan", "mlp", "ring8", {}),
    "r1gan": ("r1gan", "mlp", "ring8", {}),
    "r3gan": ("r3gan", "mlp", "digits", {"model": {"pac": 3}}),
    "bigan": ("bigan", "bigan", "digits", {"ema": {"decay": 0.9}}),
    "bigan dcgan": ("bigan", "dcgan", "digits", {}),
    "epochs": ("gan", "mlp", "gaussian1d", {"data": {"n": 7, "batch_size": 5}}),
    "bf16": ("wgan_gp", "mlp", "ring8", {"precision": "bf16"}),
    "adamw": ("gan", "mlp", "ring8", {"optimizer": {"name": "adamw"}}),
    "own": ("gan", "own_parts:Running", "ring8", {"ema": {"decay": 0.9}}),
    "own, assigned": ("wgan", "own_parts:Running", "ring8", {"network": {"assigned": True}}),
}
STOPS = [1, 4, 7, 10, 11]


@pytest.mark.parametrize("case", RESUMED)
def test_an_interrupted_trial_ends_bit_identical(case, tmp_path, every_step):
    *names, sections = RESUMED[case]
    config = small(*names, **sections)
    _, straight = trained(config, tmp_path / "straight")
    expected = state(tmp_path / "straight")
    place = STOPS[list(RESUMED).index(case) % len(STOPS)]
    folder = tmp_path / "resumed"
    first, one = trained(config, folder, at(place, Interrupt()))
    assert (first.state, first.g_steps) == ("interrupted", place)
    assert one.status == "KILLED"
    torch.manual_seed(12345)  # another process
    second, other = trained(config, folder)
    assert (second.state, second.reason, second.g_steps) == ("completed", "", 12)
    assert equal(state(folder), expected)
    assert equal(record(one, other), record(straight))
    assert second.metrics["time/seconds"] > first.metrics.get("time/seconds", 0)


def test_every_case_is_a_variant():
    assert {names[0] for *names, _ in RESUMED.values()} == set(VARIANTS.names)


@pytest.mark.parametrize("case", ["gan", "dcgan", "wgan", "wgan_gp", "cgan"])
def test_a_broken_off_trial_goes_on_from_its_last_checkpoint(case, tmp_path, every_step):
    *names, sections = RESUMED[case]
    config = small(*names, **sections)
    _, straight = trained(config, tmp_path / "straight")
    folder = tmp_path / "resumed"

    def abort(progress):
        if progress.g_steps == 7:
            raise OSError("the node is gone")
        return Continue()

    first, one = trained(config, folder, abort)
    assert (first.state, one.status) == ("failed", "FAILED")
    saved = read_checkpoint(folder / "checkpoint.pt")
    assert saved is not None
    assert saved["module"]["g_step"] == 4
    second, other = trained(config, folder)
    assert second.state == "completed"
    assert equal(state(folder), state(tmp_path / "straight"))
    calls, images = record(straight)
    again, again_images = record(other)
    assert equal([c for c in calls if c[0] > 4], again)
    assert equal([i for i in images if i[0] > 4], again_images)
    assert equal([c for c in calls if c[0] <= 7], record(one)[0])  # and repeated steps are equal


def test_interrupted_at_every_step(tmp_path, every_step):
    config = small("gan", "maxout", "digits", ema={"decay": 0.9})
    _, straight = trained(config, tmp_path / "straight")
    folder, parts = tmp_path / "resumed", []
    for g_step in range(1, 13):
        result, tracker = trained(config, folder, at(g_step, Interrupt()))
        assert result.state == ("interrupted" if g_step < 12 else "completed")
        assert result.g_steps == g_step
        parts.append(tracker)
    assert equal(state(folder), state(tmp_path / "straight"))
    assert equal(record(*parts), record(straight))


@pytest.mark.parametrize("case", ["gan", "dcgan", "wgan", "wgan_gp batch", "cgan"])
def test_a_longer_budget_goes_on_as_if_it_had_been_there(case, tmp_path):
    *names, sections = RESUMED[case]
    intervals = {
        name: {"every": 3} for name in ("samples", "score", "log", "checkpoint", "diagnosis")
    }
    short = small(*names, **sections, **intervals, budget={"g_steps": 6})
    long = small(*names, **sections, **intervals)
    assert short.key == long.key
    _, straight = trained(long, tmp_path / "straight")
    folder = tmp_path / "extended"
    first, one = trained(short, folder)
    assert (first.state, first.g_steps) == ("completed", 6)
    second, other = trained(long, folder)
    assert (second.state, second.g_steps) == ("completed", 12)
    assert equal(state(folder), state(tmp_path / "straight"))
    assert equal(record(one, other), record(straight))


def test_a_budget_off_the_intervals_changes_no_weight(tmp_path):
    """Its last step has a reading of its own; the weights stay the same."""
    trained(small("gan", "maxout", "digits"), tmp_path / "straight")
    trained(small("gan", "maxout", "digits", budget={"g_steps": 7}), tmp_path / "extended")
    trained(small("gan", "maxout", "digits"), tmp_path / "extended")
    one, other = state(tmp_path / "straight"), state(tmp_path / "extended")
    assert equal(one["module"], other["module"])
    assert equal(one["order"], other["order"])


def test_a_finished_trial_is_not_repeated(tmp_path):
    config = small("gan", "mlp", "ring8")
    first, _ = trained(config, tmp_path)
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    second, tracker = trained(config, tmp_path)
    assert (second.state, second.g_steps) == ("completed", 12)
    assert second.metrics == first.metrics
    assert first.metrics["time/seconds"] <= second.seconds < first.seconds + 1
    assert tracker.metrics == []
    assert tracker.images == []
    assert tracker.status == "FINISHED"
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    data, folder = tmp_path / "points.npz", tmp_path / "trial"
    sections = {"data": {"path": str(data)}}
    np.savez(data, x=np.zeros((400, 2), dtype=np.float32))
    trained(small("gan", "mlp", "npz", budget={"g_steps": 4}, **sections), folder)
    np.savez(data, x=np.zeros((401, 2), dtype=np.float32))
    result, _ = trained(small("gan", "mlp", "npz", **sections), folder)
    assert result.state == "failed"
    assert "has 400 samples, this one has 401" in result.reason


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("network", "checkpoint: does not fit Counted as it is now: size mismatch for inner"),
        ("optimizer", "checkpoint: does not fit SGD as it is now: loaded state dict"),
    ],
)
def test_a_checkpoint_of_other_code_is_refused(tmp_path, monkeypatch, part, told):
    """Whoever changes a class of their own keeps the trial's key."""
    own = {"network": {"fail_at": 1000}, "optimizer": {"name": "own_parts:Grouped"}}
    trained(small("gan", "own_parts:Fragile", "ring8", budget={"g_steps": 4}, **own), tmp_path)
    if part == "network":
        wide = MLP(MLPSettings(width=9, depth=1))
        monkeypatch.setattr(
            own_parts.Small, "discriminator", lambda self, **of: wide.discriminator(**of)
        )
    else:
        monkeypatch.setattr(
            own_parts.Grouped, "build", lambda self, parameters: torch.optim.SGD(parameters, lr=0.1)
        )
    result, _ = trained(small("gan", "own_parts:Fragile", "ring8", **own), tmp_path)
    assert result.state == "failed"
    assert told in result.reason
    assert "give the sweep another name" in result.reason


def test_a_checkpoint_of_another_trial_is_refused(tmp_path):
    first, other = small("gan", "mlp", "ring8"), small("gan", "mlp", "ring8", latent={"dim": 9})
    trained(first, tmp_path)
    result, _ = trained(other, tmp_path)
    assert result.state == "failed"
    assert f"is of trial {first.key}, not of {other.key}" in result.reason


def test_a_longer_budget_logs_the_means_of_an_undisturbed_trial(tmp_path):
    odd = {"log": {"every": 5}}
    trained(small("gan", "mlp", "ring8", budget={"g_steps": 7}, **odd), tmp_path / "extended")
    _, later = trained(small("gan", "mlp", "ring8", **odd), tmp_path / "extended")
    _, whole = trained(small("gan", "mlp", "ring8", **odd), tmp_path / "whole")
    assert [g for g, _ in later.history("loss/d")] == [10, 12]
    assert later.history("loss/d") == whole.history("loss/d")[1:]


def test_what_callbacks_draw_leaves_dropout_alone(tmp_path, monkeypatch):
    quiet = state_after(tmp_path / "quiet")
    grid = Sampler.grid

    def noisy(self, generator):
        torch.rand(3)
        return grid(self, generator)

    monkeypatch.setattr(Sampler, "grid", noisy)
    assert equal(state_after(tmp_path / "noisy"), quiet)


def state_after(folder):
    trained(small("gan", "maxout", "digits", samples={"every": 2}), folder)
    return state(folder)["module"]["discriminator"]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(small("gan", "mlp", "ring8"), None)
    assert list(tmp_path.iterdir()) == []


# --- looking changes nothing


@pytest.mark.parametrize("case", ["gan", "dcgan", "wgan", "wgan_gp batch", "cgan"])
def test_training_does_not_depend_on_how_often_one_looks(case, tmp_path):
    *names, sections = RESUMED[case]
    seldom = {
        "samples": {"every": 100},
        "score": {"every": 100},
        "log": {"every": 100},
        "diagnosis": {"every": 0},
    }
    often = {
        "samples": {"every": 1, "rows": 5, "seed": 3},
        "score": {"every": 1, "samples": 7, "seed": 4},
        "log": {"every": 1},
        "checkpoint": {"every": 1},
        "diagnosis": {"every": 1, "samples": 5},
    }
    trained(small(*names, **sections, **seldom), tmp_path / "seldom")
    _, tracker = trained(small(*names, **sections, **often), tmp_path / "often")
    assert [i.step for i in tracker.images if i.key == "samples"] == list(range(1, 13))
    assert len(tracker.history("diagnosis/separation")) == 12
    one, other = state(tmp_path / "seldom"), state(tmp_path / "often")
    for saved in (one, other):
        for looked in ("metrics", "scores", "diagnosis", "verdict"):
            del saved[looked]
        del saved["module"]["meters"]  # what the readouts left
    assert equal(one, other)


# --- ends


def test_a_loss_that_is_not_finite(tmp_path):
    settings = {"fail_at": 13, "poison": True}  # three passes of D a g_step: in the fifth
    config = small(
        "gan",
        "own_parts:Fragile",
        "ring8",
        network=settings,
        log={"every": 1},
        checkpoint={"every": 1},
        ema={"decay": 0.5},
    )
    result, tracker = trained(config, tmp_path)
    assert (result.state, result.g_steps) == ("diverged", 5)
    assert result.reason == "loss/d was nan at g_step 5"
    assert tracker.status == "FINISHED"
    assert tracker.tags["gansweep.state"] == "diverged"
    assert tracker.tags["gansweep.reason"] == result.reason
    assert math.isnan(result.metrics["loss/d"])
    saved = read_checkpoint(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert saved["module"]["g_step"] == 4  # none of poisoned weights
    assert "traceback.txt" not in tracker.texts


def test_the_first_cause_is_the_reason():
    """The loss diverges; the scores of the same step are then not finite either."""
    settings = {"fail_at": 10, "poison": True}  # in the fourth g_step, which has scores too
    config = small("gan", "own_parts:Fragile", "ring8", network=settings, log={"every": 4})
    result, _ = trained(config, None)
    assert result.reason == "loss/d was nan at g_step 4"
    assert math.isnan(result.metrics["score/swd"])


def test_a_score_that_is_not_finite():
    config = small("gan", "mlp", "ring8", score={"names": ["swd", "own_parts:NaNScore"]})
    result, tracker = trained(config, None)
    assert (result.state, result.g_steps) == ("diverged", 4)
    assert result.reason == "score/never was nan at g_step 4"
    assert tracker.status == "FINISHED"


def test_a_large_learning_rate_diverges():
    config = small("wgan_gp", "mlp", "ring8", optimizer={"name": "sgd", "lr": 1e6})
    result, _ = trained(config, None)
    assert result.state == "diverged"
    assert "at g_step" in result.reason


def test_a_network_that_raises(tmp_path):
    config = small("gan", "own_parts:Fragile", "ring8", network={"fail_at": 20})
    result, tracker = trained(config, tmp_path)
    assert (result.state, result.reason) == ("failed", "RuntimeError: the network broke")
    assert tracker.status == "FAILED"
    assert tracker.tags["gansweep.state"] == "failed"
    assert "own_parts.py" in tracker.texts["traceback.txt"]
    assert "the network broke\nin two lines" in tracker.texts["traceback.txt"]
    assert result.g_steps == 6


def test_a_trial_that_cannot_begin():
    config = small("gan", "dcgan", "ring8")
    result, tracker = trained(config, None)
    assert (result.state, result.g_steps) == ("failed", 0)
    assert "dcgan needs images" in result.reason
    assert tracker.status == "FAILED"


def test_a_network_that_raises_at_once(tmp_path):
    """Before the engine is chosen: nothing is raised, and the record ends."""
    config = small("gan", "own_parts:Fragile", "ring8", network={"fail_at": 2})
    result, tracker = trained(config, tmp_path)
    assert (result.state, result.reason) == ("failed", "RuntimeError: the network broke")
    assert (result.g_steps, tracker.status) == (0, "FAILED")
    assert "own_parts.py" in tracker.texts["traceback.txt"]


def test_what_cannot_be_compiled_is_a_failed_trial(tmp_path):
    config = small("gan", "maxout", "digits", compile="true")
    result, tracker = trained(config, tmp_path)
    assert (result.state, result.g_steps, tracker.status) == ("failed", 0, "FAILED")
    assert "compile: true is impossible here: dropout" in result.reason
    assert "traceback.txt" in tracker.texts


@pytest.mark.parametrize(
    ("verdict", "state_", "status", "reason"),
    [
        (Stop(), "stopped", "FINISHED", "stopped by the scheduler at g_step 8"),
        (Stop("asha: too bad"), "stopped", "FINISHED", "asha: too bad at g_step 8"),
        (Interrupt(), "interrupted", "KILLED", "interrupted at g_step 8"),
    ],
)
def test_a_verdict(verdict, state_, status, reason, tmp_path):
    result, tracker = trained(small("gan", "mlp", "ring8"), tmp_path, at(8, verdict))
    assert (result.state, result.reason, result.g_steps) == (state_, reason, 8)
    assert (tracker.status, tracker.tags["gansweep.reason"]) == (status, reason)
    assert [g for g, _ in tracker.history("score/swd")] == [4, 8]
    saved = read_checkpoint(tmp_path / "checkpoint.pt")
    assert saved is not None
    assert saved["module"]["g_step"] == 8


def test_a_verdict_at_the_end_of_the_budget_is_too_late(tmp_path):
    result, _ = trained(small("gan", "mlp", "ring8"), tmp_path, at(12, Stop()))
    assert result.state == "completed"


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_control_c(raised, tmp_path):
    """Lightning exits in place of raising a KeyboardInterrupt; the run must not stay RUNNING."""
    tracker = MemoryTracker()

    def report(progress):
        if progress.g_steps == 8:
            raise raised
        return Continue()

    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(raised):
            run_trial(small("gan", "mlp", "ring8"), tracker, report, folder=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert tracker.status == "KILLED"
    assert tracker.tags["gansweep.state"] == "interrupted"
    result, _ = trained(small("gan", "mlp", "ring8"), tmp_path)
    assert result.state == "completed"


# --- reports


def test_reports_of_scores_always_pass():
    seen = []

    def report(progress):
        seen.append(progress)
        return Continue()

    trained(small("gan", "mlp", "ring8"), None, report)
    assert [p.g_steps for p in seen if p.scored] == [4, 8, 12]
    assert {p.budget for p in seen} == {12}
    assert all("score/swd" in p.metrics for p in seen if p.scored)
    seconds = [p.seconds for p in seen]
    assert seconds == sorted(seconds)


def test_progress_is_reported_at_intervals(every_step):
    seen = []
    trained(small("gan", "mlp", "ring8"), None, lambda p: seen.append(p.g_steps) or Continue())
    assert seen == list(range(1, 13))


def test_a_report_cannot_change_the_metrics():
    def report(progress):
        progress.metrics.clear()
        return Continue()

    result, _ = trained(small("gan", "mlp", "ring8"), None, report)
    assert "loss/d" in result.metrics


# --- precision, conditions, advice


@pytest.mark.parametrize("model", VARIANTS.names)
def test_bf16(model, tmp_path):
    network = "dcgan" if model in ("dcgan", "wgan") else "mlp"
    result, _ = trained(small(model, network, "digits", precision="bf16"), tmp_path)
    assert result.state == "completed"
    assert all(math.isfinite(v) for v in result.metrics.values())
    weights = state(tmp_path)["module"]["generator"]
    assert {t.dtype for t in weights.values()} <= {torch.float32, torch.int64}
    full, _ = trained(small(model, network, "digits"), None)
    assert full.metrics["loss/d"] != result.metrics["loss/d"]
    assert full.metrics["loss/d"] == pytest.approx(result.metrics["loss/d"], rel=0.1, abs=0.1)


def test_a_condition_of_vectors():
    config = small("cgan", "mlp", "own_parts:Attributes")
    result, tracker = trained(config, None)
    assert result.state == "completed"
    assert len(tracker.images) == 3


def test_a_condition_needs_labels():
    result, _ = trained(small("cgan", "mlp", "gaussian1d"), None)
    assert result.state == "failed"
    assert "conditional" in result.reason


def test_any_variant_can_be_conditional():
    ran = 0
    for model in (name for name in VARIANTS.names if name != "bigan"):
        config = small(model, "mlp", "digits", model={"name": model, "conditional": True})
        result, tracker = trained(config, None)
        assert result.state == "completed"
        assert tracker.images[0].image.shape == (1, 10 * 9 + 1, 3 * 9 + 1)  # a row per class
        ran += 1
    assert ran == 10


def test_advice_is_recorded():
    norm = {"discriminator_norm": "batch"}
    _, tracker = trained(small("wgan_gp", "mlp", "digits", network=norm), None)
    assert "BatchNorm in a critic" in tracker.tags["gansweep.warning"]
    _, tracker = trained(small("wgan", "mlp", "digits", optimizer={"name": "adam"}), None)
    assert "momentum" in tracker.tags["gansweep.warning"]
    _, tracker = trained(small("wgan", "mlp", "digits"), None)
    assert "gansweep.warning" not in tracker.tags


def test_swept_rates_reach_the_optimizers(tmp_path):
    """A larger step moves the weights further: lr of each network by itself."""
    from gansweep.assembly import build_module
    from gansweep.dataspec import DataSpec

    moved = {}
    for name, optimizer in {
        "base": {},
        "d": {"discriminator": {"lr": 0.5}},
        "g": {"generator": {"lr": 0.5}},
    }.items():
        config = small("gan", "mlp", "ring8", optimizer=optimizer, budget={"g_steps": 1})
        trained(config, tmp_path / name)
        after = state(tmp_path / name)["module"]
        start = build_module(config, DataSpec((2,)))
        moved[name] = {
            net: math.sqrt(
                sum(
                    ((after[net][part] - old) ** 2).sum().item()
                    for part, old in getattr(start, net).state_dict().items()
                )
            )
            for net in ("discriminator", "generator")
        }
    for name, net in (("d", "discriminator"), ("g", "generator")):
        assert moved[name][net] == pytest.approx(5 * moved["base"][net], rel=1e-4)
    still = moved["g"]["discriminator"]
    assert still == pytest.approx(moved["base"]["discriminator"], rel=1e-6)


# --- the best step


def best_of(tracker):
    return tracker.history("best/score/swd")[-1]


def test_the_checkpoint_of_the_best_step_is_kept(tmp_path):
    config = small("gan", "mlp", "ring8", score={"every": 1}, checkpoint={"every": 5})
    _, tracker = trained(config, tmp_path)
    scores = tracker.history("score/swd")
    value, step = min((value, step) for step, value in scores)
    assert best_of(tracker) == (step, value)
    assert tracker.history("best_step/score/swd")[-1] == (step, step)
    assert step < 12  # else it is the last one, whose checkpoint is there anyway
    saved = read_checkpoint(tmp_path / "best.pt")
    assert saved is not None
    assert saved["module"]["g_step"] == step
    assert saved["metrics"]["score/swd"] == value
    values = [value for _, value in tracker.history("best/score/swd")]
    assert values == sorted(set(values), reverse=True)


@pytest.mark.parametrize("stop", [3, 5, 8])
def test_the_best_step_survives_a_resume(stop, tmp_path, every_step):
    config = small("gan", "mlp", "ring8", score={"every": 1}, checkpoint={"every": 5})
    _, whole = trained(config, tmp_path / "whole")
    _, first = trained(config, tmp_path / "parts", at(stop, Interrupt()))
    _, second = trained(config, tmp_path / "parts")
    both = [t.history("best/score/swd") for t in (first, second)]
    assert both[0] + both[1] == whole.history("best/score/swd")
    one, other = (read_checkpoint(tmp_path / name / "best.pt") for name in ("whole", "parts"))
    del one["seconds"], other["seconds"], one["metrics"], other["metrics"]
    assert equal(one, other)


class Killed(SystemExit):
    """The process ends in the midst of a write."""


def faulty_disk(monkeypatch, *, refused=(), killed_at=None):
    """Let these writes of checkpoints fail, counted from 0; the list names those that were done.

    No checkpoint may be there without the best one that it speaks of.
    """
    done, count = [], iter(range(10**6))

    def write(path, state):
        number = next(count)
        if number == killed_at:
            raise Killed
        if number in refused:
            raise OSError(28, "No space left on device")
        write_checkpoint(path, state)
        done.append(path.name)
        if path.name == "checkpoint.pt":
            best = read_checkpoint(path.with_name("best.pt"))
            value, step = state["scores"]["best"]["swd"]
            assert (best["module"]["g_step"], best["metrics"]["score/swd"]) == (step, value)

    monkeypatch.setattr("gansweep.replica.write_checkpoint", write)
    return done


def improving(self, score, value, g_step, *, mode):
    """In the place of `Best.offer`: these steps are the best so far, whatever their values."""
    better = g_step in (2, 3, 7, 10)
    if better:
        self._best[score] = (value, g_step)
    return better


@pytest.fixture
def at_times(monkeypatch):
    monkeypatch.setattr(Best, "offer", improving)


def lasting(folder):
    """What two folders of equal training have in common."""
    found = [read_checkpoint(folder / name) for name in ("checkpoint.pt", "best.pt")]
    for each in found:
        del each["seconds"]
        each["metrics"] = steady(each["metrics"])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trial that nothing disturbed, and what it wrote."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Best, "offer", improving)
        done = faulty_disk(patch)
        trained(OFTEN_SCORED, folder)
    best, checkpoint = "best.pt", "checkpoint.pt"
    assert done == [best, best, checkpoint, best, best, checkpoint, checkpoint]
    return folder, done


OFTEN_SCORED = small("gan", "mlp", "ring8", score={"every": 1}, checkpoint={"every": 5})


@pytest.mark.parametrize(("budget", "best"), [(5, None), (6, None), (8, 7), (12, 10)])
def test_no_best_step_is_kept_that_a_shortened_trial_never_took(
    budget, best, tmp_path, monkeypatch, at_times
):
    """It was killed after the best of 10 g_steps was written, with a checkpoint of 5."""
    with monkeypatch.context() as patch:
        faulty_disk(patch, killed_at=5)
        with pytest.raises(SystemExit):
            trained(OFTEN_SCORED, tmp_path)
    saved = [read_newest(tmp_path / name) for name in ("checkpoint.pt", "best.pt")]
    assert [each["module"]["g_step"] for each in saved] == [5, 10]
    result, _ = trained(shortened(OFTEN_SCORED, budget), tmp_path)
    assert (result.state, result.g_steps) == ("completed", budget)
    found = read_checkpoint(tmp_path / "best.pt")
    assert (found and found["module"]["g_step"]) == best


def shortened(config, g_steps):
    return replace(config, budget=replace(config.budget, g_steps=g_steps))


@pytest.mark.usefixtures("at_times")
@pytest.mark.parametrize("long", [1, 2, 1000])
def test_a_best_step_that_the_disk_refused_is_written_once_it_has_room(
    long, whole, tmp_path, monkeypatch
):
    """Training has gone on by then; a trial that could not be told whole is to go on later."""
    straight, writes = whole
    ends = []
    for first in range(len(writes)):
        folder = tmp_path / str(first)
        with monkeypatch.context() as patch:
            faulty_disk(patch, refused=range(first, first + long))
            ends.append(trained(OFTEN_SCORED, folder)[0].state)
        if ends[-1] == "interrupted":
            assert trained(OFTEN_SCORED, folder)[0].state == "completed"
        assert equal(lasting(folder), lasting(straight)), first
    assert len(ends) == len(writes)
    assert ends[0] == ("completed" if long < 1000 else "interrupted")
    assert ends[-1] == "interrupted"  # its last checkpoint


@pytest.mark.usefixtures("at_times")
@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_kill_beside_what_the_disk_refused_changes_no_byte(refused, whole, tmp_path, monkeypatch):
    straight, writes = whole
    killed = 0
    for at_write in range(len(writes) + refused):
        folder = tmp_path / str(at_write)
        with monkeypatch.context() as patch:
            lost = range(at_write - refused, at_write)
            faulty_disk(patch, refused=lost, killed_at=at_write)
            try:
                trained(OFTEN_SCORED, folder)
            except SystemExit:
                killed += 1
            faulty_disk(patch)
            trained(OFTEN_SCORED, folder)
        assert trained(OFTEN_SCORED, folder)[0].state == "completed"
        assert equal(lasting(folder), lasting(straight)), at_write
    assert killed >= len(writes) - 1


@pytest.mark.parametrize("end", ["stopped", "diverged"])
@pytest.mark.parametrize("room", [True, False])
def test_a_best_step_that_ends_the_trial_is_kept(room, end, tmp_path, monkeypatch):
    """A rule stops it there, or a value that is not finite; it has not ended before it is kept."""
    now = [0]

    def act(self, module, g_step, real=Scores.act):
        real(self, module, g_step)
        now[0] = g_step
        if end == "diverged" and g_step == 8:
            self._outcome.record({"loss/d": math.nan}, g_step=g_step)

    def fatal(self):
        return Stop("doomed") if end == "stopped" and now[0] == 8 else None

    def write(path, state):
        if not room and state["module"]["g_step"] == 8:
            raise OSError(28, "No space left on device")
        write_checkpoint(path, state)

    monkeypatch.setattr(Scores, "act", act)
    monkeypatch.setattr(Diagnosis, "fatal", property(fatal))
    monkeypatch.setattr("gansweep.replica.write_checkpoint", write)
    score = {"every": 4, "names": ["swd", "own_parts:Later"], "best": "later"}
    result, tracker = trained(small("gan", "mlp", "ring8", score=score), tmp_path)
    assert (result.state, result.g_steps) == (end if room else "interrupted", 8)
    assert tracker.history("best_step/score/later")[-1] == (8, 8)
    assert read_checkpoint(tmp_path / "best.pt")["module"]["g_step"] == (8 if room else 4)


def test_which_score_decides(tmp_path):
    for best, folder in (("later", "a"), (None, "b")):
        score = {"every": 1, "names": ["swd", "own_parts:Later"], "best": best}
        _, tracker = trained(small("gan", "mlp", "ring8", score=score), tmp_path / folder)
        step, _ = best_of(tracker)
        assert step < 12
        saved = read_checkpoint(tmp_path / folder / "best.pt")
        assert saved["module"]["g_step"] == (12 if best else step)


def test_other_samples_begin_a_new_best(tmp_path, every_step):
    few = small("gan", "mlp", "ring8", score={"every": 1, "samples": 30})
    more = small("gan", "mlp", "ring8", score={"every": 1, "samples": 200})
    _, first = trained(few, tmp_path, at(8, Interrupt()))
    result, second = trained(more, tmp_path)
    assert second.history("best/score/swd")[0] == (9, second.history("score/swd")[0][1])
    assert second.history("floor/score/swd")[0][0] == 9
    assert result.fingerprints["swd"]["fake_count"] == "200"
    one, other = (
        json.loads(tracker.tags["fingerprint.swd"])["fake_count"] for tracker in (first, second)
    )
    assert (one, other) == ("30", "200")


def test_the_floor_is_told_once(tmp_path, every_step):
    config = small("gan", "mlp", "ring8")
    _, first = trained(config, tmp_path, at(8, Interrupt()))
    result, second = trained(config, tmp_path)
    ((step, floor),) = first.history("floor/score/swd")
    ((_, error),) = first.history("floor_error/score/swd")
    assert step == 4
    assert 0 < error < floor < result.metrics["score/swd"]
    assert second.history("floor/score/swd") == []
    assert result.metrics["floor/score/swd"] == floor
