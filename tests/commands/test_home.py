"""A sweep's folder in a store, as the driver has it: nothing lost, plan and changes in step."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gansweep import storage
from gansweep.commands.home import CHANGES_FILE, Home, find_home
from gansweep.errors import ConfigError
from gansweep.storage import Bucket, StorageError
from gansweep.sweep.files import PLAN_FILE
from gansweep.sweep.plan import Entry, Plan, trials_folder


@pytest.fixture
def home(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("GANSWEEP_SCRATCH", str(tmp_path / "scratch"))
    return find_home(f"{s3}/x", "small")


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = find_home(tmp_path / "runs", "small")
    home.check(write=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").write_text("no folder")
    refusal = r"runs/small: cannot be written: Not a directory \(use another --dir\)"
    with pytest.raises(ConfigError, match=refusal):
        home.check(write=True)
    (tmp_path / "runs").unlink()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "small").write_text("no folder")
    with pytest.raises(ConfigError, match=refusal):
        home.check(write=True)
    home.check(write=False)

    def forbidden(*args: Any, **rest: Any) -> Any:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    with pytest.raises(ConfigError, match=r"small: cannot be written: Read-only file system"):
        home.check(write=True)


@pytest.mark.parametrize("verb", ["names", "fetch"])
def test_a_record_that_cannot_be_fetched_stays_in_the_store(
    home: Home, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The store is away as the sweep ends, and is back before what was delivered is removed."""
    bucket = Bucket(home.url)
    for trial in ("delivered", "waiting"):
        bucket.write(f"trials/{trial}/spool/records.jsonl", b"{}\n")

    def away(self: Bucket, *rest: object) -> Any:
        half = trials_folder(home.folder) / "waiting" / "spool" / "records.jsonl"
        if verb == "fetch":
            half.parent.mkdir(parents=True)
            half.write_bytes(b"{")
        raise StorageError("away")

    with home.in_use():
        shutil.rmtree(trials_folder(home.folder) / "delivered")
        home.drop_spools()
        assert bucket.names() == ["trials/waiting/spool/records.jsonl"]
        with monkeypatch.context() as patch:
            patch.setattr(Bucket, verb, away)
            with pytest.raises(StorageError):
                home.fetch_spools()
        assert not trials_folder(home.folder).exists()  # nothing that is half there is delivered
        home.drop_spools()
        assert bucket.names() == ["trials/waiting/spool/records.jsonl"]
        home.fetch_spools()
        home.drop_spools()
        assert bucket.names() == ["trials/waiting/spool/records.jsonl"]
        shutil.rmtree(trials_folder(home.folder))
        home.drop_spools()
        assert bucket.names() == []


def test_a_command_that_ends_waits_for_its_store_for_less_than_a_stop_may_take(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gansweep.commands.home.LAST_SECONDS", 0.0)

    def away(self: Bucket, *rest: object) -> Any:
        raise StorageError("away")

    def end() -> None:
        with home.in_use():
            (home.folder / PLAN_FILE).write_text("{}")
            monkeypatch.setattr(Bucket, "write", away)

    began = time.monotonic()
    with pytest.raises(StorageError, match="away"):
        end()
    assert time.monotonic() - began < 20


def test_a_plan_and_its_changes_agree_at_each_moment(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed between two objects has lost no trial's end that was there before."""
    monkeypatch.setattr("gansweep.sweep.plan.SMALL_BYTES", 0)
    monkeypatch.setattr(storage, "INTERVAL_SECONDS", 1e6)
    write, remove, stamp_of = Bucket.write, Bucket.remove, storage._stamp_of
    sent, seen = [0], 0

    def look() -> None:
        """How far the plan in the store is never falls back."""
        nonlocal seen
        plan = home.standing("small")
        ended = sum(entry.state == "completed" for entry in plan.entries.values())
        assert ended >= seen
        seen = ended

    with home.in_use(), monkeypatch.context() as patch:
        plan = Plan(home.folder / PLAN_FILE, "small")
        for number in range(60):
            plan.entries[str(number)] = Entry(str(number), "x", {}, 0, 10)
        plan.save()
        home.store()
        ending = iter(plan.entries.values())

        def end_one() -> None:
            if entry := next(ending, None):
                entry.state = "completed"
                plan.save(entry) if int(entry.key) % 7 else plan.save()

        def stamped(found: Any) -> Any:
            end_one()
            return stamp_of(found)

        def written(self: Bucket, name: str, data: bytes) -> None:
            write(self, name, data)
            sent[0] += 1
            look()

        def removed(self: Bucket, name: str) -> None:
            remove(self, name)
            look()

        patch.setattr(storage, "_stamp_of", stamped)
        patch.setattr(Bucket, "write", written)
        patch.setattr(Bucket, "remove", removed)
        for _ in range(30):
            end_one()
            home.store()
        assert seen == 60
        assert sent[0] > 20


def test_who_looks_has_no_older_plan_than_its_changes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[list[str]] = []

    def fetch(self: Bucket, names: Iterable[str], folder: Path) -> None:
        fetched.append(list(names))

    monkeypatch.setattr(Bucket, "fetch", fetch)
    home.standing("small")
    assert fetched == [[CHANGES_FILE], [PLAN_FILE]]


def test_a_trial_that_trained_here_is_in_the_store_alone(home: Home) -> None:
    with home.trial_alone("k") as folder:
        (folder / "checkpoint.pt").write_text("1")
    assert not folder.exists()
    with home.trial_alone("k") as folder:
        assert (folder / "checkpoint.pt").read_text() == "1"
    assert Bucket(home.trial_place("k-alone")).names() == ["checkpoint.pt"]
    assert Bucket(home.trial_place("k")).names() == []


@pytest.mark.parametrize("in_store", [True, False])
def test_a_trial_that_trains_alone_begins_where_the_sweeps_own_stands(
    in_store: bool, home: Home, tmp_path: Path
) -> None:
    """And leaves that as it is; afterwards it goes on by itself."""
    if not in_store:
        home = find_home(tmp_path / "runs", "small")
    names = ("best.pt", "checkpoint.pt", "spool/records.jsonl")

    def put(text: str) -> None:
        for name in names:
            if in_store:
                Bucket(home.trial_place("k")).write(name, text.encode())
            else:
                path = Path(home.trial_place("k")) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    put("theirs")
    with home.trial_alone("k") as folder:
        found = {path.name: path.read_text() for path in folder.glob("*") if path.is_file()}
        assert found == {"best.pt": "theirs", "checkpoint.pt": "theirs"}
        (folder / "checkpoint.pt").write_text("own")
    put("later")
    with home.trial_alone("k") as folder:
        assert (folder / "checkpoint.pt").read_text() == "own"
        assert (folder / "best.pt").read_text() == "theirs"
