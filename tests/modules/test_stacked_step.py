"""The step that replicas share: what it can hold, and that compiling changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.utils import parametrizations

from gansweep.config import resolved
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.catalogue import VARIANTS
from gansweep.modules.compiled import Compiled, _kind
from gansweep.modules.stack import Stack
from gansweep.modules.stacked_step import (
    Layout,
    StackedStep,
    buffers_of,
    obstacle,
    scalars,
)
from gansweep.networks.catalogue import ARCHITECTURES
from gansweep.optimizers import OPTIMIZERS

from .game import Log, Spy
from .replicas import Trial, assert_close, run, stacked, together, tree, trials

ADAM = {"name": "adam", "lr": 1e-3}


def dropout(module: AlternatingModule) -> None:
    module.discriminator.body.append(nn.Dropout(0.1))


def dropout_in_the_generator(module: AlternatingModule) -> None:
    module.generator.body.insert(1, nn.Dropout2d(0.5))


def parametrized(module: AlternatingModule) -> None:
    parametrizations.spectral_norm(module.discriminator.body[0])


def frozen(module: AlternatingModule) -> None:
    module.generator.body[0].bias.requires_grad_(False)


def integers(module: AlternatingModule) -> None:
    module.discriminator.register_buffer("seen", torch.zeros(1, dtype=torch.int64))


def recurrent(module: AlternatingModule) -> None:
    module.generator.add_module("memory", nn.GRU(2, 2))


def averaging(module: AlternatingModule) -> None:
    module.discriminator.body.append(nn.BatchNorm1d(1, momentum=None))


def without_rule(module: AlternatingModule) -> None:
    pair = (module.generator, module.discriminator)
    module.specs = (module.specs[0], Spy("g", 0.1, Log(), pair))


def shared(module: AlternatingModule) -> None:
    module.generator.add_module("theirs", module.discriminator.body[0])


def tied(module: AlternatingModule) -> None:
    module.discriminator.body.append(nn.Linear(6, 6))
    module.discriminator.body.append(nn.Linear(6, 6))
    module.discriminator.body[-1].weight = module.discriminator.body[-2].weight


def hooked(module: AlternatingModule) -> None:
    nn.utils.spectral_norm(module.discriminator.body[0])


def own_alternation(module: AlternatingModule) -> None:
    class TwoSteps(type(module)):
        def update(self, batch, z, noise):
            super().update(batch, z, noise)
            super().update(batch, z, noise)

    module.__class__ = TwoSteps


def own_loss(module: AlternatingModule) -> None:
    class Louder(type(module)):
        def _generator_step(self, real, labels, z):
            super()._generator_step(real, labels, 2 * z)

    module.__class__ = Louder


def own_groups(module: AlternatingModule) -> None:
    class Grouped(type(module)):
        def configure_optimizers(self):
            return super().configure_optimizers()

    module.__class__ = Grouped


OBSTACLES = {
    shared: "two layers share a weight",
    tied: "two layers share a weight",
    hooked: "the hook of spectral_norm",
    own_alternation: "TwoSteps has update of its own",
    own_loss: "Louder has _generator_step of its own",
    own_groups: "Grouped has configure_optimizers of its own",
    dropout: "dropout draws",
    dropout_in_the_generator: "dropout draws",
    parametrized: "a parametrized",
    frozen: "some weights are frozen",
    integers: "a buffer holds integers",
    recurrent: "GRU does not run under vmap",
    averaging: "BatchNorm1d without momentum",
    without_rule: "the optimizer Spy has no update rule",
}


@pytest.mark.parametrize("change", OBSTACLES)
def test_what_cannot_be_stacked(change) -> None:
    module = Trial(tree("gan", optimizer=ADAM), seed=0).module
    assert obstacle(module) is None
    change(module)
    reason = obstacle(module)
    assert reason is not None
    assert OBSTACLES[change] in reason
    with pytest.raises(ValueError, match=f"^cannot be stacked: .*{OBSTACLES[change]}"):
        StackedStep(module)


def test_what_can_be_stacked() -> None:
    """All built-in variants on all built-in networks, but for the maxout ones: they drop units."""
    small = {"generator_width": 4, "discriminator_width": 3}
    networks = {"mlp": {"width": 4}, "dcgan": {"width": 2}, "maxout": {}, "pacgan": small}
    networks["bigan"] = {"width": 4}
    assert set(networks) == set(ARCHITECTURES.names)
    ran = 0
    for variant in VARIANTS.names:
        for name, small in networks.items():
            settings = tree(variant, optimizer=ADAM, network={"name": name, **small})
            reason = obstacle(Trial(settings, seed=0).module)
            assert (reason is None) == (name != "maxout")
            ran += 1
    assert ran == 55


def test_dropout_of_probability_zero_is_none() -> None:
    mlp = {"name": "mlp", "width": 4, "depth": 1}
    for share in (0.0, 0.2):
        module = Trial(
            tree("gan", optimizer=ADAM, network={**mlp, "dropout": share}), seed=0
        ).module
        assert (obstacle(module) is None) == (share == 0)


def test_a_layout_puts_tensors_one_after_another() -> None:
    layout = Layout({"a": torch.empty(2, 2), "b": torch.empty(()), "c": torch.empty(3)})
    assert layout.width == 8
    rows = torch.arange(16.0).view(2, 8)
    views = layout.views(rows)
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        "a": (2, 2, 2),
        "b": (2,),
        "c": (2, 3),
    }
    assert views["a"].tolist() == [[[0, 2], [1, 3]], [[8, 10], [9, 11]]]  # matrices by columns
    assert views["b"].tolist() == [4, 12]
    assert views["c"].tolist() == [[5, 6, 7], [13, 14, 15]]
    one = layout.of(rows[1])
    assert (one["a"].tolist(), one["b"].item()) == ([[8, 10], [9, 11]], 12)
    assert torch.equal(layout.rows(views), rows)
    one["c"][0] = -1.0
    assert rows[1, 5].item() == -1  # the same memory
    assert Layout({}).views(torch.empty(2, 0)) == {}


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, [(0, 4), (4, 5), (5, 8), (8, 14)]),
        (10, [(0, 5), (5, 8), (8, 14)]),  # two replicas: 10 numbers are 5 columns
        (17, [(0, 8), (8, 14)]),
        (28, [(0, 14)]),
    ],
)
def test_neighbours_are_joined_up_to_a_size(most: int, expected: list[tuple[int, int]]) -> None:
    layout = Layout(
        {"a": torch.empty(2, 2), "b": torch.empty(()), "c": torch.empty(3)}
        | {"d": torch.empty(2, 3)}
    )
    rows = torch.arange(28.0).view(2, 14)
    found = list(layout.joined(layout.parts(rows), most))
    assert [(columns.start, columns.stop) for columns, _ in found] == expected
    for columns, joined in found:
        assert torch.equal(joined, rows[:, columns])
        joined.zero_()
    assert rows.sum().item() == sum(range(28))  # they were copies


def test_batchnorms_count_is_no_buffer_that_matters() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert list(buffers_of(net)) == ["1.running_mean", "1.running_var"]
    assert len(list(net.buffers())) == 3


def test_the_scalars_are_the_floats() -> None:
    config = resolved(tree("wgan", optimizer=ADAM, model={"clip": 0.25}))
    assert scalars(config.model.settings) == {"clip": 0.25}
    settings = scalars(config.d_optimizer.settings)
    assert settings == {"lr": 1e-3, "beta1": 0.5, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0}


def test_it_holds_nothing_of_its_example() -> None:
    trial = Trial(tree("gan", optimizer=ADAM, network={"generator_norm": "batch"}), seed=0)
    step = StackedStep(trial.module)
    for plan in (step.generator, step.discriminator):
        tensors: list[Tensor] = [*plan.skeleton.parameters(), *plan.skeleton.buffers()]
        assert tensors
        assert all(tensor.is_meta for tensor in tensors)
    before = {n: v.clone() for n, v in trial.module.state_dict().items()}
    members = dict(
        enumerate(trials([tree("gan", optimizer=ADAM, network={"generator_norm": "batch"})] * 2))
    )
    stack = Stack(step, trial.module, slots=2)
    for slot, member in members.items():
        stack.put(slot, member.module)
    run(stack, members, 2)
    assert all(torch.equal(v, before[n]) for n, v in trial.module.state_dict().items())


@pytest.mark.usefixtures("float64")
def test_a_part_in_eval_mode_stays_in_it() -> None:
    settings = tree("gan", optimizer=ADAM, network={"generator_norm": "batch"})
    alone, *members = trials([settings] * 3)
    for trial in (alone, *members):
        trial.module.generator.body[1].eval()
    stack = stacked(dict(enumerate(members)), slots=2)
    run(stack, dict(enumerate(members)), 2)
    assert alone.alone(2).module.generator.body[1].running_mean.abs().sum() == 0
    assert members[0].module.generator.body[1].running_mean.abs().sum() == 0


def test_all_built_in_optimizers_have_a_rule() -> None:
    specs = [OPTIMIZERS.load(name, at="") for name in OPTIMIZERS.names]
    assert all(cls(cls.Settings()).rule is not None for cls in specs)
    assert len(specs) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("slots", [1, 2])
def test_compiled_it_is_the_same_and_compiled_once(
    slots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    settings = [
        tree("gan", optimizer={**ADAM, "lr": lr}, network={"width": 8, "depth": 1})
        for lr in (1e-3, 2e-3)[:slots]
    ]
    expected = together(trials(settings), 5)
    members = dict(enumerate(trials(settings)))
    stack = stacked(members, slots=slots, compile=True)
    before = counters["stats"]["unique_graphs"]
    run(stack, members, 5)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == before + 2
    for one, other in zip(expected, members.values(), strict=True):
        assert assert_close(one.module, other.module) == 33
    again = dict(enumerate(trials(settings)))
    second = Stack(stack._step, again[0].module, slots=slots)
    for slot, trial in again.items():
        second.put(slot, trial.module)
    run(second, again, 5)
    assert counters["stats"]["unique_graphs"] == graphs
    for one, other in zip(expected, again.values(), strict=True):
        assert assert_close(one.module, other.module) == 33


@pytest.mark.long
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("model", ["wgan", "wgan_gp"])
def test_compiled_it_takes_any_number_of_critic_steps(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As WGAN's, whose critic has 100 of them at first, and again every 500th g_step."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    settings = [
        tree(model, optimizer={**ADAM, "lr": lr}, network={"width": 8, "depth": 1})
        for lr in (1e-3, 2e-3)
    ]
    expected, members = trials(settings), dict(enumerate(trials(settings)))
    eager, stack = (
        stacked(dict(enumerate(expected)), slots=2),
        stacked(members, slots=2, compile=True),
    )
    before = counters["stats"]["unique_graphs"]
    for d_steps in (4, 2, 3):
        eager.step({slot: trial.batch(d_steps) for slot, trial in enumerate(expected)})
        stack.step({slot: trial.batch(d_steps) for slot, trial in members.items()})
    assert counters["stats"]["unique_graphs"] == before + 3
    for one, other in zip(expected, members.values(), strict=True):
        assert assert_close(one.module, other.module) > 20


def test_steps_of_other_optimizers_are_others() -> None:
    adam, sgd = (
        StackedStep(Trial(tree("gan", optimizer=optimizer), seed=0).module)
        for optimizer in (ADAM, {"name": "sgd", "lr": 1e-3})
    )
    assert adam._description() != sgd._description()


SMALL = {"width": 8, "depth": 1}
LATER = {
    "r3gan in pairs": tree("r3gan", optimizer=ADAM, network=SMALL, model={"pac": 2}),
    "dragan": tree("dragan", optimizer=ADAM, network=SMALL),
    "r1gan of classes": tree("r1gan", optimizer=ADAM, network=SMALL, model={"conditional": True}),
    "bigan": tree("bigan", optimizer=ADAM, network=SMALL),
    "hinge, spectral, projection": tree(
        "hinge",
        optimizer=ADAM,
        network={
            **SMALL,
            "discriminator_norm": "spectral",
            "discriminator_condition": "projection",
        },
        model={"conditional": True},
    ),
}
THIRD = ("hinge, spectral, projection", "wgan", "wgan of pictures that lie otherwise")
"""Those with a part that makes samples for several discriminator steps."""


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", LATER)
def test_later_variants_compiled_are_the_same(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    settings = LATER[case]
    expected = together(trials([settings] * 2), 5)
    members = dict(enumerate(trials([settings] * 2)))
    before = counters["stats"]["unique_graphs"]
    run(stacked(members, slots=2, compile=True), members, 5)
    parts = 3 if case in THIRD else 2
    assert counters["stats"]["unique_graphs"] == before + parts  # none ran as it is
    for one, other in zip(expected, members.values(), strict=True):
        assert assert_close(one.module, other.module) > 30


@pytest.mark.parametrize("case", [*LATER, "wgan", "wgan of pictures that lie otherwise"])
def test_it_is_prepared_for_what_it_is_called_with(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compiled looks at no argument again: one of another kind would be misread."""
    prepared: dict[Compiled, str] = {}
    called: dict[Compiled, set[str]] = {}

    def prepare(self: Compiled, arguments: tuple[Any, ...], *, wait: bool) -> bool:
        assert self not in prepared
        prepared[self] = _kind(arguments)
        return True

    def call(self: Compiled, *arguments: Any) -> Any:
        called.setdefault(self, set()).add(_kind(arguments))
        return self._function(self._subject, *arguments)

    monkeypatch.setattr(Compiled, "prepare", prepare)
    monkeypatch.setattr(Compiled, "__call__", call)
    burst = {"burst_first": 1, "burst_n_critic": 3}
    wgans = {
        "wgan": tree("wgan", optimizer=ADAM, model=burst),
        "wgan of pictures that lie otherwise": tree(
            "wgan", optimizer=ADAM, model=burst, network={"name": "own_parts:Turned"}
        ),
    }
    members = dict(enumerate(trials([{**LATER, **wgans}[case]] * 2)))
    run(stacked(members, slots=2, compile=True), members, 3)
    assert len(prepared) == (3 if case in THIRD else 2)
    assert called == {each: {kind} for each, kind in prepared.items()}


@pytest.mark.parametrize("network", [n for n in ARCHITECTURES.names if n != "maxout"])
def test_a_step_of_our_own_networks_can_be_kept(network: str) -> None:
    trial = trials([tree("gan", optimizer=ADAM, network={"name": network})])[0]
    description = StackedStep(trial.module, compile=True)._description()
    assert description
    other = trials([tree("wgan", optimizer=ADAM, network={"name": network})])[0]
    assert StackedStep(other.module, compile=True)._description() != description
