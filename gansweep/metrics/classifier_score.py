"""Classifier score: confident of each sample, and of many classes in all."""

from __future__ import annotations

from typing import final

from gansweep.metrics.classes import ClassScore
from gansweep.metrics.divergence import divergence
from gansweep.metrics.features import Features


@final
class ClassifierScore(ClassScore):
    """exp E_x KL(p(y|x) || p(y)), from 1 to the number of classes; p(y) is the samples' mean.

    Over all samples at once, not as the mean of ten parts. Salimans et al. 2016; with Inception's
    classes, and only there, it is the Inception score.
    """

    name = "classifier_score"
    mode = "max"

    def __call__(self, fake: Features, real: Features) -> float:
        assert fake.probabilities is not None
        p = fake.probabilities
        return float(divergence(p, p.double().mean(0)).mean().exp())
