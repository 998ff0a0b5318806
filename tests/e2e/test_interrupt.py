"""Ctrl-C and SIGTERM amid a sweep: a graceful end, nothing left behind, and the same weights."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from .command import Place, wait_for
from .record import Record
from .story import ADDED, LONGER, NAME, Story, checkpoint, words

pytestmark = pytest.mark.timeout(900)  # of which `story` takes its part

COMMAND = words(clips=(ADDED,), g_steps=LONGER)  # the trials that `story` trained in one go
GRACE = 20.0  # seconds from the signal to the end


@dataclass(frozen=True)
class Interrupted:
    code: int
    seconds: float
    left: list[str]
    record: Record
    g_steps: dict[str, int]
    text: str


@dataclass(frozen=True)
class Tale:
    place: Place
    by_ctrl_c: Interrupted
    by_term: Interrupted
    completed: Record


@pytest.fixture(scope="module")
def tale(new_place: Callable[..., Place]) -> Tale:
    """Two trials, interrupted by Ctrl-C, gone on with, interrupted by SIGTERM, completed."""
    place = new_place("interrupted")
    lab = place.folder / "lab"
    (lab / "hold").touch()

    def interrupted(
        interrupt: Callable[[subprocess.Popen[Any], int], Any], *, sized: bool
    ) -> Interrupted:
        for old in lab.glob("held.*"):
            old.unlink()
        shutil.rmtree(lab / "met", ignore_errors=True)  # the first worker waits for the second
        master, slave = pty.openpty()
        driver = place.start(
            *COMMAND, stdin=slave, stdout=slave, stderr=slave,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        if sized:
            termios.tcsetwinsize(slave, (40, 120))
        os.close(slave)
        shown: list[bytes] = []
        threading.Thread(target=_read, args=(master, shown), daemon=True).start()
        try:
            wait_for(
                lambda: (
                    len({held.name.split(".")[1] for held in lab.glob("held.*")}) == 2
                    or driver.poll() is not None
                ),
                seconds=300,
                what="training on both workers",
            )
            assert driver.poll() is None, b"".join(shown).decode()[-2000:] + place.log()
            began = time.monotonic()
            interrupt(driver, master)
            code = driver.wait(timeout=120)
        finally:
            driver.kill()
        seconds = time.monotonic() - began
        left = place.left_after(5)
        record = Record(place.uri, NAME)
        g_steps = {
            key: checkpoint(place.folder / "runs" / NAME, key)["module"]["g_step"]
            for key in record.trials
        }
        return Interrupted(code, seconds, left, record, g_steps, b"".join(shown).decode())

    by_ctrl_c = interrupted(lambda driver, master: os.write(master, b"\x03"), sized=True)
    by_term = interrupted(lambda driver, master: driver.send_signal(signal.SIGTERM), sized=False)
    (lab / "hold").unlink()
    place.run(*COMMAND)
    return Tale(place, by_ctrl_c, by_term, Record(place.uri, NAME))


def _read(master: int, into: list[bytes]) -> None:
    try:
        while data := os.read(master, 65536):
            into.append(data)
    except OSError:  # the other side has closed
        pass


@pytest.mark.parametrize("how", ["by_ctrl_c", "by_term"])
def test_an_interrupt_ends_the_sweep_gracefully(tale: Tale, how: str) -> None:
    end: Interrupted = getattr(tale, how)
    assert end.code == 130
    assert end.seconds < GRACE
    assert end.left == []
    assert "2 trials to go: the same command goes on" in plain(end.text)
    assert end.record.parent.status == "KILLED"
    assert len(end.record.trials) == 2
    for key, run in end.record.trials.items():
        assert run.status == "KILLED"
        assert run.tags["gansweep.state"] == "interrupted"
        assert run.tags["gansweep.reason"] == f"interrupted at g_step {end.g_steps[key]}"
        assert 0 < end.g_steps[key] < LONGER


def test_each_run_goes_on_where_the_last_one_stopped(tale: Tale) -> None:
    for key, g_step in tale.by_ctrl_c.g_steps.items():
        assert tale.by_term.g_steps[key] > g_step
        assert tale.completed.trials[key].id == tale.by_ctrl_c.record.trials[key].id


def test_no_step_is_missing_or_twice(tale: Tale, story: Story) -> None:
    undisturbed = story.wider.record
    assert tale.completed.parent.status == "FINISHED"
    assert len(tale.completed.trials) == 2
    for key, run in tale.completed.trials.items():
        assert run.status == "FINISHED"
        assert run.tags["gansweep.state"] == "completed"
        assert run.tags["gansweep.reason"] == ""
        assert run.learning == undisturbed.trials[key].learning
        assert {step: len(found) for step, found in run.images.items()} == dict.fromkeys(
            range(20, LONGER + 1, 20), 1
        )
        seconds = [value for _, value in run.curves["time/seconds"]]
        assert seconds == sorted(seconds)


def test_the_weights_are_those_of_an_undisturbed_run(tale: Tale, story: Story) -> None:
    compared = 0
    for key in tale.completed.trials:
        ours = checkpoint(tale.place.folder / "runs" / NAME, key)
        theirs = checkpoint(story.folder, key)
        for part in ("module", "order", "engine"):
            compared += same(ours[part], theirs[part], part)
    assert compared > 2 * 30


def same(ours: Any, theirs: Any, where: str) -> int:
    """Assert that two trees of tensors are bit-identical; how many leaves were compared."""
    if isinstance(ours, Mapping):
        assert ours.keys() == theirs.keys(), where
        return sum(same(ours[key], theirs[key], f"{where}.{key}") for key in ours)
    if isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        return sum(same(*pair, where) for pair in zip(ours, theirs, strict=True))
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    else:
        assert ours == theirs, where
    return 1


def plain(text: str) -> str:
    """A terminal's text without its colours and line ends."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def test_the_terminal_showed_a_live_table(tale: Tale) -> None:
    text = plain(tale.by_ctrl_c.text)
    assert "2 running" in text
    assert "stopping: the trials write their checkpoints" in text
    assert f"clip={ADDED} rmsprop" in text
    assert Path(tale.place.folder / "runs" / NAME / "driver.log").stat().st_size < 200_000
