from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sweep_files import TEXT, load, text
from torch import Tensor

from gansweep.assembly import build_module
from gansweep.config import TrialConfig
from gansweep.data.base import Samples
from gansweep.data.batch import Batch
from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.sweep import trials as trials_module
from gansweep.sweep.trials import (
    Names,
    check_data,
    compared_across,
    format_value,
    is_listed,
    planned,
    short_key,
    trial_count,
)

TRIAL = yaml.safe_load(TEXT)["trial"]


def names(folder: Path, space: dict[str, Any], **sections: Any) -> list[str]:
    return [trial.name for trial in planned(load(folder, text(space=space, **sections)))]


def test_points_times_seeds_with_distinct_stable_keys(tmp_path: Path) -> None:
    trials = planned(load(tmp_path, text(seeds=[3, 7])))
    assert [(t.point["model.clip"], t.seed) for t in trials] == [
        (0.01, 3), (0.01, 7), (0.02, 3), (0.02, 7),
    ]  # fmt: skip
    assert len({trial.key for trial in trials}) == 4
    assert [t.config.model.settings.clip for t in trials] == [0.01, 0.01, 0.02, 0.02]
    extended = planned(load(tmp_path, text(seeds=[7, 3, 9]), ["budget.g_steps=900"]))
    assert {t.key for t in trials} < {t.key for t in extended}
    assert len(extended) == 6
    again = planned(load(tmp_path, text(seeds=[3, 7])))
    assert [t.key for t in again] == [t.key for t in trials]


def first_gradients(config: TrialConfig) -> list[list[Tensor]]:
    """How far D and G move in a trial's first generator step, over the rates that it was given."""
    module = build_module(config, DataSpec((2,)))
    module.setup("fit")
    module.configure_optimizers()
    nets = (module.discriminator, module.generator)
    before = [[p.detach().clone() for p in net.parameters()] for net in nets]
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    batch = Batch(Samples(x), torch.arange(64).view(1, 64), torch.device("cpu"))
    module.training_step(batch, 0)
    rates = (config.d_optimizer.settings.lr, config.g_optimizer.settings.lr)
    return [
        [(p.detach() - old) / rate for p, old in zip(net.parameters(), was, strict=True)]
        for net, was, rate in zip(nets, before, rates, strict=True)
    ]


def test_swept_rates_reach_the_weights(tmp_path: Path) -> None:
    """Ray's own pbt_dcgan_mnist example sweeps rates that never reach the optimizer.

    By SGD a first step is the rate times a gradient, which does not depend on the rate; G's depends
    on the rate of D, which went before.
    """
    trial = {
        "model": {"name": "gan"},
        "network": {"name": "mlp", "width": 8, "depth": 1},
        "optimizer": {"name": "sgd", "momentum": 0.0},
        "data": {"name": "ring8", "n": 100},
    }
    d_rates, g_rates = [0.1, 0.4], [0.2, 1.0]
    space = {
        "optimizer.discriminator.lr": {"grid": d_rates},
        "optimizer.generator.lr": {"grid": g_rates},
    }
    trials = planned(load(tmp_path, text(trial=trial, space=space)))
    swept = [
        tuple(part.settings.lr for part in (t.config.d_optimizer, t.config.g_optimizer))
        for t in trials
    ]
    assert swept == [(d, g) for d in d_rates for g in g_rates]
    (d, g), *others = (first_gradients(trial.config) for trial in trials)
    for other_d, _ in others:
        for one, other in zip(d, other_d, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    for one, other in zip(g, others[0][1], strict=True):  # of the same rate for D
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert min(part.abs().max().item() for part in (*d, *g)) > 1e-3


def test_trials_of_equal_settings_are_one(tmp_path: Path) -> None:
    space = {
        "model.clip": {"grid": [0.01, 0.010]},
        "pair": {"grid": [{}, {"network.width": 8}]},
    }
    assert len(names(tmp_path, space)) == 1


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    trials = planned(load(tmp_path, TEXT, ["budget.g_steps=1e4"]))
    assert trials[0].config.budget.g_steps == 10_000
    assert isinstance(trials[0].config.budget.g_steps, int)


def test_random_and_tpe_counts(tmp_path: Path) -> None:
    space = {"model.clip": {"loguniform": [1e-3, 1e-1]}}
    content = text(space=space, search={"method": "random", "samples": 6}, seeds=2)
    assert len(planned(load(tmp_path, content))) == 12
    content = text(space=space, search={"method": "tpe", "samples": 6}, seeds=2)
    examples = planned(load(tmp_path, content))
    assert {t.point["model.clip"] for t in examples} == {1e-3, 1e-1}


@pytest.mark.parametrize("method", ["grid", "tpe"])
def test_mistake_in_any_option_is_found_under_its_axis(tmp_path: Path, method: str) -> None:
    space = {
        "model.name": {"choice" if method == "tpe" else "grid": ["gan", "wgan", "wagn"]},
        "model.clip": {"grid": [0.1, 0.2, 0.3, -1], "when": {"model.name": "wgan"}},
    }
    trial = {k: v for k, v in TRIAL.items() if k != "model"}
    sweep = load(tmp_path, text(trial=trial, space=space, search={"method": method}))
    with pytest.raises(ConfigError) as caught:
        planned(sweep)
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == 2
    assert any("space.model.name: model.name unknown model 'wagn' (did" in each for each in found)
    assert "space.model.clip: model.clip is -1.0, must be greater than 0" in found


def test_empty_space_with_one_seed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one trial is no sweep"):
        planned(load(tmp_path, text(space=None)))
    assert len(planned(load(tmp_path, text(space=None, seeds=3)))) == 3


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"metric": "score/sdw"}, r"'score/sdw' is no score of the trials \(one of score/swd\)"),
        ({"metric": "loss/d", "scheduler": "asha"}, "cannot drive a scheduler"),
        ({"metric": "loss/d", "mode": "max"}, None),
        ({"metric": "d/wasserstein", "mode": "max"}, None),
        ({"metric": "time/g_steps_per_s", "mode": "max"}, None),
        ({"metric": "diagnosis/clip_pinned", "mode": "max"}, None),
        ({"metric": "loss/d"}, r"search\.mode: .* loss/d .* is not known \(set it: min or max\)"),
        ({"metric": "loss/typo"}, r"'loss/typo' is logged by no trial \(did you mean 'loss/"),
        ({"metric": "loss/penalty"}, "'loss/penalty' is logged by no trial"),  # of wgan
        ({"metric": "d/accuracy"}, r"\(valid: d/fake, d/real, d/wasserstein\)"),
        ({"metric": "diagnosis/lipshitz"}, r"\(did you mean 'diagnosis/lipschitz'\?\)"),
        ({"metric": "time/second"}, r"\(did you mean 'time/seconds'\?\)"),
        ({"metric": "score/swd", "scheduler": "median"}, None),
        ({"metric": "best/score/swd"}, None),
        ({"metric": "best/score/sdw"}, "'best/score/sdw' is no score of the trials"),
        ({"mode": "max"}, r"is max, and of score/swd smaller is better \(set mode: min\)"),
    ],
)
def test_metric(tmp_path: Path, search: dict[str, Any], words: str | None) -> None:
    sweep = load(tmp_path, text(search=search))
    if words is None:
        assert len(planned(sweep)) == 2
        return
    with pytest.raises(ConfigError, match=words):
        planned(sweep)


def test_scores_that_do_not_fit_are_found_before_anything_starts(tmp_path: Path) -> None:
    trial = {**TRIAL, "score": {"names": ["swd", "w1", "fd/digits", "class_accuracy/raw"]}}
    with pytest.raises(ConfigError) as caught:
        check_data(planned(load(tmp_path, text(trial=trial))))
    assert [str(problem).partition(" (")[0] for problem in caught.value.problems] == [
        "trial.score.names: w1 is for data on the line, these have shape",
        "trial.score.names: the extractor digits sees images of shape",
        "trial.score.names: class_accuracy needs class probabilities, the extractor raw gives none",
    ]


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_a_search_does_not_compare_data_sets(tmp_path: Path, scheduler: str) -> None:
    space = {"data.n": {"grid": [500, 1000]}}
    sweep = load(tmp_path, text(space=space, search={"scheduler": scheduler}))
    if scheduler == "none":  # each is recorded, and no search draws conclusions
        assert len(planned(sweep)) == 2
        return
    with pytest.raises(ConfigError, match="on several data sets cannot be compared"):
        planned(sweep)
    batches = {"data.batch_size": {"grid": [16, 32]}}
    planned(load(tmp_path, text(space=batches, search={"scheduler": scheduler})))


def test_what_a_sweep_varies_itself_is_compared(tmp_path: Path) -> None:
    for space, across in (
        ({"ema.decay": {"grid": [0, 0.9]}}, ["ema"]),
        ({"ema": {"grid": [{"decay": 0}, {"decay": 0.9}]}}, ["ema"]),
        ({"model.clip": {"grid": [0.1, 0.2]}}, []),
    ):
        assert compared_across(load(tmp_path, text(space=space))) == across


def test_presets_with_and_without_an_average_are_compared(tmp_path: Path) -> None:
    for presets, ema, across in (
        (["r1gan/paper", "dcgan/paper"], {}, ["ema"]),
        (["r1gan/paper", "r1gan/official"], {}, []),
        (["wgan/paper", "dcgan/paper"], {}, []),
        (["r1gan/paper", "dcgan/paper"], {"ema": {"decay": 0.9}}, []),
    ):
        trial = {"data": {"name": "digits", "size": 16}, **ema}
        space = {"preset": {"grid": presets}}
        assert compared_across(load(tmp_path, text(trial=trial, space=space))) == across
    label = {"grid": [{"preset": "r1gan/paper"}, {"latent.dim": 4}]}
    trial = {"preset": "dcgan/paper", "data": {"name": "digits", "size": 16}}
    assert compared_across(load(tmp_path, text(trial=trial, space={"which": label}))) == ["ema"]


@pytest.mark.parametrize(
    ("search", "every", "idle"),
    [
        ({"scheduler": "asha"}, 1000, True),  # the default interval: one score, at the end
        ({"scheduler": "asha", "grace": 100}, 5, True),
        ({"scheduler": "median", "grace": 16}, 10, True),
        ({"scheduler": "median", "grace": 15}, 5, False),
        ({"scheduler": "asha"}, 10, False),
        ({}, 1000, False),
    ],
)
def test_a_scheduler_that_no_score_reaches_is_told(
    tmp_path: Path, search: dict[str, Any], every: int, idle: bool
) -> None:
    trial = {**TRIAL, "budget": {"g_steps": 20}, "score": {"every": every}}
    sweep = load(tmp_path, text(trial=trial, search=search))
    notes = trials_module.idle_scheduler(sweep, planned(sweep))
    assert len(notes) == idle
    assert all(f"{search['scheduler']} stops no trial: " in note for note in notes)
    assert all(f"every {every} g_steps" in note for note in notes)


# --- what population based training can vary

PBT = {"scheduler": "pbt", "interval": 2, "method": "random", "samples": 4}
SCORED = {**TRIAL, "budget": {"g_steps": 20}, "score": {"every": 2}}
RATE = {"optimizer.lr": {"loguniform": [1e-5, 1e-2]}}


def pbt_mistakes(
    folder: Path,
    space: dict[str, Any],
    trial: dict[str, Any] | None = None,
    seeds: int = 1,
    **search: Any,
) -> list[str]:
    content = text(
        space=space, trial={**SCORED, **(trial or {})}, search={**PBT, **search}, seeds=seeds
    )
    try:
        planned(load(folder, content))
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


FREE = [
    RATE,
    {**RATE, "model.clip": {"grid": [0.01, 0.1]}, "optimizer.alpha": {"uniform": [0.5, 0.99]}},
    {"optimizer.generator.lr": {"choice": [1, 0.1]}},
    {"optimizer.discriminator": {"grid": [{"lr": 0.1}, {"lr": 0.2}]}},
    {"pair": {"grid": [{"model.clip": clip, "optimizer.lr": 0.1 * clip} for clip in (0.1, 1)]}},
    {"model.clip": {"grid": [0.1, 0.2], "when": {"model.name": "wgan"}}},
]  # fmt: skip


@pytest.mark.parametrize("space", FREE)
def test_pbt_varies_floats_of_model_and_optimizer(tmp_path: Path, space: dict[str, Any]) -> None:
    assert pbt_mistakes(tmp_path, space, seeds=2) == []


FIXED = [
    ("optimizer.name", {"grid": ["adam", "rmsprop"]}, "optimizer.name"),
    ("optimizer", {"grid": [{"name": n, "lr": 1} for n in ("adam", "sgd")]}, "optimizer.name"),
    ("network.width", {"randint": [4, 8]}, "network.width"),
    ("network.dropout", {"uniform": [0, 0.5]}, "network.dropout"),
    ("model.n_critic", {"grid": [1, 5]}, "model.n_critic"),
    ("model.clip_timing", {"grid": ["before", "after"]}, "model.clip_timing"),
    ("model.clip_normalisation", {"grid": [True, False]}, "model.clip_normalisation"),
    ("data.batch_size", {"grid": [8, 16]}, "data.batch_size"),
    ("ema.decay", {"uniform": [0, 0.9]}, "ema.decay"),
    ("precision", {"grid": [32, "bf16"]}, "precision"),
    ("pair", {"grid": [{"model.clip": n, "network.depth": n} for n in (1, 2)]}, "network.depth"),
]  # fmt: skip


@pytest.mark.parametrize(("axis", "body", "key"), FIXED)
def test_pbt_refuses_what_is_fixed(tmp_path: Path, axis: str, body: Any, key: str) -> None:
    (found,) = pbt_mistakes(tmp_path, {**RATE, axis: body} if axis != "optimizer" else {axis: body})
    assert found.startswith(f"space.{axis}: {key} cannot change in mid-training")
    assert "take this axis out, or use another scheduler" in found
    assert pbt_mistakes(tmp_path, {axis: body}, scheduler="asha") == []


VAIN = [
    ("budget.g_steps", {"grid": [20, 40]}),
    ("device", {"choice": ["cpu", "auto"]}),
    ("how", {"grid": [{"score.samples": n, "log.every": 1} for n in (100, 200)]}),
]


@pytest.mark.parametrize(("axis", "body"), VAIN)
def test_axes_whose_values_are_one_trial(tmp_path: Path, axis: str, body: Any) -> None:
    """A key means what is learnt: of trials that differ in their budget one would be trained."""
    for scheduler in ("none", "asha", "pbt"):
        (found,) = pbt_mistakes(tmp_path, {**RATE, axis: body}, scheduler=scheduler)
        assert found.startswith(f"space.{axis}: ")
        assert "does not change what a trial learns" in found
        assert "make a sweep of each value" in found
    pair = {"grid": [{"model.clip": c, "budget.g_steps": n} for c, n in ((0.1, 20), (0.2, 40))]}
    assert pbt_mistakes(tmp_path, {"pair": pair}, scheduler="none") == []


@pytest.mark.parametrize(
    "body",
    [{"choice": [0, *[0.5] * 9]}, {"choice": [*[0] * 9, 0.5]}, {"quniform": [0, 0.9, 0.001]}],
)
def test_pbt_refuses_a_zero_that_it_may_come_to_later(tmp_path: Path, body: Any) -> None:
    """Whoever began without momentum has none in a stack, whatever its settings say then."""
    drawn = {"samples": 2, "seed": 2}
    (found,) = pbt_mistakes(tmp_path, {**RATE, "optimizer.momentum": body}, **drawn)
    assert found.startswith("space: a population's trials must be equal but for numbers, none 0")
    span = {**RATE, "optimizer.momentum": {"uniform": [0, 0.9]}}
    assert pbt_mistakes(tmp_path, span, **drawn) == []


def test_an_axis_that_both_optimizers_override(tmp_path: Path) -> None:
    """It was dropped: one trial was left, named by a rate that it did not have."""
    own = {"name": "rmsprop", "generator": {"lr": 0.1}, "discriminator": {"lr": 0.2}}
    trial = {**TRIAL, "optimizer": own}
    space = {"optimizer.lr": {"grid": [0.1, 0.2]}, "model.clip": {"grid": [0.01, 0.02]}}
    with pytest.raises(ConfigError) as caught:
        planned(load(tmp_path, text(trial=trial, space=space)))
    assert str(caught.value).startswith("space.optimizer.lr: optimizer.lr is under what generator")
    of_one = {**TRIAL, "optimizer": {**own, "generator": {}}}
    assert len(planned(load(tmp_path, text(trial=of_one, space=space)))) == 4
    ttur = {"grid": [{"optimizer.generator.lr": 0.1, "optimizer.discriminator.lr": 0.2}, {}]}
    named = {**TRIAL, "optimizer": {"name": "rmsprop"}}  # in some trials it counts
    assert len(planned(load(tmp_path, text(trial=named, space={"t": ttur, **space})))) == 6


def test_pbt_refuses_options_of_different_keys_and_moving_conditions(tmp_path: Path) -> None:
    pair = {"grid": [{"model.clip": 0.1}, {"model.clip": 0.2, "optimizer.lr": 0.1}]}
    (found,) = pbt_mistakes(tmp_path, {"pair": pair})
    assert found.startswith("space.pair: its values set different keys")
    space = {
        "model.clip": {"grid": [0.1, 0.2]},
        "optimizer.lr": {"grid": [1, 2], "when": {"model.clip": 0.1}},
    }
    (found,) = pbt_mistakes(tmp_path, space)
    assert found.startswith("space.optimizer.lr.when: depends on model.clip")


def test_pbt_needs_a_population_and_no_tpe(tmp_path: Path) -> None:
    (found,) = pbt_mistakes(tmp_path, RATE, samples=1)
    assert found.startswith("search.scheduler: pbt is for a population")
    assert pbt_mistakes(tmp_path, RATE, samples=1, seeds=2) == []
    (found,) = pbt_mistakes(tmp_path, RATE, method="tpe")
    assert found.startswith("search.method: tpe chooses")


@pytest.mark.parametrize(
    ("interval", "every", "words"),
    [
        (2, 2, None),
        (None, 2, None),  # a tenth of 20
        (None, 1, None),
        (19, 1, None),
        (4, 2, None),
        (3, 2, "search.interval: a generation of pbt every 3 g_steps, and scores every 2 (set"),
        (2, 4, "or score.every to 2)"),
        (None, None, "set search.interval to a multiple of 1000, or score.every to 2"),
        (20, 2, "search.interval: is 20: no generation of pbt before the budget of 20 g_steps"),
    ],
)
def test_generations_fall_on_scores(
    tmp_path: Path, interval: int | None, every: int | None, words: str | None
) -> None:
    found = pbt_mistakes(tmp_path, RATE, {"score": {"every": every}}, interval=interval)
    assert len(found) == (words is not None)
    assert words is None or words in found[0]
    asha = {"scheduler": "asha", "interval": interval}
    assert pbt_mistakes(tmp_path, RATE, {"score": {"every": every}}, **asha) == []


def test_pbt_decides_on_a_score(tmp_path: Path) -> None:
    (found,) = pbt_mistakes(tmp_path, RATE, metric="loss/d")
    assert "cannot drive a scheduler" in found


def test_cuda_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resources.gpu is 0"):
        planned(load(tmp_path, TEXT, ["device=cuda"]))


def test_processes_share_each_batch_equally(tmp_path: Path) -> None:
    def mistakes(overrides: list[str], count: int) -> list[str]:
        own = text(space={"data.batch_size": {"grid": [12, 18]}}, resources={"processes": count})
        try:
            planned(load(tmp_path, own, overrides))
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        return []

    assert mistakes([], 1) == mistakes([], 2) == mistakes([], 6) == []
    assert mistakes([], 4) == [
        "trial.data.batch_size: is 18, which 4 processes cannot share equally (a multiple of 4)"
    ]
    (found,) = mistakes(["model.pac=2"], 6)
    assert found.endswith("is 18, which 6 processes cannot share equally, 2 samples at a time "
                          "(a multiple of 12)")  # fmt: skip
    (found,) = mistakes(["compile=true"], 2)
    assert found.startswith("trial.compile: is true, and the step of 2 processes")


def test_all_that_is_wrong_with_own_parts_is_told_at_once(tmp_path: Path) -> None:
    trial = {
        "model": {"name": "own_parts:Played", "kind": "d_steps"},
        "network": {"name": "own_parts:Other", "kind": "frozen"},
        "optimizer": {"name": "own_parts:Built", "kind": "nothing"},
        "data": {"name": "ring8"},
        "score": {"names": ["own_parts:Nothing"], "samples": 30},
        "diagnosis": {"rules": {"own_parts:Unruly": {}}},
    }
    space = {"latent.dim": {"grid": [2, 3]}}
    own = text(trial=trial, space=space, search={"metric": "score/nothing"})
    with pytest.raises(ConfigError) as caught:
        check_data(planned(load(tmp_path, own)))
    assert sorted(problem.where for problem in caught.value.problems) == [
        "trial.diagnosis.rules.own_parts:Unruly", "trial.model.name", "trial.network",
        "trial.optimizer.name", "trial.score.names",
    ]  # fmt: skip


def test_a_score_that_is_not_finite_is_told_of_every_trial_that_has_it(tmp_path: Path) -> None:
    never = {"names": ["swd", "own_parts:NaNScore"], "samples": 30}
    own = text(trial={**TRIAL, "score": never})
    advice = check_data(planned(load(tmp_path, own)))
    assert len(advice) == 2
    assert all("the score never is nan on real" in "; ".join(each) for each in advice.values())


def test_networks_are_tried_on_what_each_process_has(tmp_path: Path) -> None:
    trial = {**TRIAL, "network": {"name": "mlp", "generator_norm": "batch"}}
    trials = planned(load(tmp_path, text(trial=trial), ["data.batch_size=4"]))
    check_data(trials, processes=2)
    with pytest.raises(ConfigError, match=r"batch_size: is 4 for 4 processes.*at least 8, or net"):
        check_data(trials, processes=4)


def test_data_and_networks_are_tried(tmp_path: Path) -> None:
    trials = planned(load(tmp_path, text(space={"network.name": {"grid": ["mlp", "dcgan"]}}), [
        "network={}", "model.clip=null"]))  # fmt: skip
    with pytest.raises(ConfigError, match="dcgan needs images") as caught:
        check_data(trials)
    assert len(caught.value.problems) == 1
    space = {"data.path": {"grid": ["/no/a.npz", "/no/b.npz"]}}
    trial = {**TRIAL, "data": {"name": "npz"}}
    with pytest.raises(ConfigError) as caught:
        check_data(planned(load(tmp_path, text(trial=trial, space=space))))
    assert [("a.npz" in str(p), "b.npz" in str(p)) for p in caught.value.problems] == [
        (True, False), (False, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stacked", "compile", "keys"),
    [
        (False, "auto", []),
        (True, "auto", ["resources.engine"]),
        (False, "true", ["trial.compile"]),
        (True, "true", ["resources.engine", "trial.compile"]),
    ],
)
def test_what_cannot_be_stacked_is_found_before_anything_starts(
    tmp_path: Path, stacked: bool, compile: str, keys: list[str]
) -> None:
    dropping = {**TRIAL, "network": {"name": "mlp", "dropout": 0.5}, "compile": compile}
    trials = planned(load(tmp_path, text(trial=dropping)))
    if not keys:
        check_data(trials, stacked=stacked)
        return
    with pytest.raises(ConfigError, match="dropout") as caught:
        check_data(trials, stacked=stacked)
    assert [problem.where for problem in caught.value.problems] == keys
    plain = {**TRIAL, "network": {"name": "mlp"}, "compile": compile}
    check_data(planned(load(tmp_path, text(trial=plain))), stacked=stacked)


def test_advice_by_trial(tmp_path: Path) -> None:
    trials = planned(load(tmp_path, text(space={"optimizer.name": {"grid": ["rmsprop", "adam"]}})))
    advice = check_data(trials)
    assert [bool(advice[trial.key]) for trial in trials] == [False, True]


# --- names


def test_names_are_what_differs(tmp_path: Path) -> None:
    space = {
        "model.clip": {"grid": [0.01]},
        "optimizer.lr": {"grid": [5.0e-05]},
        "optimizer.name": {"grid": ["rmsprop", "adam"]},
    }
    assert names(tmp_path, space) == ["clip=0.01 lr=5e-05 rmsprop", "clip=0.01 lr=5e-05 adam"]
    assert names(tmp_path, {"model.clip": {"grid": [0.1]}}, seeds=2) == [
        "clip=0.1 seed=0",
        "clip=0.1 seed=1",
    ]


def test_names_tell_equal_ends_apart(tmp_path: Path) -> None:
    space = {
        "optimizer.generator.lr": {"grid": [0.1]},
        "optimizer.discriminator.lr": {"grid": [0.2]},
    }
    assert names(tmp_path, space) == ["generator.lr=0.1 discriminator.lr=0.2"]


def test_names_of_sections_and_of_several_keys(tmp_path: Path) -> None:
    optimizers = [{"name": "adam", "lr": 0.1}, {"name": "adam", "lr": 0.2}, {"name": "sgd"}]
    found = names(tmp_path, {"optimizer": {"grid": optimizers}})
    assert found == ["adam lr=0.1", "adam lr=0.2", "sgd"]
    pair = [{"model.clip": 0.1, "network.width": 4}, {"model.clip": 0.2, "network.width": 8}]
    assert names(tmp_path, {"pair": {"grid": pair}}) == ["clip=0.1", "clip=0.2"]


def test_names_are_unique_and_short(tmp_path: Path) -> None:
    space = {
        "model.clip": {"grid": [0.01, 0.1]},
        "optimizer.lr": {"loguniform": [1e-5, 1e-3]},
        "network.width": {"randint": [4, 64]},
    }
    found = names(tmp_path, space, search={"samples": 4}, seeds=2)
    assert len(found) == len(set(found)) == 16
    assert max(map(len, found)) < 50


def test_short_key() -> None:
    keys = ["model.clip", "optimizer.lr", "optimizer.generator.lr", "a.b", "b"]
    assert [short_key(key, keys) for key in keys] == [
        "clip", "optimizer.lr", "generator.lr", "a.b", "b",
    ]  # fmt: skip


def test_format_value() -> None:
    assert [format_value(v) for v in (0.01, 5e-5, 3, True, None, "x", 0.123456)] == [
        "0.01", "5e-05", "3", "True", "None", "x", "0.1235",
    ]  # fmt: skip


def test_trial_name_of_a_point_without_axes(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(space=None, seeds=2))
    assert Names(sweep).of({}, 1) == "seed=1"


def steps(count: int, unit: float) -> list[float]:
    return [unit * (place + 1) for place in range(count)]


MILLION = {
    "model.clip": {"grid": steps(100, 0.001)},
    "optimizer.lr": {"grid": steps(100, 1e-5)},
    "optimizer.alpha": {"grid": steps(100, 0.009)},
}


def test_a_grid_of_a_million_points_is_planned_from_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take every value of every axis; how many trials there are is counted without them."""
    made: list[Any] = []
    real = trials_module.TrialMaker.resolve

    def counted(self: Any, point: Any, problems: Any) -> Any:
        made.append(point)
        return real(self, point, problems)

    monkeypatch.setattr(trials_module.TrialMaker, "resolve", counted)
    sweep = load(tmp_path, text(space=MILLION, seeds=3))
    assert trial_count(sweep) == 3 * 10**6
    assert not is_listed(sweep)
    examples = planned(sweep)
    assert len(made) <= 300 + 500
    assert {trial.seed for trial in examples} == {0}
    for axis, values in MILLION.items():
        assert {trial.point[axis] for trial in examples} == set(values["grid"])


@pytest.mark.parametrize(("count", "listed"), [(500, True), (501, False)])
def test_sweeps_up_to_a_thousand_trials_are_listed(
    tmp_path: Path, count: int, listed: bool
) -> None:
    space = {"model.clip": {"grid": steps(count, 0.001)}}
    sweep = load(tmp_path, text(space=space, seeds=2))
    assert is_listed(sweep) is listed
    assert trial_count(sweep) == 2 * count
    population = {"scheduler": "pbt", "interval": 1}
    assert is_listed(load(tmp_path, text(space=space, seeds=2, search=population)))
    random = {"method": "random", "samples": count}
    assert is_listed(load(tmp_path, text(space=space, seeds=2, search=random))) is listed


def test_a_mistake_in_one_value_of_a_large_search_is_found(tmp_path: Path) -> None:
    space = {**MILLION, "model.clip": {"grid": [*steps(99, 0.001), -1.0]}}
    with pytest.raises(ConfigError, match=r"space\.model\.clip: .*greater than 0"):
        planned(load(tmp_path, text(space=space)))


def test_networks_are_built_once_for_each_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[TrialConfig] = []
    real = trials_module.fitting

    def counted(config: TrialConfig, spec: DataSpec, **options: Any) -> Any:
        built.append(config)
        return real(config, spec, **options)

    monkeypatch.setattr(trials_module, "fitting", counted)
    space = {
        "model.clip": {"grid": steps(10, 0.01)},
        "optimizer.lr": {"grid": steps(10, 1e-4)},
        "optimizer.momentum": {"grid": [0.0, 0.5]},
        "network.width": {"grid": [8, 9]},
    }
    trials = planned(load(tmp_path, text(space=space)))
    advice = check_data(trials)
    assert len(trials) == len(advice) == 400
    assert len(built) == 4  # two widths, and momentum that is 0 or not
    for trial in trials:  # which depends on numbers too
        momentum = trial.point["optimizer.momentum"] > 0
        assert any("momentum" in line for line in advice[trial.key]) is momentum


def test_trials_of_a_shape_are_advised_by_their_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the variant may refuse, too."""

    def advise(config: TrialConfig, discriminator: Any) -> list[str]:
        return [f"{config.model.settings.clip} {config.d_optimizer.settings.lr}"]

    monkeypatch.setattr(trials_module, "advise", advise)
    space = {"model.clip": {"grid": steps(3, 0.01)}, "optimizer.lr": {"grid": steps(3, 1e-4)}}
    trials = planned(load(tmp_path, text(space=space)))
    assert len({trial.config.shape for trial in trials}) == 1
    assert check_data(trials) == {
        trial.key: [f"{trial.point['model.clip']} {trial.point['optimizer.lr']}"]
        for trial in trials
    }
    assert len(trials) == 9


def test_classes_without_a_sample_are_among_the_advice(tmp_path: Path) -> None:
    np.savez(tmp_path / "gap.npz", x=np.zeros((4, 2)), y=np.array([0, 2, 2, 0]))
    data = {"name": "npz", "path": str(tmp_path / "gap.npz")}
    trial = {**yaml.safe_load(TEXT)["trial"], "data": data}
    told = []
    for conditional in (False, True):
        model = {"name": "wgan", "conditional": conditional}
        trials = planned(load(tmp_path, text(trial={**trial, "model": model})))
        told.append({line for lines in check_data(trials).values() for line in lines})
    assert len(told[1] - told[0]) == 1
    assert "1 of the data's 3 classes has no sample (1)" in str(told[1])
