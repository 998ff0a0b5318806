"""What of Ray Tune's glue can be tried without a cluster."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gansweep.sweep import tune
from gansweep.sweep.cards import Takes
from gansweep.sweep.grace import Interrupts
from gansweep.sweep.worker import Answer, Assigned, PackAssigned

# --- interrupts


def test_tune_leaves_us_sigusr1() -> None:
    """It takes it as it begins, before it sets its callbacks up."""
    notes: list[str] = []
    interrupts = Interrupts(lambda: notes.append("note"))
    assert tune._Stopper(interrupts)("trial", {}) is False  # no single trial is stopped by it
    with interrupts.listening():
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        tune._Watch(Note(), set_up=interrupts.listen).setup(stop=None, num_samples=-1)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert tune._Stopper(interrupts).stop_all()
        assert before is not None
    assert notes == ["note"]


def test_stopper_and_driver_can_be_pickled() -> None:
    """Tune insists, and a note may hold threads and locks."""
    lock = threading.Lock()
    interrupts = Interrupts(lambda: lock.release())
    assert pickle.dumps([tune._Stopper(interrupts), interrupts.listen])


# --- what the searcher and the watch pass on

PACK = PackAssigned(trials=(), engine="auto", waits=True)


def given(pack: PackAssigned) -> dict[str, Any]:
    """What Tune is given for a worker."""
    return {"parcel": tune.Parcel(pack)}


class Note(tune.Driver):
    """A driver that notes what it hears and answers as told."""

    def __init__(self, *packs: PackAssigned | None, answers: Any = None) -> None:
        self.packs = list(packs)
        self.answers = answers or {}
        self.working = True
        self.heard: list[tuple[Any, ...]] = []

    @property
    def busy(self) -> bool:
        return self.working

    def begin(self, pack: str) -> PackAssigned | None:
        self.heard.append(("begin", pack))
        return self.packs.pop(0)

    def hear(self, pack: str, message: Any) -> Any:
        self.heard.append(("hear", pack, message))
        if message == "bad":
            raise OSError("the disk is full")
        return self.answers

    def over(self, pack: str, reason: str) -> Any:
        self.heard.append(("over", pack, reason))
        return self.answers


class Task:
    """Of a Tune trial, what the watch looks at; its actor keeps the answers."""

    def __init__(self, name: str, *, error: Path | None = None, alive: bool = True) -> None:
        self.trial_id, self.error_file = name, error and str(error)
        self.config = given(PACK)
        self.answers: list[Any] = []
        actor = SimpleNamespace(answer=SimpleNamespace(remote=self.answers.append))
        self.temporary_state = SimpleNamespace(ray_actor=actor if alive else None)


def test_searcher_hands_out_packs_until_none_can_come_any_more() -> None:
    driver = Note(PACK, None, None)
    searcher = tune._Searcher(driver)
    assert searcher.suggest("t1")["parcel"].pack is PACK
    assert searcher.suggest("t2") is None  # a pack that runs may break, and its trials come again
    driver.working = False
    assert searcher.suggest("t2") == tune.Searcher.FINISHED
    assert driver.heard == [("begin", "t1"), ("begin", "t2"), ("begin", "t2")]


def test_what_a_pack_takes_is_asked_of_ray() -> None:
    def asked(takes: Takes) -> Any:
        pack = PackAssigned(trials=(), engine="auto", waits=False, takes=takes)
        return tune.PackWorker.default_resource_request(given(pack))

    assert asked(Takes()).bundles == [{"CPU": 1.0}]
    anywhere = asked(Takes(2, 0.25))
    assert anywhere.bundles == [{"CPU": 2.0, "GPU": 0.25}]
    assert anywhere == asked(Takes(2, 0.25))  # else no worker would be used again
    several = asked(Takes(2, 1, processes=3))
    assert several.bundles == [{"CPU": 2.0, "GPU": 1.0}] * 3
    there = asked(Takes(2, 0.25, ("a1", "b2")))
    assert there != anywhere
    assert there._bound.kwargs == {"bundle_label_selector": [{"ray.io/node-id": "in(a1,b2)"}]}


def test_watch_passes_messages_on_and_answers_to_their_packs() -> None:
    one, other, gone = Task("one"), Task("other"), Task("gone", alive=False)
    answers = {"gone": Answer(closed=3), "one": Answer(closed=1), "other": Answer(closed=2)}
    driver = Note(answers=answers)
    watch = tune._Watch(driver)
    for task in (other, gone):
        watch.on_trial_result(1, [], task, {"messages": []})
    assert driver.heard == []
    watch.on_trial_result(1, [], one, {"messages": ["a", "b"]})
    assert driver.heard == [("hear", "one", "a"), ("hear", "one", "b")]
    assert one.answers == [Answer(closed=1)] * 2
    assert other.answers == [Answer(closed=2)] * 2
    assert gone.answers == []
    watch.on_trial_complete(1, [], one)
    assert driver.heard[2:] == [("over", "one", "")]
    assert len(other.answers) == 3


def test_watch_survives_the_driver_and_tells_of_dead_workers(tmp_path: Path) -> None:
    driver = Note()
    watch = tune._Watch(driver)
    errors = tmp_path / "error.txt"
    errors.write_text("Traceback\n  ...\nActorDiedError: out of memory\n")
    task = Task("a", error=errors)
    watch.on_trial_result(1, [], task, {"messages": ["bad", "good"]})  # must not raise
    watch.on_trial_error(1, [], task)
    errors.write_text("")
    watch.on_trial_error(1, [], task)
    assert driver.heard == [
        ("hear", "a", "bad"), ("hear", "a", "good"),
        ("over", "a", "ActorDiedError: out of memory"), ("over", "a", "no word of why"),
    ]  # fmt: skip


def test_a_long_reason_of_a_dead_worker_is_cut_between_words(tmp_path: Path) -> None:
    driver = Note()
    errors = tmp_path / "error.txt"
    errors.write_text(f"Traceback\nThe actor is dead. {'potential ' * 28}root causes.\n")
    tune._Watch(driver).on_trial_error(1, [], Task("a", error=errors))
    ((_, _, reason),) = driver.heard
    assert reason == "... " + "potential " * 28 + "root causes."
    assert 290 < len(reason) <= 300


class Pretended:
    """Stands for a Worker."""

    made: list[Any]

    def __init__(self, pack: PackAssigned, team: None) -> None:
        self.pack, self.over, self.heard, self.waited = pack, False, [], None
        self.made.append(self)

    def take(self, seconds: float) -> list[str]:
        self.waited = seconds
        return ["message"]

    def answer(self, answer: Answer) -> None:
        self.heard.append(answer)

    def interrupt(self) -> None:
        self.heard.append("interrupt")


def test_a_worker_process_trains_one_pack_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "Worker", Pretended)
    monkeypatch.setattr(Pretended, "made", [], raising=False)
    process = object.__new__(tune.PackWorker)
    process.setup(given(PACK))
    (first,) = Pretended.made
    assert first.pack is PACK
    assert process.step() == {"messages": ["message"], "done": False}
    assert first.waited == tune.STEP_SECONDS
    assert process.config == {}  # it would go back with each result
    process.answer(Answer(closed=1))
    first.over = True
    assert process.step() == {"messages": ["message"], "done": True}
    other = PackAssigned(trials=(), engine="stacked", waits=False)
    assert process.reset_config(given(other))
    assert first.heard == [Answer(closed=1), "interrupt"]
    process.step()
    assert Pretended.made[1].pack is other
    process.cleanup()
    assert Pretended.made[1].heard == ["interrupt"]


@pytest.mark.parametrize(
    ("workers", "generation", "seconds"),
    [
        (1, 0, 1.0), (100, 0, 1.0), (250, 0, 1.0), (800, 0, 3.2), (10_000, 0, 4.0),
        (1, 20, 0.1), (25, 20, 0.1), (100, 20, 0.4), (10_000, 20, 4.0),
    ],
)  # fmt: skip
def test_all_workers_together_cause_so_many_events(
    workers: int, generation: int, seconds: float
) -> None:
    """Until a graceful stop would wait for too long."""
    trial = Assigned("k", {}, "r", "", "f", generation)
    pack = PackAssigned(trials=(trial,), engine="auto", waits=True, workers=workers)
    assert tune.step_seconds(pack) == seconds
    assert workers / seconds <= tune.EVENTS_PER_SECOND or seconds == 4.0


def test_tune_looks_for_nothing_among_packs_that_ended() -> None:
    class Controller:
        def get_trials(self) -> Any:
            raise AssertionError("all that there ever were")

    assert tune._InOrder().choose_trial_to_run(Controller()) is None


def test_tune_is_given_what_keeps_it_from_looking_at_all_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    class Tuner:
        def __init__(self, worker: Any, **options: Any) -> None:
            given.update(options)

        def fit(self) -> None:
            given["environment"] = dict(os.environ)

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(tune.tune, "Tuner", Tuner)
    tune.run_packs(Note(), concurrent=3, folder=tmp_path, on_interrupt=lambda: None)
    asked, own = given["tune_config"], given["run_config"]
    assert isinstance(asked.scheduler, tune._InOrder)
    assert (asked.reuse_actors, asked.max_concurrent_trials) == (True, 3)
    assert [type(each) for each in own.callbacks] == [tune._Watch]
    assert given["environment"]["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"
    assert int(given["environment"]["TUNE_GLOBAL_CHECKPOINT_S"]) > 3600


def test_the_watch_keeps_no_pack_that_is_over(tmp_path: Path) -> None:
    watch = tune._Watch(Note())
    for name in ("a", "b", "c"):
        watch.on_trial_result(1, [], Task(name), {"messages": []})
    watch.on_trial_complete(1, [], Task("a"))
    watch.on_trial_error(1, [], Task("b"))
    assert list(watch._tasks) == ["c"]


def test_tune_keeps_little_of_a_pack_that_is_over() -> None:
    """It keeps all that it was given, until the sweep ends, with copies of it and statistics."""
    text = "what a trial is told" * 1000
    pack = PackAssigned((Assigned("k", {"a": text}, "r", "", "f"),), engine="auto", waits=True)
    watch, over, broken = tune._Watch(Note()), Task("a"), Task("b")
    for task in (over, broken):
        task.config = given(pack)
        assert copy.deepcopy(task.config)["parcel"] is task.config["parcel"]
        assert pickle.loads(pickle.dumps(task.config))["parcel"].pack == pack  # to its worker
        assert len(str(task.config)) < 200
        result = {"messages": [text], "done": True, "trial_id": task.trial_id, "pid": 1}
        watch.on_trial_result(1, [], task, result)
        assert result == {"done": True, "trial_id": task.trial_id}
        assert task.config["parcel"].pack is pack
    watch.on_trial_complete(1, [], over)
    watch.on_trial_error(1, [], broken)
    for task in (over, broken):
        assert len(pickle.dumps(task.config)) < 200


def test_a_worker_process_is_given_variables_and_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tune, "Worker", Pretended)
    monkeypatch.setattr(Pretended, "made", [], raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    process = object.__new__(tune.PackWorker)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(Path.cwd())
    os.environ["GANSWEEP_FOLDER"] = str(tmp_path)
    process.setup(given(PACK), environment={"MLFLOW_TRACKING_TOKEN": "t"})
    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "t"
    assert Path.cwd() == tmp_path
