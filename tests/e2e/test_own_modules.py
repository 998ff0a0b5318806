"""Modules of one's own in the folder of the command, some of which are called as Python's are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .command import REPOSITORY, Place
from .conftest import CLUSTER

SWEEP = """\
name: mine
trial:
  model: {name: gan}
  network: {name: "my_networks:Net", width: 8, depth: 1}
  data: {name: ring8, n: 500, batch_size: 8}
  budget: {g_steps: 4}
  score: {samples: 50}
  compile: "false"
  diagnosis: {every: 0}
seeds: 2
"""

NETWORK = """\
import random

from gansweep.networks.mlp import MLP, MLPSettings

assert random.random() < 1  # Python's own, as everywhere


class Net(MLP):
    Settings = MLPSettings
"""

TAKEN = (
    *("asyncio", "copy", "email", "enum", "inspect", "json", "logging", "pathlib", "platform"),
    *("queue", "random", "select", "socket", "statistics", "tempfile", "types", "uuid"),
    *(
        "attr",
        "click",
        "mlflow",
        "numpy",
        "packaging",
        "psutil",
        "ray",
        "requests",
        "torch",
        "yaml",
    ),
)
"""Names of Python's modules and of installed ones, some of which none needs before a sweep runs."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """No variable leads to the modules in it."""
    home = Place(tmp_path / "home", PYTHONPATH=str(REPOSITORY))  # the code beside these tests
    for name in TAKEN:
        (home.folder / f"{name}.py").write_text(f"raise RuntimeError('this is the own {name}.py')")
    (home.folder / "my_networks.py").write_text(NETWORK)
    (home.folder / "mine.yaml").write_text(SWEEP)
    yield home
    home.close()


@pytest.mark.parametrize(
    "joined",
    [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
    ids=["alone", "on a cluster"],
)
def test_they_are_found_after_those_of_python(
    place: Place, joined: bool, request: pytest.FixtureRequest
) -> None:
    """By driver, workers and the commands that start none; a cluster's Ray began elsewhere."""
    place.run("explain", "mine.yaml")
    words = []
    if joined:
        place.environment.update(CLUSTER)
        words = ["--address", request.getfixturevalue("cluster")]
    said = place.run("run", "mine.yaml", *words).text
    assert "this is the own" not in said + place.log()
    assert "start by themselves" not in said + place.log()  # workers are forked
    plan = json.loads((place.folder / "runs" / "mine" / "plan.json").read_text())
    assert [trial["state"] for trial in plan["trials"]] == ["completed"] * 2
    place.run("sample", "mine", "--count", "2", "--out", "drawn.npz")
