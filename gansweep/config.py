"""The typed schema of a trial: what one section of a sweep file says, resolved and checked.

A trial's tree (plain mappings, as in the file's `trial:`) becomes a `TrialConfig`: names become
classes; the preset that it names, and below it the variant's published defaults, fill what the file
leaves open; every value is checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Literal, final

from gansweep import presets
from gansweep.components import Part, is_own, own_source
from gansweep.data.base import Dataset
from gansweep.data.catalogue import DATASETS
from gansweep.diagnosis.rules.base import Rule
from gansweep.diagnosis.rules.catalogue import RULES
from gansweep.errors import ConfigError, Problem, nearest
from gansweep.latent import Latent
from gansweep.metrics.catalogue import ScorePart, find_score
from gansweep.modules.alternating import AlternatingModule, Published
from gansweep.modules.catalogue import VARIANTS
from gansweep.networks.base import Architecture
from gansweep.networks.catalogue import ARCHITECTURES
from gansweep.optimizers import OPTIMIZERS, OptimizerSpec
from gansweep.settings import dump, fill, setting

Tree = dict[str, Any]

KEY_FORMAT = 2
"""Version of what a trial key hashes; a change of meaning raises it."""


@final
@dataclass(frozen=True)
class Budget:
    g_steps: int = setting(10_000, "generator updates", ge=1)


@final
@dataclass(frozen=True)
class SampleGrids:
    every: int = setting(1000, "g_steps between sample grids; the last step always has one", ge=1)
    rows: int = setting(8, "rows of a grid; a conditional one has a row per class instead", ge=1)
    columns: int = setting(8, "columns of a grid", ge=1)
    seed: int = setting(0, "seed of the frozen latents, shared by all trials", ge=0)


@final
@dataclass(frozen=True)
class Scoring:
    every: int | None = setting(None, "g_steps between scores; null: with the sample grids", ge=1)
    samples: int = setting(2000, "samples generated, and real ones compared with", ge=2)
    seed: int = setting(0, "seed of the evaluation's latents and projections", ge=0)
    names: list[str] = setting(["swd"], "scores, by name or import path")
    best: str | None = setting(
        None, "score whose best step's checkpoint is kept as best.pt; null: the first of names"
    )


@final
@dataclass(frozen=True)
class EMA:
    decay: float = setting(0.0, "decay of G's averaged weights per g_step; 0: off", ge=0, lt=1)


@final
@dataclass(frozen=True)
class Logging:
    every: int = setting(50, "g_steps that one value of a curve averages", ge=1)


@final
@dataclass(frozen=True)
class Checkpointing:
    every: int = setting(500, "g_steps between checkpoints; the last step always has one", ge=1)


@final
@dataclass(frozen=True)
class Run:
    """The single values of a trial."""

    seed: int = setting(0, "seed of all the trial's randomness", ge=0)
    precision: Literal["32", "bf16"] = setting("32", "float32, or bfloat16 under autocast")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train")
    compile: Literal["auto", "true", "false"] = setting(
        "auto", "compile the whole training step with torch.compile; auto: where it pays"
    )


@final
@dataclass(frozen=True)
class Diagnosing:
    every: int | None = setting(
        None, "g_steps between diagnoses; null: with the scores; 0: none", ge=0
    )
    samples: int = setting(64, "real and generated samples that a diagnosis looks at", ge=2)
    grace: int | None = setting(
        None, "g_steps before which no rule has a verdict; null: a quarter of the budget", ge=0
    )
    patience: int = setting(3, "diagnoses in a row at which a rule must hold", ge=1)
    stop: list[str] = setting([], "rules whose verdict ends the trial")
    rules: dict[str, Any] = setting({}, "thresholds by rule; own rules by import path")


PLAIN: dict[str, type[Any]] = {
    "latent": Latent,
    "budget": Budget,
    "samples": SampleGrids,
    "score": Scoring,
    "ema": EMA,
    "log": Logging,
    "checkpoint": Checkpointing,
    "diagnosis": Diagnosing,
}
"""Sections without a name: their dataclasses."""

SECTIONS = ("model", "network", "optimizer", "data", *PLAIN)
SCALARS = ("seed", "precision", "device", "compile")
KEYS = ("preset", *SECTIONS, *SCALARS)
"""All that a trial's tree may hold."""
ROLES = ("discriminator", "generator")

_DEFAULT_DATA = "mnist5k"
NOT_IDENTITY = (
    "budget", "samples", "score", "log", "checkpoint", "diagnosis", "device", "compile",
)  # fmt: skip
"""Parts of a trial's tree that do not decide what it learns: trials that differ in them are one."""


@final
@dataclass(frozen=True)
class TrialConfig:
    """One trial's settings, resolved. `to_dict` and `resolve` are inverse."""

    model: Part[AlternatingModule]
    network: Part[Architecture]
    data: Part[Dataset]
    d_optimizer: Part[OptimizerSpec]
    g_optimizer: Part[OptimizerSpec]
    latent: Latent
    budget: Budget
    samples: SampleGrids
    score: Scoring
    scores: tuple[ScorePart, ...]
    ema: EMA
    log: Logging
    checkpoint: Checkpointing
    diagnosis: Diagnosing
    rules: tuple[Part[Rule], ...]
    run: Run

    def to_dict(self) -> Tree:
        """The tree of all settings, defaults included, as JSON-ready values."""
        plain = {name: dump(getattr(self, name)) for name in PLAIN}
        return {
            "model": self.model.to_dict(),
            "network": self.network.to_dict(),
            "data": self.data.to_dict(),
            "optimizer": {
                "discriminator": self.d_optimizer.to_dict(),
                "generator": self.g_optimizer.to_dict(),
            },
            **plain,
            **dump(self.run),
        }

    @property
    def key(self) -> str:
        """The trial key: 16 hex digits of a hash over all that decides the trained weights.

        Budget, intervals, scores, diagnoses and the device are left out: a trial with a longer
        budget is the same trial, trained further.
        """
        return self._identity[0]

    @property
    def shape(self) -> str:
        """Trials of one shape may train as a pack: equal but for the seed and for numbers.

        The numbers are the floating-point settings of the variant and of both optimizers, and the
        EMA's decay; none may be 0, which leaves work out, where another's is not.
        """
        return self._identity[1]

    @property
    def recipe(self) -> str:
        """As `key`, over all but the seed: trials of one recipe differ by chance alone."""
        return self._identity[2]

    @property
    def own_code(self) -> str:
        """Names the code of a person's own parts of the trial; "" where it has none.

        No key has it in it: a trial stays the same one when its code is mended or moved.
        """
        parts = (self.model, self.network, self.data, self.d_optimizer, self.g_optimizer)
        sources = dict.fromkeys(own_source(part.cls) for part in parts)
        return ".".join(filter(None, sources))

    @cached_property
    def _identity(self) -> tuple[str, str, str]:
        """Key, shape and recipe, of one tree."""
        tree = self.to_dict()
        kept = {name: part for name, part in tree.items() if name not in NOT_IDENTITY}
        key = _digest({"format": KEY_FORMAT, **kept})
        del tree["seed"], kept["seed"]
        recipe = _digest({"format": KEY_FORMAT, **kept})
        tree["model"] = _without_floats(tree["model"])
        tree["ema"] = self.ema.decay > 0
        tree["optimizer"] = [
            (_without_floats(part.to_dict()), repr(part.cls(part.settings).rule))
            for part in (self.d_optimizer, self.g_optimizer)
        ]
        return key, _digest(tree), recipe

    @property
    def score_every(self) -> int:
        """g_steps between scores."""
        return self.score.every or self.samples.every

    @property
    def best_score(self) -> str | None:
        """The score whose best step's checkpoint is kept."""
        return self.score.best or (self.scores[0].name if self.scores else None)

    @property
    def diagnosis_every(self) -> int:
        """g_steps between diagnoses; 0: none."""
        every = self.diagnosis.every
        return self.score_every if every is None else every

    @property
    def grace(self) -> int:
        """g_steps before which no rule has a verdict."""
        grace = self.diagnosis.grace
        return self.budget.g_steps // 4 if grace is None else grace


def resolve(tree: Mapping[str, Any], problems: list[Problem]) -> TrialConfig | None:
    """The typed trial of a tree; None where mistakes were appended to `problems`."""
    before = len(problems)

    def where(name: str) -> str:
        return f"trial.{name}"

    for name, value in tree.items():
        if name not in KEYS:
            problems.append(Problem(where(name), "unknown key", nearest(str(name), KEYS)))
        elif name in SECTIONS and value is not None and not isinstance(value, Mapping):
            remedy = f"write {name}: {{name: {value}}}" if isinstance(value, str) else ""
            problems.append(Problem(where(name), f"is {value!r}, must be a section", remedy))
    sections = {
        name: dict(value)
        for name, value in tree.items()
        if name in SECTIONS and isinstance(value, Mapping)
    }
    preset = _preset(tree.get("preset"), sections, problems, where)
    own_model = _over(preset.get("model", {}), sections.get("model", {}))
    model = None
    if "name" in own_model or "preset" not in tree:  # else it is the unknown preset's
        model = VARIANTS.part(own_model, at=where("model"), problems=problems)
    published = _published(own_model.get("name"), at=where("model.name"), problems=problems)
    layers = [published, preset, sections]
    tuned = {
        name: _over(*(layer.get(name, {}) for layer in layers), kept=_OF_ALL.get(name, ()))
        for name in SECTIONS
        if name != "model"
    }
    tuned["data"].setdefault("name", _DEFAULT_DATA)
    network = data = None
    if model or "name" in tuned["network"]:  # else a default of the unknown variant is missing
        network = ARCHITECTURES.part(tuned["network"], at=where("network"), problems=problems)
    data = DATASETS.part(tuned["data"], at=where("data"), problems=problems)
    d_optimizer, g_optimizer = None, None
    if model or "name" in tuned["optimizer"]:
        given = sections.get("optimizer", {})
        for role in ROLES:
            if not isinstance(given.get(role) or {}, Mapping):
                what = f"is {given[role]!r}, must be a section"
                problems.append(Problem(where(f"optimizer.{role}"), what))
                given = {key: value for key, value in given.items() if key != role}
        parts = [*(layer.get("optimizer", {}) for layer in layers[:-1]), given]
        d_optimizer, g_optimizer = (
            OPTIMIZERS.part(
                _over(*(_of_role(part, role) for part in parts)),
                at=where("optimizer"),
                problems=problems,
            )
            for role in ROLES
        )
    plain: dict[str, Any] = {
        name: fill(cls, tuned[name], at=where(name), problems=problems)
        for name, cls in PLAIN.items()
    }
    scalars = {name: tree[name] for name in SCALARS if name in tree}
    if isinstance(scalars.get("precision"), int):
        scalars["precision"] = str(scalars["precision"])
    if isinstance(scalars.get("compile"), bool):
        scalars["compile"] = str(scalars["compile"]).lower()
    run = fill(Run, scalars, at="trial", problems=problems)
    scoring = plain["score"]
    found: dict[str, tuple[str, ScorePart]] = {}
    for name in scoring.names if scoring else []:
        try:
            score = find_score(name, at=where("score.names"))
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        first, known = found.setdefault(score.name, (name, score))
        if known != score:  # one would take the other's place
            what = f"{first} and {name} are both called {score.name}"
            problems.append(Problem(where("score.names"), what, "give yours another `name`"))
    chosen, scores = list(found), tuple(score for _, score in found.values())
    if scoring and scoring.best is not None and scoring.best not in chosen:
        what = f"{scoring.best!r} is none of the trial's scores"
        problems.append(Problem(where("score.best"), what, nearest(scoring.best, chosen)))
    rules = _rules(plain["diagnosis"], at=where("diagnosis"), problems=problems)
    if plain["diagnosis"]:
        thresholds = {rule.name: dump(rule.settings) for rule in rules}
        plain["diagnosis"] = dataclasses.replace(plain["diagnosis"], rules=thresholds)
    if len(problems) > before:
        return None
    assert model is not None
    assert network is not None
    assert data is not None
    assert d_optimizer is not None
    assert g_optimizer is not None
    assert run is not None
    return TrialConfig(
        model=model,
        network=network,
        data=data,
        d_optimizer=d_optimizer,
        g_optimizer=g_optimizer,
        scores=scores,
        rules=rules,
        run=run,
        **plain,
    )


def resolved(tree: Mapping[str, Any]) -> TrialConfig:
    """As `resolve`; ConfigError with the mistakes."""
    problems: list[Problem] = []
    config = resolve(tree, problems)
    if config is None:
        raise ConfigError(problems)
    return config


def _rules(
    diagnosis: Diagnosing | None, *, at: str, problems: list[Problem]
) -> tuple[Part[Rule], ...]:
    """All rules of the catalogue and those of the user's own, with their thresholds."""
    if diagnosis is None:
        return ()
    rules = []
    for name in dict.fromkeys((*RULES.names, *diagnosis.rules)):
        where = f"{at}.rules.{name}"
        given = diagnosis.rules.get(name) or {}
        if not isinstance(given, Mapping):
            problems.append(Problem(where, f"is {given!r}, must be a section"))
            continue
        try:
            RULES.load(name, at=where)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        rules.append(RULES.part({**given, "name": name}, at=where, problems=problems))
    found = tuple(rule for rule in rules if rule is not None)
    known = [rule.cls.name for rule in found]
    for rule in found:
        if known.count(rule.cls.name) > 1 and is_own(rule.cls):
            what = f"another rule is called {rule.cls.name} too"
            problems.append(Problem(f"{at}.rules.{rule.name}", what, "give yours another `name`"))
    for name in diagnosis.stop:
        if name not in known and len(found) == len(rules):
            problems.append(Problem(f"{at}.stop", f"no rule {name!r}", nearest(name, known)))
    return found


def _digest(tree: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _without_floats(tree: Mapping[str, Any]) -> Tree:
    return {key: value for key, value in tree.items() if not isinstance(value, float)}


def _of_role(optimizer: Mapping[str, Any], role: str) -> Tree:
    """The optimizer section of one network: what both share, under what `role` has of its own."""
    common = {key: value for key, value in optimizer.items() if key not in ROLES}
    return _over(common, optimizer.get(role) or {})


def _preset(
    name: object,
    sections: Mapping[str, Mapping[str, Any]],
    problems: list[Problem],
    where: Callable[[str], str],
) -> Published:
    """The sections of a trial's preset; none where it names none, or a wrong one."""
    if name is None:
        return {}
    try:
        preset = presets.load(name, at=where("preset"))
    except ConfigError as error:
        problems.extend(error.problems)
        return {}
    variant, own = preset.trial["model"]["name"], sections.get("model", {}).get("name")
    if own not in (None, variant):
        what = f"is {own!r}, and the preset {name!r} is of {variant!r}"
        problems.append(Problem(where("model.name"), what, "leave out one of the two"))
    return preset.trial


def _published(variant: object, *, at: str, problems: list[Problem]) -> Published:
    """A variant's defaults, also where its own settings are wrong; none of an unknown one."""
    if not isinstance(variant, str):
        return {}
    try:
        published = VARIANTS.load(variant, at="").published
    except ConfigError:
        return {}
    for name, section in published.items():
        if name not in SECTIONS:
            what = f"{variant} has published[{name!r}], which is no section of a trial"
            problems.append(Problem(at, what, nearest(name, SECTIONS)))
        elif not isinstance(section, Mapping):
            what = f"{variant} has {section!r} as published[{name!r}], must be a section"
            problems.append(Problem(at, what, f"{{'name': {section!r}}}"))
    return {name: each for name, each in published.items() if isinstance(each, Mapping)}


_OF_ALL = {"data": ("batch_size",)}
"""Settings that every part of a kind has: they hold whatever its name."""


def _over(*layers: Mapping[str, Any], kept: Sequence[str] = ()) -> Tree:
    """Each section over those before it; what belongs to another name does not apply.

    kept: keys that do all the same.
    """

    def two(below: Tree, section: Mapping[str, Any]) -> Tree:
        if "name" in section and "name" in below and section["name"] != below["name"]:
            below = {key: below[key] for key in kept if key in below}
        return {**below, **section}

    empty: Tree = {}
    return reduce(two, layers, empty)
