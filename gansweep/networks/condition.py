"""How a condition y enters a network: as numbers, and joined with other features."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from gansweep.dataspec import Condition


def _one_hot(labels: Tensor, size: int) -> Tensor:
    # torch's own one_hot looks at the values, which a gradient under `vmap` does not allow.
    return labels.new_zeros(*labels.shape, size).scatter(-1, labels.unsqueeze(-1), 1)


def _as_given(labels: Tensor, size: int) -> Tensor:
    return labels


_CODES: dict[str, Callable[[Tensor, int], Tensor]] = {"class": _one_hot, "vector": _as_given}


@final
class ConditionCode(nn.Module):
    """The condition as numbers: a class as its one-hot vector, a vector as it is.

    labels: int64 [N] with values 0..size-1 for classes, float [N, size] for vectors.
    forward(labels, dtype=) -> [N, size]. Raises ValueError where labels is None.
    """

    def __init__(self, condition: Condition) -> None:
        super().__init__()
        self.width = condition.size
        self._encode = _CODES[condition.kind]

    def forward(self, labels: Tensor | None, *, dtype: torch.dtype) -> Tensor:
        if labels is None:
            raise ValueError("this network is conditional: call it as net(x, labels)")
        return self._encode(labels, self.width).to(dtype)


@final
class ConditionJoin(nn.Module):
    """Appends the condition's code to features [N, F] or, as constant maps, to [N, F, H, W].

    There is no embedding of its own: the linear or convolutional layer that follows holds one
    column (one kernel) per number of the code, which is a learned linear embedding already.

    `width` is the number of features or maps that it adds; 0 without a condition.
    forward(features, labels) -> [N, F + width, ...]. Raises ValueError where a condition was
    stated and labels is None, or none was stated and there are labels.
    """

    def __init__(self, condition: Condition | None) -> None:
        super().__init__()
        self.code = None if condition is None else ConditionCode(condition)
        self.width = 0 if condition is None else condition.size

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        if self.code is None:
            refuse_labels(labels)
            return features
        code: Tensor = self.code(labels, dtype=features.dtype)
        places = features.shape[2:]
        code = code.reshape(*code.shape, *(1 for _ in places)).expand(-1, -1, *places)
        return torch.cat((features, code), dim=1)


def refuse_labels(labels: Tensor | None) -> None:
    """ValueError where an unconditional network is given labels, which it would ignore."""
    if labels is not None:
        raise ValueError("this network is unconditional: it was built with condition=None")
