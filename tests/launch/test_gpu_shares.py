"""Shares of GPUs on a real Ray of two nodes, whose GPUs are Ray's word alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.command import REPOSITORY, Place
from sweep_files import text

from gansweep.tracking.mlflow import MlflowStore

from .conftest import RayCluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

GB = (24, 80)
"""Of the one card of each node, as its label says."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    def options(node: int) -> list[str]:
        return ["--num-gpus=1", "--num-cpus=4", f"--labels=gansweep/gpu-memory-gb={GB[node]}"]

    ray = RayCluster(dashboard=False, nodes=2, each=options)
    yield ray
    ray.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    home = Place(tmp_path / "home", RAY_AUTH_MODE="disabled", PYTHONPATH=path)
    trial = {
        "model": {"name": "gan"},
        "network": {"name": "own_parts:Hungry", "gpu": 0.5},
        "data": {"name": "ring8", "n": 1000, "batch_size": 8},
        "budget": {"g_steps": 5},
        "compile": "false",
        "diagnosis": {"every": 0},
    }
    own = {"gpu": 0.2, "pack": 1, "gpu_memory_retries": 2}
    (home.folder / "small.yaml").write_text(text(trial=trial, space=None, seeds=2, resources=own))
    yield home
    home.close()


PLACEMENTS = """
import json, sys
import ray
from ray.util.placement_group import placement_group_table
from gansweep.sweep.cluster import CARD_LABEL, find_room
from gansweep.sweep.file import Resources
from gansweep.sweep.tune import PackWorker, Parcel
from gansweep.sweep.worker import PackAssigned

ray.init(address=sys.argv[1], log_to_driver=False)
room = find_room(Resources(gpu_memory_gb=20.0, pack=1), ray.cluster_resources())
groups = []
for number in range(room.workers + 1):
    takes = room.place(str(number))
    pack = PackAssigned((), engine="auto", waits=False, takes=takes)
    request = PackWorker.default_resource_request({"parcel": Parcel(pack)})
    groups.append(request.to_placement_group())
ray.get([group.ready() for group in groups[:-1]], timeout=60)
sizes = {node["NodeID"]: node["Labels"][CARD_LABEL] for node in ray.nodes()}
tables = [placement_group_table(group) for group in groups]
print(json.dumps({
    "where": [sizes[next(iter(table["bundles_to_node_id"].values()))] for table in tables[:-1]],
    "one too many": tables[-1]["state"],
}))
"""


def test_each_card_gets_as_many_workers_as_its_memory_holds(
    cluster: RayCluster, place: Place
) -> None:
    """20 GB and CUDA's own: one on the card of 24, three on that of 80."""
    ended = subprocess.run(
        [sys.executable, "-c", PLACEMENTS, cluster.address],
        cwd=place.folder, env=place.environment, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert sorted(found["where"]) == ["24", "80", "80", "80"]
    assert found["one too many"] == "PENDING"


def test_what_runs_out_of_gpu_memory_is_tried_with_more(
    cluster: RayCluster, place: Place, mlflow_server: str
) -> None:
    """Ray gives it 0.2, 0.4, 0.8 of a GPU; it says that 0.5 is enough."""
    where = ("--address", cluster.address, "--tracking-uri", mlflow_server)
    place.run("run", "small.yaml", *where)
    plan = json.loads((place.folder / "runs" / "small" / "plan.json").read_text())
    assert [(t["state"], t["gpu_times"]) for t in plan["trials"]] == [("completed", 4)] * 2
    records = MlflowStore(mlflow_server).trials("small")
    assert [(r.status, r.tags["gpu_times"]) for r in records] == [("FINISHED", "4")] * 2
    where = (*where, "--dir", "others")
    place.run("run", "small.yaml", "resources.gpu_memory_retries=1", *where, code=1)
    plan = json.loads((place.folder / "others" / "small" / "plan.json").read_text())
    assert [(t["state"], t["gpu_times"]) for t in plan["trials"]] == [("failed", 2)] * 2
    for trial in plan["trials"]:
        assert trial["reason"].startswith("out_of_memory: OutOfMemoryError: CUDA out of memory")
