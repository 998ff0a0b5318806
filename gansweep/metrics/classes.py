"""Scores of the classes that an extractor sees in generated samples."""

from __future__ import annotations

from abc import ABC
from typing import final

import torch
from torch import Tensor

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.divergence import divergence
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features


class ClassScore(Score, ABC):
    """A score of the classes that an extractor gives probabilities of."""

    takes_extractor = True
    version = "1"

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        if extractor.classes is None:
            what = f"needs class probabilities, the extractor {extractor.name} gives none"
            raise self.refuse(what, "name an extractor that classifies, as digits does")
        self.classes = extractor.classes


@final
class ClassesCovered(ClassScore):
    """How many classes at least one generated sample is taken for.

    As modes are counted on Stacked MNIST (Metz et al. 2017, Lin et al. 2018).
    """

    name = "classes"
    mode = "max"

    def __call__(self, fake: Features, real: Features) -> float:
        return float((histogram(fake) > 0).sum())


@final
class ClassDivergence(ClassScore):
    """KL(p_fake || p_real) between histograms of the classes seen, in nats.

    Each class of the real histogram counts one sample more, so that a class which the data lack
    gives no infinity. The "reverse KL" of Lin et al. 2018, who have uniform data.
    """

    name = "class_kl"

    def statistics(self, real: Features) -> dict[str, Tensor]:
        return {"histogram": histogram(real) + 1}

    def __call__(self, fake: Features, real: Features) -> float:
        return float(divergence(histogram(fake), real.statistics["histogram"]))


@final
class ClassAccuracy(ClassScore):
    """Share of conditional samples that are taken for the class which they were asked to be.

    The extractor's own accuracy on real samples is its floor, which is a ceiling here.
    """

    name = "class_accuracy"
    mode = "max"

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        condition = subject.spec.condition
        if not subject.conditional or condition is None or condition.kind != "class":
            what = "judges samples that are asked to be of a class, this trial's are not"
            raise self.refuse(what, "train a conditional model on data with classes")
        if self.classes != condition.size:
            what = (
                f"sees {self.classes} classes with {extractor.name}, the data have {condition.size}"
            )
            raise self.refuse(what, "name an extractor of the same classes")
        if not extractor.knows(condition):
            seen, own = ", ".join(extractor.class_names), ", ".join(condition.names)
            what = f"sees the classes {seen} with {extractor.name}, the data have {own}"
            remedy = "name an extractor of the same classes; where they are the same, "
            raise self.refuse(what, f"{remedy}name the data's classes so, in this order")

    def __call__(self, fake: Features, real: Features) -> float:
        assert fake.probabilities is not None
        assert fake.labels is not None
        return float((fake.probabilities.argmax(1) == fake.labels).double().mean())


def histogram(features: Features) -> Tensor:
    """How many samples are taken for each class, int64 [C]."""
    assert features.probabilities is not None
    classes = features.probabilities.shape[1]
    return torch.bincount(features.probabilities.argmax(1), minlength=classes)
