"""One training run: settings -> modules -> Trainer.fit -> result. It knows no Ray and no MLflow."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from gansweep.assembly import build_module, check_fit, condition_of, load_samples
from gansweep.callbacks.base import TrialCallback
from gansweep.callbacks.ema import EMA
from gansweep.callbacks.readout import Readout
from gansweep.callbacks.samples import SampleGrid
from gansweep.callbacks.scores import Scores
from gansweep.checkpoint import read_checkpoint, write_checkpoint
from gansweep.config import TrialConfig
from gansweep.data.base import to_float
from gansweep.data.loader import ResidentLoader
from gansweep.data.stream import BatchOrder
from gansweep.errors import ConfigError
from gansweep.modules.alternating import AlternatingModule
from gansweep.progress import RUN_STATUS, Clock, Outcome, Progress, Report, State
from gansweep.sampling import Sampler
from gansweep.seeding import stream, stream_seed
from gansweep.tracking.base import Tracker

CHECKPOINT = "checkpoint.pt"
"""File of a trial's folder that holds its whole state."""

REPORT_SECONDS = 1.0
"""Least time between two reports of bare progress; reports of scores always pass."""

PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


@final
@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. `metrics` are the last value of each metric."""

    state: State
    reason: str
    g_steps: int
    seconds: float
    metrics: dict[str, float]


def silent(progress: Progress) -> Any:
    """A Report that listens to nothing and never stops a trial."""
    return "continue"


def run_trial(
    config: TrialConfig,
    tracker: Tracker,
    report: Report = silent,
    *,
    folder: Path | None = None,
) -> TrialResult:
    """Train `config` to its budget, going on from the checkpoint in `folder` where there is one.

    Everything is recorded with `tracker`, whose run this ends; `report` is called between
    generator steps and may stop the trial. Without `folder` nothing is checkpointed. A trial that
    raises ends as "failed", with its traceback as the artifact `traceback.txt`: nothing is raised
    but KeyboardInterrupt, upon which the run ends as interrupted.
    """
    tracker.set_tags({"gansweep.state": "running"})
    outcome = Outcome()
    training: _Training | None = None
    try:
        training = _Training(config, tracker, report, outcome, folder)
        training.fit()
    except (KeyboardInterrupt, SystemExit) as error:
        # Lightning ignores SIGINT from the first on, and exits in place of raising it.
        keyboard = isinstance(error, KeyboardInterrupt) or isinstance(
            error.__context__, KeyboardInterrupt
        )
        outcome.end("interrupted", "keyboard interrupt" if keyboard else "asked to exit")
        _finish(tracker, outcome, training)
        if keyboard:
            raise KeyboardInterrupt from error
        raise
    except Exception as error:
        outcome.end("failed", f"{type(error).__name__}: {error}".splitlines()[0][:500])
        tracker.log_text(traceback.format_exc(), "traceback.txt")
        logging.getLogger("gansweep").exception("the trial failed")
    _finish(tracker, outcome, training)
    return TrialResult(
        state=outcome.state,
        reason=outcome.reason,
        g_steps=training.module.g_step if training else 0,
        seconds=training.clock.seconds if training else 0.0,
        metrics=outcome.metrics,
    )


def _finish(tracker: Tracker, outcome: Outcome, training: _Training | None) -> None:
    tags: dict[str, str] = {"gansweep.state": outcome.state}
    if training:
        tags["gansweep.g_steps"] = str(training.module.g_step)
    if outcome.reason:
        tags["gansweep.reason"] = outcome.reason
    tracker.set_tags(tags)
    tracker.finish(RUN_STATUS[outcome.state])


@final
class _Training:
    """The objects of one run, put together and fitted."""

    def __init__(
        self,
        config: TrialConfig,
        tracker: Tracker,
        report: Report,
        outcome: Outcome,
        folder: Path | None,
    ) -> None:
        self.config = config
        self.tracker = tracker
        self.report = report
        self.outcome = outcome
        self.path = folder / CHECKPOINT if folder else None
        self.device = resolve_device(config.run.device)
        self.samples = load_samples(config)
        advice = check_fit(config, self.samples.spec)
        if advice:
            tracker.set_tags({"gansweep.warning": "; ".join(advice)})
        self.module = build_module(config, self.samples.spec)
        self.module.g_steps_budget = config.budget.g_steps
        self.order = BatchOrder(len(self.samples), stream_seed(config.run.seed, "data"))
        self.ema = (
            EMA(self.module.generator, decay=config.ema.decay) if config.ema.decay > 0 else None
        )
        self.clock = Clock()
        self.state = read_checkpoint(self.path) if self.path else None
        if self.state and self.state["key"] != config.key:
            raise ConfigError.single(
                str(self.path),
                f"is of trial {self.state['key']}, not of {config.key}",
                "give each trial a folder of its own",
            )

    def fit(self) -> None:
        config, state = self.config, self.state
        start = state["module"]["g_step"] if state else 0
        if state:
            self.order.load_state_dict(state["order"])
            self.outcome.metrics.update(state["metrics"])
        if start >= config.budget.g_steps:
            self.module.g_step = start
            self.clock.start(start, state["seconds"] if state else 0.0)
            return
        loader = ResidentLoader(
            self.samples,
            order=self.order,
            batch_size=config.data.settings.batch_size,
            d_steps=lambda g_step: config.model.cls.d_steps(config.model.settings, g_step),
            start=start,
            stop=config.budget.g_steps,
            device=self.device,
        )
        with _quiet_lightning():
            self._trainer().fit(self.module, train_dataloaders=loader)

    def _trainer(self) -> pl.Trainer:
        config = self.config
        return pl.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=1,
            precision=PRECISION[config.run.precision],
            max_epochs=1,
            callbacks=[_Resume(self), *self._callbacks()],
            plugins=[LightningEnvironment()],  # else Lightning requeues Slurm jobs by itself
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )

    def _callbacks(self) -> list[pl.Callback]:
        config = self.config
        sampler = Sampler(
            lambda: self.ema.generator if self.ema else self.module.generator,
            latent=config.latent,
            samples=self.samples,
            condition=condition_of(config, self.samples.spec),
            grid=(config.samples.rows, config.samples.columns),
            grid_seed=config.samples.seed,
            count=config.score.samples,
            seed=config.score.seed,
            device=self.device,
        )
        real = self._real_for_scores()
        scores = [cls(real, seed=config.score.seed) for cls in config.scores]
        callbacks: list[pl.Callback] = [self.ema] if self.ema else []
        return [
            *callbacks,
            Readout(self.tracker, self.clock, self.outcome, every=config.log.every),
            SampleGrid(self.tracker, sampler, every=config.samples.every),
            Scores(scores, self.tracker, sampler, self.outcome, every=config.score_every),
            _Checkpoint(self),
            _Reporter(self),
        ]

    def _real_for_scores(self) -> torch.Tensor:
        rng = stream(self.config.score.seed, "real")
        count = self.config.score.samples
        if count <= len(self.samples):
            picked = torch.randperm(len(self.samples), generator=rng)[:count]
        else:
            picked = torch.randint(len(self.samples), (count,), generator=rng)
        return to_float(self.samples.x[picked]).to(self.device)

    def save(self) -> None:
        """Write the checkpoint, with everything that the next step depends on."""
        if self.path is None:
            return
        self.tracker.flush()  # a trial that goes on from here does not log these steps again
        state = {
            "key": self.config.key,
            "module": self.module.training_state(),
            "order": self.order.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "seconds": self.clock.seconds,
            "metrics": dict(self.outcome.metrics),
        }
        write_checkpoint(self.path, state)

    def restore(self) -> None:
        """Stand where the checkpoint was written; at the start, seed what is global instead."""
        state = self.state
        if state is None:
            torch.manual_seed(stream_seed(self.config.run.seed, "dropout"))
            self.clock.start(0, 0.0)
            return
        self.module.load_training_state(state["module"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"])
        self.clock.start(self.module.g_step, state["seconds"])


@final
class _Resume(pl.Callback):
    """Restores the training state once Lightning has placed the module and its optimizers."""

    def __init__(self, training: _Training) -> None:
        self._training = training

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._training.restore()


@final
class _Checkpoint(TrialCallback):
    """The trial's whole state to its folder, every so many g_steps and at the end."""

    def __init__(self, training: _Training) -> None:
        self._training = training
        self._every = training.config.checkpoint.every

    def due(self, g_step: int, *, last: bool) -> bool:
        return last or g_step % self._every == 0

    def act(self, trainer: pl.Trainer, module: Any, g_step: int) -> None:
        if self._training.outcome.state != "diverged":
            self._training.save()


@final
class _Reporter(TrialCallback):
    """Reports progress about once a second, and every score; carries out the verdict."""

    def __init__(self, training: _Training) -> None:
        self._training = training
        self._score_every = training.config.score_every
        self._next = 0.0
        self._scored = False

    def due(self, g_step: int, *, last: bool) -> bool:
        self._scored = last or g_step % self._score_every == 0
        return self._scored or time.monotonic() >= self._next

    def act(self, trainer: pl.Trainer, module: AlternatingModule, g_step: int) -> None:
        training = self._training
        self._next = time.monotonic() + REPORT_SECONDS
        if training.outcome.state == "diverged":
            return
        if self._scored:
            training.tracker.set_tags({"gansweep.g_steps": str(g_step)})
        verdict = training.report(
            Progress(
                g_steps=g_step,
                budget=training.config.budget.g_steps,
                seconds=training.clock.seconds,
                metrics=dict(training.outcome.metrics),
                scored=self._scored,
            )
        )
        if verdict == "continue" or g_step >= training.config.budget.g_steps:
            return
        training.save()
        trainer.should_stop = True
        if verdict == "stop":
            training.outcome.end("stopped", f"stopped by the scheduler at g_step {g_step}")
        else:
            training.outcome.end("interrupted", f"interrupted at g_step {g_step}")


def resolve_device(name: str) -> torch.device:
    """auto: CUDA where there is a device, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


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
