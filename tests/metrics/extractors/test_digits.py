"""The shipped classifier of digits: its file, its accuracy, what it refuses."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from gansweep.data.base import to_float
from gansweep.data.idx import IdxSettings, Mnist
from gansweep.data.mnist5k import Mnist5k
from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.digits import SHAPE, WEIGHTS, Digits


@pytest.fixture(scope="module")
def digits():
    return Digits(DataSpec(SHAPE)).tried()


def accuracy(digits, samples):
    with torch.no_grad():
        seen = [digits(to_float(x)) for x in torch.split(samples.x, 500)]
    assert seen[0].features.shape == (500, 64)
    probabilities = torch.cat([each.probabilities for each in seen])
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(samples)))
    return (probabilities.argmax(1) == samples.labels).double().mean().item()


def test_the_file_is_small_and_says_where_it_comes_from():
    assert WEIGHTS.stat().st_size < 1_000_000
    with WEIGHTS.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        about = json.loads(file.read(size))["__metadata__"]
    assert float(about["test_accuracy"]) >= 0.99
    assert "60,000 training images" in about["trained_on"]


def test_values_are_those_of_this_file(digits):
    """Another file makes other values of every score: they are not comparable then."""
    assert digits.weights == "e97c91876a95"


def test_accuracy_on_the_test_images(digits, shared_mnist):
    samples = Mnist(IdxSettings(path=str(shared_mnist), split="test")).load()
    assert len(samples) == 10_000
    assert accuracy(digits, samples) >= 0.99


def test_accuracy_on_what_is_there_offline(digits):
    """These 5,000 are among the training images."""
    assert accuracy(digits, Mnist5k(Mnist5k.Settings()).load()) >= 0.99


def test_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"of shape \(1, 28, 28\), the data have \(3, 32, 32\)"):
        Digits(DataSpec((3, 32, 32)))
