"""The alternation: who steps when, and what each step may touch."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from records import equal
from torch import nn

from gansweep.data.base import Samples
from gansweep.data.batch import Batch
from gansweep.data.stream import BatchOrder
from gansweep.modules.alternating import evaluating, load_network_state, network_state
from gansweep.modules.catalogue import VARIANTS
from gansweep.modules.wgan import WGAN, WGANSettings
from gansweep.seeding import stream

from .game import (
    BATCH,
    CLASSES,
    FEATURES,
    LATENT,
    Log,
    Net,
    batches,
    fit,
    make,
    nets,
    nets_for,
)
from .replicas import Trial, identical, leaves, tree

NAMES = VARIANTS.names
OF_LABELS = [name for name in NAMES if not VARIANTS.load(name, at="").encodes]
JUDGED_BY_G = {"r3gan": 2, "bigan": 2}
"""Passes of D in a generator step, where they are not one: D(x) as well as D(G(z))."""


def same(a, b) -> bool:
    return all(
        (x is None and y is None) or (x is not None and y is not None and torch.equal(x, y))
        for x, y in zip(a, b, strict=True)
    )


def played(name, steps, **settings):
    settings.setdefault("conditional", name == "cgan")
    pair = nets_for(name, classes=CLASSES if settings["conditional"] else 0)
    log = Log()
    module = make(name, pair, log=log, **settings)
    fit(module, batches(steps))
    return module, log, pair


@pytest.mark.parametrize("name", NAMES)
def test_n_critic_discriminator_steps_then_one_generator_step(name):
    steps = [3, 3, 1, 5]
    module, log, _ = played(name, steps)
    assert log.events == [e for k in steps for e in ["d"] * k + ["g"]]
    assert (module.g_step, module.d_step) == (4, 12)
    assert module.images_seen == 12 * BATCH


def test_the_generator_waits_for_all_critic_steps_of_the_first_iteration():
    """Popular loops test `i % n_critic == 0`, which is true after one critic step at i = 0."""
    _, log, (G, _) = played("wgan", [5])
    first = [p.detach() for p in nets()[0].parameters()]
    assert log.events == ["d"] * 5 + ["g"]
    for weights_of_g, _ in log.weights[:5]:
        assert same(weights_of_g, first)
    assert not same(log.weights[5][0], first)
    assert same(log.weights[5][0], list(G.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_touches_its_own_network_alone(name):
    """Weights and gradients of the other player stay as its own last step left them."""
    _, log, _ = played(name, [2, 2, 2])
    ran = 0
    for i in range(1, len(log.events)):
        mine, other = (1, 0) if log.events[i] == "d" else (0, 1)
        if not (name == "wgan" and other == 1):  # the clip may have moved D since its step
            assert same(log.weights[i][other], log.weights[i - 1][other])
        assert same(log.gradients[i][other], log.gradients[i - 1][other])
        assert not same(log.weights[i][mine], log.weights[i - 1][mine])
        ran += 1
    assert ran == 8
    assert log.gradients[0][0] == [None] * len(log.weights[0][0])  # no D step leaves gradients in G


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_the_networks_own_rate_times_its_gradient(name):
    """That gradients do not accumulate is shown by the trajectories in test_variants."""
    settings = {"clip": 1e3} if name == "wgan" else {}
    _, log, _ = played(name, [2, 2], **settings)
    ran = 0
    for i in range(1, len(log.events)):
        mine, lr = (1, 0.05) if log.events[i] == "d" else (0, 0.07)
        moved = zip(log.weights[i][mine], log.weights[i - 1][mine], strict=True)
        for (new, old), gradient in zip(moved, log.gradients[i][mine], strict=True):
            torch.testing.assert_close(new, old - lr * gradient, rtol=0, atol=1e-14)
            ran += 1
    assert ran == 3 * 4 + 2 * (8 if name == "bigan" else 4)


@pytest.mark.parametrize("name", NAMES)
def test_fakes_are_detached_in_a_discriminator_step(name):
    _, _, (_, D) = played(name, [2, 3])
    carry = [carries for _, _, carries in D.seen]
    last = {"r3gan": [False, True], "bigan": [True, True]}.get(name, [True])  # E is in D(x, E(x))
    one = {k: [False] * (2 * k) + last for k in (2, 3)}  # D(real), D(fake), ...
    assert carry == one[2] + one[3]


@pytest.mark.parametrize("name", NAMES)
def test_z_is_fresh_for_every_step(name):
    steps = [1, 4, 2]
    _, _, (G, _) = played(name, steps)
    z = torch.cat([x for x, _, _ in G.seen])
    assert len(G.seen) == sum(steps) + len(steps)
    assert z.shape == ((7 + 3) * BATCH, LATENT)
    assert len(z.unique(dim=0)) == len(z)


def test_every_real_batch_is_used_once_in_order():
    data = batches([2, 3])
    pair = nets()
    fit(make("gan", pair), data)
    reals = [x for i, (x, _, _) in enumerate(pair[1].seen) if i in (0, 2, 5, 7, 9)]
    assert torch.equal(torch.stack(reals), torch.cat([batch.x for batch in data]))


@pytest.mark.parametrize("name", OF_LABELS)
def test_labels_reach_both_networks(name):
    data, pair = batches([2, 3]), nets(classes=CLASSES)
    fit(make(name, pair, conditional=True), data)
    G, D = pair
    of_g, of_d = [], []
    for batch in data:
        ys = [batch.labels(i) for i in range(batch.steps)]
        of_g += [*ys, ys[-1]]
        of_d += [y for y in ys for _ in "rf"] + [ys[-1]] * JUDGED_BY_G.get(name, 1)
    assert same([y for _, y, _ in G.seen], of_g)
    assert same([y for _, y, _ in D.seen], of_d)


@pytest.mark.parametrize("name", NAMES)
def test_an_unconditional_model_is_given_no_labels(name):
    pair = nets_for(name)
    fit(make(name, pair, conditional=False), batches([2]))
    assert len(pair[0].seen) == 3
    assert len(pair[1].seen) == 4 + JUDGED_BY_G.get(name, 1)
    assert all(y is None for net in pair for _, y, _ in net.seen)


def test_only_the_seed_decides():
    def final(seed: int, ambient: int = 0):
        pair = nets()
        torch.manual_seed(ambient)  # the global generator plays no part
        module = make("wgan_gp", pair, seed=seed)
        fit(module, batches([2, 2]))
        return [p.detach() for net in pair for p in net.parameters()], module.read_meters()

    assert same(final(1)[0], final(1, ambient=7)[0])
    assert final(1)[1] == final(1, ambient=7)[1]
    assert not same(final(1)[0], final(2)[0])


def test_meters_are_means_since_the_last_reading():
    module, _, _ = played("gan", [2, 2])
    counts = {name: len(values) for name, values in module.meters.items()}
    assert counts == {"loss/d": 4, "d/real": 4, "d/fake": 4, "d/accuracy": 4, "loss/g": 2}
    expected = {n: sum(v.item() for v in vs) / len(vs) for n, vs in module.meters.items()}
    assert module.read_meters() == pytest.approx(expected, rel=1e-6)
    assert module.read_meters() == {}
    assert not any(v.requires_grad for vs in module.meters.values() for v in vs)


def test_the_clock_is_not_lightnings():
    """Raw torch optimizers: Lightning's global_step counts nothing here."""
    module, _, _ = played("wgan", [5, 5])
    assert module.g_step == 2
    assert module.trainer.global_step == 0


def test_real_batches_feed_a_burst():
    """Counted on the optimizers: a batch of 7 critic steps while g_step < 2 and at 4, else 3."""
    settings = {"n_critic": 3, "burst_n_critic": 7, "burst_first": 2, "burst_every": 4}
    log, pair = Log(), nets()
    module = make("wgan", pair, log=log, **settings)
    samples = Samples(torch.randn(20, FEATURES))
    order, cpu = BatchOrder(20, 0), torch.device("cpu")
    counts = [WGAN.d_steps(module.settings, g) for g in range(6)]
    data = [Batch.take(samples, order, steps=k, size=BATCH, device=cpu) for k in counts]
    for net in pair:
        net.float()
    fit(module, data, precision="32-true")
    runs = [len(part) for part in "".join(log.events).split("g")[:-1]]
    assert runs == [7, 7, 3, 3, 7, 3]
    assert module.d_step == 30
    assert module.images_seen == 150


def test_the_published_burst():
    s = WGANSettings()
    steps = [WGAN.d_steps(s, g) for g in range(1502)]
    expected = dict.fromkeys([*range(25), 500, 1000, 1500], 100)
    assert steps == [expected.get(g, 5) for g in range(1502)]
    none = WGANSettings(burst_first=0, burst_every=0)
    assert {WGAN.d_steps(none, g) for g in range(1000)} == {5}
    ran = 0
    for name, n_critic in (("gan", 1), ("dcgan", 1), ("wgan_gp", 5), ("hinge", 5), ("r3gan", 1)):
        cls = VARIANTS.load(name, at="")
        assert {cls.d_steps(cls.Settings(), g) for g in range(600)} == {n_critic}
        assert {cls.d_steps(cls.Settings(n_critic=3), g) for g in range(600)} == {3}
        ran += 1
    assert ran == 5


def test_the_generators_batchnorm_is_in_train_mode_while_training():
    pair = nets()
    G = nn.Sequential(nn.BatchNorm1d(LATENT), nn.Linear(LATENT, FEATURES)).double()
    G.forward = lambda z, labels=None: G[1](G[0](z))
    fit(make("gan", (G, pair[1])), batches([2, 1]))
    assert G[0].num_batches_tracked == 5
    assert G.training


def test_evaluating_leaves_a_frozen_part_frozen():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2)))
    net[1].eval()
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == [True, True, False, False]


def test_evaluating_restores_the_mode():
    net = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    ran = 0
    for mode in (True, False):
        net.train(mode)
        with evaluating(net) as inside:
            assert inside is net
            assert not net[0].training
            assert not net(torch.zeros(1, 2)).requires_grad
        assert net.training == net[0].training == mode
        with pytest.raises(KeyError), evaluating(net):
            raise KeyError
        assert net.training == mode
        ran += 1
    assert ran == 2


def test_the_state_round_trips():
    one, _, _ = played("wgan_gp", [2, 2, 2])
    state = one.training_state()
    other = make("wgan_gp", nets(seed=5), seed=99)
    fit(other, batches([1]))
    other.load_training_state(state)
    assert (other.g_step, other.d_step, other.images_seen) == (3, 6, 30)
    assert torch.equal(other.rng.get_state(), one.rng.get_state())
    again = other.training_state()
    assert set(again) == set(state)
    assert same(again["generator"].values(), state["generator"].values())
    assert same(again["discriminator"].values(), state["discriminator"].values())
    assert other.read_meters() == one.read_meters()


def test_all_noise_of_a_generator_step_is_drawn_at_once():
    """The z of each step are parts of one draw, and the penalty's noise follows it."""
    module, _, (G, _) = played("wgan_gp", [3])
    (batch,) = batches([3])
    module.setup("fit")
    z, noise = module.draw(batch)
    assert z.shape == (4, BATCH, LATENT)
    assert noise.shape == (3, BATCH)
    assert noise.dtype == z.dtype
    module.setup("fit")
    first = module.latent.draw(4, BATCH, rng=module.rng)
    assert torch.equal(first, z)
    assert torch.equal(
        module.formulation.penalty.draw(
            3, BATCH, shape=(FEATURES,), rng=module.rng, device="cpu", dtype=z.dtype
        ),
        noise,
    )
    assert [tuple(x.shape) for x, _, _ in G.seen] == [(BATCH, LATENT)] * 4
    plain, _, _ = played("gan", [2])
    assert plain.draw(batch)[1] is None


def test_each_step_takes_its_own_part_of_the_draw():
    _, _, (G, _) = played("gan", [3])
    size = (4, BATCH, LATENT)
    z = torch.randn(size, generator=stream(1, "training"), dtype=torch.float64)
    assert torch.equal(torch.stack([x for x, _, _ in G.seen]), z)


def test_meters_of_any_shape():
    """A stack leaves the values of many steps as one tensor, once it is asked to."""
    module, _, _ = played("gan", [1])
    module.meters = {"loss/g": [torch.tensor(1.0), torch.tensor([2.0, 6.0])]}
    asked = []

    def gather():
        asked.append(1)
        module.meters.setdefault("loss/d", []).append(torch.tensor([4.0]))

    module.gather_meters = gather
    state = module.training_state()
    kept = {name: values.tolist() for name, values in state["meters"].items()}
    assert kept == {"loss/g": [1, 2, 6], "loss/d": [4]}
    assert module.read_meters() == {"loss/g": 3.0, "loss/d": 4.0}
    assert len(asked) == 2
    assert module.meters == {}


def test_new_hyperparameters_are_those_of_a_module_built_with_them():
    before, after = (
        tree("wgan", optimizer={"name": "adam", "lr": lr, "beta1": beta}, model={"clip": clip})
        for lr, beta, clip in ((1e-3, 0.5, 0.05), (3e-3, 0.2, 0.02))
    )
    one, built = Trial(before, seed=0).alone(2), Trial(after, seed=0).skip(2)
    untouched = Trial(before, seed=0).alone(3)
    fresh = [deepcopy(o.param_groups[0]) for o in optimizers(built)]
    built.module.load_training_state(deepcopy(one.module.training_state()))
    one.module.set_hyperparameters(built.module.settings, built.module.specs)
    assert one.module.formulation == built.module.formulation
    ran = 0
    for mine, theirs, expected in zip(optimizers(one), optimizers(built), fresh, strict=True):
        del expected["params"]
        # A loaded state brings the rates that it was taken under.
        theirs.param_groups[0].update(expected)
        (group,) = mine.param_groups
        assert len(group["params"]) == 6
        assert {key: group[key] for key in group if key != "params"} == expected
        ran += 1
    assert ran == 2
    assert identical(one.alone(1).module, built.alone(1).module)
    assert not identical(one.module, untouched.module)


def test_new_hyperparameters_of_several_groups():
    def settings(lr, bias_lr):
        optimizer = {"name": "own_parts:Grouped", "lr": lr, "bias_lr": bias_lr}
        return tree("gan", optimizer=optimizer)

    one, built = Trial(settings(0.1, 0.2), seed=0), Trial(settings(0.3, 0.4), seed=0)
    one.module.set_hyperparameters(built.module.settings, built.module.specs)
    for optimizer in optimizers(one):
        assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.4]
        assert [len(group["params"]) for group in optimizer.param_groups] == [3, 3]
    assert identical(one.alone(2).module, built.alone(2).module)


def optimizers(trial):
    return trial.module.d_optimizer, trial.module.g_optimizer


MAXOUT = {
    "name": "maxout",
    "generator_width": 8,
    "discriminator_width": 5,
    "discriminator_pieces": 2,
}


def maxout(seed: int) -> Trial:
    """A trial whose discriminator drops units, by torch's global generator."""
    optimizer = {"name": "sgd", "lr": 0.05, "momentum": 0.5}
    return Trial(tree("gan", optimizer=optimizer, network=MAXOUT), seed=seed)


def test_dropout_draws_from_the_trials_own_stream():
    """Whatever others draw from the global generator; and it is left as it was."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    undisturbed = maxout(1).alone(4)
    assert torch.equal(torch.get_rng_state(), before)
    disturbed = maxout(1)
    for seed in range(4):
        torch.manual_seed(seed)
        torch.rand(seed)
        between = torch.get_rng_state()
        disturbed.alone(1)
        assert torch.equal(torch.get_rng_state(), between)
    assert identical(disturbed.module, undisturbed.module)


def test_dropout_differs_from_step_to_step_and_from_trial_to_trial():
    state = [maxout(seed).module.training_state()["dropout_rng"] for seed in (1, 2)]
    assert not torch.equal(*state)
    trial = maxout(1).alone(1)
    assert not torch.equal(trial.module.training_state()["dropout_rng"], state[0])
    other = maxout(1)
    other.module._dropout_rng = state[1]
    assert not identical(other.alone(1).module, trial.module)


def test_the_global_generator_is_restored_after_an_error():
    module = maxout(1).module
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        module.training_step(batches([1])[0], 0)  # vectors of 2 into networks for images
    assert torch.equal(torch.get_rng_state(), before)


def test_two_in_turns_are_as_each_alone():
    alone = [maxout(seed).alone(3) for seed in (1, 2)]
    turns = [maxout(seed) for seed in (1, 2)]
    for _ in range(3):
        for trial in turns:
            trial.alone(1)
    assert identical(alone[0].module, turns[0].module)
    assert identical(alone[1].module, turns[1].module)
    assert not identical(*(trial.module for trial in turns))


def test_the_state_holds_average_and_dropout():
    trial = maxout(1).alone(3)
    state = trial.module.training_state()
    assert state["average"].keys() == state["generator"].keys()
    other = maxout(1).skip(3)
    other.module.load_training_state(deepcopy(state))
    assert identical(trial.alone(2).module, other.alone(2).module)
    assert identical(maxout(1).alone(5).module, other.module)


def test_parts_of_larger_tensors_are_copied_into_the_state():
    module = maxout(1).alone(1).module
    weight = module.generator.body[0].weight
    rows = torch.zeros(3, weight.numel())
    rows[1] = weight.detach().reshape(-1)
    weight.data = rows[1].view(weight.shape)
    state = module.training_state()
    ran = 0
    for _, value in leaves(state):
        if torch.is_tensor(value):
            assert value.untyped_storage().nbytes() == value.nbytes
            ran += 1
    assert ran > 25
    assert torch.equal(state["generator"]["body.0.weight"], weight)


def test_a_loaded_state_shares_no_memory():
    """Else a trial that goes on from another's state in this process moves its momentum."""
    donor, other = maxout(1).alone(2), maxout(2)
    other.module.load_training_state(donor.module.training_state())
    places = [
        {v.data_ptr() for _, v in leaves(optimizers(trial)[1].state_dict()) if torch.is_tensor(v)}
        for trial in (donor, other)
    ]
    assert [len(own) for own in places] == [6, 6]
    assert not places[0] & places[1]


def test_a_state_of_an_older_version_lacks_buffers_that_no_state_dict_holds():
    """It is loaded all the same; one of another size than at the beginning is as well."""
    network = nn.Sequential(nn.Linear(2, 1), nn.Module())
    network[1].register_buffer("seen", torch.zeros(2), persistent=False)
    network[1].register_buffer("last", None, persistent=False)
    assert network_state(network).keys() == {*network.state_dict(), "1.seen"}
    older = {name: torch.full_like(each, 7.0) for name, each in network.state_dict().items()}
    load_network_state(network, older)
    assert [each.unique().tolist() for each in network.parameters()] == [[7.0], [7.0]]
    assert network[1].seen.tolist() == [0.0, 0.0]
    newer = {**older, "1.seen": torch.ones(3), "1.last": torch.ones(1)}
    load_network_state(network, newer)
    assert network[1].seen.tolist() == [1.0, 1.0, 1.0]
    assert network[1].seen is not newer["1.seen"]
    assert equal(network_state(network), newer)


def test_it_needs_no_network_of_ours():
    assert isinstance(nets()[0], Net)
    assert not type(nets()[0]).__module__.startswith("gansweep")


class Brighter(WGAN):
    """One whose D sees all samples changed."""

    @classmethod
    def play(cls, generator, real, z, labels):
        real, fake = super().play(generator, real, z, labels)
        return (None if real is None else real + 1), fake


def test_a_variant_that_changes_real_samples_has_them_at_each_step():
    """A G that could make the samples of several steps at once is called in each of them."""
    seen = {}
    for kind in (WGAN, Brighter):
        trial = Trial(tree("wgan", optimizer={"name": "adam"}, model={"n_critic": 3}), seed=0)
        trial.module.__class__ = kind
        batch = trial.batch()
        sides = trial.module._sides(batch, trial.module.draw(batch)[0])
        seen[kind] = [real for _, real, _ in sides]
        assert trial.module.draws_ahead == (kind is WGAN)
    for one, other in zip(seen[WGAN], seen[Brighter], strict=True):
        torch.testing.assert_close(one + 1, other)
