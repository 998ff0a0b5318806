"""Figure `floor`: the least time that a g_step can take, from counted operations and bytes.

Counted in `run_trial` itself, as the difference between trainings of two budgets: floating-point
operations (torch's FlopCounterMode: matrix products and convolutions, forward and backward), the
bytes that every eager operator reads and writes, and the number of operators. Measured on this
machine, one thread: a large matrix product, a large copy, and the smallest operator. Each count
over its rate is a floor of its own; eager code cannot be below the largest of them, and compiled
or packed code can be below the last two, since it merges operators. Small matrix products run far
below the rate of a large one: those of a step, each alone and in the caches, at its own shape, are
the floor that no arrangement of the rest can lower.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from benchmarks import stacked, workloads
from benchmarks.measure import Case
from benchmarks.plan import Plan
from benchmarks.programs import cores
from gansweep.engines import Choice
from gansweep.tracking.memory import MemoryTracker
from gansweep.trial import run_trial

WORKLOADS: dict[str, workloads.Tree] = {
    "WGAN, MLP of width 64, 8x8": workloads.wgan(64),
    "WGAN, MLP of width 128, 8x8": workloads.wgan(128),
    "WGAN, MLP of width 256, 8x8": workloads.wgan(256),
    "DCGAN of width 32, 28x28": workloads.dcgan(32),
}


MANY_FLOP = 10**8
"""Of a call that takes so long that its best time shows at once."""


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


@final
class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts matrix products and convolutions by operator, arguments' shapes and strides."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket in flop_registry:
            form = tuple(_Like(a) if isinstance(a, Tensor) else _hashable(a) for a in args)
            self.calls[func, form, tuple(sorted((kwargs or {}).items()))] += 1
        return func(*args, **(kwargs or {}))


@final
class _Like:
    """A tensor's shape and strides, of which another one is made."""

    def __init__(self, tensor: Tensor) -> None:
        self._form = (tuple(tensor.shape), tensor.stride(), tensor.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Like) and self._form == other._form

    def __hash__(self) -> int:
        return hash(self._form)

    def make(self) -> Tensor:
        shape, stride, dtype = self._form
        return torch.empty_strided(shape, stride, dtype=dtype).normal_()


def _hashable(argument: Any) -> Any:
    return tuple(argument) if isinstance(argument, list) else argument


def products(tree: workloads.Tree, *, together: int) -> list[tuple[Callable[[], object], int]]:
    """Each product of a g_step of `together` replicas in a stack (in turns where that is 1).

    By itself, on numbers of the same layout, and how often it occurs.
    """
    pack = stacked.Timed(tree, Choice(together > 1, False, ""), replicas=together, device="cpu")
    pack.steps(1)
    with _Products() as found:
        pack.steps(1)
    calls: list[tuple[Callable[[], object], int]] = []
    for (func, form, options), count in found.calls.items():
        arguments = [each.make() if isinstance(each, _Like) else each for each in form]
        arguments = [list(each) if isinstance(each, tuple) else each for each in arguments]
        calls.append((partial(func, *arguments, **dict(options)), count))
    return calls


def products_ms(tree: workloads.Tree, *, together: int) -> float:
    """Of one replica's g_step: the sum over its products of the best time of each alone."""
    seconds = 0.0
    for call, count in products(tree, together=together):
        tries = 200 if counted(call).flops < MANY_FLOP else 10
        seconds += count * _best(call, tries)
    return seconds / together * 1e3


def sweep_ms(tree: workloads.Tree, *, together: int) -> float:
    """`products_ms` while all other cores do the same: they may share a core's parts, or a cache.

    What a sweep can have of each core, where a core alone is faster.
    """
    with _others_busy(tree, together):
        return products_ms(tree, together=together)


@contextmanager
def _others_busy(tree: workloads.Tree, together: int) -> Iterator[None]:
    """A process for each other core, which multiplies the same until the block ends."""
    context = multiprocessing.get_context("spawn")
    begun = context.Semaphore(0)
    others = [
        context.Process(target=_multiply, args=(tree, together, begun), daemon=True)
        for _ in range(cores() - 1)
    ]
    for each in others:
        each.start()
    try:
        for _ in others:
            begun.acquire()
        yield
        if not all(each.is_alive() for each in others):
            raise RuntimeError("a process that was to keep a core busy has ended")
    finally:
        for each in others:
            each.kill()
            each.join()


def _multiply(tree: workloads.Tree, together: int, begun: Any) -> None:
    torch.set_num_threads(1)
    calls = products(tree, together=together)
    begun.release()
    while True:
        for call, _ in calls:
            call()


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
                "its products alone": f"{products_ms(tree, together=1):.3f} ms/g_step",
                f"its products alone, stack of {stacked.REPLICAS}": (
                    f"{products_ms(tree, together=stacked.REPLICAS):.3f} ms/g_step and replica"
                ),
                "the same with all cores busy": (
                    f"{sweep_ms(tree, together=stacked.REPLICAS):.3f} ms/g_step and replica"
                ),
            },
        )


def _floor(count: str, milliseconds: float) -> str:
    return f"{count} = {milliseconds:.3f} ms/g_step"
