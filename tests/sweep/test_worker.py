"""A worker: a pack in a thread, with a mailbox each way."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import own_parts
import pytest
import torch
from records import equal, record, state
from trees import small, tree

import gansweep.engines
import gansweep.pack
import gansweep.sweep.worker
from gansweep.config import TrialConfig
from gansweep.engines import Choice
from gansweep.modules.engine import Stacked
from gansweep.progress import Continue, Interrupt, Stop
from gansweep.sweep.worker import Answer, Assigned, Broken, Ended, Message, PackAssigned, Worker
from gansweep.sweep.worker import Report as Reported
from gansweep.tracking.memory import MemoryTracker
from gansweep.tracking.mlflow import Backlog
from gansweep.tracking.spool import is_ended
from gansweep.trial import run_trial

pytestmark = pytest.mark.usefixtures("little_to_collect")

Answers = Callable[[Message], Answer | None]


@pytest.fixture(autouse=True)
def trackers(monkeypatch: pytest.MonkeyPatch) -> dict[str, MemoryTracker]:
    """The records by trial key, in the place of spools."""
    made: dict[str, MemoryTracker] = {}

    def make(folder: Path) -> MemoryTracker:
        return made.setdefault(folder.name, MemoryTracker())

    monkeypatch.setattr(gansweep.sweep.worker, "SpoolTracker", make)
    return made


def configs(count: int, **sections: Any) -> list[TrialConfig]:
    return [small("gan", "mlp", "ring8", seed=seed, **sections) for seed in range(count)]


def assigned(config: TrialConfig, folder: Path) -> Assigned:
    """What is told of a trial: its run's id is its key."""
    where = str(folder / config.key)
    return Assigned(config.key, config.to_dict(), config.key, "the store", where)


def worker(
    trials: Sequence[TrialConfig], folder: Path, *, engine: Any = "interleaved", waits: bool = False
) -> Worker:
    given = tuple(assigned(config, folder) for config in trials)
    return Worker(PackAssigned(given, engine=engine, waits=waits))


def closing(message: Message) -> Answer | None:
    """The answer of a driver that has no more trials, and lets all go on; to scores alone."""
    if isinstance(message, Ended):
        return Answer(closed=1)
    if isinstance(message, Reported):
        scored = [key for key, progress in message.progress.items() if progress.scored]
        return Answer(verdicts={key: Continue() for key in scored})
    return None


def drive(one: Worker, answers: Answers = closing, *, seconds: float = 200) -> list[Message]:
    """All that a worker says, answered as it comes."""
    heard: list[Message] = []
    end = time.monotonic() + seconds
    while True:
        over = one.over
        for message in one.take(0.05):
            heard.append(message)
            if answer := answers(message):
                one.answer(answer)
        if over:
            return heard
        assert time.monotonic() < end, heard


def ends(heard: Sequence[Message]) -> dict[str, str]:
    found = [message for message in heard if isinstance(message, Ended)]
    assert len({message.key for message in found}) == len(found)
    return {message.key: message.result.state for message in found}


def test_a_pack_says_how_it_trains_how_it_stands_and_how_it_ended(
    tmp_path: Path, trackers: dict[str, MemoryTracker]
) -> None:
    pair = configs(2)
    heard = drive(worker(pair, tmp_path))
    assert ends(heard) == {config.key: "completed" for config in pair}
    assert isinstance(heard[0], Choice)
    assert not any(isinstance(message, Choice | Broken) for message in heard[1:])
    reports = [message.progress for message in heard if isinstance(message, Reported)]
    scored = [(key, p.g_steps) for r in reports for key, p in r.items() if p.scored]
    assert sorted(scored) == sorted((c.key, g) for c in pair for g in (4, 8, 12))
    for config in pair:
        alone = MemoryTracker()
        run_trial(config, alone, folder=tmp_path / "alone" / config.key)
        assert equal(record(trackers[config.key]), record(alone))
        assert trackers[config.key].status == "FINISHED"
        saved, theirs = (state(f / config.key) for f in (tmp_path, tmp_path / "alone"))
        assert equal(saved["module"], theirs["module"])
    assert torch.get_num_threads() == 1


def test_free_places_are_filled_as_the_driver_says(tmp_path: Path) -> None:
    """One place is filled twice, the other one is closed."""
    trials = configs(4)
    waiting = trials[2:]

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Ended):
            if waiting:
                return Answer(refills=[assigned(waiting.pop(0), tmp_path)])
            return Answer(closed=1)
        return None

    heard = drive(worker(trials[:2], tmp_path), answers)
    assert ends(heard) == {config.key: "completed" for config in trials}
    assert sum(isinstance(message, Choice) for message in heard) == 1


def test_a_pack_waits_for_word_of_its_last_places(tmp_path: Path) -> None:
    """However late the answer comes: it may be a trial."""
    trials = configs(2)
    one = worker(trials[:1], tmp_path)
    heard: list[Message] = []
    while not any(isinstance(message, Ended) for message in heard):
        heard += one.take(0.2)
    time.sleep(0.2)
    assert not one.over
    one.answer(Answer(verdicts={"x": Continue()}))  # no word of a place
    one.answer(Answer(refills=[assigned(trials[1], tmp_path)]))
    rest = drive(one)
    assert ends([*heard, *rest]) == {config.key: "completed" for config in trials}


def test_verdicts_are_carried_out(tmp_path: Path) -> None:
    trials = configs(3)
    stopped = trials[1].key

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Reported) and any(p.scored for p in message.progress.values()):
            verdict = {key: Stop("too bad") if key == stopped else Continue() for key in
                       message.progress}  # fmt: skip
            return Answer(verdicts=verdict)
        return closing(message)

    heard = drive(worker(trials, tmp_path, waits=True), answers)
    completed = {config.key: "completed" for config in trials}
    assert ends(heard) == {**completed, stopped: "stopped"}
    (end,) = [m for m in heard if isinstance(m, Ended) and m.key == stopped]
    assert (end.result.reason, end.result.g_steps) == ("too bad at g_step 4", 4)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("engine", ["interleaved", "stacked"])
def test_trials_rest_for_their_own_verdict(engine: str, tmp_path: Path) -> None:
    """The answers come one by one; nobody goes past a score that was not answered."""
    trials = configs(2)
    first, second = (config.key for config in trials)
    reached = dict.fromkeys((first, second), 0)

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Ended):
            return Answer(closed=1)
        if not isinstance(message, Reported):
            return None
        for key, progress in message.progress.items():
            reached[key] = progress.g_steps
            assert not (key == second and reached[first] < 8 and progress.g_steps > 4)
        verdicts: dict[str, Any] = {}
        for key, progress in message.progress.items():
            if progress.scored and not (key == second and progress.g_steps == 4):
                verdicts[key] = Continue()
            if key == first and progress.g_steps == 8:
                verdicts[second] = Continue()
        return Answer(verdicts=verdicts)

    heard = drive(worker(trials, tmp_path, engine=engine, waits=True), answers)
    assert ends(heard) == dict.fromkeys((first, second), "completed")


@pytest.mark.parametrize("engine", ["interleaved", "stacked"])
def test_an_interrupt_puts_all_aside_with_checkpoints(
    engine: str, tmp_path: Path, trackers: dict[str, MemoryTracker]
) -> None:
    """They rest after a score, so that it is known where."""
    trials = configs(2)
    one = worker(trials, tmp_path, engine=engine, waits=True)
    while not any(isinstance(m, Reported) and any(p.scored for p in m.progress.values())
                  for m in one.take(0.2)):  # fmt: skip
        pass
    one.interrupt()
    assert one.over
    assert ends(drive(one)) == {config.key: "interrupted" for config in trials}
    for config in trials:
        assert state(tmp_path / config.key)["module"]["g_step"] == 4
        assert trackers[config.key].status == "KILLED"
    heard = drive(worker(trials, tmp_path, engine=engine, waits=True))
    assert ends(heard) == {config.key: "completed" for config in trials}
    for config in trials:
        alone = MemoryTracker()
        run_trial(config, alone, folder=tmp_path / "alone" / config.key)
        calls, images = record(trackers[config.key])
        assert [step for step, _ in calls] == [step for step, _ in record(alone)[0]]
        assert len(images) == 3


def test_an_interrupt_in_mid_training(tmp_path: Path) -> None:
    trials = configs(2, budget={"g_steps": 10**6})
    one = worker(trials, tmp_path)
    one.take(30)
    one.interrupt()
    assert one.over
    heard = drive(one)
    assert ends(heard) == {config.key: "interrupted" for config in trials}
    for end in [message for message in heard if isinstance(message, Ended)]:
        g_step = state(tmp_path / end.key)["module"]["g_step"]
        assert 0 < end.result.g_steps == g_step < 10**6


def test_an_interrupt_while_a_place_is_open(tmp_path: Path) -> None:
    one = worker(configs(1), tmp_path)
    while not any(isinstance(message, Ended) for message in one.take(0.2)):
        pass
    assert not one.over
    one.interrupt()
    assert one.over
    one.interrupt()  # no harm


def test_a_broken_pack_says_so(
    tmp_path: Path, trackers: dict[str, MemoryTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials have not ended: they stand as their checkpoints do."""
    monkeypatch.setattr(gansweep.engines, "_steps", {})  # its network counts calls of earlier packs
    trials = [
        small("gan", "own_parts:Fragile", "ring8", seed=seed, network={"fail_at": 20})
        for seed in range(2)
    ]
    heard = drive(worker(trials, tmp_path, engine="stacked"))
    assert ends(heard) == {}
    assert heard[-1] == Broken("RuntimeError: the network broke")
    for config in trials:
        assert state(tmp_path / config.key)["module"]["g_step"] == 4
        assert trackers[config.key].status is None


def test_a_trial_that_ran_out_of_memory_alone_fails_and_the_next_is_trained(
    tmp_path: Path, trackers: dict[str, MemoryTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In what is common to a pack, too, which breaks a larger one."""
    step, asked = Stacked.step, []

    def short(self: Stacked, batches: Any) -> Any:
        asked.append(self)
        if self is asked[0]:
            raise MemoryError("no more")
        return step(self, batches)

    monkeypatch.setattr(Stacked, "step", short)
    first, second = configs(2)

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Ended) and message.key == first.key:
            return Answer(refills=[assigned(second, tmp_path)])
        return closing(message)

    heard = drive(worker([first], tmp_path, engine="stacked"), answers)
    assert ends(heard) == {first.key: "failed", second.key: "completed"}
    reasons = [message.result.reason for message in heard if isinstance(message, Ended)]
    assert reasons == ["out_of_memory: MemoryError: no more", ""]
    assert "no more" in trackers[first.key].texts["traceback.txt"]
    asked.clear()
    heard = drive(worker(configs(2, ema={"decay": 0.5}), tmp_path, engine="stacked"))
    assert heard[-1] == Broken("MemoryError: no more", out_of_memory=True)
    assert ends(heard) == {}


@pytest.mark.parametrize("of_gpu", [True, False])
def test_what_may_be_tried_with_more_memory_has_not_ended(
    of_gpu: bool, tmp_path: Path, trackers: dict[str, MemoryTracker]
) -> None:
    """The host's memory cannot be had so: then it has failed, as ever."""
    config = small("gan", "own_parts:Hungry", "ring8", network={"of_gpu": of_gpu})
    pack = PackAssigned((assigned(config, tmp_path),), "interleaved", waits=False, comes_again=True)
    heard = drive(Worker(pack))
    tracker = trackers[config.key]
    if of_gpu:
        assert ends(heard) == {}
        words = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
        assert heard[-1] == Broken(words, out_of_memory=True)
        assert (tracker.status, tracker.texts.get("traceback.txt")) == (None, None)
    else:
        assert ends(heard) == {config.key: "failed"}
        assert tracker.status == "FAILED"


@pytest.mark.parametrize("compiled", [True, False])
def test_the_engine_is_chosen_by_what_has_been_compiled(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*args: Any, compiled: bool, **rest: Any) -> Choice:
        return Choice(False, False, f"compiled {compiled}")

    monkeypatch.setattr("gansweep.pack.choose", choose)
    given = tuple(assigned(config, tmp_path) for config in configs(2))
    heard = drive(Worker(PackAssigned(given, engine="auto", waits=False, compiled=compiled)))
    assert heard[0] == Choice(False, False, f"compiled {compiled}")


@pytest.mark.parametrize("unreadable", [1, 2])
def test_a_trial_that_cannot_be_read_has_failed_alone(unreadable: int, tmp_path: Path) -> None:
    trials = configs(2)
    wrong = tree("gan", "mlp", "ring8", model={"name": "none"})
    given = [assigned(config, tmp_path) for config in trials]
    for i in range(unreadable):
        given[i] = Assigned(given[i].key, wrong, "run", "the store", given[i].folder)
    heard = drive(Worker(PackAssigned(tuple(given), engine="auto", waits=False)))
    expected = ["failed"] * unreadable + ["completed"] * (2 - unreadable)
    assert list(ends(heard).values()) == expected
    reasons = [m.result.reason for m in heard if isinstance(m, Ended)]
    assert all("none" in reason for reason in reasons[:unreadable])


def test_a_refill_that_cannot_be_read_leaves_the_place_free(tmp_path: Path) -> None:
    trials = configs(3)
    wrong = tree("gan", "mlp", "ring8", model={"name": "none"})
    waiting = [
        Assigned(trials[1].key, wrong, "run", "the store", str(tmp_path / "x")),
        assigned(trials[2], tmp_path),
    ]

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Ended):
            return Answer(refills=[waiting.pop(0)]) if waiting else Answer(closed=1)
        return None

    heard = drive(worker(trials[:1], tmp_path), answers)
    assert list(ends(heard).values()) == ["completed", "failed", "completed"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (PermissionError(errno.EACCES, "no permission"), "failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "interrupted"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "interrupted"),
    ],
)
def test_a_trial_whose_record_cannot_be_written_ends_alone(
    error: OSError, state: str, tmp_path: Path
) -> None:
    """A full disk is no fault of the trial's: it goes on later."""

    def refuse(folder: Path) -> MemoryTracker:
        if folder.name == trials[0].key:
            raise error
        return MemoryTracker()

    trials = configs(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gansweep.sweep.worker, "SpoolTracker", refuse)
        heard = drive(worker(trials, tmp_path))
    assert ends(heard) == {trials[0].key: state, trials[1].key: "completed"}


def test_where_the_driver_delivers_a_worker_imports_no_mlflow(tmp_path: Path) -> None:
    """Which takes seconds of a core; what it imports as it starts is what Ray has it import."""
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
import gansweep.sweep.warm
from pathlib import Path
from test_worker import configs, drive, ends, worker
print(ends(drive(worker(configs(1), Path({str(tmp_path)!r})))))
print("mlflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trained, mlflow = done.stdout.splitlines()[-2:]
    assert "completed" in trained
    assert mlflow == "False"
    (spool,) = tmp_path.glob("*/spool/records.jsonl")
    assert is_ended(spool)


class Deliveries:
    """In the place of a courier: what it was told, and what it leaves."""

    def __init__(self, left: Backlog) -> None:
        self.left = left
        self.told: list[Any] = []

    def add(self, run_id: str, folder: Path) -> None:
        self.told.append((run_id, folder))

    def drain(self) -> Backlog:
        self.told.append("drain")
        return self.left

    def forget(self, folder: Path) -> None:
        self.told.append(f"forget {folder.name}")


def test_a_broken_pack_leaves_its_records_to_who_goes_on_with_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once all is delivered, and before the driver hears of it; what has ended stays its own."""
    courier = Deliveries(Backlog())
    monkeypatch.setattr(gansweep.sweep.worker, "_courier", lambda uri: courier)
    monkeypatch.setattr(gansweep.engines, "_steps", {})
    short, *others = [
        small(
            "gan", "own_parts:Fragile", "ring8",
            seed=seed, network={"fail_at": 40}, budget={"g_steps": 5 if seed == 0 else 100},
        )
        for seed in range(3)
    ]  # fmt: skip
    say = Worker._say

    def said(self: Worker, message: Message, **rest: Any) -> None:
        courier.told.append(type(message).__name__)
        say(self, message, **rest)

    monkeypatch.setattr(Worker, "_say", said)
    given = tuple(assigned(config, tmp_path) for config in (short, *others))
    one = Worker(PackAssigned(given, engine="stacked", waits=False, delivers=True))
    heard = drive(one)
    assert ends(heard) == {short.key: "completed"}
    assert isinstance(heard[-1], Broken)
    assert courier.told[-4] == "drain"
    assert sorted(courier.told[-3:-1]) == sorted(f"forget {config.key}" for config in others)
    assert courier.told[-1] == "Broken"


def test_a_trial_that_was_put_aside_is_left_to_who_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    courier = Deliveries(Backlog())
    monkeypatch.setattr(gansweep.sweep.worker, "_courier", lambda uri: courier)
    pair = configs(2)

    def answers(message: Message) -> Answer | None:
        answer = closing(message)
        if answer and pair[0].key in answer.verdicts:
            answer.verdicts[pair[0].key] = Interrupt()
        return answer

    given = tuple(assigned(config, tmp_path) for config in pair)
    one = Worker(PackAssigned(given, engine="interleaved", waits=True, delivers=True))
    assert ends(drive(one, answers)) == {pair[0].key: "interrupted", pair[1].key: "completed"}
    assert courier.told[-2:] == ["drain", f"forget {pair[0].key}"]


def test_a_broken_pack_leaves_no_memory_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its networks are in a circle, and the process goes on with a smaller pack."""
    networks: weakref.WeakSet[Any] = weakref.WeakSet()
    init, say = own_parts.Counted.__init__, Worker._say
    left: list[int] = []

    def counted(self: own_parts.Counted, *arguments: Any) -> None:
        init(self, *arguments)
        networks.add(self)

    def said(self: Worker, message: Message, **rest: Any) -> None:
        if isinstance(message, Broken):
            left.append(len(networks))
        say(self, message, **rest)

    monkeypatch.setattr(gansweep.sweep.worker.log, "disabled", True)  # pytest keeps what is logged
    monkeypatch.setattr(own_parts.Counted, "__init__", counted)
    monkeypatch.setattr(Worker, "_say", said)
    monkeypatch.setattr(gansweep.engines, "_steps", {})
    pair = [
        small(
            "gan", "own_parts:Fragile", "ring8",
            seed=seed, network={"fail_at": 9}, budget={"g_steps": 100},
        )
        for seed in range(2)
    ]  # fmt: skip
    gc.disable()
    try:
        drive(worker(pair, tmp_path, engine="stacked"))
    finally:
        gc.enable()
    assert left == [0]


@pytest.mark.parametrize("left", [Backlog(), Backlog(7, 2, "away"), Backlog(1, 1, "away")])
def test_where_the_driver_cannot_see_the_disk_a_worker_delivers(
    left: Backlog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All that its trials recorded, before it is over; a refill's as well."""
    couriers: dict[str, Deliveries] = {}
    monkeypatch.setattr(
        gansweep.sweep.worker, "_courier", lambda uri: couriers.setdefault(uri, Deliveries(left))
    )
    trials = configs(3)
    waiting = [assigned(trials[2], tmp_path)]

    def answers(message: Message) -> Answer | None:
        if isinstance(message, Ended):
            return Answer(refills=[waiting.pop()]) if waiting else Answer(closed=1)
        return None

    given = tuple(assigned(config, tmp_path) for config in trials[:2])
    one = Worker(PackAssigned(given, engine="interleaved", waits=False, delivers=True))
    assert set(ends(drive(one, answers)).values()) == {"completed"}
    (courier,) = couriers.values()
    expected = [(config.key, tmp_path / config.key) for config in trials]
    assert courier.told == [*expected, "drain"]
    some = "7 records of 2 trials are not in the store and lie on this machine: away"
    single = "1 record of 1 trial is not in the store and lies on this machine: away"
    assert [some in caplog.text, single in caplog.text] == [left.records == 7, left.records == 1]


def test_a_process_has_one_courier(monkeypatch: pytest.MonkeyPatch) -> None:
    courier = gansweep.sweep.worker._courier
    courier.cache_clear()
    one = courier("sqlite:////nowhere/mlflow.db")
    assert courier("sqlite:////nowhere/mlflow.db") is one
    assert one.uri == "sqlite:////nowhere/mlflow.db"
    courier.cache_clear()


def test_taking_waits_no_longer_than_told(tmp_path: Path) -> None:
    one = worker(configs(1), tmp_path)
    while not any(isinstance(message, Ended) for message in one.take(0.2)):
        pass
    began = time.monotonic()
    assert one.take(0.1) == []
    assert 0.05 < time.monotonic() - began < 5
    one.answer(Answer(closed=1))
    drive(one)
    began = time.monotonic()
    assert one.take(30) == []
    assert time.monotonic() - began < 5
    assert "pack" not in {thread.name for thread in threading.enumerate()}
