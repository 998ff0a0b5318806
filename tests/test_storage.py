"""Copies of folders in a real S3 server: whole, in order, no byte twice; and what is told first."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gansweep import storage
from gansweep.checkpoint import keep_previous, read_newest, write_checkpoint
from gansweep.errors import ConfigError
from gansweep.ownership import FOLDER, sole_use
from gansweep.storage import (
    Bucket,
    Copy,
    ForbiddenError,
    Mirror,
    Stamp,
    StorageError,
    check_url,
    is_url,
    scratch,
)
from gansweep.sweep.trial_copy import trial_copy
from gansweep.trial_files import previous


@pytest.fixture(autouse=True)
def own_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANSWEEP_SCRATCH", str(tmp_path / "scratch"))


@pytest.fixture(params=["s3", "gs"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a new bucket of each kind of store."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(storage, "INTERVAL_SECONDS", 0.02)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written, copied and removed in stores, in order."""
    told: list[str] = []
    for verb in ("write", "copy", "remove"):
        act = getattr(Bucket, verb)

        def noted(
            self: Bucket, name: str, *rest: object, verb: str = verb, act: Callable[..., None] = act
        ) -> None:
            act(self, name, *rest)
            told.append(f"{verb} {name}")

        monkeypatch.setattr(Bucket, verb, noted)
    return told


def put(path: Path, text: str) -> None:
    """In one step, as all files but logs are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(text)
    draft.replace(path)


def held(bucket: Bucket) -> dict[str, str]:
    return {name: (bucket.read(name) or b"").decode() for name in bucket.names()}


# Objects


def test_objects_by_their_names(url: str, tmp_path: Path) -> None:
    bucket = Bucket(f"{url}/a/b/")
    assert bucket.names() == []
    assert bucket.read("x") is None
    bucket.write("x", b"1")
    bucket.write("deep/er/y", b"2")
    Bucket(f"{url}/a/bc").write("z", b"other")  # a neighbour whose name begins alike
    assert held(bucket) == {"x": "1", "deep/er/y": "2"}
    assert held(bucket / "deep") == {"er/y": "2"}
    assert Bucket(f"{url}/a").folders() == ["b", "bc"]
    bucket.write("x", b"3")
    bucket.copy("x", "w")
    bucket.remove("x")
    bucket.remove("x")
    assert held(bucket) == {"w": "3", "deep/er/y": "2"}
    bucket.fetch(["w", "deep/er/y", "gone"], tmp_path / "here")
    files = {p.relative_to(tmp_path / "here"): p.read_text() for p in tmp_path.glob("here/**/*.*")}
    assert files == {}  # nothing with a dot in its name is left
    assert (tmp_path / "here" / "deep" / "er" / "y").read_text() == "2"
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["deep", "w"]


def test_objects_that_are_no_files_of_the_folder_are_left_alone(s3: str) -> None:
    import boto3

    store, bucket = boto3.client("s3"), s3.removeprefix("s3://")
    for name in ("x/spool/", "x/spool/../../../y", "x/./z", "x/a"):
        store.put_object(Bucket=bucket, Key=name, Body=b"1")
    assert Bucket(f"{s3}/x").names() == ["a"]


def test_one_of_several_creates_an_object(url: str) -> None:
    bucket = Bucket(f"{url}/x")
    assert bucket.create("1", b"mine")
    assert not bucket.create("1", b"theirs")
    assert bucket.read("1") == b"mine"
    assert bucket.create("1", b"mine")  # its answer was lost: it is ours


# Copies


def test_what_has_changed_is_sent_once(url: str, tmp_path: Path, calls: list[str]) -> None:
    copy = Copy(tmp_path, Bucket(f"{url}/x"), patterns=("*", "spool/*"), last=("b",))
    for name in ("a", "b", "spool/c", ".hidden", "other/d"):
        put(tmp_path / name, name)
    assert copy.has_news
    copy.push()
    assert calls == ["write a", "write spool/c", "write b"]
    assert not copy.has_news
    copy.push()
    assert len(calls) == 3
    put(tmp_path / "b", "new")
    (tmp_path / "a").unlink()
    assert copy.has_news
    copy.push()
    assert calls[3:] == ["write b", "remove a"]
    assert held(copy.bucket) == {"b": "new", "spool/c": "spool/c"}


def test_a_copy_that_was_fetched_is_not_sent_back(
    url: str, tmp_path: Path, calls: list[str]
) -> None:
    bucket = Bucket(f"{url}/x")
    for name in ("a", "spool/c", ".hidden", ".owner/1", "other/d"):
        bucket.write(name, name.encode())
    copy = Copy(tmp_path / "here", bucket, patterns=("*", "spool/*"))
    put(tmp_path / "here" / "left", "from before")
    copy.fetch()
    assert sorted(p.name for p in (tmp_path / "here").rglob("*")) == ["a", "c", "spool"]
    del calls[:]
    copy.push()
    assert calls == []
    (tmp_path / "here" / "a").unlink()
    copy.push()
    assert calls == ["remove a"]


def state(number: int) -> dict[str, object]:
    return {"number": number}


def test_the_checkpoint_before_is_kept_and_no_byte_of_it_is_sent(
    url: str, calls: list[str]
) -> None:
    copy = trial_copy(f"{url}/trials/k")
    path = copy.folder / "checkpoint.pt"
    for number in (1, 2, 3):
        keep_previous(path)
        write_checkpoint(path, state(number))
        copy.push()
    assert calls == [
        "write checkpoint.pt",
        *["copy checkpoint.pt", "write checkpoint.pt"] * 2,
    ]
    stored = copy.bucket.read("checkpoint.pt")
    assert stored == path.read_bytes()
    # Of the newest some bytes were lost on their way: the trial goes on from the one before.
    copy.bucket.write("checkpoint.pt", stored[:-100])
    again = trial_copy(f"{url}/trials/k")
    again.fetch()
    found = read_newest(path)
    assert found is not None
    assert found["number"] == 2
    previous(path).unlink()  # as where the trial is complete
    again.push()
    assert again.bucket.names() == ["checkpoint.pt"]


def test_files_that_are_lost_here_are_not_lost_there(url: str) -> None:
    """Whoever tidies up the folder of temporary files does so here alone."""
    copy = trial_copy(f"{url}/trials/k")
    for name in ("best.pt", "checkpoint.pt", "generation-8.pt"):
        write_checkpoint(copy.folder / name, state(1))
    copy.push()
    for path in copy.folder.glob("*.pt"):
        path.unlink()
    copy.push()
    assert copy.bucket.names() == ["best.pt", "checkpoint.pt"]
    write_checkpoint(copy.folder / "checkpoint.pt", state(2))
    copy.push()
    copy.clear()
    copy.push()
    assert copy.bucket.names() == ["best.pt", "checkpoint.pt"]
    assert not copy.folder.exists()


def test_where_uploads_are_slow_the_newest_alone_is_sent(url: str, calls: list[str]) -> None:
    copy = trial_copy(f"{url}/trials/k")
    path = copy.folder / "checkpoint.pt"
    for number in (1, 2, 3, 4):
        keep_previous(path)
        write_checkpoint(path, state(number))
        if number in (1, 4):
            copy.push()
    assert calls == ["write checkpoint.pt"] * 2


def test_a_checkpoint_in_the_store_is_never_ahead_of_its_record(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial writes a step more at each moment of a push, and at any of them it may be lost."""
    copy = trial_copy(f"{s3}/trials/k")
    spool, names, write = copy.folder / "spool", Copy._names, Bucket.write
    stamp_of = storage._stamp_of
    step = 0

    def train() -> None:
        nonlocal step
        step += 1
        put(spool / f"{step}.npy", "picture")
        with (spool / "records.jsonl").open("a") as lines:
            lines.write(f"{step}\n")
        put(copy.folder / "best.pt", str(step))
        keep_previous(copy.folder / "checkpoint.pt")
        put(copy.folder / "checkpoint.pt", str(step))

    def listed(self: Copy) -> list[str]:
        train()
        found = names(self)
        train()
        return found

    def written(self: Bucket, name: str, data: bytes) -> None:
        train()
        write(self, name, data)

    def stamped(found: os.stat_result) -> Stamp:
        train()
        return stamp_of(found)

    monkeypatch.setattr(storage, "_stamp_of", stamped)
    monkeypatch.setattr(Copy, "_names", listed)
    monkeypatch.setattr(Bucket, "write", written)
    train()
    for _ in range(3):
        copy.push()
        stored = held(copy.bucket)
        stands = int(stored["checkpoint.pt"])
        records = stored["spool/records.jsonl"].split()
        assert stands <= int(stored["best.pt"])
        assert stands <= int(records[-1])
        assert int(stored.get("checkpoint.previous.pt", 0)) < stands
        assert all(f"spool/{record}.npy" in stored for record in records)
    assert stands > 10  # it did write on


def test_few_files_are_open_at_a_time(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial may have thousands of pictures that nobody has fetched yet."""
    opened: list[int] = []

    def write(self: Bucket, name: str, data: bytes) -> None:
        opened.append(len(os.listdir("/proc/self/fd")))

    monkeypatch.setattr(Bucket, "write", write)
    copy = Copy(tmp_path, Bucket(f"{s3}/x"), patterns=("*", "spool/*"), last=("checkpoint.pt",))
    for name in ("checkpoint.pt", *(f"spool/{number}.npy" for number in range(50))):
        put(tmp_path / name, name)
    copy.push()
    assert len(opened) == 51
    assert max(opened) - min(opened) < 10


def test_a_mirror_sends_by_itself_and_tries_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    act, away = Bucket.write, [3]

    def write(self: Bucket, name: str, data: bytes) -> None:
        if away[0]:
            away[0] -= 1
            raise StorageError("away")
        act(self, name, data)

    monkeypatch.setattr(Bucket, "write", write)
    copy = Copy(tmp_path, Bucket(f"{url}/x"))
    mirror = Mirror()
    mirror.add(copy)
    put(tmp_path / "a", "1")
    end = time.monotonic() + 120
    while held(copy.bucket) != {"a": "1"} and time.monotonic() < end:
        time.sleep(0.02)
    assert held(copy.bucket) == {"a": "1"}
    mirror.drop(copy)
    mirror.close()
    put(tmp_path / "a", "2")
    assert held(copy.bucket) == {"a": "1"}
    away[0] = 2
    copy.settle()
    assert held(copy.bucket) == {"a": "2"}
    put(tmp_path / "a", "3")
    away[0] = 10**6
    with pytest.raises(StorageError, match="away"):
        copy.settle()


def test_a_folder_of_another_user_is_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = scratch("s3://b/x/k"), scratch("s3://b/y/k")
    assert one.name == other.name == "k"
    assert one != other
    assert one == scratch("s3://b/x/k")
    assert one.parents[1].stat().st_mode & 0o777 == 0o700
    mine = one.parents[1]
    mine.rename(tmp_path / "away")
    mine.symlink_to(tmp_path / "away")
    with pytest.raises(ConfigError, match=r"another's \(GANSWEEP_SCRATCH=a folder of yours\)"):
        scratch("s3://b/x/k")


# What is told first


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s4://b/x", r"s4:// is not known \(s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, or a folder\)"),
        ("file:///x", "file:// is not known"),
        ("s3://", r"names no bucket \(s3://BUCKET/FOLDER\)"),
        ("s3://key:word@b/x", "has more than bucket and folder .AWS_ACCESS_KEY_ID"),
        ("s3://b/x?versionId=1", "has more than bucket and folder"),
    ],
)
def test_a_url_that_means_no_store(url: str, words: str) -> None:
    assert is_url(url)
    with pytest.raises(ConfigError, match=words):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://b/x", r'needs s3fs \(pip install "gansweep\[s3\]"\)'),
        ("gs://b/x", r'needs gcsfs \(pip install "gansweep\[gcs\]"\)'),
    ],
)
def test_an_extra_that_is_missing(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=words):
        Bucket(url)


def test_a_store_that_is_good_is_left_as_it_was(url: str) -> None:
    bucket = Bucket(f"{url}/x")
    bucket.check(write=True)
    assert bucket.names() == []


def test_a_store_that_may_not_be_read(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Bucket, name: str) -> bytes | None:
        raise ForbiddenError("no GetObject")

    monkeypatch.setattr(Bucket, "read", read)
    with pytest.raises(ConfigError, match=r"may not be used: no GetObject \(leave to list, read"):
        Bucket(f"{s3}/x").check(write=True)


@pytest.mark.parametrize("write", [False, True])
def test_a_bucket_that_is_not_there(url: str, write: bool) -> None:
    none = f"{url.partition('://')[0]}://none-such/x"
    with pytest.raises(ConfigError, match=r"there is no bucket none-such \(make it, or name anot"):
        Bucket(none).check(write=write)


@pytest.fixture
def strict(s3: str, s3_server: str) -> Iterator[str]:
    """The server asks who one is, and knows nobody."""

    def ask_after(requests: str) -> None:
        said = urllib.request.Request(
            f"{s3_server}/moto-api/reset-auth",
            data=requests.encode(),
            headers={"Content-Type": "text/plain"},
        )
        urllib.request.urlopen(said).read()

    ask_after("0")
    yield s3
    ask_after("inf")


def test_a_store_that_lets_us_not_in(strict: str) -> None:
    words = r"may not be used: .* \(leave to list, read, write and delete there; AWS_ACCESS_KEY_ID"
    with pytest.raises(ConfigError, match=words):
        Bucket(f"{strict}/x").check(write=True)


def test_keys_that_are_missing(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    storage._filesystem.cache_clear()
    with pytest.raises(ConfigError, match=r"cannot be used: .*redentials.* \(AWS_ACCESS_KEY_ID an"):
        Bucket(f"{s3}/x").check(write=True)


# Its owner


def test_one_owner_of_a_bucket_at_a_time(url: str) -> None:
    bucket = Bucket(f"{url}/x")
    with sole_use(bucket):
        assert (bucket / FOLDER).names() == ["1.json"]
        with (
            pytest.raises(ConfigError, match=rf"{url}/x: another gansweep drives this sweep"),
            sole_use(bucket),
        ):
            pass
    with sole_use(bucket):
        assert (bucket / FOLDER).names() == ["2.json"]


@pytest.mark.usefixtures("quick")
def test_an_owner_elsewhere_that_is_silent_is_followed(s3: str) -> None:
    bucket = Bucket(f"{s3}/x")
    (bucket / FOLDER).write("4.json", b'{"host": "elsewhere", "pid": 1, "beat": 0}')
    began = time.monotonic()
    with sole_use(bucket):
        assert time.monotonic() - began > 0.45
        assert (bucket / FOLDER).names() == ["5.json"]


@pytest.mark.usefixtures("quick")
def test_who_was_taken_for_dead_is_told(url: str) -> None:
    bucket, lost = Bucket(f"{url}/x"), threading.Event()
    with sole_use(bucket, on_loss=lost.set):
        time.sleep(0.2)
        assert not lost.is_set()
        (bucket / FOLDER).write("2.json", b'{"host": "elsewhere", "pid": 1, "beat": 0}')
        assert lost.wait(60)
    assert b"released" not in ((bucket / FOLDER).read("1.json") or b"")


@pytest.mark.usefixtures("quick")
def test_where_a_store_lets_two_make_a_number_the_first_gives_way(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An S3 that knows no If-None-Match: each has made it, the later one's stays."""
    bucket, lost = Bucket(f"{s3}/x"), threading.Event()
    with sole_use(bucket, on_loss=lost.set):
        other = b'{"host": "elsewhere", "pid": 1, "beat": 0, "life": "another"}'
        (bucket / FOLDER).write("1.json", other)
        assert lost.wait(60)
