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


def side_by_side(_: None, parts: list[Any]) -> list[Tensor]:
    """The products of the pairs among `parts`, flat, between the others."""
    flat = [x if isinstance(x, Tensor) else torch.bmm(*x).reshape(len(x[0]), -1) for x in parts]
    return [torch.cat(flat, 1)]


def as_told(parts: list[Any]) -> Tensor:
    doubles = [p.double() if isinstance(p, Tensor) else [x.double() for x in p] for p in parts]
    return side_by_side(None, doubles)[0]


@elsewhere
def test_a_gradient_is_written_to_its_rows_by_one_kernel() -> None:
    x, y, vector = lying(3, 48, 32, by="columns"), lying(3, 32, 17, by="rows"), torch.randn(3, 5)
    for parts in (
        [(x, y), vector, (y.mT, x.mT), (x.mT, x), vector[:, :2]],
        [vector, (x, y)],
        [(x, lying(3, 32, 9, by="apart"))],
        [(x, y), torch.randn(5, 3).T, torch.randn(3, 1).expand(3, 4)],
    ):
        (out,), taken = compiled(side_by_side, parts)
        exact = as_told(parts)
        assert taken == 1
        assert out.shape == exact.shape
        assert (out - exact).abs().max() < 1e-4


@elsewhere
def test_a_gradient_of_matrices_that_lie_otherwise_is_left_to_torch() -> None:
    x, row = lying(3, 48, 32, by="rows"), lying(3, 1, 32, by="rows").expand(3, 8, 32)
    parts = [(row, x.mT), torch.randn(3, 5), (x, x.mT)]
    (out,), taken = compiled(side_by_side, parts)
    assert taken == 0
    assert (out - as_told(parts)).abs().max() < 1e-4


def other_joins(_: None, a: Tensor, b: Tensor, c: Tensor) -> dict[str, Tensor]:
    product = torch.bmm(a, b)
    rows = torch.cat([product.reshape(-1, b.shape[2]), c.float()], 1)
    return {"rows": rows, "doubles": torch.cat([torch.bmm(a, a.mT).flatten(1), c[: len(a)]], 1)}


@elsewhere
def test_products_in_what_is_no_gradient() -> None:
    """Beside others in their rows, and among doubles."""
    a, b, c = lying(3, 4, 6, by="rows"), lying(3, 6, 17, by="rows"), torch.randn(12, 5).double()
    out, taken = compiled(other_joins, a, b, c)
    assert taken == 2
    assert out["doubles"].dtype is torch.float64
    for name, exact in other_joins(None, a, b, c).items():
        torch.testing.assert_close(out[name], exact, rtol=1e-5, atol=1e-5)


def seen_twice(_: None, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    product = torch.bmm(a, b)
    return torch.cat([product.reshape(len(a), -1), a[:, 0]], 1), product


@elsewhere
def test_a_product_that_something_else_takes_stays_by_itself() -> None:
    a, b = lying(3, 48, 32, by="rows"), lying(3, 32, 17, by="rows")
    (out, product), taken = compiled(seen_twice, a, b)
    assert taken == 1
    assert close(product, a, b)
    assert torch.equal(out, torch.cat([product.flatten(1), a[:, 0]], 1))


@elsewhere
def test_a_product_with_itself() -> None:
    square = lying(2, 8, 8, by="rows")
    (out,), taken = compiled(all_products, [(square, square)])
    assert taken == 1
    assert close(out, square, square)


@elsewhere
def test_what_is_left_to_torch() -> None:
    square = lying(2, 8, 8, by="rows")
    left: dict[str, tuple[Tensor, Tensor]] = {
        "doubles": (square.double(), square.double() + 1),
        "a vector": (square, lying(2, 8, 1, by="rows")),
        "a vector before": (lying(2, 1, 8, by="rows"), square),
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
