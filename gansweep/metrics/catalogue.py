"""The built-in scores and extractors by name, and how a sweep file names them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final, get_args

from gansweep.components import Catalogue, answering
from gansweep.errors import ConfigError, Problem, noting
from gansweep.metrics.base import Mode, Score, Subject
from gansweep.metrics.extractors.base import Extractor

SCORES: Catalogue[Score] = Catalogue(
    "score",
    "gansweep.metrics.base:Score",
    {
        "swd": "gansweep.metrics.swd:SlicedWasserstein",
        "w1": "gansweep.metrics.w1:Wasserstein1",
        "fd": "gansweep.metrics.frechet:FrechetDistance",
        "kd": "gansweep.metrics.kernel:KernelDistance",
        "precision": "gansweep.metrics.neighbours:Precision",
        "recall": "gansweep.metrics.neighbours:Recall",
        "density": "gansweep.metrics.neighbours:Density",
        "coverage": "gansweep.metrics.neighbours:Coverage",
        "classes": "gansweep.metrics.classes:ClassesCovered",
        "class_kl": "gansweep.metrics.classes:ClassDivergence",
        "class_accuracy": "gansweep.metrics.classes:ClassAccuracy",
        "classifier_score": "gansweep.metrics.classifier_score:ClassifierScore",
        "modes": "gansweep.metrics.modes:ModesCovered",
        "high_quality": "gansweep.metrics.modes:HighQuality",
        "reverse_kl": "gansweep.metrics.modes:ReverseKL",
        "fid": "gansweep.metrics.frechet:FrechetDistance",
        "kid": "gansweep.metrics.kernel:KernelDistance",
        "inception_score": "gansweep.metrics.classifier_score:ClassifierScore",
    },
)
"""Those whose class says `takes_extractor` are named with one: `fd/digits`."""

OF_INCEPTION = ("fid", "kid", "inception_score")
"""Names that mean Inception's features, and no others."""

EXTRACTORS: Catalogue[Extractor] = Catalogue(
    "extractor",
    "gansweep.metrics.extractors.base:Extractor",
    {
        "raw": "gansweep.metrics.extractors.raw:Raw",
        "digits": "gansweep.metrics.extractors.digits:Digits",
        "inception": "gansweep.metrics.extractors.inception:Inception",
    },
)


_NAME = re.compile(r"\w[\w.\- ]*(/\w[\w.\- ]*)*")
"""Of a metric that MLflow takes."""


@final
@dataclass(frozen=True)
class ScorePart:
    """A score with its extractor, not built yet. `name` is the metric's after `score/`."""

    name: str
    cls: type[Score]
    extractor: type[Extractor]

    @property
    def mode(self) -> Mode:
        return self.cls.mode


def find_score(name: str, *, at: str) -> ScorePart:
    """The score that a sweep file calls `name`; ConfigError under the key `at`.

    `swd`, `fd/EXTRACTOR`, `fid`; score and extractor may be import paths.
    """
    part = _find(name, at=at)
    if part.mode not in get_args(Mode):
        raise ConfigError.single(
            at, f"the mode of {name} is {part.mode!r}", 'must be "min" or "max"'
        )
    if not (isinstance(part.name, str) and _NAME.fullmatch(part.name)):
        what = f"{name} is called {part.name!r}, which no store takes for a metric"
        raise ConfigError.single(at, what, "letters, digits, and any of _ - . / within them")
    return part


def _find(name: str, *, at: str) -> ScorePart:
    head, slash, tail = name.partition("/")
    cls = SCORES.load(head, at=at)
    if head in OF_INCEPTION or not cls.takes_extractor:
        if slash:
            raise ConfigError.single(at, f"{name!r}: {head} takes no extractor", f"write {head}")
        named = head in OF_INCEPTION
        extractor = EXTRACTORS.load("inception" if named else "raw", at=at)
        return ScorePart(head if named else cls.name, cls, extractor)
    if not tail:
        listed = ", ".join(f"{head}/{each}" for each in EXTRACTORS.names)
        what = f"{head!r} is a score in the features of an extractor, and names none"
        raise ConfigError.single(at, what, f"one of {listed}, or {head}/mylab.parts:Mine")
    extractor = EXTRACTORS.load(tail, at=at)
    return ScorePart(f"{cls.name}/{extractor.name}", cls, extractor)


def build_scores(parts: Iterable[ScorePart], subject: Subject) -> dict[str, Score]:
    """The scores by name; those of one extractor share it. ConfigError where one does not fit."""
    extractors: dict[type[Extractor], Extractor] = {}
    scores: dict[str, Score] = {}
    problems: list[Problem] = []
    for part in parts:
        with noting(problems):
            if part.extractor not in extractors:
                with answering(part.extractor, at="trial.score.names"):
                    extractors[part.extractor] = part.extractor(subject.spec).tried()
            with answering(part.cls, at="trial.score.names"):
                scores[part.name] = part.cls(subject, extractors[part.extractor])
    if problems:
        raise ConfigError(problems)
    return scores
