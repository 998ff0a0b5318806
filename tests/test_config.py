"""A trial's tree: published defaults, every mistake with its key, and the trial key."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from trees import refused

from gansweep.config import SECTIONS, resolved
from gansweep.modules.catalogue import VARIANTS


def gan(**sections):
    return {"model": {"name": "gan"}, **sections}


# --- published defaults


def published(name):
    config = resolved({"model": {"name": name}})
    optimizer = config.d_optimizer
    assert config.g_optimizer == optimizer
    return (
        config.network.name,
        config.latent.dim,
        config.latent.distribution,
        optimizer.name,
        optimizer.settings,
        config.data.settings.batch_size,
        config.model.settings,
    )


def test_gan_as_published():
    network, dim, distribution, optimizer, s, batch, model = published("gan")
    assert (network, dim, distribution, optimizer) == ("maxout", 100, "uniform", "sgd")
    assert (s.lr, s.momentum, batch, model.n_critic) == (0.1, 0.5, 100, 1)
    assert (model.loss, model.conditional) == ("non_saturating", False)


def test_dcgan_as_published():
    network, dim, _, optimizer, s, batch, model = published("dcgan")
    assert (network, dim, optimizer) == ("dcgan", 100, "adam")
    assert (s.lr, s.beta1, s.beta2, batch, model.n_critic) == (2e-4, 0.5, 0.999, 64, 1)


def test_wgan_as_published():
    network, dim, distribution, optimizer, s, batch, model = published("wgan")
    assert (network, dim, distribution, optimizer) == ("dcgan", 100, "normal", "rmsprop")
    assert (s.lr, s.alpha, s.momentum, batch, model.n_critic) == (5e-5, 0.99, 0.0, 64, 5)
    assert (model.clip, model.clip_timing, model.clip_normalisation) == (0.01, "before", True)
    assert (model.burst_n_critic, model.burst_first, model.burst_every) == (100, 25, 500)


def test_wgan_gp_as_published():
    config = resolved({"model": {"name": "wgan_gp"}})
    assert config.network.settings.discriminator_norm == "layer"
    network, dim, distribution, optimizer, s, batch, model = published("wgan_gp")
    assert (network, dim, distribution, optimizer) == ("dcgan", 128, "normal", "adam")
    assert (s.lr, s.beta1, s.beta2, batch) == (1e-4, 0.5, 0.9, 64)
    assert (model.n_critic, model.penalty_weight) == (5, 10.0)


def test_cgan_as_published():
    network, dim, distribution, optimizer, s, batch, model = published("cgan")
    assert (network, dim, distribution, optimizer) == ("maxout", 100, "uniform", "sgd")
    assert (s.lr, s.momentum, batch, model.conditional) == (0.1, 0.5, 100, True)


def test_what_the_file_says_goes_over_what_was_published():
    config = resolved(gan(optimizer={"lr": 0.02}, latent={"dim": 7}, data={"name": "ring8"}))
    assert config.d_optimizer.settings.lr == config.g_optimizer.settings.lr == 0.02
    assert config.d_optimizer.settings.momentum == 0.5
    assert (config.latent.dim, config.latent.distribution) == (7, "uniform")
    assert (config.data.name, config.data.settings.batch_size) == ("ring8", 100)


def test_the_published_name_again_keeps_its_defaults():
    config = resolved({"model": {"name": "wgan_gp"}, "network": {"name": "dcgan", "width": 8}})
    assert config.network.settings.discriminator_norm == "layer"
    assert config.network.settings.width == 8


def test_another_name_drops_the_published_settings():
    config = resolved(gan(optimizer={"name": "adam"}))
    assert config.d_optimizer.settings.lr == 2e-4  # adam's own, not the published 0.1
    config = resolved({"model": {"name": "wgan_gp"}, "network": {"name": "mlp"}})
    assert config.network.settings.discriminator_norm == "none"


def test_the_model_decides_when_it_is_swept():
    ran = 0
    for name in VARIANTS.names:
        a = resolved({"model": {"name": name}})
        b = resolved({"model": {"name": name}, "optimizer": {}, "network": None, "latent": {}})
        assert a == b
        ran += 1
    assert ran == 11


# --- optimizers of the two networks


def test_each_network_can_have_its_own_learning_rate():
    config = resolved(gan(optimizer={"lr": 0.03, "discriminator": {"lr": 0.04}}))
    assert (config.d_optimizer.settings.lr, config.g_optimizer.settings.lr) == (0.04, 0.03)
    assert config.d_optimizer.settings.momentum == config.g_optimizer.settings.momentum == 0.5


def test_each_network_can_have_its_own_optimizer():
    config = resolved(gan(optimizer={"generator": {"name": "adam"}}))
    assert (config.d_optimizer.name, config.g_optimizer.name) == ("sgd", "adam")
    assert config.d_optimizer.settings.lr == 0.1
    assert config.g_optimizer.settings.lr == 2e-4  # nothing of sgd's


def test_a_shared_rate_reaches_an_optimizer_of_its_own():
    """`optimizer.lr` may be swept: it must not be lost where one network names its optimizer."""
    config = resolved(gan(optimizer={"lr": 0.007, "generator": {"name": "adam", "beta1": 0.1}}))
    assert (config.d_optimizer.settings.lr, config.d_optimizer.settings.momentum) == (0.007, 0.5)
    assert (config.g_optimizer.settings.lr, config.g_optimizer.settings.beta1) == (0.007, 0.1)


def test_a_shared_setting_that_one_optimizer_lacks_is_told():
    problems = refused(gan(optimizer={"momentum": 0.3, "generator": {"name": "adam"}}))
    assert [(p.where, p.what) for p in problems] == [("trial.optimizer.momentum", "unknown key")]


def test_settings_beside_a_name_belong_to_that_name():
    shared = {"name": "rmsprop", "lr": 0.3, "alpha": 0.5}
    config = resolved(gan(optimizer={**shared, "generator": {"name": "adam", "lr": 0.2}}))
    assert (config.d_optimizer.settings.alpha, config.g_optimizer.settings.lr) == (0.5, 0.2)


def test_a_variant_may_publish_two_rates():
    own = {"name": "own_parts:TwoTimescale"}
    config = resolved({"model": own})
    assert (config.d_optimizer.settings.lr, config.g_optimizer.settings.lr) == (4e-4, 1e-4)
    config = resolved({"model": own, "optimizer": {"lr": 1e-2, "generator": {"lr": 1e-3}}})
    assert (config.d_optimizer.settings.lr, config.g_optimizer.settings.lr) == (1e-2, 1e-3)


@pytest.mark.parametrize("value", ["adam", 3, [1]])
def test_an_optimizer_of_its_own_must_be_a_section(value):
    problems = refused(gan(optimizer={"generator": value}))
    assert [p.where for p in problems] == ["trial.optimizer.generator"]
    assert "must be a section" in problems[0].what


# --- mistakes


@pytest.mark.parametrize(
    ("tree", "where", "words"),
    [
        ({}, "trial.model.name", "is required"),
        ({"model": {"name": "gna"}}, "trial.model.name", "did you mean 'gan'?"),
        (gan(netwrok={"name": "mlp"}), "trial.netwrok", "did you mean 'network'?"),
        (gan(network="mlp"), "trial.network", "write network: {name: mlp}"),
        (gan(budget=100), "trial.budget", "must be a section"),
        (gan(budget={"g_step": 3}), "trial.budget.g_step", "did you mean 'g_steps'?"),
        (gan(budget={"g_steps": 0}), "trial.budget.g_steps", "at least 1"),
        (gan(optimizer={"lrr": 1}), "trial.optimizer.lrr", "did you mean 'lr'?"),
        (gan(optimizer={"lr": "fast"}), "trial.optimizer.lr", "fast"),
        (gan(optimizer={"discriminator": {"lrr": 1}}), "trial.optimizer.lrr", "'lr'"),
        (gan(data={"name": "mnits"}), "trial.data.name", "did you mean 'mnist'?"),
        (gan(latent={"distribution": "cauchy"}), "trial.latent.distribution", "cauchy"),
        (gan(precision="16"), "trial.precision", "16"),
        (gan(device="tpu"), "trial.device", "tpu"),
        (gan(seed=-1), "trial.seed", "at least 0"),
        (gan(seed="one"), "trial.seed", "one"),
        (gan(ema={"decay": 1.0}), "trial.ema.decay", "less than 1"),
        (gan(score={"names": ["fdi"]}), "trial.score.names", "unknown score 'fdi'"),
        (
            gan(score={"names": ["swd", "w1", "own_parts:Impostor"]}),
            "trial.score.names",
            "swd and own_parts:Impostor are both called swd",
        ),
        (gan(score={"names": ["no.Such"]}), "trial.score.names", "cannot import"),
        (gan(model={"name": "wgan", "n_critic": 0}), "trial.model.n_critic", "at least 1"),
        (gan(model={"name": "gan", "clip": 1}), "trial.model.clip", "unknown key"),
        (gan(network={"name": "no.Such"}), "trial.network.name", "cannot import"),
    ],
)
def test_a_mistake_has_its_key_and_a_remedy(tree, where, words):
    problems = refused(tree)
    assert {p.where for p in problems} == {where}
    assert words in str(problems[0])


def test_every_mistake_at_once():
    problems = refused(
        gan(
            sed=1,
            budget={"g_steps": -5},
            network={"name": "mlp", "widht": 3},
            latent={"dim": "x"},
            data={"name": "ring9"},
        )
    )
    assert {p.where for p in problems} == {
        "trial.sed",
        "trial.budget.g_steps",
        "trial.network.widht",
        "trial.latent.dim",
        "trial.data.name",
    }


def test_the_tree_is_left_alone():
    tree = gan(optimizer={"generator": {"lr": 0.5}}, data={"name": "ring8"})
    kept = deepcopy(tree)
    resolved(tree)
    assert tree == kept


def test_precision_as_a_number():
    assert resolved(gan(precision=32)).run.precision == "32"
    assert resolved(gan(precision="bf16")).run.precision == "bf16"


def test_scores():
    import own_parts

    config = resolved(gan(score={"names": ["swd", "own_parts:NaNScore"]}))
    assert [score.name for score in config.scores] == ["swd", "never"]
    assert config.scores[1].cls is own_parts.NaNScore
    assert resolved(gan(samples={"every": 7})).score_every == 7
    assert resolved(gan(samples={"every": 7}, score={"every": 3})).score_every == 3


# --- to_dict and the key


TREES = [
    *({"model": {"name": name}} for name in ("gan", "dcgan", "wgan", "wgan_gp", "cgan")),
    gan(optimizer={"generator": {"name": "adam"}}),
    gan(optimizer={"name": "rmsprop", "discriminator": {"name": "adamw", "lr": 1}}),
    gan(network={"name": "mlp", "depth": 1}, data={"name": "grid25"}, seed=3, device="cpu"),
    {"model": {"name": "wgan", "conditional": True}, "precision": 32, "ema": {"decay": 0.5}},
    {"model": {"name": "own_parts:TwoTimescale"}, "score": {"names": [], "every": 2}},
]


@pytest.mark.parametrize("tree", TREES)
def test_to_dict_and_resolve_are_inverse(tree):
    config = resolved(tree)
    plain = json.loads(json.dumps(config.to_dict()))
    assert set(plain) == {*SECTIONS, "seed", "precision", "device", "compile"}
    again = resolved(plain)
    assert again == config
    assert again.to_dict() == config.to_dict()
    assert again.key == config.key


def test_the_key_of_this_format():
    """A change here is a change of every trial's identity: raise KEY_FORMAT, say it aloud."""
    tree = gan(network={"name": "mlp"}, data={"name": "ring8"}, latent={"dim": 2}, seed=1)
    assert resolved(tree).key == "97ee34539b3b0c52"
    assert (
        resolved({"model": {"name": "wgan_gp"}, "data": {"name": "digits"}}).key
        == "40728e2f0c268ca5"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"g_steps": 7}},
        {"samples": {"every": 7, "seed": 3}},
        {"score": {"samples": 7, "names": []}},
        {"log": {"every": 7}},
        {"checkpoint": {"every": 7}},
        {"device": "cpu"},
        {"precision": 32},
        {"seed": 0},
        {"optimizer": {"lr": 0.1}},
        {"network": {"name": "maxout"}},
    ],
)
def test_what_does_not_decide_the_weights_is_not_in_the_key(change):
    assert resolved(gan(**change)).key == resolved(gan()).key


def test_what_decides_the_weights_is_in_the_key():
    changes = [
        {"seed": 1},
        {"precision": "bf16"},
        {"optimizer": {"lr": 0.2}},
        {"optimizer": {"generator": {"lr": 0.2}}},
        {"optimizer": {"discriminator": {"lr": 0.2}}},
        {"latent": {"dim": 99}},
        {"data": {"batch_size": 99}},
        {"data": {"name": "ring8"}},
        {"network": {"name": "maxout", "dropout": 0.1}},
        {"model": {"name": "gan", "n_critic": 2}},
        {"model": {"name": "gan", "loss": "minimax"}},
        {"model": {"name": "cgan"}},
        {"ema": {"decay": 0.9}},
    ]
    keys = {resolved(gan()).key, *(resolved(gan(**change)).key for change in changes)}
    assert len(keys) == len(changes) + 1 == 14
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


def test_the_key_does_not_depend_on_the_order_or_on_the_spelling():
    a = resolved({"seed": 1, "model": {"name": "wgan"}, "optimizer": {"lr": 1, "eps": 1e-8}})
    b = resolved(
        {"optimizer": {"eps": 0.00000001, "lr": 1.0}, "model": {"name": "wgan"}, "seed": 1}
    )
    assert a.key == b.key


# --- shapes: which trials may share a pack


def of_shape(**sections):
    return resolved(
        {
            "model": {"name": "wgan_gp"},
            "network": {"name": "mlp", "width": 8},
            "data": {"name": "ring8"},
            "optimizer": {"name": "rmsprop", "lr": 1e-3, "weight_decay": 1e-4},
            **sections,
        }
    )


RMSPROP = {"name": "rmsprop", "lr": 1e-3, "weight_decay": 1e-4}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 5},
        {"model": {"name": "wgan_gp", "penalty_weight": 3.5}},
        {"optimizer": {**RMSPROP, "lr": 0.5}},
        {"optimizer": {**RMSPROP, "alpha": 0.5, "eps": 1e-3}},
        {"optimizer": {**RMSPROP, "weight_decay": 0.5}},
        {"optimizer": {**RMSPROP, "discriminator": {"lr": 0.5}}},
    ],
)
def test_trials_that_differ_in_numbers_and_seed_have_one_shape(change):
    assert of_shape(**change).shape == of_shape().shape
    assert of_shape(**change).key != of_shape().key


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"name": "wgan"}},
        {"model": {"name": "wgan_gp", "n_critic": 2}},
        {"model": {"name": "wgan_gp", "conditional": True}},
        {"network": {"name": "mlp", "width": 9}},
        {"network": {"name": "mlp", "width": 8, "dropout": 0.3}},
        {"network": {"name": "mlp", "width": 8, "leak": 0.3}},  # a number, but the networks'
        {"data": {"name": "ring8", "batch_size": 32}},
        {"data": {"name": "grid25"}},
        {"latent": {"dim": 3}},
        {"optimizer": {**RMSPROP, "name": "adam"}},
        {"optimizer": {**RMSPROP, "generator": {"momentum": 0.5}}},
        {"optimizer": {**RMSPROP, "momentum": 0.5}},  # work that the others leave out
        {"optimizer": {**RMSPROP, "weight_decay": 0.0}},
        {"ema": {"decay": 0.9}},
        {"budget": {"g_steps": 7}},
        {"samples": {"every": 7}},
        {"score": {"every": 7}},
        {"log": {"every": 7}},
        {"checkpoint": {"every": 7}},
        {"precision": "bf16"},
        {"device": "cpu"},
        {"compile": "true"},
    ],
)
def test_trials_that_differ_in_anything_else_have_not(change):
    assert of_shape(**change).shape != of_shape().shape


def test_where_both_have_momentum_it_is_a_number_like_any_other():
    two, three, none = (
        of_shape(optimizer={**RMSPROP, "momentum": m}) for m in (0.2, 0.3, 0.0)
    )  # fmt: skip
    assert two.shape == three.shape != none.shape
    assert none.shape == of_shape().shape


def test_what_the_ema_counts_is_a_number_where_there_is_one():
    nine, five, none = (of_shape(ema={"decay": decay}) for decay in (0.9, 0.5, 0.0))
    assert nine.shape == five.shape != none.shape


def test_the_score_that_decides_which_step_is_best():
    names = ["swd", "own_parts:NaNScore", "fd/raw"]
    assert resolved(gan(score={"names": names})).best_score == "swd"
    assert resolved(gan(score={"names": names, "best": "fd/raw"})).best_score == "fd/raw"
    assert resolved(gan(score={"names": names, "best": "never"})).best_score == "never"
    assert resolved(gan(score={"names": []})).best_score is None
    (found,) = refused(gan(score={"names": names, "best": "fd/rwa"}))
    assert found.where == "trial.score.best"
    assert "'fd/rwa' is none of the trial's scores (did you mean 'fd/raw'?)" in str(found)


def test_scores_do_not_decide_what_is_trained():
    one = resolved(gan())
    assert resolved(gan(score={"names": ["swd", "fd/raw"], "best": "fd/raw"})).key == one.key


# --- the diagnosis


def test_every_rule_of_the_catalogue_judges_with_its_thresholds():
    config = resolved(gan(diagnosis={"rules": {"mode_collapse": {"diversity": 0.25}}}))
    rules = {rule.name: rule.settings for rule in config.rules}
    assert set(rules) == {"discriminator_won", "mode_collapse", "clip_saturated", "no_progress"}
    assert rules["mode_collapse"].diversity == 0.25
    assert rules["no_progress"].stalled == 0.5
    assert config.to_dict()["diagnosis"]["rules"]["mode_collapse"]["diversity"] == 0.25


def test_a_trial_is_diagnosed_as_often_as_it_is_scored():
    config = resolved(gan(samples={"every": 70}, budget={"g_steps": 1000}))
    assert (config.diagnosis_every, config.grace) == (70, 250)
    assert resolved(gan(score={"every": 30})).diagnosis_every == 30
    assert resolved(gan(diagnosis={"every": 0})).diagnosis_every == 0
    assert resolved(gan(diagnosis={"every": 9, "grace": 5})).diagnosis_every == 9
    assert resolved(gan(diagnosis={"every": 9, "grace": 5})).grace == 5


def test_a_users_own_rule_may_stop_a_trial():
    tree = gan(diagnosis={"rules": {"own_parts:Doomed": {"below": 0.5}}, "stop": ["doomed"]})
    config = resolved(tree)
    assert [rule.settings.below for rule in config.rules if rule.cls.name == "doomed"] == [0.5]
    assert resolved(json.loads(json.dumps(config.to_dict()))) == config


def test_a_diagnosis_is_no_part_of_the_identity():
    changed = {"every": 7, "stop": ["no_progress"], "rules": {"no_progress": {"stalled": 0.9}}}
    assert resolved(gan(diagnosis=changed)).key == resolved(gan()).key


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rules": {"mode_colapse": {}}}, "trial.diagnosis.rules.mode_colapse: unknown rule"),
        ({"rules": {"mode_colapse": {}}}, "did you mean 'mode_collapse'?"),
        (
            {"rules": {"mode_collapse": {"diversty": 1}}},
            "trial.diagnosis.rules.mode_collapse.diversty: unknown key (did you mean 'diversity'?)",
        ),
        (
            {"rules": {"mode_collapse": {"diversity": -1}}},
            "trial.diagnosis.rules.mode_collapse.diversity: is -1.0, must be at least 0",
        ),
        ({"rules": {"mode_collapse": 0.1}}, "rules.mode_collapse: is 0.1, must be a section"),
        ({"stop": ["no_progres"]}, "trial.diagnosis.stop: no rule 'no_progres' (did you mean"),
        ({"every": -1}, "trial.diagnosis.every: is -1, must be at least 0"),
    ],
)
def test_mistakes_in_a_diagnosis(section, words):
    assert any(words in str(problem) for problem in refused(gan(diagnosis=section)))


def test_trials_of_one_recipe_differ_in_their_seed_alone():
    """Beside what does not decide what they learn, as in their keys."""
    one = of_shape()
    for change in ({"seed": 7}, {"seed": 7, "budget": {"g_steps": 9}}):
        assert of_shape(**change).recipe == one.recipe
        assert of_shape(**change).key != one.key
    assert of_shape(network={"name": "mlp", "width": 99}).recipe != one.recipe
    assert len({one.key, one.shape, one.recipe}) == 3


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ({"optimiser": {"name": "adam"}}, r"published['optimiser'], which is no section of a tri"),
        ({"optimizer": "adam"}, "'adam' as published['optimizer'], must be a section"),
    ],
)
def test_published_defaults_that_are_none(monkeypatch, published, told):
    import own_parts

    tree = {"model": {"name": "own_parts:Unpublished"}, "network": {"name": "mlp"},
            "optimizer": {"name": "adam"}}  # fmt: skip
    resolved(tree)
    monkeypatch.setattr(own_parts.Unpublished, "published", published)
    (found,) = refused(tree)
    assert found.where == "trial.model.name"
    assert told in found.what


def test_a_rule_must_not_take_the_place_of_another():
    (found,) = refused(gan(diagnosis={"rules": {"own_parts:Collapsed": {}}}))
    assert found.where == "trial.diagnosis.rules.own_parts:Collapsed"
    assert found.what == "another rule is called mode_collapse too"
