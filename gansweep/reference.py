"""Real samples: those that generated ones are compared with, and others in the latter's place."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import final

import torch
from torch import Tensor

from gansweep.assembly import build_trial_scores
from gansweep.components import answering, is_own, own_source
from gansweep.config import TrialConfig
from gansweep.data.base import Samples, to_float
from gansweep.kept import Tensors, kept
from gansweep.metrics.base import Score
from gansweep.metrics.extractors.base import Extractor, Seen
from gansweep.metrics.features import Features
from gansweep.seeding import stream

AT_ONCE = 500
"""Samples that an extractor sees at a time."""

FLOOR = "floor 2"
"""What floors are kept as: the number grows where they are reckoned in another way."""

FOLDER = "scores"
"""Of the cache folder, for what is kept of real samples."""

RESAMPLES = 20
"""Bootstrap samples of a floor: its standard error is known to a sixth."""


@final
@dataclass(frozen=True)
class Floor:
    """A score of real samples that took the generated ones' place, and its standard error."""

    value: float
    error: float


@final
@dataclass
class Viewed:
    """What an extractor saw in samples that came in batches."""

    seen: list[Seen] = field(default_factory=list)

    def add(self, extractor: Extractor, x: Tensor) -> None:
        self.seen.append(extractor(x))

    def features(self, labels: Tensor | None) -> Features:
        x = torch.cat([each.features for each in self.seen]).float()
        given = [each.probabilities for each in self.seen if each.probabilities is not None]
        return Features(x, torch.cat(given) if given else None, labels)


def try_scores(config: TrialConfig, samples: Samples) -> list[str]:
    """Builds the trial's scores; ConfigError where one does not fit its data, or gives no number.

    Those of a person's own compare real samples, as many as in training. A line of advice on each
    whose value is not finite.
    """
    scores, of = build_trial_scores(config, samples.spec), config.score
    cpu = torch.device("cpu")
    return Reference(samples, count=of.samples, seed=of.seed, device=cpu).try_out(scores.values())


@final
class Reference:
    """`count` real samples drawn with `seed`; more than there are: drawn with replacement.

    Features of an extractor with weights, and statistics and floors of scores, are kept on disk
    where their classes have a `version`, under a digest of the very samples, and of the code of a
    person's own. Nothing is computed
    before it is asked for; in memory are the features, and 500 samples.
    """

    def __init__(self, samples: Samples, *, count: int, seed: int, device: torch.device) -> None:
        self._samples = samples
        self._count = count
        self._seed = seed
        self._device = device
        self._features: dict[Extractor, Features] = {}
        self._statistics: dict[Score, Mapping[str, Tensor]] = {}

    @cached_property
    def _order(self) -> Tensor:
        """All samples, those of the reference first; where they do not suffice, the reference."""
        rng, total = stream(self._seed, "real"), len(self._samples)
        if self._count <= total:
            return torch.randperm(total, generator=rng)
        return torch.randint(total, (self._count,), generator=rng)

    @cached_property
    def picked(self) -> Tensor:
        """Indices of the reference, int64 [count]."""
        return self._order[: self._count]

    @cached_property
    def held_out(self) -> Tensor:
        """Indices of as many others, int64 [count]: drawn with replacement where there are fewer.

        Where the reference takes all samples, of these.
        """
        others = self._order[self._count :]
        if len(others) >= self._count:
            return others[: self._count]
        rng = stream(self._seed, "held out")
        pool = others if len(others) else torch.arange(len(self._samples))
        return pool[torch.randint(len(pool), (self._count,), generator=rng)]

    @cached_property
    def digest(self) -> str:
        """12 hex digits of a hash of the reference's samples and labels."""
        return self._digest(self.picked)

    def features(self, extractor: Extractor) -> Features:
        """Of the reference, with the data's labels, on the device."""
        if extractor not in self._features:
            self._features[extractor] = self._view(extractor, self.picked)
        return self._features[extractor]

    def of(self, score: Score) -> Features:
        """The reference's features with the score's statistics."""
        if score not in self._statistics:

            def fresh() -> Tensors:
                made = score.statistics(self.features(score.extractor))
                if not (
                    isinstance(made, dict) and all(isinstance(v, Tensor) for v in made.values())
                ):
                    raise score.refuse("gives other statistics", "a dict of tensors, or none: {}")
                return made

            found = self._kept(score, "statistics", fresh, self.picked)
            self._statistics[score] = {name: each.to(self._device) for name, each in found.items()}
        return self.features(score.extractor).of(self._statistics[score])

    def floors(self, scores: Mapping[str, Score]) -> dict[str, Floor]:
        """By name the floors of those scores that have one, and it is finite."""
        held_out: dict[Extractor, Features] = {}

        def floor(score: Score) -> Tensors:
            extractor = score.extractor
            if extractor not in held_out:
                held_out[extractor] = self._view(extractor, self.held_out)
            real, other = self.of(score), held_out[extractor]
            values = map(score.number, score.resampled(other, real, self._counts))
            value = score.number(score(other, real))
            return {"value": torch.tensor(value), "error": torch.tensor([*values]).std()}

        floors = {}
        for name, score in scores.items():
            if not score.has_floor:
                continue
            with answering(type(score), at="trial.score.names"):
                found = self._kept(score, FLOOR, partial(floor, score), self.held_out)
            value, error = float(found["value"]), float(found["error"])
            if math.isfinite(value) and math.isfinite(error):
                floors[name] = Floor(value, error)
        return floors

    def try_out(self, scores: Iterable[Score]) -> list[str]:
        """Has those of a person's own, for which real samples may stand in, compare some.

        A line on each whose value is not finite. ConfigError where one raises, or gives no number.
        """
        told = []
        for score in scores:
            if not (is_own(type(score)) and score.has_floor):
                continue
            with answering(type(score), at="trial.score.names"), torch.no_grad():
                real, other = self.of(score), self._view(score.extractor, self.held_out)
                labels = other.labels if score.subject.conditional else None
                stands_in = Features(other.x, other.probabilities, labels)
                value = score.number(score(stands_in, real))
                for each in score.resampled(other, real, self._counts[:1]):
                    score.number(each)
            if not math.isfinite(value):
                told.append(
                    f"the score {score.name} is {value} on real samples in the place of generated "
                    "ones: a trial ends as diverged at its first score that is not finite"
                )
        return told

    @cached_property
    def _counts(self) -> Tensor:
        """How often each bootstrap sample has each sample, int64 [RESAMPLES, count]."""
        rng = stream(self._seed, "bootstrap")
        drawn = torch.randint(self._count, (RESAMPLES, self._count), generator=rng)
        rows = [torch.bincount(row, minlength=self._count) for row in drawn]
        return torch.stack(rows).to(self._device)

    def _view(self, extractor: Extractor, picked: Tensor) -> Features:
        """What `extractor` sees in the samples at `picked`, with the data's labels."""

        def look() -> Tensors:
            viewed = Viewed()
            with torch.no_grad():
                for rows in torch.split(picked, AT_ONCE):
                    viewed.add(extractor, to_float(self._samples.x[rows]).to(self._device))
            features = viewed.features(None)
            given = {"x": features.x, "probabilities": features.probabilities}
            return {name: each for name, each in given.items() if each is not None}

        lasting = extractor.version and not extractor.cheap
        identity = self._identity(extractor, "features", self._digest(picked)) if lasting else ""
        found = kept(identity, look, within=FOLDER) if lasting else look()
        on_device = {name: each.to(self._device) for name, each in found.items()}
        labels = self._samples.labels
        return Features(
            on_device["x"],
            on_device.get("probabilities"),
            None if labels is None else labels[picked].to(self._device),
            real=True,
        )

    def _kept(
        self, score: Score, what: str, make: Callable[[], Tensors], picked: Tensor
    ) -> Tensors:
        """`make` of a score on the samples at `picked`, from the disk where both have a version."""
        if not (score.version and score.extractor.version):
            return make()
        kind = type(score)
        version = score.version + own_source(kind)
        of = f"{kind.__module__} {kind.__qualname__} {version} {score.subject} {self.digest}"
        identity = self._identity(score.extractor, f"{what} {of}", self._digest(picked))
        return kept(identity, make, within=FOLDER)

    def _identity(self, extractor: Extractor, *more: str) -> str:
        kind = type(extractor)
        version = extractor.version + own_source(kind)
        code = (kind.__module__, kind.__qualname__, version, extractor.weights)
        return json.dumps([*code, self._device.type, *more])

    def _digest(self, picked: Tensor) -> str:
        digest = hashlib.sha256(f"{len(picked)} {self._samples.x.dtype}".encode())
        for rows in torch.split(picked, AT_ONCE):
            for part in (self._samples.x, self._samples.labels):
                if part is not None:
                    digest.update(part[rows].contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:12]
