"""The matrix products of a compiled step, by oneDNN's micro-kernel in the place of a BLAS.

A stack's products are many, and small. A BLAS packs both matrices anew for each; the micro-kernel,
`brgemm`, multiplies matrices that lie by rows as they lie, in code that it makes for their shape.
One that lies by columns is turned before. `python -m benchmarks.inside` tells what products take.
"""

from __future__ import annotations

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


@final
class Products(CustomGraphPass):
    """Has a graph's products taken by `product` where that is the faster one."""

    def __call__(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if node.target is _BMM and _suits(*(each.meta["val"] for each in node.args)):
                node.target = torch.ops.gansweep.product.default

    def uuid(self) -> Any:
        return get_hash_for_files((__file__,))


def _suits(a: Tensor, b: Tensor) -> bool:
    on_cpu = a.device.type == "cpu" and a.dtype is torch.float32
    # Inductor fuses a product with a vector into what comes before.
    return on_cpu and a.shape[1] > 1 and b.shape[2] > 1 and b[0].numel() <= LARGEST


@register_lowering(torch.ops.gansweep.product.default, type_promotion_kind=None)
def _lowered(a: Any, b: Any) -> Any:
    given = [ir.ExternKernel.require_stride1(ir.ExternKernel.realize_input(x)) for x in (a, b)]
    if not all(map(_lies_dense, given)) or given[0].get_name() == given[1].get_name():
        return lowerings[_BMM](a, b)
    layout = ir.FixedLayout(a.get_device(), a.get_dtype(), [*a.get_size()[:2], b.get_size()[2]])
    made: Any = _Product("product", given, layout, num_threads=1)
    out = made.generate().output_node()
    V.graph.no_fuse_buffer_names.add(out.get_name())
    return out


def _lies_dense(matrices: Any) -> bool:
    """Whether each matrix of [K, M, N] lies by rows or by columns, none over another."""
    stride = matrices.get_stride()[1:]
    rows, columns = matrices.get_size()[1:]
    by_rows, by_columns = stride[1] == 1, stride[0] == 1
    return bool((by_rows and stride[0] >= columns) or (by_columns and stride[1] >= rows))


@final
class _Product(CppTemplate):
    """C++ of one product, for its shapes and strides alone."""

    def render(self, **kwargs: Any) -> str:
        kernel, out = kwargs["kernel"], kwargs.get("template_buffer_node") or self.output_node
        assert not kwargs.get("epilogue_nodes"), "nothing is fused with it"
        a, b = self.input_nodes
        source: str = self._template_from_string(_SOURCE).render(
            template=self,
            kernel=kernel,
            a=a,
            b=b,
            c=out,
            shape=", ".join(map(str, [*a.get_size()[1:], b.get_size()[2]])),
            apart=", ".join(str(max(x.get_stride()[1:])) for x in (a, b)),
            turned=", ".join(str(x.get_stride()[2] != 1).lower() for x in (a, b)),
        )
        return source


# `brgemm` is declared as in ATen/native/CPUBlas.h, which takes long to compile.
_SOURCE = r"""
{{template.header().getvalue()}}
#ifndef GANSWEEP_PRODUCT
#define GANSWEEP_PRODUCT
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
template <int64_t M, int64_t L, int64_t N,
          int64_t apart_a, int64_t apart_b, bool turn_a, bool turn_b>
inline void product(const float* a, const float* b, float* c) {
    float* turned = turn_a || turn_b ? room(M * L + L * N) : nullptr;
    if constexpr (turn_a) at::vec::transpose_mxn<float>(a, apart_a, turned, L, L, M);
    if constexpr (turn_b) at::vec::transpose_mxn<float>(b, apart_b, turned + M * L, N, N, L);
    at::native::cpublas::brgemm(
        M, N, L, turn_a ? L : apart_a, turn_b ? N : apart_b, N, false,
        turn_a ? turned : a, turn_b ? turned + M * L : b, c, false);
}
}
#endif
extern "C"
{{kernel.def_kernel(inputs={"a": a, "b": b}, outputs={"c": c})}}
{
    for (int64_t k = 0; k < {{kernel.size(c, 0)}}; ++k) {
        gansweep::product<{{shape}}, {{apart}}, {{turned}}>(
            &{{kernel.index(a, ["k", 0, 0])}},
            &{{kernel.index(b, ["k", 0, 0])}},
            &{{kernel.index(c, ["k", 0, 0])}});
    }
}
"""
