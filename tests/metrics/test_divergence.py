"""Kullback-Leibler divergence in closed form, and where it has none."""

from __future__ import annotations

import math

import pytest
import torch

from gansweep.metrics.divergence import divergence


def of(p: list[float], q: list[float]) -> float:
    return float(divergence(torch.tensor(p), torch.tensor(q)))


def test_in_closed_form() -> None:
    assert of([3, 1], [1, 1]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert of([1, 1], [3, 1]) == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert of([2, 6, 4], [1, 3, 2]) == pytest.approx(0, abs=1e-15)


def test_what_p_lacks_costs_nothing_and_what_q_lacks_all() -> None:
    assert of([1, 0, 0, 0], [1, 1, 1, 1]) == pytest.approx(math.log(4))
    assert of([1, 0], [1, 0]) == 0
    assert of([1, 1], [1, 0]) == math.inf
    assert math.isnan(of([0, 0], [1, 1]))


def test_row_by_row() -> None:
    p = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    found = divergence(p, torch.tensor([0.5, 0.5]))
    assert found.dtype == torch.float64
    assert found.tolist() == [0, pytest.approx(math.log(2))]
