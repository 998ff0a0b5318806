"""A condition as numbers, and joined with vectors and with maps."""

import pytest
import torch

from gansweep.dataspec import Condition
from gansweep.networks.condition import ConditionCode, ConditionJoin

CLASSES = Condition("class", 3)
VECTOR = Condition("vector", 2)


def test_class_becomes_one_hot_and_vector_stays():
    code = ConditionCode(CLASSES)(torch.tensor([2, 0]), dtype=torch.float64)
    assert code.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert code.dtype == torch.float64
    y = torch.tensor([[0.5, -3.0]])
    assert ConditionCode(VECTOR)(y, dtype=torch.float32).tolist() == y.tolist()


def test_a_class_has_its_code_where_a_gradient_is_taken_under_vmap():
    """As in the penalty of a stacked conditional discriminator."""
    code = ConditionCode(Condition("class", 2))

    def slope(x, y):
        return torch.func.grad(lambda x: (code(y, dtype=x.dtype) * x * x).sum())(x)

    slopes = torch.func.vmap(slope)(torch.full((2, 1, 2), 3.0), torch.tensor([[0], [1]]))
    assert slopes.tolist() == [[[6, 0]], [[0, 6]]]


def test_join_appends_to_vectors():
    join = ConditionJoin(CLASSES)
    joined = join(torch.tensor([[7.0, 8.0]]), torch.tensor([1]))
    assert joined.tolist() == [[7, 8, 0, 1, 0]]
    assert join.width == 3


def test_join_appends_constant_maps_to_images():
    joined = ConditionJoin(VECTOR)(torch.zeros(2, 1, 4, 5), torch.tensor([[1.0, 2], [3, 4]]))
    assert joined.shape == (2, 3, 4, 5)
    assert joined.amin((2, 3)).tolist() == [[0, 1, 2], [0, 3, 4]]
    assert joined.amax((2, 3)).tolist() == [[0, 1, 2], [0, 3, 4]]


def test_join_without_a_condition_changes_nothing():
    join = ConditionJoin(None)
    features = torch.randn(2, 3)
    assert join(features, None) is features
    assert join.width == 0


def test_missing_and_superfluous_labels_are_refused():
    with pytest.raises(ValueError, match="conditional: call it as"):
        ConditionJoin(CLASSES)(torch.zeros(1, 2), None)
    with pytest.raises(ValueError, match="unconditional"):
        ConditionJoin(None)(torch.zeros(1, 2), torch.tensor([0]))


def test_a_class_outside_the_range_is_refused():
    with pytest.raises(RuntimeError, match="out of bounds"):
        ConditionCode(CLASSES)(torch.tensor([3]), dtype=torch.float32)
