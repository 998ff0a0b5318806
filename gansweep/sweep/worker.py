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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from gansweep.config import resolve
from gansweep.engines import Choice, EngineName
from gansweep.errors import ConfigError, Problem, in_one_line
from gansweep.memory import Ceiling, ran_out
from gansweep.pack import Pack
from gansweep.progress import Interrupt, Progress, TrialResult, Verdict
from gansweep.redaction import redact
from gansweep.replica import Job
from gansweep.tracking.spool import SpoolTracker

if TYPE_CHECKING:
    from gansweep.tracking.mlflow import Courier

log = logging.getLogger("gansweep")


@final
@dataclass(frozen=True)
class Assigned:
    """What a worker is told of one trial; `tree` are its settings.

    uri: of the store, where the worker delivers.
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

    waits: whether trials rest after each score until a scheduler's verdict comes.
    delivers: whether the worker's process brings its records into MLflow; else the driver does.
    ceiling: on the memory of all of them together.
    """

    trials: tuple[Assigned, ...]
    engine: EngineName
    waits: bool
    delivers: bool = False
    ceiling: Ceiling = field(default_factory=Ceiling)


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

    def __init__(self, pack: PackAssigned) -> None:
        self._assigned = pack
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()  # None: over
        self._over = False
        self._changed = threading.Condition()
        self._answer = Answer()
        self._open = 0  # places of ended trials of which the driver has not spoken yet
        self._keys = {trial.key for trial in pack.trials}
        self._interrupted = False
        self._thread = threading.Thread(target=self._train, name="pack", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether the pack has ended; messages may be left."""
        return self._over

    def take(self, seconds: float) -> list[Message]:
        """The messages since the last call, after at most `seconds` of waiting for one."""
        messages: list[Message | None] = []
        with contextlib.suppress(queue.Empty):
            if not self.over:
                messages.append(self._messages.get(timeout=seconds))
            while True:
                messages.append(self._messages.get_nowait())
        return [message for message in messages if message is not None]

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
        import torch

        cores = os.environ.get("OMP_NUM_THREADS")
        torch.set_num_threads(int(cores) if cores else 1)
        try:
            jobs = [job for job in map(self._job, self._assigned.trials) if job]
            while jobs:
                jobs = self._fit(jobs)
                gc.collect()  # a pack and its tensors are a circle
        except BaseException as error:
            log.exception("the pack broke")
            self._messages.put(Broken(in_one_line(error), ran_out(error)))
        try:
            if self._assigned.delivers:
                self._deliver()
        finally:
            self._over = True
            self._messages.put(None)

    def _fit(self, jobs: list[Job]) -> list[Job]:
        """Train them; where a trial ran out of memory all alone, the one that follows it."""
        pack = Pack(jobs, self, engine=self._assigned.engine)
        try:
            with self._assigned.ceiling.held():
                pack.fit()
            return []
        except Exception as error:
            if len(self._assigned.trials) > 1 or not ran_out(error):
                raise
            pack.fail(error)  # it would not fit another time either
        following = self.refill(wait=True)
        return [following] if following else []

    def _deliver(self) -> None:
        """Let the records arrive: nobody else may see this machine's disk."""
        for uri in {trial.uri for trial in self._assigned.trials}:
            left = _courier(uri).drain()
            if left.records:
                log.warning(
                    "%d records of %d trials are not in %s and lie on this machine: %s",
                    left.records,
                    left.runs,
                    redact(uri),
                    left.reason,
                )

    def _job(self, trial: Assigned) -> Job | None:
        problems: list[Problem] = []
        try:
            config = resolve(trial.tree, problems)
            if config is None:
                raise ConfigError(problems)
            folder = Path(trial.folder)
            tracker = SpoolTracker(folder)
            if self._assigned.delivers:
                _courier(trial.uri).add(trial.run_id, folder)
        except Exception as error:
            log.exception("the trial %s cannot be begun", trial.key)
            self.ended(trial.key, TrialResult("failed", in_one_line(error), 0, 0.0, {}))
            return None
        return Job(config, tracker, folder, trial.generation)

    # The conductor's part, called from the pack's thread.

    def report(self, reports: Mapping[str, Progress]) -> None:
        self._messages.put(Report(dict(reports)))

    def waits(self, progress: Progress) -> bool:
        return self._assigned.waits and progress.scored

    def verdicts(self, *, wait: bool) -> Mapping[str, Verdict]:
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._answer.verdicts or self._interrupted)
            if self._interrupted:
                return {key: Interrupt() for key in self._keys}
            verdicts, self._answer.verdicts = self._answer.verdicts, {}
            return verdicts

    def ended(self, key: str, result: TrialResult) -> None:
        with self._changed:
            self._open += 1
            self._keys.discard(key)
        self._messages.put(Ended(key, result))

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
        self._messages.put(choice)


@functools.cache
def _courier(uri: str) -> Courier:
    """This process's own, which outlives its packs."""
    from gansweep.tracking.mlflow import Courier

    return Courier(uri)
