"""The activations of a network's layers."""

from __future__ import annotations

import torch
from torch import nn

from gansweep.diagnosis.layers import activations, descends


def test_each_layer_with_weights_in_the_order_of_calls() -> None:
    first, last = nn.Conv2d(1, 2, 3), nn.Linear(8, 1)
    network = nn.Sequential(first, nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), last)
    one, two = torch.randn(4, 1, 4, 4), torch.randn(3, 1, 4, 4)
    with activations(network) as layers:
        logits = [network(one), network(two)]
    assert [[tuple(each.shape) for each in layer] for layer in layers] == [
        [(4, 2, 2, 2), (3, 2, 2, 2)],
        [(4, 1), (3, 1)],
    ]
    assert torch.equal(layers[0][0], first(one))
    assert torch.equal(layers[1][1], logits[1])
    assert layers[0][0].requires_grad


def test_no_hook_is_left_behind() -> None:
    network = nn.Linear(2, 1)
    try:
        with activations(network) as layers:
            network(torch.ones(1, 2))
            raise RuntimeError("broken")
    except RuntimeError:
        network(torch.ones(1, 2))
    assert len(layers[0]) == 1
    assert not network._forward_hooks


def test_what_descends_from_a_tensor() -> None:
    layer, x, y = nn.Linear(2, 2), torch.ones(3, 2, requires_grad=True), torch.ones(3, 2)
    of_x, of_y = layer(x.clone()).relu(), layer(y)
    assert descends(of_x + of_y, x)
    assert descends(of_x, layer.weight)
    assert not descends(of_y, x)
    assert not descends(of_x.detach(), x)
    assert not descends(y, x)
