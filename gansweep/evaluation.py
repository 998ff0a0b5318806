"""The evaluation of a generator: its samples, as extractors see them, scored against real ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from gansweep.components import answering
from gansweep.metrics.base import Score
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.fingerprint import Fingerprint
from gansweep.reference import Floor, Reference, Viewed
from gansweep.sampling import Sampler


@final
class Evaluation:
    """Scores of as many generated samples as there are real ones in `reference`.

    Samples are drawn, seen by each extractor and dropped, some hundred at a time; what stays are
    their features. `facts` are what the fingerprints say of data and generator.
    """

    def __init__(
        self,
        scores: Mapping[str, Score],
        reference: Reference,
        sampler: Sampler,
        *,
        facts: Mapping[str, str],
        device: torch.device,
    ) -> None:
        """`scores` by name, the metric's after `score/`."""
        self.scores = scores
        self.reference = reference
        self._sampler = sampler
        self._facts = facts
        self._extractors: list[Extractor] = list(
            dict.fromkeys(score.extractor for score in scores.values())
        )
        for extractor in self._extractors:
            extractor.eval().to(device)

    def __call__(self, generator: nn.Module) -> dict[str, float]:
        """The value of each score, from the evaluation's frozen latents, in eval mode."""
        viewed = {extractor: Viewed() for extractor in self._extractors}

        def look(x: Tensor) -> None:
            for extractor, view in viewed.items():
                view.add(extractor, x)

        labels = self._sampler.evaluate(generator, look)
        fakes = {extractor: view.features(labels) for extractor, view in viewed.items()}
        values = {}
        for name, score in self.scores.items():
            with torch.no_grad(), answering(type(score), at="trial.score.names"):
                values[name] = score.number(score(fakes[score.extractor], self.reference.of(score)))
        return values

    @cached_property
    def floors(self) -> dict[str, Floor]:
        """What each score says of real samples, by its name."""
        with torch.no_grad():
            return self.reference.floors(self.scores)

    @cached_property
    def fingerprints(self) -> dict[str, Fingerprint]:
        """By score what its values depend on beside the generator."""
        return {
            name: {
                **self._facts,
                "real": self.reference.digest,
                "extractor": score.extractor.name,
                "weights": score.extractor.weights,
                "resize": score.extractor.resize,
                "batch_norm": "eval",
                "version": score.version,
                "mode": score.mode,
            }
            for name, score in self.scores.items()
        }
