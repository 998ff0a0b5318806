"""Groups of points: medians and bests in closed form, and what has no value."""

from __future__ import annotations

from typing import Any

import pytest

from gansweep.errors import ConfigError
from gansweep.report.groups import grouped
from gansweep.report.ranking import rank
from gansweep.sweep.plan import Entry


def results(values: list[tuple[dict[str, Any], float | None]]) -> Any:
    entries = [
        Entry(
            str(place), str(place), {**point, "optimizer.lr": place}, 0, 10, state="completed",
            metrics={"m": value, "n": None if value is None else -value},
        )
        for place, (point, value) in enumerate(values)
    ]  # fmt: skip
    return rank(entries, metric="m", mode="min")


GAN, MINIMAX = {"model": {"name": "gan"}}, {"model": {"name": "gan", "loss": "minimax"}}
WGAN = {"model": {"name": "wgan"}, "model.clip": 0.1}


def table(values: Any, keys: list[str], mode: Any = "min") -> list[Any]:
    groups = grouped(results(values), keys=keys, modes={"m": mode})
    return [(g.name, len(g.points), g.lost, g.medians["m"], g.bests["m"]) for g in groups]


def test_medians_of_odd_and_even_counts() -> None:
    values = [(GAN, 5.0), (WGAN, 1.0), (WGAN, 4.0), (GAN, 9.0), (GAN, 0.0)]
    assert table(values, ["model.name"]) == [("wgan", 2, 0, 2.5, 1.0), ("gan", 3, 0, 5.0, 0.0)]
    assert table(values, ["model.name"], "max") == [
        ("gan", 3, 0, 5.0, 9.0), ("wgan", 2, 0, 2.5, 4.0),
    ]  # fmt: skip


def test_a_point_without_a_value_is_worse_than_all() -> None:
    """As a score of infinity is: the paper counts NaN as 31337."""
    for mode, best in (("min", 1.0), ("max", 4.0)):
        values = [(GAN, None), (GAN, 1.0), (GAN, 4.0)]
        (one,) = table(values, ["model.name"], mode)
        assert one == ("gan", 3, 1, 5.0 - best, best)  # the worse of the two is in the middle
    values = [(GAN, None), (GAN, 1.0), (WGAN, None), (WGAN, 3.0), (WGAN, 2.0)]
    assert table(values, ["model.name"]) == [
        ("wgan", 3, 1, 3.0, 2.0), ("gan", 2, 1, None, 1.0),
    ]  # fmt: skip


def test_several_keys_within_sections_and_beside_them() -> None:
    values = [(GAN, 1.0), (MINIMAX, 2.0), (WGAN, 3.0)]
    found = table(values, ["model.name", "model.loss", "model.clip"])
    assert [name for name, *_ in found] == ["gan - -", "gan minimax -", "wgan - 0.1"]


def test_values_of_different_keys_are_no_group() -> None:
    adam, sgd = {"optimizer.beta1": 0.5}, {"optimizer.momentum": 0.5}
    found = table([(adam, 1.0), (sgd, 9.0)], ["optimizer.beta1", "optimizer.momentum"])
    assert [(name, count, median) for name, count, _, median, _ in found] == [
        ("0.5 -", 1, 1.0), ("- 0.5", 1, 9.0),
    ]  # fmt: skip


def test_a_number_is_one_group_however_it_is_written() -> None:
    values = [({"a": 1}, 1.0), ({"a": 1.0}, 3.0), ({"a": 0.5}, 5.0), ({"a": "v1.0"}, 6.0)]
    assert [row[:2] for row in table(values, ["a"])] == [("1", 2), ("0.5", 1), ("v1.0", 1)]


def test_seeds_are_averaged_first() -> None:
    entries = [
        Entry(f"{lr}{seed}", "", {"lr": lr}, seed, 10, state="completed", metrics={"m": value})
        for lr, values in ((1, (0.0, 2.0)), (2, (4.0, 8.0)), (3, (10.0, 10.0)))
        for seed, value in enumerate(values)
    ]
    points = rank(entries, metric="m", mode="min")
    assert [g.medians["m"] for g in grouped(points, keys=["lr"], modes={"m": "min"})] == [1, 6, 10]


def test_each_metric_by_its_own_mode() -> None:
    (group,) = grouped(
        results([(GAN, 1.0), (GAN, 5.0)]), keys=["model.name"], modes={"m": "min", "n": "max"}
    )
    assert (group.bests, group.medians) == ({"m": 1.0, "n": -1.0}, {"m": 3.0, "n": -3.0})


def test_the_best_is_one_that_trained_to_the_end_where_any_did() -> None:
    """The medians count them all, and say how many did not."""
    entries = [
        Entry(str(n), "", {"net": net, "lr": n}, 0, 10, state=state, metrics={"m": value})
        for n, (net, state, value) in enumerate(
            [("a", "completed", 5.0), ("a", "stopped", 1.0), ("a", "failed", 0.0),
             ("b", "running", 7.0), ("b", "stopped", 6.0)]
        )
    ]  # fmt: skip
    found = grouped(rank(entries, metric="m", mode="min"), keys=["net"], modes={"m": "min"})
    assert [(g.name, g.medians["m"], g.bests["m"], g.lost, g.unfinished) for g in found] == [
        ("a", 5.0, 5.0, 1, 1), ("b", 6.5, 6.0, 0, 2),
    ]  # fmt: skip


def test_a_key_that_no_point_has() -> None:
    with pytest.raises(ConfigError, match=r"--by: no point sets 'modl.name' \(did you mean 'model"):
        table([(GAN, 1.0)], ["modl.name"])
