"""Data parallelism: each rank trains a copy of a module on its part of every batch."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, final

import torch

from gansweep.data.batch import Batch
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.engine import Engine, Failures
from gansweep.modules.ranks import Ranks

Briefing = Callable[[AlternatingModule], Mapping[str, Any]]
"""What other ranks must know of a trial besides its training state: tensors and plain values."""


@final
class Member:
    """A rank's copy of a module: all copies have the same weights, to the bit, at every step.

    Randomness is drawn for the whole batch, of which each rank takes its part; before each step of
    an optimizer the gradients are averaged. So the descent is that of one process with the whole
    batch, as far as the loss is a mean over samples: the statistics of BatchNorm, and a penalty's
    own of a batch, are those of a part.
    """

    def __init__(self, module: AlternatingModule, ranks: Ranks) -> None:
        self.module = module
        self._ranks = ranks
        for optimizer in (module.d_optimizer, module.g_optimizer):
            optimizer.register_step_pre_hook(self._average)

    def step(self, batch: Batch) -> None:
        """One generator step; `batch` is the whole one, for which `Ranks.part` gives a part."""
        module, ranks = self.module, self._ranks
        if ranks.rank:  # the leader's is the trial's own, which its checkpoints hold
            module.draw_dropout_from(ranks.rank, module.g_step)
        z, noise = module.draw(batch)
        mine = ranks.part(batch.size)
        if noise is not None:
            noise = noise[:, ranks.part(noise.shape[1])]
        known = {name: len(values) for name, values in module.meters.items()}
        module.update(Batch(batch.samples, batch.indices[:, mine], batch.device), z[:, mine], noise)
        self._average_meters(known)
        module.advance(batch)

    def _average(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        torch._foreach_copy_(gradients, self._ranks.means(gradients))

    def _average_meters(self, known: Mapping[str, int]) -> None:
        """What this step has metered, beyond the `known` values, as of the whole batch."""
        places = [
            (values, place)
            for name, values in self.module.meters.items()
            for place in range(known.get(name, 0), len(values))
        ]
        means = self._ranks.means([values[place] for values, place in places])
        for (values, place), mean in zip(places, means, strict=True):
            values[place] = mean


@final
class DataParallel(Engine):
    """The leader's engine, with a single slot. What is raised in a step leaves no rank usable."""

    def __init__(self, ranks: Ranks, briefing: Briefing) -> None:
        self._ranks = ranks
        self._briefing = briefing
        self._member: Member | None = None

    def put(self, slot: int, module: AlternatingModule) -> None:
        if self._member is None or self._member.module is not module:
            self._member = Member(module, self._ranks)
        state = io.BytesIO()
        torch.save({**self._briefing(module), "module": module.training_state()}, state)
        self._ranks.tell("begin", state.getvalue())

    def drop(self, slot: int) -> None:
        self._member = None  # the others wait for the next order

    def step(self, batches: Mapping[int, Batch]) -> Failures:
        assert self._member is not None
        for batch in batches.values():
            self._ranks.tell("step")
            self._member.step(batch)
        return {}
