"""The driver: packs are made, mended, refilled and settled. Without Ray, MLflow in memory."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from records import equal, state
from sweep_files import load, text
from trees import tree

from benchmarks.simulation import run_simulated
from gansweep.config import resolve
from gansweep.engines import Choice
from gansweep.memory import Ceiling
from gansweep.metrics.fingerprint import TAG
from gansweep.progress import Continue, Exploit, Interrupt, Progress, Stop, TrialResult
from gansweep.sweep import driver
from gansweep.sweep.board import Board
from gansweep.sweep.driver import WORKER_RETRIES, SweepDriver
from gansweep.sweep.files import PACES_FILE
from gansweep.sweep.pace import Pace, pace_of, read_paces
from gansweep.sweep.plan import Plan, trial_folder
from gansweep.sweep.proposals import Listed
from gansweep.sweep.trials import Trial, planned
from gansweep.sweep.worker import Answer, Broken, Ended, PackAssigned, Report, Worker
from gansweep.tracking.mlflow import Backlog, Courier
from gansweep.tracking.spool import SpoolTracker

CLIPS = {"model.clip": {"grid": [0.01, 0.02, 0.03, 0.04]}}
TRIAL = {
    "model": {"name": "wgan"},
    "network": {"name": "mlp", "width": 8, "depth": 1},
    "data": {"name": "ring8", "n": 1000},
    "budget": {"g_steps": 100},
    "score": {"every": 10},
}
ASHA = {"scheduler": "asha", "grace": 10, "reduction": 2}


class Store:
    """In the place of MlflowStore: tags and statuses by run id, which is the trial's name."""

    uri = "the store"

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, str]] = {}
        self.statuses: dict[str, list[str]] = {}
        self.texts: dict[str, str] = {}
        self.broken: Exception | None = None
        self.told: list[Any] = []

    def trial_run(
        self, experiment: str, parent: str, key: str, name: str, params: Any, tags: Any
    ) -> str:
        assert (experiment, parent) == ("experiment", "parent")
        if self.broken:
            raise self.broken
        run = f"run {key}"
        self.set_tags(run, tags)
        self.settle(run, "RUNNING")
        return run

    def set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        self.tags.setdefault(run, {}).update(tags)

    def settle(self, run: str, status: str) -> None:
        self.statuses.setdefault(run, []).append(status)

    def log_text(self, run: str, text: str, artifact: str) -> None:
        self.texts[run] = text

    def trials(self, name: str) -> list[Any]:
        return self.told


class Deliveries:
    """In the place of a courier: the runs by folder, and what it leaves in the end."""

    def __init__(self) -> None:
        self.runs: dict[Path, str] = {}
        self.released: list[str] = []
        self.left = Backlog()
        self.within_s = 0.0
        self.meanwhile: Callable[[], None] = lambda: None

    def add(self, run_id: str, folder: Path) -> None:
        self.runs[folder] = run_id

    def forget(self, folder: Path) -> None:
        self.runs.pop(folder, None)

    def release(self, folder: Path) -> None:
        self.released.append(folder.name)

    def drain(self, *, within_s: float) -> Backlog:
        self.within_s = within_s
        self.meanwhile()
        return self.left

    def backlog(self) -> Backlog:
        return Backlog(1, 1, "asked again")


class Sweeping:
    """A driver with all that it drives."""

    def __init__(
        self,
        folder: Path,
        *,
        space: Any = None,
        workers: int = 1,
        plan: Plan | None = None,
        workers_deliver: bool = False,
        **file: Any,
    ) -> None:
        sections = {"space": space or CLIPS, "trial": TRIAL, **file}
        self.folder = folder
        self.sweep = load(folder, text(**sections))
        self.trials = planned(self.sweep)
        self.plan = plan or Plan(folder / "plan.json", self.sweep.name)
        self.store = Store()
        self.courier = Deliveries()
        self.proposals = Listed(self.trials)
        self.board = Board(self.plan, total=len(self.trials), workers=workers)
        self.driver = SweepDriver(
            self.sweep,
            self.plan,
            self.board,
            self.store,  # type: ignore[arg-type]
            self.proposals,
            self.courier,  # type: ignore[arg-type]
            workers_deliver=workers_deliver,
            experiment="experiment",
            parent="parent",
            folder=folder,
            place=lambda key: str(trial_folder(folder, key)),
            tags={"host": "here"},
            advice={self.trials[0].key: ["be careful"]},
            budget=100,
        )

    def begin(self, name: str) -> list[str]:
        """The keys of a pack that begins."""
        pack = self.driver.begin(name)
        return [trial.key for trial in pack.trials] if pack else []

    def states(self) -> list[str]:
        return [self.plan.entries[t.key].state for t in self.trials if t.key in self.plan.entries]

    def end(
        self, pack: str, key: str, state: Any = "completed", reason: str = "", g_steps: int = 100
    ) -> dict[str, Answer]:
        result = TrialResult(state, reason, g_steps, 5.0, {"score/swd": 0.5})
        return self.driver.hear(pack, Ended(key, result))

    def score(self, pack: str, g_steps: int, values: Mapping[str, float]) -> dict[str, Answer]:
        return self.driver.hear(pack, report(g_steps, values))


def report(g_steps: int, values: Mapping[str, float], *, scored: bool = True) -> Report:
    return Report(
        {
            key: Progress(g_steps, 100, g_steps / 10, {"score/swd": value}, scored)
            for key, value in values.items()
        }
    )


def keys(trials: list[Trial]) -> list[str]:
    return [trial.key for trial in trials]


# --- packs


def test_a_pack_is_told_all_of_its_trials(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=2, resources={"engine": "interleaved"})
    pack = one.driver.begin("p")
    assert isinstance(pack, PackAssigned)
    assert (pack.engine, pack.waits) == ("interleaved", False)
    assert [trial.key for trial in pack.trials] == keys(one.trials[:2])
    for trial, told in zip(one.trials, pack.trials, strict=False):
        assert resolve(told.tree, []) == trial.config
        assert (told.run_id, told.uri) == (f"run {trial.key}", "")  # it delivers nothing
        assert told.folder == str(trial_folder(tmp_path, trial.key))
        assert told.generation == 0
        assert one.store.statuses[told.run_id] == ["RUNNING"]
        tags = one.store.tags[told.run_id]
        assert (tags["host"], tags["state"], tags["seed"]) == ("here", "waiting", "0")
        assert json.loads(tags["point"]) == trial.point
        assert tags["recipe"] == trial.config.recipe
        assert ("warning" in tags) == (trial is one.trials[0])
    assert Plan.load(one.plan.path, one.sweep.name).entries == one.plan.entries
    assert one.states() == ["running"] * 2


def test_trials_are_spread_over_the_workers_first(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=3)
    packs = [one.begin(name) for name in "abc"]
    assert [len(pack) for pack in packs] == [2, 1, 1]
    assert [key for pack in packs for key in pack] == keys(one.trials)
    assert one.begin("d") == []
    assert one.driver.busy


def test_what_is_left_is_one_pack_where_the_other_worker_has_as_much_to_do(tmp_path: Path) -> None:
    """Of three shapes with four trials each: small packs at the end would take longer."""
    space = {"network.width": {"grid": [8, 9, 10]}, **CLIPS}
    one = Sweeping(tmp_path, space=space, workers=2)
    a, b = one.begin("a"), one.begin("b")
    assert (len(a), len(b)) == (4, 4)
    one.driver.hear("a", report(10, dict.fromkeys(a, 1.0), scored=False))
    for key in b:
        assert one.end("b", key)["b"] == Answer(closed=1)  # of its shape there are no more
    one.driver.over("b", "")
    c = one.begin("c")
    assert len(c) == 4  # while `a` has 3.6 trials' worth to go


def test_trials_of_a_shape_are_packs_of_equal_size(tmp_path: Path) -> None:
    space = {
        "network.width": {"grid": [8, 9]},
        "model.clip": {"grid": [n / 100 for n in range(1, 11)]},
    }
    one = Sweeping(tmp_path, space=space, workers=2)
    assert [len(one.begin(name)) for name in "abcd"] == [5, 5, 5, 5]


def test_a_pack_is_told_whether_another_compiled_its_shape_in_turns(tmp_path: Path) -> None:
    space = {"network.width": {"grid": [8, 9, 10]}, **CLIPS}
    one = Sweeping(tmp_path, space=space, resources={"pack": 2})
    choices = [(False, True), (False, True), (True, True), (False, True), (False, False), None]
    told = []
    for name, choice in zip("abcdef", choices, strict=True):
        pack = one.driver.begin(name)
        assert pack
        told.append(pack.compiled)
        if choice:
            one.driver.hear(name, Choice(*choice, "so"))
    assert told == [False, True, False, False, False, False]


def test_what_is_left_of_an_interrupted_longer_budget_is_no_work(tmp_path: Path) -> None:
    """Such a trial is at its end, not ahead of the others."""
    one = Sweeping(tmp_path, workers=2)
    a = one.begin("a")
    one.plan.entries[a[0]].g_steps = 9000
    assert one.board.work_left(a) == 1.0
    assert len(one.begin("b")) == 2


def test_where_plenty_waits_nobody_looks_at_all_that_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be at every end of a trial of a large sweep, and at each question for more."""
    clips = {"model.clip": {"grid": [n / 1000 for n in range(1, 25)]}}
    one = Sweeping(tmp_path, space=clips, workers=2, resources={"pack": 2})
    a = one.begin("a")
    one.driver.hear("a", Choice(False, True, "fast"))
    looks = []

    def work_left(self: Any, keys: Any) -> float:
        looks.append(keys)
        return 1.0

    monkeypatch.setattr(Board, "work_left", work_left)
    for _ in range(18):
        (refill,) = one.end("a", a.pop())["a"].refills
        a.append(refill.key)
    assert (one.proposals.waiting, looks) == (4, [])
    one.end("a", a.pop())
    assert (one.proposals.waiting, looks) == (3, [])
    one.end("a", a.pop())
    assert looks
    one.proposals.take(3)
    looks.clear()
    assert one.begin("b") == []
    assert looks == []


def test_a_place_is_filled_while_nobody_knows_how_its_pack_trains(tmp_path: Path) -> None:
    """It might be a stack's, which costs the same without a trial."""
    clips = {"model.clip": {"grid": [n / 1000 for n in range(1, 7)]}}
    for choice, refills in (
        (None, 1),
        (Choice(True, True, "so"), 1),
        (Choice(False, True, "so"), 0),
    ):
        one = Sweeping(tmp_path, space=clips, workers=2, resources={"pack": 4})
        a = one.begin("a")
        assert (len(a), one.proposals.waiting) == (4, 2)
        if choice:
            one.driver.hear("a", choice)
        assert len(one.end("a", a[0])["a"].refills) == refills


def test_trials_that_come_again_count_as_work_that_waits(tmp_path: Path) -> None:
    """Else a place is closed, since their worker looks idle."""
    clips = {"model.clip": {"grid": [n / 1000 for n in range(1, 20)]}}
    one = Sweeping(tmp_path, space=clips, workers=2, resources={"pack": 8})
    a, b = one.begin("a"), one.begin("b")
    assert (len(a), len(b), one.proposals.waiting) == (8, 8, 3)
    one.driver.hear("b", Choice(False, True, "fast"))
    one.driver.hear("a", Broken("it broke"))
    assert len(one.end("b", b[0])["b"].refills) == 1


@pytest.mark.parametrize(("search", "share"), [({}, 8), (ASHA, 3)])
def test_what_a_scheduler_may_stop_does_not_count_as_work(
    search: dict[str, Any], share: int, tmp_path: Path
) -> None:
    clips = {"model.clip": {"grid": [n / 1000 for n in range(1, 9)]}}
    space = {"network.width": {"grid": [8, 9, 10, 11]}, **clips}
    one = Sweeping(tmp_path, space=space, workers=3, search=search)
    packs = [one.begin(name) for name in "abc"]
    assert [len(pack) for pack in packs] == [8, 8, 8]
    for key in packs[2]:
        one.end("c", key)
    one.driver.over("c", "")
    assert len(one.begin("d")) == share


@pytest.mark.parametrize(
    ("stacked", "b_at", "taken"),
    [(False, 99, [3, 3]), (False, 60, [4, 2]), (False, 5, [6, 0]), (True, 99, [6, 0])],
)
def test_places_are_filled_so_that_the_workers_end_together(
    stacked: bool, b_at: int, taken: list[int], tmp_path: Path
) -> None:
    """But a stack's place costs the same without a trial."""
    space = {"model.clip": {"grid": [n / 1000 for n in range(1, 21)]}}
    one = Sweeping(tmp_path, space=space, workers=2, search={"method": "grid"})
    packs = {"a": one.begin("a"), "b": one.begin("b")}
    assert [len(pack) for pack in packs.values()] == [7, 7]
    for name in packs:
        one.driver.hear(name, Choice(stacked, True, "fast"))
    one.driver.hear("a", report(99, dict.fromkeys(packs["a"], 1.0), scored=False))
    one.driver.hear("b", report(b_at, dict.fromkeys(packs["b"], 1.0), scored=False))
    found = []
    for name, pack in packs.items():
        answers = [one.end(name, key)[name] for key in pack]
        found.append(sum(len(answer.refills) for answer in answers))
        assert found[-1] + sum(answer.closed for answer in answers) == 7
    assert found == taken


def test_a_pack_is_of_one_shape(tmp_path: Path) -> None:
    space = {"network.width": {"grid": [8, 9]}, "model.clip": {"grid": [0.01, 0.02]}}
    one = Sweeping(tmp_path, space=space)
    packs = [one.begin(name) for name in "ab"]
    assert sorted(key for pack in packs for key in pack) == sorted(keys(one.trials))
    shapes = {trial.key: trial.config.shape for trial in one.trials}
    assert [len({shapes[key] for key in pack}) for pack in packs] == [1, 1]


def test_a_full_disk_leaves_no_pack_and_no_trial_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune would ask for ever whether more is to come; what is saved next holds all of it."""
    one = Sweeping(tmp_path, workers=2, resources={"pack": 2}, search=ASHA)
    a, b = one.begin("p")
    c, d = one.begin("q")

    def full(*args: Any, **rest: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(one.plan, "save", full)
        patch.setattr(Path, "open", full)  # the journal's
        assert one.score("p", 10, {a: 1.0, b: 0.5})["p"].verdicts == {
            a: Continue(), b: Continue(),
        }  # fmt: skip
        for pack, key in (("p", a), ("p", b), ("q", c)):
            assert one.end(pack, key) == {pack: Answer(closed=1)}
        one.driver.over("p", "")
        one.driver.over("q", "killed")
    assert one.begin("r") == [d]
    assert Plan.load(one.plan.path, one.sweep.name).entries == one.plan.entries
    assert one.end("r", d) == {"r": Answer(closed=1)}
    one.driver.over("r", "")
    assert not one.driver.busy


def test_a_note_says_how_packs_train(tmp_path: Path) -> None:
    one = Sweeping(tmp_path)
    one.begin("p")
    for _ in range(2):
        assert one.driver.hear("p", Choice(True, False, "as set")) == {}
    assert one.board.notes == ["packs of 4: stacked, eager: as set"]


# --- reports and ends


def test_reports_reach_plan_and_board(tmp_path: Path) -> None:
    one = Sweeping(tmp_path)
    a, b, *_ = one.begin("p")
    assert one.driver.hear("p", report(20, {a: 0.5, b: math.nan}, scored=False)) == {}
    entries = one.plan.entries
    assert (entries[a].g_steps, entries[a].seconds, entries[a].metrics) == (
        20, 2.0, {"score/swd": 0.5},
    )  # fmt: skip
    assert entries[b].metrics == {"score/swd": None}
    assert [row.rate for row in one.board.rows][:2] == [10.0, 10.0]


def test_a_trial_that_had_ended_is_on_the_board_as_it_trains_again(tmp_path: Path) -> None:
    one = Sweeping(tmp_path)
    for trial in one.trials:
        one.plan.add(trial).state = "failed"
    assert one.board.counts == {"failed": 4}
    one.begin("p")
    assert one.board.counts == {"running": 4}


def test_an_end_is_settled_and_frees_a_place(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    a, b = one.begin("p")
    answers = one.end("p", a, "diverged", "loss/d was nan at g_step 7", g_steps=7)
    (refill,) = answers["p"].refills
    assert (refill.key, answers["p"].closed) == (one.trials[2].key, 0)
    entry = one.plan.entries[a]
    assert (entry.state, entry.reason, entry.g_steps) == (
        "diverged", "loss/d was nan at g_step 7", 7,
    )  # fmt: skip
    assert one.plan.entries[refill.key].state == "running"
    saved = Plan.load(one.plan.path, one.sweep.name).entries
    assert saved == one.plan.entries
    last = one.end("p", b)["p"]
    assert [trial.key for trial in last.refills] == [one.trials[3].key]
    for key in (refill.key, one.trials[3].key):
        assert one.end("p", key) == {"p": Answer(closed=1)}
    assert one.driver.over("p", "") == {}
    assert not one.driver.busy
    assert one.states() == ["diverged", "completed", "completed", "completed"]


def test_a_place_is_filled_by_a_trial_of_its_shape_or_not_at_all(tmp_path: Path) -> None:
    space = {"network.width": {"grid": [8, 9]}, "model.clip": {"grid": [0.01, 0.02, 0.03]}}
    one = Sweeping(tmp_path, space=space, resources={"pack": 2})
    shapes = {trial.key: trial.config.shape for trial in one.trials}
    a, b = one.begin("p")
    (third,) = one.end("p", a)["p"].refills
    assert shapes[third.key] == shapes[a]
    assert one.end("p", b)["p"] == Answer(closed=1)  # though three of the other shape wait
    assert one.proposals.waiting == 3
    assert {shapes[key] for key in one.begin("q")} == set(shapes.values()) - {shapes[a]}


def test_a_trial_that_failed_to_begin_keeps_its_earlier_progress(tmp_path: Path) -> None:
    one = Sweeping(tmp_path)
    a, *_ = one.begin("p")
    one.driver.hear("p", report(20, {a: 0.5}, scored=False))
    one.end("p", a, "failed", "its data are gone", g_steps=0)
    assert (one.plan.entries[a].g_steps, one.plan.entries[a].seconds) == (20, 2.0)


# --- what breaks


def halves(one: Sweeping, name: str, reason: str, *, by_message: bool) -> None:
    if by_message:
        assert one.driver.hear(name, Broken(reason)) == {}
        assert one.driver.over(name, "") == {}
    else:
        assert one.driver.over(name, reason) == {}


@pytest.mark.parametrize("by_message", [True, False])
def test_a_broken_pack_comes_again_in_half_the_size(by_message: bool, tmp_path: Path) -> None:
    """Whether it said so or its worker died; down to single trials, which fail in the end."""
    one = Sweeping(tmp_path)
    assert sorted(one.begin("whole")) == sorted(keys(one.trials))
    halves(one, "whole", "out of memory", by_message=by_message)
    assert one.driver.busy
    assert one.states() == ["running"] * 4
    first, second = one.begin("first"), one.begin("second")
    assert (len(first), len(second)) == (2, 2)
    assert sorted(first + second) == sorted(keys(one.trials))
    halves(one, "first", "out of memory", by_message=by_message)
    for key in second:
        assert one.end("second", key)["second"] == Answer(closed=1)
    one.driver.over("second", "")
    for attempt in range(WORKER_RETRIES + 1):
        alone = [one.begin(f"{attempt} {i}") for i in range(2)]
        assert sorted(alone) == sorted([key] for key in first)
        assert one.begin("none") == []
        for i in range(2):
            halves(one, f"{attempt} {i}", "out of memory", by_message=by_message)
    assert one.begin("none") == []
    assert not one.driver.busy
    for key in first:
        assert one.plan.entries[key].state == "failed"
        assert one.plan.entries[key].reason.endswith("out of memory")
    assert sorted(one.states()) == ["completed", "completed", "failed", "failed"]


@pytest.mark.parametrize("size", [1, 2])
def test_a_trial_that_ran_out_of_memory_alone_is_not_tried_again(size: int, tmp_path: Path) -> None:
    """A pack comes again in halves all the same."""
    one = Sweeping(tmp_path, resources={"pack": size})
    keys_ = one.begin("p")
    one.driver.hear("p", Broken("MemoryError: no more", out_of_memory=True))
    one.driver.over("p", "")
    entry = one.plan.entries[keys_[0]]
    if size == 1:
        assert (entry.state, entry.reason) == ("failed", "out_of_memory: MemoryError: no more")
        assert one.begin("q") == keys(one.trials[1:2])
    else:
        assert entry.state == "running"
        assert [one.begin("q"), one.begin("r")] == [[key] for key in keys_]


def test_a_worker_that_ray_ended_for_memory_is_tried_again_where_others_had_taken_it(
    tmp_path: Path,
) -> None:
    reason = "out_of_memory: Task was killed due to the node running low on memory."
    one = Sweeping(tmp_path, resources={"pack": 1}, workers=2)
    (first,), (second,) = one.begin("p"), one.begin("q")
    one.driver.over("p", reason)
    assert one.plan.entries[first].state == "running"
    one.driver.over("q", reason)  # it was the only one by then
    entry = one.plan.entries[second]
    assert (entry.state, entry.reason) == ("failed", reason)
    assert one.begin("r") == [first]


def test_a_pack_may_take_as_much_memory_as_its_trials_alone(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 3, "memory_gb": 0.5})
    three, last = one.driver.begin("p"), one.driver.begin("q")
    assert three is not None
    assert last is not None
    assert (three.ceiling.host, three.ceiling.gpu) == (1.5e9, None)
    assert last.ceiling.host == 0.5e9
    free = Sweeping(tmp_path).driver.begin("p")
    assert free is not None
    assert free.ceiling == Ceiling(None, None)


CUDA = "OutOfMemoryError: CUDA out of memory."


def exhaust(one: Sweeping, name: str, *, of_gpu: bool = True) -> PackAssigned:
    """The pack of one trial that `name` begins with, after it ran out of memory."""
    pack = one.driver.begin(name)
    assert pack is not None
    assert len(pack.trials) == 1
    if of_gpu:
        one.driver.hear(name, Broken(CUDA, out_of_memory=True))
    one.driver.over(name, "" if of_gpu else "out_of_memory: the node is running low on memory")
    return pack


def test_a_trial_that_ran_out_of_gpu_memory_is_tried_with_twice_the_share(tmp_path: Path) -> None:
    """So often as the file says, as long as there is more to be had; plan and run say so."""
    own = {"gpu": 0.2, "gpu_memory_gb": 3, "pack": 1, "gpu_memory_retries": 2}
    one = Sweeping(tmp_path, resources=own)
    packs = [exhaust(one, name) for name in "abc"]
    assert {pack.trials[0].key for pack in packs} == {one.trials[0].key}
    assert [pack.takes.gpu for pack in packs] == [0.2, 0.4, 0.8]
    assert [pack.ceiling.gpu for pack in packs] == [3e9, 6e9, 12e9]
    assert [pack.comes_again for pack in packs] == [True, True, False]
    entry = Plan.load(one.plan.path, one.sweep.name).entries[one.trials[0].key]
    assert (entry.state, entry.gpu_times) == ("failed", 4)
    assert entry.reason == f"out_of_memory: {CUDA}"
    assert one.store.tags[entry.run_id]["gpu_times"] == "4"
    following = one.driver.begin("d")
    assert following is not None
    assert (following.trials[0].key, following.takes.gpu) == (one.trials[1].key, 0.2)
    assert "gpu_times" not in one.store.tags[following.trials[0].run_id]


@pytest.mark.parametrize(
    "own",
    [{"gpu": 0.2}, {"gpu": 1, "gpu_memory_retries": 3}],
    ids=["unless it is asked for", "a whole card has no twice"],
)
def test_and_else_it_has_failed(own: Any, tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 1, **own})
    assert not exhaust(one, "a").comes_again
    assert one.states()[0] == "failed"


def test_the_hosts_memory_is_not_had_by_a_larger_share(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"gpu": 0.2, "pack": 1, "gpu_memory_retries": 3})
    assert exhaust(one, "a", of_gpu=False).comes_again
    assert one.states()[0] == "failed"
    assert one.plan.entries[one.trials[0].key].gpu_times == 1


def test_a_pack_is_halved_before_its_trials_take_more(tmp_path: Path) -> None:
    own = {"gpu": 0.2, "pack": 2, "gpu_memory_retries": 1}
    one = Sweeping(tmp_path, resources=own)
    first, second = one.begin("p")
    one.driver.hear("p", Broken(CUDA, out_of_memory=True))
    one.driver.over("p", "")
    for name, key in (("q", first), ("r", second)):
        pack = exhaust(one, name)
        assert ([t.key for t in pack.trials], pack.takes.gpu) == ([key], 0.2)
    for name, key in (("s", first), ("t", second)):  # each alone, though they are of one shape
        pack = one.driver.begin(name)
        assert pack is not None
        assert ([t.key for t in pack.trials], pack.takes.gpu) == ([key], 0.4)


def test_a_later_run_knows_what_a_trial_takes(tmp_path: Path) -> None:
    own = {"gpu": 0.2, "pack": 4, "gpu_memory_retries": 1}
    plan = Plan(tmp_path / "plan.json", "small")
    for trial in planned(load(tmp_path, text(space=CLIPS, trial=TRIAL))):
        plan.add(trial)
    hungry = list(plan.entries)[1]
    plan.entries[hungry].gpu_times = 2
    one = Sweeping(tmp_path, plan=plan, resources=own)
    three, alone = one.driver.begin("p"), one.driver.begin("q")
    assert three is not None
    assert alone is not None
    assert [len(three.trials), three.takes.gpu] == [3, 0.2]
    assert ([t.key for t in alone.trials], alone.takes.gpu) == ([hungry], 0.4)


def test_no_member_of_a_population_waits_for_a_larger_share(tmp_path: Path) -> None:
    search = {"scheduler": "pbt", "interval": 20}
    own = {"gpu": 0.2, "pack": 1, "gpu_memory_retries": 3}
    one = Sweeping(tmp_path, resources=own, search=search, workers=4)
    pack = one.driver.begin("p")
    assert pack is not None
    assert not pack.comes_again


def test_a_trial_that_died_and_then_trained_is_well(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 1})
    for attempt in range(WORKER_RETRIES):
        (key,) = one.begin(str(attempt))
        one.driver.over(str(attempt), "killed")
    assert one.begin("last") == [key]
    one.end("last", key)
    one.driver.over("last", "")
    assert one.plan.entries[key].state == "completed"


@pytest.mark.parametrize("population", [False, True])
def test_deaths_count_that_follow_each_other_without_a_checkpoint(
    population: bool, tmp_path: Path
) -> None:
    """However often its nodes are taken away, a trial that comes further each time is well."""
    file = POPULATION if population else {"resources": {"pack": 1}}
    one = Sweeping(tmp_path, trial={**TRIAL, "checkpoint": {"every": 10}}, **file)
    attempts = 3 * WORKER_RETRIES
    assert attempts < 9
    for attempt in range(attempts):
        first, *_ = every = one.begin(str(attempt))
        assert first == one.trials[0].key
        one.driver.hear(str(attempt), report(10 * attempt + 12, dict.fromkeys(every, 1.0)))
        one.driver.over(str(attempt), "killed")
    for attempt in range(WORKER_RETRIES):
        assert one.begin(f"again {attempt}")[0] == first
        one.driver.hear(f"again {attempt}", report(10 * attempts + 2 + attempt, {first: 1.0}))
        one.driver.over(f"again {attempt}", "killed")
    if population:  # it is not to blame yet
        assert one.begin("half") == every[:2]
    else:
        assert one.plan.entries[first].state == "failed"


def test_trials_of_a_broken_pack_come_before_new_ones(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    first = one.begin("p")
    one.driver.over("p", "killed")
    assert [*one.begin("q"), *one.begin("r")] == first
    assert one.begin("s") == keys(one.trials[2:])


def test_a_pack_that_ended_well_leaves_nothing_to_mend(tmp_path: Path) -> None:
    one = Sweeping(tmp_path)
    for key in one.begin("p"):
        one.end("p", key)
    assert one.driver.over("p", "the worker left in a hurry") == {}
    assert one.states() == ["completed"] * 4
    assert not one.driver.busy


REFUSED = ValueError("no such run\nin the store")


def test_where_a_run_is_refused_nothing_more_begins(tmp_path: Path) -> None:
    """And nobody waits for what would come again: the sweep ends."""
    one = Sweeping(tmp_path, resources={"pack": 2})
    one.begin("p")
    one.store.broken = REFUSED
    one.driver.over("p", "killed")
    assert one.begin("q") == []
    assert one.driver.trouble.endswith("ValueError: no such run")
    assert not one.driver.busy
    one.store.broken = None
    assert one.begin("r") == []


def test_a_refill_that_is_refused_closes_the_place(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    a, b = one.begin("p")
    one.store.broken = REFUSED
    assert one.end("p", a) == {"p": Answer(closed=1)}
    assert one.driver.trouble.endswith("ValueError: no such run")
    assert one.driver.busy
    assert one.end("p", b) == {"p": Answer(closed=1)}
    one.driver.over("p", "")
    assert not one.driver.busy


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the driver takes for the time; the last one counts."""
    now = [1000.0]
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: now[-1]))
    return now


AWAY = ConnectionError("the store\nis gone")


def test_new_trials_wait_while_the_store_is_away(tmp_path: Path, clock: list[float]) -> None:
    """Those in training go on; the others begin in their order once it is back."""
    one = Sweeping(tmp_path, resources={"pack": 2})
    a, b = one.begin("p")
    one.store.broken = AWAY
    assert one.end("p", a) == {"p": Answer(closed=1)}  # its place is not filled
    assert "wait for MLflow (ConnectionError: the store)" in one.board.message
    one.store.broken = None
    assert one.begin("q") == []  # it is not asked again at once
    assert one.driver.trouble == ""
    assert one.driver.busy
    assert one.end("p", b) == {"p": Answer(closed=1)}
    one.driver.over("p", "")
    assert one.driver.busy
    clock.append(clock[-1] + driver.STORE_RETRY_SECONDS)
    assert one.begin("q") == keys(one.trials[2:3])
    assert one.board.message == ""
    assert one.begin("r") == keys(one.trials[3:])
    assert one.states() == ["completed", "completed", "running", "running"]


def test_no_store_is_waited_for_for_ever(tmp_path: Path, clock: list[float]) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    one.store.broken = AWAY
    tries = 0
    while not one.driver.trouble:
        assert one.begin("p") == []
        tries += 1
        clock.append(clock[-1] + driver.STORE_RETRY_SECONDS)
    assert clock[-1] - clock[0] == pytest.approx(driver.STORE_PATIENCE_SECONDS, abs=11)
    assert one.driver.trouble.endswith("ConnectionError: the store")
    assert not one.driver.busy
    assert tries == len(clock) - 1


def test_a_short_outage_does_not_count_for_the_next(tmp_path: Path, clock: list[float]) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    one.store.broken = AWAY
    assert one.begin("p") == []
    one.store.broken = None
    clock.append(clock[-1] + driver.STORE_RETRY_SECONDS)
    assert len(one.begin("p")) == 2
    clock.append(clock[-1] + 2 * driver.STORE_PATIENCE_SECONDS)
    one.store.broken = AWAY
    assert one.begin("q") == []
    assert one.driver.trouble == ""


@pytest.mark.parametrize("away", [True, False])
def test_an_interrupt_waits_for_no_trial_that_would_come_again(away: bool, tmp_path: Path) -> None:
    """Tune would ask for it for ten minutes, and look at no signal meanwhile."""
    one = Sweeping(tmp_path, resources={"pack": 2})
    if away:
        one.store.broken = AWAY
        assert one.begin("p") == []
    else:
        one.begin("p")
        one.driver.over("p", "killed")
    assert one.driver.busy
    one.driver.put_aside("interrupted")
    assert one.begin("q") == []
    assert not one.driver.busy


@pytest.mark.parametrize("state", ["interrupted", "completed"])
def test_an_interrupt_begins_nothing_and_counts_no_death(state: str, tmp_path: Path) -> None:
    """A trial may end by itself meanwhile, unheard: the next command has its result."""
    one = Sweeping(tmp_path, resources={"pack": 1})
    for attempt in range(WORKER_RETRIES):
        (key,) = one.begin(str(attempt))
        one.driver.over(str(attempt), "killed")
    one.begin("p")
    one.driver.put_aside("interrupted")
    assert one.begin("q") == []
    assert one.driver.over("p", "") == {}
    tags = {"state": state, "g_steps": "30", f"{TAG}swd": '{"seed": "0"}'}
    metrics = {"score/swd": 0.25, "loss/d": math.nan}
    one.store.told = [SimpleNamespace(key=key, tags=tags, metrics=metrics)]
    one.driver.settle()
    entry = one.plan.entries[key]
    assert (entry.state, entry.reason) == ("interrupted", "interrupted at g_step 30")
    assert entry.metrics == {"score/swd": 0.25, "loss/d": None}  # as `gansweep show` has them
    assert entry.fingerprints == {"swd": {"seed": "0"}}
    assert one.store.statuses[f"run {key}"][-1] == "KILLED"
    assert one.store.tags[f"run {key}"]["state"] == "interrupted"


def test_a_trial_that_has_no_run_is_not_settled(tmp_path: Path) -> None:
    one = Sweeping(tmp_path)
    one.store.broken = ConnectionError("the store is away")
    assert one.begin("p") == []
    one.driver.put_aside("interrupted")
    one.driver.settle()
    assert one.store.tags == {}


def test_the_plan_says_in_the_end_which_trials_were_meant(tmp_path: Path) -> None:
    """Which ones a large search means is known once it has come to all of them."""
    plan = Plan(tmp_path / "plan.json", "small")
    for trial in planned(load(tmp_path, text(space={"model.clip": {"grid": [0.05, 0.04]}}))):
        plan.add(trial)
    one = Sweeping(tmp_path, plan=plan)
    other = next(iter(plan.entries))
    assert other not in one.proposals.keys
    for key in one.begin("p"):
        one.end("p", key)
    one.driver.over("p", "")
    one.driver.settle()
    assert Plan.load(plan.path, one.sweep.name).left_out == {other}


def test_a_place_is_closed_while_the_sweep_stops(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    a, _ = one.begin("p")
    one.driver.put_aside("interrupted")
    assert one.end("p", a, "interrupted", "interrupted at g_step 7", 7) == {"p": Answer(closed=1)}


# --- the sweep's budget


class Account:
    """In the place of `Spending`."""

    def __init__(self) -> None:
        self.spent = ""
        self.heard: list[tuple[Any, ...]] = []

    def occupy(self, worker: str, gpus: float) -> None:
        self.heard.append(("occupy", worker, gpus))

    def release(self, worker: str) -> None:
        self.heard.append(("release", worker))


def spending(one: Sweeping) -> Account:
    account = Account()
    driver: Any = one.driver
    driver._spending = account
    return account


def test_once_all_is_spent_nothing_begins_and_no_place_is_filled(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    account = spending(one)
    a, b = one.begin("p")
    account.spent = "time_budget"
    assert one.begin("q") == []
    assert one.end("p", a) == {"p": Answer(closed=1)}
    assert one.driver.busy  # it trains
    one.driver.over("p", "killed")
    assert not one.driver.busy  # what would come again does not
    account.spent = ""
    assert one.begin("q") == [b]


def test_a_worker_has_its_gpus_from_its_first_word_on(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2, "gpu": 0.25})
    account = spending(one)
    a, _ = one.begin("p")
    assert account.heard == []
    one.score("p", 10, {a: 1.0})
    assert account.heard == [("occupy", "p", 0.25)]
    one.driver.over("p", "")
    assert account.heard[-1] == ("release", "p")


def test_what_the_budget_ended_says_so(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 1})
    (key,) = one.begin("p")
    one.score("p", 20, {key: 1.0})
    one.driver.put_aside("time_budget spent")
    one.driver.over("p", "")
    one.driver.settle()
    entry = one.plan.entries[key]
    assert (entry.state, entry.reason) == ("interrupted", "time_budget spent at g_step 20")
    assert one.store.statuses[f"run {key}"][-1] == "KILLED"
    assert one.store.tags[f"run {key}"]["reason"] == entry.reason
    assert one.courier.within_s == driver.INTERRUPTED_DRAIN_SECONDS


def test_a_disk_that_is_full_at_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(plan: Plan, *changed: object) -> None:
        raise OSError(28, "No space left on device")

    one = Sweeping(tmp_path, resources={"pack": 1})
    (key,) = one.begin("p")
    one.end("p", key)
    one.driver.over("p", "")
    monkeypatch.setattr(Plan, "save", full)
    one.driver.settle()
    assert "the plan is not on the disk" in one.driver.trouble
    assert "No space left" in one.driver.trouble
    assert one.store.statuses[f"run {key}"][-1] == "FINISHED"


def test_how_long_trials_took_is_kept(tmp_path: Path) -> None:
    """Of those that came to their end."""
    one = Sweeping(tmp_path, resources={"pack": 4})
    a, b, c, d = one.begin("p")
    one.end("p", a)
    one.end("p", b, "stopped", "asha: worse at g_step 40", 40)
    one.end("p", c, "failed", "it broke", 30)
    one.end("p", d, "interrupted", "interrupted at g_step 7", 7)
    one.driver.settle()
    name = pace_of(one.trials[0].config, on_gpu=False)
    assert read_paces([tmp_path / PACES_FILE]) == {name: Pace(2, 140, 10.0)}


# --- records


def test_a_driver_with_threads_and_locks_can_be_pickled(tmp_path: Path) -> None:
    """Ray Tune insists."""
    one = Sweeping(tmp_path)
    courier = Courier("sqlite:////nowhere/mlflow.db")
    one.driver._courier = courier
    with pytest.raises(TypeError):
        pickle.dumps(courier)
    assert pickle.dumps(one.driver)


def test_the_driver_delivers_what_its_trials_record(tmp_path: Path) -> None:
    """From their assignment on, so that curves are seen as they grow; a refill's as well."""
    one = Sweeping(tmp_path, resources={"pack": 2})
    pack = one.driver.begin("p")
    assert pack is not None
    assert not pack.delivers
    (refill,) = one.end("p", pack.trials[0].key)["p"].refills
    assert one.courier.runs == {
        trial_folder(tmp_path, key): f"run {key}"
        for key in (*(trial.key for trial in pack.trials), refill.key)
    }


def test_what_is_left_of_workers_that_deliver_themselves_is_delivered(tmp_path: Path) -> None:
    """That of one that died, say; where the driver can see its disk."""
    one = Sweeping(tmp_path, workers_deliver=True)
    one.courier.add("its run", trial_folder(tmp_path, one.trials[0].key))  # from an earlier run
    pack = one.driver.begin("p")
    assert pack is not None
    assert pack.delivers
    assert one.courier.runs == {}
    key, *_ = (trial.key for trial in pack.trials)
    SpoolTracker(trial_folder(tmp_path, key)).finish("KILLED")
    SpoolTracker(trial_folder(tmp_path, "of another sweep file"))
    one.driver.settle()
    assert one.courier.runs == {trial_folder(tmp_path, key): f"run {key}"}


def test_all_is_delivered_before_anything_is_settled(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    a, b = one.begin("p")
    one.driver.put_aside("interrupted")
    one.end("p", a, "interrupted", "interrupted at g_step 7", 7)

    def deliver() -> None:
        assert one.store.statuses == {f"run {key}": ["RUNNING"] for key in (a, b)}
        tags = {"state": "interrupted", "g_steps": "9"}
        one.store.told = [SimpleNamespace(key=b, tags=tags, metrics={})]

    one.courier.meanwhile = deliver
    one.driver.settle()
    assert one.driver.backlog == Backlog()
    assert one.plan.entries[b].reason == "interrupted at g_step 9"
    assert {run: found[-1] for run, found in one.store.statuses.items()} == {
        f"run {key}": "KILLED" for key in (a, b)
    }


@pytest.mark.parametrize("impatient", [True, False])
def test_where_the_store_is_away_the_plan_alone_is_settled(impatient: bool, tmp_path: Path) -> None:
    one = Sweeping(tmp_path, resources={"pack": 2})
    a, b = one.begin("p")
    one.driver.put_aside("interrupted")
    one.end("p", a, "interrupted", "interrupted at g_step 7", 7)
    one.courier.left = Backlog(5, 2, "the server is away")

    def interrupt() -> None:
        raise KeyboardInterrupt

    if impatient:
        one.courier.meanwhile = interrupt
    before = {run: list(found) for run, found in one.store.statuses.items()}
    one.driver.settle()
    assert one.courier.within_s == driver.INTERRUPTED_DRAIN_SECONDS
    assert one.driver.backlog.records == (1 if impatient else 5)
    assert one.store.statuses == before
    saved = Plan.load(one.plan.path, one.sweep.name).entries
    assert [saved[key].state for key in (a, b)] == ["interrupted"] * 2


@pytest.mark.parametrize("what", ["spools", "add", "elsewhere", "left"])
def test_what_could_not_be_looked_at_is_not_said_to_have_arrived(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run is settled before its records have arrived; the plan is."""
    one = Sweeping(tmp_path, workers_deliver=True, resources={"pack": 2})
    a, b = one.begin("p")
    one.end("p", a)
    SpoolTracker(trial_folder(tmp_path, a))

    def stale(*arguments: Any, **rest: Any) -> Any:
        raise OSError(116, "Stale file handle")

    if what == "spools":
        monkeypatch.setattr(driver, "spools", stale)
    elif what == "add":
        monkeypatch.setattr(one.courier, "add", stale)
    elif what == "left":
        one.courier.left = Backlog(reason="Stale file handle", unread=1)
    before = {run: list(found) for run, found in one.store.statuses.items()}
    one.driver.settle("Stale file handle" if what == "elsewhere" else "")
    assert one.driver.backlog == Backlog(reason="Stale file handle", unread=1)
    assert one.store.statuses == before
    assert Plan.load(one.plan.path, one.sweep.name).entries[a].state == "completed"
    assert Plan.load(one.plan.path, one.sweep.name).entries[b].state == "interrupted"


# --- schedulers


def test_a_verdict_goes_to_the_pack_where_its_trial_is(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=2, search=ASHA)
    pack = one.driver.begin("p")
    assert pack is not None
    assert pack.waits
    a, b = (trial.key for trial in pack.trials)
    c, d = one.begin("q")
    assert one.score("p", 10, {a: 1.0, b: 0.5}) == {
        "p": Answer(verdicts={a: Continue(), b: Continue()})
    }
    answer = one.score("q", 10, {c: 9.0})
    assert set(answer) == {"q"}
    stop = answer["q"].verdicts[c]
    assert isinstance(stop, Stop)
    assert stop.reason.startswith("asha: 9 is not in the best 1/2")
    assert one.driver.hear("q", report(10, {d: 9.0}, scored=False)) == {}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_value_that_is_not_finite_is_the_worst(
    mode: str, value: float | None, tmp_path: Path
) -> None:
    name = {"min": "swd", "max": "modes"}[mode]
    search = {**ASHA, "mode": mode, "metric": f"score/{name}"}
    one = Sweeping(tmp_path, search=search, trial={**TRIAL, "score": {"names": [name]}})
    a, b, *_ = one.begin("p")
    bad = 1e29 if mode == "min" else -1e29
    one.driver.hear("p", Report({a: Progress(10, 100, 1.0, {f"score/{name}": bad}, True)}))
    metrics = {} if value is None else {f"score/{name}": value}
    message = Report({b: Progress(10, 100, 1.0, metrics, True)})
    assert isinstance(one.driver.hear("p", message)["p"].verdicts[b], Stop)


def test_the_last_score_of_a_budget_is_not_judged(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, search=ASHA)
    a, b, *_ = one.begin("p")
    assert one.score("p", 100, {a: 1.0, b: 9.0}) == {}


POPULATION: dict[str, Any] = {
    "space": {
        "optimizer.lr": {"loguniform": [1e-4, 1e-1]},
        "model.clip": {"uniform": [0.01, 0.1]},
    },
    "search": {
        "method": "random",
        "samples": 4,
        "scheduler": "pbt",
        "interval": 20,
        "resample": 0,
    },
}


def generation(one: Sweeping, packs: Mapping[str, list[str]], g_steps: int) -> dict[str, Answer]:
    """All members report; the later the worse. What the last report is answered with."""
    answers: dict[str, Answer] = {}
    place = 0
    for name, members in packs.items():
        for key in members:
            assert answers == {}
            place += 1
            answers = one.score(name, g_steps, {key: float(place)})
    return answers


def test_a_generation_is_answered_as_a_whole_and_recorded(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    packs = {name: one.begin(name) for name in "pq"}
    (a, b), (c, d) = packs.values()
    answers = generation(one, packs, 20)
    assert {name: set(answer.verdicts) for name, answer in answers.items()} == {
        "p": {a, b}, "q": {c, d},
    }  # fmt: skip
    exploit = answers["q"].verdicts[d]
    assert isinstance(exploit, Exploit)
    assert (exploit.donor, exploit.folder) == (a, str(trial_folder(tmp_path, a)))
    assert answers["q"].verdicts[c] == Continue()
    entry = one.plan.entries[d]
    (step,) = entry.lineage
    assert (step["g_step"], step["from"]) == (20, a)
    donors = one.plan.entries[a].point
    for name, bounds in (("optimizer.lr", (1e-4, 1e-1)), ("model.clip", (0.01, 0.1))):
        near = [donors[name] * factor for factor in (0.8, 1.2)]  # and rounded to 4 digits
        value = step["settings"][name]
        assert value in bounds or value in [pytest.approx(each, rel=1e-3) for each in near]
    config = resolve(exploit.tree, [])
    assert config is not None
    assert config.model.settings.clip == step["settings"]["model.clip"]
    assert config.d_optimizer.settings.lr == step["settings"]["optimizer.lr"]
    assert config.run.seed == entry.seed
    tags = one.store.tags[f"run {d}"]
    assert json.loads(tags["lineage"]) == entry.lineage
    assert tags["donor"] == f"run {a}"
    assert Plan.load(one.plan.path, one.sweep.name).entries[d].lineage == entry.lineage


def test_a_generation_is_answered_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members wait for the answer; the lineage is told at the end."""
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    packs = {name: one.begin(name) for name in "pq"}
    (_, _), (_, d) = packs.values()

    def away(*args: Any) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "set_tags", away)
        answers = generation(one, packs, 20)
    assert isinstance(answers["q"].verdicts[d], Exploit)
    assert "lineage" not in one.store.tags[f"run {d}"]
    one.driver.settle()
    assert json.loads(one.store.tags[f"run {d}"]["lineage"]) == one.plan.entries[d].lineage != []


def test_a_population_writes_its_generations(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, **POPULATION)
    pack = one.driver.begin("p")
    assert pack is not None
    assert pack.waits
    assert [trial.generation for trial in pack.trials] == [20] * 4


def test_an_interrupted_population_goes_on_as_it_would_have(tmp_path: Path) -> None:
    """The next run knows the settings that were explored, and decides alike."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = Sweeping(tmp_path / "whole", **POPULATION)
    packs = {"p": whole.begin("p")}
    generation(whole, packs, 20)
    expected = generation(whole, packs, 40)["p"].verdicts
    first = Sweeping(tmp_path / "parts", **POPULATION)
    packs = {"p": first.begin("p")}
    generation(first, packs, 20)
    for key in packs["p"]:
        first.end("p", key, "interrupted", "interrupted at g_step 30", 30)
    second = Sweeping(tmp_path / "parts", **POPULATION, plan=first.plan)
    assert second.begin("p") == packs["p"]
    found = generation(second, packs, 40)["p"].verdicts
    assert {k: getattr(v, "tree", v) for k, v in found.items()} == {
        k: getattr(v, "tree", v) for k, v in expected.items()
    }
    assert any(isinstance(verdict, Exploit) for verdict in found.values())


def test_a_broken_pack_is_answered_no_more(tmp_path: Path) -> None:
    """The watch would find no worker there, and the others would miss their answers."""
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    packs = {name: one.begin(name) for name in "pq"}
    one.score("p", 20, dict.fromkeys(packs["p"], 1.0))
    one.driver.over("p", "killed")
    answers = one.score("q", 20, dict.fromkeys(packs["q"], 2.0))
    assert set(answers) == {"q"}
    assert set(answers["q"].verdicts) == set(packs["q"])


def test_a_verdict_is_for_who_waits_for_it(tmp_path: Path) -> None:
    """Not for members that go on before that step, or rest at another: they come by it again."""
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    packs = {name: one.begin(name) for name in "pq"}
    (a, b), (c, d) = packs.values()
    assert one.score("q", 20, {c: 3.0, d: 4.0}) == {}
    one.driver.over("q", "killed")
    assert one.begin("q") == [c, d]
    assert one.score("q", 10, {d: 5.0}) == {"q": Answer(verdicts={d: Continue()})}
    one.score("q", 10, {c: 5.0})
    one.driver.hear("q", report(11, {d: 5.0}, scored=False))
    answers = one.score("p", 20, {a: 1.0, b: 2.0})
    assert answers == {"p": Answer(verdicts={a: Continue(), b: Continue()})}
    assert one.plan.entries[d].lineage == []
    answers = one.score("q", 20, {d: 4.0})
    assert isinstance(answers["q"].verdicts[d], Exploit)
    assert [step["g_step"] for step in one.plan.entries[d].lineage] == [20]


def test_a_member_that_rests_elsewhere_is_not_told_of_a_generation(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    (a, b), (c, d) = (one.begin(name) for name in "pq")
    one.score("q", 20, {c: 3.0, d: 4.0})
    one.driver.over("q", "killed")
    one.begin("q")
    one.score("p", 20, {a: 1.0})
    # In one message: d rests at 10, and the generation of 20 is decided.
    at_10 = report(10, {d: 5.0}).progress
    answers = one.driver.hear("q", Report({**at_10, **report(20, {b: 2.0}).progress}))
    assert answers["q"].verdicts == {d: Continue()}


def test_what_a_member_explored_is_told_once_however_often_it_comes_by(tmp_path: Path) -> None:
    """From an earlier checkpoint it hears what it was told there, and not what came later."""
    one = Sweeping(tmp_path, **POPULATION)
    packs = {"p": one.begin("p")}
    told = {}
    for g_steps in (20, 40, 60):
        told[g_steps] = generation(one, packs, g_steps)["p"].verdicts
    *_, d = packs["p"]
    lineage = list(one.plan.entries[d].lineage)
    assert [step["g_step"] for step in lineage] == [20, 40, 60]
    one.driver.over("p", "killed")
    one.begin("p")
    for g_steps in (20, 40, 60):
        assert one.score("p", g_steps, {d: 9.0})["p"].verdicts == {d: told[g_steps][d]}
    assert one.plan.entries[d].lineage == lineage


def test_a_population_loses_no_member_but_the_one_under_which_workers_die(tmp_path: Path) -> None:
    """Its pack comes again whole at first, then in halves."""
    one = Sweeping(tmp_path, workers=3, **POPULATION)
    (a, b), (c, d) = one.begin("p"), one.begin("q")
    for attempt in range(WORKER_RETRIES):
        assert one.driver.over("p", "killed") == {}
        assert one.begin("p") == [a, b], attempt
    assert one.score("q", 20, {c: 1.0, d: 2.0}) == {}
    assert one.driver.over("p", "killed") == {}
    assert one.begin("r") == [a]
    assert one.score("r", 20, {a: 3.0}) == {}
    for attempt in range(WORKER_RETRIES):
        assert one.begin("s") == [b], attempt
        assert one.driver.over("s", "killed") == {}
    assert one.begin("s") == [b]
    assert one.states() == ["running"] * 4
    answers = one.driver.over("s", "killed")
    assert {name: set(answer.verdicts) for name, answer in answers.items()} == {
        "q": {c, d}, "r": {a},
    }  # they wait for the dead no longer  # fmt: skip
    assert one.states() == ["running", "failed", "running", "running"]
    assert one.plan.entries[b].reason == "the worker died: killed"
    assert one.begin("t") == []


def test_a_population_that_has_no_memory_together_trains_in_turns(tmp_path: Path) -> None:
    """In halves, of which one gives way to the other at each generation."""
    one = Sweeping(tmp_path, **POPULATION)
    everyone = one.begin("p")
    assert one.driver.hear("p", Broken("MemoryError: no more", out_of_memory=True)) == {}
    assert one.driver.over("p", "") == {}
    assert one.states() == ["running"] * 4
    a, b = one.begin("q")
    assert one.score("q", 10, {a: 1.0, b: 2.0})["q"].verdicts == {a: Continue(), b: Continue()}
    assert one.score("q", 20, {a: 1.0}) == {}  # b trains
    assert one.score("q", 20, {b: 2.0})["q"].verdicts == dict.fromkeys(
        (a, b), Interrupt(for_others=True)
    )
    for key in (a, b):
        answers = one.end("q", key, "interrupted", "interrupted at g_step 20", 20)
        assert answers == {"q": Answer(closed=1)}
    assert one.driver.over("q", "") == {}
    assert one.driver.stuck == ""
    assert one.states() == ["running"] * 4
    c, d = one.begin("r")
    assert sorted([a, b, c, d]) == sorted(everyone)
    assert one.score("r", 20, {c: 3.0}) == {}
    verdicts = one.score("r", 20, {d: 4.0})["r"].verdicts  # of all of them, a and b not there
    assert verdicts[c] == Continue()
    assert isinstance(verdicts[d], Exploit)
    assert one.score("r", 40, {c: 3.0}) == {}
    assert one.score("r", 40, {d: 0.5})["r"].verdicts == dict.fromkeys(
        (c, d), Interrupt(for_others=True)
    )
    for key in (c, d):
        one.end("r", key, "interrupted", "interrupted at g_step 40", 40)
    one.driver.over("r", "")
    assert one.begin("s") == [a, b]
    assert one.score("s", 20, {a: 1.0, b: 2.0})["s"].verdicts == {a: Continue(), b: Continue()}
    assert one.score("s", 40, {a: 1.0}) == {}
    verdicts = one.score("s", 40, {b: 2.0})["s"].verdicts
    assert verdicts == {a: Continue(), b: Continue()}
    for key in (a, b):
        one.end("s", key)
    one.driver.over("s", "")
    assert one.begin("t") == [c, d]
    assert isinstance(one.score("t", 40, {c: 3.0})["t"].verdicts[c], Exploit)


def test_halves_of_a_population_train_side_by_side_where_workers_are_free(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=3, resources={"pack": 2}, **POPULATION)
    (a, b), (c, d) = one.begin("p"), one.begin("q")
    assert one.score("q", 20, {c: 1.0, d: 2.0}) == {}
    one.driver.hear("p", Broken("MemoryError: no more", out_of_memory=True))
    one.driver.over("p", "")
    assert [one.begin("r"), one.begin("s")] == [[a], [b]]
    assert one.score("r", 20, {a: 3.0}) == {}
    assert set(one.score("s", 20, {b: 4.0})) == {"q", "r", "s"}


@pytest.mark.long
def test_a_population_in_turns_learns_what_it_would_together(tmp_path: Path) -> None:
    """Real workers, one at a time: the same lineages, the same weights."""
    seldom = {"log": {"every": 50}, "samples": {"every": 100}, "diagnosis": {"every": 0}}
    trial = tree("gan", "mlp", "ring8", budget={"g_steps": 100}, score={"every": 20}, **seldom)
    space = {"optimizer.lr": {"loguniform": [1e-4, 1e-1]}}
    file = {**POPULATION, "space": space, "trial": trial, "resources": {"engine": "interleaved"}}
    found = []
    for name in ("together", "in turns"):
        (tmp_path / name).mkdir()
        one = Sweeping(tmp_path / name, **file)
        if name == "in turns":
            one.begin("first")
            one.driver.hear("first", Broken("MemoryError: no more", out_of_memory=True))
            one.driver.over("first", "")
        packs = trained(one)
        assert len(packs) == (1 if name == "together" else 6)
        assert one.states() == ["completed"] * 4
        folders = [trial_folder(one.folder, trial.key) for trial in one.trials]
        states = [state(folder)["module"] for folder in folders]
        found.append(([one.plan.entries[t.key].lineage for t in one.trials], states))
    (lineages, states), (also, theirs) = found
    assert lineages == also
    assert any(lineages)
    assert equal(states, theirs)


def trained(one: Sweeping) -> list[PackAssigned]:
    """All packs that a driver of one worker gives, trained one after the other."""
    packs: list[PackAssigned] = []
    while pack := one.driver.begin(name := f"pack {len(packs)}"):
        packs.append(pack)
        worker, over = Worker(pack), False
        while not over:
            over = worker.over
            for message in worker.take(0.05):
                for other, answer in one.driver.hear(name, message).items():
                    assert other == name
                    worker.answer(answer)
        one.driver.over(name, "")
        assert len(packs) < 20
    return packs


def test_the_end_of_one_lets_a_generation_go_on(tmp_path: Path) -> None:
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    (a, b), (c, d) = one.begin("p"), one.begin("q")
    assert one.score("p", 20, {a: 1.0, b: 2.0}) == {}
    assert one.score("q", 20, {c: 3.0}) == {}
    answers = one.end("q", d, "failed", "its network broke", g_steps=15)
    assert set(answers["p"].verdicts) == {a, b}
    assert set(answers["q"].verdicts) == {c}
    assert answers["q"].closed == 1


def test_a_population_does_not_wait_for_a_member_that_was_put_aside(tmp_path: Path) -> None:
    """Its node has lost the store, say: another time all of them go on."""
    one = Sweeping(tmp_path, workers=2, **POPULATION)
    (a, b), _ = one.begin("p"), one.begin("q")
    assert one.end("p", a, "interrupted", "the store is away", 15) == {"p": Answer(closed=1)}
    assert one.driver.stuck == f"{one.plan.entries[a].name}: the store is away"
    asked = Sweeping(tmp_path, **POPULATION)
    asked.begin("p")
    asked.driver.put_aside("interrupted")
    asked.end("p", b, "interrupted", "interrupted at g_step 7", 7)
    assert asked.driver.stuck == ""
    alone = Sweeping(tmp_path, resources={"pack": 1})
    (key,) = alone.begin("p")
    alone.end("p", key, "interrupted", "the store is away", 7)
    assert alone.driver.stuck == ""  # nobody waits for it


def test_what_is_wrong_with_a_trial_reaches_the_plan(tmp_path: Path) -> None:
    """From its reports while it trains, from its result at the end; it may recover."""
    one = Sweeping(tmp_path, workers=1)
    one.driver.begin("p")
    key = one.trials[0].key
    entry = one.plan.entries[key]
    for diagnosis in ("mode_collapse", "", "no_progress"):
        progress = Progress(10, 100, 1.0, {}, False, diagnosis=diagnosis)
        one.driver.hear("p", Report({key: progress}))
        assert entry.diagnosis == diagnosis
    result = TrialResult("stopped", "why", 20, 2.0, {}, diagnosis="clip_saturated")
    one.driver.hear("p", Ended(key, result))
    assert (entry.state, entry.diagnosis) == ("stopped", "clip_saturated")
    assert Plan.load(one.plan.path, "small").entries[key].diagnosis == "clip_saturated"


# --- what it costs, as counts


@pytest.mark.parametrize("search", [None, ASHA])
def test_a_change_is_saved_alone_and_what_ended_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: Any
) -> None:
    clips = {"model.clip": {"grid": [0.01 * (place + 1) for place in range(40)]}}
    one = Sweeping(tmp_path, space=clips, workers=4, resources={"pack": 2}, search=search)
    saved: list[int] = []
    real = one.plan.save

    def counted(*changed: Any) -> None:
        saved.append(len(changed))
        real(*changed)

    monkeypatch.setattr(one.plan, "save", counted)
    events = run_simulated(one.driver, workers=4)
    assert set(saved) == {1, 2}
    assert sum(saved) == 2 * 40  # as each began, and as it ended
    assert len(one.plan.entries) == 40
    assert set(one.states()) <= {"completed", "stopped"}
    assert (one.driver._trials, one.driver._places, one.driver._packs) == ({}, {}, {})
    assert sorted(one.courier.released) == sorted(keys(one.trials))
    assert events.count <= 40 * 12
    assert one.states().count("stopped") > 5 if search else "stopped" not in one.states()
    one.driver.settle()
    assert saved[-1] == 0  # all of it
    assert all(statuses[-1] == "FINISHED" for statuses in one.store.statuses.values())


def test_the_plan_keeps_the_own_code_that_a_trial_began_with(tmp_path: Path) -> None:
    own = {**TRIAL, "network": {"name": "own_parts:Fragile"}}
    sweeping = Sweeping(tmp_path, trial=own)
    sweeping.begin("p")
    kept = {
        entry.code for entry in Plan.load(sweeping.plan.path, sweeping.sweep.name).entries.values()
    }
    assert kept == {sweeping.trials[0].config.own_code}
    assert kept != {""}
