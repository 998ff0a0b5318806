"""One trial in training, alone or as a replica of a pack: its state, its record, its end."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mode
from typing import Any, final

import torch
from torch import nn

from gansweep.assembly import (
    advise,
    build_module,
    build_trial_scores,
    condition_of,
    fitting,
    load_held_out,
    load_samples,
    modes_of,
    on_classes,
    real_samples,
    try_parts,
)
from gansweep.callbacks.base import TrialCallback
from gansweep.callbacks.clip_histogram import ClipHistogram
from gansweep.callbacks.diagnosis import Diagnosis
from gansweep.callbacks.encoder_picture import EncoderPicture, exhibit
from gansweep.callbacks.game_picture import GamePicture
from gansweep.callbacks.inpainted import Inpainted
from gansweep.callbacks.readout import Readout
from gansweep.callbacks.reconstructions import Reconstructions
from gansweep.callbacks.samples import SampleGrid
from gansweep.callbacks.scores import Scores
from gansweep.checkpoint import (
    DamagedCheckpointError,
    keep_previous,
    on_host,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)
from gansweep.config import TrialConfig, resolved
from gansweep.data.base import Samples
from gansweep.data.batch import Batch, resident
from gansweep.data.stream import BatchOrder
from gansweep.diagnosis import batch as fixed_batch
from gansweep.diagnosis.classifier import classifier
from gansweep.diagnosis.court import Court
from gansweep.drafts import remove_drafts
from gansweep.errors import ConfigError, in_one_line
from gansweep.evaluation import Evaluation
from gansweep.generator import about
from gansweep.memory import OUT_OF_MEMORY, ran_out
from gansweep.progress import (
    RUN_STATUS,
    Clock,
    Continue,
    Exploit,
    Interrupt,
    Outcome,
    Progress,
    State,
    Stop,
    TrialResult,
    Verdict,
)
from gansweep.reference import Reference
from gansweep.sampling import Sampler
from gansweep.seeding import stream_seed
from gansweep.tracking.base import Tracker
from gansweep.trial_files import BEST, CHECKPOINT, GENERATION, generation_file, previous

log = logging.getLogger("gansweep")

LOOKED_AT = 50
"""g_steps before the end of the budget, most of which have so many discriminator steps."""

ENCODER_PICTURES: Sequence[type[EncoderPicture]] = (Reconstructions, Inpainted)
"""What is shown of variants with an encoder, where the data are images."""


@final
@dataclass(frozen=True)
class Job:
    """A trial to train. Without `folder` nothing is checkpointed.

    generation: g_steps between the generations of a population; 0 where there is none.
    """

    config: TrialConfig
    tracker: Tracker
    folder: Path | None = None
    generation: int = 0


@final
class Common:
    """What the trials of a pack share: the data on the device, frozen latents, the evaluation."""

    def __init__(self, config: TrialConfig, device: torch.device) -> None:
        on_host = load_samples(config)
        self.device = device
        self._discriminators: dict[str, nn.Module] = {}  # without memory, by the trials' shape
        self.samples: Samples = resident(on_host, device)
        self.sampler = Sampler(
            latent=config.latent,
            samples=on_host,
            condition=condition_of(config, on_host.spec),
            grid=(config.samples.rows, config.samples.columns),
            grid_seed=config.samples.seed,
            count=config.score.samples,
            seed=config.score.seed,
            device=device,
        )
        count, seed = config.score.samples, config.score.seed
        self.evaluation = Evaluation(
            build_trial_scores(config, on_host.spec),
            Reference(on_host, count=count, seed=seed, device=device),
            self.sampler,
            facts={
                **real_samples(config),
                "fake_count": str(count),
                "ema": "yes" if config.ema.decay > 0 else "no",
            },
            device=device,
        )
        self.exhibits = None
        if config.model.cls.encodes and on_host.spec.is_image:
            self.exhibits = exhibit(
                on_host,
                load_held_out(config, on_host),
                grid=(config.samples.rows, config.samples.columns),
                seed=seed,
                device=device,
            )
        pac = config.model.settings.pac
        self.diagnosed = fixed_batch.draw(
            on_host,
            count=-(-config.diagnosis.samples // pac) * pac,  # D sees so many at a time
            latent=config.latent,
            condition=condition_of(config, on_host.spec),
            classify=classifier(
                modes_of(config, on_host.spec),
                (score.extractor for score in self.evaluation.scores.values()),
                on_host.spec.condition,
            ),
            seed=config.score.seed,
            device=device,
        )

    def advice(self, config: TrialConfig) -> list[str]:
        """As `check_fit`; whether networks and data fit is tried once for trials of one shape."""
        spec = self.samples.spec
        try_parts(config, spec)
        if config.shape not in self._discriminators:
            self._discriminators[config.shape] = fitting(config, spec)
        return advise(config, self._discriminators[config.shape])


@final
class Replica:
    """A trial from its job to its result. It holds no Trainer and no engine.

    Raises what building it raises (ConfigError for a wrong checkpoint, say).
    """

    def __init__(self, job: Job, common: Common) -> None:
        config = job.config
        self.config = config
        self.tracker = job.tracker
        self.outcome = Outcome()
        self.result: TrialResult | None = None
        self._folder = job.folder
        self._generation = job.generation
        self._common = common
        self.engine: dict[str, Any] | None = None
        self._tree: Mapping[str, Any] | None = None
        self.saved = self._read()
        self._resumed = self.saved is not None
        self._about = about(config, common.samples.spec)
        advice = common.advice(config)
        if config.model.settings.conditional:
            advice += on_classes(common.samples)
        if advice:
            self.tracker.set_tags({"gansweep.warning": "; ".join(advice)})
        self.module = build_module(config, common.samples.spec)
        self.module.to(common.device)
        self.module.setup("fit")
        self.module.configure_optimizers()
        self._order = BatchOrder(len(common.samples), stream_seed(config.run.seed, "data"))
        self.clock = Clock()
        self._scored = False
        self._best_at = -1  # g_step of the last best step that was written
        self._refused: tuple[int, dict[str, Any]] = (-1, {})  # a later one, and the state there
        self._scores = Scores(
            common.evaluation,
            self.tracker,
            self.outcome,
            every=config.score_every,
            keep=config.best_score,
        )
        self._diagnosis = Diagnosis(
            self.tracker,
            self.outcome,
            common.diagnosed,
            Court(
                [
                    rule.cls(rule.settings)
                    for rule in config.rules
                    if rule.cls.concerns(self.module.formulation.objective)
                ],
                grace=config.grace,
                patience=config.diagnosis.patience,
            ),
            every=config.diagnosis_every,
            stop=config.diagnosis.stop,
        )
        self._callbacks: Sequence[TrialCallback] = (
            Readout(self.tracker, self.clock, self.outcome, every=config.log.every),
            SampleGrid(self.tracker, common.sampler, every=config.samples.every),
            self._scores,
            self._diagnosis,
            ClipHistogram(self.tracker, every=config.samples.every),
            *self._pictures_of_the_game(),
            *self._pictures_of_the_encoder(),
        )
        if self.saved:
            self.module.load_training_state(self.saved["module"])
            self._order.load_state_dict(self.saved["order"])
            self.outcome.metrics.update(self.saved["metrics"])
            if "scores" in self.saved:  # older versions kept no best values
                self._scores.load_state_dict(self.saved["scores"])
            # It may stand at a score, whose verdict it may not have heard.
            is_between = 0 < self.g_step < self.budget and self._scores_at(self.g_step)
            self._scored = is_between and self._scores.stands_at(self.g_step)
            self.engine = self.saved["engine"]
            self._diagnosis.load_state_dict(self.saved["diagnosis"])
            self.outcome.diagnosis = self.saved["verdict"]
            # The steps since may have told the store something else.
            self.tracker.set_tags({"gansweep.diagnosis": self.outcome.diagnosis})
            if self.saved["tree"]:
                self._go_on_under(json.loads(self.saved["tree"]))

    def _pictures_of_the_game(self) -> list[TrialCallback]:
        config, common = self.config, self._common
        settings = config.model.settings
        on_x_alone = not (settings.conditional or settings.pac > 1 or config.model.cls.encodes)
        if common.samples.spec.shape != (1,) or not on_x_alone:
            return []
        return [
            GamePicture(
                self.tracker,
                config.latent,
                common.samples,
                every=config.samples.every,
                seed=config.samples.seed,
                device=common.device,
            )
        ]

    def _pictures_of_the_encoder(self) -> list[TrialCallback]:
        exhibits, every = self._common.exhibits, self.config.samples.every
        if exhibits is None:
            return []
        return [kind(self.tracker, exhibits, every=every) for kind in ENCODER_PICTURES]

    @property
    def key(self) -> str:
        return self.config.key

    @property
    def g_step(self) -> int:
        return self.module.g_step

    @property
    def budget(self) -> int:
        return self.config.budget.g_steps

    def fail(self, error: BaseException) -> None:
        """It ends because something raised."""
        fail(self.outcome, self.tracker, error)

    def finish(self) -> TrialResult:
        """End the record; call it once, when training is over."""
        if self._folder is not None and self.outcome.state == "completed":  # it is whole
            with suppress(OSError):
                previous(self._folder / CHECKPOINT).unlink()
            if self._resumed and self._best_at < 0:
                self._drop_best_beyond(self._folder / BEST)
        self.tracker.set_tags({"gansweep.g_steps": str(self.g_step)})
        self.result = finish(
            self.outcome, self.tracker, g_steps=self.g_step, seconds=self.clock.seconds
        )
        return self.result

    @property
    def at_end(self) -> bool:
        """Whether nothing is left to train."""
        return self.g_step >= self.budget or self.outcome.over

    def start(self) -> None:
        """Training begins now."""
        self.clock.start(self.g_step, self.saved["seconds"] if self.saved else 0.0)
        self.saved = None

    @property
    def briefing(self) -> dict[str, Any]:
        """What another process that trains it along must know besides its training state."""
        tree = self.config.to_dict() if self._tree is None else self._tree
        return {"tree": json.dumps(tree), "order": self._order.state_dict()}

    def batch(self) -> Batch:
        """The data of the next generator step."""
        steps = type(self.module).d_steps(self.module.settings, self.g_step)
        size = self.config.data.settings.batch_size
        common = self._common
        return Batch.take(common.samples, self._order, steps=steps, size=size, device=common.device)

    def example_batch(self) -> Batch:
        """Data for a probe: as many discriminator steps as most g_steps have towards the end."""
        size, count = self.config.data.settings.batch_size, len(self._common.samples)
        model, last = self.config.model, range(max(0, self.budget - LOOKED_AT), self.budget)
        steps = mode(model.cls.d_steps(model.settings, g_step) for g_step in last)
        indices = (torch.arange(steps * size) % count).view(steps, size)
        device = self._common.samples.x.device
        return Batch(self._common.samples, indices.to(device), self._common.device)

    def record(self) -> bool:
        """Record what is due after a generator step; whether it was scored."""
        g_step, last = self.g_step, self.g_step >= self.budget
        for callback in self._callbacks:
            if callback.due(g_step, last=last):
                callback.act(self.module, g_step)
        fatal = self._diagnosis.fatal
        if fatal and not last and not self.outcome.over:
            self.obey(Stop(fatal.reason))
        self._scored = last or self._scores_at(g_step)
        return self._scored and not self.outcome.over

    def _scores_at(self, g_step: int) -> bool:
        return g_step % self.config.score_every == 0

    def checkpoints_due(self) -> list[str]:
        """The files to be written after this generator step."""
        if self._folder is None:
            return []
        improved = self._scores.improved_at == self.g_step
        names = [BEST] if self._best_is_due and (improved or self.outcome.over) else []
        if self.outcome.over:
            return names
        # What a checkpoint says is there comes before it: who goes on from it comes by no more.
        # And nobody goes on from before a generation whose donors have left it behind.
        is_generation = self._generation > 0 and self.g_step % self._generation == 0
        if is_generation:
            names.append(generation_file(self.g_step))
        due = self.g_step >= self.budget or self.g_step % self.config.checkpoint.every == 0
        if due or is_generation:
            names.append(CHECKPOINT)
        return names

    def progress(self) -> Progress:
        """How it stands, to be reported."""
        if self._scored:
            self.tracker.set_tags({"gansweep.g_steps": str(self.g_step)})
        return Progress(
            g_steps=self.g_step,
            budget=self.budget,
            seconds=self.clock.seconds,
            metrics=dict(self.outcome.metrics),
            scored=self._scored,
            fingerprints=dict(self.outcome.fingerprints),
            diagnosis=self.outcome.diagnosis,
            share=min(1.0, (self.module.d_step + self.g_step) / self._steps),
        )

    @cached_property
    def _steps(self) -> int:
        """D's and G's, of the whole trial."""
        cls, settings = type(self.module), self.module.settings
        return self.budget + sum(cls.d_steps(settings, g_step) for g_step in range(self.budget))

    def obey(self, verdict: Verdict, state: Mapping[str, Any] | None = None) -> None:
        """Carry out a verdict; `state` is the donor's training state where it is at hand."""
        match verdict:
            case Continue():
                return
            case Exploit():
                self._exploit(verdict, state)
            case Stop():
                self._put_aside("stopped", f"{verdict.reason} at g_step {self.g_step}")
            case Interrupt(for_others):
                how = "waits for others" if for_others else "interrupted"
                self.outcome.waits = for_others
                self._put_aside("interrupted", f"{how} at g_step {self.g_step}")

    def _put_aside(self, state: State, reason: str) -> None:
        """End with a checkpoint; where there is none, the trial is to go on from the last one."""
        try:
            self.save()
        except OSError as error:
            state, reason = "interrupted", f"{reason}, without a checkpoint: {error}"
        self.outcome.end(state, reason)

    def _exploit(self, exploit: Exploit, state: Mapping[str, Any] | None) -> None:
        """The donor's networks and optimizers under new settings; streams and counts stay."""
        if state is None:
            try:
                state = self._left_by(exploit)
            except OSError as error:  # a shared disk that is away, say
                reason = f"{exploit.donor}'s state at g_step {self.g_step} cannot be read: {error}"
                self._put_aside("interrupted", reason)
                return
        log.info("trial %s goes on from %s", self.key, exploit.donor)
        own = self.module.training_state()
        kept = ("rng", "dropout_rng", "device", "meters", "g_step", "d_step", "images_seen")
        self.module.load_training_state({**state, **{name: own[name] for name in kept}})
        self._diagnosis.forget()
        self._go_on_under(exploit.tree)

    def _left_by(self, exploit: Exploit) -> Mapping[str, Any]:
        """The donor's training state at this generation; it may stand at the next one already."""
        name = generation_file(self.g_step)
        saved = read_checkpoint(Path(exploit.folder) / name)
        if saved is None:
            raise LookupError(f"{exploit.donor} left no {name} in {exploit.folder}")
        state: Mapping[str, Any] = saved["module"]
        return state

    def _go_on_under(self, tree: Mapping[str, Any]) -> None:
        """Other settings than those that the trial began with, from now on."""
        settings = resolved(tree)
        self.module.set_hyperparameters(
            settings.model.settings,
            tuple(part.cls(part.settings) for part in (settings.d_optimizer, settings.g_optimizer)),
        )
        self._tree = tree
        self.__dict__.pop("_steps", None)  # n_critic may be another

    def save(self, name: str = CHECKPOINT) -> None:
        """Write a checkpoint, with everything that the next step depends on.

        Where the best one is not written yet, it comes first: a checkpoint says that it is there.

        Raises:
            OSError: the disk is full, say; the last checkpoint is as it was.
        """
        if self._folder is None:
            return
        self.tracker.flush()  # a trial that goes on from here does not log these steps again
        path = self._folder / name
        if name in (BEST, CHECKPOINT):
            self._save_best(self._folder / BEST)
        if name == CHECKPOINT:
            keep_previous(path)
        if name != BEST:
            write_checkpoint(path, self._state())
        if name == generation_file(self.g_step):  # nobody is further behind than one generation
            before_last = generation_file(self.g_step - 2 * self._generation)
            with suppress(OSError):
                (self._folder / before_last).unlink()

    def _state(self) -> dict[str, Any]:
        """What a checkpoint holds; tensors may share memory with the networks."""
        return {
            "key": self.key,
            **self._about,
            "module": self.module.training_state(),
            "order": self._order.state_dict(),
            "seconds": self.clock.seconds,
            "metrics": dict(self.outcome.metrics),
            "scores": self._scores.state_dict(),
            "engine": self.engine,
            "diagnosis": self._diagnosis.state_dict(),
            "verdict": self.outcome.diagnosis,
            "tree": None if self._tree is None else json.dumps(self._tree),
        }

    @property
    def _best_is_due(self) -> bool:
        """Whether there was a better step than the one whose state was last written as the best."""
        return self._scores.improved_at > self._best_at

    def _save_best(self, path: Path) -> None:
        if self._best_is_due:
            g_step, state = self._refused
            best_at = self._scores.improved_at
            write_checkpoint(path, state if g_step == best_at else self._state())
            self._best_at, self._refused = best_at, (-1, {})

    def _drop_best_beyond(self, path: Path) -> None:
        """Remove the best step's checkpoint where the trial ended before that step.

        It was killed beyond its last checkpoint, and its budget is shorter now.
        """
        try:
            saved = read_checkpoint(path)
            if saved and saved["module"]["g_step"] > self.g_step:
                log.warning("%s: of a g_step beyond the end of the trial, removed", path)
                path.unlink()
        except (OSError, ConfigError, DamagedCheckpointError) as error:
            log.warning("%s cannot be read: %s", path, error)

    def unsaved(self, name: str, error: OSError) -> None:
        """A file that was due could not be written: the next one may be.

        The state of the best step is kept for it, since training leaves it. A generation is for
        others, who would ask for it in vain: nobody hears of it, and the trial is to go on later.
        """
        log.warning("%s: no %s at g_step %d: %s", self.key, name, self.g_step, error)
        if self._best_is_due and self._scores.improved_at == self.g_step:
            self._refused = (self.g_step, on_host(self._state()))
        if name.startswith(GENERATION):
            self.outcome.end("interrupted", f"{name} could not be written: {error}")
        is_last = self.g_step >= self.budget and not self.outcome.over
        if is_last or self.outcome.state == "diverged":  # there is no next one
            self.outcome.end("interrupted", f"its last checkpoint could not be written: {error}")

    def _read(self) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        path = self._folder / CHECKPOINT
        remove_drafts(self._folder)
        state = read_newest(path)
        if state and state["key"] != self.key:
            raise ConfigError.single(
                str(path),
                f"is of trial {state['key']}, not of {self.key}",
                "give each trial a folder of its own",
            )
        return state


def fail(outcome: Outcome, tracker: Tracker, error: BaseException) -> None:
    """The trial of `tracker` ends because of `error`; its traceback is kept."""
    reason = in_one_line(error)
    outcome.end("failed", f"{OUT_OF_MEMORY}: {reason}" if ran_out(error) else reason)
    tracker.log_text("".join(traceback.format_exception(error)), "traceback.txt")
    log.error("the trial failed", exc_info=error)


def finish(outcome: Outcome, tracker: Tracker, *, g_steps: int, seconds: float) -> TrialResult:
    """End the record of a trial as `outcome` says."""
    tags: dict[str, str] = {"gansweep.state": "waiting" if outcome.waits else outcome.state}
    if outcome.reason:
        tags["gansweep.reason"] = outcome.reason
    if outcome.diagnosis:
        tags["gansweep.diagnosis"] = outcome.diagnosis
    tracker.set_tags(tags)
    tracker.finish(RUN_STATUS[outcome.state])
    return TrialResult(
        outcome.state,
        outcome.reason,
        g_steps,
        seconds,
        outcome.metrics,
        fingerprints=outcome.fingerprints,
        diagnosis=outcome.diagnosis,
    )
