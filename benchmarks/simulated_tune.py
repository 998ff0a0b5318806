"""Ray Tune's controller over simulated workers: all of it is real above its manager of actors."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, final
from unittest.mock import patch

from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.tune.execution import tune_controller

from benchmarks.simulation import Events, SimulatedWorker, pauses
from gansweep.sweep.tune import run_packs, step_seconds
from gansweep.sweep.worker import Answer, Message

START_SECONDS = 5.0
"""Virtual time that an actor takes to start."""

STEP_OVERHEAD_SECONDS = 0.01


@final
class _Actor:
    """What Tune takes for a handle of an actor: a worker process that trains pack after pack."""

    def __init__(
        self,
        name: str,
        config: dict[str, Any],
        simulated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._pauses: Iterator[float] = pauses(name)
        self._simulated = simulated
        self.answer = SimpleNamespace(remote=self._answer)
        self.get_auto_filled_metrics = SimpleNamespace(remote=lambda **options: {})
        self.take(config)

    def _answer(self, answer: Answer) -> None:
        with self._simulated():
            self.worker.answer(answer)

    def take(self, config: dict[str, Any]) -> None:
        self.worker = SimulatedWorker(config["parcel"].pack)
        self.trial = config["__trial_info__"].trial_id
        self.steps = 0
        self._wait = 0.0

    def step(self) -> tuple[float, list[Message]]:
        """The virtual seconds that a step takes, and what it says."""
        longest = step_seconds(self.worker.pack)
        if self._wait > longest:  # it has nothing to say
            self._wait -= longest
            return longest, []
        said, waited = self.worker.advance(), self._wait
        self._wait = next(self._pauses)
        return waited + STEP_OVERHEAD_SECONDS, said

    def result(self, said: list[Message]) -> dict[str, Any]:
        """As Tune's Trainable fills it up."""
        self.steps += 1
        now = datetime.now()
        return {
            "messages": said,
            "done": self.worker.over,
            "training_iteration": self.steps,
            "trial_id": self.trial,
            "date": now.strftime("%Y-%m-%d_%H-%M-%S"),
            "timestamp": int(time.mktime(now.timetuple())),
            "time_this_iter_s": 1.0,
            "time_total_s": float(self.steps),
            "pid": os.getpid(),
            "hostname": platform.node(),
            "node_ip": "127.0.0.1",
            "config": {},
            "time_since_restore": float(self.steps),
            "iterations_since_restore": self.steps,
        }


@final
class SimulatedActors:
    """In the place of Ray's RayActorManager, as far as Tune's controller calls it.

    What it spends on pretending is called `simulated`.
    """

    def __init__(
        self, *, slots: int, simulated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.events = Events()
        self.steps = 0
        self._slots = slots
        self._simulated = simulated
        self._ids = itertools.count()
        self._pending: dict[TrackedActor, dict[str, Any]] = {}
        self._live_actors_to_ray_actors_resources: dict[TrackedActor, tuple[_Actor, Any]] = {}
        self._tasks: dict[TrackedActor, set[int]] = {}
        self._numbers = itertools.count()
        self._ready: deque[TrackedActor] = deque()
        self._starting = 0

    @property
    def num_live_actors(self) -> int:
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_pending_actors(self) -> int:
        return len(self._pending)

    @property
    def num_total_actors(self) -> int:
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        return sum(map(len, self._tasks.values()))

    def get_live_actors_resources(self) -> dict[str, float]:
        return {"CPU": float(self.num_live_actors)}

    def add_actor(
        self,
        cls: Any,
        kwargs: dict[str, Any],
        resource_request: Any,
        *,
        on_start: Any = None,
        on_stop: Any = None,
        on_error: Any = None,
    ) -> TrackedActor:
        actor = TrackedActor(next(self._ids), on_start=on_start, on_stop=on_stop, on_error=on_error)
        self._pending[actor] = kwargs["config"]
        self._ready.append(actor)
        self._start()
        return actor

    def _start(self) -> None:
        while self._ready and self.num_live_actors + self._starting < self._slots:
            self._starting += 1
            self.events.put(START_SECONDS, ("start", self._ready.popleft(), None))

    def remove_actor(
        self, tracked_actor: TrackedActor, kill: bool = False, stop_future: Any = None
    ) -> bool:
        self._pending.pop(tracked_actor, None)
        self._tasks.pop(tracked_actor, None)
        if self._live_actors_to_ray_actors_resources.pop(tracked_actor, None) is None:
            return False
        self.events.put(STEP_OVERHEAD_SECONDS, ("stop", tracked_actor, None))
        return True

    def is_actor_started(self, tracked_actor: TrackedActor) -> bool:
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: TrackedActor) -> bool:
        return False

    def clear_actor_task_futures(self, tracked_actor: TrackedActor) -> None:
        self._tasks.pop(tracked_actor, None)

    def schedule_actor_task(
        self,
        tracked_actor: TrackedActor,
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: Any = None,
        on_result: Any = None,
        on_error: Any = None,
        _return_future: bool = False,
    ) -> Any:
        if tracked_actor not in self._live_actors_to_ray_actors_resources:
            return None  # it is to end before it began
        with self._simulated():
            actor, _ = self._live_actors_to_ray_actors_resources[tracked_actor]
            result: Any = None
            seconds = STEP_OVERHEAD_SECONDS
            if method_name == "train":
                seconds, said = actor.step()
                result = said
            elif method_name == "reset":
                actor.take(args[0])
                result = True
            if on_result is not None:
                number = next(self._numbers)
                self._tasks.setdefault(tracked_actor, set()).add(number)
                what = (number, method_name, on_result, result)
                self.events.put(seconds, ("task", tracked_actor, what))
        return object() if _return_future else None

    def next(self, timeout: float | None = None) -> bool:
        """Have the next event happen; whether there was one."""
        if not len(self.events):
            return False
        kind, tracked, what = self.events.pop()
        if kind == "start":
            self._starting -= 1
            if tracked not in self._pending:  # Tune has taken another one for its pack
                self._start()
                return True
            with self._simulated():
                config = self._pending.pop(tracked)
                actor = _Actor(str(tracked.actor_id), config, self._simulated)
            self._live_actors_to_ray_actors_resources[tracked] = (actor, None)
            tracked._on_start(tracked)
        elif kind == "stop":
            if tracked._on_stop:
                tracked._on_stop(tracked)
            self._start()
        elif kind == "task":
            number, method, on_result, result = what
            if number in self._tasks.get(tracked, ()):
                self._tasks[tracked].discard(number)
                if method == "train":
                    with self._simulated():
                        actor, _ = self._live_actors_to_ray_actors_resources[tracked]
                        result = actor.result(result)
                    self.steps += 1
                on_result(tracked, result)
        return True

    def cleanup(self) -> None:
        pass


def run_on_tune(
    driver: Any, *, simulated: Callable[[], AbstractContextManager[None]], **arguments: Any
) -> SimulatedActors:
    """`run_packs` as it is, with Tune's controller as it is, on simulated workers."""
    actors = SimulatedActors(slots=arguments["concurrent"], simulated=simulated)
    with patch.object(tune_controller, "RayActorManager", lambda resource_manager: actors):
        run_packs(driver, on_interrupt=lambda: None, **arguments)
    return actors
