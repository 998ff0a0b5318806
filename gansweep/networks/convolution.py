"""Convolutions of images as matrix products, where a CPU is faster so; parameters as torch's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, unfold

FEW = 2
"""Up to so many channels of an image a product is faster: `python -m benchmarks.convolution`."""


class Conv2d(nn.Conv2d):
    """nn.Conv2d, zeros as padding.

    On a CPU as a matrix product where the kernel is as large as its input, and where a gradient is
    to reach an image of few channels, by way of the pixels under each place of the kernel.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor
        if _is_native(self, x):
            y = super()._conv_forward(x, weight, bias)
            return y
        padding = _padding(self)
        if x.shape[2:] == weight.shape[2:] and padding == (0, 0):
            y = torch.tensordot(x, weight, dims=_IN_MEMORY)[:, :, None, None]
        elif x.shape[1] <= FEW and x.requires_grad:
            each = zip(x.shape[2:], self.kernel_size, self.stride, padding, strict=True)
            sides = [(side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in each]
            pixels = unfold(x, weight.shape[2:], padding=padding, stride=self.stride)
            y = (weight.flatten(1) @ pixels).view(len(x), -1, *sides)
        else:
            y = super()._conv_forward(x, weight, bias)
            return y
        return y if bias is None else y + bias[:, None, None]


class ConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d.

    On a CPU as a matrix product of a single pixel, and where few channels come out: as the sum of
    what each pixel gives to those under the kernel.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if _is_native(self, x) or output_size is not None:
            return super().forward(x, output_size)
        padding, weight = _padding(self), self.weight
        if x.shape[2:] == (1, 1) and padding == self.output_padding == (0, 0):
            by_pixel = weight.permute(0, 2, 3, 1)
            y = x.flatten(1) @ by_pixel.flatten(1)
            y = y.view(len(x), *by_pixel.shape[1:]).permute(0, 3, 1, 2)
        elif self.out_channels <= FEW:
            each = zip(x.shape[2:], self.kernel_size, self.stride, padding, strict=True)
            least = [(side - 1) * stride - 2 * pad + kernel for side, kernel, stride, pad in each]
            sides = tuple(map(sum, zip(least, self.output_padding, strict=True)))
            given = x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.flatten(1)
            y = fold(given.mT, sides, self.kernel_size, padding=padding, stride=self.stride)
        else:
            return super().forward(x)
        return y if self.bias is None else y + self.bias[:, None, None]


_IN_MEMORY = ([2, 3, 1], [2, 3, 1])
"""Rows, columns, channels: as maps and kernels lie in channels-last, so that nothing is copied."""


def _is_native(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    """Whether torch's own kernels are the best for it, or the only ones that know how."""
    return (
        x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or x.dim() != 4
        or layer.groups > 1
        or layer.dilation != (1, 1)
        or layer.padding_mode != "zeros"
        or isinstance(layer.padding, str)
    )


def _padding(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, ...]:
    """Of a layer that is not native."""
    assert not isinstance(layer.padding, str)
    return layer.padding
