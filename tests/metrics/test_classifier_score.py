"""The classifier score in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.metrics.classifier_score import ClassifierScore
from gansweep.metrics.features import Features
from metrics.judged import build


def score_of(probabilities):
    p = torch.tensor(probabilities)
    nothing = Features(torch.zeros(1, 1))
    return build(ClassifierScore)(Features(torch.zeros(len(p), 1), p), nothing)


def test_extremes():
    assert score_of([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) == pytest.approx(4)
    assert score_of([[0.25] * 4] * 3) == pytest.approx(1)
    assert score_of([[1.0, 0, 0, 0]] * 5) == pytest.approx(1)


def test_by_its_definition():
    """exp of the mean KL(p(y|x) || p(y))."""
    rows = [[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.3, 0.1], [0.05, 0.05, 0.1, 0.8]]
    mean = [sum(column) / 3 for column in zip(*rows, strict=True)]
    kl = [sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True)) for row in rows]
    assert score_of(rows) == pytest.approx(math.exp(sum(kl) / 3), rel=1e-6)
