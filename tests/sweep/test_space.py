from __future__ import annotations

import itertools
import json
import math
import random
import re
from typing import Any

import pytest

from gansweep.sweep.space import DOMAINS, Assignment, Space, apply, parse_space

SECTIONS = ("model", "network", "optimizer", "data")


def space(tree: dict[str, Any], base: dict[str, Any] | None = None) -> Space:
    problems: list[Any] = []
    parsed = parse_space(tree, base or {}, SECTIONS, problems)
    assert [str(problem) for problem in problems] == []
    return parsed


def grid(space: Space, *, samples: int = 1, seed: int = 0) -> list[Assignment]:
    return list(space.walk(samples=samples, seed=seed))


def refusals(tree: dict[str, Any], base: dict[str, Any] | None = None) -> list[str]:
    problems: list[Any] = []
    parse_space(tree, base or {}, SECTIONS, problems)
    return [str(problem) for problem in problems]


def draws(kind: str, values: list[Any], count: int = 4000) -> list[Any]:
    rng = random.Random(0)
    domain = DOMAINS[kind].parse(values)
    return [domain.draw(rng) for _ in range(count)]


# --- distributions


def test_uniform_mean_variance_and_bounds() -> None:
    values = draws("uniform", [2, 6])
    mean = sum(values) / len(values)
    assert mean == pytest.approx(4, abs=0.08)  # four standard errors
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    assert variance == pytest.approx(16 / 12, rel=0.06)
    assert 2 <= min(values) < 2.01
    assert 5.99 < max(values) <= 6


def test_loguniform_is_uniform_in_the_logarithm() -> None:
    values = draws("loguniform", [1e-5, 1e-2])
    logs = [math.log10(value) for value in values]
    assert sum(logs) / len(logs) == pytest.approx(-3.5, abs=0.06)
    decades = [sum(low <= log < low + 1 for log in logs) / len(logs) for low in (-5, -4, -3)]
    assert decades == pytest.approx([1 / 3] * 3, abs=0.03)
    assert min(values) >= 1e-5
    assert max(values) <= 1e-2


def test_randint_takes_both_ends_equally() -> None:
    values = draws("randint", [1, 4])
    assert set(values) == {1, 2, 3, 4}
    assert all(type(value) is int for value in values)
    for each in (1, 2, 3, 4):
        assert values.count(each) / len(values) == pytest.approx(0.25, abs=0.03)


def test_quniform_is_a_lattice_from_low() -> None:
    values = draws("quniform", [0.1, 1.0, 0.3])
    assert sorted(set(values)) == [0.1, 0.4, 0.7, 1.0]
    for each in set(values):
        assert values.count(each) / len(values) == pytest.approx(0.25, abs=0.03)
    assert sorted(set(draws("quniform", [0, 1, 0.3]))) == [0, 0.3, 0.6, 0.9]  # not beyond high
    assert DOMAINS["quniform"].parse([0, 1, 0.3]).probes() == [0, 0.9]


def test_quniform_of_whole_numbers_gives_whole_numbers() -> None:
    values = draws("quniform", [10000, 10010, 2])  # more digits than a drawn float keeps
    assert set(values) == {10000, 10002, 10004, 10006, 10008, 10010}
    assert all(type(value) is int for value in values)


def test_choice_takes_all_equally() -> None:
    values = draws("choice", ["a", "b"])
    assert values.count("a") / len(values) == pytest.approx(0.5, abs=0.035)


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("uniform", [10000, 10001]),
        ("uniform", [0.99995, 1.0]),
        ("uniform", [-1e-9, 1e-9]),
        ("loguniform", [1.00009, 1.0002]),
    ],
)
def test_narrow_interval_keeps_its_bounds_and_its_resolution(
    kind: str, bounds: list[float]
) -> None:
    values = draws(kind, bounds, 1000)
    assert all(bounds[0] <= value <= bounds[1] for value in values)
    assert len(set(values)) > 100


def test_drawn_floats_are_short() -> None:
    assert all(float(f"{value:.4g}") == value for value in draws("loguniform", [1e-5, 1e-2], 200))


# --- near a value


def near(kind: str, values: list[Any], value: Any, count: int = 200) -> set[Any]:
    rng = random.Random(0)
    domain = DOMAINS[kind].parse(values)
    return {domain.perturb(value, rng) for _ in range(count)}


@pytest.mark.parametrize(
    ("kind", "values", "value", "expected"),
    [
        ("uniform", [0, 10], 5, {4.0, 6.0}),
        ("uniform", [0, 5.5], 5, {4.0, 5.5}),
        ("uniform", [4.5, 9], 5, {4.5, 6.0}),
        ("uniform", [-10, 10], -5, {-4.0, -6.0}),
        ("loguniform", [1e-5, 1e-2], 1.111e-4, {8.888e-5, 1.333e-4}),  # 4 digits
        ("loguniform", [1e-5, 1e-2], 1.0, {1e-2}),  # the file's bounds were wider once
        ("randint", [1, 100], 50, {40, 60}),
        ("randint", [1, 9], 2, {1, 3}),
        ("randint", [0, 9], 0, {0, 1}),
        ("randint", [-9, 9], -5, {-6, -4}),
        ("randint", [1, 55], 50, {40, 55}),
        ("quniform", [10, 110, 5], 50, {40, 60}),
        ("quniform", [100, 200, 5], 150, {120, 180}),
        ("quniform", [10, 110, 5], 10, {10, 15}),
        ("quniform", [10, 110, 5], 100, {80, 110}),
        ("quniform", [0.0, 1.0, 0.25], 0.5, {0.25, 0.75}),
        ("quniform", [0.0, 0.6, 0.25], 0.5, {0.25, 0.5}),
        ("grid", [0.1, 0.5, 0.2, 0.9], 0.5, {0.1, 0.2}),
        ("choice", [0.1, 0.5, 0.2, 0.9], 0.9, {0.2}),
        ("choice", [0.1, 0.5, 0.2, 0.9], 0.1, {0.5}),
        ("choice", [0.1], 0.1, {0.1}),
        ("choice", [0.1, 0.5, 0.2], 7, {0.1, 0.5, 0.2}),
        ("choice", [{"a": 1}, {"a": 2}, {"a": 3}], {"a": 1}, None),
    ],
)
def test_perturbed_values(kind: str, values: list[Any], value: Any, expected: Any) -> None:
    if expected is None:
        domain = DOMAINS[kind].parse(values)
        assert [domain.perturb(value, random.Random(seed)) for seed in range(3)] == [{"a": 2}] * 3
        return
    found = near(kind, values, value)
    assert found == expected
    whole = kind == "randint" or (kind == "quniform" and all(type(v) is int for v in values))
    assert {type(v) for v in found} == ({int} if whole else {float})


def test_both_factors_are_equally_likely() -> None:
    rng = random.Random(0)
    domain = DOMAINS["uniform"].parse([0, 10])
    ups = sum(domain.perturb(5, rng) == 6.0 for _ in range(4000))
    assert ups / 4000 == pytest.approx(0.5, abs=0.035)


REFUSED = [
    ("grid", [], "at least one value"),
    ("choice", 3, "at least one value"),
    ("uniform", [1, 1], "low < high"),
    ("uniform", [2, 1], "low < high"),
    ("uniform", [1], r"\[low, high\]"),
    ("uniform", [0, "x"], "'x'"),
    ("uniform", [0, float("inf")], "finite"),
    ("uniform", [0, True], "finite numbers"),
    ("uniform", [-1.7e308, 1.7e308], "too wide"),
    ("loguniform", [0, 1], "low > 0"),
    ("loguniform", [-1, 1], "low > 0"),
    ("randint", [1.5, 2], "whole"),
    ("randint", [3, 2], "low <= high"),
    ("quniform", [0, 1], r"\[low, high, step\]"),
    ("quniform", [0, 1, 0], "0 < step"),
    ("quniform", [0, 1, 2], "step <= high - low"),
]


@pytest.mark.parametrize(("kind", "values", "words"), REFUSED)
def test_bad_distribution_is_refused(kind: str, values: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DOMAINS[kind].parse(values)


# --- grid and random


def test_grid_is_every_combination() -> None:
    points = grid(space({"model.clip": {"grid": [1, 2]}, "model.n_critic": {"grid": [3, 4, 5]}}))
    assert [(p["model.clip"], p["model.n_critic"]) for p in points] == list(
        itertools.product([1, 2], [3, 4, 5])
    )


@pytest.mark.parametrize("first", ["grid", "drawn"])
def test_grid_times_drawn_times_samples(first: str) -> None:
    axes = {
        "model.clip": {"grid": [1, 2, 3]},
        "optimizer.lr": {"loguniform": [1e-5, 1e-2]},
    }
    if first == "drawn":
        axes = dict(reversed(axes.items()))
    points = grid(space(axes), samples=4)
    assert len(points) == 12
    by_clip = [[p["optimizer.lr"] for p in points if p["model.clip"] == clip] for clip in (1, 2, 3)]
    assert [len(set(each)) for each in by_clip] == [4, 4, 4]


def test_samples_of_a_pure_grid_are_one() -> None:
    assert len(grid(space({"model.clip": {"grid": [1, 2]}}), samples=5)) == 2


def drawn_lr(points: list[Assignment]) -> dict[str, float]:
    return {
        json.dumps({k: v for k, v in p.items() if k != "optimizer.lr"}): p["optimizer.lr"]
        for p in points
    }


def test_extended_file_keeps_the_drawn_values() -> None:
    lr = {"optimizer.lr": {"loguniform": [1e-5, 1e-2]}}
    small = space({"model.clip": {"grid": [1, 2]}, **lr})
    before = drawn_lr(grid(small))
    more_values = drawn_lr(grid(space({"model.clip": {"grid": [3, 1, 2]}, **lr})))
    assert len(more_values) == 3
    assert before.items() <= more_values.items()
    assert len(set(more_values.values())) == 3
    again = grid(small, samples=3)
    assert grid(small) == again[:2]
    assert drawn_lr(grid(small, samples=1, seed=1)) != before
    behind = space({"model.clip": {"grid": [1, 2]}, **lr, "model.n_critic": {"grid": [1, 5]}})
    assert {p["optimizer.lr"] for p in grid(behind)} == set(before.values())


def drawn(space: Space, count: int, *, seed: int) -> list[Assignment]:
    return [space.draw(seed, number) for number in range(count)]


def test_random_streams_are_the_axes_own() -> None:
    lr = {"optimizer.lr": {"loguniform": [1e-5, 1e-2]}}
    alone = [p["optimizer.lr"] for p in drawn(space(lr), 5, seed=3)]
    more = drawn(space({"model.clip": {"uniform": [0, 1]}, **lr}), 9, seed=3)
    assert [p["optimizer.lr"] for p in more][:5] == alone
    assert len({p["model.clip"] for p in more}) == 9
    assert len(set(alone)) == 5
    assert [p["optimizer.lr"] for p in drawn(space(lr), 5, seed=4)] != alone


# --- several keys, sections, conditions


def test_axis_over_several_keys() -> None:
    points = grid(
        space({"pair": {"grid": [{"model.clip": 1, "optimizer.lr": 2}, {"model.clip": 3}]}})
    )
    assert points == [{"model.clip": 1, "optimizer.lr": 2}, {"model.clip": 3}]


def test_axis_over_a_section_replaces_it() -> None:
    axis = {"optimizer": {"grid": [{"name": "adam", "beta1": 0.5}, {"name": "sgd"}]}}
    base = {"optimizer": {"name": "rmsprop", "alpha": 0.9}, "model": {"name": "gan"}}
    trees = [apply(base, point) for point in grid(space(axis, base))]
    assert [tree["optimizer"] for tree in trees] == [
        {"name": "adam", "beta1": 0.5},
        {"name": "sgd"},
    ]
    assert base["optimizer"] == {"name": "rmsprop", "alpha": 0.9}  # the file's own tree is kept


@pytest.mark.parametrize("first", ["optimizer", "optimizer.lr"])
def test_key_within_a_swept_section_is_not_lost(first: str) -> None:
    axes = {
        "optimizer": {"grid": [{"name": "adam"}, {"name": "sgd"}]},
        "optimizer.lr": {"grid": [1, 2]},
    }
    axes = {first: axes.pop(first), **axes}
    trees = [apply({}, point)["optimizer"] for point in grid(space(axes))]
    assert sorted((tree["name"], tree["lr"]) for tree in trees) == [
        ("adam", 1),
        ("adam", 2),
        ("sgd", 1),
        ("sgd", 2),
    ]


CONDITIONAL = {
    "model.name": {"grid": ["wgan", "wgan_gp", "gan"]},
    "model.clip": {"grid": [1, 2], "when": {"model.name": "wgan"}},
    "model.penalty_weight": {"grid": [1, 10], "when": {"model.name": ["wgan_gp"]}},
    "model.n_critic": {"grid": [5, 6], "when": {"model.name": ["wgan", "wgan_gp"]}},
}


def test_conditions_hold_in_any_order_of_the_axes() -> None:
    expected = {json.dumps(p, sort_keys=True) for p in grid(space(CONDITIONAL))}
    assert len(expected) == 4 + 4 + 1
    count = 0
    for names in itertools.permutations(CONDITIONAL):
        points = grid(space({name: CONDITIONAL[name] for name in names}))
        assert {json.dumps(p, sort_keys=True) for p in points} == expected
        assert len(points) == 9
        count += 1
    assert count == 24


def test_condition_on_the_trial_and_on_a_swept_section() -> None:
    clip = {"model.clip": {"grid": [1, 2], "when": {"model.name": "wgan"}}}
    assert len(grid(space(clip, {"model": {"name": "wgan"}}))) == 2
    variant = {"variant": {"grid": [{"model": {"name": "wgan"}}, {"model": {"name": "gan"}}]}}
    points = grid(space({**clip, **variant}))
    assert [p.get("model.clip") for p in points] == [1, 2, None]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"model.nmae": "wgan"}, r"nothing in the file sets 'model.nmae'.*mean 'model.name'"),
        ({"model.name": "wgna"}, r"never holds: model.name: \['wgna'\]"),
        (
            {"model.name": "wgan", "network.name": "mlp"},
            "nothing in the file sets 'network.name'.* a preset",
        ),
        ("wgan", "must be like"),
    ],
)
def test_condition_that_never_holds_is_refused(when: Any, words: str) -> None:
    tree = {"model.name": {"grid": ["wgan", "gan"]}, "model.clip": {"grid": [1, 2], "when": when}}
    found = refusals(tree)
    assert len(found) == 1
    assert found[0].startswith("space.model.clip.when: ")
    assert re.search(words, found[0])


REACHED = [
    ({"randint": [1, 5]}, 3, True),
    ({"randint": [1, 5]}, 6, False),
    ({"randint": [1, 5]}, 2.5, False),
    ({"quniform": [0, 1, 0.25]}, 0.5, True),
    ({"quniform": [0, 1, 0.25]}, 0.3, False),
    ({"uniform": [0, 1]}, 0.3, False),
]


@pytest.mark.parametrize(("body", "value", "holds"), REACHED)
def test_condition_on_a_value_between_the_ends(body: Any, value: Any, holds: bool) -> None:
    deciding = "model.n_critic"
    tree = {deciding: body, "model.clip": {"choice": [7, 8], "when": {deciding: value}}}
    third = {"model.burst_first": {"choice": [1], "when": {"model.clip": 8}}}
    for whole in (tree, {**tree, **third}):
        found = refusals(whole)
        assert bool(found) is not holds, found
        assert all("never holds: model." in each for each in found)


def test_conditions_in_a_circle_are_refused() -> None:
    tree = {
        "model.clip": {"grid": [1], "when": {"model.n_critic": 1}},
        "model.n_critic": {"grid": [1], "when": {"model.clip": 1}},
    }
    assert refusals(tree) == [
        "space: the conditions of model.clip, model.n_critic wait for each other"
    ]


def test_two_axes_on_one_key() -> None:
    pair = {"grid": [{"model.clip": 1, "model.n_critic": 2}]}
    assert refusals({"model.clip": {"grid": [1]}, "pair": pair}) == [
        "space.pair: sets model.clip, as the axis model.clip does"
    ]
    tree = {
        "model.name": {"grid": ["wgan", "gan"]},
        "low": {"grid": [{"model.clip": 1}], "when": {"model.name": "wgan"}},
        "high": {"grid": [{"model.clip": 9}], "when": {"model.name": "gan"}},
    }
    points = grid(space(tree))
    assert [p["model.clip"] for p in points] == [1, 9]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("modle.clip", {"grid": [1]}, "'modle.clip' names no setting of a trial (did you mean"),
        ("trial.model.clip", {"grid": [1]}, "names no setting of a trial (write model.clip)"),
        ("model", {"clip": {"grid": [1]}}, "dotted (write model.clip: {grid: ...})"),
        ("clip", {"grid": [1]}, "'clip' names no setting of a trial (valid: data, model"),
        ("pair", {"grid": [{"modle.clip": 1}]}, "'modle.clip' names no setting"),
        ("pair", {"grid": [{"model.clip": 1}, 3]}, "'pair' names no setting"),
        ("model.clip", 0.1, "must be like {grid: [...]}"),
        ("model.clip", {"gird": [1]}, "unknown distribution 'gird' (did you mean 'grid'?)"),
        ("model.clip", {"grid": [1], "choice": [2]}, "needs exactly one distribution"),
        ("model.clip", {"when": {}}, "needs exactly one distribution"),
        ("model.clip", {1: 2}, "unknown distribution '1'"),
        ("model.clip", {"grid": []}, "needs a list of at least one value"),
    ],
)
def test_bad_axis_is_refused(name: str, body: Any, words: str) -> None:
    found = refusals({name: body})
    assert len(found) == 1
    assert found[0].startswith(f"space.{name}")
    assert words in found[0]


def test_several_bad_axes_are_reported_together() -> None:
    assert len(refusals({"a": 1, "b": {"grid": []}, "model.clip": {"uniform": [2, 1]}})) == 3


# --- probes


def test_probes_take_every_option_also_under_conditions() -> None:
    tree = {
        "model.name": {"choice": ["wgan", "wgan_gp", "gan", "dcgan"]},
        "model.clip": {"choice": [1, 2, 3, 4], "when": {"model.name": "wgan"}},
        "model.n_critic": {"choice": [5, 6, 7, 8], "when": {"model.clip": 3}},
        "optimizer.lr": {"loguniform": [1e-4, 1e-2], "when": {"model.n_critic": [7]}},
        "network.width": {"randint": [2, 9]},
    }
    parsed = space(tree)
    taken: dict[str, set[Any]] = {}
    for point in parsed.probes():
        for key, value in point.items():
            taken.setdefault(key, set()).add(value)
        assert ("model.clip" in point) == (point["model.name"] == "wgan")
        assert ("model.n_critic" in point) == (point.get("model.clip") == 3)
    assert taken == {
        "model.name": {"wgan", "wgan_gp", "gan", "dcgan"},
        "model.clip": {1, 2, 3, 4},
        "model.n_critic": {5, 6, 7, 8},
        "optimizer.lr": {1e-4, 1e-2},
        "network.width": {2, 9},
    }


def test_no_axes_no_probes() -> None:
    assert list(space({}).probes()) == []
    assert grid(space({})) == [{}]


def test_null_removes_an_axis() -> None:
    assert space({"model.clip": None}).axes == ()


def test_apply_leaves_what_is_no_section_for_the_check() -> None:
    assert apply({"model": "wgan"}, {"model.clip": 1}) == {"model": "wgan"}
    assert apply({"model": None}, {"model.clip": 1}) == {"model": {"clip": 1}}


# --- what Optuna chooses, and back


class Scripted:
    """An Optuna trial that answers from a script by axis name."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        assert self.answers[name] in list(choices)
        return self.answers[name]

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        assert low <= self.answers[name] <= high
        return float(self.answers[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        assert low <= self.answers[name] <= high
        return int(self.answers[name])


def test_inverse_of_suggest() -> None:
    parsed = space(
        {
            **CONDITIONAL,
            "pair": {"grid": [{"network.width": 1}, {"network.width": 2, "network.depth": 3}]},
            "optimizer": {"grid": [{"name": "adam"}, {"name": "sgd"}]},
            "optimizer.lr": {"loguniform": [1e-5, 1e-2]},
            "data.batch_size": {"quniform": [8, 64, 8]},
            "data.n": {"randint": [1, 9]},
        }
    )
    points = drawn(parsed, 60, seed=0)
    for point in points:
        # Through JSON, as the plan keeps it.
        chosen = parsed.inverse(json.loads(json.dumps(point)))
        assert chosen is not None
        assert parsed.suggest(Scripted(chosen)) == point
    assert len({p["model.name"] for p in points}) == 3
    for wrong in (
        {**points[0], "optimizer.lr": 1.0},
        {**points[0], "data.batch_size": 9},
        {**points[0], "model.beta": 1},
        {k: v for k, v in points[0].items() if k != "data.n"},
    ):
        assert parsed.inverse(wrong) is None


def test_inverse_of_an_option_that_has_another_in_it() -> None:
    options = [{"model.name": "wgan"}, {"model.name": "wgan", "model.clip": 0.05}]
    parsed = space({"variant": {"choice": options}})
    for place, option in enumerate(options):
        chosen = parsed.inverse(option)
        assert chosen is not None
        assert list(chosen.values()) == [place]
        assert parsed.suggest(Scripted(chosen)) == option


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"model.clip": {"grid": [1, 2, 3]}, "network.width": {"choice": [1, 2]}},
        {"model.clip": {"grid": [1, 2, 3]}, "network.width": {"grid": [1, 2, 2]}},
        {"model.clip": {"uniform": [1, 2]}},
        {
            "model.name": {"grid": ["wgan", "gan", "lsgan"]},
            "model.clip": {"grid": [1, 2], "when": {"model.name": "wgan"}},
            "model.loss": {"grid": [1, 2, 3], "when": {"model.name": ["gan", "wgan"]}},
            "network.width": {"grid": [1, 2, 3, 4]},
            "optimizer.lr": {"uniform": [0.0, 1.0]},
        },
        {
            "model.name": {"choice": ["wgan", "gan"]},
            "model.clip": {"grid": [1, 2, 3], "when": {"model.name": "wgan"}},
            "network.width": {"grid": [1, 2, 3, 4]},
        },
        {
            "pair": {"grid": [{"model.name": "wgan", "network.width": 1}, {"model.name": "gan"}]},
            "model.clip": {"grid": [1, 2, 3], "when": {"model.name": "wgan"}},
            "data.n": {"grid": [1, 2]},
        },
        {
            "model": {"grid": [{"name": "wgan"}, {"name": "gan"}]},
            "optimizer.lr": {"grid": [1, 2, 3], "when": {"model.name": "wgan"}},
            "data.n": {"grid": [1, 2]},
        },
    ],
)
def test_size_counts_what_a_walk_gives(tree: dict[str, Any], samples: int) -> None:
    parsed = space(tree)
    walked = list(parsed.walk(samples=samples, seed=0))
    assert parsed.size(samples=samples, seed=0) == len(walked)


def test_every_point_comes_once_under_its_conditions() -> None:
    tree = {
        "model.name": {"choice": ["wgan", "gan"]},
        "model.clip": {"quniform": [0.1, 0.3, 0.1], "when": {"model.name": "wgan"}},
        "network.width": {"randint": [7, 9]},
        "optimizer.lr": {"loguniform": [1e-4, 1e-1]},
    }
    points = list(space(tree).every(seed=0))
    assert [
        (point["model.name"], point.get("model.clip"), point["network.width"]) for point in points
    ] == [
        *itertools.product(["wgan"], [0.1, 0.2, 0.3], [7, 8, 9]),
        *itertools.product(["gan"], [None], [7, 8, 9]),
    ]
    assert len({point["optimizer.lr"] for point in points}) == len(points)
    assert all(1e-4 <= point["optimizer.lr"] <= 1e-1 for point in points)
    endless = space({"data.batch_size": {"quniform": [0, 1e12, 1]}}).every(seed=0)
    assert next(endless) == {"data.batch_size": 0}


def test_different_points_are_counted_up_to_a_number() -> None:
    tree: dict[str, Any] = {
        "model.name": {"choice": ["wgan", "gan", "gan"]},
        "model.clip": {"quniform": [0.1, 0.3, 0.1], "when": {"model.name": "wgan"}},
        "network.width": {"randint": [7, 9]},
    }
    counts = [space(tree).distinct(most) for most in (1, 11, 12, 13, 10**9)]
    assert counts == [1, 11, 12, 12, 12]
    tree["optimizer.lr"] = {"loguniform": [1e-4, 1e-1]}
    assert space(tree).distinct(99) == 99
    assert space({"data.batch_size": {"quniform": [0, 1e12, 1]}}).distinct(99) == 99


def test_size_looks_at_no_combination_of_axes_that_decide_nothing() -> None:
    tree = {f"model.a{i}": {"grid": list(range(1000))} for i in range(8)}
    tree["network.name"] = {"grid": ["mlp", "dcgan"]}
    tree["network.width"] = {"grid": [1, 2, 3], "when": {"network.name": "mlp"}}
    assert space(tree).size(samples=5, seed=0) == 1000**8 * 4


def test_size_draws_nothing_where_nothing_depends_on_what_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An axis that is drawn has one value at each combination, or does not apply."""

    def walk(self: Space, **given: int) -> Any:
        raise AssertionError("each combination, one after the other")

    monkeypatch.setattr(Space, "walk", walk)
    tree: dict[str, Any] = {f"model.a{i}": {"grid": list(range(1000))} for i in range(8)}
    tree["optimizer.name"] = {"grid": ["adam", "sgd"]}
    tree["optimizer.momentum"] = {"uniform": [0.0, 1.0], "when": {"optimizer.name": "sgd"}}
    assert space(tree).size(samples=5, seed=0) == 1000**8 * 2 * 5
