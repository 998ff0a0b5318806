"""Packs: each trial is as it would be alone, whatever happens to the others."""

from __future__ import annotations

import hashlib
import json
import time
from copy import deepcopy

import pytest
import torch
from conductor import Script
from records import equal, record, state
from trees import small

import gansweep.checkpoint
import gansweep.engines
import gansweep.pack
from gansweep.callbacks.best import Best
from gansweep.callbacks.scores import Scores
from gansweep.checkpoint import read_checkpoint, write_checkpoint
from gansweep.modules.alternating import AlternatingModule
from gansweep.pack import Pack
from gansweep.progress import Exploit, Interrupt, Stop
from gansweep.replica import Job, Replica
from gansweep.subnormals import is_flushed
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial
from gansweep.trial_files import BEST, CHECKPOINT, generation_file

ENGINES = ["interleaved", "stacked"]


class Ran:
    """A pack that was trained: trials by their place in `configs`, refills last."""

    def __init__(
        self, configs, folder, *, engine="interleaved", places=None, generation=0, **script
    ):
        self.folders = [folder / str(i) for i in range(len(configs))]
        self.trackers = [MemoryTracker() for _ in configs]
        jobs = [
            Job(*each, generation)
            for each in zip(configs, self.trackers, self.folders, strict=True)
        ]
        first = jobs[:places]
        self.keys = [config.key for config in configs]
        self.script = Script(self.keys, refills=jobs[len(first) :], **script)
        self.pack = Pack(first, self.script, engine=engine)

    def fit(self):
        self.pack.fit()
        return self

    def result(self, i):
        return self.script.results[self.keys[i]]

    @property
    def states(self):
        return [self.result(i).state for i in range(len(self.keys))]

    def left(self, i, *before):
        """All that a trial left behind; `before` are packs that it was in earlier."""
        saved = state(self.folders[i])
        del saved["engine"]
        return saved, record(*(ran.trackers[i] for ran in before), self.trackers[i])


def pack(*arguments, **options):
    return Ran(*arguments, **options).fit()


def alike(count=3, model="wgan", network="mlp", data="ring8", /, **sections):
    """Trials of one shape: other seeds, other learning rates."""
    return [
        small(
            model,
            network,
            data,
            seed=i,
            **{**sections, "optimizer": {"lr": 1e-3 * (i + 1), **sections.get("optimizer", {})}},
        )
        for i in range(count)
    ]


CASES = {
    "gan": ("gan", "maxout", "digits", {"ema": {"decay": 0.9}}),  # dropout, momentum
    "wgan": ("wgan", "mlp", "digits", {"network": {"discriminator_norm": "batch"}}),
    "wgan_gp": ("wgan_gp", "mlp", "ring8", {"ema": {"decay": 0.9}}),
    "cgan": ("cgan", "mlp", "digits", {"network": {"generator_norm": "batch"}}),
    "dcgan": ("dcgan", "dcgan", "digits", {"ema": {"decay": 0.8}}),
}


# --- each trains as alone


@pytest.mark.parametrize("case", CASES)
def test_in_turns_each_is_bit_identical_to_a_trial_alone(case, tmp_path):
    *names, sections = CASES[case]
    configs = alike(3, *names, **sections)
    assert len({config.shape for config in configs}) == 1
    ran = pack(configs, tmp_path / "pack", engine="interleaved")
    for i, config in enumerate(configs):
        tracker, folder = MemoryTracker(), tmp_path / f"alone{i}"
        result = run_trial(config, tracker, folder=folder)
        saved = state(folder)
        del saved["engine"]
        assert equal(ran.left(i), (saved, record(tracker)))
        assert ran.trackers[i].tags == tracker.tags
        assert (ran.result(i).state, ran.result(i).g_steps) == ("completed", 12)
        assert ran.trackers[i].status == tracker.status == "FINISHED"
        assert ran.result(i).metrics.keys() == result.metrics.keys()
    weights = [ran.left(i)[0]["module"]["generator"] for i in range(3)]
    assert not equal(weights[0], weights[1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", ["wgan", "wgan_gp", "cgan"])
def test_stacked_each_is_close_to_a_trial_alone(case, tmp_path):
    *names, sections = CASES[case]
    configs = alike(3, *names, **sections, score={"names": []})  # which are in single precision
    ran = pack(configs, tmp_path / "pack", engine="stacked")
    (choice,) = ran.script.choices
    assert choice.stacked
    compared = 0
    for i, config in enumerate(configs):
        tracker, folder = MemoryTracker(), tmp_path / f"alone{i}"
        run_trial(config, tracker, folder=folder)
        saved, (calls, images) = ran.left(i)
        alone_calls, alone_images = record(tracker)
        assert [step for step, _ in calls] == [step for step, _ in alone_calls]
        for (_, ours), (_, theirs) in zip(calls, alone_calls, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
        for (_, ours), (_, theirs) in zip(images, alone_images, strict=True):
            assert (ours.int() - theirs.int()).abs().max() <= 1
        for net in ("generator", "discriminator"):
            alone = state(folder)["module"][net]
            for name, tensor in saved["module"][net].items():
                if tensor.is_floating_point():
                    torch.testing.assert_close(tensor, alone[name], rtol=1e-7, atol=1e-8)
                    compared += 1
        assert equal(saved["order"], state(folder)["order"])
        assert torch.equal(saved["module"]["rng"], state(folder)["module"]["rng"])
    assert compared >= 3 * 8


@pytest.mark.parametrize("engine", ENGINES)
def test_whoever_the_others_are(engine, tmp_path):
    one = pack(alike(3), tmp_path / "one", engine=engine)
    others = [alike(3)[0], *(small("wgan", "mlp", "ring8", seed=i) for i in (7, 8))]
    other = pack(others, tmp_path / "other", engine=engine)
    assert equal(one.left(0), other.left(0))
    assert not equal(one.left(1)[1], other.left(1)[1])


def test_the_seconds_of_a_pack_are_those_of_its_worker(tmp_path):
    began = time.monotonic()
    ran = pack(alike(3), tmp_path)
    gone = time.monotonic() - began
    seconds = [ran.result(i).seconds for i in range(3)]
    assert all(each > 0 for each in seconds)
    assert max(seconds) == pytest.approx(min(seconds))
    assert sum(seconds) <= gone


# --- ends


@pytest.mark.parametrize("engine", ENGINES)
def test_no_trial_computes_with_subnormal_numbers(engine, tmp_path):
    """Adam's mean of a gradient that stays away, as a dead unit's, shrinks until it is one."""
    rare = {"budget": {"g_steps": 250}, "diagnosis": {"every": 0}, "device": "cpu"}
    rare |= {name: {"every": 250} for name in ("log", "samples", "checkpoint", "score")}
    adam = {"optimizer": {"name": "adam", "beta1": 0.6, "lr": 0.05}}
    configs = [small("gan", "pacgan", "ring8", seed=seed, **adam, **rare) for seed in range(2)]
    ran = pack(configs, tmp_path, engine=engine)
    assert ran.states == ["completed"] * 2
    means = torch.cat(
        [
            mean["exp_avg"].flatten()
            for folder in ran.folders
            for mean in state(folder)["module"]["d_optimizer"]["state"].values()
        ]
    )
    assert means.isfinite().all()
    assert (means == 0).any()
    assert not ((means != 0) & (means.abs() < torch.finfo(torch.float32).tiny)).any()
    assert not is_flushed()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stop_ends_one_and_leaves_the_others(engine, tmp_path):
    straight = pack(alike(3), tmp_path / "straight", engine=engine)
    ran = pack(alike(3), tmp_path / "ran", engine=engine, verdicts={(1, 4): Stop("asha: too bad")})
    assert ran.states == ["completed", "stopped", "completed"]
    assert ran.result(1).reason == "asha: too bad at g_step 4"
    assert ran.trackers[1].status == "FINISHED"
    assert state(ran.folders[1])["module"]["g_step"] == ran.result(1).g_steps == 4
    for i in (0, 2):
        assert equal(ran.left(i), straight.left(i))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_free_place_is_filled(engine, tmp_path):
    """The trial that comes later is what it would be, had it been there from the start."""
    configs = alike(3)
    whole = pack([configs[0], configs[2]], tmp_path / "whole", engine=engine)
    ran = pack(
        configs, tmp_path / "ran", engine=engine, places=2, verdicts={(1, 4): Stop()}
    )  # fmt: skip
    assert ran.states == ["completed", "stopped", "completed"]
    assert len(ran.script.choices) == 1
    assert equal(ran.left(0), whole.left(0))
    assert equal(ran.left(2), whole.left(1))
    steps = [g_step for i, g_step, _ in ran.script.seen if i == 2]
    assert steps[-1] == 12
    assert ran.script.seen.index((2, 4, True)) < ran.script.seen.index((0, 12, True))


@pytest.mark.parametrize("engine", ENGINES)
def test_places_are_filled_to_the_last(engine, tmp_path):
    """One place after the other, also when nothing trains any more."""
    configs = alike(4, budget={"g_steps": 4})
    ran = pack(configs, tmp_path, engine=engine, places=1)
    assert ran.states == ["completed"] * 4
    assert [i for i, _, scored in ran.script.seen if scored] == [0, 1, 2, 3]


def fine_but_one(trouble, folder):
    """Three trials and what their middle one comes to: `trouble`, made in `folder`."""
    if trouble == "a broken checkpoint":
        (folder / "1").mkdir(parents=True)
        torch.save({"format": 0}, folder / "1" / CHECKPOINT)
        content = (folder / "1" / CHECKPOINT).read_bytes()
        digest = gansweep.checkpoint.MARK + hashlib.sha256(content).digest()
        (folder / "1" / CHECKPOINT).write_bytes(content + digest)
        return alike(3), "failed", "has checkpoint format 0"
    if trouble == "another trial's checkpoint":
        donor = small("wgan", "mlp", "ring8", seed=9, budget={"g_steps": 1})
        run_trial(donor, MemoryTracker(), folder=folder / "1")
        return alike(3), "failed", "is of trial"
    if trouble == "a score that raises":
        names = {"score": {"names": ["swd", "own_parts:BreaksOnce"]}}
        return alike(3, **names), "failed", "ArithmeticError: this score cannot be had"
    wild = {"optimizer": {"name": "sgd"}}
    configs = alike(3, "wgan_gp", **wild)
    configs[1] = small("wgan_gp", "mlp", "ring8", seed=1, optimizer={"name": "sgd", "lr": 1e12})
    return configs, "diverged", "at g_step"


TROUBLES = [
    "a broken checkpoint",
    "another trial's checkpoint",
    "a score that raises",
    "a loss that is not finite",
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_goes_wrong_in_one_ends_it_alone(trouble, engine, tmp_path):
    configs, end, reason = fine_but_one(trouble, tmp_path / "ran")
    ran = pack(configs, tmp_path / "ran", engine=engine)
    assert ran.states == ["completed", end, "completed"]
    assert reason in ran.result(1).reason
    assert ran.trackers[1].status == ("FAILED" if end == "failed" else "FINISHED")
    assert ("traceback.txt" in ran.trackers[1].texts) == (end == "failed")
    fine = list(configs)
    if end == "diverged":
        fine[1] = alike(3, "wgan_gp", optimizer={"name": "sgd"})[1]
    elif "score" in trouble:  # then its neighbours would be the ones to ask for it twice
        fine = [small_without_breaks(config) for config in configs]
    well = pack(fine, tmp_path / "well", engine=engine)
    for i in (0, 2):
        ours, theirs = ran.left(i), well.left(i)
        if "score" in trouble:
            ours, theirs = ours[0]["module"], theirs[0]["module"]
        assert equal(ours, theirs)


def small_without_breaks(config):
    """The same trial; scores are no part of its identity."""
    plain = config.to_dict()
    plain["score"]["names"] = ["swd"]
    fine = small("wgan", "mlp", "ring8", **plain)
    assert fine.key == config.key
    return fine


def test_a_network_that_raises_in_turns_ends_each_by_itself(tmp_path):
    configs = alike(2, "gan", "own_parts:Fragile", "ring8", network={"fail_at": 20})
    ran = pack(configs, tmp_path, engine="interleaved")
    assert ran.states == ["failed", "failed"]
    assert [ran.result(i).g_steps for i in range(2)] == [6, 6]


def test_what_is_raised_in_a_stack_is_raised(tmp_path, monkeypatch):
    """No trial ends by it: another, smaller pack goes on from the checkpoints."""
    monkeypatch.setattr(gansweep.engines, "_steps", {})  # its network counts calls of earlier packs
    configs = alike(2, "gan", "own_parts:Fragile", "ring8", network={"fail_at": 20})
    ran = Ran(configs, tmp_path, engine="stacked")
    with pytest.raises(RuntimeError, match="the network broke"):
        ran.fit()
    assert ran.script.results == {}
    assert [tracker.status for tracker in ran.trackers] == [None, None]
    assert [state(folder)["module"]["g_step"] for folder in ran.folders] == [4, 4]
    ran.pack.fail(RuntimeError("the network broke"))
    assert ran.states == ["failed", "failed"]


OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("where", ["step", "score", "build"])
def test_want_of_memory_is_no_trials_own_but_where_it_is_alone(where, tmp_path, monkeypatch):
    """In turns too: which of them asked for too much, nobody knows."""

    def attempt(count, folder):
        configs = alike(count, "gan")
        ran = Ran(configs, folder, places=1 if count == 1 else None)
        calls = []

        def short(original):
            def call(self, *arguments, **options):
                calls.append(self)
                if len(calls) > 6 * (where == "step"):
                    raise OUT
                return original(self, *arguments, **options)

            return call

        owner, name = {
            "step": (AlternatingModule, "training_step"),
            "score": (Scores, "act"),
            "build": (Replica, "_read"),
        }[where]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, short(getattr(owner, name)))
            return ran, ran.pack.fit()

    with pytest.raises(torch.OutOfMemoryError):
        attempt(2, tmp_path / "two")
    ran, _ = attempt(1, tmp_path / "one")
    assert ran.states == ["failed"]
    assert ran.result(0).reason == (
        "out_of_memory: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    )
    assert "Traceback" in ran.trackers[0].texts["traceback.txt"]


@pytest.mark.parametrize(("when", "state"), [(4, "completed"), (8, "interrupted")])
def test_a_full_disk_harms_only_what_could_not_be_saved_at_the_end(
    when, state, tmp_path, monkeypatch
):
    """The checkpoint of step `when` cannot be written; an earlier one's step is done again."""
    configs = alike(2, budget={"g_steps": 8}, checkpoint={"every": 4})

    def save(self, *name, real=Replica.save):
        if self.g_step == when and self.key == configs[1].key:
            raise OSError(28, "No space left on device")
        real(self, *name)

    monkeypatch.setattr(Replica, "save", save)
    ran = pack(configs, tmp_path)
    assert ran.states == ["completed", state]
    if state == "interrupted":
        assert "its last checkpoint could not be written" in ran.result(1).reason
        assert read_checkpoint(tmp_path / "1" / CHECKPOINT)["module"]["g_step"] == 4
        monkeypatch.undo()
        assert pack(configs, tmp_path).states == ["completed"] * 2
    undisturbed = pack(configs, tmp_path / "undisturbed")
    for i in range(2):
        assert equal(
            read_checkpoint(tmp_path / str(i) / CHECKPOINT)["module"],
            read_checkpoint(undisturbed.folders[i] / CHECKPOINT)["module"],
        )


def test_where_none_can_be_built_the_places_are_filled(tmp_path):
    configs = alike(4)
    for i in (0, 1):
        donor = small("wgan", "mlp", "ring8", seed=9, budget={"g_steps": 1})
        run_trial(donor, MemoryTracker(), folder=tmp_path / str(i))
    ran = pack(configs, tmp_path, places=2)
    assert ran.states == ["failed", "failed", "completed", "completed"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_finished_trial_leaves_its_place_at_once(engine, tmp_path):
    configs = alike(3)
    run_trial(configs[0], MemoryTracker(), folder=tmp_path / "0")
    ran = pack(configs, tmp_path, engine=engine, places=2)
    assert ran.states == ["completed"] * 3
    assert ran.trackers[0].metrics == []
    assert {i for i, *_ in ran.script.seen} == {1, 2}


# --- interrupts and resume


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("g_step", [1, 7, 8])
def test_interrupted_and_gone_on_with_it_is_bit_identical(engine, g_step, tmp_path):
    straight = pack(alike(3), tmp_path / "straight", engine=engine)
    first = pack(
        alike(3), tmp_path / "ran", engine=engine, verdicts={g_step: Interrupt()}
    )  # fmt: skip
    assert first.states == ["interrupted"] * 3
    assert [state(folder)["module"]["g_step"] for folder in first.folders] == [g_step] * 3
    assert [tracker.status for tracker in first.trackers] == ["KILLED"] * 3
    torch.manual_seed(12345)  # another process
    second = pack(alike(3), tmp_path / "ran", engine=engine)
    assert second.states == ["completed"] * 3
    for i in range(3):
        assert equal(second.left(i, first), straight.left(i))


@pytest.mark.usefixtures("every_step")
def test_dropout_goes_on_where_it_was(tmp_path):
    *names, sections = CASES["gan"]
    configs = alike(2, *names, **sections)
    straight = pack(configs, tmp_path / "straight")
    torch.manual_seed(1)
    first = pack(configs, tmp_path / "ran", verdicts={5: Interrupt()})
    torch.manual_seed(12345)  # another process
    second = pack(configs, tmp_path / "ran")
    for i in range(2):
        assert equal(second.left(i, first), straight.left(i))


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("places", [3, 1])
@pytest.mark.parametrize("asked", ["auto", *ENGINES])
def test_trials_of_two_packs_go_on_in_one_as_each_began(asked, places, tmp_path):
    """The last of them fill its places where it has fewer."""
    configs, of_pack = alike(3), [("stacked", [0]), ("interleaved", [1, 2])]
    for folder, verdicts in (("straight", {}), ("ran", {6: Interrupt()})):
        for engine, members in of_pack:
            chosen = [configs[i] for i in members]
            pack(chosen, tmp_path / folder / engine, engine=engine, verdicts=verdicts)
    for i, engine in enumerate(["stacked", "interleaved", "interleaved"]):
        left = tmp_path / "ran" / engine / str(max(0, i - 1))
        left.rename(tmp_path / str(i))
    ran = pack(configs, tmp_path, engine=asked, places=places)
    assert ran.states == ["completed"] * 3
    for i, engine in enumerate(["stacked", "interleaved", "interleaved"]):
        straight = state(tmp_path / "straight" / engine / str(max(0, i - 1)))
        assert equal(state(ran.folders[i])["module"], straight["module"]), i


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(("engine", "asked"), [ENGINES, ENGINES[::-1]])
def test_trials_go_on_in_the_engine_that_they_began_in(engine, asked, tmp_path):
    straight = pack(alike(2), tmp_path / "straight", engine=engine)
    first = pack(alike(2), tmp_path / "ran", engine=engine, verdicts={6: Interrupt()})
    second = pack(alike(2), tmp_path / "ran", engine=asked)
    assert second.script.choices == first.script.choices
    assert second.script.choices[0].stacked == (engine == "stacked")
    for i in range(2):
        assert equal(second.left(i, first), straight.left(i))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_control_c_ends_the_record_of_every_trial(engine, raised, tmp_path):
    ran = Ran(alike(3), tmp_path, engine=engine, verdicts={8: raised()})
    with pytest.raises(raised):
        ran.fit()
    assert ran.states == ["interrupted"] * 3
    assert [tracker.status for tracker in ran.trackers] == ["KILLED"] * 3
    assert pack(alike(3), tmp_path, engine=engine).states == ["completed"] * 3


# --- reports, and trials that rest


def test_reports(tmp_path, monkeypatch):
    """Scores always pass; bare progress at intervals."""
    monkeypatch.setattr(gansweep.pack, "REPORT_SECONDS", 1e9)
    seen = pack(alike(2), tmp_path).script.seen
    scores = [(i, g_step, True) for g_step in (4, 8, 12) for i in range(2)]
    assert seen == [(0, 1, False), (1, 1, False), *scores]


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_rests_until_its_verdict_comes(engine, tmp_path):
    """The others go on; it trains later what it would have trained."""
    straight = pack(alike(3), tmp_path / "straight", engine=engine)
    late = {(1, 4): 3, (2, 8): 2}
    ran = pack(alike(3), tmp_path / "ran", engine=engine, rests=True, late=late)
    assert ran.states == ["completed"] * 3
    order = {(i, g_step): at for at, (i, g_step, _) in enumerate(ran.script.seen)}
    assert order[0, 8] < order[1, 5] < order[0, 9]
    assert order[0, 11] < order[2, 9] < order[0, 12]
    for i in range(3):
        assert equal(ran.left(i), straight.left(i))


@pytest.mark.parametrize("engine", ENGINES)
def test_where_all_rest_the_pack_waits(engine, tmp_path):
    straight = pack(alike(2), tmp_path / "straight", engine=engine)
    late = dict.fromkeys([(0, 4), (1, 4), (0, 8), (1, 8)], 10**6)
    ran = pack(alike(2), tmp_path / "ran", engine=engine, rests=True, late=late)
    assert ran.script.waited == 2
    for i in range(2):
        assert equal(ran.left(i), straight.left(i))


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_that_rests_can_be_stopped_or_put_aside(engine, tmp_path):
    verdicts = {(0, 4): Stop(), (1, 4): Interrupt()}
    late = {(0, 4): 2, (1, 4): 3}
    ran = pack(alike(3), tmp_path, engine=engine, rests=True, verdicts=verdicts, late=late)
    assert ran.states == ["stopped", "interrupted", "completed"]
    assert [ran.result(i).g_steps for i in range(3)] == [4, 4, 12]


def test_a_verdict_at_the_end_is_too_late(tmp_path):
    ran = pack(alike(2), tmp_path, rests=True, verdicts={12: Stop()})
    assert ran.states == ["completed"] * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_that_was_put_aside_before_its_verdict_came_hears_it_later(engine, tmp_path):
    """It stands at the score: nothing is trained, logged or judged past it meanwhile."""
    first = pack(alike(2), tmp_path, engine=engine, rests=True, verdicts={(0, 4): Interrupt()})
    assert first.states == ["interrupted", "completed"]
    stop = {(0, 4): Stop("too bad")}
    second = pack(alike(2), tmp_path, engine=engine, rests=True, verdicts=stop)
    assert second.script.seen == [(0, 4, True)]
    assert second.result(0).state == "stopped"
    assert second.result(0).reason == "too bad at g_step 4"
    assert (second.result(0).metrics, second.trackers[0].metrics) == (first.result(0).metrics, [])


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(("at", "seen"), [(3, 4), (5, 6), (12, 13)])
def test_one_that_stands_elsewhere_waits_for_nobody(at, seen, tmp_path):
    pack(alike(1, budget={"g_steps": at}, score={"every": 8}), tmp_path)
    ran = pack(alike(1, budget={"g_steps": 16}, score={"every": 8}), tmp_path, rests=True)
    assert ran.script.seen[0] == (0, seen, False)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize(
    ("before", "now", "first"),
    [
        ({"every": 2}, {"every": 2, "samples": 40}, 8),
        ({"every": 2}, {"every": 2, "names": ["modes", "swd"]}, 8),
        ({"every": 4}, {"every": 3}, 9),
    ],
    ids=["other samples", "another score", "other steps"],
)
def test_nobody_is_judged_by_a_value_that_is_not_of_this_step(before, now, first, tmp_path):
    """Scores may be others than in the run before; one without a value is the worst of all."""
    stop = {(0, 6): Interrupt()}
    assert pack(alike(1, score=before), tmp_path, verdicts=stop).states == ["interrupted"]
    ran = pack(alike(1, score=now), tmp_path, rests=True)
    assert next(g_step for _, g_step, scored in ran.script.seen if scored) == first


# --- populations

NEW = {"lr": 0.02, "alpha": 0.5}


def explored(config):
    """The tree of other settings for a trial."""
    tree = deepcopy(config.to_dict())
    for role in ("discriminator", "generator"):
        tree["optimizer"][role] |= NEW
    tree["model"]["clip"] = 0.2
    return tree


def composed(folder, donor, own, tree):
    """A checkpoint of `own`'s streams and counts, with the donor's networks, under `tree`.

    What was diagnosed of `own` before says nothing of what comes.
    """
    theirs = read_checkpoint(donor / CHECKPOINT)
    ours = read_checkpoint(own / CHECKPOINT)
    networks = ("generator", "discriminator", "average", "g_optimizer", "d_optimizer")
    ours["module"] |= {name: theirs["module"][name] for name in networks}
    ours["diagnosis"] = {"court": {}, "stall": {"best": None, "at": 0}}
    write_checkpoint(folder / CHECKPOINT, {**ours, "verdict": "", "tree": json.dumps(tree)})


def population():
    return alike(2, ema={"decay": 0.9})


@pytest.fixture
def generation(tmp_path, every_step):
    """How a pair that stands at g_step 4 goes on where the second one exploits the first."""

    def make(engine):
        folder, configs = tmp_path / "generation", population()
        before = pack(configs, folder, engine=engine, verdicts={4: Interrupt()})
        assert before.states == ["interrupted"] * 2
        donor = tmp_path / "donor"
        donor.mkdir()
        (donor / generation_file(4)).write_bytes((folder / "0" / CHECKPOINT).read_bytes())
        (donor / generation_file(8)).write_bytes((folder / "1" / CHECKPOINT).read_bytes())
        composed(folder / "1", folder / "0", folder / "1", explored(configs[1]))
        after = pack(configs, folder, engine=engine)
        lefts = [after.left(i, before) for i in range(2)]
        groups = lefts[1][0]["module"]["d_optimizer"]["param_groups"]
        assert (groups[0]["lr"], groups[0]["alpha"]) == (0.02, 0.5)
        return lefts, donor

    return make


@pytest.mark.parametrize("engine", ENGINES)
def test_exploiting_a_trial_of_the_pack(engine, generation, tmp_path):
    """The donor's networks under new settings, from memory; streams and counts of its own."""
    expected, _ = generation(engine)
    configs = population()
    exploit = Exploit(configs[0].key, str(tmp_path / "nowhere"), explored(configs[1]))
    ran = pack(configs, tmp_path / "ran", engine=engine, rests=True, verdicts={(1, 4): exploit})
    assert ran.states == ["completed"] * 2
    for i in range(2):
        assert equal(ran.left(i), expected[i])
    straight = pack(configs, tmp_path / "straight", engine=engine)
    assert equal(ran.left(0), straight.left(0))
    largest = ran.left(1)[0]["module"]["discriminator"]
    assert max(float(t.abs().max()) for t in largest.values()) > 0.02  # clipped at another place


@pytest.mark.parametrize("engine", ENGINES)
def test_exploiting_a_trial_of_another_pack(engine, generation, tmp_path):
    """The donor's state is read from what it left at this generation; it may be at the next."""
    expected, donor = generation(engine)
    configs = [population()[1], small("wgan", "mlp", "ring8", seed=5, ema={"decay": 0.9})]
    exploit = Exploit(population()[0].key, str(donor), explored(configs[0]))
    ran = pack(configs, tmp_path / "ran", engine=engine, rests=True, verdicts={(0, 4): exploit})
    assert ran.states == ["completed"] * 2
    assert equal(ran.left(0), expected[1])


@pytest.mark.parametrize("engine", ENGINES)
def test_two_that_exploit_each_other_swap(engine, tmp_path):
    """A donor's state is that of the generation, whoever is served first."""
    configs = population()
    swap = {
        (i, 4): Exploit(configs[1 - i].key, str(tmp_path / "nowhere"), configs[i].to_dict())
        for i in range(2)
    }
    both = pack(configs, tmp_path / "both", engine=engine, rests=True, verdicts=swap)
    for i in range(2):
        one = pack(
            configs, tmp_path / str(i), engine=engine, rests=True, verdicts={(i, 4): swap[i, 4]}
        )  # fmt: skip
        assert equal(both.left(i), one.left(i))


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("engine", ENGINES)
def test_an_exploited_trial_is_resumed_under_its_new_settings(engine, tmp_path):
    configs = population()
    exploit = Exploit(configs[0].key, str(tmp_path / "nowhere"), explored(configs[1]))
    options = {"engine": engine, "rests": True}
    straight = pack(configs, tmp_path / "straight", **options, verdicts={(1, 4): exploit})
    first = pack(
        configs, tmp_path / "ran", **options, verdicts={(1, 4): exploit, 6: Interrupt()}
    )  # fmt: skip
    second = pack(configs, tmp_path / "ran", **options)
    for i in range(2):
        assert equal(second.left(i, first), straight.left(i))


@pytest.mark.parametrize("engine", ENGINES)
def test_members_that_were_put_aside_before_the_verdict_exploit_later(engine, generation, tmp_path):
    expected, _ = generation(engine)
    configs = population()
    exploit = Exploit(configs[0].key, str(tmp_path / "nowhere"), explored(configs[1]))
    options = {"engine": engine, "rests": True}
    first = pack(configs, tmp_path / "ran", **options, verdicts={4: Interrupt()})
    second = pack(configs, tmp_path / "ran", **options, verdicts={(1, 4): exploit})
    for i in range(2):
        assert equal(second.left(i, first), expected[i])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_donor_that_rests_at_another_step_is_read_from_its_generation(engine, tmp_path):
    """It goes on from an earlier checkpoint than the one that exploits it, in one pack with it."""
    configs = [small("wgan", "mlp", "ring8", seed=i, score={"every": 2}) for i in range(2)]
    options = {"engine": engine, "rests": True, "generation": 4}
    whole = pack(configs, tmp_path / "whole", **options, verdicts={8: Interrupt()})
    exploit = Exploit(configs[0].key, str(whole.folders[0]), explored(configs[1]))
    straight = pack(configs, tmp_path / "whole", **options, verdicts={(1, 8): exploit})
    pack(configs, tmp_path / "ran", **options, verdicts={(0, 6): Interrupt(), (1, 8): Interrupt()})
    late = {(0, 6): 2}
    ran = pack(configs, tmp_path / "ran", **options, verdicts={(1, 8): exploit}, late=late)
    assert ran.states == ["completed"] * 2
    assert equal(state(ran.folders[1]), state(straight.folders[1]))


def test_a_donor_that_left_nothing_fails_the_one_that_needs_it(tmp_path):
    configs = alike(2)
    exploit = Exploit("a" * 16, str(tmp_path / "nowhere"), explored(configs[1]))
    ran = pack(configs, tmp_path / "ran", rests=True, verdicts={(1, 4): exploit})
    assert ran.states == ["completed", "failed"]
    assert f"left no {generation_file(4)}" in ran.result(1).reason


@pytest.mark.parametrize("refused", [BEST, CHECKPOINT, generation_file(4)])
def test_a_generation_that_the_disk_refused_is_told_to_nobody(refused, tmp_path, monkeypatch):
    """The donor is to go on later, before that step: it leaves its state there then."""
    configs = alike(2, score={"every": 2}, budget={"g_steps": 8})

    def write(path, state):
        if path == tmp_path / "0" / refused and state["module"]["g_step"] == 4:
            raise OSError(28, "No space left on device")
        write_checkpoint(path, state)

    options = {"rests": True, "generation": 4}
    with monkeypatch.context() as patch:
        patch.setattr("gansweep.replica.write_checkpoint", write)
        patch.setattr(Best, "offer", lambda *_, **__: True)
        ran = pack(configs, tmp_path, **options)
    if refused != generation_file(4):
        assert ran.result(1).state == "completed"
        assert (0, 4, True) in ran.script.seen
        assert (tmp_path / "0" / generation_file(4)).exists()
        return
    assert ran.states == ["interrupted", "completed"]
    assert "generation-4.pt could not be written: [Errno 28] No space" in ran.result(0).reason
    assert [each for each in ran.script.seen if each[0] == 0] == [(0, 1, False), (0, 2, True)]
    later = pack(configs, tmp_path, **options)
    assert later.states == ["completed"] * 2
    assert (0, 4, True) in later.script.seen
    assert read_checkpoint(tmp_path / "0" / generation_file(4))["module"]["g_step"] == 4


def test_a_kill_between_a_generation_and_its_checkpoint_loses_neither(tmp_path, monkeypatch):
    for killed_at in (1, 2):
        folder, count = tmp_path / str(killed_at), iter(range(1, 100))

        def write(path, state, count=count, killed_at=killed_at):
            if path.name != BEST and next(count) == killed_at:
                raise SystemExit
            write_checkpoint(path, state)

        options = {"rests": True, "generation": 4}
        with monkeypatch.context() as patch:
            patch.setattr("gansweep.replica.write_checkpoint", write)
            with pytest.raises(SystemExit):
                pack(alike(1, budget={"g_steps": 8}), folder, **options)
        ran = pack(alike(1, budget={"g_steps": 8}), folder, **options)
        assert (0, 4, True) in ran.script.seen
        assert (folder / "0" / generation_file(4)).exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_who_cannot_read_its_donor_goes_on_later(engine, generation, tmp_path, monkeypatch):
    """A shared disk that is away is no fault of the trial's."""
    expected, donor = generation(engine)
    configs = [population()[1], small("wgan", "mlp", "ring8", seed=5, ema={"decay": 0.9})]
    exploit = Exploit(population()[0].key, str(donor), explored(configs[0]))

    def stale(path):
        raise OSError(116, "Stale file handle")

    options = {"engine": engine, "rests": True, "verdicts": {(0, 4): exploit}}
    with monkeypatch.context() as patch:
        patch.setattr("gansweep.replica.read_checkpoint", stale)
        first = pack(configs, tmp_path / "ran", **options)
    assert first.states == ["interrupted", "completed"]
    assert "Stale file handle" in first.result(0).reason
    second = pack(configs, tmp_path / "ran", **options)
    assert equal(second.left(0, first), expected[1])


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("engine", ENGINES)
def test_each_generation_leaves_its_state(engine, tmp_path):
    """The last two: one that exploits may be a generation behind."""
    ran = pack(alike(2), tmp_path, engine=engine, generation=2, verdicts={7: Interrupt()})
    for folder in ran.folders:
        found = {path.name: read_checkpoint(path)["module"]["g_step"] for path in folder.glob("g*")}
        assert found == {generation_file(4): 4, generation_file(6): 6}
        assert read_checkpoint(folder / CHECKPOINT)["module"]["g_step"] == 7
    assert list((tmp_path / "0").glob(".*")) == []


def test_without_a_population_there_is_no_generation(tmp_path):
    ran = pack(alike(1), tmp_path)
    assert sorted(path.name for path in ran.folders[0].iterdir()) == [BEST, CHECKPOINT]
