"""Weight clipping: what is clamped, and to what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gansweep.constraints import WeightClip


def critic() -> nn.Module:
    torch.manual_seed(0)
    D = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(3), nn.Linear(3, 1)
    )
    for parameter in D.parameters():
        nn.init.uniform_(parameter, 0.3, 1)
        parameter.data.mul_(torch.where(torch.rand_like(parameter) < 0.5, -1.0, 1.0))
    D[1].running_mean.fill_(0.8)
    D[1].running_var.fill_(1.7)
    return D


def test_every_weight_is_clamped_and_no_buffer():
    D = critic()
    before = [p.detach().clone() for p in D.parameters()]
    clip = WeightClip(0.25)
    clip.project(clip.select(D))
    ran = 0
    for parameter, old in zip(D.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-0.25, 0.25))
        assert not torch.equal(parameter, old)
        ran += 1
    assert ran == 10
    assert D[1].running_mean.tolist() == pytest.approx([0.8, 0.8])
    assert D[1].running_var.tolist() == pytest.approx([1.7, 1.7])


def test_the_weights_of_normalisation_can_be_spared():
    D = critic()
    before = [p.detach().clone() for p in D.parameters()]
    clip = WeightClip(0.25, normalisation=False)
    clip.project(clip.select(D))
    moved = [not torch.equal(p, old) for p, old in zip(D.parameters(), before, strict=True)]
    assert moved == [True] * 2 + [False] * 6 + [True] * 2
    assert all(p.abs().max() <= 0.25 for p in (*D[0].parameters(), *D[4].parameters()))


def test_both_bounds_hold_and_inner_weights_stay():
    parameter = nn.Parameter(torch.tensor([-2.0, -0.01, 0.0, 0.005, 0.01, 3.0]))
    WeightClip(0.01).project([parameter])
    expected = torch.tensor([-0.01, -0.01, 0.0, 0.005, 0.01, 0.01])
    torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-9)
    assert parameter.grad_fn is None
    assert parameter.requires_grad


def test_the_defaults_are_the_authors_code():
    clip = WeightClip(0.01)
    assert clip.timing == "before"
    assert clip.normalisation is True


def test_the_share_of_pinned_weights():
    """Within 1 % of the bound, or beyond it; of all numbers, not of tensors."""
    clip = WeightClip(0.01)
    many = nn.Parameter(torch.tensor([-0.01, 0.01, 0.00991, 0.5, 0.0098, 0.0]))
    one = nn.Parameter(torch.tensor([[0.0], [-0.02]]))
    assert clip.pinned([many, one]).item() == pytest.approx(5 / 8)
    clip.project([many, one])
    assert clip.pinned([many, one]).item() == pytest.approx(5 / 8)  # a float32's 0.01, too
    assert not clip.pinned([many]).requires_grad
