"""Extractors as users write them: tried before anything starts, and known by their weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.base import Extractor, Seen

SPEC = DataSpec((2, 3))


class Mine(Extractor):
    """A user's own; `give` is what it makes of the flattened samples."""

    name = "mine"

    def __init__(self, spec, give=Seen):
        super().__init__(spec)
        self.give = give
        self.linear = nn.Linear(6, 4)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.give(self.linear(x.flatten(1)))


def test_it_is_tried_and_never_trains():
    mine = Mine(SPEC).tried()
    assert not mine.training
    assert not any(parameter.requires_grad for parameter in mine.parameters())
    assert mine(torch.ones(5, 2, 3)).features.tolist() == [[6.0] * 4] * 5


@pytest.mark.parametrize(
    ("give", "what"),
    [
        (lambda x: x, "it gives Tensor, must give Seen"),
        (lambda x: Seen(x[:1]), r"features of two samples are \(1, 4\)"),
        (lambda x: Seen(x[:, None]), r"features of two samples are \(2, 1, 4\)"),
        (lambda x: Seen(x, x), r"probabilities of two samples are \(2, 4\), of None"),
    ],
)
def test_what_it_gives_is_checked(give, what):
    with pytest.raises(ConfigError, match=f"the extractor mine cannot see.*{what}"):
        Mine(SPEC, give).tried()


@pytest.mark.parametrize(
    ("give", "names", "what"),
    [
        (lambda x: x - 1, (), "probabilities of a sample are from -1, and sum to -4: .*softmax"),
        (lambda x: x.sigmoid(), (), "probabilities of a sample are from 0.5, and sum to 2: .*soft"),
        (lambda x: x.softmax(1), tuple("abc"), "class_names has 3 names, of 4 classes"),
    ],
)
def test_what_are_no_probabilities_is_told(give, names, what):
    class Classifying(Mine):
        classes = 4
        class_names = names

    with pytest.raises(ConfigError, match=f"the extractor mine cannot see.*{what}"):
        Classifying(SPEC, lambda x: Seen(x, give(x))).tried()


def test_the_likeliest_class():
    class Two(Mine):
        classes = 4

    mine = Two(SPEC, lambda x: Seen(x, (x * torch.tensor([1.0, 3.0, 2.0, 0.0])).softmax(1))).tried()
    assert mine.classify(torch.ones(2, 2, 3)).tolist() == [1, 1]
    with pytest.raises(TypeError, match="the extractor mine tells no classes"):
        Mine(SPEC).tried().classify(torch.ones(2, 2, 3))


def test_data_of_another_shape():
    with pytest.raises(ConfigError, match=r"cannot see data of shape \(5,\): RuntimeError"):
        Mine(DataSpec((5,))).tried()


def test_weights_are_known_by_their_values():
    one, same, other = Mine(SPEC), Mine(SPEC), Mine(SPEC)
    with torch.no_grad():
        other.linear.bias[2] = 1e-30
    assert len(one.weights) == 12
    assert one.weights == same.weights != other.weights
