"""The driver's side of a sweep: runs are made, the plan is kept, every status is settled."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from gansweep.engines import Choice
from gansweep.errors import in_one_line
from gansweep.excerpt import beginning
from gansweep.memory import GB, OUT_OF_MEMORY, Ceiling
from gansweep.metrics.fingerprint import from_tags
from gansweep.progress import Exploit, Interrupt, TrialResult, Verdict
from gansweep.sweep.board import Board
from gansweep.sweep.cards import Anywhere, Room
from gansweep.sweep.file import Sweep
from gansweep.sweep.files import JOURNAL_FILE, PACES_FILE, SPENT_FILE
from gansweep.sweep.judge import Judge, comparison_basis
from gansweep.sweep.pace import Pace, add_paces, pace_of
from gansweep.sweep.packing import fair_share, largest, pack_size
from gansweep.sweep.params import flatten, settings_text, tree_params
from gansweep.sweep.plan import Entry, Plan, trial_folder, trials_folder
from gansweep.sweep.proposals import Proposals
from gansweep.sweep.schedulers import base as schedulers
from gansweep.sweep.schedulers.catalogue import make_scheduler
from gansweep.sweep.schedulers.pbt import generation_interval
from gansweep.sweep.settle import settle_run
from gansweep.sweep.space import apply
from gansweep.sweep.spending import Spending
from gansweep.sweep.trials import Trial
from gansweep.sweep.tune import Driver
from gansweep.sweep.worker import Answer, Assigned, Broken, Ended, Message, PackAssigned, Report
from gansweep.tracking.mlflow import (
    Backlog,
    Courier,
    MlflowStore,
    TrialRecord,
    is_refusal,
    reason,
)
from gansweep.tracking.spool import spools

log = logging.getLogger("gansweep")

WORKER_RETRIES = 2
"""How often a trial whose worker process died under it alone, and before another checkpoint, is
taken up again; and a pack of a population as it is, before its trials go on in smaller ones."""

STORE_PATIENCE_SECONDS = 600.0
"""How long new trials wait for a store that is away; those in training wait for nothing."""

STORE_RETRY_SECONDS = 5.0
"""Between two looks whether it is back."""

INTERRUPTED_DRAIN_SECONDS = 15.0
"""How long an interrupted sweep delivers; the next command brings the rest."""


@final
@dataclass
class _Packed:
    """A pack in training: its places, and the keys of the trials in them.

    stacked: whether it trains as a stack; None while that is not known.
    gpus: what it takes of them. times: how often that is the usual share; comes_again: whether
    there is more to be had. gives_way: whether it leaves its worker to others that a population
    waits for; left: the keys of those that have.
    """

    shape: str
    size: int
    keys: set[str]
    stacked: bool | None = None
    gpus: float = 0.0
    times: int = 1
    comes_again: bool = False
    gives_way: bool = False
    left: list[str] = field(default_factory=list)


@final
class SweepDriver(Driver):
    """Keeps plan, board, scheduler and MLflow in step with the workers.

    workers_deliver: each worker brings its records into MLflow itself, since its disk may be its
    own; else `courier` does, which delivers what a worker left as well. spending: hears of each
    worker's GPUs; once all is spent, nothing begins.
    place: where the folder of a trial is for good, by its key: a path or a URL.
    """

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        board: Board,
        store: MlflowStore,
        proposals: Proposals,
        courier: Courier,
        *,
        workers_deliver: bool,
        experiment: str,
        parent: str,
        folder: Path,
        place: Callable[[str], str],
        tags: Mapping[str, str],
        advice: Mapping[str, list[str]],
        budget: int,
        spending: Spending | None = None,
        room: Room | None = None,
    ) -> None:
        """`room` is where workers are placed; None: wherever they have what the file says."""
        own = sweep.resources
        self._room = room or Anywhere(own, workers=board.workers, most=largest(own))
        self._sweep = sweep
        self._plan = plan
        self._board = board
        self._store = store
        self._proposals = proposals
        self._courier = courier
        self._spending = spending or Spending(folder / SPENT_FILE, sweep.limits)
        self._paces: dict[str, Pace] = defaultdict(Pace)
        self._workers_deliver = workers_deliver
        self._experiment = experiment
        self._parent = parent
        self._folder = folder
        self._place = place
        self._tags = tags
        self._advice = advice
        self._begun: dict[str, None] = {}  # keys, in their order
        self._trials: dict[str, Trial] = {}  # of those that have not ended
        self._places: dict[str, str] = {}  # the pack where a trial trains, by its key
        self._resting: dict[str, int] = {}  # where a trial waits for a verdict, by its key
        self._packs: dict[str, _Packed] = {}
        self._compiled: set[str] = set()  # shapes whose steps in turns have been compiled
        self._returned: deque[tuple[Trial, int]] = deque()  # with the size of their next pack
        self._deaths: dict[str, int] = defaultdict(int)
        self._died_at: dict[str, int] = {}  # the most g_steps at a death, by key
        search = sweep.search
        scheduler = make_scheduler(search, budget, space=sweep.space)
        self._scheduler = Judge(scheduler, folder / JOURNAL_FILE, basis=comparison_basis(sweep))
        self._generation = generation_interval(search, budget) if search.scheduler == "pbt" else 0
        self._population: set[str] = set()
        self._stops = search.scheduler in ("asha", "median")
        self._one_ended = False
        self._away_since: float | None = None  # by the monotonic clock
        self._ask_again_at = 0.0
        self.trouble = ""
        self.stuck = ""
        """Why the population is to be put aside: a member that all would wait for has been."""
        self.interrupted = False
        self._stop_reason = "interrupted"
        self.backlog = Backlog()
        """What could not be delivered by the time that all was settled."""

    def put_aside(self, reason: str) -> None:
        """The workers end, for `reason`; their trials are to go on later."""
        self.interrupted, self._stop_reason = True, reason

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it is given; nobody reads it, the plan is the durable state

    @property
    def busy(self) -> bool:
        # What comes again does not where nothing begins any more: Tune would wait for it.
        return bool(self._packs or (self._returned and not self._ends))

    def begin(self, pack: str) -> PackAssigned | None:
        if self._begins_nothing:
            return None
        try:
            trials, size = self._next()
        except Exception as error:  # the trials that run are not to end for it
            self._in_trouble(error)
            return None
        assigned = self._assign_all(trials, size)
        if not assigned:
            return None
        times = self._times(trials[0])
        takes = self._room.place(pack, times=times)
        packed = self._packs[pack] = _Packed(
            shape=trials[0].config.shape,
            size=size,
            keys={trial.key for trial in trials},
            gpus=takes.gpu * takes.processes,
            times=times,
            comes_again=size == 1 and self._grows(times),
        )
        self._places.update((trial.key, pack) for trial in trials)
        self._save(*(self._plan.entries[trial.key] for trial in trials))
        self._board.message = ""
        return PackAssigned(
            assigned,
            engine=self._sweep.resources.engine,
            waits=self._scheduler.waits,
            compiled=packed.shape in self._compiled,
            delivers=self._workers_deliver,
            ceiling=self._ceiling(len(assigned), times),
            takes=takes,
            comes_again=packed.comes_again,
            workers=self._board.workers,
        )

    def _ceiling(self, trials: int, times: int) -> Ceiling:
        """On the memory of a pack: each of its trials may take as much as one alone."""
        each = self._sweep.resources
        return Ceiling(
            host=each.memory_gb and trials * each.memory_gb * GB,
            gpu=each.gpu_memory_gb and times * trials * each.gpu_memory_gb * GB,
        )

    def _times(self, trial: Trial) -> int:
        """How often `trial` takes the usual share of a GPU."""
        entry = self._plan.entries.get(trial.key)
        return entry.gpu_times if entry else 1

    def _grows(self, times: int) -> bool:
        """Whether what runs out of memory with so many times the share is tried with more.

        Not the members of a population: one that waited for a larger share would stop them all.
        """
        retries = self._sweep.resources.gpu_memory_retries
        return times < 2**retries and not self._population and self._room.grows(times)

    @property
    def _begins_nothing(self) -> bool:
        """Whether no trial is to begin: at all, or until the store is asked again."""
        return self._ends or time.monotonic() < self._ask_again_at

    @property
    def _ends(self) -> bool:
        """Whether no trial is to begin at all."""
        return bool(self.trouble or self.interrupted or self._spending.spent)

    def _in_trouble(self, error: Exception) -> None:
        log.error("a trial could not be begun", exc_info=error)
        self.trouble = f"a trial could not be begun: {in_one_line(error)}"

    def _assign_all(self, trials: Sequence[Trial], size: int) -> tuple[Assigned, ...]:
        """What a worker is told of the trials, for a pack of `size`; nothing where none can begin.

        While the store is away, they come again, and those in training go on meanwhile.
        """
        try:
            assigned = tuple(self._assign(trial) for trial in trials)
        except Exception as error:
            now = time.monotonic()
            since = self._away_since = self._away_since or now
            if is_refusal(error) or now - since > STORE_PATIENCE_SECONDS:
                self._in_trouble(error)
                return ()
            self._ask_again_at = now + STORE_RETRY_SECONDS
            self._returned.extendleft((trial, size) for trial in reversed(trials))
            words = in_one_line(error)
            self._board.message = f"new trials wait for MLflow ({beginning(words, 100)})"
            log.warning("new trials wait for MLflow: %s", words)
            return ()
        self._away_since = None
        return assigned

    def _next(self) -> tuple[list[Trial], int]:
        """The trials of the next pack, and how many places it has."""
        if self._generation and not self._population:
            self._gather_population()
        if self._returned:
            first, size = self._returned[0]
            taken = [
                trial
                for trial, most in self._returned
                if most == size
                and trial.config.shape == first.config.shape
                and self._times(trial) == self._times(first)
            ][:size]
            keys = {trial.key for trial in taken}
            self._returned = deque(e for e in self._returned if e[0].key not in keys)
            return taken, size
        waiting = self._proposals.waiting
        size = pack_size(
            self._sweep.resources,
            self._sweep.search,
            waiting=waiting,
            total=self._proposals.total,
            workers=self._board.workers,
            others=self._others() if self._are_few(waiting, self._room.most) else None,
            alike=0 if self._stops else self._proposals.alike,
            most=self._room.most,
        )
        taken = self._usual(self._proposals.take(size))
        if not taken and self._returned:
            return self._next()
        return taken, len(taken)

    def _are_few(self, waiting: int, size: int) -> bool:
        """Whether a worker's share of the trials that wait depends on what the others have to do.

        Else each has work for `size` trials in any case, and nobody looks at all that train. Trials
        that a scheduler may stop do not say what they have to go: what waits is shared out alone.
        """
        if self._stops and self._one_ended:
            return False
        return 0 < waiting < self._board.workers * size

    def _others(self, than: _Packed | None = None) -> list[float]:
        """How many trials' worth of work each worker has but the one of `than`, or a new one."""
        packs = (packed for packed in self._packs.values() if packed is not than)
        loads = [self._board.work_left(packed.keys) for packed in packs]
        return loads + [0.0] * (self._board.workers - 1 - len(loads))

    def _usual(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those that take the usual share of a GPU; the others come later, each alone."""
        self._returned.extend((trial, 1) for trial in trials if self._times(trial) > 1)
        return [trial for trial in trials if self._times(trial) == 1]

    def _gather_population(self) -> None:
        """All members are known to the scheduler before the first one reports."""
        members = self._proposals.take(self._proposals.waiting)
        size = pack_size(
            self._sweep.resources,
            self._sweep.search,
            waiting=len(members),
            total=len(members),
            workers=self._board.workers,
            most=self._room.most,
        )
        for member in members:
            self._scheduler.begin(member.key, self._swept(self._plan.add(member)))
            self._returned.append((member, size))
            self._population.add(member.key)
        self._scheduler.forget_all_but(self._population)

    def _assign(self, trial: Trial) -> Assigned:
        """Make the trial's run, and say what a worker is told of it."""
        entry = self._plan.add(trial)
        self._begun[trial.key] = None
        self._trials[trial.key] = trial
        tags = {
            **self._tags,
            "seed": str(trial.seed),
            "point": json.dumps(trial.point),
            "recipe": trial.config.recipe,
            "state": "waiting",
            "reason": "",
        }
        if entry.gpu_times > 1:
            tags["gpu_times"] = str(entry.gpu_times)
        if self._advice.get(trial.key):
            tags["warning"] = "; ".join(self._advice[trial.key])
        tree = trial.config.to_dict()
        entry.run_id = self._store.trial_run(
            self._experiment,
            self._parent,
            trial.key,
            trial.name,
            tree_params(tree, trial.point),
            tags,
        )
        self._store.log_text(entry.run_id, settings_text(tree), "config.yaml")
        folder = trial_folder(self._folder, trial.key)
        if self._workers_deliver:
            self._courier.forget(folder)  # which may lie there from an earlier run
        else:
            self._courier.add(entry.run_id, folder)
        entry.state, entry.reason, entry.code = "running", "", trial.config.own_code
        self._board.began(trial.key)
        if trial.key not in self._population:
            self._scheduler.begin(trial.key, self._swept(entry))
        return Assigned(
            key=trial.key,
            tree=tree,
            run_id=entry.run_id,
            uri=self._store.uri if self._workers_deliver else "",
            folder=self._place(trial.key),
            generation=self._generation,
        )

    def hear(self, pack: str, message: Message) -> dict[str, Answer]:
        self._spending.occupy(pack, self._packs[pack].gpus)
        answers = self._heard(pack, message)
        if self._population and self._returned:
            self._make_way(answers)
        return answers

    def _heard(self, pack: str, message: Message) -> dict[str, Answer]:
        match message:
            case Report():
                return self._reported(message)
            case Ended():
                return self._ended(pack, message)
            case Choice():
                packed = self._packs[pack]
                packed.stacked = message.stacked
                if message.compiled and not message.stacked:
                    self._compiled.add(packed.shape)
                self._board.note(f"packs of {packed.size}: {message}")
            case Broken():
                more = message.out_of_memory and self._packs[pack].comes_again
                return self._broken(
                    pack, message.reason, out_of_memory=message.out_of_memory, with_more=more
                )
        return {}

    def over(self, pack: str, reason: str) -> dict[str, Answer]:
        self._spending.release(pack)
        answers: dict[str, Answer] = {}
        try:
            if self._packs[pack].keys:  # else every trial of it has ended
                # Ray ends a worker for what all on its machine take: others may have taken it.
                crowded = reason.startswith(OUT_OF_MEMORY)
                if not crowded:
                    reason = f"the worker died: {reason}" if reason else "it ended early"
                answers = self._broken(
                    pack, reason, out_of_memory=crowded and len(self._packs) == 1
                )
        finally:  # else nobody would know that all is over
            packed = self._packs.pop(pack)
            self._returned.extend((self._trials[key], packed.size) for key in packed.left)
            self._room.leave(pack)
        return answers

    def _reported(self, message: Report) -> dict[str, Answer]:
        decisions: schedulers.Answers = []
        for key, progress in message.progress.items():
            entry = self._plan.entries[key]
            self._board.progress(key, progress.done, progress.seconds)
            entry.g_steps, entry.seconds = progress.g_steps, progress.seconds
            entry.metrics.update(_storable(progress.metrics))
            entry.fingerprints.update(progress.fingerprints)
            entry.diagnosis = progress.diagnosis
            if progress.scored and progress.g_steps < progress.budget:
                self._resting[key] = progress.g_steps
                objective = self._objective(progress.metrics)
                decisions += self._scheduler.report(key, progress.g_steps, objective)
        return self._answers(decisions)

    def _ended(self, pack: str, message: Ended) -> dict[str, Answer]:
        entry, result = self._plan.entries[message.key], message.result
        if result.g_steps > entry.g_steps:
            self._board.progress(entry.key, result.g_steps, result.seconds)
        if result.g_steps:
            entry.g_steps, entry.seconds = result.g_steps, result.seconds
        entry.metrics.update(_storable(result.metrics))
        entry.fingerprints.update(result.fingerprints)
        entry.diagnosis = result.diagnosis
        packed = self._packs[pack]
        packed.keys.discard(entry.key)
        self._leave(entry.key)
        if packed.gives_way and result.state == "interrupted" and not self.interrupted:
            packed.left.append(entry.key)  # its record is the worker's until that has ended
            return {pack: Answer(closed=1)}
        self._learn_pace(result, self._trials[entry.key])
        self._settle_entry(entry, result.state, result.reason)
        over = result.state != "interrupted"
        if not over and entry.key in self._population and not self.interrupted:
            self.stuck = f"{entry.name}: {result.reason}"
        answers = self._answers(self._scheduler.ended(entry.key) if over else [])
        own = answers.setdefault(pack, Answer())
        refill = self._refill(pack, packed)
        if refill:
            own.refills.append(refill)
        else:
            own.closed += 1
        return answers

    def _refill(self, pack: str, packed: _Packed) -> Assigned | None:
        """A waiting trial for a free place, unless the other workers are to have those that wait.

        A stack takes it in any case: its places cost the same without one.
        """
        if self._begins_nothing:
            return None
        if packed.stacked is False and not self._shares_in_the_rest(packed):
            return None
        try:
            trials = self._usual(self._proposals.take(1, shape=packed.shape))
        except Exception as error:
            self._in_trouble(error)
            return None
        for assigned in self._assign_all(trials, packed.size):
            packed.keys.add(assigned.key)
            self._places[assigned.key] = pack
            self._save(self._plan.entries[assigned.key])
            return assigned
        return None

    def _shares_in_the_rest(self, packed: _Packed) -> bool:
        waiting = self._proposals.waiting
        if not self._are_few(waiting, packed.size):
            return True
        own = self._board.work_left(packed.keys)
        return fair_share(waiting + len(self._returned), self._others(packed), own=own) > 0

    def _broken(
        self, pack: str, reason: str, *, out_of_memory: bool, with_more: bool = False
    ) -> dict[str, Answer]:
        """Its trials go on from their checkpoints in packs of half the size, or have failed.

        Those of a population first go on together, but for want of memory: more packs than workers
        have to give way to each other. out_of_memory: with as many trials it would break again.
        with_more: of a GPU's, of which its trial is to have twice as much.
        """
        packed = self._packs[pack]
        keys, packed.keys = packed.keys, set()
        for key in keys:
            self._leave(key)
        if self.interrupted:  # `settle` says how its trials stand
            return {}
        decisions: schedulers.Answers = []
        trials = [trial for key, trial in self._trials.items() if key in keys]  # in their order
        short = out_of_memory or reason.startswith(OUT_OF_MEMORY)
        together = bool(self._population) and packed.size > 1 and not short
        together = together and all(self._may_die_again(trial) for trial in trials)
        for trial in trials:
            key, entry = trial.key, self._plan.entries[trial.key]
            if together:
                self._returned.append((trial, packed.size))
                continue
            if packed.size > 1:
                log.warning("%s: %s; it goes on in a smaller pack", entry.name, reason)
                self._returned.append((trial, packed.size // 2))
                self._deaths.pop(key, None)  # one alone is to blame, or others are
                continue
            if with_more:
                entry.gpu_times = 2 * packed.times
                log.warning(
                    "%s: %s; it goes on with %d times the share",
                    entry.name,
                    reason,
                    entry.gpu_times,
                )
                self._returned.append((trial, 1))
                continue
            if self._may_die_again(trial) and not out_of_memory:
                self._returned.append((trial, 1))
                continue
            decisions += self._scheduler.ended(key)
            if out_of_memory and not reason.startswith(OUT_OF_MEMORY):
                reason = f"{OUT_OF_MEMORY}: {reason}"
            self._settle_entry(entry, "failed", reason)
        return self._answers(decisions)

    def _may_die_again(self, trial: Trial) -> bool:
        """Count the death of a worker under it; whether as many are too few to blame it.

        Those before its last checkpoint do not count any more.
        """
        g_steps, furthest = self._plan.entries[trial.key].g_steps, self._died_at.get(trial.key, 0)
        if g_steps >= furthest + trial.config.checkpoint.every:
            self._deaths[trial.key] = 0
        self._deaths[trial.key] += 1
        self._died_at[trial.key] = max(furthest, g_steps)
        return self._deaths[trial.key] <= WORKER_RETRIES

    def _make_way(self, answers: dict[str, Answer]) -> None:
        """A pack whose members all wait for others that no worker trains leaves its worker to them.

        They go on from the generation's checkpoints once a worker is free again.
        """
        at_work = [packed for packed in self._packs.values() if packed.keys or packed.left]
        if len(at_work) < self._board.workers or any(packed.gives_way for packed in at_work):
            return
        behind = min(self._plan.entries[trial.key].g_steps for trial, _ in self._returned)
        for name, packed in self._packs.items():
            if not packed.keys or not packed.keys <= self._resting.keys():
                continue
            if behind < min(self._resting[key] for key in packed.keys):
                packed.gives_way = True
                told = answers.setdefault(name, Answer()).verdicts
                for key in packed.keys:
                    del self._resting[key]  # what is decided meanwhile it hears when it goes on
                    told[key] = Interrupt(for_others=True)
                return

    def _leave(self, key: str) -> None:
        """A trial is in no pack any more."""
        self._places.pop(key, None)
        self._resting.pop(key, None)

    def _answers(self, decisions: schedulers.Answers) -> dict[str, Answer]:
        """Decisions as answers to the packs where their trials rest.

        Who has gone back to an earlier checkpoint meanwhile comes by the same score, and the same
        decision, again.
        """
        answers: dict[str, Answer] = {}
        for key, decision in decisions:
            rests_at = self._resting.get(key)
            if rests_at is None:
                continue
            if isinstance(decision, schedulers.Inherit) and decision.g_step != rests_at:
                continue
            del self._resting[key]
            answer = answers.setdefault(self._places[key], Answer())
            answer.verdicts[key] = self._verdict(key, decision)
        return answers

    def _verdict(self, key: str, decision: schedulers.Decision) -> Verdict:
        match decision:
            case schedulers.Inherit():
                entry = self._plan.entries[key]
                before = [each for each in entry.lineage if each["g_step"] < decision.g_step]
                step = {
                    "g_step": decision.g_step,
                    "from": decision.donor,
                    "settings": dict(decision.settings),
                }
                entry.lineage = [*before, step]  # it may come by it again, and by later ones
                self._save(entry)
                tags = {
                    "lineage": json.dumps(entry.lineage),
                    "donor": self._plan.entries[decision.donor].run_id,
                }
                try:
                    self._store.set_tags(entry.run_id, tags)
                except Exception:  # the trial waits for its verdict; `settle_run` tells of it again
                    log.exception("the lineage of %s could not be recorded", entry.name)
                return Exploit(
                    decision.donor,
                    self._place(decision.donor),
                    apply(self._sweep.trial, {**self._swept(entry), "seed": entry.seed}),
                )
        return decision

    def _swept(self, entry: Entry) -> dict[str, Any]:
        """The swept settings of a trial now: its point's, but for what it explored."""
        settings = flatten(entry.point)
        for step in entry.lineage:
            settings.update(step["settings"])
        return settings

    def _learn_pace(self, result: TrialResult, trial: Trial) -> None:
        if result.state in ("completed", "stopped") and result.g_steps:
            name = pace_of(trial.config, on_gpu=self._sweep.resources.on_gpu)
            self._paces[name] += Pace(1, result.g_steps, result.seconds)

    def _objective(self, metrics: Mapping[str, float]) -> float:
        """The swept metric as schedulers need it: finite, the worst where it is not."""
        value = metrics.get(self._sweep.search.metric)
        if value is None or not math.isfinite(value):
            return schedulers.WORST if self._sweep.search.mode == "min" else -schedulers.WORST
        return float(value)

    def _settle_entry(self, entry: Entry, state: Any, reason: str) -> None:
        entry.state, entry.reason = state, reason
        self._one_ended = True
        self._save(entry)
        self._proposals.tell(self._trials.pop(entry.key), entry)
        if not self._workers_deliver:
            self._courier.release(trial_folder(self._folder, entry.key))

    def settle(self, unread: str = "") -> None:
        """After the workers are gone: every run begun gets the status that its trial ended with.

        First of all, what the trials recorded is delivered. Where the store is away, the plan alone
        is settled; who delivers the rest settles the runs. unread: why records that may be there
        are not in the sweep's folder, if it is so.
        """
        try:
            for folder in spools(trials_folder(self._folder)):
                if folder.name in self._begun:
                    self._courier.add(self._plan.entries[folder.name].run_id, folder)
        except OSError as error:
            log.exception("not all records could be looked at")
            unread = unread or reason(error)
        try:
            self.backlog = self._courier.drain(
                within_s=INTERRUPTED_DRAIN_SECONDS if self.interrupted else math.inf
            )
        except KeyboardInterrupt:  # someone has waited for long enough
            self.backlog = self._courier.backlog()
        if unread:
            self.backlog = self.backlog.beside(1, unread)
        reachable = not self.backlog.is_something
        open_ones = [key for key in self._begun if self._plan.entries[key].state == "running"]
        told = self._told() if open_ones and reachable else {}
        for key in self._begun:
            entry = self._plan.entries[key]
            if entry.state == "running":
                record = told.get(key)
                told_steps = int(record.tags.get("g_steps", 0)) if record else 0
                if record and told_steps > entry.g_steps:  # it went on after its last report
                    entry.g_steps = told_steps
                    entry.metrics.update(_storable(record.metrics))
                    entry.fingerprints.update(from_tags(record.tags))
                entry.state = "interrupted"
                entry.reason = f"{self._stop_reason} at g_step {entry.g_steps}"
            if reachable:
                settle_run(self._store, entry)
        size = self._plan.size
        self._plan.mean(self._proposals.keys, unlisted=self._proposals.unlisted)
        self._plan.size = min(size, self._plan.size)
        try:
            self._plan.save()
        except OSError as error:
            self.trouble = self.trouble or f"the plan is not on the disk: {error}"
        add_paces(self._folder / PACES_FILE, self._paces)

    def _save(self, *changed: Entry) -> None:
        """Write what of the plan has changed; where the disk is full, the next time writes it."""
        try:
            self._plan.save(*changed)
        except OSError as error:
            log.warning("the plan is not on the disk: %s", error)

    def _told(self) -> dict[str, TrialRecord]:
        """What the workers themselves recorded of their trials last, by trial key."""
        try:
            return {record.key: record for record in self._store.trials(self._sweep.name)}
        except Exception:
            log.exception("the trials' own record could not be read")
            return {}


def _storable(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
