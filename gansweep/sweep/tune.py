"""Ray Tune at work: one worker process a trial, schedulers, progress. Alone imports ray.tune."""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import ray
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher

from gansweep.errors import ConfigError, Problem, TrialNotBegunError
from gansweep.progress import Progress, Verdict
from gansweep.sweep.file import Resources, Search
from gansweep.sweep.proposals import Proposals
from gansweep.sweep.trials import Trial

log = logging.getLogger("gansweep")

SCRATCH = "ray"
"""Folder of Tune's own files within the sweep's; none outlives a run."""

OBJECT_STORE_BYTES = 128 * 1024**2
"""Shared memory of a local Ray: trials exchange small results only."""

WORKER_RETRIES = 2
"""How often a trial whose worker process died is taken up again from its checkpoint."""

WORST = 1e30
"""What schedulers see for a metric that is not finite or missing (times -1 under `max`)."""


@final
@dataclass(frozen=True)
class Assigned:
    """What a worker is told of its trial, as JSON: Tune would evaluate parts of a bare tree."""

    key: str
    tree: str
    run_id: str
    uri: str
    folder: str
    metric: str
    mode: str
    waits: bool
    """Whether training waits for a scheduler's verdict after each score."""

    def objective(self, metrics: dict[str, float]) -> float:
        """The swept metric as schedulers need it: finite, the worst where it is not."""
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return WORST if self.mode == "min" else -WORST
        return float(value)


@final
class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """One trial in a Ray worker: `run_trial` in a thread, one Tune result per report.

    Stopping is graceful whatever the reason: `cleanup` hands the training thread a verdict, and
    the trial writes its checkpoint and flushes its record before the process ends.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial at once; the driver hears of it through `step`."""
        self._assigned = Assigned(**json.loads(config["assigned"]))
        self._reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self._asked = threading.Event()  # the driver wants what comes after a score: go on
        self._held = False  # whether the driver has a score for which the training waits
        self._verdict: Verdict = "continue"
        self._waiting_on_score = False
        self._thread = threading.Thread(target=self._train, name="trial", daemon=True)
        self._thread.start()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the last trial where it waits for a verdict, and begin the next in this process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for the trial's next report; the last one has `done`."""
        if self._held:
            self._asked.set()
        result = self._reports.get()
        self._held = result.pop("held", False)
        return result

    def cleanup(self) -> None:
        """Let the trial end well: as stopped where it waits for a scheduler, else put aside."""
        self._verdict = "stop" if self._waiting_on_score else "interrupt"
        self._asked.set()
        self._thread.join()

    def _train(self) -> None:
        import torch

        from gansweep.config import resolve
        from gansweep.progress import Outcome
        from gansweep.tracking.mlflow import MlflowTracker
        from gansweep.trial import TrialResult, run_trial

        cores = os.environ.get("OMP_NUM_THREADS")
        torch.set_num_threads(int(cores) if cores else 1)
        assigned = self._assigned
        try:
            problems: list[Problem] = []
            config = resolve(json.loads(assigned.tree), problems)
            if config is None:
                raise ConfigError(problems)
            tracker = MlflowTracker(assigned.uri, assigned.run_id)
            result = run_trial(config, tracker, self._report, folder=Path(assigned.folder))
        except BaseException as error:
            log.exception("the worker failed")
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
            result = TrialResult(outcome.state, outcome.reason, 0, 0.0, {})
        self._put({**asdict(result), "done": True, "scored": True})

    def _put(self, result: dict[str, Any]) -> None:
        objective = self._assigned.objective(result["metrics"])
        self._reports.put({**result, "key": self._assigned.key, "objective": objective})

    def _report(self, progress: Progress) -> Verdict:
        if self._verdict != "continue":
            return self._verdict
        waits = self._assigned.waits and progress.scored and progress.g_steps < progress.budget
        self._waiting_on_score = waits
        if waits:
            self._asked.clear()
        self._put({**asdict(progress), "held": waits})
        if waits:
            self._asked.wait()
            self._waiting_on_score = False
        return self._verdict


@final
class _Searcher(Searcher):  # type: ignore[misc]
    """Hands the proposals to Tune, one when a worker is free."""

    def __init__(self, begin: Callable[[], Assigned | None], mode: str) -> None:
        super().__init__(metric="objective", mode=mode)
        self._begin = begin

    def suggest(self, trial_id: str) -> Any:
        assigned = self._begin()
        if assigned is None:
            return Searcher.FINISHED
        return {"assigned": json.dumps(asdict(assigned))}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the plan is the durable state of a sweep."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as `save`."""

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


def _on_scores(cls: type[Any]) -> type[Any]:
    """A scheduler class that decides on scored results alone and tells which trials it stopped."""

    class OnScores(cls):  # type: ignore[misc]
        stopped: Callable[[dict[str, Any]], None]

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if not result.get("scored") or result.get("done"):
                return str(TrialScheduler.CONTINUE)
            decision = str(super().on_trial_result(controller, trial, result))
            if decision == TrialScheduler.STOP:
                self.stopped(result)
            if decision == TrialScheduler.PAUSE:  # the median rule's, to see other trials first
                return str(TrialScheduler.CONTINUE)
            return decision

    return OnScores


def _scheduler(search: Search, budget: int, stopped: Callable[[dict[str, Any]], None]) -> Any:
    grace = min(search.grace or max(1, budget // 5), budget)
    common = {"time_attr": "g_steps", "metric": "objective", "mode": search.mode}
    makers: dict[str, Callable[[], Any]] = {
        "none": FIFOScheduler,
        "asha": lambda: _on_scores(AsyncHyperBandScheduler)(
            **common, max_t=budget + 1, grace_period=grace, reduction_factor=search.reduction
        ),
        "median": lambda: _on_scores(MedianStoppingRule)(
            # Without the long slice it pauses trials, which ours cannot.
            **common,
            grace_period=grace,
            min_samples_required=2,
            min_time_slice=budget + 1,
        ),
    }
    scheduler = makers[search.scheduler]()
    scheduler.stopped = stopped
    return scheduler


class Driver:
    """What the driver does as trials begin, report and end; `run_trials` calls it."""

    def begin(self, trial: Trial) -> Assigned:
        """A worker is free for `trial`: make its run, and say what the worker is told."""
        raise NotImplementedError

    def report(self, key: str, result: dict[str, Any]) -> None:
        """A trial reported; `done` is in its last result, with how it ended."""
        raise NotImplementedError

    def lost(self, key: str, reason: str) -> None:
        """A trial's worker process died."""
        raise NotImplementedError

    def stopped(self, key: str) -> None:
        """The scheduler stopped a trial at its last report."""
        raise NotImplementedError


@final
class _Watch(tune.Callback):  # type: ignore[misc]
    """Passes Tune's events to the driver; an exception here must not end the sweep."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._guarded(self._driver.report, result["key"], result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key = json.loads(trial.config["assigned"])["key"]
        reason = str(trial.error_file and Path(trial.error_file).read_text().strip()[-300:])
        self._guarded(self._driver.lost, key, reason.splitlines()[-1] if reason else "worker died")

    def _guarded(self, call: Callable[[str, Any], None], key: str, value: Any) -> None:
        try:
            call(key, value)
        except Exception:
            log.exception("the driver could not take note of trial %s", key)


def start_ray(address: str | None, resources: Resources) -> dict[str, float]:
    """Join the cluster at `address`, or start a local Ray; returns its resources.

    ConfigError where there is no such cluster, or where a trial asks for more than it has.
    """
    if address and address.startswith("ray://"):
        raise ConfigError.single(
            "--address",
            "ray:// clients lose the sweep when the line breaks for 30 s",
            "run this command on the cluster, with --address auto, or submit it as a Ray job",
        )
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if not address else None,
            object_store_memory=None if address else OBJECT_STORE_BYTES,
            log_to_driver=True,
            configure_logging=False,
            runtime_env={"env_vars": worker_environment()},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError.single("--address", f"no Ray cluster at {address!r}: {error}") from error
    have = ray.cluster_resources()
    for name, wanted in (("CPU", resources.cpu), ("GPU", resources.gpu)):
        if wanted > have.get(name, 0):
            ray.shutdown()
            raise ConfigError.single(
                f"resources.{name.lower()}",
                f"a trial takes {wanted:g}, the cluster has {have.get(name, 0):g}",
            )
    return {str(name): float(count) for name, count in have.items()}


def stop_ray() -> None:
    """Leave the cluster; a local Ray ends."""
    ray.shutdown()


def worker_environment() -> dict[str, str]:
    """Variables of the worker processes: a lean start and output, and where a user's parts lie."""
    folders = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "TQDM_DISABLE": "1",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(os.path.abspath, folders))),
    }


def slots(resources: Resources, have: dict[str, float]) -> int:
    """How many trials fit at a time."""
    fits = have.get("CPU", 1) / resources.cpu
    if resources.gpu:
        fits = min(fits, have.get("GPU", 0) / resources.gpu)
    return max(1, min(math.floor(fits + 1e-9), resources.concurrent or 10**6))


def run_trials(
    proposals: Proposals,
    driver: Driver,
    *,
    search: Search,
    resources: Resources,
    budget: int,
    concurrent: int,
    folder: Path,
    on_interrupt: Callable[[], None],
) -> None:
    """Train every proposed trial on the workers; returns when all ended or upon an interrupt.

    The first SIGINT, SIGTERM or SIGUSR1 puts the running trials aside; they write checkpoints.
    """
    interrupts = _Interrupts(on_interrupt)

    troubles: list[Exception] = []

    def begin() -> Assigned | None:
        if troubles or interrupts.stop_all():
            return None
        try:
            trial = proposals.next()
            return None if trial is None else driver.begin(trial)
        except Exception as error:  # the trials that run are not to end for it
            log.exception("a trial could not be begun")
            troubles.append(error)
            return None

    def stopped(flat: dict[str, Any]) -> None:
        """Report it first: Tune calls its callbacks only after the scheduler."""
        metrics = {
            k.removeprefix("metrics/"): v for k, v in flat.items() if k.startswith("metrics/")
        }
        driver.report(flat["key"], {**flat, "metrics": metrics})
        driver.stopped(flat["key"])

    scheduler = _scheduler(search, budget, stopped)
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_GLOBAL_CHECKPOINT_S="86400",  # the plan is the durable state
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    )
    tuner = tune.Tuner(
        tune.with_resources(TrialWorker, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(begin, search.mode),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,  # a worker pays its imports once, not for every trial
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            max_concurrent_trials=concurrent,
        ),
        run_config=tune.RunConfig(
            name=SCRATCH,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_Watch(driver)],
            stop=interrupts,
            verbose=0,
        ),
    )
    try:
        with interrupts.listening():
            tuner.fit()
    finally:
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    if troubles:
        first = f"{type(troubles[0]).__name__}: {troubles[0]}".splitlines()[0]
        raise TrialNotBegunError(f"a trial could not be begun: {first}") from troubles[0]


@final
class _Interrupts(tune.Stopper):  # type: ignore[misc]
    """Ends the sweep gracefully at the first SIGINT or SIGTERM; a second one ends it at once."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note
        self._seen = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Tune between its events."""
        return self._seen

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True
        self._note()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Our handlers in place; Tune's own, which SIGUSR1 keeps, does the same without a note."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
