"""A trial's record on its own disk."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gansweep.tracking import spool
from gansweep.tracking.records import (
    End,
    Image,
    Metrics,
    Record,
    Tags,
    Text,
    Unreadable,
    count_records,
    from_line,
    read_records,
    to_line,
)
from gansweep.tracking.spool import FOLDER, LINES, SpoolTracker, complete_bytes, is_ended, spools


def lines(folder: Path) -> Path:
    return folder / FOLDER / LINES


def read(folder: Path) -> list[Any]:
    return [record for record, _ in read_records(lines(folder), 0)]


def steps(folder: Path) -> list[int]:
    return [record.step for record in read(folder) if isinstance(record, Metrics)]


def test_a_clock_that_steps_backwards_leaves_the_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5_000_000_000, 6_000_000_000, 1_000_000_000, 7_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: now.pop(0))
    tracker = SpoolTracker(tmp_path)
    for step in range(4):
        tracker.log_metrics({"a/b": 1.0}, step=step)
    tracker.flush()
    assert [record.milliseconds for record in read(tmp_path)] == [5000, 6000, 6000, 7000]


def test_everything_is_read_back_in_order(tmp_path: Path) -> None:
    tracker = SpoolTracker(tmp_path)
    before = time.time_ns() // 1_000_000
    picture = torch.arange(3 * 4 * 2, dtype=torch.uint8).view(3, 4, 2)
    tracker.log_metrics({"loss/g": 0.1, "loss/d": torch.tensor(2.5)}, step=3)  # type: ignore[dict-item]
    tracker.log_image("samples/ema", picture, step=4)
    picture.zero_()
    tracker.log_text("a: 1\nb: ü", "config/trial.yaml")
    tracker.set_tags({"state": "running"})
    tracker.log_metrics({}, step=5)
    tracker.finish("KILLED")
    tracker.finish("FAILED")  # the second says nothing
    metrics, image, text, tags, empty, end = read(tmp_path)
    assert (metrics.values, metrics.step) == ({"loss/g": 0.1, "loss/d": 2.5}, 3)
    assert (image.key, image.step) == ("samples/ema", 4)
    pixels = np.load(tmp_path / FOLDER / image.file)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == np.arange(24).reshape(3, 4, 2).transpose(1, 2, 0).tolist()
    assert (text.text, text.artifact) == ("a: 1\nb: ü", "config/trial.yaml")
    assert tags.tags == {"state": "running"}
    assert empty.values == {}
    assert end.status == "KILLED"
    times = [r.milliseconds for r in (metrics, image, text, tags, empty, end)]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time_ns() // 1_000_000


def test_lines_are_strict_json_and_keep_every_number() -> None:
    values = {
        "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "third": 1 / 3, "small": 5e-324,
        "big": sys.float_info.max, "zero": -0.0,
    }  # fmt: skip
    line = to_line(Metrics(values, 7, 1234))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads(line, parse_constant=refuse)
    back = from_line(line)
    assert isinstance(back, Metrics)
    assert {name: repr(v) for name, v in back.values.items()} == {
        name: repr(v) for name, v in values.items()
    }
    records: list[Record] = [
        Image("k", "f.npy", 1, 2), Text("t", "a", 3), Tags({"a": "b"}, 4), End("FINISHED", 5),
    ]  # fmt: skip
    assert [from_line(to_line(record)) for record in records] == records


def test_what_is_no_line_of_this_version_is_told_apart() -> None:
    good = to_line(End("FINISHED", 1))
    wrong = [b"", b"{", b"[]\n", b"\xff\n", good.replace(b'"v":1', b'"v":2'), good[10:],
             good.replace(b'"end"', b'"odd"')]  # fmt: skip
    assert [type(from_line(line)) for line in wrong] == [Unreadable] * len(wrong)


def test_lines_wait_for_a_flush_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    tracker = SpoolTracker(tmp_path)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    assert steps(tmp_path) == []
    tracker.flush()
    assert steps(tmp_path) == [1]
    assert len(synced) == 2  # the lines, and once their folder
    tracker.log_image("x", torch.zeros(1, 2, 2).byte(), step=2)
    tracker.flush()
    assert len(synced) == 5  # picture, folder, lines
    tracker.log_metrics({"a/b": 2.0}, step=2)
    assert steps(tmp_path) == [1]
    monkeypatch.setattr(spool, "WRITE_SECONDS", 0.0)
    tracker.log_metrics({"a/b": 3.0}, step=3)
    assert steps(tmp_path) == [1, 2, 3]
    monkeypatch.setattr(spool, "WRITE_SECONDS", 3600.0)
    for step in range(4, 4 + spool.WRITE_LINES):
        assert steps(tmp_path)[-1] == 3
        tracker.log_metrics({"a/b": 0.0}, step=step)
    assert steps(tmp_path)[-1] == 3 + spool.WRITE_LINES
    assert len(synced) == 5


@pytest.mark.parametrize("torn", ["", '{"v":1,"t":1,"kind":"met', '{"v":1,"t":1,"kind":"end"'])
def test_a_torn_line_is_cut_off_when_the_trial_goes_on(tmp_path: Path, torn: str) -> None:
    tracker = SpoolTracker(tmp_path)
    for step in range(3000):  # more than is looked at in one piece
        tracker.log_metrics({"loss/generator": step / 7}, step=step)
    tracker.flush()
    whole = lines(tmp_path).stat().st_size
    with lines(tmp_path).open("a") as file:
        file.write(torn)
    assert complete_bytes(lines(tmp_path)) == whole
    assert steps(tmp_path) == list(range(3000))[: len(steps(tmp_path))]
    again = SpoolTracker(tmp_path)
    assert lines(tmp_path).stat().st_size == whole
    again.log_metrics({"loss/generator": 1.0}, step=3000)
    again.flush()
    assert count_records(lines(tmp_path), 0) == 3001
    assert count_records(lines(tmp_path), whole) == 1
    ((last, end),) = read_records(lines(tmp_path), whole)
    assert isinstance(last, Metrics)
    assert last.step == 3000
    assert end == lines(tmp_path).stat().st_size


def test_one_long_torn_line_is_all_that_is_cut(tmp_path: Path) -> None:
    SpoolTracker(tmp_path)
    lines(tmp_path).write_text("x" * 200_000)
    assert complete_bytes(lines(tmp_path)) == 0
    SpoolTracker(tmp_path)
    assert lines(tmp_path).stat().st_size == 0
    assert complete_bytes(tmp_path / "none") == 0
    assert count_records(tmp_path / "none", 0) == 0


def test_a_line_longer_than_a_chunk_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gansweep.tracking.records.CHUNK_BYTES", 10)
    tracker = SpoolTracker(tmp_path)
    for text in ("long " * 50, "short"):
        tracker.log_text(text, "a.txt")
    tracker.flush()
    ((first, end),) = read_records(lines(tmp_path), 0)
    ((second, _),) = read_records(lines(tmp_path), end)
    assert isinstance(first, Text)
    assert isinstance(second, Text)
    assert (first.text, second.text) == ("long " * 50, "short")


def test_a_killed_process_keeps_what_it_flushed(tmp_path: Path) -> None:
    script = """
import os, sys, torch
from pathlib import Path
from gansweep.tracking.spool import SpoolTracker
tracker = SpoolTracker(Path(sys.argv[1]))
for step in range(700):
    tracker.log_metrics({"a/b": float(step)}, step=step)
tracker.log_image("x", torch.ones(1, 2, 2).byte(), step=700)
tracker.flush()
tracker.log_metrics({"a/b": 1.0}, step=701)
os.kill(os.getpid(), 9)
"""
    code = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode
    assert code == -9
    assert steps(tmp_path) == list(range(700))
    image = read(tmp_path)[-1]
    assert np.load(tmp_path / FOLDER / image.file).shape == (2, 2, 1)
    assert not is_ended(lines(tmp_path))


def test_threads_may_flush_while_one_logs(tmp_path: Path) -> None:
    tracker = SpoolTracker(tmp_path)
    over = threading.Event()

    def flush() -> None:
        while not over.is_set():
            tracker.flush()

    threads = [threading.Thread(target=flush) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(2000):
        tracker.log_metrics({"a/b": 0.0}, step=step)
    over.set()
    for thread in threads:
        thread.join()
    tracker.finish("FINISHED")
    assert steps(tmp_path) == list(range(2000))
    assert is_ended(lines(tmp_path))


def test_an_image_is_judged_at_once(tmp_path: Path) -> None:
    tracker = SpoolTracker(tmp_path)
    wrong = [torch.zeros(2, 2), torch.zeros(4, 2, 2).byte(), torch.zeros(3, 2, 2)]
    for image in wrong:
        with pytest.raises(ValueError, match="an image is uint8"):
            tracker.log_image("x", image, step=1)
    tracker.finish("FINISHED")
    assert len(read(tmp_path)) == 1


def test_after_finish_it_only_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = SpoolTracker(tmp_path)
    tracker.finish("FINISHED")
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.flush()
    assert "logged after finish" in caplog.text
    assert [type(record) for record in read(tmp_path)] == [End]


def test_a_full_disk_is_a_warning_and_costs_nothing_once_it_has_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = SpoolTracker(tmp_path)
    real = tracker._file

    class Full:
        closed = False

        def write(self, data: bytes) -> int:
            if len(data) > 20:
                return real.write(data[:20]) or 0
            raise OSError(28, "No space left on device")

        def fileno(self) -> int:
            return real.fileno()

    tracker._file = Full()  # type: ignore[assignment]
    for step in range(3):
        tracker.log_metrics({"a/b": 1.0}, step=step)
        with pytest.raises(OSError, match="No space left"):
            tracker.flush()
    assert caplog.text.count("the record is not on the disk") == 1
    tracker._file = real
    tracker.finish("FINISHED")
    assert steps(tmp_path) == [0, 1, 2]


def test_a_picture_that_the_disk_refused_is_written_once_it_has_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = SpoolTracker(tmp_path)
    tracker.log_metrics({"a/b": 1.0}, step=1)
    tracker.flush()
    first, second = (torch.full((1, 32, 32), shade, dtype=torch.uint8) for shade in (1, 2))
    with files_of_at_most(lines(tmp_path).stat().st_size + 50):
        tracker.log_image("samples", first, step=2)
        with pytest.raises(OSError, match="File too large"):
            tracker.flush()
        assert list((tmp_path / FOLDER).glob("*.npy")) == []  # nor a part of it
        with pytest.raises(OSError, match="File too large"):
            tracker.flush()
    assert steps(tmp_path) == [1]
    assert len(read(tmp_path)) == 1  # no line speaks of a file that is not there
    assert caplog.text.count("the record is not on the disk") == 1
    tracker.log_image("samples", second, step=3)
    tracker.flush()
    _, *pictures = read(tmp_path)
    assert [(type(each), each.step) for each in pictures] == [(Image, 2), (Image, 3)]
    found = [np.load(tmp_path / FOLDER / each.file) for each in pictures]
    assert [(each.shape, each.min(), each.max()) for each in found] == [
        ((32, 32, 1), 1, 1), ((32, 32, 1), 2, 2),
    ]  # fmt: skip


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses longer ones, after as much as there is room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_spools_below_a_folder(tmp_path: Path) -> None:
    for name in ("b", "a"):
        SpoolTracker(tmp_path / name)
    (tmp_path / "c").mkdir()
    assert spools(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert spools(tmp_path / "none") == []


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(116, "Stale file handle")])
def test_a_folder_that_cannot_be_looked_at_is_not_taken_for_an_empty_one(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SpoolTracker(tmp_path / "a")

    def refuse(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(type(error)):
        spools(tmp_path)


def test_it_imports_neither_ray_nor_mlflow() -> None:
    script = "import sys, gansweep.tracking.spool; print({'mlflow', 'ray'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_no_secret_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    tracker = SpoolTracker(tmp_path)
    tracker.log_text("OSError: hf_abcdefgh", "traceback.txt")
    tracker.set_tags({"reason": "http://me:hunter2@host"})
    tracker.finish("FAILED")
    text, tags, _ = read(tmp_path)
    assert text.text == "OSError: ***"
    assert tags.tags == {"reason": "http://***@host"}
