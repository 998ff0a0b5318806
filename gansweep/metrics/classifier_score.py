"""Classifier score: confident of each sample, and of many classes in all."""

from __future__ import annotations

from typing import final

from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features


@final
class ClassifierScore(Score):
    """exp E_x KL(p(y|x) || p(y)), from 1 to the number of classes; p(y) is the samples' mean.

    Over all samples at once, not as the mean of ten parts. Salimans et al. 2016; with Inception's
    classes, and only there, it is the Inception score.
    """

    name = "classifier_score"
    mode = "max"
    takes_extractor = True
    version = "1"

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        self.need_probabilities()

    def __call__(self, fake: Features, real: Features) -> float:
        assert fake.probabilities is not None
        p = fake.probabilities.double()
        return float((entropy(p.mean(0)) - entropy(p).mean()).exp())


def entropy(p: Tensor) -> Tensor:
    """-sum p log p over the last dimension, in nats."""
    return p.clamp(min=0).xlogy(p).sum(-1).neg()
