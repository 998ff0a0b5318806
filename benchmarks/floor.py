"""Figure `floor`: the least time that a g_step can take, from counted operations and bytes.

Counted in `run_trial` itself, as the difference between trainings of two budgets: floating-point
operations (torch's FlopCounterMode: matrix products and convolutions, forward and backward), the
bytes that every eager operator reads and writes, and the number of operators. Measured on this
machine, one thread: a large matrix product, a large copy, and the smallest operator. Each count
over its rate is a floor of its own; eager code cannot be below the largest of them, and compiled
or packed code can be below the last two, since it merges operators.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import workloads
from benchmarks.measure import Case
from benchmarks.plan import Plan
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

WORKLOADS: dict[str, workloads.Tree] = {
    "WGAN, MLP of width 64, 8x8": workloads.wgan(64),
    "WGAN, MLP of width 128, 8x8": workloads.wgan(128),
    "WGAN, MLP of width 256, 8x8": workloads.wgan(256),
    "DCGAN of width 32, 28x28": workloads.dcgan(32),
}


@final
@dataclass(frozen=True)
class Count:
    """What training does, counted."""

    flops: int
    bytes: int
    operators: int

    def __sub__(self, other: Count) -> Count:
        return Count(
            self.flops - other.flops, self.bytes - other.bytes, self.operators - other.operators
        )


@final
@dataclass(frozen=True)
class Rates:
    """What this machine does at best, with the threads that torch has."""

    gflop_per_s: float
    gbyte_per_s: float
    microseconds_per_operator: float


@final
class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of tensors in and out of every operator that is not a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operators += 1
            for leaf in tree_leaves((args, kwargs, out)):
                if isinstance(leaf, Tensor):
                    self.bytes += leaf.nbytes
        return out


def counted(work: Callable[[], object]) -> Count:
    """What `work` does in eager mode, in this thread."""
    with _Traffic() as traffic, FlopCounterMode(display=False) as flops:
        work()
    return Count(flops.get_total_flops(), traffic.bytes, traffic.operators)


def g_step(tree: workloads.Tree) -> Count:
    """Of one generator step with its discriminator steps."""
    if workloads.accepted({**tree, "compile": False}, "compile"):
        tree = {**tree, "compile": False}

    def train(g_steps: int) -> None:
        config = workloads.unrecorded(tree, g_steps=g_steps, log_every=workloads.BEYOND)
        result = run_trial(config, MemoryTracker())
        assert result.state == "completed", result

    train(1)  # what is computed of the real samples once is kept from now on
    return counted(lambda: train(3)) - counted(lambda: train(2))


def rates() -> Rates:
    """The best of several tries."""
    side = 1024
    a, b, c = (torch.randn(side, side) for _ in range(3))
    matmul = _best(lambda: torch.mm(a, b, out=c), 10)
    large = torch.zeros(2**26)  # 256 MiB: beyond the caches
    target = torch.empty_like(large)
    copy = _best(lambda: target.copy_(large), 5)
    one = torch.zeros(1)

    def thousand() -> None:
        for _ in range(1000):
            one.add_(1.0)

    return Rates(
        gflop_per_s=2 * side**3 / matmul / 1e9,
        gbyte_per_s=2 * large.nbytes / copy / 1e9,
        microseconds_per_operator=_best(thousand, 20) * 1e3,
    )


def _best(work: Callable[[], object], tries: int) -> float:
    work()
    spent = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def run(plan: Plan) -> Iterator[Case]:
    torch.set_num_threads(1)
    rate = rates()
    yield Case(
        "floor",
        "this machine, one thread",
        facts={
            "matrix product": f"{rate.gflop_per_s:.1f} GFLOP/s",
            "copy": f"{rate.gbyte_per_s:.1f} GB/s",
            "smallest operator": f"{rate.microseconds_per_operator:.2f} us",
        },
    )
    for name, tree in WORKLOADS.items():
        count = g_step(tree)
        plan.say(f"{name}: {count}")
        yield Case(
            "floor",
            name,
            facts={
                "operations": _floor(
                    f"{count.flops / 1e6:.1f} MFLOP", count.flops / rate.gflop_per_s / 1e6
                ),
                "bytes, eager": _floor(
                    f"{count.bytes / 1e6:.1f} MB", count.bytes / rate.gbyte_per_s / 1e6
                ),
                "operators, eager": _floor(
                    f"{count.operators}",
                    count.operators * rate.microseconds_per_operator / 1e3,
                ),
            },
        )


def _floor(count: str, milliseconds: float) -> str:
    return f"{count} = {milliseconds:.3f} ms/g_step"
