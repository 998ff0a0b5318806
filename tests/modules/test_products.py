"""Products of a compiled step: the same as torch's, of matrices that lie in any way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from gansweep import modules
from gansweep.modules.compiled import Compiled

elsewhere = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="this CPU has no AVX-512"
)


@pytest.fixture(autouse=True)
def _new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """What it gives, and how many of its products were not left to torch."""
    before = counters["inductor"]["cpp_templated_kernel_counter"]
    out = Compiled(function, None, about=None)(*arguments)
    return out, counters["inductor"]["cpp_templated_kernel_counter"] - before


def lying(k: int, m: int, n: int, *, by: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """[k, m, n], each matrix by rows or by columns, within wider ones ("apart") or not."""
    rng = torch.Generator().manual_seed(m * n)
    if by == "columns":
        return torch.randn(k, n, m, generator=rng, dtype=dtype).mT
    if by == "apart":
        return torch.randn(k, m, n + 3, generator=rng, dtype=dtype)[:, :, 2 : n + 2]
    return torch.randn(k, m, n, generator=rng, dtype=dtype)


def close(out: Tensor, a: Tensor, b: Tensor) -> bool:
    exact = torch.bmm(a.double(), b.double())
    return bool((out - exact).abs().max() <= 2e-6 * a.shape[2] ** 0.5 * exact.abs().max())


WAYS = [(a, b) for a in ("rows", "columns", "apart") for b in ("rows", "columns", "apart")]
SHAPES = [(3, 64, 48, 32), (1, 17, 5, 2), (2, 33, 100, 19)]


def all_products(_: None, pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [torch.bmm(a, b) for a, b in pairs]


@elsewhere
def test_products_of_matrices_that_lie_in_any_way() -> None:
    pairs = [
        (lying(k, m, length, by=a), lying(k, length, n, by=b))
        for k, m, length, n in SHAPES
        for a, b in WAYS
    ]
    out, taken = compiled(all_products, pairs)
    assert taken == len(pairs)
    for (a, b), c in zip(pairs, out, strict=True):
        assert close(c, a, b), (a.shape, a.stride(), b.stride())


@elsewhere
def test_a_product_does_not_depend_on_its_neighbours() -> None:
    a, b = lying(4, 64, 64, by="columns"), lying(4, 64, 64, by="rows")
    other = torch.tensor([2, 0, 3, 1])
    (one, two), taken = compiled(all_products, [(a, b), (a[other], b[other])])
    assert taken == 2
    assert torch.equal(one[other], two)


@elsewhere
def test_what_is_left_to_torch() -> None:
    square = lying(2, 8, 8, by="rows")
    left: dict[str, tuple[Tensor, Tensor]] = {
        "doubles": (square.double(), square.double() + 1),
        "a vector": (square, lying(2, 8, 1, by="rows")),
        "a vector before": (lying(2, 1, 8, by="rows"), square),
        "with itself": (square, square),
        "one row for all": (lying(2, 1, 8, by="rows").expand(2, 4, 8), square),
        "large": (lying(1, 2, 1025, by="rows"), lying(1, 1025, 1024, by="rows")),
    }
    out, taken = compiled(all_products, list(left.values()))
    assert taken == 0
    for name, (a, b), c in zip(left, left.values(), out, strict=True):
        assert close(c, a, b), name


def test_another_torch_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gansweep.modules.products", None)
    monkeypatch.delattr(modules, "products", raising=False)
    pair = (lying(2, 8, 8, by="rows"), lying(2, 8, 8, by="columns"))
    (out,), taken = compiled(all_products, [pair])
    assert taken == 0
    assert close(out, *pair)


def test_several_threads_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BLAS divides a product among them."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    pair = (lying(2, 8, 8, by="rows"), lying(2, 8, 8, by="columns"))
    (out,), taken = compiled(all_products, [pair])
    assert taken == 0
    assert close(out, *pair)
