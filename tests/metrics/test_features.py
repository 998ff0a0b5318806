"""Features: what is shared, what is taken."""

from __future__ import annotations

import torch

from gansweep.metrics.features import Features


def test_what_is_shared_is_made_once():
    features, calls = Features(torch.zeros(2, 1)), []
    for _ in range(3):
        assert features.shared("key", lambda: calls.append(1) or len(calls)) == 1
    assert features.shared("other", lambda: 7) == 7


def test_taken_samples_keep_what_belongs_to_them():
    features = Features(torch.arange(3.0)[:, None], torch.eye(3), torch.tensor([5, 6, 7]))
    taken = features.take(torch.tensor([2, 0, 2]))
    assert taken.x.flatten().tolist() == [2, 0, 2]
    assert taken.probabilities.argmax(1).tolist() == [2, 0, 2]
    assert taken.labels.tolist() == [7, 5, 7]
    assert Features(torch.zeros(2, 1)).take(torch.tensor([0])).labels is None
