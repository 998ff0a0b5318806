"""Data of one's own, by a path relative to the folder of the command: docs/DATA.md's examples."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gansweep.tracking.mlflow import MlflowStore

from .command import REPOSITORY, Place
from .conftest import CLUSTER

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

SWEEP = """\
name: mine
trial:
  model: {name: gan, conditional: true}
  network: {name: mlp, width: 8, depth: 1}
  budget: {g_steps: 4}
  score: {samples: 50}
  compile: "false"
  diagnosis: {every: 0}
space:
  data:
    grid:
      - {name: npz, path: mine.npz}
      - {name: image_folder, path: photos, size: 16}
      - {name: mnist, path: idx, size: 16}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    home = Place(tmp_path / "home")
    page = (REPOSITORY / "docs" / "DATA.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        subprocess.run([sys.executable, "-c", example], cwd=home.folder, check=True)
    (home.folder / "mine.yaml").write_text(SWEEP)
    yield home
    home.close()


@pytest.mark.parametrize("joined", [False, True], ids=["alone", "on a cluster"])
def test_a_relative_path_is_the_commands_for_workers_too(
    place: Place, joined: bool, request: pytest.FixtureRequest
) -> None:
    """The cluster's Ray was started in another folder."""
    if joined:
        place.environment.update(CLUSTER)
        place.run("run", "mine.yaml", "--address", request.getfixturevalue("cluster"))
    else:
        place.run("run", "mine.yaml")
    records = MlflowStore(place.uri).trials("mine")
    assert [record.tags["state"] for record in records] == ["completed"] * 3
