"""Engines: how the modules of a pack take their generator steps, in turns or as one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import final

from gansweep.data.batch import Batch
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.stack import Stack
from gansweep.modules.stacked_step import StackedStep

Failures = dict[int, Exception]
"""What was raised in the step of one slot, which leaves the others unharmed."""


class Engine(ABC):
    """Trains the modules in its slots. No result depends on who is in the other slots."""

    @abstractmethod
    def put(self, slot: int, module: AlternatingModule) -> None:
        """Train `module`, on its device, with its optimizers, in `slot`; it stays usable there."""

    @abstractmethod
    def drop(self, slot: int) -> None:
        """Train the module in `slot` no more; it is not usable any more."""

    @abstractmethod
    def step(self, batches: Mapping[int, Batch]) -> Failures:
        """One generator step of each module that has a batch, by slot; the others rest."""


def _in_turns(batches: Mapping[int, Batch], step: Callable[[int, Batch], object]) -> Failures:
    failures: Failures = {}
    for slot, batch in batches.items():
        try:
            step(slot, batch)
        except Exception as error:
            failures[slot] = error
    return failures


@final
class InTurns(Engine):
    """One module after the other, each by its own `training_step`: as if it trained alone."""

    def __init__(self) -> None:
        self._modules: dict[int, AlternatingModule] = {}

    def put(self, slot: int, module: AlternatingModule) -> None:
        self._modules[slot] = module

    def drop(self, slot: int) -> None:
        del self._modules[slot]

    def step(self, batches: Mapping[int, Batch]) -> Failures:
        return _in_turns(batches, lambda slot, batch: self._modules[slot].training_step(batch, 0))


@final
class CompiledInTurns(Engine):
    """One module after the other, each as a stack of one, all by the same compiled step."""

    def __init__(self, step: StackedStep) -> None:
        self._step = step
        self._stacks: dict[int, Stack] = {}

    def put(self, slot: int, module: AlternatingModule) -> None:
        if slot not in self._stacks:
            self._stacks[slot] = Stack(self._step, module, slots=1)
        self._stacks[slot].put(0, module)

    def drop(self, slot: int) -> None:
        self._stacks[slot].drop(0)

    def step(self, batches: Mapping[int, Batch]) -> Failures:
        return _in_turns(batches, lambda slot, batch: self._stacks[slot].step({0: batch}))


@final
class Stacked(Engine):
    """All modules as one. What is raised in the step concerns them all, and is raised."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def put(self, slot: int, module: AlternatingModule) -> None:
        self._stack.put(slot, module)

    def drop(self, slot: int) -> None:
        self._stack.drop(slot)

    def step(self, batches: Mapping[int, Batch]) -> Failures:
        self._stack.step(batches)
        return {}
