"""Kullback-Leibler divergence between categorical distributions."""

from __future__ import annotations

import torch
from torch import Tensor


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats over the last dimension, float64: of weights [..., C] from those of q.

    Weights (counts, probabilities) are 0 or more, and normalised here. Infinite where q is 0 and p
    is not; nan where either has no weight at all.
    """
    p, q = (each.double() / each.double().sum(-1, keepdim=True) for each in (p, q))
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)
