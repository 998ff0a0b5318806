"""Which engine trains a pack: as set, or by what a step of its first trial is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gansweep.data.batch import Batch
from gansweep.excerpt import beginning
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.engine import CompiledInTurns, Engine, InTurns, Stacked
from gansweep.modules.stack import Stack
from gansweep.modules.stacked_step import StackedStep, obstacle

EngineName = Literal["auto", "interleaved", "stacked"]
Compile = Literal["auto", "true", "false"]

LEAST_STACK = 2
"""Slots of the smallest stack: vmap over one row rounds otherwise than over several."""


@final
@dataclass(frozen=True)
class Choice:
    """How a pack trains, and why. A trial goes on as it began, to the last bit."""

    stacked: bool
    compiled: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        how = "stacked" if self.stacked else "in turns"
        return f"{how}, {'compiled' if self.compiled else 'eager'}: {self.why}"


@final
@dataclass(frozen=True)
class Work:
    """What one generator step of one trial is made of, with its discriminator steps.

    stacked_operations: of the step of a stack, however many trials it holds.
    """

    operations: int
    stacked_operations: int
    flop: int


@final
@dataclass(frozen=True)
class Pace:
    """How fast a kind of device works, about. The figures decide between engines, nothing else.

    operation_s: overhead of an operation when run eagerly; under vmap and compiled it is that
    times a factor. flop_per_s: by engine. convolutions_alone: whether convolutions do best each by
    itself, in the layout that its library likes.
    """

    operation_s: float
    stacked_overhead: float
    compiled_overhead: float
    flop_per_s: Mapping[str, float]
    compile_s: float
    convolutions_alone: bool

    def seconds(self, work: Work, *, stacked: bool, compiled: bool, replicas: int) -> float:
        """Time of one generator step of one of `replicas` trials."""
        overhead = work.operations * self.operation_s
        if compiled or stacked:
            overhead = work.stacked_operations * self.operation_s
            overhead *= self.compiled_overhead if compiled else self.stacked_overhead
        kind = "stacked" if stacked else "in turns"
        kind += ", compiled" if compiled else ""
        return overhead / (replicas if stacked else 1) + work.flop / self.flop_per_s[kind]


PACES = {
    # Fitted to `python -m benchmarks --only engines` on one core of an AMD EPYC with AVX-512.
    "cpu": Pace(
        operation_s=13e-6,
        stacked_overhead=2.4,
        compiled_overhead=0.1,
        flop_per_s={
            "in turns": 61e9,
            "stacked": 41e9,
            "in turns, compiled": 95e9,
            "stacked, compiled": 80e9,
        },
        compile_s=15.0,
        convolutions_alone=True,
    ),
    # A guess, measured nowhere yet.
    "cuda": Pace(
        operation_s=8e-6,
        stacked_overhead=1.5,
        compiled_overhead=0.25,
        flop_per_s={
            "in turns": 15e12,
            "stacked": 15e12,
            "in turns, compiled": 20e12,
            "stacked, compiled": 20e12,
        },
        compile_s=40.0,
        convolutions_alone=False,
    ),
}


def choose(
    module: AlternatingModule,
    batch: Batch,
    *,
    replicas: int,
    g_steps: int,
    engine: EngineName,
    compile: Compile,
    compiled: bool = False,
) -> Choice:
    """The engine for `replicas` trials like `module` with `g_steps` to go, each.

    A probe counts the operations of a step on a copy of `module`, which is left as it is; no clock
    takes part. `batch` is data of one generator step. compiled: whether steps in turns have been
    compiled by another pack of this shape: they are the same for any number of trials. Raises
    ValueError where what is asked for is impossible.
    """
    reason = obstacle(module)
    if reason and (engine == "stacked" or compile == "true"):
        asked = "resources.engine: stacked" if engine == "stacked" else "trial.compile: true"
        raise ValueError(f"{asked} is impossible here: {reason}")
    if reason:
        return Choice(False, False, reason)
    if engine != "auto" and compile != "auto":
        return Choice(engine == "stacked", compile == "true", "as set")
    pace = PACES.get(module.device.type, PACES["cpu"])
    alone = pace.convolutions_alone and any(
        isinstance(part, torch.nn.modules.conv._ConvNd) for part in module.modules()
    )
    if alone and engine != "stacked":
        return Choice(False, compile == "true", "convolutions do best one by one")
    try:
        work = count(module, batch)
    except Exception as error:  # it raises in training too, and ends its trial there
        words = f"a probe failed: {type(error).__name__}: {error}".splitlines()[0]
        return Choice(engine == "stacked", compile == "true", beginning(words, 300))
    stacking = {"stacked": [True], "interleaved": [False]}.get(engine, [False, replicas > 1])
    compiling = {"true": [True], "false": [False]}.get(compile, [False, not alone])

    def seconds(how: tuple[bool, bool]) -> float:
        stacked, compiles = how
        step = pace.seconds(work, stacked=stacked, compiled=compiles, replicas=replicas)
        once = pace.compile_s if compiles and (stacked or not compiled) else 0.0
        return step * g_steps * replicas + once

    stacked, compiles = min(((s, c) for s in stacking for c in compiling), key=seconds)
    why = f"{work.operations} operations and {_rounded(work.flop)} FLOP a step"
    return Choice(stacked, compiles, why)


def _rounded(flop: int) -> str:
    return f"{flop / 1e6:.3g} M" if flop < 1e9 else f"{flop / 1e9:.3g} G"


_steps: dict[tuple[str, bool], StackedStep] = {}

MOST_STEPS = 16
"""Steps that are kept for packs to come, since a worker of a large sweep may meet any number."""


def build(choice: Choice, example: AlternatingModule, *, slots: int, shape: str) -> Engine:
    """The engine of `choice` with `slots`. Trials of one `shape` share what is compiled."""
    if not choice.stacked and not choice.compiled:
        return InTurns()
    slots = max(LEAST_STACK, slots)
    key = (f"{shape} {slots if choice.stacked else 1} {example.device}", choice.compiled)
    if key not in _steps:
        while len(_steps) >= MOST_STEPS:
            del _steps[next(iter(_steps))]
        _steps[key] = StackedStep(example, compile=choice.compiled)
    if choice.stacked:
        return Stacked(Stack(_steps[key], example, slots=slots))
    return CompiledInTurns(_steps[key])


def count(module: AlternatingModule, batch: Batch) -> Work:
    """What a generator step on `batch` is made of, from steps of copies of `module`.

    `module` can be stacked.
    """

    def fresh() -> AlternatingModule:
        copy = deepcopy(module)
        copy.setup("fit")
        copy.configure_optimizers()
        return copy

    alone, member = fresh(), fresh()
    stack = Stack(StackedStep(member), member, slots=LEAST_STACK)
    stack.put(0, member)
    with _Counter() as in_turns:
        alone.training_step(batch, 0)
    with _Counter() as stacked:
        stack.step({0: batch})
    return Work(
        operations=in_turns.operations,
        stacked_operations=stacked.operations,
        flop=math.ceil(in_turns.flop),
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, views left out, and floating-point operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self.flop = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operations += 1
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=out)
        return out
