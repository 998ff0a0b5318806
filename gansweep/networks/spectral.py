"""Spectral normalisation: layers that divide their weight by its largest singular value."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from gansweep.networks.convolution import Conv2d


def normalised(weight: Tensor, u: Tensor, *, keep: bool) -> Tensor:
    """W / sigma(W) (Miyato et al. 2018, eq. 8 and Algorithm 1), shaped as W.

    sigma is u.W v, W as [out, all else], after one power iteration from `u` [out], which takes the
    result where `keep` says so. Gradients see u and v as constants and sigma as a function of W.
    Pure but for that: PyTorch's own parametrization does not run under `vmap`.
    """
    matrix = weight.flatten(1)
    constant = matrix.detach()
    v = normalize(u.detach() @ constant, dim=0)
    left = normalize(constant @ v, dim=0)
    if keep:
        u.copy_(left)
    return weight / (left @ (matrix @ v))


def _start(weight: Tensor) -> Tensor:
    """A random direction [out]."""
    return normalize(torch.randn(weight.shape[0]), dim=0)


@final
class SpectralLinear(nn.Linear):
    """nn.Linear with a spectrally normalised weight; in training each call iterates once."""

    u: Tensor

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_buffer("u", _start(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, normalised(self.weight, self.u, keep=self.training), self.bias)


@final
class SpectralConv2d(Conv2d):
    """nn.Conv2d, zeros as padding, with a spectrally normalised weight, as SpectralLinear."""

    u: Tensor

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_buffer("u", _start(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        weight = normalised(self.weight, self.u, keep=self.training)
        return self._conv_forward(x, weight, self.bias)
