"""Classes covered, KL of their histogram, accuracy of conditional samples."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.dataspec import Condition
from gansweep.errors import ConfigError
from gansweep.metrics.classes import ClassAccuracy, ClassDivergence, ClassesCovered
from gansweep.metrics.classifier_score import ClassifierScore
from gansweep.metrics.features import Features
from metrics.judged import build, known

CLASSES = Condition("class", 4)


def seen(*classes, labels=None):
    """Features of samples that are taken for `classes`, of four."""
    probabilities = torch.eye(4)[list(classes)] * 0.7 + 0.075
    x = torch.zeros(len(classes), 1)
    return Features(x, probabilities, None if labels is None else torch.tensor(labels))


def test_classes_covered():
    score = build(ClassesCovered)
    assert score(seen(0, 0, 3), seen(0)) == 2
    assert score(seen(1, 0, 3, 2), seen(0)) == 4
    assert (score.name, score.mode) == ("classes", "max")


def test_divergence_in_closed_form():
    """Real counts 1, 1, 1, 1 and one more each; fakes 1/2, 1/2, 0, 0: log 2."""
    score = build(ClassDivergence)
    real = known(score, seen(0, 1, 2, 3))
    assert score(seen(0, 1), real) == pytest.approx(math.log(2), rel=1e-9)
    assert score(seen(2, 0, 1, 3), real) == pytest.approx(0, abs=1e-12)
    assert score(seen(2, 2), real) == pytest.approx(math.log(4), rel=1e-9)


def test_it_is_the_reverse_divergence():
    """KL(fake || real): p log(p / q) with p the fakes'; real (3 + 1, 0 + 1, 0 + 1, 0 + 1) / 7."""
    score = build(ClassDivergence)
    value = score(seen(0, 0, 1, 1), known(score, seen(0, 0, 0)))
    expected = 0.5 * math.log(0.5 / (4 / 7)) + 0.5 * math.log(0.5 / (1 / 7))
    assert value == pytest.approx(expected, rel=1e-9)


def test_a_class_that_the_data_lack_is_finite():
    score = build(ClassDivergence)
    assert math.isfinite(score(seen(3, 3), known(score, seen(0, 0, 0))))


def test_accuracy():
    score = build(ClassAccuracy, condition=CLASSES, conditional=True)
    assert score(seen(0, 1, 2, 3, labels=[0, 1, 2, 0]), seen(0)) == 0.75
    assert (score.name, score.mode) == ("class_accuracy", "max")


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ({"condition": CLASSES}, "this trial's are not"),
        ({"conditional": True}, "this trial's are not"),
        ({"conditional": True, "condition": Condition("vector", 4)}, "this trial's are not"),
        ({"conditional": True, "condition": Condition("class", 5)}, "sees 4 classes .* have 5"),
    ],
)
def test_accuracy_needs_the_classes_that_were_asked_for(subject, what):
    with pytest.raises(ConfigError, match=what):
        build(ClassAccuracy, **subject)


def test_accuracy_needs_classes_of_the_same_names_in_the_same_order(monkeypatch):
    from metrics.judged import Given

    monkeypatch.setattr(Given, "class_names", ("a", "b", "c", "d"))
    for names in ((), ("a", "b", "c", "d")):  # without names a class is its index
        build(ClassAccuracy, condition=Condition("class", 4, names), conditional=True)
    for names in (("a", "b", "d", "c"), ("cat", "dog", "frog", "ship")):
        with pytest.raises(ConfigError) as caught:
            build(ClassAccuracy, condition=Condition("class", 4, names), conditional=True)
        (problem,) = caught.value.problems
        assert problem.where == "trial.score.names"
        assert f"sees the classes a, b, c, d with given, the data have {', '.join(names)}" in str(
            problem
        )
        assert "name the data's classes so, in this order" in problem.remedy


@pytest.mark.parametrize("cls", [ClassesCovered, ClassDivergence, ClassifierScore])
def test_an_extractor_without_classes_is_refused(cls, monkeypatch):
    from metrics.judged import Given

    monkeypatch.setattr(Given, "classes", None)
    with pytest.raises(ConfigError, match="needs class probabilities"):
        build(cls)
