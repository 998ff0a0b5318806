"""The matrix products of a compiled step, by oneDNN's micro-kernel in the place of a BLAS.

A stack's products are many, and small. A BLAS packs both matrices anew for each; the micro-kernel,
`brgemm`, multiplies matrices that lie by rows as they lie, in code that it makes for their shape.
One that lies by columns is turned before. Where the products are the parts of a stack's gradient,
they are written to its rows at once. `python -m benchmarks.inside` tells what products take.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, final

import torch
import torch._inductor.compile_fx  # the modules below import each other, and this one first
from torch import Tensor, fx
from torch._inductor import ir
from torch._inductor.codegen.cpp_template import CppTemplate
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch._inductor.lowering import lowerings, register_lowering
from torch._inductor.virtualized import V

LARGEST: Final = 2**20
"""Numbers of a right-hand matrix: beyond, it leaves the caches, and a BLAS is faster."""

_BMM: Final = torch.ops.aten.bmm.default
_CAT: Final = torch.ops.aten.cat.default
_RESHAPE: Final = torch.ops.aten.reshape.default
_VIEW: Final = torch.ops.aten.view.default


def apply_here() -> bool:
    """Whether this process compiles for what the micro-kernel is known to be faster on."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.get_num_threads() == 1


@torch.library.custom_op("gansweep::product", mutates_args=())
def product(a: Tensor, b: Tensor) -> Tensor:
    """torch.bmm: float32 [K, M, L] and [K, L, N] -> [K, M, N]."""
    return torch.bmm(a, b)


@product.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])


@torch.library.custom_op("gansweep::joined", mutates_args=())
def joined(
    a: Sequence[Tensor], b: Sequence[Tensor], rest: Sequence[Tensor], at: list[int]
) -> Tensor:
    """[K, P]: products of a[i] and b[i], flat, and parts [K, n] of `rest`, side by side.

    at: the places of the products among all parts, in their order; the rest fills the others.
    """
    products = [torch.bmm(*pair).flatten(1) for pair in zip(a, b, strict=True)]
    return torch.cat(_parts(products, rest, at), 1)


@joined.register_fake
def _(a: Sequence[Tensor], b: Sequence[Tensor], rest: Sequence[Tensor], at: list[int]) -> Tensor:
    width = sum(x.shape[1] * y.shape[2] for x, y in zip(a, b, strict=True))
    return a[0].new_empty(a[0].shape[0], width + sum(x.shape[1] for x in rest))


def _parts(products: Sequence[Any], rest: Sequence[Any], at: Sequence[int]) -> list[Any]:
    """Both in one row, the products where `at` says."""
    ours, others = iter(products), iter(rest)
    return [next(ours if i in at else others) for i in range(len(products) + len(rest))]


@final
class Products(CustomGraphPass):
    """Has a graph's products taken by `product` where that is the faster one."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if node.target is _BMM and _suits(*(each.meta["val"] for each in node.args)):
                node.target = torch.ops.gansweep.product.default
            elif node.target is _CAT and node.args[1:] == (1,):
                _join(graph, node)

    def uuid(self) -> Any:
        return get_hash_for_files((__file__,))


def _join(graph: fx.Graph, node: fx.Node) -> None:
    """Have the products among the parts of a `cat` written to their places, without a copy."""
    parts: Any = node.args[0]
    whole = node.meta["val"]
    if whole.dim() != 2 or whole.dtype is not torch.float32:
        return
    at = [i for i, part in enumerate(parts) if _is_product(part)]
    if not at:
        return
    a, b = zip(*(parts[i].args[0].args for i in at), strict=True)
    rest = [part for i, part in enumerate(parts) if i not in at]
    node.target, node.args = torch.ops.gansweep.joined.default, (list(a), list(b), rest, at)
    for view in (parts[i] for i in at):
        product = view.args[0]
        graph.erase_node(view)
        graph.erase_node(product)


def _is_product(part: fx.Node) -> bool:
    """Whether it is a product of each row, flat, that nothing else takes."""
    if part.target is not _RESHAPE or len(part.users) > 1:
        return False
    product: Any = part.args[0]
    if product.target is not torch.ops.gansweep.product.default or len(product.users) > 1:
        return False
    return bool(part.meta["val"].shape[0] == product.meta["val"].shape[0])


def _suits(a: Tensor, b: Tensor) -> bool:
    on_cpu = a.device.type == "cpu" and a.dtype is torch.float32
    # Inductor fuses a product with a vector into what comes before.
    return on_cpu and a.shape[1] > 1 and b.shape[2] > 1 and b[0].numel() <= LARGEST


@register_lowering(torch.ops.gansweep.product.default, type_promotion_kind=None)
def _lowered(a: Any, b: Any) -> Any:
    made = _made("product", [a, b], [], [0], [*a.get_size()[:2], b.get_size()[2]])
    return made or lowerings[_BMM](a, b)


@register_lowering(torch.ops.gansweep.joined.default, type_promotion_kind=None)
def _lowered_joined(a: list[Any], b: list[Any], rest: list[Any], at: list[int]) -> Any:
    pairs, count = list(zip(a, b, strict=True)), a[0].get_size()[0]
    sizes = [x.get_size()[1] * y.get_size()[2] for x, y in pairs]
    width = sum(sizes) + sum(x.get_size()[1] for x in rest)
    made = _made("joined", [x for pair in pairs for x in pair], rest, at, [count, width])
    if made:
        return made
    products = [lowerings[_BMM](*pair) for pair in pairs]
    flat = [lowerings[_VIEW](x, [count, n]) for x, n in zip(products, sizes, strict=True)]
    return lowerings[_CAT](_parts(flat, rest, at), 1)


def _made(name: str, pairs: list[Any], rest: list[Any], at: list[int], shape: list[Any]) -> Any:
    """Products of neighbours among `pairs` and the rest side by side, as a tensor of `shape`.

    None where matrices lie otherwise than the kernel takes them.
    """
    given: list[Any] = [ir.ExternKernel.realize_input(x) for x in pairs]
    given = [ir.ExternKernel.require_stride1(x) for x in given]
    if not all(map(_lies_dense, given)):
        return None
    given += [ir.ExternKernel.require_contiguous(ir.ExternKernel.realize_input(x)) for x in rest]
    like = given[0]
    layout = ir.FixedLayout(like.get_device(), like.get_dtype(), shape)
    made: Any = _Products(name, given, layout, num_threads=1)
    out = made.generate(at=at).output_node()
    V.graph.no_fuse_buffer_names.add(out.get_name())
    return out


def _lies_dense(matrices: Any) -> bool:
    """Whether each matrix of [K, M, N] lies by rows or by columns, none over another."""
    stride = matrices.get_stride()[1:]
    rows, columns = matrices.get_size()[1:]
    by_rows, by_columns = stride[1] == 1, stride[0] == 1
    return bool((by_rows and stride[0] >= columns) or (by_columns and stride[1] >= rows))


@final
class _Products(CppTemplate):
    """C++ of products side by side, for their shapes and strides alone."""

    def render(self, **kwargs: Any) -> str:
        kernel, out = kwargs["kernel"], kwargs.get("template_buffer_node") or self.output_node
        assert not kwargs.get("epilogue_nodes"), "nothing is fused with it"
        inputs = {f"x{i}": x for i, x in enumerate(self.input_nodes)}
        head = kernel.def_kernel(inputs=inputs, outputs={"c": out})  # names what is indexed below
        at, rest = kwargs["at"], self.input_nodes[2 * len(kwargs["at"]) :]
        pairs = zip(self.input_nodes[::2], self.input_nodes[1::2], strict=False)
        products = [_of_pair(kernel, *pair) for pair, _ in zip(pairs, at, strict=False)]
        parts = _parts(products, [_of_rest(kernel, x) for x in rest], at)
        ends = list(accumulate(size for _, size in parts))
        source: str = self._template_from_string(_SOURCE).render(
            template=self,
            head=head,
            count=self.layout.size[0],
            width=ends[-1],
            parts=[
                code.format(f"to + {end - size}")
                for (code, size), end in zip(parts, ends, strict=True)
            ],
        )
        return source


def _of_pair(kernel: Any, a: Any, b: Any) -> tuple[str, int]:
    """A call for the product of `a` and `b`, but for where it goes, and its numbers."""
    shape = [*a.get_size()[1:], b.get_size()[2]]
    apart = [max(x.get_stride()[1:]) for x in (a, b)]
    turned = [str(x.get_stride()[2] != 1).lower() for x in (a, b)]
    of = ", ".join(map(str, [*shape, *apart, *turned]))
    where = ", ".join(f"&{kernel.index(x, ['k', 0, 0])}" for x in (a, b))
    return f"gansweep::product<{of}>({where}, {{}});", shape[0] * shape[2]


def _of_rest(kernel: Any, x: Any) -> tuple[str, int]:
    """A copy of `x` [K, n], but for where to, and n."""
    size = x.get_size()[1]
    return f"std::copy_n(&{kernel.index(x, ['k', 0])}, {size}, {{}});", size


# `brgemm` is declared as in ATen/native/CPUBlas.h, which takes long to compile. To turn blocks of a
# size that is known, all in one function, takes half the time.
_SOURCE = r"""
{{template.header().getvalue()}}
#ifndef GANSWEEP_PRODUCT
#define GANSWEEP_PRODUCT
#include <algorithm>
#include <vector>
namespace at::native::cpublas {
void brgemm(
    int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add_C,
    const float* A, const float* B, float* C, bool is_vnni);
}
namespace gansweep {
inline float* room(size_t numbers) {
    static thread_local std::vector<float> kept;
    if (kept.size() < numbers) kept.resize(numbers);
    return kept.data();
}
template <int64_t M, int64_t N, int64_t apart>
__attribute__((flatten)) void turn(const float* from, float* to) {
    if constexpr (M % 16 == 0 && N % 16 == 0) {
        for (int64_t i = 0; i < M; i += 16)
            for (int64_t j = 0; j < N; j += 16)
                at::vec::transpose_mxn<float>(
                    from + i * apart + j, apart, to + j * M + i, M, 16, 16);
    } else {
        at::vec::transpose_mxn<float>(from, apart, to, M, M, N);
    }
}
template <int64_t M, int64_t L, int64_t N,
          int64_t apart_a, int64_t apart_b, bool turn_a, bool turn_b>
inline void product(const float* a, const float* b, float* c) {
    float* turned = turn_a || turn_b ? room(M * L + L * N) : nullptr;
    if constexpr (turn_a) turn<L, M, apart_a>(a, turned);
    if constexpr (turn_b) turn<N, L, apart_b>(b, turned + M * L);
    at::native::cpublas::brgemm(
        M, N, L, turn_a ? L : apart_a, turn_b ? N : apart_b, N, false,
        turn_a ? turned : a, turn_b ? turned + M * L : b, c, false);
}
}
#endif
extern "C"
{{head}}
{
    for (int64_t k = 0; k < {{count}}; ++k) {
        float* to = c + k * {{width}};
{%- for part in parts %}
        {{part}}
{%- endfor %}
    }
}
"""
