"""A pack: trials of equal shape that train together in one process, each a run of its own."""

from __future__ import annotations

import logging
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any, Protocol, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from gansweep import subnormals
from gansweep.data.batch import Batch
from gansweep.engines import Choice, EngineName, build, choose
from gansweep.errors import ConfigError
from gansweep.memory import gpu_ran_out, ran_out
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.data_parallel import DataParallel
from gansweep.modules.engine import Engine
from gansweep.modules.ranks import Ranks
from gansweep.progress import Continue, Exploit, Outcome, Progress, TrialResult, Verdict
from gansweep.replica import Common, Job, Replica, fail, finish
from gansweep.trial_files import BEST

log = logging.getLogger("gansweep")

REPORT_SECONDS = 1.0
"""Least time between two reports of bare progress; reports of scores always pass."""

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


class Conductor(Protocol):
    """What a pack asks of whoever started it, between generator steps."""

    def report(self, reports: Mapping[str, Progress]) -> None:
        """How trials stand, by trial key."""

    def verdicts(self, *, wait: bool) -> Mapping[str, Verdict]:
        """The verdicts that came since the last call, by trial key; `wait` until there is one."""

    def waits(self, progress: Progress) -> bool:
        """Whether the trial that reported this rests until its verdict comes."""

    def ended(self, key: str, result: TrialResult) -> None:
        """A trial is over, and its place free."""

    def refill(self, *, wait: bool) -> Job | None:
        """A trial of the same shape for a free place; None: none now, or none at all if `wait`."""

    def chose(self, choice: Choice) -> None:
        """How the pack trains, and why."""


@final
class Pack:
    """Trains jobs of equal shape; each ends by itself, and its place may be filled again.

    What goes wrong in one trial (bad files, a score that raises, NaN) ends that trial alone. What
    is raised in the common step of a stack, and want of memory, which is nobody's alone, is raised
    by `fit`: the caller may train its trials in smaller packs. Nothing of the trials is lost then
    but the steps since their checkpoints.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        conductor: Conductor,
        *,
        engine: EngineName = "auto",
        compiled: bool = False,
        comes_again: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        """compiled: whether steps in turns of this shape have been compiled by another pack.
        comes_again: whether a trial that ran out of a GPU's memory alone is to be tried again:
        `fit` raises that too then, and the trial has not ended. ranks: of the processes that train
        with this one, each of them one trial at a time; what a step raises, `fit` does.
        """
        self._conductor = conductor
        self._engine_name: EngineName = engine
        self._compiled = compiled
        self._comes_again = comes_again
        self._ranks = ranks
        self._jobs = list(jobs)
        self._device = resolve_device(jobs[0].config.run.device)
        self._common: Common | None = None
        self._engines: dict[tuple[bool, bool], Engine] = {}  # by what a choice says
        self._trains: dict[int, Engine] = {}  # by slot
        self._choice: Choice | None = None
        self._replicas: dict[int, Replica] = {}
        self._held: set[int] = set()
        self._module = _PackModule(self)
        self._next_report = 0.0
        self._charged = 0.0
        self._recorders = ThreadPoolExecutor(len(jobs), thread_name_prefix="record")
        self._finishing: list[Future[None]] = []

    def fit(self) -> None:
        """Train until every trial is over.

        Raises KeyboardInterrupt and SystemExit after all trials ended as interrupted, what a
        stack's step raises, and, of more trials than one, what says that memory ran out.
        """
        # Before all else, for torch's other threads.
        with subnormals.flushed(), self._recorders:
            self._train()

    def _train(self) -> None:
        try:
            self._place(self._jobs)
            if self.live:
                trainer = self._trainer()
                if _is_someones(signal.SIGTERM):  # whoever it is: Lightning would exit beside it
                    connector: Any = trainer._signal_connector
                    connector.register_signal_handlers = lambda: None
                with _quiet_lightning():
                    trainer.fit(self._module, train_dataloaders=_Ticks(self))
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning ignores SIGINT from the first on, and exits in place of raising it.
            keyboard = isinstance(error, KeyboardInterrupt) or isinstance(
                error.__context__, KeyboardInterrupt
            )
            for slot in list(self._replicas):
                reason = "keyboard interrupt" if keyboard else "asked to exit"
                self._replicas[slot].outcome.end("interrupted", reason)
                self._end(slot)
            self._finished()
            if keyboard:
                raise KeyboardInterrupt from error
            raise
        self._finished()

    def fail(self, error: Exception) -> None:
        """End the trials that `fit` left behind when it raised `error`."""
        for replica in self._replicas.values():
            replica.fail(error)
            self._finish(replica)
        self._replicas.clear()

    def _trainer(self) -> pl.Trainer:
        return pl.Trainer(
            accelerator="gpu" if self._device.type == "cuda" else "cpu",
            devices=1,
            precision=PRECISION[self._jobs[0].config.run.precision],
            max_epochs=1,
            plugins=[LightningEnvironment()],  # else Lightning requeues Slurm jobs by itself
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )

    def _place(self, jobs: Sequence[Job]) -> None:
        """Build each trial in a free slot; those that cannot be built have failed."""
        free = (slot for slot in range(len(self._jobs)) if slot not in self._replicas)
        for job in jobs:
            job.tracker.set_tags({"gansweep.state": "running"})
            try:
                if self._common is None:
                    self._common = Common(job.config, self._device)
                replica = Replica(job, self._common)
            except Exception as error:
                self._check_memory(error)
                outcome = Outcome()
                fail(outcome, job.tracker, error)
                result = finish(outcome, job.tracker, g_steps=0, seconds=0.0)
                self._conductor.ended(job.config.key, result)
                continue
            slot = next(free)
            self._replicas[slot] = replica
            if replica.at_end:
                replica.start()
                self._end(slot)
            elif self._choice is not None:
                self._admit(slot)

    def begin(self) -> None:
        """The device is there: choose the engine and move the trials into it."""
        self._charged = time.monotonic()
        first = next(iter(self._replicas.values()))
        kept = next((r.engine for r in self._replicas.values() if r.engine), None)
        if self._ranks:
            self._choice = Choice(False, False, f"{self._ranks.count} processes train each trial")
            self._engines[False, False] = DataParallel(self._ranks, self._briefing)
        else:
            self._choice = Choice(**kept) if kept else self._chosen(first)
        self._conductor.chose(self._choice)
        for slot in self._replicas:
            self._admit(slot)

    def _briefing(self, module: AlternatingModule) -> dict[str, Any]:
        return next(r.briefing for r in self._replicas.values() if r.module is module)

    def _chosen(self, first: Replica) -> Choice:
        try:
            return choose(
                first.module,
                first.example_batch(),
                replicas=len(self._jobs),
                g_steps=first.budget - first.g_step,
                engine=self._engine_name,
                compile=first.config.run.compile,
                compiled=self._compiled,
            )
        except ValueError as error:
            raise ConfigError.single("resources.engine", str(error)) from error

    def _admit(self, slot: int) -> None:
        assert self._choice is not None
        replica, choice = self._replicas[slot], self._choice
        if replica.engine and not self._ranks:  # of an earlier pack, maybe another one's
            choice = Choice(**replica.engine)
        replica.engine = choice.to_dict()
        self._trains[slot] = self._engine(choice, replica)
        self._trains[slot].put(slot, replica.module)
        replica.start()
        progress = replica.progress()
        if self._conductor.waits(progress):  # it was put aside or killed before its verdict came
            self._held.add(slot)
            self._conductor.report({replica.key: progress})

    def _engine(self, choice: Choice, replica: Replica) -> Engine:
        how = (choice.stacked, choice.compiled)
        if how not in self._engines:
            self._engines[how] = build(
                choice, replica.module, slots=len(self._jobs), shape=replica.config.shape
            )
        return self._engines[how]

    def batches(self) -> dict[int, Batch]:
        """The data of one generator step of each trial that trains."""
        return {slot: r.batch() for slot, r in self._replicas.items() if slot not in self._held}

    @property
    def live(self) -> bool:
        """Whether there is a step to take, once places are filled and verdicts carried out."""
        while True:
            if not self._replicas:
                self._finished()
            self._refill()
            if not self._replicas:
                return False
            if len(self._held) < len(self._replicas):
                return True
            self._obey(self._conductor.verdicts(wait=True))

    def step(self, batches: Mapping[int, Batch]) -> None:
        """One generator step of each trial."""
        for engine in self._engines.values():
            own = {slot: b for slot, b in batches.items() if self._trains[slot] is engine}
            for slot, error in (engine.step(own) if own else {}).items():
                self._fail(slot, error)

    def _fail(self, slot: int, error: Exception) -> None:
        """The trial in `slot` ends because of `error`."""
        self._check_memory(error)
        self._replicas[slot].fail(error)

    def _check_memory(self, error: Exception) -> None:
        """Raise `error` where it says that there is no memory for so many trials."""
        if (len(self._jobs) > 1 and ran_out(error)) or (self._comes_again and gpu_ran_out(error)):
            raise error

    def after_step(self, slots: Sequence[int]) -> None:
        """What is due: records, reports, verdicts, ends."""
        now = time.monotonic()
        for slot in slots:
            self._replicas[slot].clock.charge((now - self._charged) / len(slots))
        self._charged = now
        all_report = now >= self._next_report
        scores = {slot: self._recorded(slot) for slot in slots}
        self._save(slots)
        reports: dict[str, Progress] = {}
        for slot, scored in scores.items():
            replica = self._replicas[slot]
            if (scored or all_report) and not replica.outcome.over:
                progress = replica.progress()
                reports[replica.key] = progress
                if not replica.at_end and self._conductor.waits(progress):
                    self._held.add(slot)
        if reports:
            self._next_report = now + REPORT_SECONDS
            self._conductor.report(reports)
        if reports or self._held:
            self._obey(self._conductor.verdicts(wait=False))
        for slot in slots:
            if slot in self._replicas and self._replicas[slot].at_end:
                self._end(slot)

    def _recorded(self, slot: int) -> bool:
        """Record what is due in one trial; whether it was scored."""
        replica = self._replicas[slot]
        try:
            return not replica.outcome.over and replica.record()
        except Exception as error:
            self._fail(slot, error)
            return False

    def _save(self, slots: Sequence[int]) -> None:
        """Write the checkpoints that are due, once their records are on disk."""
        due = {slot: self._replicas[slot].checkpoints_due() for slot in slots}
        self._flush([slot for slot, names in due.items() if names])
        for slot, names in due.items():
            for name in names:
                self._save_one(slot, name)

    def _save_one(self, slot: int, name: str) -> None:
        replica = self._replicas[slot]
        if replica.outcome.over and name != BEST:  # by what could not be written before it
            return
        try:
            replica.save(name)
        except OSError as error:
            replica.unsaved(name, error)
        except Exception as error:
            self._fail(slot, error)

    def _flush(self, slots: Sequence[int]) -> None:
        """All at a time: each waits for the disk. Who is refused hears so again when it saves."""

        def flush(slot: int) -> None:
            with suppress(OSError):
                self._replicas[slot].tracker.flush()

        list(self._recorders.map(flush, slots))

    def _obey(self, verdicts: Mapping[str, Verdict]) -> None:
        slots = {replica.key: slot for slot, replica in self._replicas.items()}
        self._flush([slots[k] for k, v in verdicts.items() if k in slots and v != Continue()])
        states = self._states_of_donors(slots, verdicts)  # before anyone changes
        for key, verdict in verdicts.items():
            if key not in slots:
                continue
            slot, replica = slots[key], self._replicas[slots[key]]
            self._held.discard(slot)
            if replica.at_end:  # no verdict changes what is over
                continue
            try:
                donor = states.get(verdict.donor) if isinstance(verdict, Exploit) else None
                replica.obey(verdict, donor)
                if isinstance(verdict, Exploit):
                    self._trains[slot].put(slot, replica.module)
            except Exception as error:
                self._fail(slot, error)
            if replica.at_end:
                self._end(slot)

    def _states_of_donors(
        self, slots: Mapping[str, int], verdicts: Mapping[str, Verdict]
    ) -> dict[str, Any]:
        """By key, of the donors that rest here at the generation of those who exploit them."""
        states: dict[str, Any] = {}
        for key, verdict in verdicts.items():
            if not isinstance(verdict, Exploit) or not {key, verdict.donor} <= slots.keys():
                continue
            place = slots[verdict.donor]
            donor, exploiter = self._replicas[place], self._replicas[slots[key]]
            if place in self._held and donor.g_step == exploiter.g_step:
                states[verdict.donor] = deepcopy(donor.module.training_state())
        return states

    def _end(self, slot: int) -> None:
        """The trial in `slot` is over: its record is ended while the others train on."""
        replica = self._replicas.pop(slot)
        self._held.discard(slot)
        if slot in self._trains:
            self._trains.pop(slot).drop(slot)
        self._finishing.append(self._recorders.submit(self._finish, replica))

    def _finish(self, replica: Replica) -> None:
        self._conductor.ended(replica.key, replica.finish())

    def _finished(self) -> None:
        """Wait until the records of all trials that are over have ended."""
        while self._finishing:
            self._finishing.pop().result()

    def _refill(self) -> None:
        while len(self._replicas) < len(self._jobs):
            job = self._conductor.refill(wait=not self._replicas)
            if job is None:
                return
            self._place([job])


@final
class _PackModule(pl.LightningModule):
    """The pack as Lightning sees it: one batch is one generator step of every trial."""

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._pack = [pack]  # in a list: it is no module of this one

    def configure_optimizers(self) -> None:
        return None  # each trial's module has its own

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        return batch

    def on_train_start(self) -> None:
        self._pack[0].begin()

    def training_step(self, batch: dict[int, Batch], batch_idx: int) -> None:
        self._pack[0].step(batch)

    def on_train_batch_end(self, outputs: Any, batch: dict[int, Batch], batch_idx: int) -> None:
        self._pack[0].after_step(list(batch))


@final
class _Ticks:
    """Batches for Lightning, as long as a trial of the pack has steps to take."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack

    def __len__(self) -> int:
        return sys.maxsize  # known, so that Lightning fetches nothing ahead

    def __iter__(self) -> Iterator[dict[int, Batch]]:
        while self._pack.live:
            yield self._pack.batches()


def resolve_device(name: str) -> torch.device:
    """auto: CUDA where there is a device, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _is_someones(number: signal.Signals) -> bool:
    """Whether a handler of this program's own listens to a signal."""
    return callable(signal.getsignal(number))


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's notes on its hardware, loggers and loaders, which do not apply here."""
    notes = logging.getLogger("pytorch_lightning")
    level = notes.level
    notes.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        notes.setLevel(level)
