"""`gansweep train`: one trial in this process, without Ray."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape

from gansweep.assembly import check_fit, load_samples, on_classes
from gansweep.checkpoint import read_newest
from gansweep.commands.home import Home, find_home
from gansweep.commands.sync import what_is_left
from gansweep.config import TrialConfig, resolve
from gansweep.errors import ConfigError, Problem
from gansweep.progress import Continue, Interrupt, Progress, Report, TrialResult, Verdict
from gansweep.provenance import environment_text, version_tags
from gansweep.reference import try_scores
from gansweep.subnormals import flushed
from gansweep.sweep.file import load_sweep
from gansweep.sweep.grace import Grace, Interrupts
from gansweep.sweep.limits import LIMITS
from gansweep.sweep.params import flatten
from gansweep.sweep.plan import alone
from gansweep.terminal import clock, hush_lightning
from gansweep.tracking.memory import MemoryTracker
from gansweep.tracking.mlflow import Backlog, Courier, MlflowStore, tracking_uri
from gansweep.tracking.spool import SpoolTracker, spools
from gansweep.trial import run_trial
from gansweep.trial_files import CHECKPOINT

LINE_SECONDS = 5.0

OF_A_SWEEP = ("space", "search", "seeds", "resources", *LIMITS)
"""Sections of a file that one trial does not look at."""

OK, FAILED, INTERRUPTED = 0, 1, 130
"""Exit codes, as those of `gansweep run`."""

INTERRUPTED_DRAIN_SECONDS = 15.0
"""How long a trial that was put aside delivers; the same command, or `sync`, brings the rest."""


def train_command(
    path: Path, overrides: Sequence[str], *, uri: str | None, root: Path | str, record: bool
) -> int:
    """Train the file's `trial:`; the space does not matter. Goes on from its checkpoint.

    Its folder and its run are its own, apart from those of a sweep of that file; it begins where
    the sweep's trial stands. The first SIGINT, SIGTERM or SIGUSR1 puts it aside;
    before its first step, which may take a minute to compile, it ends it at once.
    """
    console = Console(soft_wrap=True)
    hush_lightning()
    grace = Grace(end_all=_end_at_once)
    begun = threading.Event()

    def note() -> None:
        grace.begin()
        if begun.is_set():
            words = "stopping: the trial writes its checkpoint (again to end at once)"
            print(words, file=sys.stderr, flush=True)

    interrupts = Interrupts(note, has_begun=begun.is_set)
    report = _printer(console, interrupts, begun)
    try:
        with interrupts.listening(), flushed():
            return _train(
                path, overrides, interrupts, report, console, uri=uri, root=root, record=record
            )
    except KeyboardInterrupt:
        how = "ended at once" if begun.is_set() else "interrupted before the first step"
        console.print(f"[yellow]{how}[/]: the same command goes on")
        return INTERRUPTED
    finally:
        grace.over()


def _vain_overrides(overrides: Sequence[str]) -> list[Problem]:
    """Overrides of what decides on other trials than the one here: lost without a word."""
    problems = []
    for key, _, value in (override.partition("=") for override in overrides):
        section = key.partition(".")[0]
        if section in OF_A_SWEEP and value.strip() != "null":
            what = f"{section} is of a sweep, and gansweep train trains one trial alone"
            problems.append(Problem(f"{key}={value}", what, "set what the trial has, as seed=3"))
    return problems


def _train(
    path: Path,
    overrides: Sequence[str],
    interrupts: Interrupts,
    report: Report,
    console: Console,
    *,
    uri: str | None,
    root: Path | str,
    record: bool,
) -> int:
    sweep = load_sweep(path, overrides, one_trial=True)
    problems = _vain_overrides(overrides)
    config = resolve(sweep.trial, problems)
    if config is None or problems:
        raise ConfigError(problems)
    home = find_home(root, sweep.name)
    home.check(write=True)
    if steps := _sweep_trained(home, sweep.name, config):
        _nothing_to_train(console, steps, home.trial_place(config.key), "its sweep trained it")
        return OK
    samples = load_samples(config)
    advice = check_fit(config, samples.spec)
    if config.model.settings.conditional:
        advice += on_classes(samples)
    advice += try_scores(config, samples)
    del samples  # the trial loads its own
    for line in advice:
        console.print(f"[yellow]note[/]: {escape(line)}")
    store = MlflowStore(tracking_uri(uri)) if record else None
    if store:
        store.check()
    left = Backlog()
    place = home.trial_place(alone(config.key))
    with home.sole_use(_end_at_once), home.trial_alone(config.key) as own:
        if trained := _trained(own, config):
            _nothing_to_train(console, trained, place, "it is trained")
            return OK
        if store:
            result, left = _recorded(config, sweep.name, own, store, report, interrupts)
        else:
            result = run_trial(config, MemoryTracker(), report, folder=own)
        interrupts.nothing_is_left()
    if left.is_something:
        console.print(what_is_left(left, home, sweep.name), style="yellow", markup=False)
    scores = [
        f"{name} {value:.4g}" for name, value in result.metrics.items() if name.startswith("score/")
    ]
    console.print(
        f"{result.state} at g_step {result.g_steps} after {clock(result.seconds)} "
        f"{' '.join(scores)} {escape(result.reason or result.diagnosis)}".rstrip()
    )
    console.print(f"checkpoint {place}/{CHECKPOINT}", markup=False)
    if record:
        console.print(f"compare    gansweep ui {sweep.name}")
    if result.state == "interrupted":
        console.print("[yellow]interrupted[/]: the same command goes on")
    if result.state == "interrupted" or left.is_something:
        return INTERRUPTED
    return FAILED if result.state == "failed" else OK


def _sweep_trained(home: Home, name: str, config: TrialConfig) -> int | None:
    """The g_steps of the sweep's own trial, which is at its end, so that nothing would go on here;
    None where it is not."""
    if alone(config.key) in home.trials():
        return None
    with suppress(ConfigError):  # a plan that is damaged says nothing
        entry = home.standing(name).entries.get(config.key)
        if entry and entry.state == "completed" and entry.g_steps >= config.budget.g_steps:
            return entry.g_steps
    return None


def _trained(own: Path, config: TrialConfig) -> int | None:
    """The g_steps of the trial in its `own` folder; None where it is not at its end, or not all
    that it recorded delivered."""
    if own in spools(own.parent):
        return None
    state = read_newest(own / CHECKPOINT)
    g_step = int(state["module"]["g_step"]) if state else 0
    return g_step if g_step >= config.budget.g_steps else None


def _nothing_to_train(console: Console, steps: int, place: str, why: str) -> None:
    console.print(f"finished already: {why} to g_step {steps}; a larger budget.g_steps goes on")
    console.print(f"checkpoint {place}/{CHECKPOINT}", markup=False)


def _end_at_once() -> None:
    """As where another command has the folder: not one more checkpoint of ours may be written."""
    os._exit(INTERRUPTED)


def _recorded(
    config: TrialConfig,
    name: str,
    own: Path,
    store: MlflowStore,
    report: Report,
    interrupts: Interrupts,
) -> tuple[TrialResult, Backlog]:
    """The trial in its `own` folder, recorded in `store`, and what of that has not arrived."""
    experiment = store.experiment(name)
    # A point of its own: `show` must not average it with other trials.
    point = json.dumps({"trial": config.key})
    tags = {**version_tags(Path.cwd()), "seed": str(config.run.seed), "point": point}
    run_name = f"{config.model.name} {config.key[:6]}"
    tree = config.to_dict()
    run_id = store.trial_run(experiment, None, alone(config.key), run_name, flatten(tree), tags)
    store.log_text(run_id, yaml.safe_dump({"trial": tree}, sort_keys=False), "config.yaml")
    store.log_text(run_id, environment_text(), "environment.txt")
    courier = Courier(store.uri)
    courier.add(run_id, own)
    try:
        result = run_trial(config, SpoolTracker(own), report, folder=own)
        interrupts.nothing_is_left()
        return result, _delivered(courier, in_haste=interrupts.stopping)
    except KeyboardInterrupt:
        if not interrupts.has_begun():  # else someone has asked twice
            _delivered(courier, in_haste=True)
        raise
    finally:
        courier.close()


def _delivered(courier: Courier, *, in_haste: bool) -> Backlog:
    """What has not arrived by the end."""
    try:
        return courier.drain(within_s=INTERRUPTED_DRAIN_SECONDS if in_haste else math.inf)
    except KeyboardInterrupt:  # someone has waited for long enough
        return courier.backlog()


def _printer(console: Console, interrupts: Interrupts, begun: threading.Event) -> Report:
    """Prints progress, and puts the trial aside once that is asked for; the first call is noted."""
    last = [time.monotonic() - LINE_SECONDS]

    def report(progress: Progress) -> Verdict:
        begun.set()
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
        return Interrupt() if interrupts.stopping else Continue()

    return report
