"""Every shipped sweep file, cut short, on a cluster that several sweeps share (`--address`)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gansweep.sweep.file import load_sweep
from gansweep.tracking.mlflow import MlflowStore

from .command import SWEEPS, Ended, Place
from .conftest import CLUSTER
from .record import Record

pytestmark = pytest.mark.long

FILES = sorted(SWEEPS.glob("*.yaml"))
SHORT = (
    "budget.g_steps=6", "samples.every=3", "score.every=3", "log.every=2", "score.samples=64",
    "data.batch_size=8", "seeds=1", "search.samples=1", "resources.concurrent=1",
)  # fmt: skip


def short(path: Path) -> list[str]:
    """What cuts any sweep short, without what its axes set anyway."""
    swept = {key for axis in load_sweep(path).space.axes for key in axis.keys}
    return [word for word in SHORT if word.partition("=")[0] not in swept]


def at_most_two_points(path: Path) -> list[str]:
    """Overrides that leave the first grid axis its ends, and every other one its first value.

    Axes with conditions are left out, since their condition may not hold for what is left.
    """
    narrowed = []
    axes = load_sweep(path).space.axes
    grids = [axis for axis in axes if hasattr(axis.domain, "options") and not axis.when]
    for axis in axes:
        if axis.when:
            narrowed.append(f"space.{axis.name}=null")
            continue
        options = list(getattr(axis.domain, "options", ()))
        if len(options) > 1:
            kept = [options[0], options[-1]] if grids and axis is grids[0] else options[:1]
            kind = type(axis.domain).__name__.lower()
            narrowed.append(f"space.{axis.name}.{kind}={kept}")
    return narrowed


@pytest.fixture(scope="module")
def place(new_place: Callable[..., Place]) -> Place:
    place = new_place("shipped", **CLUSTER)
    MlflowStore(place.uri).experiment("first")  # two drivers begin at once
    return place


@pytest.fixture(scope="module")
def ended(place: Place, cluster: str) -> dict[str, Ended]:
    """How each file's sweep ended; two at a time."""

    def run(path: Path) -> Ended:
        cut = at_most_two_points(path)
        return place.run("run", path, "--address", cluster, *short(path), *cut, code=None)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((path.stem for path in FILES), pool.map(run, FILES), strict=True))


def test_there_are_files() -> None:
    assert len(FILES) >= 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_sweep_trains_and_records(
    path: Path, ended: dict[str, Ended], place: Place
) -> None:
    end = ended[path.stem]
    assert end.code == 0, end.text
    sweep = load_sweep(path)
    record, metric = Record(place.uri, sweep.name), sweep.search.metric
    assert record.parent.status == "FINISHED"
    assert 1 <= len(record.trials) <= 2
    for run in record.trials.values():
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        assert run.params["budget.g_steps"] == "6"
        assert {"model.name", "network.name", "data.name", "seed"} <= set(run.params)
        assert run.steps("loss/d") == run.steps("loss/g") == [2, 4, 6]
        assert run.steps(metric) == [3, 6]
        assert sorted(run.images) == [3, 6]
        assert min(record.picture(run, run.images[6][0]).size) >= 64
