from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest

from gansweep.sweep.file import Search
from gansweep.sweep.schedulers.base import WORST, Answers, Continue, Inherit
from gansweep.sweep.schedulers.pbt import PBT, generation_interval
from gansweep.sweep.space import Axis, parse_space

LR = {"optimizer.lr": {"loguniform": [1e-5, 1e-1]}}
FOUR = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}


def axes(tree: dict[str, Any], base: dict[str, Any] | None = None) -> tuple[Axis, ...]:
    problems: list[Any] = []
    space = parse_space(tree, base or {}, ("model", "optimizer"), problems)
    assert problems == []
    return space.axes


def population(size: int = 0, tree: dict[str, Any] = LR, **options: Any) -> PBT:
    """A scheduler with generations every 10 of 100 g_steps; `size` members 00, 01 ... began."""
    given: dict[str, Any] = {
        "mode": "min", "budget": 100, "interval": 10, "quantile": 0.25, "resample": 0.0,
        "seed": 0, **options,
    }  # fmt: skip
    pbt = PBT(axes(tree), **given)
    for place in range(size):
        pbt.begin(f"{place:02}", {"optimizer.lr": 1e-3})
    return pbt


def begin_four(pbt: PBT) -> None:
    for place, key in enumerate(FOUR):
        pbt.begin(key, {"optimizer.lr": 10.0 ** -(place + 2)})


def generation(pbt: PBT, values: dict[str, float], g_steps: int = 10) -> Answers:
    """The answers once all have reported; none before."""
    *early, last = [pbt.report(key, g_steps, value) for key, value in values.items()]
    assert early == [[]] * (len(values) - 1)
    return last


def exploits(answers: Answers) -> dict[str, Inherit]:
    return {key: decision for key, decision in answers if isinstance(decision, Inherit)}


@pytest.mark.parametrize(
    ("interval", "budget", "expected"), [(None, 1500, 150), (None, 9, 1), (7, 100, 7)]
)
def test_generation_interval(interval: int | None, budget: int, expected: int) -> None:
    assert generation_interval(Search(interval=interval), budget) == expected


# --- selection


@pytest.mark.parametrize(("mode", "sign"), [("min", 1.0), ("max", -1.0)])
def test_the_worst_copies_the_best(mode: Any, sign: float) -> None:
    pbt = population(mode=mode)
    begin_four(pbt)
    answers = generation(pbt, {key: sign * value for key, value in FOUR.items()})
    assert [key for key, _ in answers] == ["a", "b", "c", "d"]
    assert [decision for _, decision in answers[:3]] == [Continue()] * 3
    assert exploits(answers)["d"].donor == "a"
    # a's rate 1e-2, times 0.8 or 1.2; d's own was 1e-5
    assert exploits(answers)["d"].settings["optimizer.lr"] in (8e-3, 1.2e-2)
    assert exploits(answers)["d"].settings.keys() == {"optimizer.lr"}


COUNTS = [
    (1, 0.25, 0),
    (2, 0.25, 1),
    (3, 0.25, 1),
    (7, 0.25, 1),
    (8, 0.25, 2),
    (11, 0.25, 2),
    (12, 0.25, 3),
    (3, 0.5, 1),
    (4, 0.5, 2),
    (100, 0.29, 29),  # 100 * 0.29 is 28.999999999999996
    (40, 0.001, 1),
]


@pytest.mark.parametrize(("size", "quantile", "count"), COUNTS)
def test_how_many_exploit(size: int, quantile: float, count: int) -> None:
    values = {f"{place:02}": float(place) for place in range(size)}
    found = exploits(generation(population(size, quantile=quantile), values))
    assert list(found) == list(values)[size - count :]
    assert {each.donor for each in found.values()} <= set(list(values)[:count])


def test_every_one_of_the_best_is_a_donor_at_times() -> None:
    donors = {"00": 0, "01": 0, "02": 0}
    for seed in range(300):
        pbt = population(12, seed=seed)
        found = exploits(generation(pbt, {f"{place:02}": float(place) for place in range(12)}))
        assert list(found) == ["09", "10", "11"]
        for each in found.values():
            donors[each.donor] += 1
    assert sum(donors.values()) == 900
    for count in donors.values():
        assert count / 900 == pytest.approx(1 / 3, abs=0.06)


def test_equal_values_rank_by_key_and_the_worst_is_last() -> None:
    orders = list(itertools.permutations(["00", "01", "02", "03"]))
    assert len(orders) == 24
    for order in orders:
        found = exploits(generation(population(4), dict.fromkeys(order, 1.0)))
        assert [(key, each.donor) for key, each in found.items()] == [("03", "00")]
        values = {key: WORST if key == "01" else 1.0 for key in order}
        found = exploits(generation(population(4), values))
        assert [(key, each.donor) for key, each in found.items()] == [("01", "00")]


# --- generations


def test_other_steps_and_the_last_are_answered_at_once() -> None:
    pbt = population(2)
    for step in (1, 9, 11, 100, 110):
        assert pbt.report("01", step, 9.0) == [("01", Continue())]
    assert pbt.report("01", 90, 9.0) == []
    assert len(exploits(pbt.report("00", 90, 1.0))) == 1


def test_decisions_do_not_depend_on_the_order_of_arrival() -> None:
    """Several generations, each with the members in an order of its own."""
    tree = {**LR, "model.clip": {"grid": [0.01, 0.02, 0.05, 0.1]}, "model.w": {"uniform": [0, 9]}}
    rng = random.Random(0)
    keys = [f"{place:02}" for place in range(13)]
    values = {(key, g): float(rng.randint(0, 5)) for key in keys for g in range(10, 100, 10)}
    seen = []
    for _ in range(30):
        pbt = population(tree=tree, quantile=0.4, resample=0.5)
        for place in rng.sample(range(13), 13):
            settings = {"optimizer.lr": 1e-3 * (place + 1), "model.clip": 0.02, "model.w": 1.0}
            pbt.begin(keys[place], settings)
        answers: Answers = []
        for g_steps in range(10, 100, 10):
            order = rng.sample(keys, len(keys))
            answers += generation(pbt, {key: values[key, g_steps] for key in order}, g_steps)
        seen.append(answers)
    assert len(seen[0]) == 13 * 9
    assert len(exploits(seen[0])) > 5
    assert all(answers == seen[0] for answers in seen)


def test_trial_by_trial_gives_the_same_as_side_by_side() -> None:
    """A record may be replayed curve by curve."""
    side, by = population(4), population(4)
    values = {(f"{k:02}", g): float((k * g) % 7) for k in range(4) for g in (10, 20, 30)}
    told = {}
    for key, g in sorted(values, key=lambda at: at[1]):
        told.update({(who, g): d for who, d in side.report(key, g, values[key, g])})
    found: dict[Any, Any] = {}
    for key, g in sorted(values):
        found.update({(who, g): d for who, d in by.report(key, g, values[key, g])})
    assert len(told) == 12
    assert found == told
    assert sum(isinstance(d, Inherit) for d in told.values()) == 3


def test_an_ended_member_is_waited_for_no_more() -> None:
    pbt = population()
    begin_four(pbt)
    assert [pbt.report(key, 10, FOUR[key]) for key in "acd"] == [[], [], []]
    answers = pbt.ended("b")
    assert [key for key, _ in answers] == ["a", "c", "d"]
    assert exploits(answers)["d"].donor == "a"
    assert pbt.ended("c") == []
    assert pbt.report("a", 20, 1.0) == []
    assert pbt.report("c", 20, 0.0) == [("c", Continue())]  # came in late: it is over
    assert len(pbt.report("d", 20, 2.0)) == 2


def test_a_member_that_ends_while_it_waits_is_out_of_the_generation() -> None:
    pbt = population()
    begin_four(pbt)
    assert pbt.report("a", 10, 1.0) == pbt.report("b", 10, 2.0) == []
    assert pbt.ended("a") == []
    assert pbt.report("c", 10, 3.0) == []
    answers = pbt.report("d", 10, 4.0)
    assert [key for key, _ in answers] == ["b", "c", "d"]
    assert exploits(answers)["d"].donor == "b"


def test_the_last_one_left_goes_on_alone() -> None:
    pbt = population(2)
    assert pbt.report("00", 10, 1.0) == []
    assert pbt.ended("01") == [("00", Continue())]
    assert pbt.report("00", 20, 1.0) == [("00", Continue())]
    assert pbt.ended("00") == []


def test_generations_that_become_complete_together_come_in_their_order() -> None:
    pbt = population()
    begin_four(pbt)
    for key in "abc":
        assert pbt.report(key, 10, FOUR[key]) == pbt.report(key, 20, -FOUR[key]) == []
    answers = pbt.ended("d")
    assert [key for key, _ in answers] == ["a", "b", "c"] * 2
    first, second = exploits(answers[:3])["c"], exploits(answers[3:])["a"]
    assert (first.donor, second.donor) == ("a", "c")
    ratio = second.settings["optimizer.lr"] / first.settings["optimizer.lr"]
    assert min(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-3


def test_who_begins_late_forms_a_generation_of_its_own() -> None:
    pbt = population(2)
    generation(pbt, {"00": 1.0, "01": 2.0}, 10)
    pbt.begin("02", {"optimizer.lr": 1e-3})
    pbt.begin("03", {"optimizer.lr": 1e-4})
    assert pbt.report("00", 20, 1.0) == []
    pbt.ended("01")
    pbt.begin("01", {"optimizer.lr": 1e-3})  # from a checkpoint after 10, which it has behind it
    found = exploits(generation(pbt, {"02": 9.0, "03": 8.0}, 10))
    assert [(key, each.donor) for key, each in found.items()] == [("02", "03")]
    assert pbt.report("01", 20, 2.0) == []
    assert len(generation(pbt, {"02": 9.0, "03": 8.0}, 20)) == 4


def test_who_begins_while_others_wait_is_waited_for() -> None:
    pbt = population(2)
    assert pbt.report("00", 10, 1.0) == []
    pbt.begin("02", {"optimizer.lr": 1e-3})
    assert pbt.report("01", 10, 2.0) == []
    assert len(pbt.report("02", 10, 3.0)) == 3


def test_who_has_gone_past_a_generation_is_not_waited_for() -> None:
    pbt = population(3)
    assert pbt.report("00", 10, 1.0) == []
    assert pbt.report("01", 20, 1.0) == []
    assert [key for key, _ in pbt.report("02", 20, 1.0)] == ["00"]
    assert len(pbt.report("00", 20, 2.0)) == 3


# --- settings


def test_a_copied_setting_is_handed_on() -> None:
    """b copies a at 10 and explores; at 20 it is the best, and a copies what b then has."""
    pbt = population()
    pbt.begin("a", {"optimizer.lr": 1e-2})
    pbt.begin("b", {"optimizer.lr": 1e-4})
    rate = exploits(generation(pbt, {"a": 1.0, "b": 2.0}))["b"].settings["optimizer.lr"]
    assert rate in (8e-3, 1.2e-2)
    # It begins again from its checkpoint: what the scheduler knows holds.
    pbt.begin("b", {"optimizer.lr": 1e-4})
    found = exploits(generation(pbt, {"a": 2.0, "b": 1.0}, 20))
    assert found["a"].donor == "b"
    ratio = found["a"].settings["optimizer.lr"] / rate
    assert min(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-3


def test_who_ended_and_begins_again_takes_its_past_answers_over() -> None:
    pbt = population()
    pbt.begin("a", {"optimizer.lr": 1e-2})
    pbt.begin("b", {"optimizer.lr": 1e-4})
    told = generation(pbt, {"a": 1.0, "b": 2.0})
    pbt.ended("b")
    pbt.begin("b", {"optimizer.lr": 1e-4})
    assert pbt.report("b", 10, 2.0) == [told[1]]
    rate = exploits(told)["b"].settings["optimizer.lr"]
    found = exploits(generation(pbt, {"a": 2.0, "b": 1.0}, 20))
    ratio = found["a"].settings["optimizer.lr"] / rate
    assert min(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-3


def explored(tree: dict[str, Any], settings: dict[str, Any], **options: Any) -> list[Any]:
    """What 400 copies of a trial with these settings explore, under as many seeds."""
    found = []
    for seed in range(400):
        pbt = population(tree=tree, seed=seed, **options)
        pbt.begin("a", settings)
        pbt.begin("b", {})
        found.append(exploits(generation(pbt, {"a": 1.0, "b": 2.0}))["b"].settings)
    return found


def test_resampled_or_perturbed() -> None:
    rates = [each["optimizer.lr"] for each in explored(LR, {"optimizer.lr": 1e-3}, resample=0.25)]
    near = [rate for rate in rates if rate in (8e-4, 1.2e-3)]
    assert len(near) / 400 == pytest.approx(0.75, abs=0.07)
    assert near.count(8e-4) / len(near) == pytest.approx(0.5, abs=0.09)
    drawn = [math.log10(rate) for rate in rates if rate not in (8e-4, 1.2e-3)]
    assert sum(drawn) / len(drawn) == pytest.approx(-3, abs=0.5)
    assert min(drawn) < -4.5
    assert max(drawn) > -1.5
    always = explored(LR, {"optimizer.lr": 1e-3}, resample=1.0)
    assert sum(each["optimizer.lr"] in (8e-4, 1.2e-3) for each in always) <= 2


def test_axes_explore_independently() -> None:
    tree = {**LR, "model.clip": {"uniform": [0, 10]}}
    found = explored(tree, {"optimizer.lr": 1e-3, "model.clip": 5.0})
    pairs = [(each["optimizer.lr"], each["model.clip"]) for each in found]
    for pair in itertools.product((8e-4, 1.2e-3), (4.0, 6.0)):
        assert pairs.count(pair) / 400 == pytest.approx(0.25, abs=0.075)
    alone = explored(LR, {"optimizer.lr": 1e-3})  # another axis leaves the draws as they are
    assert [each["optimizer.lr"] for each in alone] == [rate for rate, _ in pairs]


def test_draws_differ_by_member_generation_and_seed() -> None:
    tree = {"model.clip": {"uniform": [0, 1]}}
    found = set()
    for seed in range(2):
        pbt = population(tree=tree, quantile=0.5, resample=1.0, seed=seed)
        for key in "abcd":
            pbt.begin(key, {"model.clip": 0.5})
        for g_steps in (10, 20):
            for each in exploits(generation(pbt, FOUR, g_steps)).values():
                found.add(each.settings["model.clip"])
    assert len(found) == 2 * 2 * 2


def test_listed_values_move_to_a_neighbour() -> None:
    tree = {"model.clip": {"grid": [0.01, 0.02, 0.05, 0.1]}}
    found = [each["model.clip"] for each in explored(tree, {"model.clip": 0.05})]
    assert set(found) == {0.02, 0.1}
    assert found.count(0.02) / 400 == pytest.approx(0.5, abs=0.1)


def test_several_keys_and_sections_move_as_a_whole() -> None:
    pairs = [{"model.clip": c, "optimizer.lr": c / 10} for c in (0.1, 0.2, 0.4)]
    found = explored({"pair": {"grid": pairs}}, {"model.clip": 0.1, "optimizer.lr": 0.01})
    assert found == [{"model.clip": 0.2, "optimizer.lr": 0.02}] * 400
    sections = [{"lr": 0.1, "beta1": 0.5}, {"lr": 0.2, "beta1": 0.9}]
    tree = {"optimizer.generator": {"grid": sections}}
    # The point as a sweep has it, not flat yet.
    found = explored(tree, {"optimizer.generator": sections[1]})
    flat = {"optimizer.generator.lr": 0.1, "optimizer.generator.beta1": 0.5}
    assert found == [flat] * 400
    # An option that an edited file no longer lists.
    found = explored(tree, {"optimizer.generator.lr": 7, "optimizer.generator.beta1": 0.5})
    assert {each["optimizer.generator.lr"] for each in found} == {0.1, 0.2}


def test_an_axis_that_does_not_apply_is_left_out() -> None:
    tree = {**LR, "model.clip": {"uniform": [0, 1], "when": {"model.name": "wgan"}}}
    pbt = PBT(
        axes(tree, {"model": {"name": "wgan"}}), mode="min", budget=100, interval=10,
        quantile=0.25, resample=0.5, seed=0,
    )  # fmt: skip
    begin_four(pbt)  # without a clip
    found = exploits(generation(pbt, FOUR))["d"].settings
    assert found.keys() == {"optimizer.lr"}


def test_other_settings_of_the_donor_are_not_copied() -> None:
    found = explored(LR, {"optimizer.lr": 1e-3, "seed": 4})
    assert [list(each) for each in found] == [["optimizer.lr"]] * 400


@pytest.mark.parametrize("size", [50, 100, 200])
def test_a_report_costs_no_look_at_the_whole_population(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom a generation waits for is found once."""
    looks = 0
    real = PBT._is_awaited

    def counted(self: PBT, key: str, g_step: int) -> bool:
        nonlocal looks
        looks += 1
        return real(self, key, g_step)

    monkeypatch.setattr(PBT, "_is_awaited", counted)
    pbt = population(size)
    keys = list(pbt._settings)
    assert len(keys) == size
    answered = [len(pbt.report(key, 10, float(place))) for place, key in enumerate(keys)]
    assert answered == [0] * (size - 1) + [size]
    assert looks <= size


def test_who_comes_by_an_earlier_generation_again_keeps_its_later_settings() -> None:
    """A donor's settings are those that it trains under as the others get there."""
    (straight, broken) = (population() for _ in range(2))
    for pbt in (straight, broken):
        begin_four(pbt)
        generation(pbt, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, 10)
        generation(pbt, {"a": 4.0, "b": 3.0, "c": 1.0, "d": 2.0}, 20)
        assert pbt.report("a", 30, 0.0) == []
    ((_, again),) = broken.report("a", 10, 4.0)
    assert isinstance(again, Inherit)
    rest = {"b": 1.0, "c": 2.0, "d": 3.0}
    assert generation(broken, rest, 30) == generation(straight, rest, 30)
