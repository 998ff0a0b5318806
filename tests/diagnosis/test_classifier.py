"""Who tells the classes of samples: a toy's modes before an extractor, and only of its classes."""

from __future__ import annotations

import torch
from torch import Tensor
from trees import small

from gansweep.data.idx import FashionMnist
from gansweep.data.toys import Ring8
from gansweep.dataspec import Condition, DataSpec
from gansweep.diagnosis.classifier import classifier
from gansweep.metrics.extractors.base import Extractor, Seen
from gansweep.metrics.extractors.digits import Digits
from gansweep.replica import Common

TEN = Condition("class", 10)


class Silent(Extractor):
    """Tells no classes."""

    name = "silent"

    def forward(self, x: Tensor) -> Seen:
        return Seen(x.flatten(1))


class Third(Silent):
    """Takes every sample for the third class of ten."""

    name = "third"
    classes = 10

    def forward(self, x: Tensor) -> Seen:
        return Seen(x.flatten(1), torch.eye(10)[2].expand(len(x), 10))


SPEC = DataSpec((2,))
BOTH = [Silent(SPEC), Third(SPEC)]


def test_the_first_that_tells_the_classes_of_the_data() -> None:
    classify = classifier(None, BOTH, TEN)
    assert classify is not None
    assert classify(torch.zeros(3, 2)).tolist() == [2, 2, 2]


def test_other_classes_say_nothing() -> None:
    for condition in (None, Condition("class", 11), Condition("vector", 10)):
        assert classifier(None, BOTH, condition) is None
    assert classifier(None, BOTH[:1], TEN) is None


def test_classes_of_other_names_say_nothing() -> None:
    """Ten kinds of clothes are no digits."""
    digits = Digits(DataSpec((1, 28, 28)))
    of_digits = tuple(str(i) for i in range(10))
    for names, known in ((of_digits, True), (FashionMnist.class_names, False), ((), True)):
        found = classifier(None, [digits], Condition("class", 10, names))
        assert (found is not None) == known, names


def test_known_modes_come_first() -> None:
    classify = classifier(Ring8(Ring8.Settings()).modes, BOTH, TEN)
    assert classify is not None
    assert classify(torch.tensor([[1.0, 0.1], [-2.0, 0.0]])).tolist() == [0, 4]


def test_a_trial_that_names_the_extractor_is_diagnosed_by_it() -> None:
    """64 of mnist5k show all ten digits; without a score in its features nobody looks at them."""
    for names, classes in ((["swd", "fd/digits"], 10), (["swd"], 0)):
        asked = {"score": {"names": names}, "diagnosis": {"samples": 64}}
        config = small("gan", "mlp", "mnist5k", **asked)
        diagnosed = Common(config, torch.device("cpu")).diagnosed
        assert diagnosed.classes == classes
        assert (diagnosed.classify is not None) == (classes > 0)
