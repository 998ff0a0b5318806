"""Jobs on a real Ray head with its dashboard: submitted, followed, cancelled, failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.command import Place, wait_for

from gansweep.tracking.mlflow import MlflowStore

from .conftest import RayCluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

BASE = """\
trial:
  model: {name: mylab.models:Mine, n_critic: 1}
  network: {name: mlp, width: 8, depth: 1}
  data: {name: ring8, n: 1000}
  budget: {g_steps: 5}
  compile: "false"
  score: {samples: 100}
  diagnosis: {every: 0}
space: {model.clip: {grid: [0.01, 0.02]}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    ray = RayCluster(dashboard=True)
    yield ray
    ray.close()


@pytest.fixture
def place(cluster: RayCluster, tmp_path: Path) -> Iterator[Place]:
    """A project with a base and code of its own, which git ignores."""
    home = Place(
        tmp_path / "home", GANSWEEP_STATE=str(tmp_path / "state"), RAY_AUTH_MODE="disabled"
    )
    files = {
        "sweeps/mine.yaml": "name: mine\nbase: ../common/base.yaml",
        "common/base.yaml": BASE,
        "mylab/__init__.py": "",
        "mylab/models.py": "from mylab import help\nfrom gansweep.modules.wgan import WGAN\n\n"
        "class Mine(WGAN):\n    '''A WGAN.'''\n",
        "mylab/help.py": "",
        ".gitignore": "mylab/\ncommon/\n",
        "infra/profiles/ray.yaml": f"to: ray\naddress: {cluster.dashboard}\n"
        f"python: {sys.executable}",
    }
    for name, content in files.items():
        path = home.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    yield home
    home.close()


def submit(place: Place, *words: str) -> str:
    said = place.run("submit", "sweeps/mine.yaml", *words, "--profile", "ray").text
    return said.splitlines()[-1].split()[-1]


def test_a_job_is_submitted_and_followed_to_its_end(place: Place) -> None:
    number = submit(place)
    assert number.startswith("gansweep-mine-")
    said = place.run("logs", number, "--follow").text
    assert "\n2 trials, " in said
    assert said.splitlines()[-1] == f"{number}: done, exit code 0"
    records = MlflowStore(place.uri).trials("mine")
    assert [record.status for record in records] == ["FINISHED"] * 2
    assert "every trial is finished already" in place.run("logs", submit(place), "--follow").text


def test_a_failed_job_has_a_code_and_a_reason(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    profile = place.folder / "infra" / "profiles" / "ray.yaml"
    profile.write_text(profile.read_text() + f"\nstorage: {tmp_path}/file/below")
    number = submit(place)
    ended = place.run("logs", number, "--follow", code=1)
    last = ended.text.splitlines()[-1]
    assert last.startswith(f"{number}: failed, exit code 2 (")
    assert "cannot be written: Not a directory (use another --dir)" in last
    (record,) = json.loads(place.run("jobs", "--json").text)
    assert (record["phase"], record["code"]) == ("failed", 2)


def test_a_cancelled_job_has_put_its_trials_aside(place: Place) -> None:
    number = submit(place, "budget.g_steps=200000", "checkpoint.every=20")
    trials = place.folder / "runs" / "mine" / "trials"
    wait_for(
        lambda: list(trials.glob("*/checkpoint.pt")), seconds=240, what="a checkpoint"
    )  # fmt: skip
    assert place.run("cancel", number).text.splitlines()[-1] == f"{number}: cancelled"
    plan = json.loads((place.folder / "runs" / "mine" / "plan.json").read_text())
    assert "running" not in {trial["state"] for trial in plan["trials"]}


def test_no_dashboard(place: Place) -> None:
    profile = place.folder / "infra" / "profiles" / "ray.yaml"
    profile.write_text("to: ray\naddress: http://127.0.0.1:9")
    said = place.run("submit", "sweeps/mine.yaml", "--profile", "ray", code=2).text
    assert "http://127.0.0.1:9: no Ray dashboard answers" in said
    assert not (place.folder / "runs").exists()
