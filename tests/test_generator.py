"""A trained generator out of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from trees import small

from gansweep.checkpoint import read_checkpoint, write_checkpoint
from gansweep.config import resolve
from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.generator import TrainedGenerator, about
from gansweep.modules.alternating import evaluating, network_state
from gansweep.seeding import stream
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial
from gansweep.trial_files import CHECKPOINT


def trained(folder: Path, model: str, network: str, data: str, **sections) -> Path:
    config = small(model, network, data, budget={"g_steps": 3}, score={"names": []}, **sections)
    assert run_trial(config, MemoryTracker(), folder=folder).state == "completed"
    return folder / CHECKPOINT


@pytest.mark.parametrize(
    ("model", "network", "data", "ema"),
    [
        ("gan", "mlp", "ring8", 0.0),
        ("wgan", "dcgan", "digits", 0.9),
        ("bigan", "bigan", "digits", 0.0),
        ("gan", "own_parts:Running", "ring8", 0.9),
    ],
)
def test_it_samples_as_the_trial_did(tmp_path: Path, model, network, data, ema) -> None:
    """By its average where it has one, in eval mode, whatever the size of a pass."""
    path = trained(tmp_path, model, network, data, ema={"decay": ema})
    generator = TrainedGenerator.load(path)
    assert (generator.g_step, generator.condition) == (3, None)
    saved = read_checkpoint(path)["module"]
    state = network_state(generator.network)
    for name, tensor in (saved["average"] or saved["generator"]).items():
        assert torch.equal(state[name], tensor)
    assert bool(saved["average"]) is bool(ema)
    x = generator.sample(9, seed=4)
    z = generator.config.latent.draw(9, rng=stream(4, "samples"))
    with evaluating(generator.network):
        assert torch.equal(x, generator.network(z, None))
    assert x.shape == (9, *generator.spec.shape)
    assert torch.equal(generator.sample(9, seed=4), x)
    assert not torch.equal(generator.sample(9, seed=5), x)


def test_what_it_draws_by_itself_is_of_the_seed_too(tmp_path: Path) -> None:
    generator = TrainedGenerator.load(trained(tmp_path, "gan", "mlp", "ring8"))
    generator.network.register_forward_hook(lambda net, given, x: x + torch.rand_like(x))
    rng = torch.get_rng_state()
    x = generator.sample(9, seed=4)
    assert torch.equal(torch.get_rng_state(), rng)
    torch.manual_seed(1)
    assert torch.equal(generator.sample(9, seed=4), x)


def test_a_conditional_one_is_asked_for_each_class_in_turn(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("gansweep.generator.AT_ONCE", 7)
    generator = TrainedGenerator.load(trained(tmp_path, "cgan", "mlp", "digits"))
    assert generator.condition.size == 10
    x = generator.sample(20)
    labels = torch.arange(20) % 10
    assert torch.equal(generator.classes(20), labels)
    z = generator.config.latent.draw(20, rng=stream(0, "samples"))
    with evaluating(generator.network):
        expected = [generator.network(z[i : i + 7], labels[i : i + 7]) for i in (0, 7, 14)]
    assert torch.equal(x, torch.cat(expected))
    threes = generator.sample(20, labels=torch.full((20,), 3))
    assert torch.allclose(threes[3], x[3], atol=1e-6)
    assert not torch.allclose(threes[4], x[4], atol=1e-3)


@pytest.mark.parametrize(
    ("model", "data", "count", "labels", "told"),
    [
        ("gan", "ring8", 0, None, r"^count is 0, must be at least 1$"),
        ("gan", "ring8", 2, torch.tensor([0, 1]), "^labels: .* not conditional: leave them out$"),
        ("cgan", "digits", 3, torch.tensor([0, 1]), r"^labels are int64 \[2\], .* int64 \[3\]"),
        ("cgan", "digits", 1, torch.ones(1), r"^labels are float32 \[1\], must be int64 \[1\]"),
        ("cgan", "digits", 2, torch.tensor([3, 10]), "^labels are from 3 to 10, must .* 0 to 9$"),
        ("cgan", "digits", 2, torch.tensor([-1, 9]), "^labels are from -1 to 9, must .* 0 to 9$"),
        ("cgan", "own_parts:Attributes", 2, torch.tensor([0, 1]), r"must be float \[2, 3\]"),
        ("cgan", "own_parts:Attributes", 2, None, "^without classes .*: give labels$"),
    ],
)
def test_what_it_cannot_be_asked_for(tmp_path: Path, model, data, count, labels, told) -> None:
    generator = TrainedGenerator.load(trained(tmp_path, model, "mlp", data))
    with pytest.raises(ValueError, match=told):
        generator.sample(count, labels=labels)


def test_what_is_no_checkpoint_of_a_trial(tmp_path: Path) -> None:
    path = trained(tmp_path, "gan", "mlp", "ring8")
    with pytest.raises(ConfigError, match="there is no such checkpoint"):
        TrainedGenerator.load(tmp_path / "absent.pt")
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainedGenerator.load(tmp_path)
    state = read_checkpoint(path)
    del state["config"], state["format"]
    write_checkpoint(tmp_path / "old.pt", state)
    with pytest.raises(ConfigError, match="does not hold the trial's settings"):
        TrainedGenerator.load(tmp_path / "old.pt")
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="is damaged"):
        TrainedGenerator.load(path)


def test_a_network_that_has_changed_since(tmp_path: Path) -> None:
    path = trained(tmp_path, "gan", "mlp", "ring8")
    state = read_checkpoint(path)
    name = next(iter(state["module"]["generator"]))
    state["module"]["generator"][name] = torch.zeros(3, 3)
    write_checkpoint(path, state)
    with pytest.raises(ConfigError) as caught:
        TrainedGenerator.load(path, place="s3://lab/best.pt")
    (problem,) = caught.value.problems
    assert problem.where == "s3://lab/best.pt"
    assert " as it is now: " in problem.what
    assert problem.what.startswith("does not fit ")
    assert f"size mismatch for {name}:" in problem.what
    assert problem.remedy.startswith("its code has changed since: undo that")


def test_a_checkpoint_does_not_tell_how_far_its_trial_was_to_go(tmp_path: Path) -> None:
    """Else a trial that was trained further would end in other bytes than one in a single run."""
    plain, longer = (
        small("gan", "mlp", "ring8", budget={"g_steps": n}, compile=how, score={"names": names})
        for n, how, names in ((3, "auto", []), (900, "false", ["swd"]))
    )
    spec = DataSpec((2,))
    assert about(plain, spec) == about(longer, spec)
    assert about(small("gan", "mlp", "ring8", seed=5), spec) != about(plain, spec)
    again = resolve(json.loads(about(longer, spec)["config"]), [])
    assert again.recipe == longer.recipe
