"""`gansweep explain`: a sweep's settings beside what was published, and what is advised against."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from gansweep.config import ROLES, TrialConfig, resolve
from gansweep.counting import counted
from gansweep.errors import ConfigError, Problem
from gansweep.modules.catalogue import VARIANTS
from gansweep.presets import PRESETS
from gansweep.report.columns import Column, Fitted
from gansweep.sweep.file import Sweep, load_sweep
from gansweep.sweep.params import flatten
from gansweep.sweep.space import apply
from gansweep.sweep.trials import Trial, check_data, format_value, make_trials, planned

SHOWN = ("model", "network", "latent", "optimizer", "data", "budget", "ema", "precision")
"""Sections that decide what is trained."""
LEAST = 10
"""Characters of a value in a line."""
FEW = 4
"""Values of one setting that are listed; of more, how many and between what."""


@final
@dataclass(frozen=True)
class Reference:
    """What trials are held against: a preset, or the published defaults of a variant.

    settings: what it states, by dotted key.
    """

    name: str
    source: str
    deviations: tuple[str, ...]
    settings: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Setting:
    """One setting over the trials of a group, and what was published; None: nothing was."""

    key: str
    values: list[Any]
    published: Any
    deviates: bool


def explain_command(
    path: Path, overrides: Sequence[str], *, trial: str | None, as_json: bool
) -> int:
    """Print each preset or variant of the sweep with its settings; nothing is started."""
    sweep = load_sweep(path, overrides, one_trial=True)
    if sweep.space.axes or len(sweep.seeds) > 1:
        sweep = load_sweep(path, overrides)
        trials = planned(sweep)
    else:
        trials = _single(sweep)
    advice = check_data(trials)
    chosen = trials if trial is None else [_chosen(trial, trials)]
    groups: dict[str, list[Trial]] = {}
    for each in chosen:
        preset = apply(sweep.trial, each.point).get("preset")
        groups.setdefault(preset or each.config.model.name, []).append(each)
    explained = [(_reference(name), members) for name, members in groups.items()]
    if as_json:
        print(json.dumps([_tree(r, m, advice) for r, m in explained], indent=1))
        return 0
    console = Console(soft_wrap=True)
    for reference, members in explained:
        _print(console, reference, members, advice)
    return 0


def _single(sweep: Sweep) -> list[Trial]:
    problems: list[Problem] = []
    trials = make_trials(sweep, [{}], problems)
    if problems:
        raise ConfigError(problems)
    return trials


def _chosen(name: str, trials: Sequence[Trial]) -> Trial:
    """The trial of that name, or whose key begins so; ConfigError where there is not one."""
    found = [t for t in trials if t.name == name] or [t for t in trials if t.key.startswith(name)]
    if len(found) != 1:
        what = f"{name!r} is no trial" if not found else f"{name!r} are {len(found)} trials"
        raise ConfigError.single("--trial", what, "gansweep plan lists their keys and names")
    return found[0]


def _reference(name: str) -> Reference:
    """The preset of that name, or the published defaults of the variant."""
    preset = PRESETS.get(name)
    tree: dict[str, Any] = {"preset": name} if preset else {"model": {"name": name}}
    config = resolve(tree, [])
    part = None if config else VARIANTS.part({"name": name}, at="model", problems=[])
    # A variant of one's own may publish no network, or demand settings: then less is compared.
    resolved = config.to_dict() if config else {"model": part.to_dict() if part else {}}
    stated = dict(preset.trial) if preset else {}
    whole = {"model", "network", "latent", "optimizer", "ema", "precision"}
    whole |= {"data"} if "name" in stated.get("data", {}) else set()
    keys = {"data.batch_size", *flatten(stated)}  # nobody publishes our data set, or our budget
    settings = {
        key: value
        for key, value in flatten(resolved).items()
        if key in keys or key.partition(".")[0] in whole
    }
    if preset:
        return Reference(name, preset.source, preset.deviations, settings)
    document = inspect.cleandoc(VARIANTS.load(name, at="").__doc__ or "")  # none that it inherits
    presets = ", ".join(p for p, v in PRESETS.items() if v.trial["model"]["name"] == name)
    source = document.partition("\n\n")[0].replace("\n", " ")
    if presets:
        source += f" (published defaults; presets: {presets})"
    return Reference(name, source, (), settings)


def _settings(config: TrialConfig, others: Container[str]) -> dict[str, Any]:
    """By dotted key, those of the sections that are always shown, and `others`."""
    flat = flatten(config.to_dict())
    return {k: v for k, v in flat.items() if k in others or k.partition(".")[0] in SHOWN}


def compare(reference: Reference, trials: Sequence[Trial]) -> list[Setting]:
    """Each setting of the trials beside the published one.

    What belongs to a part of another name than the published one is shown without comparing.
    """
    flats = [_settings(trial.config, reference.settings) for trial in trials]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    rows = []
    for key in sorted(keys, key=_place):
        holders = [flat for flat in flats if key in flat]
        values = list(dict.fromkeys(flat[key] for flat in holders))
        same = [flat[key] for flat in holders if _same_part(key, flat, reference.settings)]
        published = reference.settings.get(key) if same else None
        deviates = published is not None and any(value != published for value in same)
        rows.append(Setting(key, values, published, deviates))
    return _joined(rows)


def _place(key: str) -> int:
    section = key.partition(".")[0]
    return SHOWN.index(section) if section in SHOWN else len(SHOWN)


def _same_part(key: str, flat: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Whether the setting means the same: it is of a part of the published name, or of all."""
    name = f"{key.rpartition('.')[0]}.name"
    if key in (name, "data.batch_size") or name not in published:
        return True
    return bool(flat.get(name) == published[name])


def _joined(rows: Sequence[Setting]) -> list[Setting]:
    """One row where both optimizers have the same."""
    prefixes = tuple(f"optimizer.{role}." for role in ROLES)
    by_key = {row.key: row for row in rows}
    joined = []
    for row in rows:
        prefix = next((p for p in prefixes if row.key.startswith(p)), None)
        if prefix is None:
            joined.append(row)
            continue
        rest = row.key.removeprefix(prefix)
        one, *others = (by_key[p + rest] for p in prefixes if p + rest in by_key)
        if row is not one:  # it stands with the other's
            continue
        if others and replace(others[0], key=one.key) == one:
            joined.append(replace(one, key=f"optimizer.{rest}"))
        else:
            joined += [one, *others]
    return joined


def _tree(
    reference: Reference, trials: Sequence[Trial], advice: Mapping[str, list[str]]
) -> dict[str, Any]:
    return {
        "reference": reference.name,
        "source": reference.source,
        "deviations_of_the_preset": list(reference.deviations),
        "trials": [trial.key for trial in trials],
        "settings": [asdict(row) for row in compare(reference, trials)],
        "advice": _advice(trials, advice),
    }


def _advice(trials: Sequence[Trial], advice: Mapping[str, list[str]]) -> list[str]:
    return sorted({line for trial in trials for line in advice[trial.key]})


def _print(
    console: Console,
    reference: Reference,
    trials: Sequence[Trial],
    advice: Mapping[str, list[str]],
) -> None:
    count = counted(len(trials), "trial")
    source = f": {escape(reference.source)}" if reference.source else ""
    console.print(f"[bold]{escape(reference.name)}[/bold], {count}{source}")
    rows = compare(reference, trials)

    def cells(word: Callable[[Setting], str]) -> list[Text]:
        return [Text(word(row), style="yellow" if row.deviates else "") for row in rows]

    columns = [
        Column("", cells(lambda row: "*" * row.deviates)),
        Column("setting", cells(lambda row: row.key), least=LEAST),
        Column("here", cells(lambda row: _listed(row.values)), least=LEAST),
        Column("published", cells(_published), least=LEAST),
    ]
    console.print(Fitted(columns))
    console.print("* differs from what was published")
    for line in reference.deviations:
        console.print(f"the preset itself: {escape(line)}")
    for line in _advice(trials, advice):
        console.print(f"advice: {escape(line)}")
    console.print()


def _published(row: Setting) -> str:
    return "" if row.published is None else format_value(row.published)


def _listed(values: Sequence[Any]) -> str:
    if len(values) <= FEW:
        return ", ".join(map(format_value, values))
    if all(isinstance(value, (int, float)) for value in values):
        low, high = format_value(min(values)), format_value(max(values))
        return f"{low} .. {high} ({len(values)} values)"
    return f"{', '.join(map(format_value, values[:FEW]))} ... ({len(values)} values)"
