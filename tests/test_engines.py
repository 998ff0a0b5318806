"""Which engine a pack gets, and that choosing one leaves no trace."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from records import equal
from trees import small

from gansweep import engines
from gansweep.engines import PACES, Choice, build, choose, count
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.engine import CompiledInTurns, InTurns, Stacked
from gansweep.replica import Common, Job, Replica
from gansweep.tracking.memory import MemoryTracker

CPU = torch.device("cpu")
TRIALS = {
    "plain": ("wgan", "mlp", "ring8", {"ema": {"decay": 0.9}}),
    "batch norm": ("wgan", "mlp", "digits", {"network": {"discriminator_norm": "batch"}}),
    "convolutions": ("dcgan", "dcgan", "digits", {}),
    "dropout": ("gan", "maxout", "digits", {}),
}


def replica(case: str = "plain", /, **sections: Any) -> Replica:
    *names, own = TRIALS[case]
    config = small(*names, **{**own, **sections})
    return Replica(Job(config, MemoryTracker()), Common(config, CPU))


def chosen(one: Replica, **asked: Any) -> Choice:
    options = {"replicas": 4, "g_steps": 1000, "engine": "auto", "compile": "auto", **asked}
    return choose(one.module, one.example_batch(), **options)


# --- as set


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(("engine", "stacked"), [("stacked", True), ("interleaved", False)])
@pytest.mark.parametrize(("compile", "compiled"), [("true", True), ("false", False)])
def test_what_is_set_is_done(
    engine: Any, stacked: bool, compile: Any, compiled: bool, replicas: int
) -> None:
    choice = chosen(replica(), engine=engine, compile=compile, replicas=replicas)
    assert choice == Choice(stacked, compiled, "as set")


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"engine": "stacked"}, "resources.engine: stacked"),
        ({"engine": "stacked", "compile": "true"}, "resources.engine: stacked"),
        ({"compile": "true"}, "trial.compile: true"),
        ({"compile": "true", "engine": "interleaved"}, "trial.compile: true"),
    ],
)
def test_what_is_impossible_is_refused(asked: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} is impossible here: dropout draws"):
        chosen(replica("dropout"), **asked)


@pytest.mark.parametrize("engine", ["auto", "interleaved"])
@pytest.mark.parametrize("compile", ["auto", "false"])
def test_what_cannot_be_stacked_trains_in_turns(engine: Any, compile: Any) -> None:
    choice = chosen(replica("dropout"), engine=engine, compile=compile, g_steps=10**9)
    assert choice == Choice(False, False, "dropout draws from one stream for all replicas")


# --- by the work


def test_a_short_pack_of_small_networks_is_not_compiled() -> None:
    assert not chosen(replica(), g_steps=10).compiled
    assert chosen(replica(), g_steps=10**7).compiled


def test_a_trial_alone_is_no_stack() -> None:
    assert not chosen(replica(), replicas=1, g_steps=10).stacked
    assert not chosen(replica(), replicas=1, g_steps=10**7).stacked


def test_many_small_trials_are_stacked() -> None:
    assert chosen(replica(), replicas=8, g_steps=10).stacked


def test_convolutions_are_not_stacked_on_a_cpu_unless_asked() -> None:
    assert not chosen(replica("convolutions"), replicas=8).stacked
    assert chosen(replica("convolutions"), replicas=8, engine="stacked").stacked


def test_equal_trials_choose_alike() -> None:
    """No clock takes part: all packs of a sweep train in the same way."""
    assert len({chosen(replica(seed=seed)) for seed in range(3)}) == 1


def test_the_cheapest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = 0
    for best in [(s, c) for s in (False, True) for c in (False, True)]:

        def seconds(
            self: Any,
            work: Any,
            *,
            stacked: bool,
            compiled: bool,
            replicas: int,
            best: tuple[bool, bool] = best,
        ) -> float:
            return 0.001 if (stacked, compiled) == best else 1.0

        monkeypatch.setattr(engines.Pace, "seconds", seconds)
        choice = chosen(replica(), g_steps=10**6)
        assert (choice.stacked, choice.compiled) == best
        ran += 1
    assert ran == 4


def test_steps_in_turns_that_another_pack_compiled_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiling takes as long as three trials save by it. A stack's step is for so many rows."""

    def seconds(self: Any, work: Any, *, stacked: bool, compiled: bool, replicas: int) -> float:
        return 9.0 - compiled / 10 if stacked else 2.0 - compiled

    monkeypatch.setattr(engines.Pace, "seconds", seconds)
    monkeypatch.setitem(PACES, "cpu", dataclasses.replace(PACES["cpu"], compile_s=3000.0))
    for replicas, usual in ((1, False), (2, False), (4, True)):
        for compiled in (False, True):
            choice = chosen(replica(), replicas=replicas, g_steps=1000, compiled=compiled)
            assert (choice.stacked, choice.compiled) == (False, usual or compiled)
    there = chosen(replica(), replicas=2, g_steps=1000, compiled=True, engine="stacked")
    assert (there.stacked, there.compiled) == (True, False)


def test_a_longer_batch_is_more_work() -> None:
    one = replica()
    batch = one.example_batch()
    work = count(one.module, batch)
    again = dataclasses.replace(batch, indices=torch.cat([batch.indices, batch.indices]))
    more = count(one.module, again)
    assert work.operations < more.operations < 2 * work.operations
    assert work.flop < more.flop < 2 * work.flop
    assert work.stacked_operations < more.stacked_operations < 2 * work.stacked_operations


def test_the_flop_of_linear_layers_by_hand() -> None:
    """2 N in out for a product; D's step: fake, D on both, and two products back for each."""
    one = replica(model={"name": "wgan", "n_critic": 1, "burst_first": 0, "burst_every": 0})
    batch = one.example_batch()
    assert batch.indices.shape == (1, 6)
    d, g = [(2, 8), (8, 1)], [(4, 8), (8, 2)]
    mm = [2 * 6 * a * b for a, b in d]
    gm = [2 * 6 * a * b for a, b in g]
    forward = sum(gm) + 2 * sum(mm)  # fakes, D(real), D(fake)
    backward = 2 * (sum(mm) + mm[1])  # weights of both layers, and through the second
    g_forward = sum(gm) + sum(mm)
    g_backward = sum(mm) + sum(gm) + gm[1]  # to the inputs of D, then as above
    assert count(one.module, batch).flop == forward + backward + g_forward + g_backward


def test_views_are_no_operations() -> None:
    x = torch.ones(4)
    with engines._Counter() as counter:
        (x.view(2, 2).t() + 1).unsqueeze(0) * 2
    assert counter.operations == 2


def test_paces() -> None:
    work = engines.Work(operations=1000, stacked_operations=2000, flop=10**9)
    pace = PACES["cpu"]

    def seconds(stacked: bool, compiled: bool, replicas: int) -> float:
        return pace.seconds(work, stacked=stacked, compiled=compiled, replicas=replicas)

    assert seconds(False, False, 4) == pytest.approx(1000 * 13e-6 + 1 / 61)
    assert seconds(True, False, 4) == pytest.approx(2000 * 13e-6 * 2.4 / 4 + 1 / 41)
    assert seconds(False, True, 4) == pytest.approx(2000 * 13e-6 * 0.1 + 1 / 95)
    assert seconds(True, True, 4) == pytest.approx(2000 * 13e-6 * 0.1 / 4 + 1 / 80)


def test_a_network_that_raises_is_left_to_its_trial() -> None:
    config = small("gan", "own_parts:Fragile", "ring8", network={"fail_at": 1})
    one = Replica(Job(config, MemoryTracker()), Common(config, CPU))
    choice = chosen(one)
    assert (choice.stacked, choice.compiled) == (False, False)
    assert choice.why == "a probe failed: RuntimeError: the network broke"


# --- without a trace


@pytest.mark.parametrize("case", TRIALS)
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_probe_leaves_all_as_it_was(case: str, replicas: int) -> None:
    """Weights, statistics, optimizers, meters, streams, counts, modes, and the global stream."""
    one = replica(case)
    for _ in range(2):  # with an optimizer that has a state
        one.module.training_step(one.batch(), 0)
    before = frozen(one.module)
    modes = [part.training for part in one.module.modules()]
    torch.manual_seed(7)
    stream = torch.get_rng_state()
    batch = one.example_batch()
    chosen(one, replicas=replicas)
    if case != "dropout":
        count(one.module, batch)
    assert torch.equal(torch.get_rng_state(), stream)
    assert equal(frozen(one.module), before)
    assert [part.training for part in one.module.modules()] == modes
    twin = replica(case)
    for _ in range(2):
        twin.module.training_step(twin.batch(), 0)
    for each in (one, twin):
        each.module.training_step(each.batch(), 0)
    assert equal(frozen(one.module), frozen(twin.module))


def frozen(module: AlternatingModule) -> Any:
    """A copy of all that the next step depends on."""
    import copy

    return copy.deepcopy(module.training_state())


def test_the_probes_data_are_no_part_of_the_order() -> None:
    one, twin = replica(), replica()
    one.example_batch()
    assert torch.equal(one.batch().indices, twin.batch().indices)


# --- building


def test_the_engine_is_the_one_chosen() -> None:
    one = replica()
    kinds = {
        (False, False): InTurns,
        (False, True): CompiledInTurns,
        (True, False): Stacked,
        (True, True): Stacked,
    }
    for (stacked, compiled), kind in kinds.items():
        choice = Choice(stacked, compiled, "as set")
        made = build(choice, one.module, slots=3, shape=one.config.shape)
        assert type(made) is kind
    assert len(kinds) == 4


@pytest.mark.parametrize("compiled", [False, True])
def test_packs_of_a_shape_share_a_step(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with it what was compiled; those of another shape, size or kind do not."""
    made: list[tuple[Any, bool]] = []

    class Step:
        def __init__(self, example: Any, *, compile: bool) -> None:
            made.append((example, compile))

    monkeypatch.setattr(engines, "StackedStep", Step)
    monkeypatch.setattr(engines, "Stack", lambda step, example, slots: slots)
    monkeypatch.setattr(engines, "_steps", {})
    one, twin, other = replica(), replica(seed=3), replica(latent={"dim": 5})
    choice = Choice(True, compiled, "as set")
    for each in (one, twin):
        build(choice, each.module, slots=3, shape=each.config.shape)
    assert made == [(one.module, compiled)]
    build(choice, other.module, slots=3, shape=other.config.shape)
    build(choice, one.module, slots=4, shape=one.config.shape)
    build(Choice(True, not compiled, "as set"), one.module, slots=3, shape=one.config.shape)
    assert len(made) == 4


def test_in_turns_a_compiled_step_does_not_depend_on_the_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "_steps", {})
    one = replica()
    choice = Choice(False, True, "as set")
    for slots in (1, 3, 8):
        build(choice, one.module, slots=slots, shape=one.config.shape)
    assert len(engines._steps) == 1


def test_a_worker_keeps_the_steps_that_it_met_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_steps", {})
    one, choice = replica(), Choice(False, True, "as set")
    shapes = [f"shape {number}" for number in range(engines.MOST_STEPS + 2)]
    for shape in shapes:
        build(choice, one.module, slots=1, shape=shape)
    kept = [key.rpartition(" 1 ")[0] for key, _ in engines._steps]
    assert kept == shapes[2:]


def test_a_stack_has_two_rows_at_least() -> None:
    one = replica()
    made = build(Choice(True, False, "as set"), one.module, slots=1, shape=one.config.shape)
    assert isinstance(made, Stacked)
    assert len(made._stack.modules) == 2


def test_a_choice_is_kept_as_plain_values(tmp_path: Path) -> None:
    choice = Choice(True, False, "a reason")
    assert Choice(**choice.to_dict()) == choice
    torch.save(choice.to_dict(), tmp_path / "x")
    assert torch.load(tmp_path / "x", weights_only=True) == choice.to_dict()
    assert str(choice) == "stacked, eager: a reason"
    assert str(Choice(False, True, "set")) == "in turns, compiled: set"
