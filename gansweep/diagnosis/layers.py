"""The activations of a network's layers, for the gradient of a loss with respect to each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def activations(network: nn.Module) -> Iterator[list[list[Tensor]]]:
    """The outputs of each layer that has weights of two dimensions or more, in the order of calls.

    A list a layer, an output a call of the network: filled as the network is called within.
    """
    found: dict[nn.Module, list[Tensor]] = {}
    outputs: list[list[Tensor]] = []

    def keep(layer: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor):
            if layer not in found:
                found[layer] = []
                outputs.append(found[layer])
            found[layer].append(output)

    handles = [
        layer.register_forward_hook(keep)
        for layer in network.modules()
        if any(parameter.dim() > 1 for parameter in layer.parameters(recurse=False))
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def descends(x: Tensor, source: Tensor) -> bool:
    """Whether `x` was computed from `source`, a leaf of autograd's graph."""
    seen, ahead = set(), [x.grad_fn]
    while ahead:
        node: Any = ahead.pop()
        if node is None or node in seen:
            continue
        if getattr(node, "variable", None) is source:
            return True
        seen.add(node)
        ahead += [before for before, _ in node.next_functions]
    return False
