"""A trial put together: what fits, what does not, and what is advised against."""

from __future__ import annotations

import pytest
import torch
from trees import small

from gansweep.assembly import (
    build_module,
    check_fit,
    condition_of,
    fitting,
    load_held_out,
    load_samples,
    modes_of,
    on_classes,
)
from gansweep.config import resolve, resolved
from gansweep.data.base import Samples
from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError
from gansweep.modules.catalogue import VARIANTS
from gansweep.networks.catalogue import ARCHITECTURES

CLASSES = Condition("class", 10)
ADVISED_AGAINST = {
    *(("hinge", network) for network in ("mlp", "maxout", "pacgan", "bigan")),  # no spectral norm
    *((model, "bigan") for model in ("wgan_gp", "dragan", "r1gan", "r3gan")),  # BatchNorm
    ("dragan", "dcgan"),  # BatchNorm under a penalty
}


def test_what_fits():
    ran = 0
    for model in VARIANTS.names:
        for network in ARCHITECTURES.names:
            config = small(model, network, "digits")
            advice = check_fit(config, DataSpec((1, 16, 16), CLASSES))
            assert bool(advice) == ((model, network) in ADVISED_AGAINST)
            ran += 1
    assert ran == 55


def test_the_published_trials_fit_their_data():
    ran = 0
    for model in VARIANTS.names:
        config = resolve({"model": {"name": model}}, [])
        assert check_fit(config, DataSpec((1, 28, 28), CLASSES)) == []
        ran += 1
    assert ran == 11


def test_a_full_size_check_allocates_nothing_large():
    config = resolve({"model": {"name": "dcgan"}, "network": {"name": "dcgan", "width": 4096}}, [])
    assert check_fit(config, DataSpec((3, 64, 64))) == []  # 10 GB and more as real tensors


def test_networks_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"network\.name: dcgan needs images"):
        check_fit(small("gan", "dcgan", "ring8"), DataSpec((2,)))


def test_a_discriminator_of_another_shape():
    config = resolve({"model": {"name": "gan"}, "network": {"name": "own_parts:WrongShape"}}, [])
    with pytest.raises(
        ConfigError, match=r"the discriminator of own_parts:WrongShape gives \(2, 1\)"
    ):
        check_fit(config, DataSpec((2,)))


def test_a_condition_without_labels():
    with pytest.raises(ConfigError, match="have no labels"):
        check_fit(small("cgan", "mlp", "gaussian1d"), DataSpec((1,)))
    assert condition_of(small("gan", "mlp", "digits"), DataSpec((1, 8, 8), CLASSES)) is None
    assert condition_of(small("cgan", "mlp", "digits"), DataSpec((1, 8, 8), CLASSES)) is CLASSES


def test_an_encoder_leaves_no_room_for_labels():
    config = small("bigan", "mlp", "digits", model={"conditional": True})
    with pytest.raises(ConfigError, match=r"trial\.model\.conditional: is true.*leave out"):
        check_fit(config, DataSpec((1, 8, 8), CLASSES))


def test_networks_of_a_model_with_an_encoder():
    """z is D's condition; with pac so many of them."""
    G, D = build_module(small("bigan", "dcgan", "digits"), DataSpec((1, 8, 8), CLASSES)).children()
    real, fake = G(torch.zeros(2, 4), None, torch.zeros(2, 1, 8, 8))
    assert real.shape == fake.shape == (2, 68)
    assert D(real).shape == (2,)
    config = small("bigan", "mlp", "digits", model={"pac": 2})
    module = build_module(config, DataSpec((1, 8, 8)))
    assert module.discriminator(module.formulation.packed(real)).shape == (1,)
    with pytest.raises(ConfigError, match=r"network\.name: dcgan needs images"):
        check_fit(small("bigan", "dcgan", "ring8"), DataSpec((2,)))


def test_an_encoder_of_another_shape():
    config = resolve({"model": {"name": "bigan"}, "network": {"name": "own_parts:WideEncoder"}}, [])
    with pytest.raises(ConfigError, match=r"the encoder of own_parts:WideEncoder gives \(2, 51\)"):
        check_fit(config, DataSpec((2,)))


def test_advice():
    norm = {"discriminator_norm": "batch"}
    (line,) = check_fit(small("wgan_gp", "mlp", "digits", network=norm), DataSpec((1, 8, 8)))
    assert "BatchNorm" in line
    adam = {"name": "adam"}
    (line,) = check_fit(small("wgan", "mlp", "digits", optimizer=adam), DataSpec((1, 8, 8)))
    assert "momentum" in line
    only_g = {"generator": {"name": "adam"}}
    config = small("wgan", "mlp", "digits", optimizer=only_g)
    assert check_fit(config, DataSpec((1, 8, 8))) == []


def test_samples_judged_together():
    """D is built for `pac` samples side by side; it must divide the batch, and have no labels."""
    for network, spec in (("mlp", (2,)), ("mlp", (1, 8, 8)), ("dcgan", (3, 8, 8))):
        data = "ring8" if len(spec) == 1 else "digits"
        config = small("wgan_gp", network, data, model={"pac": 3})
        check_fit(config, DataSpec(spec, CLASSES))
        module = build_module(config, DataSpec(spec))
        assert module.discriminator(torch.zeros(2, 3 * spec[0], *spec[1:])).shape == (2,)
        assert module.generator(torch.zeros(2, 4)).shape == (2, *spec)
    with pytest.raises(
        ConfigError, match=r"model\.pac: is 4, which does not divide the batch of 6"
    ):
        check_fit(small("gan", "mlp", "ring8", model={"pac": 4}), DataSpec((2,)))
    with pytest.raises(ConfigError, match=r"model\.pac: is 2: a conditional discriminator"):
        check_fit(small("cgan", "mlp", "digits", model={"pac": 2}), DataSpec((1, 8, 8), CLASSES))


def test_classes_without_a_sample_are_told():
    """G is conditioned on them, and has never seen one."""
    names = tuple("abcde")
    samples = Samples(torch.zeros(4, 2), torch.tensor([0, 3, 3, 0]), names)
    (line,) = on_classes(samples)
    assert line.startswith("3 of the data's 5 classes have no sample (b, c, e): ")
    (line,) = on_classes(Samples(samples.x, samples.labels))
    assert line.startswith("2 of the data's 4 classes have no sample (1, 2): ")
    assert on_classes(Samples(samples.x, torch.arange(4), names[:4])) == []
    assert on_classes(Samples(samples.x, torch.zeros(4, 3))) == []
    (line,) = on_classes(Samples(samples.x, torch.tensor([0, 30, 3, 0])))
    assert line.startswith("28 of the data's 31 classes have no sample (1, 2, 4, 5, 6 ...): ")


def test_the_optimizers_are_not_swapped():
    rates = {"discriminator": {"lr": 0.25}, "generator": {"lr": 0.125}}
    module = build_module(small("gan", "mlp", "ring8", optimizer=rates), DataSpec((2,)))
    module.configure_optimizers()
    assert module.d_optimizer.param_groups[0]["lr"] == 0.25
    assert module.g_optimizer.param_groups[0]["lr"] == 0.125
    for optimizer, net in (
        (module.d_optimizer, module.discriminator),
        (module.g_optimizer, module.generator),
    ):
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in net.parameters()}


def test_weights_depend_on_the_seed():
    spec = DataSpec((2,))
    a, b, c = (build_module(small("gan", "mlp", "ring8", seed=s), spec) for s in (0, 0, 1))
    first = [next(iter(m.generator.parameters())) for m in (a, b, c)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_samples_are_the_datas():
    samples = load_samples(small("gan", "mlp", "ring8"))
    assert samples.x.shape == (400, 2)


@pytest.mark.parametrize(
    ("data", "pac", "processes", "told", "least"),
    [
        (1, 1, 1, "is 1, and mlp cannot train on one sample by itself: ValueError: Expected", 2),
        (4, 4, 1, "is 4, and mlp cannot train on one tuple of 4 by itself: ValueError", 8),
        (3, 1, 3, "is 3 for 3 processes, and mlp cannot train on one sample by", 6),
        (8, 4, 2, "is 8 for 2 processes, and mlp cannot train on one tuple of 4", 16),
    ],
)
def test_networks_are_tried_on_no_more_samples_than_training_has(data, pac, processes, told, least):
    """BatchNorm cannot normalise one sample by itself, which two would hide."""
    spec, norms = DataSpec((1, 8, 8)), ["discriminator_norm", *["generator_norm"] * (pac == 1)]

    def tried(batch_size, **network):
        config = small(
            "gan", "mlp", "digits", model={"pac": pac}, data={"batch_size": batch_size},
            network=network,
        )  # fmt: skip
        fitting(config, spec, processes=processes)

    for norm in norms:
        with pytest.raises(ConfigError) as caught:
            tried(data, **{norm: "batch"})
        (problem,) = caught.value.problems
        assert problem.where == "trial.data.batch_size"
        assert problem.what.startswith(told)
        assert problem.remedy == f"at least {least}, or networks without BatchNorm"
        tried(least, **{norm: "batch"})
    tried(data)


def test_a_wrong_shape_is_not_laid_to_a_batch_of_one():
    network = {"name": "own_parts:Narrow"}
    config = small("gan", "mlp", "digits", data={"batch_size": 1}, network=network)
    with pytest.raises(
        ConfigError, match=r"trial\.network: own_parts:Narrow does not fit"
    ) as caught:
        check_fit(config, DataSpec((1, 8, 8)))
    assert "own_parts.py:" in caught.value.problems[0].remedy


@pytest.mark.parametrize("where", ["__init__", "modes", "held_out", "of another size"])
def test_what_a_data_set_of_ones_own_raises_is_a_mistake(where):
    config = small("gan", "mlp", "own_parts:Breaks", data={"where": where})
    parts = {
        "__init__": load_samples,
        "held_out": lambda config: load_held_out(config, Samples(torch.zeros(4, 2))),
    }
    tried = parts.get(where, lambda config: modes_of(config, DataSpec((2,))))
    raised = "RuntimeError: X1 and X2" if where == "of another size" else "KeyError: 'image'"
    with pytest.raises(ConfigError, match=f"data.name: own_parts:Breaks raises {raised}"):
        tried(config)
    config = small("gan", "mlp", "own_parts:Breaks", data={"where": "nowhere"})
    tried(config)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": "formulate"}, "model.name: own_parts:Played raises KeyError: 'margin'"),
        ({"model": "objective"}, "Played raises TypeError: formulate gives NonSaturating, must"),
        ({"model": "timing"}, "the constraint's timing is 'afterwards', must be before or after"),
        ({"model": "loss"}, "model.name: own_parts:Played raises ValueError: the loss of G has"),
        ({"model": "float"}, r"generator gives float, .*\(in Played, .*own_parts\.py:\d+\)$"),
        ({"model": "a number"}, r"Heavy.__call__ gives float, must .*own_parts\.py:\d+\)$"),
        ({"model": "a number a sample"}, r"Heavy.__call__ gives \[64\], must give a scalar"),
        ({"model": "no noise"}, r"Heavy.draw gives NoneType, must give a tensor \[1, \.\.\.\]"),
        ({"model": "noise of one step"}, r"Heavy.draw gives \[\], must give a tensor \[1, \."),
        ({"model": "d_steps"}, "Played raises ValueError: d_steps gives 0 at g_step 11"),
        ({"model": "advice"}, "Played raises TypeError: advice gives str, must give a list"),
        ({"optimizer": "nothing"}, "optimizer.name: own_parts:Built raises TypeError: build gives"),
        ({"optimizer": "beta"}, "Built raises TypeError: .* unexpected keyword argument 'beta'"),
        ({"optimizer": "closure"}, "Built raises TypeError: .*missing .* argument: 'closure'"),
        ({"network": "function"}, "trial.network: .*: its discriminator is function, must be"),
        ({"network": "nothing"}, "trial.network: .*: its discriminator is NoneType, must be"),
        ({"network": "frozen"}, "trial.network: .*: its discriminator has no parameter to train"),
        ({"network": "graphless"}, "trial.network: .*: its discriminator's output has no gradient"),
        ({"network": "detached"}, "discriminator's output has no gradient in its generator's wei"),
        ({"network": "lazy"}, "trial.network: .*: the size of its discriminator's layer.weight is"),
        ({"diagnosis": "unruly"}, "rules.own_parts:Unruly: own_parts:Unruly raises KeyError: 'thr"),
    ],
)
def test_parts_of_ones_own_are_tried_before_anything_trains(sections, told):
    names = {"model": "Played", "optimizer": "Built", "network": "Other"}

    def config(sections):
        own = {
            section: {"name": f"own_parts:{names[section]}", "kind": kind}
            for section, kind in sections.items()
            if section in names
        }
        rules = {"rules": {"own_parts:Unruly": {}}} if "diagnosis" in sections else {}
        given = {"model": {"name": "gan"}, "network": {"name": "mlp"}, "diagnosis": rules, **own}
        return resolved({"budget": {"g_steps": 12}, "data": {"name": "ring8"},
                         "optimizer": {"name": "adam"}, **given})  # fmt: skip

    good = {"model": "", "optimizer": "momentum", "network": "looks"}
    check_fit(config({name: good[name] for name in sections if name in good}), DataSpec((2,)))
    with pytest.raises(ConfigError, match=told):
        check_fit(config(sections), DataSpec((2,)))


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("gan", {"of": "separation"}, None),
        ("gan", {"of": "d_accuracy_real"}, None),
        ("gan", {"of": "d_fake"}, None),
        ("gan", {"of": "stalled"}, None),
        ("gan", {"of": "seperation"}, r"KeyError: 'seperation' \(in holds, .*parts\.py:\d+\)$"),
        ("gan", {"of": "clip_pinned"}, "Heard raises KeyError: 'clip_pinned'"),
        ("gan", {"of": "d_wasserstein"}, "Heard raises KeyError: 'd_wasserstein'"),
        ("gan", {"gives": "a truth value"}, r"holds gives bool, must give .* \(in Heard, .*\.py:"),
        ("r3gan", {"of": "d_accuracy"}, None),
        ("r3gan", {"of": "d_accuracy_real"}, "Heard raises KeyError: 'd_accuracy_real'"),
        ("wgan", {"of": "seperation"}, None),  # does not concern it
    ],
)
def test_a_rule_of_ones_own_is_tried_on_a_reading_of_such_a_trial(model, settings, told):
    config = small(model, "mlp", "ring8", diagnosis={"rules": {"own_parts:Heard": settings}})
    if told is None:
        check_fit(config, DataSpec((2,)))
        return
    at = r"^trial\.diagnosis\.rules\.own_parts:Heard: own_parts:"
    with pytest.raises(ConfigError, match=f"{at}.*{told}"):
        check_fit(config, DataSpec((2,)))


def test_a_variant_with_a_penalty_of_ones_own_fits():
    model = {"name": "own_parts:Played", "kind": "a penalty"}
    config = small("gan", "mlp", "ring8", model=model, optimizer={"name": "adam"})
    assert check_fit(config, DataSpec((2,))) == []


def test_trying_networks_that_look_at_values_leaves_the_global_stream_alone():
    config = small("gan", "own_parts:Other", "ring8", network={"kind": "looks"})
    before = torch.random.get_rng_state()
    check_fit(config, DataSpec((2,)))
    assert torch.equal(torch.random.get_rng_state(), before)
