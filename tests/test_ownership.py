"""One owner of a folder at a time, and none for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gansweep import ownership
from gansweep.errors import ConfigError
from gansweep.ownership import FOLDER, sole_use

HOLD = """
import sys, time
from pathlib import Path
from gansweep.ownership import sole_use
with sole_use(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""

CONTEND = """
import sys
from pathlib import Path
from gansweep.errors import ConfigError
from gansweep.ownership import sole_use
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with sole_use(folder):
        print("in", flush=True)
        sys.stdin.readline()
except ConfigError:
    print("refused", flush=True)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.wait()


def owners(folder: Path) -> dict[int, dict[str, object]]:
    return {
        int(path.stem): json.loads(path.read_text()) for path in (folder / FOLDER).glob("[0-9]*")
    }


def claim(folder: Path, number: int, **words: object) -> None:
    """As another machine would."""
    (folder / FOLDER).mkdir(exist_ok=True)
    (folder / FOLDER / f"{number}.json").write_text(json.dumps(words))


@contextmanager
def beating(folder: Path, **words: object) -> Iterator[None]:
    """As another machine does while it lives."""
    over = threading.Event()

    def beat() -> None:
        for count in range(10**6):
            claim(folder, 1, **words, beat=count)
            if over.wait(0.05):
                return

    claim(folder, 1, **words, beat=0)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_one_after_the_other(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with sole_use(tmp_path):
            assert list(owners(tmp_path)) == [number]
            assert owners(tmp_path)[number]["pid"] == os.getpid()
        assert owners(tmp_path)[number]["released"] is True


def test_a_living_owner_is_respected(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    with (
        pytest.raises(ConfigError, match=f"process {holder.pid} on this machine"),
        sole_use(tmp_path),
    ):
        pass
    assert time.monotonic() - began < 5
    assert list(owners(tmp_path)) == [1]


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_owner_is_followed_at_once(
    tmp_path: Path, holder: subprocess.Popen[str], reaped: bool
) -> None:
    holder.send_signal(signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    began = time.monotonic()
    with sole_use(tmp_path):
        assert time.monotonic() - began < 5
        assert list(owners(tmp_path)) == [2]


def test_its_process_id_may_be_another_ones_by_now(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        words = owners(tmp_path)[1]
    claim(tmp_path, 7, **{**words, "started": "1"})
    with sole_use(tmp_path):
        assert list(owners(tmp_path)) == [8]


@pytest.mark.usefixtures("quick")
def test_of_a_process_that_another_user_hides_the_beat_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc mounted with hidepid shows none of another user's."""

    def kill(process: int, number: int) -> None:
        raise PermissionError

    unseen = {**ownership._this_process(), "pid": 2**30, "started": "7"}
    monkeypatch.setattr(os, "kill", kill)
    with beating(tmp_path, **unseen):
        assert ownership.may_be_owned(tmp_path)
        with pytest.raises(ConfigError, match=f"process {2**30} on "), sole_use(tmp_path):
            pass
    began = time.monotonic()
    with sole_use(tmp_path):
        assert 0.45 < time.monotonic() - began < 5
        assert list(owners(tmp_path)) == [2]


@pytest.mark.usefixtures("quick")
def test_while_we_were_stopped_ourselves_nobody_was_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage of both was away, say: the owner's next beat is to come."""
    claim(tmp_path, 1, host="elsewhere", pid=1, beat=0)
    real, looks = ownership._Owner._read, []
    stopped = 0.0

    def read(self: ownership._Owner, number: int) -> dict[str, Any]:
        nonlocal stopped
        looks.append(real(self, number))
        if len(looks) == 3:
            stopped = 2 * ownership.SILENT_SECONDS
            claim(tmp_path, 1, host="elsewhere", pid=1, beat=1)
        return looks[-1]

    monkeypatch.setattr(ownership._Owner, "_read", read)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + stopped, sleep=time.sleep)
    monkeypatch.setattr(ownership, "time", clock)
    with pytest.raises(ConfigError, match="process 1 on elsewhere"), sole_use(tmp_path):
        pass
    assert len(looks) == 4


@pytest.mark.usefixtures("quick")
def test_on_another_machine_the_beat_tells(tmp_path: Path) -> None:
    with (
        beating(tmp_path, host="elsewhere", pid=1),
        pytest.raises(ConfigError, match="process 1 on elsewhere"),
        sole_use(tmp_path),
    ):
        pass
    began = time.monotonic()
    with sole_use(tmp_path):
        assert 0.45 < time.monotonic() - began < 5
        assert list(owners(tmp_path)) == [2]


@pytest.mark.usefixtures("quick")
def test_a_claim_that_broke_off_is_no_owner(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "4.json").write_text('{"host": ')
    with sole_use(tmp_path):
        assert list(owners(tmp_path)) == [5]


@pytest.mark.usefixtures("quick")
def test_who_was_taken_for_dead_is_told_and_disturbs_nobody(tmp_path: Path) -> None:
    lost = threading.Event()
    with sole_use(tmp_path, on_loss=lost.set):
        time.sleep(0.3)
        assert not lost.is_set()
        claim(tmp_path, 2, host="elsewhere", pid=1, beat=0)
        assert lost.wait(60)
    assert owners(tmp_path)[2] == {"host": "elsewhere", "pid": 1, "beat": 0}
    assert "released" not in owners(tmp_path)[1]


@pytest.mark.usefixtures("quick")
def test_it_beats(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        seen = set()
        end = time.monotonic() + 60
        while len(seen) < 3 and time.monotonic() < end:
            seen.add(owners(tmp_path)[1]["beat"])
    assert len(seen) == 3


def test_a_folder_that_cannot_be_owned_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("no folder")
    with pytest.raises(ConfigError, match=rf"{tmp_path}: cannot be written: .*use another --dir"):
        sole_use(tmp_path).__enter__()


def test_a_full_disk_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ownership.OnDisk, "create", full)
    with pytest.raises(OSError, match="No space left"):
        sole_use(tmp_path).__enter__()


def test_a_number_has_one_owner(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    one, other = (ownership._Owner(ownership.OnDisk(tmp_path / FOLDER), "", None) for _ in range(2))
    assert one._make(3)
    assert not other._make(3)
    assert other._make(4)


def test_who_made_an_old_number_is_no_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked for the newest number long ago: others came and went meanwhile."""
    claim(tmp_path, 5, host="elsewhere", pid=1, released=True)
    real, looks = ownership._Owner._numbers, []

    def numbers(self: ownership._Owner) -> list[int]:
        looks.append(1)
        return [1] if len(looks) == 1 else real(self)

    monkeypatch.setattr(ownership._Owner, "_numbers", numbers)
    with sole_use(tmp_path):
        assert list(owners(tmp_path)) == [6]


def test_of_many_that_follow_a_dead_owner_one_is_in(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    """Until all the others have been refused."""
    holder.kill()
    holder.wait()
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTEND, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for each in contenders:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in contenders:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.stdout.readline() for each in contenders if each.stdout is not None]
    assert sorted(said) == ["in\n", *["refused\n"] * 5]
    assert list(owners(tmp_path)) == [2]
    for each in contenders:
        each.communicate("\n", timeout=250)
        assert each.returncode == 0
    assert owners(tmp_path)[2]["released"] is True
