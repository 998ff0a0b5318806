"""`gansweep plan`: what a sweep would train, and about how long."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from gansweep.commands.forecast import forecast
from gansweep.commands.home import find_home
from gansweep.counting import counted
from gansweep.report.columns import Column, Fitted, texts
from gansweep.report.table import LEAST_NAME
from gansweep.settings import dump
from gansweep.sweep.file import Resources, load_sweep
from gansweep.sweep.outdated import outdated
from gansweep.sweep.plan import FINAL
from gansweep.sweep.trials import (
    Trial,
    check_data,
    idle_scheduler,
    is_listed,
    planned,
    trial_count,
)

EXAMPLES = "above are examples that span the space"


def plan_command(
    path: Path,
    overrides: Sequence[str],
    *,
    root: Path | str,
    as_json: bool,
    probes: bool = False,
    workers: int | None = None,
) -> int:
    """Print trials, keys, resources and time; nothing is written but the data cache.

    Nothing is started either, but for `probes` of what nothing is known of. workers: that the time
    is estimated with; None: as many as this machine has room for.
    """
    sweep = load_sweep(path, overrides)
    trials = planned(sweep)
    wanted = sweep.resources
    advice = check_data(trials, stacked=wanted.engine == "stacked", processes=wanted.processes)
    home = find_home(root, sweep.name)
    home.check(write=False)
    driven = home.is_driven()
    known = home.standing(sweep.name).entries
    resources = sweep.resources

    def state_of(trial: Trial) -> str:
        if trial.key not in known:
            return "waiting"
        entry = dataclasses.replace(known[trial.key])
        entry.take_up(trial.config.budget.g_steps)
        left_behind = entry.state == "running" and not driven
        return "interrupted" if left_behind else entry.state

    finished = [known[t.key] for t in trials if state_of(t) in FINAL]
    outlook = forecast(sweep, trials, known, home=home, probes=probes, workers=workers)
    if as_json:
        tree = {
            "name": sweep.name,
            "method": sweep.search.method,
            "resources": dump(resources),
            "estimate": outlook.to_dict(),
            "trials": [
                {
                    "key": trial.key,
                    "name": trial.name,
                    "point": trial.point,
                    "seed": trial.seed,
                    "state": state_of(trial),
                    "config": trial.config.to_dict(),
                }
                for trial in trials
            ],
        }
        print(json.dumps(tree, indent=1))
        return 0
    console = Console(soft_wrap=True)
    steps = texts(trial.config.budget.g_steps for trial in trials)
    columns = [
        Column("key", texts(trial.key for trial in trials)),
        Column("trial", texts(trial.name for trial in trials), least=LEAST_NAME),
        Column("g_steps", steps, right=True, leaves=1),
        Column("state", texts(map(state_of, trials)), leaves=2),
    ]
    console.print(Fitted(columns))
    count = len(trials)
    what = counted(count, "trial")
    if sweep.search.method == "tpe":
        what = f"{counted(trial_count(sweep), 'trial')} that TPE will choose; {EXAMPLES}"
    elif not is_listed(sweep):
        what = f"{counted(trial_count(sweep), 'trial')} at most; {EXAMPLES}"
    takes = f"{counted(resources.cpu, 'core')} and {_gpus(resources)}"
    if resources.processes > 1:
        how = f"each by {resources.processes} processes, each process with {takes}"
    else:
        how = f"in packs of {resources.pack or 'what fits'}, each pack with {takes}"
    console.print(f"{sweep.name}: {what}, {how}")
    for text in outlook.lines(path):
        console.print(text, markup=False)
    notes = sorted({line for lines in advice.values() for line in lines})
    begun = [known[trial.key] for trial in trials if trial.key in known]
    notes += [*idle_scheduler(sweep, trials), *outdated(begun, finished, trials)]
    for line in notes:
        console.print(f"note: {escape(line)}")
    return 0


def _gpus(resources: Resources) -> str:
    if resources.by_memory:
        return f"the share of a GPU that has {resources.gpu_memory_gb:g} GB for each trial"
    return counted(resources.gpu, "GPU")
