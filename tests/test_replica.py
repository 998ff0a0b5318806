"""A trial from its job to its result, apart from what trains it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from records import equal, state
from trees import small

from gansweep import replica as module
from gansweep.checkpoint import read_checkpoint
from gansweep.errors import ConfigError
from gansweep.progress import Continue, Exploit, Interrupt, Stop
from gansweep.replica import Common, Job, Replica
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial_files import CHECKPOINT, generation_file

CPU = torch.device("cpu")


def replica(folder: Path | None = None, *, generation: int = 0, **sections: Any) -> Replica:
    config = small("wgan", "mlp", "ring8", **{"ema": {"decay": 0.9}, **sections})
    return Replica(Job(config, MemoryTracker(), folder, generation), Common(config, CPU))


def stepped(one: Replica, steps: int) -> Replica:
    for _ in range(steps):
        one.module.training_step(one.batch(), 0)
    return one


def test_a_pack_shares_data_latents_and_statistics() -> None:
    """The grid and the scores of two trials are from the same latents, and cost one data set."""
    config = small("wgan", "mlp", "ring8")
    common = Common(config, CPU)
    trials = [
        Replica(Job(small("wgan", "mlp", "ring8", seed=seed), MemoryTracker()), common)
        for seed in (1, 2)
    ]
    first, second = (trial.batch() for trial in trials)
    assert first.samples is second.samples is common.samples
    assert not torch.equal(first.indices, second.indices)
    assert not equal(
        trials[0].module.generator.state_dict(), trials[1].module.generator.state_dict()
    )


def test_whether_networks_and_data_fit_is_tried_once_for_a_shape(monkeypatch: Any) -> None:
    tried: list[int] = []
    fitting = module.fitting

    def counted(config: Any, spec: Any) -> Any:
        tried.append(config.run.seed)
        return fitting(config, spec)

    monkeypatch.setattr(module, "fitting", counted)
    adam = {"name": "adam", "lr": 1e-4}
    trials = [small("wgan", "mlp", "digits", seed=1), small("wgan", "mlp", "digits", seed=2)]
    trials += [small("wgan", "mlp", "digits", seed=seed, optimizer=adam) for seed in (3, 4)]
    common = Common(trials[0], CPU)
    trackers = [MemoryTracker() for _ in trials]
    for each, tracker in zip(trials, trackers, strict=True):
        Replica(Job(each, tracker), common)
    assert tried == [1, 3]
    assert ["gansweep.warning" in each.tags for each in trackers] == [False, False, True, True]


def test_a_batch_is_as_long_as_the_variants_schedule_says() -> None:
    one = replica()
    sizes = []
    for _ in range(9):
        batch = one.batch()
        sizes.append(tuple(batch.indices.shape))
        one.module.advance(batch)
    settings = one.config.model.settings
    expected = [(one.config.model.cls.d_steps(settings, g), 6) for g in range(9)]
    assert sizes == expected
    assert len(set(sizes)) == 2


def test_the_schedule_is_that_of_its_present_settings(monkeypatch: Any) -> None:
    """A variant's own may depend on a number that a population explores."""
    one = replica()
    schedule = classmethod(lambda cls, settings, g_step: 3 if settings.clip > 0.1 else 1)
    monkeypatch.setattr(type(one.module), "d_steps", schedule)
    assert one.batch().steps == 1
    tree = copy.deepcopy(one.config.to_dict())
    tree["model"]["clip"] = 0.25
    one.obey(Exploit("another", "", tree), one.module.training_state())
    assert one.batch().steps == 3


def test_a_report_tells_the_share_of_the_work_that_is_done(monkeypatch: Any) -> None:
    one = replica(budget={"g_steps": 6})
    schedule = classmethod(lambda cls, settings, g_step: 9 if g_step < 2 else settings.n_critic)
    monkeypatch.setattr(type(one.module), "d_steps", schedule)
    n_critic = one.config.model.settings.n_critic
    total = 6 + 2 * 9 + 4 * n_critic
    shares = [one.progress().share, stepped(one, 1).progress().share]
    assert shares == [0, 10 / total]
    assert stepped(one, 1).progress().done == pytest.approx(6 * 20 / total, rel=1e-12)
    tree = copy.deepcopy(one.config.to_dict())
    tree["model"]["n_critic"] = n_critic + 3
    one.obey(Exploit("another", "", tree), one.module.training_state())
    assert one.progress().share == pytest.approx(20 / (total + 4 * 3), rel=1e-12)
    assert stepped(one, 4).progress().share == 1


@pytest.mark.parametrize(
    ("verdict", "end", "reason"),
    [
        (Stop("too bad"), "stopped", "too bad at g_step 3"),
        (Interrupt(), "interrupted", "interrupted at g_step 3"),
        (Interrupt(for_others=True), "interrupted", "waits for others at g_step 3"),
    ],
)
def test_a_verdict_that_ends_it_saves_it(
    verdict: Any, end: str, reason: str, tmp_path: Path
) -> None:
    """A run of which the same command takes another turn soon does not say `interrupted`."""
    one = stepped(replica(tmp_path), 3)
    one.obey(verdict)
    assert (one.outcome.state, one.outcome.reason, one.at_end) == (end, reason, True)
    assert state(tmp_path)["module"]["g_step"] == 3
    result = one.finish()
    assert (result.state, result.reason, result.g_steps) == (end, reason, 3)
    tags = one.tracker.tags  # type: ignore[attr-defined]
    waits = verdict == Interrupt(for_others=True)
    assert (tags["gansweep.g_steps"], tags["gansweep.reason"]) == ("3", reason)
    assert tags["gansweep.state"] == ("waiting" if waits else end)
    assert one.result is result


def test_to_continue_is_to_do_nothing(tmp_path: Path) -> None:
    one = stepped(replica(tmp_path), 3)
    before = copy.deepcopy(one.module.training_state())
    one.obey(Continue())
    assert equal(one.module.training_state(), before)
    assert list(tmp_path.iterdir()) == []
    assert not one.at_end


def test_without_a_folder_nothing_is_saved(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    one = stepped(replica(generation=1), 1)
    one.save()
    one.save(generation_file(1))
    assert list(tmp_path.iterdir()) == []


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    one = stepped(replica(tmp_path), 5)
    one.engine = {"stacked": True, "compiled": False, "why": "as set"}
    one.clock.charge(2.5)
    one.outcome.metrics["loss/d"] = 0.25
    one.save()
    again = replica(tmp_path)
    again.start()
    assert (again.g_step, again.engine) == (5, one.engine)
    assert again.clock.seconds == 2.5
    assert again.outcome.metrics == {"loss/d": 0.25}
    assert equal(again.module.training_state(), one.module.training_state())
    for each in (one, again):
        stepped(each, 2)
    assert equal(again.module.training_state(), one.module.training_state())


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    one = stepped(replica(tmp_path), 3)
    one.save()
    before = copy.deepcopy(one.module.training_state())
    stepped(one, 2).save()
    checkpoint = tmp_path / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    again = replica(tmp_path)
    assert equal(again.module.training_state(), before)
    assert equal(stepped(again, 2).module.training_state(), one.module.training_state())


def full(*arguments: Any, **named: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("verdict", [Stop("too bad"), Interrupt()])
def test_what_cannot_be_saved_is_to_go_on(verdict: Any, tmp_path: Path, monkeypatch: Any) -> None:
    one = stepped(replica(tmp_path), 3)
    one.save()
    monkeypatch.setattr("gansweep.replica.write_checkpoint", full)
    stepped(one, 1).obey(verdict)
    assert one.outcome.state == "interrupted"
    assert "at g_step 4, without a checkpoint: [Errno 28] No space left" in one.outcome.reason
    assert replica(tmp_path).g_step == 3


def test_a_record_that_is_not_on_disk_lets_no_checkpoint_be_written(
    tmp_path: Path, monkeypatch: Any
) -> None:
    one = stepped(replica(tmp_path), 3)
    monkeypatch.setattr(one.tracker, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        one.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("budget", "steps"), [(10_000, 5), (501, 5), (20, 100)])
def test_a_probe_has_the_critic_steps_of_most_g_steps(budget: int, steps: int) -> None:
    """WGAN's critic has 100 of them in the first 25 g_steps, and in every 500th, as at the end."""
    model = {"n_critic": 5, "burst_n_critic": 100, "burst_first": 25, "burst_every": 500}
    assert replica(budget={"g_steps": budget}, model=model).example_batch().steps == steps


def test_nobody_goes_on_from_before_a_generation(tmp_path: Path) -> None:
    """Its donor leaves a generation behind: who came by it again would not find its state."""
    one = replica(tmp_path, generation=2, checkpoint={"every": 100}, budget={"g_steps": 50})
    assert stepped(one, 3).checkpoints_due() == []
    assert stepped(one, 1).checkpoints_due() == [generation_file(4), CHECKPOINT]


def test_a_generation_is_no_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    stepped(replica(tmp_path, generation=2), 2).save(generation_file(2))
    assert not (tmp_path / CHECKPOINT).exists()
    assert replica(tmp_path).g_step == 0
    saved = read_checkpoint(tmp_path / generation_file(2))
    assert saved is not None
    assert saved["module"]["g_step"] == 2


def test_the_donor_goes_its_own_way(tmp_path: Path) -> None:
    """No tensor is shared with it, neither a weight nor the state of an optimizer."""
    donor, one, third = (stepped(replica(seed=seed), 4) for seed in range(3))
    given = donor.module.training_state()
    for each in (one, third):
        each.obey(Exploit(donor.key, str(tmp_path), each.config.to_dict()), given)
    before = [copy.deepcopy(each.module.training_state()) for each in (donor, third)]
    stepped(one, 3)
    assert equal([each.module.training_state() for each in (donor, third)], before)


def test_what_is_exploited_and_what_is_kept(tmp_path: Path) -> None:
    donor, one = (stepped(replica(seed=seed), 4 + seed) for seed in range(2))
    theirs, own = (copy.deepcopy(each.module.training_state()) for each in (donor, one))
    tree = copy.deepcopy(one.config.to_dict())
    tree["optimizer"]["discriminator"]["lr"] = 0.125
    tree["model"]["clip"] = 0.25
    one.obey(Exploit(donor.key, str(tmp_path), tree), donor.module.training_state())
    found = one.module.training_state()
    for name in ("generator", "discriminator", "average"):
        assert equal(found[name], theirs[name])
    for name in ("d_optimizer", "g_optimizer"):
        assert equal(found[name]["state"], theirs[name]["state"])
    assert found["d_optimizer"]["param_groups"][0]["lr"] == 0.125
    assert (
        found["g_optimizer"]["param_groups"][0]["lr"] == own["g_optimizer"]["param_groups"][0]["lr"]
    )
    assert one.module.settings.clip == 0.25
    kept = set(found) - {
        "generator", "discriminator", "average", "d_optimizer", "g_optimizer",
    }  # fmt: skip
    assert kept >= {"rng", "dropout_rng", "meters", "g_step", "d_step", "images_seen"}
    for name in kept:
        assert equal(found[name], own[name]), name
    assert one.key == one.config.key  # the trial stays itself


def test_settings_that_make_no_trial_are_refused(tmp_path: Path) -> None:
    one = stepped(replica(), 1)
    tree = copy.deepcopy(one.config.to_dict())
    tree["model"]["clip"] = -1.0
    with pytest.raises(ConfigError, match="clip"):
        one.obey(Exploit("x", str(tmp_path), tree), one.module.training_state())


def test_a_checkpoint_that_cannot_be_removed_ends_nothing_else(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """The trial is whole, and its record ends: what was in the way goes at another time."""
    one = stepped(replica(tmp_path), 3)
    one.save()
    stepped(one, 1).save()
    monkeypatch.setattr(Path, "unlink", full)
    assert one.finish().state == "completed"
    assert one.tracker.status == "FINISHED"


def test_a_failure_is_told_in_one_line_and_kept_whole() -> None:
    one = replica()
    one.fail(RuntimeError("x" * 600 + "\nsecond line"))
    result = one.finish()
    assert result.state == "failed"
    assert result.reason == f"RuntimeError: {'x' * 600}"[:496] + " ..."
    tracker: Any = one.tracker
    assert "second line" in tracker.texts["traceback.txt"]
    assert (tracker.status, tracker.tags["gansweep.state"]) == ("FAILED", "failed")
