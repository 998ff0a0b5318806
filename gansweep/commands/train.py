"""`gansweep train`: one trial in this process, without Ray."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape

from gansweep.assembly import build_trial_scores, check_fit, load_samples
from gansweep.commands.home import Home, find_home
from gansweep.commands.sync import what_is_left
from gansweep.config import TrialConfig, resolve
from gansweep.errors import ConfigError, Problem
from gansweep.progress import Continue, Progress, Report, TrialResult, Verdict
from gansweep.provenance import environment_text, version_tags
from gansweep.sweep.file import load_sweep
from gansweep.sweep.params import trial_params
from gansweep.terminal import clock
from gansweep.tracking.memory import MemoryTracker
from gansweep.tracking.mlflow import Courier, MlflowStore, tracking_uri
from gansweep.tracking.spool import SpoolTracker
from gansweep.trial import run_trial

LINE_SECONDS = 5.0


def train_command(
    path: Path, overrides: Sequence[str], *, uri: str | None, root: Path | str, record: bool
) -> int:
    """Train the file's `trial:`; the space does not matter. Goes on from its checkpoint."""
    sweep = load_sweep(path, overrides, one_trial=True)
    problems: list[Problem] = []
    config = resolve(sweep.trial, problems)
    if config is None:
        raise ConfigError(problems)
    spec = load_samples(config).spec
    advice = check_fit(config, spec)
    build_trial_scores(config, spec)
    console = Console(soft_wrap=True)
    for line in advice:
        console.print(f"[yellow]note[/]: {escape(line)}")
    home = find_home(root, sweep.name)
    home.check(write=True)
    store = MlflowStore(tracking_uri(uri)) if record else None
    if store:
        store.check()
    with home.sole_use(_end_at_once), home.trial(config.key) as own:
        result = _trained(config, sweep.name, home, own, store, console)
    scores = [
        f"{name} {value:.4g}" for name, value in result.metrics.items() if name.startswith("score/")
    ]
    console.print(
        f"{result.state} at g_step {result.g_steps} after {clock(result.seconds)} "
        f"{' '.join(scores)} {escape(result.reason or result.diagnosis)}".rstrip()
    )
    console.print(f"checkpoint {home.trial_place(config.key)}/checkpoint.pt")
    if record:
        console.print(f"compare    gansweep ui {sweep.name}")
    return 1 if result.state == "failed" else 0


def _end_at_once() -> None:
    """Another command has the folder: not one more checkpoint of ours may be written."""
    os._exit(130)


def _trained(
    config: TrialConfig,
    name: str,
    home: Home,
    own: Path,
    store: MlflowStore | None,
    console: Console,
) -> TrialResult:
    """The trial, recorded in `store` where there is one, in its `own` folder."""
    report = _printer(console)
    if store is None:
        return run_trial(config, MemoryTracker(), report, folder=own)
    experiment = store.experiment(name)
    # A point of its own: `show` must not average it with other trials.
    point = json.dumps({"trial": config.key})
    tags = {**version_tags(Path.cwd()), "seed": str(config.run.seed), "point": point}
    run_name = f"{config.model.name} {config.key[:6]}"
    run_id = store.trial_run(experiment, None, config.key, run_name, trial_params(config, {}), tags)
    tree = yaml.safe_dump({"trial": config.to_dict()}, sort_keys=False)
    store.log_text(run_id, tree, "config.yaml")
    store.log_text(run_id, environment_text(), "environment.txt")
    courier = Courier(store.uri)
    courier.add(run_id, own)
    try:
        return run_trial(config, SpoolTracker(own), report, folder=own)
    finally:
        left = courier.drain()
        courier.close()
        if left.records:
            line = what_is_left(left, home, name)
            console.print(line, style="yellow", markup=False)


def _printer(console: Console) -> Report:
    last = [time.monotonic() - LINE_SECONDS]

    def report(progress: Progress) -> Verdict:
        now = time.monotonic()
        if progress.scored or now - last[0] >= LINE_SECONDS:
            last[0] = now
            values = {
                name: value
                for name, value in progress.metrics.items()
                if name.startswith(("loss/", "score/"))
            }
            words = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            console.print(f"g_step {progress.g_steps}/{progress.budget} {words}")
        return Continue()

    return report
