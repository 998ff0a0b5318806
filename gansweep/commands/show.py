"""`gansweep show`: a sweep's trials as MLflow has them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

from rich.console import Console
from rich.markup import escape

from gansweep.commands.home import Home, find_home
from gansweep.errors import ConfigError, is_full_disk, nearest
from gansweep.metrics.fingerprint import Fingerprint, from_tags, score_of
from gansweep.report.contact_sheet import write_contact_sheet
from gansweep.report.groups import grouped
from gansweep.report.ranking import (
    Mode,
    PointResult,
    check_comparable,
    identity,
    rank,
    value_of,
)
from gansweep.report.table import OF_A_POPULATION, group_table, ranked_table
from gansweep.sweep.plan import KILLED, Entry, trial_folder
from gansweep.tracking.mlflow import MlflowStore, TrialRecord, noted_run, tracking_uri


@final
@dataclass(frozen=True)
class Recorded:
    """A trial from its run's tags and metrics."""

    record: TrialRecord
    left_behind: str = ""
    """Why nobody trains it any more, though its run says so; "" where it is as its run says."""

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def point(self) -> dict[str, Any]:
        point: dict[str, Any] = json.loads(self.record.tags.get("point", "{}"))
        return point

    @property
    def recipe(self) -> str:
        return self.record.tags.get("recipe", "")

    @property
    def seed(self) -> int:
        return int(self.record.tags.get("seed", "0"))

    @property
    def state(self) -> str:
        if self.left_behind:
            return "interrupted"
        return self.record.tags.get("state", self.record.status.lower())

    @property
    def reason(self) -> str:
        return self.left_behind or self.record.tags.get("reason", "")

    @property
    def diagnosis(self) -> str:
        return self.record.tags.get("diagnosis", "")

    @property
    def lineage(self) -> list[dict[str, Any]] | None:
        """From whom it took over, as a member of a population; None where MLflow has cut it."""
        try:
            steps: list[dict[str, Any]] = json.loads(self.record.tags.get("lineage", "[]"))
        except ValueError:
            return None
        return steps

    @property
    def g_steps(self) -> int:
        return self.record.g_steps

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.record.metrics)

    @property
    def fingerprints(self) -> dict[str, Fingerprint]:
        return from_tags(self.record.tags)


def _mode_of(metric: str, trials: Sequence[Recorded]) -> Mode | None:
    """Whether smaller or larger values of a score are better, as its fingerprints say."""
    score = score_of(metric)
    known = (trial.fingerprints[score] for trial in trials if score in trial.fingerprints)
    found = next((each["mode"] for each in known if "mode" in each), None)
    return cast("Mode | None", found)


def _listed(words: str | None) -> list[str]:
    """The words of an option that takes several, parted by commas."""
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def _metric(word: str, logged: Sequence[str], *, at: str) -> str:
    """The metric that a person names: itself, or a score without `score/`."""
    for name in (word, f"score/{word}"):
        if name in logged:
            return name
    raise ConfigError.single(at, f"no trial has {word!r}", nearest(word, logged))


def _write_sheet(
    sheet: Path, results: Sequence[PointResult], metric: str, store: MlflowStore
) -> bool:
    """Whether there was a grid to write."""
    try:
        return write_contact_sheet(sheet, results, metric=metric, picture=store.last_image)
    except OSError as error:
        if is_full_disk(error) or error.filename is None:
            raise
        what = f"cannot be written: {error.strerror}"
        raise ConfigError.single(f"--sheet {sheet}", what, "name another file") from None


def _of_several_files(results: Sequence[PointResult]) -> int:
    """How many rows stand for points that have another row too, since the file was changed."""
    points = Counter(identity(result.trials[0].point) for result in results)
    return sum(count for count in points.values() if count > 1)


def best_trial(store: MlflowStore, name: str) -> str:
    """The key of the trial with the best value of the sweep's own metric, of the best point.

    ConfigError where no trial has a value.
    """
    trials = [Recorded(record) for record in store.trials(name)]
    tags = store.sweep_tags(name)
    metric, mode = tags.get("metric", "score/swd"), cast("Mode", tags.get("mode", "min"))
    results = rank(trials, metric=metric, mode=mode, across=tags.get("across", "").split())
    valued = [(v, t) for t in (results[0].trials if results else ())
              if isinstance(t, Recorded) and (v := value_of(t, metric)) is not None]  # fmt: skip
    if not valued:
        raise ConfigError.single(name, f"no trial has {metric} yet", "name one with --trial KEY")
    sign = 1.0 if mode == "min" else -1.0
    return min(valued, key=lambda each: sign * each[0])[1].record.key


def _recorded(store: MlflowStore, home: Home, name: str) -> list[Recorded]:
    """The sweep's trials; `home` knows which of those that say that they run were left behind."""
    driven = home.is_driven()
    records = store.trials(name)
    running = [record for record in records if record.status == "RUNNING"]
    left: dict[str, str] = {}
    if running and not driven:
        left = _left_behind(running, home, name)
        if home.is_driven():  # since a moment ago
            left = {}
    return [Recorded(record, left.get(record.run_id, "")) for record in records]


def _left_behind(records: Sequence[TrialRecord], home: Home, name: str) -> dict[str, str]:
    """Which runs are of trials that nobody trains any more, as `home` has them, and why."""
    entries: Mapping[str, Entry] = {}
    with suppress(ConfigError):  # a plan that is damaged says nothing
        entries = home.standing(name).entries
    left: dict[str, str] = {}
    for record in records:
        entry = entries.get(record.key)
        if entry is None:  # one that trained alone
            if noted_run(trial_folder(home.folder, record.key)) == record.run_id:
                left[record.run_id] = KILLED
        elif entry.run_id == record.run_id and (entry.state == "running" or entry.reason == KILLED):
            left[record.run_id] = KILLED  # one that was put aside trains again, and elsewhere
    return left


def show_command(
    name: str,
    *,
    uri: str | None,
    root: Path | str,
    metric: str | None,
    mode: str | None,
    scores: str | None = None,
    by: str | None = None,
    sheet: Path | None,
    as_json: bool,
) -> int:
    """Print the ranked trials; `sheet` also writes their last grids as one picture.

    scores: further metrics, parted by commas, each a column. by: keys, parted by commas; then the
    medians over the points that have the same values of these are printed instead.
    """
    if sheet is not None and (not sheet.name or sheet.is_dir()):
        raise ConfigError.single("--sheet", f"{sheet} is a folder", "name a .png file")
    if mode not in (None, "min", "max"):
        raise ConfigError.single("--mode", f"is {mode!r}", "min or max")
    store = MlflowStore(tracking_uri(uri))
    store.check()
    trials = _recorded(store, find_home(root, name), name)
    tags = store.sweep_tags(name)
    logged = sorted({name for trial in trials for name in trial.metrics})
    metric = _metric(metric, logged, at="--metric") if metric else tags.get("metric", "score/swd")
    known = mode or _mode_of(metric, trials)
    direction = cast("Mode", known or tags.get("mode", "min"))
    across = tags.get("across", "").split()
    results = rank(trials, metric=metric, mode=direction, across=across)
    modes = {metric: direction}
    for word in _listed(scores):
        each = _metric(word, logged, at="--scores")
        check_comparable(trials, each, across=across)
        modes.setdefault(each, _mode_of(each, trials) or "min")
    keys = _listed(by)
    groups = grouped(results, keys=keys, modes=modes) if keys else []
    written = sheet is not None and _write_sheet(sheet, results, metric, store)
    if as_json:
        tree = [
            {
                "rank": place,
                "key": trial.record.key,
                "run_id": trial.run_id,
                "name": trial.name,
                "point": trial.point,
                "seed": trial.seed,
                "state": trial.state,
                "reason": trial.reason,
                "diagnosis": trial.diagnosis,
                "g_steps": trial.g_steps,
                "lineage": trial.lineage,
                "fingerprints": {name: dict(each) for name, each in trial.fingerprints.items()},
                "metrics": {  # JSON has no NaN
                    name: value if math.isfinite(value) else None
                    for name, value in trial.metrics.items()
                },
            }
            for place, result in enumerate(results, start=1)
            for trial in result.trials
            if isinstance(trial, Recorded)
        ]
        shown = {"name": name, "metric": metric, "mode": direction, "trials": tree}
        if keys:
            shown["groups"] = [
                {
                    "name": group.name,
                    "points": len(group.points),
                    "lost": group.lost,
                    "unfinished": group.unfinished,
                    "medians": dict(group.medians),
                    "bests": dict(group.bests),
                }
                for group in groups
            ]
        print(json.dumps(shown))
        return 0
    console = Console(soft_wrap=True)
    also = [each for each in modes if each != metric]
    table = (
        group_table(groups, keys=keys) if keys else ranked_table(results, metric=metric, also=also)
    )
    console.print(table)
    if not known and metric != tags.get("metric", "score/swd"):
        better, other = ("smaller", "max") if direction == "min" else ("larger", "min")
        console.print(
            f"[yellow]note[/]: ranked as if {better} values of {escape(metric)} were better: "
            f"--mode {other} says otherwise"
        )
    if any(trial.record.tags.get("lineage") for trial in trials):
        console.print(f"[yellow]note[/]: {OF_A_POPULATION}")
    if not trials:
        console.print("[yellow]note[/]: no trial of it has a run in this store")
    if rows := _of_several_files(results):
        console.print(
            f"[yellow]note[/]: {rows} rows are of points that were trained under different "
            "settings beside the swept ones, since the sweep file was changed: give a changed file "
            "another name to keep them apart"
        )
    if sheet:
        console.print(f"samples {escape(str(sheet))}" if written else "no trial has samples yet")
    return 0
