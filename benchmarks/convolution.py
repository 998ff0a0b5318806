"""Convolutions at the ends of a DCGAN as torch computes them and as we do, ms on one thread.

    python -m benchmarks.convolution

The best of many calls each, forward and backward together: from few maps up to an image with the
gradient to both; down from an image with the gradient to it alone, as in G's step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gansweep.networks.convolution import Conv2d, ConvTranspose2d

BATCH = 64
CALLS = 100


def best_ms(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return min(times) * 1e3


def both_ways(layer: nn.Module, shape: tuple[int, ...], *, weights: bool) -> Callable[[], Any]:
    """A forward and a backward pass through it."""
    last: Any = torch.channels_last
    layer.to(memory_format=last)  # type: ignore[call-overload]
    layer.requires_grad_(weights)
    x = torch.randn(shape).contiguous(memory_format=last).requires_grad_()
    wanted = [x, *layer.parameters()] if weights else [x]
    g = torch.randn_like(layer(x))
    return lambda: torch.autograd.grad(layer(x), wanted, g)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'layer':42} {'torch':>8} {'ours':>8}")
    for maps, side in ((32, 14), (64, 16)):
        whole = side // 2
        cases: list[tuple[str, type[nn.Module], type[nn.Module], Any, Any, bool]] = []
        for channels in (1, 2, 3, 4):
            up, down = (maps, channels, 4, 2, 1), (channels, maps, 4, 2, 1)
            image = (BATCH, channels, 2 * side, 2 * side)
            cases += [
                (f"{maps} maps of {side} up to {channels} channels",
                 nn.ConvTranspose2d, ConvTranspose2d, up, (BATCH, maps, side, side), True),
                (f"{channels} channels down to {maps} maps of {side}",
                 nn.Conv2d, Conv2d, down, image, False),
            ]  # fmt: skip
        cases += [
            (f"64 numbers up to {2 * maps} maps of {whole}",
             nn.ConvTranspose2d, ConvTranspose2d, (64, 2 * maps, whole), (BATCH, 64, 1, 1), True),
            (f"{2 * maps} maps of {whole} down to a logit",
             nn.Conv2d, Conv2d, (2 * maps, 1, whole), (BATCH, 2 * maps, whole, whole), True),
        ]  # fmt: skip
        for name, theirs, ours, words, shape, weights in cases:
            times = [
                best_ms(both_ways(kind(*words, bias=False), shape, weights=weights))
                for kind in (theirs, ours)
            ]
            print(f"{name:42} {times[0]:8.2f} {times[1]:8.2f}")


if __name__ == "__main__":
    main()
