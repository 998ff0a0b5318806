from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweep_files import load, text

from gansweep.sweep.space import Grid
from gansweep.sweep.trials import planned

SPELT: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"model.clip": {"grid": ["0.01", "2e-2", 0.01]}},
     [{"model.clip": 0.01}, {"model.clip": 0.02}]),
    ({"model.conditional": {"choice": ["true", "False"]}},
     [{"model.conditional": True}, {"model.conditional": False}]),
    ({"network.width": {"grid": ["8"]}}, [{"network.width": 8}]),
    ({"optimizer.lr": {"grid": ["0.001"]}}, [{"optimizer.lr": 0.001}]),
    ({"optimizer.generator.lr": {"grid": ["0.001"]}}, [{"optimizer.generator.lr": 0.001}]),
    ({"model": {"grid": [{"name": "wgan", "clip": "0.1"}]}},
     [{"model": {"name": "wgan", "clip": 0.1}}]),
    ({"pair": {"grid": [{"model.name": "wgan", "model": {"clip": "1"}}]}},
     [{"model.name": "wgan", "model": {"clip": 1}}]),
    ({"model.name": {"grid": ["gan", "wgan"]},
      "model.clip": {"grid": ["0.1"], "when": {"model.name": "wgan"}},
      "network.depth": {"grid": [2], "when": {"model.clip": "0.1"}}},
     [{"model.name": "gan"}, {"model.name": "wgan", "model.clip": 0.1, "network.depth": 2}]),
    ({"precision": {"grid": ["32"]}}, [{"precision": "32"}]),
    ({"model.name": {"grid": ["gan"]}}, [{"model.name": "gan"}]),
]  # fmt: skip


@pytest.mark.parametrize(("space", "points"), SPELT)
def test_a_text_becomes_what_it_is_to_its_setting(
    space: dict[str, Any], points: list[dict[str, Any]], tmp_path: Path
) -> None:
    """To the key of the trial, which never had to do with it, it is the same."""
    method = "random" if any("choice" in axis for axis in space.values()) else "grid"
    search = {"method": method, "samples": 9}
    parts = {"model": {"name": "wgan"}, "network": {"name": "mlp"}, "data": {"name": "ring8"}}
    trials = planned(load(tmp_path, text(space=space, search=search, trial=parts)))
    found = [found.point for found in trials]
    assert sorted(map(repr, found)) == sorted(map(repr, points))
    as_written = planned(load(tmp_path, text(space={"pair": {"grid": points}}, trial=parts)))
    assert {found.key for found in trials} == {found.key for found in as_written}


def test_what_is_no_text_stays_as_it_is(tmp_path: Path) -> None:
    """Draws beside it depend on how a value is written."""
    options = [1, 2.0, 1e-1]
    sweep = load(tmp_path, text(space={"model.clip": {"grid": options}}))
    (axis,) = sweep.space.axes
    assert isinstance(axis.domain, Grid)
    assert [(type(each), each) for each in axis.domain.options] == [
        (int, 1),
        (float, 2),
        (float, 0.1),
    ]


def test_a_text_that_is_a_mistake_is_left_for_its_check(tmp_path: Path) -> None:
    sweep = load(tmp_path, text(space={"model.clip": {"grid": ["-0.5"]}}))
    (axis,) = sweep.space.axes
    assert axis.domain.probes() == ["-0.5"]
