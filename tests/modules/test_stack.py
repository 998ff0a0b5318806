"""Replicas in a stack: each trains as it would alone, whoever its neighbours are."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from gansweep.modules.alternating import evaluating
from gansweep.modules.catalogue import VARIANTS
from gansweep.modules.stack import Stack
from gansweep.modules.stacked_step import StackedStep
from gansweep.optimizers import OPTIMIZERS

from .replicas import Trial, assert_close, identical, leaves, run, stacked, together, tree, trials

BATCH_NORM = {"generator_norm": "batch", "discriminator_norm": "batch"}
LAYER_NORM = {"discriminator_norm": "layer"}
SPECTRAL = {"discriminator_norm": "spectral"}
SMALL = {"name": "dcgan", "width": 2}


def pair(
    model: str,
    optimizer: str,
    first: dict[str, Any],
    second: dict[str, Any],
    *,
    settings: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
    network: dict[str, Any] | None = None,
    ema: float = 0.9,
    **both: Any,
) -> list[dict[str, Any]]:
    """Two trials that differ in scalars of the optimizer and of the variant."""
    return [
        tree(
            model,
            optimizer={"name": optimizer, **own},
            model={**both, **of_model},
            network=network if "name" in (network or {}) else {"depth": 1, **(network or {})},
            ema=ema,
        )
        for own, of_model in zip((first, second), settings, strict=True)
    ]


CLIPS = ({"clip": 0.05}, {"clip": 0.1})
# A Linear's bias before BatchNorm has no gradient but rounding, which eps keeps from mattering.
CASES = {
    "gan minimax": pair(
        "gan",
        "sgd",
        {"lr": 0.1, "momentum": 0.5},
        {"lr": 0.03, "momentum": 0.9},
        loss="minimax",
        network={"depth": 2},
    ),
    "gan batch norm": pair(
        "gan",
        "sgd",
        {"lr": 0.02, "weight_decay": 0.01},
        {"lr": 0.01, "weight_decay": 0.1},
        network=BATCH_NORM,
    ),
    "wgan before, layer norm": pair(
        "wgan",
        "rmsprop",
        {"lr": 1e-3},
        {"lr": 5e-4, "alpha": 0.9},
        settings=CLIPS,
        network=LAYER_NORM,
    ),
    "wgan before, batch norm spared": pair(
        "wgan",
        "rmsprop",
        {"lr": 1e-5, "momentum": 0.5, "weight_decay": 0.01, "eps": 1e-3},
        {"lr": 3e-5, "momentum": 0.3, "weight_decay": 0.02, "eps": 1e-3},
        settings=CLIPS,
        clip_normalisation=False,
        network=BATCH_NORM,
    ),
    "wgan after": pair(
        "wgan",
        "sgd",
        {"lr": 0.1},
        {"lr": 0.3},
        settings=CLIPS,
        clip_timing="after",
        network=LAYER_NORM,
    ),
    "wgan after, layer norm spared": pair(
        "wgan",
        "adam",
        {"lr": 1e-3},
        {"lr": 5e-4, "beta1": 0.0},
        settings=CLIPS,
        clip_timing="after",
        clip_normalisation=False,
        network=LAYER_NORM,
    ),
    "wgan_gp": pair(
        "wgan_gp",
        "adam",
        {"lr": 1e-3, "beta1": 0.0},
        {"lr": 2e-3, "beta2": 0.9},
        settings=({"penalty_weight": 1.0}, {"penalty_weight": 10.0}),
    ),
    "wgan_gp layer norm": pair(
        "wgan_gp",
        "adamw",
        {"lr": 1e-3, "weight_decay": 0.1},
        {"lr": 5e-4, "weight_decay": 0.01, "eps": 1e-6},
        settings=({"penalty_weight": 2.0}, {"penalty_weight": 5.0}),
        network=LAYER_NORM,
    ),
    "cgan": pair(
        "cgan",
        "adam",
        {"lr": 1e-3, "eps": 1e-5},
        {"lr": 5e-4, "beta1": 0.0, "eps": 1e-4},
        network=BATCH_NORM,
    ),
    "lsgan": pair(
        "lsgan",
        "adam",
        {"lr": 1e-3},
        {"lr": 5e-4},
        settings=({}, {"fake_label": -1.0, "target": 0.0}),
    ),
    "hinge, spectral norm": pair(
        "hinge",
        "adam",
        {"lr": 1e-3, "beta1": 0.0},
        {"lr": 5e-4, "beta2": 0.9},
        network=SPECTRAL,
    ),
    "hinge, projection": pair(
        "hinge",
        "sgd",
        {"lr": 0.1},
        {"lr": 0.05},
        conditional=True,
        network={**SPECTRAL, "discriminator_condition": "projection"},
    ),
    "wgan_gp, spectral norm": pair(
        "wgan_gp", "adam", {"lr": 1e-3}, {"lr": 5e-4, "beta2": 0.9}, network=SPECTRAL
    ),
    "wgan_gp of classes": pair(
        "wgan_gp", "adam", {"lr": 1e-3}, {"lr": 5e-4, "beta2": 0.9}, conditional=True
    ),
    "dragan": pair(
        "dragan",
        "adam",
        {"lr": 1e-3},
        {"lr": 5e-4, "beta1": 0.0},
        settings=({"radius": 0.5}, {"penalty_weight": 1.0, "radius": 1.0}),
    ),
    "r1gan": pair(
        "r1gan", "sgd", {"lr": 0.1}, {"lr": 0.05}, settings=({"gamma": 10.0}, {"gamma": 0.1})
    ),
    "r3gan": pair(
        "r3gan", "adam", {"lr": 1e-3}, {"lr": 5e-4}, settings=({"gamma": 1.0}, {"gamma": 0.0})
    ),
    "r3gan in pairs, layer norm": pair(
        "r3gan", "adam", {"lr": 1e-3}, {"lr": 5e-4}, pac=2, network=LAYER_NORM
    ),
    "gan in threes": pair("gan", "sgd", {"lr": 0.1}, {"lr": 0.05}, pac=3),
    "bigan": pair("bigan", "adam", {"lr": 1e-3, "weight_decay": 0.1}, {"lr": 5e-4}),
    "bigan in pairs, batch norm": pair(
        "bigan", "sgd", {"lr": 0.1}, {"lr": 0.05}, pac=2, network=BATCH_NORM
    ),
    "bigan, its own networks": [
        tree(
            "bigan",
            optimizer={"name": "rmsprop", "lr": lr, "eps": 1e-3},
            network={"name": "bigan", "width": 6},
        )
        for lr in (1e-4, 2e-4)
    ],
    "dcgan on an mlp": pair(
        "dcgan",
        "adam",
        {"lr": 1e-3, "weight_decay": 0.1},
        {"lr": 5e-4, "beta1": 0.9, "weight_decay": 0.01},
        ema=0.0,
    ),
}
CONVOLUTIONS = {
    "dcgan": [
        tree("dcgan", optimizer={"name": "adam", "lr": lr}, network=SMALL) for lr in (1e-3, 2e-4)
    ],
    "wgan_gp group norm": [
        tree(
            "wgan_gp",
            optimizer={"name": "adam", "lr": lr},
            network={"name": "dcgan", "width": 2, "discriminator_norm": "layer"},
        )
        for lr in (1e-3, 2e-4)
    ],
    "hinge projection": [
        tree(
            "hinge",
            optimizer={"name": "adam", "lr": lr},
            model={"conditional": True},
            network={**SMALL, **SPECTRAL, "discriminator_condition": "projection"},
        )
        for lr in (1e-3, 2e-4)
    ],
    "bigan": [
        tree("bigan", optimizer={"name": "adam", "lr": lr}, network=SMALL) for lr in (1e-3, 2e-4)
    ],
}


def compared(settings: list[dict[str, Any]], steps: int) -> int:
    """How many tensors of each trial are the same, trained alone and in a stack."""
    alone = [trial.alone(steps) for trial in trials(settings)]
    stack = together(trials(settings), steps)
    assert all(trial.module.g_step == steps for trial in alone)
    (tensors,) = {assert_close(a.module, b.module) for a, b in zip(alone, stack, strict=True)}
    return tensors


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_each_trains_as_alone(case: str) -> None:
    """Weights, buffers, average, optimizers' state, meters, counts and generators alike."""
    tensors = {
        "gan minimax": 3 * 6 + 12 + 5,
        "gan batch norm": 3 * 8 + 12 + 5,
        "wgan before, layer norm": 2 * 4 + 6 + 10 + 5,
        "wgan before, batch norm spared": 2 * 8 + 8 + 2 * 12 + 5,
        "wgan after": 2 * 4 + 6 + 5,
        "wgan after, layer norm spared": 2 * 4 + 6 + 2 * 10 + 5,
        "wgan_gp": 3 * 4 + 2 * 8 + 6,
        "wgan_gp layer norm": 2 * 4 + 6 + 2 * 10 + 6,
        "cgan": 3 * 8 + 2 * 12 + 5,
        "lsgan": 3 * 4 + 2 * 8 + 5,
        "hinge, spectral norm": 3 * 4 + 2 + 2 * 8 + 5,
        "hinge, projection": 3 * 4 + 1 + 3 + 5,
        "wgan_gp, spectral norm": 3 * 4 + 2 + 2 * 8 + 6,
        "wgan_gp of classes": 3 * 4 + 2 * 8 + 6,
        "dragan": 3 * 4 + 2 * 8 + 6,
        "r1gan": 3 * 4 + 6,
        "r3gan": 3 * 4 + 2 * 8 + 6,
        "r3gan in pairs, layer norm": 2 * 4 + 6 + 2 * 10 + 6,
        "gan in threes": 3 * 4 + 8 + 5,
        "bigan": 2 * 8 + 4 + 2 * (8 + 4) + 5,
        "bigan in pairs, batch norm": 2 * 16 + 8 + 5,
        "bigan, its own networks": 2 * 13 + 6 + 11 + 5,
        "dcgan on an mlp": 2 * 4 + 2 * 8 + 5,
    }
    assert compared(CASES[case], 50) == tensors[case]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_each_trains_as_alone_with_convolutions(case: str) -> None:
    tensors = {"dcgan": 31, "wgan_gp group norm": 32, "hinge projection": 43, "bigan": 39}
    assert compared(CONVOLUTIONS[case], 10) == tensors[case]


OWN = {
    assigned: pair(
        "gan",
        "adam",
        {"lr": 1e-3, "eps": 1e-4},
        {"lr": 5e-4, "eps": 1e-4},
        network={"name": "own_parts:Running", "assigned": assigned},
    )
    for assigned in (False, True)
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("assigned", OWN)
def test_each_trains_as_alone_with_buffers_of_its_own(assigned: bool) -> None:
    """Those that no state_dict holds, written to in place or replaced."""
    assert compared(OWN[assigned], 20) == 3 * (4 + 1) + 2 * 8 + 5


@pytest.mark.usefixtures("float64")
def test_buffers_of_its_own_go_on_alone() -> None:
    (one, _), steps = OWN[True], 3
    members = dict(enumerate(trials([one] * 2)))
    run(stacked(members, slots=2), members, steps)
    for slot, trial in members.items():
        expected = Trial(one, seed=slot).alone(2 * steps)
        fresh = Trial(one, seed=slot).skip(steps)
        fresh.module.load_training_state(trial.module.training_state())
        assert assert_close(expected.module, fresh.alone(steps).module) > 20


@pytest.mark.parametrize(
    ("model", "network"), [("gan", {"name": "pacgan"}), ("wgan_gp", {"depth": 1, **LAYER_NORM})]
)
def test_normalisation_of_bfloat16(model: str, network: dict[str, Any]) -> None:
    """After a layer without bias, and under a penalty: losses of a trial alone, but for roundings.

    Those are to 8 bits.
    """
    one = tree(model, optimizer={"name": "sgd", "lr": 1e-3}, network=network)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        alone = [trial.alone(2) for trial in trials([one] * 2)]
        stack = together(trials([one] * 2), 2)
    for by_itself, member in zip(alone, stack, strict=True):
        expected, found = by_itself.module.read_meters(), member.module.read_meters()
        assert {"loss/d", "loss/g"} < expected.keys() == found.keys()
        for name in ("loss/d", "loss/g"):
            assert found[name] == pytest.approx(expected[name], rel=2e-2), name


def test_every_variant_and_optimizer_has_a_case() -> None:
    assert {one["model"]["name"] for case in CASES.values() for one in case} == set(VARIANTS.names)
    chosen = {one["optimizer"]["name"] for case in CASES.values() for one in case}
    assert chosen == set(OPTIMIZERS.names)


# In multiples of two vectors of the processor (AVX-512), so that each number of a row is computed
# by the same instructions wherever the row lies; other sizes agree to rounding, as float64 shows.
EVEN: dict[str, Any] = {
    "latent": {"dim": 16},
    "data": {"name": "digits", "batch_size": 32},
}
SHARED = {
    "gan": (tree("gan", optimizer={"name": "adam", "lr": 1e-3}, **EVEN), BATCH_NORM),
    "wgan": (tree("wgan", optimizer={"name": "rmsprop", "lr": 1e-3}, **EVEN), LAYER_NORM),
    "wgan_gp": (tree("wgan_gp", optimizer={"name": "adam", "lr": 1e-3}, **EVEN), {}),
    "cgan": (tree("cgan", optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.5}, **EVEN), {}),
}


def with_neighbours(one: dict[str, Any], slots: int, slot: int, lr: float) -> Trial:
    """The trial `one` after 8 steps in `slot`, its neighbours at rate `lr`; ended if it is wild."""
    other = {**one, "optimizer": {**one["optimizer"], "lr": lr}}
    members = {
        k: Trial(one, seed=7) if k == slot else Trial(other, seed=20 + k + slots)
        for k in range(slots)
    }
    run(stacked(members, slots=slots), members, 8)
    calm = [weights_are_finite(members[k]) for k in members if k != slot]
    assert calm == [lr < 1] * (slots - 1)
    return members[slot]


def weights_are_finite(trial: Trial) -> bool:
    networks = (trial.module.discriminator, trial.module.generator)
    return all(p.isfinite().all() for network in networks for p in network.parameters())


@pytest.mark.parametrize("name", SHARED)
def test_neighbours_slot_and_number_change_no_bit(name: str) -> None:
    settings, norm = SHARED[name]
    one = {**settings, "network": {"name": "mlp", "width": 32, "depth": 1, **norm}}
    first = with_neighbours(one, 2, 0, 1e-3).module
    assert not identical(first, Trial(one, seed=7).module)
    ran = 0
    for slots, slot, lr in ((2, 0, 2e-3), (2, 1, 1e-3), (3, 2, 1e-3), (8, 5, 1e-3)):
        assert identical(with_neighbours(one, slots, slot, lr).module, first), (slots, slot)
        ran += 1
    assert ran == 4


@pytest.mark.parametrize("name", ["gan", "wgan_gp", "cgan"])
def test_a_neighbour_that_diverges_changes_no_bit(name: str) -> None:
    """At odd sizes too: the slot stays the same."""
    one = tree(
        name, optimizer={"name": "sgd", "lr": 0.01}, network=BATCH_NORM if name == "gan" else {}
    )
    calm, wild = (with_neighbours(one, 3, 1, lr) for lr in (1e-2, 1e30))
    assert weights_are_finite(wild)
    assert identical(calm.module, wild.module)


def wgan(*, generator_norm: str = "batch", **settings: Any) -> dict[str, Any]:
    return tree(
        "wgan",
        optimizer={"name": "adam", "lr": 1e-3, "beta1": 0.0, "eps": 1e-4},
        model={"clip": 0.1, **settings},
        network={**BATCH_NORM, "depth": 1, "generator_norm": generator_norm},
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("norm", "tensors"), [("batch", 3 * 8 + 2 * 12), ("none", 2 * 4 + 8 + 20)])
def test_bursts_of_some(
    conditional: bool, norm: str, tensors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 critic steps at the first generator step of one, 2 of the others, which are beyond it.

    A generator without BatchNorm makes the samples of 2 steps at once, whatever is left of the 7.
    """
    burst = wgan(burst_n_critic=7, burst_first=1, conditional=conditional, generator_norm=norm)
    at_once: list[list[int]] = []
    generated = StackedStep._generated

    def noted(step: StackedStep, g: Any, labels: Any, z: torch.Tensor) -> Any:
        at_once.append([len(z), 0 if labels is None else labels.shape[1]])
        return generated(step, g, labels, z)

    monkeypatch.setattr(StackedStep, "_generated", noted)
    before = (2, 0, 3)
    alone = [t.alone(k + 3) for t, k in zip(trials([burst] * 3), before, strict=True)]
    members = [t.alone(k) for t, k in zip(trials([burst] * 3), before, strict=True)]
    for trial in members:
        trial.module.read_meters()
    together(members, 3)
    own = []
    for one, other, k in zip(alone, members, before, strict=True):
        other.module.gather_meters()
        meters = {
            n: torch.cat([v.reshape(-1) for v in vs]) for n, vs in other.module.meters.items()
        }
        counts = {name: len(values) for name, values in meters.items()}
        d_steps = 11 if k == 0 else 6
        assert counts.pop("loss/g") == 3
        assert set(counts.values()) == {d_steps}
        for name, values in meters.items():
            expected = torch.stack(one.module.meters[name][-len(values) :])
            torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)
        own.append(d_steps)
        one.module.meters.clear()
        other.module.meters.clear()
        assert assert_close(one.module, other.module) == tensors
    assert own == [6, 11, 6]
    labels = 2 * alone[0].size if conditional else 0
    assert at_once == ([] if norm == "batch" else [[2, labels]] * (4 + 1 + 1))


@pytest.mark.usefixtures("float64")
def test_penalties_of_late_joiners_have_their_own_noise() -> None:
    """Batches of 1, 4 and 2 discriminator steps, which a user's own variant may want."""
    gp = tree("wgan_gp", optimizer={"name": "adam", "lr": 1e-3}, network={"depth": 1})
    numbers = (1, 4, 2)
    alone = [t.alone(3, k) for t, k in zip(trials([gp] * 3), numbers, strict=True)]
    members = dict(enumerate(trials([gp] * 3)))
    stack = stacked(members, slots=3)
    for _ in range(3):
        stack.step({slot: members[slot].batch(k) for slot, k in enumerate(numbers)})
    for one, other in zip(alone, members.values(), strict=True):
        assert assert_close(one.module, other.module) == 34
    assert [trial.module.d_step for trial in alone] == [3, 12, 6]


ADAM = {"name": "adam", "lr": 1e-3, "eps": 1e-5}
STATEFUL = {
    "adam": tree("cgan", optimizer=ADAM, network=BATCH_NORM),
    "sgd": tree("gan", optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.5}),
    "rmsprop": tree("wgan", optimizer={"name": "rmsprop", "lr": 1e-3, "momentum": 0.5}),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", STATEFUL)
def test_a_slot_is_refilled(name: str) -> None:
    """At once, or after steps with the slot empty."""
    one = STATEFUL[name]
    a, b, c, later = (Trial(one, seed=seed) for seed in range(4))
    members = {0: a, 1: b, 2: c}
    stack = stacked(members, slots=3)
    run(stack, members, 4)
    stack.drop(1)
    assert assert_close(Trial(one, seed=1).alone(4).module, b.module) > 20
    run(stack, {0: a, 2: c}, 2)
    stack.put(1, later.module)
    run(stack, {0: a, 1: later, 2: c}, 3)
    stack.drop(0)
    other = Trial(one, seed=5).alone(2)
    stack.put(0, other.module)
    run(stack, {0: other, 1: later, 2: c}, 2)
    ran = 0
    for trial, seed, steps in ((later, 3, 5), (c, 2, 11), (other, 5, 4)):
        expected = Trial(one, seed=seed).alone(steps)
        assert trial.module.g_step == steps
        assert assert_close(expected.module, trial.module) > 20
        ran += 1
    assert ran == 3


def test_a_refill_changes_no_bit_of_the_neighbours() -> None:
    one = STATEFUL["adam"]
    kept = dict(enumerate(Trial(one, seed=seed) for seed in range(3)))
    run(stacked(kept, slots=3), kept, 7)
    members = dict(enumerate(Trial(one, seed=seed) for seed in range(3)))
    stack = stacked(members, slots=3)
    run(stack, members, 3)
    stack.drop(1)
    del members[1]
    run(stack, members, 1)
    members[1] = Trial(one, seed=9)
    stack.put(1, members[1].module)
    run(stack, members, 3)
    assert identical(members[0].module, kept[0].module)
    assert identical(members[2].module, kept[2].module)
    assert not identical(members[1].module, kept[1].module)


def test_values_that_nobody_reads_are_kept_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they take a thousand bytes each, up to the next reading; their mean is the same."""

    def meters() -> tuple[list[int], list[dict[str, float]]]:
        members = dict(enumerate(trials([wgan()] * 3)))
        stack = stacked({slot: members[slot] for slot in (0, 1)}, slots=2)
        run(stack, {0: members[0], 1: members[1]}, 9)
        kept = [len(values) for values in stack._metrics.values()]
        run(stack, {0: members[0]}, 9)  # one rests
        modules = [members[0].module, members[2].alone(18).module]
        kept += [len(values) for module in modules for values in module.meters.values()]
        return kept, [module.read_meters() for module in modules]

    kept, means = meters()
    assert max(kept) == 36
    monkeypatch.setattr("gansweep.modules.alternating.MOST_VALUES", 6)
    monkeypatch.setattr("gansweep.modules.stack.MOST_VALUES", 6, raising=False)
    kept, again = meters()
    assert max(kept) < 6
    assert again == means


def test_a_module_without_a_batch_rests() -> None:
    one = wgan()
    members = dict(enumerate(trials([one] * 3)))
    stack = stacked(members, slots=3)
    run(stack, members, 2)
    before = dict(leaves(members[1].module.training_state()))
    before = {n: v.clone() if torch.is_tensor(v) else v for n, v in before.items()}
    run(stack, {0: members[0], 2: members[2]}, 3)
    after = dict(leaves(members[1].module.training_state()))
    assert all(
        torch.equal(v, after[n]) if torch.is_tensor(v) else v == after[n] for n, v in before.items()
    )
    run(stack, members, 2)
    expected = dict(enumerate(trials([one] * 3)))
    run(stacked(expected, slots=3), expected, 4)
    assert identical(members[1].module, expected[1].module)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("slots", [1, 3])
def test_a_checkpoint_of_a_replica_goes_on_alone(name: str, slots: int) -> None:
    one = STATEFUL[name]
    members = dict(enumerate(trials([one] * slots)))
    stack = stacked(members, slots=slots)
    run(stack, members, 4)
    states = {slot: trial.module.training_state() for slot, trial in members.items()}
    run(stack, members, 3)  # what was taken is not changed by it
    ran = 0
    for slot, state in states.items():
        expected = Trial(one, seed=slot).alone(7)
        fresh = Trial(one, seed=slot).skip(4)
        for tensor in fresh.module.generator.parameters():
            tensor.data.fill_(7.0)
        fresh.module.load_training_state(state)
        assert assert_close(expected.module, fresh.alone(3).module) > 20
        ran += 1
    assert ran == slots


@pytest.mark.usefixtures("float64")
def test_convolutions_of_a_stack_go_on_alone() -> None:
    """Alone they lie in channels-last order, and so must what Adam keeps of them: fused, it does
    not look which number belongs to which."""
    settings = CONVOLUTIONS["dcgan"]
    members = dict(enumerate(trials(settings)))
    run(stacked(members, slots=2), members, 3)
    for slot, trial in members.items():
        expected = Trial(settings[slot], seed=slot).alone(6)
        fresh = Trial(settings[slot], seed=slot).skip(3)
        fresh.module.load_training_state(trial.module.training_state())
        assert assert_close(expected.module, fresh.alone(3).module) > 20


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", STATEFUL)
def test_a_checkpoint_of_a_trial_goes_on_in_a_stack(name: str) -> None:
    one = STATEFUL[name]
    state = Trial(one, seed=1).alone(4).module.training_state()
    fresh = Trial(one, seed=1).skip(4)
    fresh.module.load_training_state(state)
    members = {0: Trial(one, seed=0), 1: fresh}
    run(stacked(members, slots=2), members, 3)
    assert assert_close(Trial(one, seed=1).alone(7).module, fresh.module) > 20


def test_a_checkpoint_is_as_large_as_a_trial() -> None:
    members = dict(enumerate(trials([STATEFUL["adam"]] * 8)))
    run(stacked(members, slots=8), members, 2)
    alone = dict(leaves(Trial(STATEFUL["adam"], seed=0).alone(2).module.training_state()))
    state = dict(leaves(members[3].module.training_state()))
    assert state.keys() == alone.keys()
    sizes = {
        name: (value.untyped_storage().nbytes(), value.nbytes)
        for name, value in state.items()
        if torch.is_tensor(value)
    }
    assert len(sizes) > 60
    assert all(stored == own for stored, own in sizes.values())
    assert sum(own for _, own in sizes.values()) == sum(
        value.nbytes for value in alone.values() if torch.is_tensor(value)
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_samples_are_of_the_rows_weights(ema: float) -> None:
    one = tree("gan", optimizer=ADAM, network=BATCH_NORM, ema=ema)
    members = dict(enumerate(trials([one] * 2)))
    stack = stacked(members, slots=2)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    pictures = []
    for steps in (3, 6):
        run(stack, members, 3)
        for slot, trial in members.items():
            expected = Trial(one, seed=slot).alone(steps).module
            assert (trial.module.sampled is trial.module.generator) == (ema == 0)
            with evaluating(expected.sampled) as theirs, evaluating(trial.module.sampled) as ours:
                torch.testing.assert_close(ours(z), theirs(z), rtol=1e-9, atol=1e-12)
                pictures.append(ours(z))
    assert len(pictures) == 4
    assert not any(torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i])


@pytest.mark.usefixtures("float64")
def test_new_hyperparameters_of_one() -> None:
    def changed(trial: Trial) -> None:
        module = trial.module
        d, g = (
            type(spec)(dataclasses.replace(spec.settings, lr=lr, beta2=0.9))
            for spec, lr in zip(module.specs, (3e-3, 2e-3), strict=True)
        )
        module.set_hyperparameters(dataclasses.replace(module.settings, clip=0.03), (d, g))

    alone = trials([wgan()] * 2)
    members = dict(enumerate(trials([wgan()] * 2)))
    stack = stacked(members, slots=2)
    for trial in alone:
        trial.alone(3)
    run(stack, members, 3)
    unchanged = dict(enumerate(trials([wgan()] * 2)))
    run(stacked(unchanged, slots=2), unchanged, 6)
    changed(alone[1])
    changed(members[1])
    stack.put(1, members[1].module)
    for trial in alone:
        trial.alone(3)
    run(stack, members, 3)
    for one, other in zip(alone, members.values(), strict=True):
        assert assert_close(one.module, other.module) == 3 * 8 + 2 * 12 + 5
    assert identical(members[0].module, unchanged[0].module)
    assert not identical(members[1].module, unchanged[1].module)
    assert members[1].module.d_optimizer.param_groups[0]["lr"] == 3e-3


@pytest.mark.usefixtures("float64")
def test_a_replica_taken_out_trains_on_alone() -> None:
    """Its optimizers are torch's, on its own rows."""
    members = dict(enumerate(trials([STATEFUL["adam"]] * 2)))
    stack = stacked(members, slots=2)
    run(stack, members, 3)
    stack.drop(1)
    members[1].alone(2)
    expected = Trial(STATEFUL["adam"], seed=1).alone(5)
    assert assert_close(expected.module, members[1].module) > 20


@pytest.mark.usefixtures("float64")
def test_a_stack_of_one() -> None:
    (member,) = together(trials([STATEFUL["rmsprop"]]), 5)
    assert assert_close(Trial(STATEFUL["rmsprop"], seed=0).alone(5).module, member.module) > 20


def test_stacks_of_a_shape_share_a_step() -> None:
    """Nothing of a replica is in the step: two stacks in turns are as each by itself."""
    one = STATEFUL["sgd"]
    shared = StackedStep(Trial(one, seed=11).module)
    pairs = [[Trial(one, seed=seed) for seed in seeds] for seeds in ((0, 1), (2, 3))]
    stacks = [Stack(shared, pair[0].module, slots=2) for pair in pairs]
    for stack, two in zip(stacks, pairs, strict=True):
        for slot, trial in enumerate(two):
            stack.put(slot, trial.module)
    for _ in range(4):
        for stack, two in zip(stacks, pairs, strict=True):
            run(stack, dict(enumerate(two)), 1)
    expected = together([Trial(one, seed=2), Trial(one, seed=3)], 4)
    for one_trial, other in zip(expected, pairs[1], strict=True):
        assert identical(one_trial.module, other.module)
