"""The averaged generator, against its closed form."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from .replicas import Trial, assert_close, run, stacked, tree, trials

STEPS = 6


def settings(decay: float) -> dict[str, object]:
    """BatchNorm, so that there are buffers; steps so large that the weights move."""
    return tree(
        "gan",
        optimizer={"name": "sgd", "lr": 0.2},
        network={"depth": 1, "generator_norm": "batch"},
        ema=decay,
    )


def of_generator(trial: Trial) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trial.module.generator.state_dict().items()}


def expected(history: list[dict[str, torch.Tensor]], name: str, decay: float) -> torch.Tensor:
    """e_n = decay^(n-1) x_1 + (1 - decay) sum_{i>1} decay^(n-i) x_i; x_0 plays no part."""
    n = len(history)
    total = decay ** (n - 1) * history[0][name]
    for i, state in enumerate(history[1:], 2):
        total = total + (1 - decay) * decay ** (n - i) * state[name]
    return total


def assert_closed_form(trial: Trial, history: list[dict[str, torch.Tensor]], decay: float) -> None:
    assert trial.module.average is not None
    average = trial.module.average.state_dict()
    ran = 0
    for name, value in average.items():
        if value.is_floating_point():
            closed = expected(history, name, decay)
            torch.testing.assert_close(value, closed, rtol=1e-12, atol=1e-14)
            ran += 1
    assert ran == 4 + 2 + 2  # weights and biases of both layers, of BatchNorm, its statistics


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_closed_form(decay: float) -> None:
    """Parameters and statistics alike; BatchNorm's count is the generator's own."""
    trial, history = Trial(settings(decay), seed=0), []
    for _ in range(STEPS):
        history.append(of_generator(trial.alone(1)))
    moved = history[-1]["body.0.weight"] - history[0]["body.0.weight"]
    assert moved.abs().max() > 1e-4
    assert_closed_form(trial, history, decay)
    assert history[-1]["body.1.num_batches_tracked"] == 2 * STEPS
    assert trial.module.average.body[1].num_batches_tracked == 2 * STEPS


@pytest.mark.usefixtures("float64")
def test_the_closed_form_in_a_stack() -> None:
    """Each row by its own decay and its own count of steps."""
    decays = (0.5, 0.9, 0.999)
    one, late, two = (Trial(settings(decay), seed=i) for i, decay in enumerate(decays))
    members = {0: one, 2: two}
    histories: list[list[dict[str, torch.Tensor]]] = [[], [], []]
    stack = stacked(members, slots=3)
    for turn in range(STEPS):
        if turn == 2:
            members[1] = late
            stack.put(1, late.module)
        run(stack, members, 1)
        for slot, trial in members.items():
            histories[slot].append(of_generator(trial))
    assert [len(history) for history in histories] == [STEPS, STEPS - 2, STEPS]
    for slot, decay in enumerate(decays):
        assert_closed_form(members[slot], histories[slot], decay)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("stack", [False, True])
def test_it_starts_from_the_first_steps_weights(stack: bool) -> None:
    members = dict(enumerate(trials([settings(0.99)] * 2)))
    before = of_generator(members[0])
    if stack:
        run(stacked(members, slots=2), members, 1)
    else:
        members[0].alone(1)
    now = members[0].module.generator.state_dict()
    average = members[0].module.average.state_dict()
    ran = 0
    for name, value in average.items():
        if value.is_floating_point():
            assert torch.equal(value, now[name])
            ran += 1
    assert ran == 8
    assert not torch.equal(average["body.0.weight"], before["body.0.weight"])


@pytest.mark.usefixtures("float64")
def test_the_state_round_trips() -> None:
    one = Trial(settings(0.9), seed=0).alone(3)
    other = Trial(settings(0.9), seed=0).skip(3)
    other.module.load_training_state(deepcopy(one.module.training_state()))
    assert one.module.average is not other.module.average
    assert assert_close(one.alone(2).module, other.alone(2).module, rel=0) > 20
    before = Trial(settings(0.9), seed=0).alone(5)
    assert assert_close(before.module, other.module, rel=0) > 20


def test_it_is_apart_from_the_generator_and_needs_no_gradient() -> None:
    module = Trial(settings(0.9), seed=0).alone(2).module
    assert module.sampled is module.average
    assert module.average is not module.generator
    pairs = list(zip(module.average.parameters(), module.generator.parameters(), strict=True))
    assert len(pairs) == 6
    assert all(a.data_ptr() != b.data_ptr() for a, b in pairs)
    assert not any(a.requires_grad for a, _ in pairs)
    assert all(b.requires_grad for _, b in pairs)
    trained = {id(p) for group in module.g_optimizer.param_groups for p in group["params"]}
    assert trained == {id(b) for _, b in pairs}


def test_it_changes_nothing_in_training() -> None:
    with_it, without = (Trial(settings(decay), seed=0).alone(3).module for decay in (0.9, 0.0))
    for name, value in without.generator.state_dict().items():
        assert torch.equal(value, with_it.generator.state_dict()[name])


def test_there_is_none_without_a_decay() -> None:
    module = Trial(settings(0.0), seed=0).alone(1).module
    assert module.average is None
    assert module.sampled is module.generator
    assert module.training_state()["average"] is None
