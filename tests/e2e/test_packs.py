"""Packs on a real Ray: a stacked one whose worker is killed, and a population."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from records import equal

from gansweep.checkpoint import read_checkpoint

from .command import Place, wait_for, workers
from .conftest import CLUSTER
from .record import Record

pytestmark = pytest.mark.long

STACKED = """
name: stacked
trial:
  model: {name: wgan, n_critic: 2, burst_first: 0, burst_every: 0, clip: 0.1}
  network: {name: mlp, width: 32, depth: 1}
  latent: {dim: 32}
  optimizer: {name: rmsprop}
  data: {name: digits, batch_size: 32}
  budget: {g_steps: 600}
  samples: {every: 300, rows: 2, columns: 2}
  score: {samples: 64, names: [swd, "mylab:Gate"]}
  log: {every: 20}
  checkpoint: {every: 40}
  compile: false
space:
  optimizer.lr: {grid: [1.0e-5, 3.0e-5, 1.0e-4, 3.0e-4]}
resources: {concurrent: 1, engine: stacked}
"""

POPULATION = """
name: population
trial:
  model: {name: wgan_gp, n_critic: 1}
  network: {name: mlp, width: 16, depth: 1}
  latent: {dim: 4}
  optimizer: {name: adam}
  data: {name: ring8, batch_size: 32}
  budget: {g_steps: 40}
  samples: {every: 10}
  score: {samples: 64}
  log: {every: 10}
  compile: false
space:
  optimizer.lr: {loguniform: [1.0e-5, 1.0e-1]}
search: {method: random, samples: 6, scheduler: pbt, interval: 10}
resources: {engine: stacked}
"""


def plan(place: Place, name: str) -> list[dict[str, object]]:
    tree = json.loads((place.folder / "runs" / name / "plan.json").read_text())
    return list(tree["trials"])


@pytest.mark.slow
def test_a_killed_worker_costs_a_pack_nothing_but_time(new_place: Callable[..., Place]) -> None:
    """Its trials go on from their checkpoints in packs of half the size, each in its own run."""
    place = new_place("stacked")
    path = place.folder / "stacked.yaml"
    path.write_text(STACKED)
    lab = place.folder / "lab"
    (lab / "hold").write_text("600")
    driver = place.start("run", path)

    def held() -> bool:
        return bool(list(lab.glob("held.*"))) or driver.poll() is not None

    wait_for(held, seconds=300, what="a score beyond the first checkpoints")
    assert len(list(place.folder.glob("runs/stacked/trials/*/checkpoint.pt"))) == 4, place.log()
    (worker,) = workers(place)
    (lab / "hold").unlink()
    worker.kill()
    assert driver.wait(timeout=300) == 0, place.log()
    assert place.left_after(20) == []
    record = Record(place.uri, "stacked")
    assert len(record.trials) == 4
    for run in record.trials.values():
        assert (run.status, run.tags["gansweep.state"]) == ("FINISHED", "completed")
        assert run.steps("loss/d") == list(range(20, 601, 20)), "a step is missing or twice"
    assert "goes on in a smaller pack" in place.log()


def test_a_population_exploits_and_records_its_lineage(
    new_place: Callable[..., Place], cluster: str
) -> None:
    """Two runs of one sweep, which decide alike."""
    places: list[Place] = []
    for name in ("first", "second"):
        places.append(new_place(name, **CLUSTER))
        path = places[-1].folder / "population.yaml"
        path.write_text(POPULATION)
        places[-1].run("run", path, "--address", cluster)
    lineages = [{e["key"]: e["lineage"] for e in plan(place, "population")} for place in places]
    assert lineages[0] == lineages[1], "a population is deterministic"
    steps = [step for lineage in lineages[0].values() for step in lineage]
    assert sorted({step["g_step"] for step in steps}) == [10, 20, 30]
    record = Record(places[0].uri, "population")
    assert len(record.trials) == 6
    ran = 0
    for key, run in record.trials.items():
        assert run.tags["gansweep.state"] == "completed"
        assert run.steps("loss/d") == [10, 20, 30, 40]
        if lineages[0][key]:
            assert json.loads(run.tags["gansweep.lineage"]) == lineages[0][key]
            donor = lineages[0][key][-1]["from"]
            assert run.tags["gansweep.donor"] == record.trials[donor].id
            ran += 1
    assert ran >= 1


@pytest.mark.timeout(900)
def test_a_population_that_is_broken_off_decides_and_trains_alike(
    new_place: Callable[..., Place],
) -> None:
    """Amid generations that some members have reported and others have not, in two packs."""
    undisturbed, broken = new_place("undisturbed"), new_place("broken")
    words = ("run", "population.yaml", *BROKEN_OFF)
    for place in (undisturbed, broken):
        (place.folder / "population.yaml").write_text(POPULATION)
    undisturbed.run(*words)
    (broken.folder / "lab" / "hold").write_text("0.05")  # or a quick machine is at the end first
    journal = broken.folder / "runs" / "population" / "decisions.jsonl"

    def reports() -> int:
        return journal.read_text().count('"report"') if journal.exists() else 0

    ends = 0
    for number in (signal.SIGTERM, signal.SIGKILL) * 2:
        until = reports() + 11
        driver = broken.start(*words)
        wait_for(
            lambda until=until, driver=driver: reports() >= until or driver.poll() is not None,
            seconds=300,
            what=f"{until} reports",
        )
        driver.send_signal(number)
        code = driver.wait(timeout=120)
        assert code in (0, 130, -signal.SIGKILL), broken.log()
        ends += code != 0
    assert ends >= 3
    broken.run(*words)
    for one, other in zip(plan(undisturbed, "population"), plan(broken, "population"), strict=True):
        for name in ("key", "state", "g_steps", "lineage"):
            assert one[name] == other[name], name
        saved = [
            read_checkpoint(place.folder / "runs/population/trials" / str(one["key"]) / name)
            for name in ("checkpoint.pt", "best.pt")
            for place in (undisturbed, broken)
        ]
        for first, second in (saved[:2], saved[2:]):
            assert first is not None
            assert second is not None
            for part in ("module", "order", "scores", "tree", "diagnosis"):
                assert equal(first[part], second[part]), part


BROKEN_OFF = (
    "budget.g_steps=400", "search.interval=40", "score.every=20", "checkpoint.every=20",
    "resources.engine=interleaved", "resources.pack=3", "samples.every=400",
    "score.names=[swd, 'mylab:Gate']",
)  # fmt: skip


@pytest.mark.long
def test_a_population_that_has_no_room_together_trains_in_turns(
    new_place: Callable[..., Place], cluster: str
) -> None:
    place = new_place("room", **CLUSTER)
    path = Path(place.folder / "population.yaml")
    path.write_text(POPULATION)
    words = ("--address", cluster, "resources.pack=2", "resources.concurrent=1")
    ended = place.run("run", path, *words, "budget.g_steps=20")
    assert "the population of 6 trains in turns, since 1 worker with packs of 2" in ended.text
    for run in Record(place.uri, "population").trials.values():
        assert (run.status, run.tags["gansweep.state"]) == ("FINISHED", "completed")
        assert run.steps("loss/d") == [10, 20]
    assert any(entry["lineage"] for entry in plan(place, "population"))
