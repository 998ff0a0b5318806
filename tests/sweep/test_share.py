"""Shares of a sweep: how they are named, and which trials each gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sweep_files import load, text

from gansweep.errors import ConfigError
from gansweep.sweep.file import Search
from gansweep.sweep.share import Share, deal, share_problems
from gansweep.sweep.trials import Trial, planned


@pytest.mark.parametrize(("words", "share"), [("1/1", (1, 1)), ("2/3", (2, 3)), ("04/4", (4, 4))])
def test_a_share_is_a_task_of_so_many(words: str, share: tuple[int, int]) -> None:
    assert Share.parse(words) == Share(*share)


@pytest.mark.parametrize("words", ["", "1", "0/2", "3/2", "-1/2", "1/2/3", "a/b", "1 / 2", "1/0"])
def test_anything_else_is_none(words: str) -> None:
    with pytest.raises(ConfigError, match=r"--share: is .*I/N"):
        Share.parse(words)


@pytest.mark.parametrize(
    ("search", "keys"),
    [
        (Search(), []),
        (Search(method="random"), []),
        (Search(scheduler="asha"), ["search.scheduler"]),
        (Search(scheduler="median"), ["search.scheduler"]),
        (Search(scheduler="pbt"), ["search.scheduler"]),
        (Search(method="tpe"), ["search.method"]),
        (Search(method="tpe", scheduler="asha"), ["search.scheduler", "search.method"]),
    ],
)
def test_what_decides_across_trials_has_no_shares(search: Search, keys: list[str]) -> None:
    assert [problem.where for problem in share_problems(search)] == keys


def trials(folder: Path, *, points: int = 4, seeds: int = 1, widths: Sequence[int] = (8,)) -> Any:
    space = {
        "network.width": {"grid": list(widths)},
        "model.clip": {"grid": [round(0.01 * (i + 1), 2) for i in range(points)]},
    }
    return planned(load(folder, text(space=space, seeds=seeds)))


def whole(trial: Trial) -> int:
    return trial.config.budget.g_steps


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("size", [1, 4, 8])
def test_every_trial_is_in_one_share_in_the_order_of_the_plan(
    tmp_path: Path, count: int, size: int
) -> None:
    planned_ones = trials(tmp_path, points=3, seeds=2, widths=(8, 16))
    keys = [trial.key for trial in planned_ones]
    shares = deal(planned_ones, count, size=size, left=whole)
    assert len(shares) == count
    assert sorted(key for share in shares for key in share) == sorted(keys)
    assert all(share == sorted(share, key=keys.index) for share in shares)
    assert shares == deal(planned_ones, count, size=size, left=whole)


def test_seeds_of_a_point_and_trials_of_a_shape_stay_together(tmp_path: Path) -> None:
    found = trials(tmp_path, points=4, seeds=2, widths=(8, 16))
    place = {
        key: number
        for number, keys in enumerate(deal(found, 4, size=4, left=whole))
        for key in keys
    }
    shares: dict[int, list[Trial]] = {}
    for trial in found:
        shares.setdefault(place[trial.key], []).append(trial)
    assert [len(each) for each in shares.values()] == [4] * 4
    for each in shares.values():
        assert len({trial.config.shape for trial in each}) == 1
        assert len({str(trial.point) for trial in each}) == 2


def test_no_point_is_torn_where_a_pack_has_an_odd_place(tmp_path: Path) -> None:
    found = trials(tmp_path, points=4, seeds=2)
    points = {trial.key: str(trial.point) for trial in found}
    for keys in deal(found, 4, size=3, left=whole):
        assert len(keys) == 2
        assert len({points[key] for key in keys}) == 1


def test_who_has_more_seeds_than_places_is_split(tmp_path: Path) -> None:
    shares = deal(trials(tmp_path, points=1, seeds=5), 2, size=2, left=whole)
    assert sorted(map(len, shares)) == [2, 3]


def test_the_work_left_is_shared_evenly(tmp_path: Path) -> None:
    found = trials(tmp_path, points=7)
    left = dict(zip([trial.key for trial in found], [60, 10, 10, 10, 10, 10, 10], strict=True))
    shares = deal(found, 2, size=1, left=lambda trial: left[trial.key])
    assert [sum(left[key] for key in share) for share in shares] == [60, 60]
