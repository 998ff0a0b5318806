"""A worker's side of a sweep: one pack trains in a thread, with a mailbox each way. No Ray."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import queue
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from gansweep.config import resolved
from gansweep.counting import counted
from gansweep.engines import Choice, EngineName
from gansweep.errors import in_one_line, is_full_disk
from gansweep.memory import Ceiling, gpu_ran_out, ran_out
from gansweep.modules.ranks import LostRankError, Ranks
from gansweep.pack import Pack
from gansweep.progress import Exploit, Interrupt, Progress, State, TrialResult, Verdict
from gansweep.redaction import redact
from gansweep.replica import Job
from gansweep.storage import Bucket, Copy, Mirror, StorageError, is_url
from gansweep.sweep.cards import Takes
from gansweep.sweep.trial_copy import trial_copy
from gansweep.tracking.spool import SpoolTracker
from gansweep.trial_files import GENERATION

if TYPE_CHECKING:
    from gansweep.sweep.team import Team
    from gansweep.tracking.mlflow import Courier

log = logging.getLogger("gansweep")


@final
@dataclass(frozen=True)
class Assigned:
    """What a worker is told of one trial; `tree` are its settings.

    uri: of the tracking store, where the worker delivers. folder: the trial's, or its URL.
    """

    key: str
    tree: Mapping[str, Any]
    run_id: str
    uri: str = field(repr=False)  # it may hold a password
    folder: str
    generation: int = 0


@final
@dataclass(frozen=True)
class PackAssigned:
    """What a worker is told of its pack.

    compiled: whether steps in turns of their shape have been compiled.
    waits: whether trials rest after each score until a scheduler's verdict comes.
    delivers: whether the worker's process brings its records into MLflow; else the driver does.
    ceiling: on the memory of all of them together. takes: of the cluster.
    comes_again: whether a trial that runs out of a GPU's memory alone is tried with more.
    workers: how many there are; the more, the more seldom each of them speaks unasked.
    """

    trials: tuple[Assigned, ...]
    engine: EngineName
    waits: bool
    compiled: bool = False
    delivers: bool = False
    ceiling: Ceiling = field(default_factory=Ceiling)
    takes: Takes = field(default_factory=Takes)
    comes_again: bool = False
    workers: int = 1


@final
@dataclass(frozen=True)
class Ended:
    """A trial is over; an `Answer` fills its place or closes it."""

    key: str
    result: TrialResult


@final
@dataclass(frozen=True)
class Broken:
    """What is common to the pack broke; its trials stand as their checkpoints do.

    out_of_memory: so few of them might not.
    """

    reason: str
    out_of_memory: bool = False


@final
@dataclass(frozen=True)
class Report:
    """How trials stand, by trial key."""

    progress: Mapping[str, Progress]


Message = Report | Ended | Choice | Broken


@final
@dataclass
class Answer:
    """What the driver says to a pack.

    verdicts: by trial key; refills: trials for free places; closed: how many places stay empty.
    """

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    refills: list[Assigned] = field(default_factory=list)
    closed: int = 0


@final
class Worker:
    """Trains one pack in a thread. It is the conductor of that pack."""

    def __init__(self, pack: PackAssigned, team: Team | None = None) -> None:
        """`team` are the processes that train each trial along with this one."""
        self._assigned = pack
        self._team = team
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._urgent = threading.Event()  # among them are some that should not wait
        self.over = False
        """Whether the pack has ended; messages may be left."""
        self._changed = threading.Condition()
        self._answer = Answer()
        self._open = 0  # places of ended trials of which the driver has not spoken yet
        self._keys = {trial.key for trial in pack.trials}
        self._delivered: dict[str, tuple[str, Path]] = {}  # by key: to which store, from where
        self._copies: dict[str, Copy] = {}  # of the trials whose folders are in an object store
        self._generation = pack.trials[0].generation
        self._interrupted = False
        self._thread = threading.Thread(target=self._train, name="pack", daemon=True)
        self._thread.start()

    def take(self, seconds: float) -> list[Message]:
        """The messages since the last call, after at most `seconds` of waiting for an urgent one.

        Reports that no trial waits to hear about are not: each call is an event for the driver.
        """
        if not self.over:
            self._urgent.wait(seconds)
            self._urgent.clear()
        messages: list[Message] = []
        with contextlib.suppress(queue.Empty):
            while True:
                messages.append(self._messages.get_nowait())
        return messages

    def answer(self, answer: Answer) -> None:
        """The driver's answer to messages; it may come in parts."""
        with self._changed:
            self._answer.verdicts.update(answer.verdicts)
            self._answer.refills.extend(answer.refills)
            self._open -= answer.closed
            self._changed.notify_all()

    def interrupt(self) -> None:
        """Let all trials write their checkpoints and end; waits until they have."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()
        self._thread.join()

    def _train(self) -> None:
        use_cores()
        broken: Broken | None = None
        try:
            jobs = [job for job in map(self._job, self._assigned.trials) if job]
            while jobs:
                jobs = self._fit(jobs)
                gc.collect()  # a pack and its tensors are a circle
        except BaseException as error:
            log.exception("the pack broke")
            broken = Broken(in_one_line(error), ran_out(error))
        if broken:
            gc.collect()  # only now are the error's frames gone, which held the pack
        try:
            if self._assigned.delivers:
                self._deliver()
            self._leave_copies()
        finally:
            if broken:  # now others may take its trials up
                self._say(broken)
            self.over = True
            self._urgent.set()

    def _leave_copies(self) -> None:
        """Nothing of the trials is on this machine alone, nor here any more."""
        for copy in self._copies.values():
            _mirror().drop(copy)
        try:
            for copy in self._copies.values():
                copy.settle()  # its record was delivered
                copy.clear()
        except OSError as error:
            log.warning("its trials go on from what the store has: %s", error)

    def _fit(self, jobs: list[Job]) -> list[Job]:
        """Train them; where a trial ran out of memory all alone, the one that follows it."""
        own, pack = self._assigned, None
        try:
            with own.ceiling.held(), self._together(jobs[0]) as ranks:
                pack = Pack(
                    jobs,
                    self,
                    engine=own.engine,
                    compiled=own.compiled,
                    comes_again=own.comes_again,
                    ranks=ranks,
                )
                pack.fit()
            return []
        except Exception as error:
            if pack is None or not self._fails(error):
                raise
            pack.fail(error)
        following = self.refill(wait=True)
        return [following] if following else []

    def _fails(self, error: Exception) -> bool:
        """Whether a trial has failed where its pack raised this: another time would be no better.

        What several processes did together is over with any error, and is no more than one trial's.
        """
        own = self._assigned
        if len(own.trials) > 1 or isinstance(error, LostRankError):
            return False
        if own.comes_again and gpu_ran_out(error):
            return False
        return self._team is not None or ran_out(error)

    def _together(self, job: Job) -> AbstractContextManager[Ranks | None]:
        """This process with those of its team, where it has one."""
        if self._team is None:
            return contextlib.nullcontext()
        return self._team.together(device=job.config.run.device, ceiling=self._assigned.ceiling)

    def _deliver(self) -> None:
        """Let the records arrive: nobody else may see this machine's disk.

        Those of trials that have not ended are left to the process that goes on with them, which
        may be another: one alone delivers a spool at a time. So are all whose folders go from here.
        """
        for uri in {trial.uri for trial in self._assigned.trials}:
            left = _courier(uri).drain()
            if left.is_something:
                one = left.records == 1
                log.warning(
                    "%s of %s %s not in %s and %s on this machine: %s",
                    counted(left.records, "record"),
                    counted(left.runs, "trial"),
                    "is" if one else "are",
                    redact(uri),
                    "lies" if one else "lie",
                    left.reason,
                )
        for key, (uri, folder) in self._delivered.items():
            if key in self._keys or key in self._copies:
                _courier(uri).forget(folder)

    def _job(self, trial: Assigned) -> Job | None:
        try:
            config = resolved(trial.tree)
            folder = self._fetched(trial) if is_url(trial.folder) else Path(trial.folder)
            tracker = SpoolTracker(folder)
            if self._assigned.delivers:
                _courier(trial.uri).add(trial.run_id, folder)
                self._delivered[trial.key] = (trial.uri, folder)
        except Exception as error:
            log.exception("the trial %s cannot be begun", trial.key)
            state: State = "interrupted" if _passes(error) else "failed"
            self.ended(trial.key, TrialResult(state, in_one_line(error), 0, 0.0, {}))
            return None
        return Job(config, tracker, folder, trial.generation)

    def _fetched(self, trial: Assigned) -> Path:
        """The trial's folder from its store; what is written there goes back from now on."""
        copy = trial_copy(trial.folder)
        _courier(trial.uri).forget(copy.folder)  # which is another one now
        copy.fetch()
        self._copies[trial.key] = copy
        _mirror().add(copy)
        return copy.folder

    # The conductor's part, called from the pack's thread.

    def report(self, reports: Mapping[str, Progress]) -> None:
        try:
            for key, progress in reports.items():
                if key in self._copies and self._generation and progress.scored:
                    self._copies[key].settle()  # others may go on from it
        except OSError as error:
            self._without_store(error)
            return
        self._say(Report(dict(reports)), urgent=any(map(self.waits, reports.values())))

    def _without_store(self, error: OSError) -> None:
        """Its trials are to go on later: what others need, or what they need of others, is away."""
        log.warning("the population cannot go on without its store: %s", error)
        with self._changed:
            self._interrupted = True

    def waits(self, progress: Progress) -> bool:
        return self._assigned.waits and progress.scored

    def verdicts(self, *, wait: bool) -> Mapping[str, Verdict]:
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._answer.verdicts or self._interrupted)
            if self._interrupted:
                return {key: Interrupt() for key in self._keys}
            verdicts, self._answer.verdicts = self._answer.verdicts, {}
        try:
            return {key: self._within_reach(key, verdict) for key, verdict in verdicts.items()}
        except OSError as error:
            self._without_store(error)
            return {key: Interrupt() for key in self._keys}

    def _within_reach(self, key: str, verdict: Verdict) -> Verdict:
        """The same, with the donor's states here where they are in a store."""
        if not (isinstance(verdict, Exploit) and is_url(verdict.folder)):
            return verdict
        folder = self._copies[key].folder / ".donor"
        Copy(folder, Bucket(verdict.folder), patterns=(f"{GENERATION}*",)).fetch()
        return replace(verdict, folder=str(folder))

    def ended(self, key: str, result: TrialResult) -> None:
        result = self._stored(key, result)
        with self._changed:
            self._open += 1
            if result.state != "interrupted":  # else another process may go on with it
                self._keys.discard(key)
        self._say(Ended(key, result))

    def _stored(self, key: str, result: TrialResult) -> TrialResult:
        """The result, once the trial is in its store; where that takes nothing, it is to go on."""
        if key not in self._copies:
            return result
        try:
            self._copies[key].settle()
        except OSError as error:
            reason = f"its last checkpoint could not be stored: {error}"
            return replace(result, state="interrupted", reason=reason)
        self._copies[key].leave("*.pt")
        return result

    def refill(self, *, wait: bool) -> Job | None:
        while True:
            with self._changed:
                if wait:
                    self._changed.wait_for(
                        lambda: self._answer.refills or self._interrupted or self._open <= 0
                    )
                if self._interrupted or not self._answer.refills:
                    return None
                trial = self._answer.refills.pop(0)
                self._open -= 1
                self._keys.add(trial.key)
            job = self._job(trial)
            if job:
                return job

    def chose(self, choice: Choice) -> None:
        self._say(choice)

    def _say(self, message: Message, *, urgent: bool = True) -> None:
        self._messages.put(message)
        if urgent:
            self._urgent.set()


def use_cores() -> None:
    """Have torch use as many threads in this process as Ray gave it cores."""
    import torch

    cores = os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(int(cores) if cores else 1)


@functools.cache
def _mirror() -> Mirror:
    """This process's own, as its courier."""
    return Mirror()


def _passes(error: Exception) -> bool:
    """Whether what keeps a trial from its beginning is no fault of the trial."""
    return is_full_disk(error) or isinstance(error, StorageError)


@functools.cache
def _courier(uri: str) -> Courier:
    """This process's own, which outlives its packs."""
    from gansweep.tracking.mlflow import Courier

    return Courier(uri)
