"""Two nodes that share no disk: the sweep's folder is in S3, and each prepares its own data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.faults import kill
from chaos.ground import TwoNodes
from e2e.command import Place, wait_for
from PIL import Image
from s3 import environment

from gansweep.storage import Bucket
from gansweep.tracking.mlflow import MlflowStore

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SWEEP = """\
name: {name}
trial:
  model: {{name: wgan, n_critic: 1}}
  network: {{name: mlp, width: 8, depth: 1}}
  data: {{name: image_folder, path: {pictures}, size: 8, batch_size: 8}}
  budget: {{g_steps: {g_steps}}}
  checkpoint: {{every: 100}}
  samples: {{every: {g_steps}}}
  score: {{every: {every}, samples: 50}}
  compile: "false"
  diagnosis: {{every: 0}}
space:
  model.clip: {{grid: [0.01, 0.02]}}
search: {{method: grid, scheduler: {scheduler}}}
resources: {{pack: 1}}
"""


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    """Without a key of the store: workers have it from the driver."""
    two = TwoNodes()
    yield two
    two.close()


@pytest.fixture
def place(nodes: TwoNodes, s3: str, s3_server: str, tmp_path: Path) -> Iterator[Place]:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for shade in range(40):
        Image.new("L", (8, 8), shade * 6).save(pictures / f"{shade}.png")
    home = Place(
        tmp_path / "home",
        **environment(s3_server),
        RAY_AUTH_MODE="disabled",
        GANSWEEP_CACHE=str(tmp_path / "cache"),
        GANSWEEP_SCRATCH=str(tmp_path / "scratch"),
    )
    yield home
    home.close()


def write(place: Place, name: str, *, g_steps: int, every: int, scheduler: str) -> None:
    pictures = place.folder.parent / "pictures"
    (place.folder / "far.yaml").write_text(
        SWEEP.format(
            name=name, pictures=pictures, g_steps=g_steps, every=every, scheduler=scheduler
        )
    )


def check_complete(uri: str, name: str) -> None:
    records = MlflowStore(uri).trials(name)
    assert len(records) == 2
    assert {record.status for record in records} == {"FINISHED"}
    assert {record.tags["state"] for record in records} == {"completed"}


def test_a_trial_goes_on_on_the_node_that_is_left(
    nodes: TwoNodes, place: Place, s3: str, mlflow_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(place, "moved", g_steps=4000, every=4000, scheduler="none")
    bucket = Bucket(f"{s3}/x/moved")
    words = ("--address", nodes.address, "--tracking-uri", mlflow_server, "--dir", f"{s3}/x")
    driver = place.start("run", "far.yaml", *words)

    def both_stored() -> bool:
        assert driver.poll() is None
        return len([n for n in bucket.names() if n.endswith("/checkpoint.pt")]) == 2

    wait_for(both_stored, seconds=120, what="checkpoints of both trials in the store")
    assert nodes.workers(nodes.head)
    assert nodes.workers(nodes.second)
    logging.getLogger("werkzeug").setLevel(logging.INFO)
    try:
        kill(nodes.second.processes())
        assert driver.wait(200) == 0
    finally:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
    fetched = [
        line
        for line in caplog.messages
        if "GET" in line and "/checkpoint.pt" in line and " 20" in line
    ]
    assert len(fetched) == 1, caplog.messages[-50:]  # by the one that moved
    check_complete(mlflow_server, "moved")
    names = bucket.names()
    assert len([name for name in names if name.endswith("/checkpoint.pt")]) == 2
    assert not [name for name in names if "/spool/" in name]
    caches = [node.folder / "cache" for node in (nodes.head, nodes.second)]
    assert [len(list(cache.glob("*.npz"))) for cache in caches] == [1, 1]


def test_members_of_a_population_copy_each_other(
    nodes: TwoNodes, place: Place, s3: str, mlflow_server: str
) -> None:
    write(place, "members", g_steps=400, every=100, scheduler="pbt, interval: 100")
    words = ("--address", nodes.address, "--tracking-uri", mlflow_server, "--dir", f"{s3}/x")
    place.run("run", "far.yaml", *words)
    check_complete(mlflow_server, "members")
    lineages = [r.tags.get("lineage", "") for r in MlflowStore(mlflow_server).trials("members")]
    assert sum(lineage.count('"from"') for lineage in lineages) == 3  # one at each generation


def test_a_node_that_cannot_use_the_store_is_told(
    nodes: TwoNodes, place: Place, s3: str, mlflow_server: str
) -> None:
    write(place, "told", g_steps=10, every=10, scheduler="none")
    began = time.monotonic()
    said = place.run(
        "run", "far.yaml", "--address", nodes.address, "--tracking-uri", mlflow_server,
        "--dir", "s3://none-such/x", code=2,
    ).text  # fmt: skip
    assert "s3://none-such/x/told: there is no bucket none-such (make it, or name another)" in said
    assert time.monotonic() - began < 60
