"""A worker whose trials are kept in S3: fetched, sent, and never said to be what is not there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from records import equal, state
from trees import small

from gansweep import storage
from gansweep.checkpoint import read_checkpoint, write_checkpoint
from gansweep.config import TrialConfig
from gansweep.progress import Exploit
from gansweep.storage import Bucket, StorageError
from gansweep.sweep.worker import (
    Answer,
    Assigned,
    Broken,
    Ended,
    Message,
    PackAssigned,
    Report,
    Worker,
)
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial
from sweep.test_worker import closing, drive

pytestmark = pytest.mark.usefixtures("little_to_collect")


@pytest.fixture
def on_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """This process is a worker of the node of that name, whose disk nobody else sees."""

    def move(name: str) -> Path:
        monkeypatch.setenv("GANSWEEP_SCRATCH", str(tmp_path / name))
        return tmp_path / name

    move("first")
    return move


def train(
    s3: str,
    *configs: TrialConfig,
    answers: Any = closing,
    generation: int = 0,
    waits: bool = False,
) -> Any:
    """The results by trial key, with the trials' folders in the store."""
    given = tuple(
        Assigned(each.key, each.to_dict(), "run", "sqlite:///none", place(s3, each), generation)
        for each in configs
    )
    pack = PackAssigned(given, engine="interleaved", waits=waits or generation > 0)
    heard = drive(Worker(pack), answers)
    return {message.key: message.result for message in heard if isinstance(message, Ended)}


def place(s3: str, config: TrialConfig) -> str:
    return f"{s3}/sweep/trials/{config.key}"


def there(s3: str, config: TrialConfig) -> list[str]:
    names = Bucket(place(s3, config)).names()
    return [name for name in names if not name.endswith(".npy")]


def test_a_trial_goes_on_on_another_node(
    s3: str, tmp_path: Path, on_node: Callable[[str], Path]
) -> None:
    short, longer = (small("gan", "mlp", "ring8", budget={"g_steps": steps}) for steps in (12, 20))
    assert short.key == longer.key
    first = on_node("first")
    assert train(s3, short)[short.key].state == "completed"
    names = ["best.pt", "checkpoint.pt", "spool/records.jsonl"]
    assert there(s3, short) == names
    assert [path for path in first.rglob("*") if path.is_file()] == []  # nor on its node
    bucket, marked = Bucket(place(s3, short)), tmp_path / "marked" / "checkpoint.pt"
    bucket.fetch([marked.name], marked.parent)
    stored = read_checkpoint(marked)
    assert stored is not None
    write_checkpoint(marked, {**stored, "seconds": 1000.0})
    bucket.write(marked.name, marked.read_bytes())
    on_node("second")
    result = train(s3, longer)[longer.key]
    assert result.state == "completed"
    assert 1000 < result.seconds < 1100  # from that checkpoint on
    assert there(s3, longer) == names
    Bucket(place(s3, longer)).fetch(names, tmp_path / "there")
    run_trial(longer, MemoryTracker(), folder=tmp_path / "alone")
    assert equal(state(tmp_path / "there"), state(tmp_path / "alone"))


def test_checkpoints_are_sent_while_it_trains_and_a_trial_that_ended_takes_no_room(
    s3: str, on_node: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "INTERVAL_SECONDS", 0.02)
    one, other = (small("gan", "mlp", "ring8", seed=seed) for seed in (0, 1))
    node = on_node("first")
    sent: list[bool] = []
    left: list[bool] = []

    def arrived(config: TrialConfig) -> bool:
        end = time.monotonic() + 120
        while "checkpoint.pt" not in there(s3, config) and time.monotonic() < end:
            time.sleep(0.02)
        return "checkpoint.pt" in there(s3, config)

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Ended):
            left.append(message.key in [path.parent.name for path in node.rglob("*.pt")])
        elif isinstance(message, Report):
            for key, progress in message.progress.items():
                if progress.g_steps == 8:  # where it rests
                    sent.append(arrived({one.key: one, other.key: other}[key]))
        return closing(message)

    train(s3, one, other, answers=answers, waits=True)
    assert sent == [True, True]
    assert left == [False, False]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.05)


@pytest.mark.parametrize("verb", ["write", "names"])
def test_a_trial_that_cannot_be_stored_or_fetched_goes_on_later(
    s3: str,
    on_node: Callable[[str], Path],
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    config = small("gan", "mlp", "ring8")

    def away(self: Bucket, *rest: object) -> None:
        raise StorageError("the bucket is full")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, verb, away)
        result = train(s3, config)[config.key]
    assert result.state == "interrupted"
    assert "the bucket is full" in result.reason
    assert train(s3, config)[config.key].state == "completed"


def test_members_whose_generation_cannot_be_stored_are_put_aside(
    s3: str, on_node: Callable[[str], Path], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody hears of a generation that is not there, and no trial has failed by it."""
    one, other = (small("gan", "mlp", "ring8", seed=seed) for seed in (0, 1))
    write = Bucket.write
    heard: list[int] = []

    def written(self: Bucket, name: str, data: bytes) -> None:
        if name == "generation-8.pt":
            raise StorageError("the bucket is full")
        write(self, name, data)

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Report):
            heard.extend(each.g_steps for each in message.progress.values() if each.scored)
        return closing(message)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "write", written)
        results = train(s3, one, other, answers=answers, generation=4)
    assert [result.state for result in results.values()] == ["interrupted"] * 2
    assert all("the bucket is full" in result.reason for result in results.values())
    assert set(heard) == {4}
    results = train(s3, one, other, generation=4)
    assert [result.state for result in results.values()] == ["completed"] * 2


def test_a_member_goes_on_from_a_donor_on_another_node(
    s3: str, tmp_path: Path, on_node: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose store does not answer at once."""
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.05)
    fetch, away = Bucket.fetch, [1]

    def fetched(self: Bucket, names: Any, folder: Path) -> None:
        if folder.name == ".donor" and away:
            away.pop()
            raise StorageError("away")
        fetch(self, names, folder)

    monkeypatch.setattr(Bucket, "fetch", fetched)
    one, other = (small("gan", "mlp", "ring8", seed=seed) for seed in (0, 1))
    train(s3, one, generation=4)
    generations = [name for name in there(s3, one) if name.startswith("generation-")]
    assert "generation-8.pt" in generations
    on_node("second")
    seen: list[bool] = []

    def answers(message: Message) -> Answer | None:
        answer = closing(message)
        if answer and other.key in answer.verdicts:
            (progress,) = message.progress.values()
            if progress.g_steps == 8:
                # What others may go on from is there before a scheduler hears of it.
                seen.append("generation-8.pt" in there(s3, other))
                answer.verdicts[other.key] = Exploit(one.key, place(s3, one), other.to_dict())
        return answer

    assert train(s3, other, answers=answers, generation=4)[other.key].state == "completed"
    assert seen == [True]
    assert away == []
    for config in (one, other):
        Bucket(place(s3, config)).fetch(["checkpoint.pt"], tmp_path / config.key)
    mine, donors = (state(tmp_path / config.key)["module"] for config in (other, one))
    run_trial(other, MemoryTracker(), folder=tmp_path / "alone")
    alone = state(tmp_path / "alone")["module"]
    assert not equal(mine["generator"], alone["generator"])
    assert not equal(mine["generator"], donors["generator"])  # its own data since


def test_a_member_whose_donor_cannot_be_fetched_goes_on_later(
    s3: str, on_node: Callable[[str], Path], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And hears the same verdict then."""
    fetch, away = Bucket.fetch, [True]

    def fetched(self: Bucket, names: Any, folder: Path) -> None:
        if folder.name == ".donor" and away[0]:
            raise StorageError("the store is away")
        fetch(self, names, folder)

    monkeypatch.setattr(Bucket, "fetch", fetched)
    one, other = (small("gan", "mlp", "ring8", seed=seed) for seed in (0, 1))
    train(s3, one, generation=4)
    told: list[int] = []

    def answers(message: Message) -> Answer | None:
        assert not isinstance(message, Broken)
        answer = closing(message)
        if answer and other.key in answer.verdicts:
            (progress,) = message.progress.values()
            if progress.g_steps == 8:
                told.append(8)
                answer.verdicts[other.key] = Exploit(one.key, place(s3, one), other.to_dict())
        return answer

    result = train(s3, other, answers=answers, generation=4)[other.key]
    assert (result.state, result.g_steps) == ("interrupted", 8)
    away[0] = False
    assert train(s3, other, answers=answers, generation=4)[other.key].state == "completed"
    assert told == [8, 8]
