"""Ray Tune at work: it spreads packs over worker processes. Alone imports ray.tune."""

from __future__ import annotations

import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from gansweep.excerpt import ending
from gansweep.memory import OUT_OF_MEMORY, ray_says_so
from gansweep.redaction import guard_log
from gansweep.sweep.folder import begin_in_folder
from gansweep.sweep.grace import Interrupts
from gansweep.sweep.worker import Answer, Ended, Message, PackAssigned, Worker

if TYPE_CHECKING:
    from gansweep.sweep.team import Team

log = logging.getLogger("gansweep")

SCRATCH = "ray"
"""Folder of Tune's own files within the sweep's; none outlives a run."""

NODE_LABEL = "ray.io/node-id"
"""Ray's own label of each node."""

STEP_SECONDS = 1.0
"""How long a worker's step waits for a message that is urgent; an answer waits for the step."""

WAITING_STEP_SECONDS = 0.1
"""The same in a population, whose members rest until others have been heard."""

EVENTS_PER_SECOND = 250
"""Steps of all workers that end without anything urgent; Tune takes 0.4 ms for each."""

LONGEST_STEP_SECONDS = 4.0
"""What a graceful stop may wait for, since it waits for the step too."""


KEPT_OF_RESULTS = ("done", "trial_id")
"""Tune goes on without the rest, of which it would keep statistics, number by number."""


@final
class Parcel:
    """A pack on its way to its worker.

    Tune keeps what it was given for as long as it runs, in copies, in words and pickled.
    """

    def __init__(self, pack: PackAssigned) -> None:
        self._pack: PackAssigned | None = pack

    def __deepcopy__(self, memo: Any) -> Parcel:
        return self

    @property
    def pack(self) -> PackAssigned:
        assert self._pack is not None
        return self._pack

    def empty(self) -> None:
        """The pack is over."""
        self._pack = None


@final
class PackWorker(tune.Trainable):  # type: ignore[misc]
    """One pack in a Ray worker: it trains in a thread, and its messages are Tune's results.

    Stopping is graceful whatever the reason: `cleanup` lets the trials write their checkpoints
    and flush their records before the process ends.
    """

    _team: Team | None = None
    """The processes that train along: the same ones for pack after pack."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What Tune asks of Ray for the pack in `config`."""
        takes = config["parcel"].pack.takes
        where = {}
        if takes.nodes:
            where["bundle_label_selector"] = [{NODE_LABEL: f"in({','.join(takes.nodes)})"}]
        each = {"CPU": takes.cpu, "GPU": takes.gpu}
        return tune.PlacementGroupFactory([each] * takes.processes, **where)

    def setup(self, config: dict[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """Begin the pack at once; the driver hears of it through `step`.

        environment: variables that no file may hold, and so none that Tune or Ray write either.
        """
        os.environ.update(environment or {})
        guard_log()
        begin_in_folder()
        pack: PackAssigned = config["parcel"].pack
        if pack.takes.processes > 1 and self._team is None:
            from gansweep.sweep.team import Team

            self._team = Team(pack.takes)
        self._worker = Worker(pack, self._team)
        self._step_seconds = step_seconds(pack)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the last pack and begin the next in this process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """What the pack said meanwhile; the last result has `done`."""
        over = self._worker.over
        self.config: dict[str, Any] = {}  # Tune would send the pack back with each result
        return {"messages": self._worker.take(self._step_seconds), "done": over}

    def answer(self, answer: Answer) -> None:
        """The driver's answer; Ray runs it between two steps."""
        self._worker.answer(answer)

    def cleanup(self) -> None:
        """Let the trials be put aside."""
        self._worker.interrupt()


def step_seconds(pack: PackAssigned) -> float:
    """How long a worker with this pack waits for something urgent to say."""
    of_population = any(trial.generation for trial in pack.trials)
    shortest = WAITING_STEP_SECONDS if of_population else STEP_SECONDS
    return min(max(shortest, pack.workers / EVENTS_PER_SECOND), LONGEST_STEP_SECONDS)


@final
class _InOrder(FIFOScheduler):  # type: ignore[misc]
    """Tune's own, but for a look through all packs there ever were, at each event, for one to run.

    Those that are to run it starts in their order by itself.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        return None


@final
class _Searcher(Searcher):  # type: ignore[misc]
    """Hands packs to Tune, one when a worker is free."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver

    def suggest(self, trial_id: str) -> Any:
        pack = self._driver.begin(trial_id)
        if pack is None:
            return None if self._driver.busy else Searcher.FINISHED
        return {"parcel": Parcel(pack)}

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


class Driver(ABC):
    """What the driver does as packs begin, speak and end; `run_packs` calls it.

    A pack is known by the id of the worker's task. Answers go by the same ids.
    """

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether trials are in training, or may come again."""

    @abstractmethod
    def begin(self, pack: str) -> PackAssigned | None:
        """A worker is free: the next pack, with its runs made; None where no trial waits."""

    @abstractmethod
    def hear(self, pack: str, message: Message) -> dict[str, Answer]:
        """A pack's message; answers for this pack and for others."""

    @abstractmethod
    def over(self, pack: str, reason: str) -> dict[str, Answer]:
        """The pack ended, or its worker process died for `reason`."""


@final
class _Watch(tune.Callback):  # type: ignore[misc]
    """Passes Tune's events to the driver; an exception here must not end the sweep."""

    def __init__(self, driver: Driver, *, set_up: Callable[[], None] = lambda: None) -> None:
        """`set_up` is called once Tune has made its own preparations."""
        self._driver = driver
        self._set_up = set_up
        self._tasks: dict[str, Any] = {}

    def setup(self, **info: Any) -> None:
        self._set_up()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._tasks[trial.trial_id] = trial
        for message in result.get("messages", ()):
            self._guarded(self._driver.hear, trial.trial_id, message)
        for name in result.keys() - KEPT_OF_RESULTS:
            del result[name]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._over(trial, "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        words = Path(trial.error_file).read_text().strip() if trial.error_file else ""
        reason = ending(words.splitlines()[-1], 300) if words else "no word of why"
        if ray_says_so(words):
            reason = f"{OUT_OF_MEMORY}: {reason}"
        self._over(trial, reason)

    def _over(self, trial: Any, reason: str) -> None:
        self._guarded(self._driver.over, trial.trial_id, reason)
        self._tasks.pop(trial.trial_id, None)
        trial.config["parcel"].empty()

    def _guarded(self, call: Callable[[str, Any], dict[str, Answer]], pack: str, what: Any) -> None:
        try:
            for other, answer in call(pack, what).items():
                actor = self._tasks[other].temporary_state.ray_actor
                if actor is not None:
                    actor.answer.remote(answer)
        except Exception:
            log.exception("the driver could not take note of %.200r", what)
            if isinstance(what, Ended):  # else its worker would wait for ever
                self._tasks[pack].temporary_state.ray_actor.answer.remote(Answer(closed=1))


def run_packs(
    driver: Driver,
    *,
    concurrent: int,
    folder: Path,
    on_interrupt: Callable[[], None],
    is_due: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Train every pack that the driver gives; returns when all ended or upon an interrupt.

    environment: variables of the workers, in memory alone.
    The first SIGINT, SIGTERM or SIGUSR1 puts the running trials aside; they write checkpoints. So
    they do once `is_due`, which is asked ten times a second and more.
    """
    interrupts = Interrupts(on_interrupt, is_due)
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_GLOBAL_CHECKPOINT_S="86400",  # the plan is the durable state
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    )
    worker = PackWorker
    if environment:  # through Ray's object store
        worker = tune.with_parameters(PackWorker, environment=dict(environment))
    tuner = tune.Tuner(
        worker,
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(driver),
            scheduler=_InOrder(),  # ours decide on trials, Tune sees packs
            num_samples=-1,
            reuse_actors=True,  # a worker pays its imports once, not for every pack
            trial_dirname_creator=lambda trial: str(trial.trial_id),
            max_concurrent_trials=concurrent,
        ),
        run_config=tune.RunConfig(
            name=SCRATCH,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=0),  # the driver packs them anew
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[_Watch(driver, set_up=interrupts.listen)],  # Tune takes SIGUSR1
            stop=_Stopper(interrupts),
            verbose=0,
        ),
    )
    try:
        with interrupts.listening():
            tuner.fit()
    finally:
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)


@final
class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends Tune's work once a graceful stop has begun."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Tune between its events."""
        return self._interrupts.stopping
