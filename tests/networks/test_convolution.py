"""Convolutions as matrix products: torch's values and derivatives, of both orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gansweep.networks.convolution import FEW, Conv2d, ConvTranspose2d

Layers = tuple[nn.Module, nn.Module, tuple[int, ...]]


def layers(ours: Any, theirs: Any, shape: tuple[int, ...], *words: Any, **options: Any) -> Layers:
    """The same weights in both, float64."""
    one, other = ours(*words, **options).double(), theirs(*words, **options).double()
    other.load_state_dict(one.state_dict())
    return one, other, shape


def down(shape: tuple[int, ...], *words: Any, **options: Any) -> Layers:
    return layers(Conv2d, nn.Conv2d, shape, *words, **options)


def up(shape: tuple[int, ...], *words: Any, **options: Any) -> Layers:
    return layers(ConvTranspose2d, nn.ConvTranspose2d, shape, *words, **options)


PRODUCTS: dict[str, Callable[[bool], Layers]] = {
    "down, grey": lambda bias: down((3, 1, 8, 8), 1, 5, 4, 2, 1, bias=bias),
    "down, a pair, odd": lambda bias: down((3, 2, 9, 9), 2, 5, 4, 2, 1, bias=bias),
    "down, oblong": lambda bias: down((2, 2, 7, 5), 2, 3, (3, 2), (2, 1), (1, 0), bias=bias),
    "down, the whole": lambda bias: down((3, 6, 4, 4), 6, 2, 4, bias=bias),
    "up, grey": lambda bias: up((3, 6, 4, 4), 6, 1, 4, 2, 1, bias=bias),
    "up, a pair, odd": lambda bias: up((3, 6, 4, 4), 6, 2, 4, 2, 1, 1, bias=bias),
    "up, oblong": lambda bias: up((2, 5, 4, 3), 5, 2, (3, 2), (2, 1), (1, 0), bias=bias),
    "up, a pixel": lambda bias: up((3, 6, 1, 1), 6, 5, 4, bias=bias),
}
NATIVE: dict[str, Callable[[bool], Layers]] = {
    "down, many": lambda bias: down((2, FEW + 1, 8, 8), FEW + 1, 5, 4, 2, 1, bias=bias),
    "down, the whole and more": lambda bias: down((2, 4, 4, 4), 4, 5, 4, 1, 1, bias=bias),
    "down, in groups": lambda bias: down((2, 2, 8, 8), 2, 4, 4, 2, 1, 1, 2, bias=bias),
    "down, dilated": lambda bias: down((2, 2, 8, 8), 2, 4, 3, 1, 1, 2, bias=bias),
    "down, reflected": lambda bias: down(
        (2, 2, 8, 8), 2, 4, 3, 2, 1, padding_mode="reflect", bias=bias
    ),
    "down, same": lambda bias: down((2, 2, 8, 8), 2, 4, 3, padding="same", bias=bias),
    "down, one image": lambda bias: down((4, 2, 8), 4, 4, 2, bias=bias),
    "up, many": lambda bias: up((2, 5, 4, 4), 5, FEW + 1, 4, 2, 1, bias=bias),
    "up, in groups": lambda bias: up((2, 4, 4, 4), 4, 2, 4, 2, 1, 0, 2, bias=bias),
    "up, dilated": lambda bias: up((2, 4, 1, 1), 4, 2, 3, 1, 0, 0, dilation=2, bias=bias),
    "up, a pixel cut": lambda bias: up((2, 6, 1, 1), 6, 5, 4, 1, 1, bias=bias),
}
CASES = PRODUCTS | NATIVE
each_case = pytest.mark.parametrize("case", CASES)


def inputs(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def derivatives(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The value; dx of its square's sum; of that one's square, as of a gradient penalty, all."""
    y = layer(x)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    second = torch.autograd.grad(dx.square().sum() + y.sum(), [x, *layer.parameters()])
    return [y, dx, *second]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@each_case
def test_values_and_derivatives_are_torchs(case: str, bias: bool, channels_last: bool) -> None:
    torch.manual_seed(1)
    ours, theirs, shape = CASES[case](bias)
    x = inputs(shape)
    if channels_last:
        for layer in (ours, theirs):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if x.dim() == 4:
            x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    for one, other in zip(derivatives(ours, x), derivatives(theirs, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def is_product(call: Callable[[], Any]) -> bool:
    """Whether a call multiplies matrices, and convolves nothing."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    names = {event.key for event in profile.key_averages()}
    return bool(names & {"aten::mm", "aten::bmm"}) and "aten::convolution" not in names


@each_case
def test_a_product_stands_where_it_is_the_faster(case: str) -> None:
    ours, _, shape = CASES[case](False)
    x = inputs(shape)
    assert is_product(lambda: ours(x)) == (case in PRODUCTS)
    fixed = {"down, grey", "down, a pair, odd", "down, oblong"}  # no gradient is to reach the image
    assert is_product(lambda: ours(x.detach())) == (case in PRODUCTS.keys() - fixed)


@pytest.mark.parametrize("case", ["down, grey", "down, the whole", "up, grey", "up, a pixel"])
def test_replicas_under_vmap_are_the_same(case: str) -> None:
    """With a gradient inside, as penalties take it, and one outside."""
    torch.manual_seed(2)
    pairs = [CASES[case](True) for _ in range(3)]
    shape = pairs[0][2]
    x = torch.stack([inputs(shape).detach() for _ in pairs])
    ours = pairs[0][0]
    stacked = {
        name: torch.stack([layer.get_parameter(name).detach() for layer, *_ in pairs])
        for name, _ in ours.named_parameters()
    }

    def penalty(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        def total(x: Tensor) -> Tensor:
            return functional_call(ours, parameters, (x,)).square().sum()

        return grad(total)(x).square().sum()

    found = vmap(grad(penalty))(stacked, x)
    for k, (_, theirs, _) in enumerate(pairs):
        each = x[k].clone().requires_grad_()
        (dx,) = torch.autograd.grad(theirs(each).square().sum(), each, create_graph=True)
        expected = torch.autograd.grad(dx.square().sum(), list(theirs.parameters()))
        for name, value in zip(found, expected, strict=True):
            torch.testing.assert_close(found[name][k], value, rtol=1e-11, atol=1e-11)


def test_under_autocast_they_are_torchs() -> None:
    for case in ("down, grey", "up, grey", "up, a pixel", "down, the whole"):
        ours, theirs, shape = CASES[case](True)
        x = inputs(shape).float()
        with torch.autocast("cpu", torch.bfloat16):
            y = ours.float()(x)
            assert torch.equal(y, theirs.float()(x))
        assert y.dtype == torch.bfloat16


def test_state_dicts_are_torchs() -> None:
    """Their weights load into plain networks, and the other way round."""
    for ours, theirs, _ in (down((1,), 1, 2, 4), up((1,), 2, 1, 4)):
        assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias"]
        assert isinstance(ours, type(theirs))


def test_the_size_of_an_output_may_be_asked_for() -> None:
    ours, theirs, shape = CASES["up, grey"](True)
    x = inputs(shape)
    assert torch.equal(ours(x, [9, 9]), theirs(x, [9, 9]))
