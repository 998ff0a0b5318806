"""Who can tell the classes of samples: a toy's known modes, or an extractor of such classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from gansweep.dataspec import Condition, Modes
from gansweep.metrics.extractors.base import Extractor

Classifier = Callable[[Tensor], Tensor]
"""Samples [N, *shape] -> int64 [N], the class or mode of each."""


def classifier(
    modes: Modes | None, extractors: Iterable[Extractor], condition: Condition | None
) -> Classifier | None:
    """The first that can tell; None where nobody can.

    `extractors` are those that the trial's scores name; `condition` is what the data's labels
    offer: an extractor of other classes says nothing of theirs.
    """
    if modes is not None:
        return lambda x: modes.nearest(x.flatten(1))[0]
    if condition is None:
        return None
    fitting = (each for each in extractors if each.knows(condition))
    return next((each.classify for each in fitting), None)
