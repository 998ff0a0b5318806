"""What `gansweep plan` says of the time and the GPU hours that a sweep will take."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from gansweep.commands.home import Home
from gansweep.counting import counted
from gansweep.sweep.estimate import Estimate, estimate, paces_of, unknown_trials
from gansweep.sweep.file import Resources, Sweep
from gansweep.sweep.files import PACES_FILE, SPENT_FILE
from gansweep.sweep.pace import Pace, read_paces
from gansweep.sweep.plan import Entry
from gansweep.sweep.proposals import meant
from gansweep.sweep.spending import Spending
from gansweep.sweep.trials import Trial, is_listed, trial_count
from gansweep.terminal import clock, hush_lightning

MOST_PROBES = 20
"""Shapes that are probed at once, some 10 s each."""

CUTTING = ("asha", "median")
"""Schedulers that end trials early."""


@final
@dataclass(frozen=True)
class Forecast:
    """An estimate with so many workers; `here`: those of this machine."""

    sweep: Sweep
    estimate: Estimate
    workers: int
    here: bool
    spending: Spending

    @property
    def seconds(self) -> float:
        """By the clock."""
        return self.estimate.clock_seconds(self.workers)

    @property
    def gpu_hours(self) -> float | None:
        """None where no GPU is asked for, and where the cards decide how much of one."""
        resources = self.sweep.resources
        if not resources.gpu:
            return None
        return self.estimate.gpu_hours(resources.gpu * resources.processes)

    def to_dict(self) -> dict[str, Any]:
        """For programs; None where nothing is known, and of the known trials alone else."""
        known = self.estimate.known > 0
        return {
            "trials": self.estimate.trials,
            "unknown": self.estimate.unknown,
            "workers": self.workers if known else None,
            "seconds": self.seconds if known else None,
            "training_seconds": self.estimate.seconds if known else None,
            "gpu_hours": self.gpu_hours if known else None,
            "finished_trials": self.estimate.finished,
            "probed_shapes": self.estimate.probed,
            "upper_bound": self.sweep.search.scheduler in CUTTING,
        }

    def lines(self, file: Path) -> Iterator[str]:
        """For a person, who planned `file`."""
        if self.estimate.known:
            yield self._line()
        if self.estimate.unknown:
            yield (
                f"time: unknown of {counted(self.estimate.unknown, 'trial')}, since nothing of the "
                f"same shape has finished below --dir: `gansweep plan {file} --probe` trains one "
                "of each shape for some seconds"
            )
        if self.estimate.known:
            yield from self._budget()

    def _line(self) -> str:
        about = "at most about" if self.sweep.search.scheduler in CUTTING else "about"
        where = " of this machine" if self.here else ""
        gpu = "" if self.gpu_hours is None else f", {self.gpu_hours:.2g} GPU hours"
        finished, probed = self.estimate.finished, self.estimate.probed
        sources = [f"{counted(finished, 'finished trial')} of the same shape"] * bool(finished)
        sources += [f"a probe of {counted(probed, 'shape')}, alone"] * bool(probed)
        some = f" for {self.estimate.known} of the {self.estimate.trials} trials"
        of = some if self.estimate.unknown else ""
        return (
            f"time: {about} {clock(self.seconds)} on {counted(self.workers, 'worker')}{where}{of} "
            f"({clock(self.estimate.seconds)} of training{gpu}): an estimate, from "
            f"{' and '.join(sources)}"
        )

    def _budget(self) -> Iterator[str]:
        limits, spending = self.sweep.limits, self.spending
        ends = {
            "time_budget": (limits.seconds, spending.seconds + self.seconds),
            "gpu_hours": (limits.gpu_hours, spending.gpu_hours + (self.gpu_hours or 0.0)),
        }
        for key, (limit, needed) in ends.items():
            if limit is not None and needed > limit:
                yield f"time: {key} is likely to end before the trials do"


def forecast(
    sweep: Sweep,
    trials: Sequence[Trial],
    entries: Mapping[str, Entry],
    *,
    home: Home,
    probes: bool,
    workers: int | None,
) -> Forecast:
    """By what finished in this sweep and in those beside its `home`, and by `probes`."""
    with home.as_it_is(SPENT_FILE) as folder:
        spending = Spending(folder / SPENT_FILE, sweep.limits)
    on_gpu = sweep.resources.on_gpu
    paces: dict[str, Pace] = paces_of(trials, entries, on_gpu=on_gpu)
    with home.of_all(PACES_FILE) as files:
        paces |= read_paces(files)
    if probes:
        unknown = unknown_trials(trials, entries, paces, on_gpu=on_gpu)
        paces |= _probed(dict(list(unknown.items())[:MOST_PROBES]), sweep.resources)
    total = None
    if not is_listed(sweep):
        total, keys = trial_count(sweep), meant(sweep, entries.values())
        entries = {key: entry for key, entry in entries.items() if key in keys}
    found = estimate(trials, entries, paces, on_gpu=on_gpu, total=total)
    here = workers is None
    if workers is None:
        workers = _workers(sweep.resources) if found.known else 1
    return Forecast(sweep, found, workers, here, spending)


def _probed(trials: Mapping[str, Trial], resources: Resources) -> dict[str, Pace]:
    from gansweep.sweep.probe import ProbeError, probe

    hush_lightning()
    paces = {}
    for number, (name, trial) in enumerate(trials.items(), start=1):
        print(f"probing {number} of {len(trials)}: {trial.name}", file=sys.stderr)
        try:
            paces[name] = probe(trial.config, cores=resources.cpu, on_gpu=resources.on_gpu)
        except ProbeError as error:
            print(f"no probe of {trial.name}: {error}", file=sys.stderr)
    return paces


def _workers(resources: Resources) -> int:
    """As many as fit on this machine."""
    import torch

    from gansweep.sweep.startup import cores, slots

    return slots(resources, {"CPU": cores(), "GPU": torch.cuda.device_count()})
