"""A sweep whose folder is in S3: killed, its machine lost, completed by the same command."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records import equal, state
from s3 import environment

from gansweep.checkpoint import read_checkpoint
from gansweep.storage import Bucket

from .command import Place, wait_for
from .record import Record
from .story import ADDED, LONGER, NAME, words

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

COMMAND = words(clips=(ADDED,), g_steps=LONGER)


def table(place: Place) -> list[dict[str, Any]]:
    """The ranked trials without what differs from one run to another."""
    shown = json.loads(place.run("show", NAME, "--json").text)["trials"]
    for trial in shown:
        del trial["run_id"]
        del trial["metrics"]["time/seconds"], trial["metrics"]["time/g_steps_per_s"]
        trial["metrics"] = {
            k: v for k, v in trial["metrics"].items() if not k.endswith(("score/met", "score/gate"))
        }
    return list(shown)


def trained(folder: Path) -> dict[str, Any]:
    """Of a checkpoint, what the next step depends on; its metrics are in the curves."""
    saved = state(folder)
    return {name: saved[name] for name in ("key", "module", "order", "engine", "diagnosis")}


def test_a_lost_machine_costs_nothing_that_was_stored(
    new_place: Callable[..., Place], s3: str, s3_server: str, tmp_path: Path
) -> None:
    here = new_place("here")
    here.run(*COMMAND)
    scratch = tmp_path / "scratch"
    far = new_place("far", **environment(s3_server), GANSWEEP_SCRATCH=str(scratch))
    url = f"{s3}/sweeps"
    bucket = Bucket(f"{url}/{NAME}")
    lab = far.folder / "lab"
    (lab / "hold").write_text("2")
    driver = far.start(*COMMAND, "--dir", url)

    def both_held() -> bool:
        assert driver.poll() is None, far.log()
        return len(list(lab.glob("held.*.1"))) == 2

    def both_stored() -> bool:
        names = bucket.names()
        begun = [name for name in names if name.startswith("trials/")]
        assert "plan.json" in names or not begun  # it is there before the first trial
        assert driver.poll() is None, far.log()
        return len([name for name in begun if name.endswith("/checkpoint.pt")]) == 2

    wait_for(both_held, seconds=300, what="the first score of both trials")
    (lab / "hold").write_text("600")  # at the second one, beyond their first checkpoints
    wait_for(both_stored, seconds=300, what="checkpoints of both trials in the store")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert far.left_after(20) == []
    assert (scratch / f"gansweep-{os.getuid()}").is_dir()
    shutil.rmtree(scratch)  # the machine is gone
    (lab / "hold").unlink()
    midway = {
        name: read_checkpoint(fetched(bucket, name, tmp_path / "midway"))
        for name in bucket.names()
        if name.endswith("/checkpoint.pt")
    }
    assert all(found and found["module"]["g_step"] < LONGER for found in midway.values())
    planned = json.loads(far.run("plan", *COMMAND[1:], "--dir", url, "--json").text)["trials"]
    assert [trial["state"] for trial in planned] == ["interrupted", "interrupted"]
    synced = far.run("sync", NAME, "--dir", url).text
    assert synced.startswith(NAME), synced
    shutil.rmtree(scratch)

    far.run(*COMMAND, "--dir", url)

    assert table(far) == table(here)
    one, other = Record(here.uri, NAME), Record(far.uri, NAME)
    assert one.trials.keys() == other.trials.keys()
    for key, run in other.trials.items():
        assert run.status == "FINISHED"
        assert run.learning == one.trials[key].learning
        assert {step: len(found) for step, found in run.images.items()} == dict.fromkeys(
            range(20, LONGER + 1, 20), 1
        )
        place = fetched(bucket, f"trials/{key}/checkpoint.pt", tmp_path / "end").parent
        assert equal(trained(place), trained(here.folder / "runs" / NAME / "trials" / key))
    files = ["best.pt", "checkpoint.pt"]
    assert [name for name in bucket.names() if not name.startswith(".owner/")] == sorted(
        ["driver.log", "paces.json", "plan.json", "samples.png", "spent.json"]
        + [f"trials/{key}/{file}" for key in other.trials for file in files]
    )
    assert list(scratch.rglob("*.pt")) == []
    again = far.run(*COMMAND, "--dir", url).text
    assert "every trial is finished already" in again
    assert f"{NAME}: everything is in MLflow" in far.run("sync", NAME, "--dir", url).text
    planned = json.loads(far.run("plan", *COMMAND[1:], "--dir", url, "--json").text)["trials"]
    assert [trial["state"] for trial in planned] == ["completed", "completed"]


def fetched(bucket: Bucket, name: str, folder: Path) -> Path:
    bucket.fetch([name], folder)
    return folder / name
