"""Two commands that share a sweep; one is killed in its midst and begun again."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .command import Ended, Place, wait_for
from .record import Record

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SWEEP = """\
name: shared
trial:
  model: {name: wgan, n_critic: 1}
  network: {name: mlp, width: 8, depth: 1}
  data: {name: ring8, n: 1000}
  budget: {g_steps: 600}
  checkpoint: {every: 25}
  samples: {every: 600}
  score: {every: 600, samples: 100}
  log: {every: 100}
  compile: "false"
  diagnosis: {every: 0}
space:
  model.clip: {grid: [0.01, 0.02, 0.03, 0.04]}
seeds: 2
"""


@dataclass(frozen=True)
class Shares:
    """What they said: the one that lived, the list meanwhile, the other begun again, and both."""

    folder: Path
    first: str
    shown: str
    again: Ended
    after: Ended
    record: Record
    dealt: list[list[str]]


@pytest.fixture(scope="module")
def shares(new_place: Callable[..., Place]) -> Shares:
    place = new_place("shares")
    (place.folder / "shared.yaml").write_text(SWEEP)
    folder = place.folder / "runs" / "shared"
    logs = [place.folder / f"said.{number}" for number in (1, 2)]
    tasks = []
    for number, log in enumerate(logs, start=1):
        with log.open("w") as target:
            words = ("run", "shared.yaml", "--share", f"{number}/2")
            tasks.append(place.start(*words, stdout=target, stderr=target))
    wait_for((folder / "shares" / "deal.json").exists, seconds=300, what="the dealing")
    dealt = json.loads((folder / "shares" / "deal.json").read_text())["shares"]
    wait_for(
        lambda: any((folder / "trials" / key / "checkpoint.pt").exists() for key in dealt[1]),
        seconds=300,
        what="a checkpoint of the second share",
    )
    tasks[1].send_signal(signal.SIGKILL)
    tasks[1].wait()
    assert tasks[0].wait(400) == 0, logs[0].read_text() + place.log()
    shown = place.run("show", "shared").text
    again = place.run("run", "shared.yaml", "--share", "2/2")
    record = Record(place.uri, "shared")
    after = place.run("run", "shared.yaml", "--share", "1/2")
    return Shares(folder, logs[0].read_text(), shown, again, after, record, dealt)


def test_each_trains_its_own(shares: Shares) -> None:
    assert [len(keys) for keys in shares.dealt] == [4, 4]
    assert "shared, share 1/2: 4 trials to train" in shares.first
    assert "shared, share 2/2: " in shares.again.text
    assert "4 trials of other shares to go" in shares.first


def test_the_list_is_there_at_any_time(shares: Shares) -> None:
    assert len(set(re.findall(r"clip=0\.0\d", shares.shown))) == 4


def test_one_run_a_trial_and_one_of_the_sweep(shares: Shares) -> None:
    record = shares.record
    assert set(record.trials) == {key for keys in shares.dealt for key in keys}
    assert record.parent.status == "FINISHED"
    for run in record.trials.values():
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        assert run.steps("loss/d") == list(range(100, 601, 100))


def test_the_last_one_has_the_whole_table(shares: Shares) -> None:
    assert "\n8 trials, " in shares.again.text
    assert "samples.png" in shares.again.text
    plan = json.loads((shares.folder / "plan.json").read_text())
    assert {trial["state"] for trial in plan["trials"]} == {"completed"}
    assert not list((shares.folder / "shares").glob("*/plan.json"))
    assert "shared, share 1/2: every trial is finished already" in shares.after.text
