"""Simulated workers in virtual time: they train nothing, and say and record what trials would.

What they are given and what they answer is as a real worker's (gansweep/sweep/worker.py). Their
time is a number: a sweep of hours passes as fast as the driver can follow.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from gansweep.engines import Choice
from gansweep.progress import Continue, Progress, Stop, TrialResult
from gansweep.sweep.tune import Driver
from gansweep.sweep.worker import Answer, Assigned, Ended, Message, PackAssigned, Report
from gansweep.tracking.spool import SpoolTracker

SCORE_SECONDS = 30.0
"""Virtual time between a trial's scores, on average."""

LOGGED = 20
"""Metrics in each report and in each line of a spool."""


@final
class SimulatedTrial:
    """A trial that only scores: the longer the better, each towards a value of its own."""

    def __init__(self, assigned: Assigned) -> None:
        self.key = assigned.key
        self.budget: int = assigned.tree["budget"]["g_steps"]
        self.every: int = assigned.tree["score"]["every"]
        self.g_steps = 0
        self._bottom = int(hashlib.sha256(assigned.key.encode()).hexdigest()[:8], 16) / 2**32
        self._tracker = SpoolTracker(Path(assigned.folder))

    def advance(self) -> Progress:
        """To its next score."""
        self.g_steps = min(self.g_steps + self.every, self.budget)
        self._tracker.log_metrics(self.metrics, step=self.g_steps)
        return Progress(self.g_steps, self.budget, self.seconds, self.metrics, scored=True)

    def end(self, state: Any, reason: str = "") -> TrialResult:
        self._tracker.set_tags({"gansweep.state": state, "gansweep.g_steps": str(self.g_steps)})
        self._tracker.finish("FINISHED")
        return TrialResult(state, reason, self.g_steps, self.seconds, self.metrics)

    @property
    def seconds(self) -> float:
        return SCORE_SECONDS * self.g_steps / self.every

    @property
    def metrics(self) -> dict[str, float]:
        value = self._bottom + self.budget / (1 + self.g_steps)
        others = {f"d/{place}": value / (1 + place) for place in range(LOGGED - 1)}
        return {"score/swd": value, **others}


@final
class SimulatedWorker:
    """One pack in training."""

    def __init__(self, pack: PackAssigned) -> None:
        self.pack = pack
        self._trials = {each.key: SimulatedTrial(each) for each in pack.trials}
        self._said: list[Message] = [Choice(False, False, "simulated")]
        self._open = 0  # places of ended trials that the driver has not spoken of

    @property
    def over(self) -> bool:
        return not (self._trials or self._said or self._open)

    def advance(self) -> list[Message]:
        """What it says next: of all its trials, as far as they have come."""
        said, self._said = self._said, []
        if said:
            return said
        progress = {key: trial.advance() for key, trial in self._trials.items()}
        over = [key for key, each in progress.items() if each.g_steps >= each.budget]
        running = {key: each for key, each in progress.items() if key not in over}
        ended = [Ended(key, self._trials.pop(key).end("completed")) for key in over]
        self._open += len(ended)
        return [*([Report(running)] if running else []), *ended]

    def answer(self, answer: Answer) -> None:
        for key, verdict in answer.verdicts.items():
            match verdict:
                case Stop(reason) if key in self._trials:
                    self._said.append(Ended(key, self._trials.pop(key).end("stopped", reason)))
                    self._open += 1
                case Continue():
                    pass
        for refill in answer.refills:
            self._trials[refill.key] = SimulatedTrial(refill)
        self._open -= answer.closed + len(answer.refills)


@final
class Events:
    """What is to happen, by virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self._heap: list[tuple[float, int, Any]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, seconds: float, what: Any) -> None:
        """Have it happen in `seconds` from now."""
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), what))

    def pop(self) -> Any:
        self.now, _, what = heapq.heappop(self._heap)
        self.count += 1
        return what


def pauses(name: str) -> Iterator[float]:
    """The virtual seconds between a worker's scores: no two workers keep step."""
    for turn in itertools.count():
        digest = hashlib.sha256(f"{name} {turn}".encode()).digest()
        yield SCORE_SECONDS * (0.5 + digest[0] / 255)


def run_simulated(driver: Driver, *, workers: int) -> Events:
    """Train every pack that the driver gives, on `workers` simulated ones, without Tune."""
    events = Events()
    packs: dict[str, SimulatedWorker] = {}
    idle = deque(f"worker {place}" for place in range(workers))
    names = itertools.count()
    timers: dict[str, Iterator[float]] = {}

    def fill() -> None:
        while idle:
            pack = f"pack {next(names)}"
            assigned = driver.begin(pack)
            if assigned is None:
                return
            packs[pack] = SimulatedWorker(assigned)
            timers[pack] = pauses(idle.popleft())
            events.put(1.0, pack)

    fill()
    while events:
        pack = events.pop()
        for message in packs[pack].advance():
            for other, answer in driver.hear(pack, message).items():
                packs[other].answer(answer)
        if packs[pack].over:
            driver.over(pack, "")
            del packs[pack], timers[pack]
            idle.append(pack)
            fill()
        else:
            events.put(next(timers[pack]), pack)
    return events
