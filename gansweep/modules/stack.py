"""A stack: replicas of equal shape trained as one, each a row of shared tensors.

`torch.func.vmap` gives each row the meaning of a single trial, over the same networks and the same
formulations; one tensor [K, P] per network keeps the launches of K replicas at about those of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from gansweep.data.base import to_float
from gansweep.data.batch import Batch
from gansweep.modules.alternating import MOST_VALUES, AlternatingModule
from gansweep.modules.stacked_step import (
    Layout,
    NetworkPlan,
    NetworkRows,
    StackedStep,
    Tensors,
    buffers_of,
    scalars,
)
from gansweep.optimizers import OptimizerSpec


@final
class Stack:
    """K replicas of equal shape in one set of tensors; `put` moves a module into a slot.

    A module in a slot stays usable: its weights, buffers, average and optimizer state are views of
    its row, so that samples, checkpoints and scores see it as a trial of its own. A slot that no
    module is in takes part in the arithmetic, unseen.
    """

    def __init__(self, step: StackedStep, example: AlternatingModule, *, slots: int) -> None:
        """`example` is on its device, in its precision; all others have its shape."""
        self.modules: list[AlternatingModule | None] = [None] * slots
        self._step = step
        like = next(example.discriminator.parameters())
        self._d = _rows(step.discriminator, example.specs[0], slots, like)
        self._g = _rows(step.generator, example.specs[1], slots, like)
        self._settings = {
            name: torch.zeros(slots, dtype=like.dtype, device=like.device)
            for name in scalars(example.settings)
        }
        self._averages: list[Tensor] = []
        if example.average is not None:
            self._averages = [torch.zeros_like(self._g.theta), torch.zeros_like(self._g.buffers)]
        self._metrics: dict[str, list[Tensor]] = {}  # since the last settling, [K] each

    def put(self, slot: int, module: AlternatingModule) -> None:
        """Let `module` live in `slot` from now on, as it stands; its optimizers must exist."""
        self.settle()
        step = self._step
        for plan, rows, network, optimizer, spec in (
            (
                step.discriminator,
                self._d,
                module.discriminator,
                module.d_optimizer,
                module.specs[0],
            ),
            (step.generator, self._g, module.generator, module.g_optimizer, module.specs[1]),
        ):
            parameters = dict(network.named_parameters())
            _bind_optimizer(plan, rows, slot, parameters, optimizer)
            _bind(plan.parameters, rows.theta[slot], parameters)
            _bind(plan.buffers, rows.buffers[slot], buffers_of(network))
            for name, value in scalars(spec.settings).items():
                rows.columns[name][slot] = value
        for name, value in scalars(module.settings).items():
            self._settings[name][slot] = value
        if module.average is not None:
            theta, buffers = self._averages
            parameters = dict(module.average.named_parameters())
            _bind(step.generator.parameters, theta[slot], parameters)
            _bind(step.generator.buffers, buffers[slot], buffers_of(module.average))
        module.gather_meters = self.settle
        self.modules[slot] = module

    def drop(self, slot: int) -> None:
        """Take the module out of `slot`, whose row goes on changing: it is not usable any more."""
        self.settle()
        self.modules[slot] = None

    def step(self, batches: Mapping[int, Batch]) -> None:
        """One generator step of each module that has a batch, by slot; the others rest.

        Where one has fewer discriminator steps than another it joins in for the last ones.
        """
        steps = max(batch.steps for batch in batches.values())
        resting = [s for s, module in enumerate(self.modules) if module and s not in batches]
        late = {slot: steps - batch.steps for slot, batch in batches.items()}
        draws = {slot: self._module(slot).draw(batch) for slot, batch in batches.items()}
        z = self._gathered({slot: draw[0] for slot, draw in draws.items()}, steps + 1)
        noises = {slot: draw[1] for slot, draw in draws.items() if draw[1] is not None}
        noise = self._gathered(noises, steps) if noises else None
        indices = self._gathered({slot: batch.indices for slot, batch in batches.items()}, steps)
        rows = (indices.shape[1], indices.shape[2])
        chosen = indices.flatten(1).unbind()
        batch = next(iter(batches.values()))
        example = self._module(next(iter(batches)))
        conditional = example.settings.conditional
        real, labels = None, None
        at_once = self._step.at_once
        needs_real = example.formulation.objective.needs_real
        weight = self._weights() if self._averages else None

        def of_generator() -> tuple[Any, ...]:
            last = real if needs_real else None
            return (
                self._d, self._g, self._settings, last, labels, z[steps], self._averages, weight
            )  # fmt: skip

        def of_labels(chosen: Tensor, rows: tuple[int, int]) -> Tensor | None:
            given = batch.samples.labels if conditional else None
            return None if given is None else _taken(given, chosen, rows, z)

        def generated(start: int) -> tuple[Any, ...]:
            ahead = _padded(indices, start, at_once).transpose(0, 1).flatten(1)
            y = of_labels(ahead.flatten(), (ahead.shape[0], ahead.shape[1]))
            return self._g, y, _padded(z, start, at_once)

        def of_discriminator(step: int, fake: Tensor | None) -> tuple[Any, ...]:
            drawn = None if noise is None else noise[step]
            g, of_g = (self._g, z[step]) if fake is None else (None, None)
            return self._d, g, self._settings, real, labels, of_g, drawn, fake

        fakes: Sequence[Tensor | None] = (None,)
        for step in range(steps):
            real = to_float(_taken(batch.samples.x, chosen[step], rows, z))
            labels = of_labels(chosen[step], rows)
            if not self._step.is_prepared:
                blank = real.new_zeros(rows[0], at_once * rows[1], *real.shape[2:])
                of_d = of_discriminator(0, None if at_once == 1 else blank[:, : rows[1]])
                self._step.prepare(of_d, of_generator(), None if at_once == 1 else generated(0))
            if at_once > 1 and step % at_once == 0:
                fakes = torch.split(self._step.generate(*generated(step))["fake"], rows[1], 1)
            of_d = of_discriminator(step, fakes[step % at_once])
            idle = [*resting, *(slot for slot, by in late.items() if step < by)]
            with _unchanged(idle, [*self._d.changing, self._g.buffers]):
                metrics = self._step.train_discriminator(*of_d)
            self._note(metrics, idle)
        with _unchanged(resting, [*self._g.changing, self._d.buffers, *self._averages]):
            metrics = self._step.train_generator(*of_generator())
        self._note(metrics, resting)
        if any(len(values) >= MOST_VALUES for values in self._metrics.values()):
            self.settle()
        for slot, batch in batches.items():
            self._module(slot).advance(batch)

    def settle(self) -> None:
        """Give each module its meters of the steps so far."""
        for name, values in self._metrics.items():
            columns = torch.stack(values, 1)
            for slot, module in enumerate(self.modules):
                if module is not None:
                    module.meters.setdefault(name, []).append(columns[slot])
        self._metrics.clear()

    def _module(self, slot: int) -> AlternatingModule:
        module = self.modules[slot]
        assert module is not None
        return module

    def _gathered(self, tensors: Mapping[int, Tensor], steps: int) -> Tensor:
        """[steps, K, ...] of [k, ...] by slot, the last ones of each, with zeros before them.

        A step's part lies in memory alike however many steps there are: what is compiled relies on
        that, and WGAN's critic has 100 steps at first and 5 later.
        """
        one = next(iter(tensors.values()))
        if len(tensors) == len(self.modules) and all(len(t) == steps for t in tensors.values()):
            return torch.stack([tensors[slot] for slot in range(len(self.modules))], 1)
        whole = one.new_zeros(steps, len(self.modules), *one.shape[1:])
        for slot, tensor in tensors.items():
            whole[steps - len(tensor) :, slot] = tensor
        return whole

    def _weights(self) -> Tensor:
        """What the new weights count in each average, [K, 1]."""
        weights = [0.0 if module is None else module.ema_weight for module in self.modules]
        like = self._g.theta
        return torch.tensor(weights, dtype=torch.float64).unsqueeze(1).to(like.device)

    def _note(self, metrics: Tensors, idle: Sequence[int]) -> None:
        if not idle:
            for name, values in metrics.items():
                self._metrics.setdefault(name, []).append(values)
            return
        self.settle()
        for slot, module in enumerate(self.modules):
            if module is not None and slot not in idle:
                for name, values in metrics.items():
                    module.meters.setdefault(name, []).append(values[slot].clone())


def _rows(plan: NetworkPlan, spec: OptimizerSpec, slots: int, like: Tensor) -> NetworkRows:
    def zeros(width: int, dtype: torch.dtype = like.dtype) -> Tensor:
        return torch.zeros(slots, width, dtype=dtype, device=like.device)

    return NetworkRows(
        theta=zeros(plan.parameters.width),
        buffers=zeros(plan.buffers.width),
        state={name: zeros(plan.parameters.width) for name in plan.rule.state},
        steps=zeros(len(plan.parameters.names), torch.float32),
        columns={name: zeros(1, torch.float64) for name in scalars(spec.settings)},
    )


@torch.no_grad()
def _bind(layout: Layout, row: Tensor, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors into `row` [width] and let them live there from now on."""
    for name, view in layout.of(row).items():
        view.copy_(tensors[name])
        tensors[name].data = view


def _bind_optimizer(
    plan: NetworkPlan,
    rows: NetworkRows,
    slot: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """The optimizer's state into the row; torch.optim's own state is then views of it."""
    kept = {name: optimizer.state.get(p, {}) for name, p in parameters.items()}
    rows.steps[slot] = float(next(iter(kept.values())).get("step", 0.0))
    fresh: dict[str, dict[str, Any]] = {name: {} for name in kept}
    for key, tensor in rows.state.items():
        for name, view in plan.parameters.of(tensor[slot]).items():
            before = kept[name].get(key)
            view.zero_() if before is None else view.copy_(before)
            fresh[name][key] = view
    for i, (name, parameter) in enumerate(parameters.items()):
        if plan.rule.counts:
            fresh[name]["step"] = rows.steps[slot, i]
        optimizer.state[parameter] = fresh[name]


def _padded(rows: Tensor, start: int, count: int) -> Tensor:
    """`count` rows from `start` on, zeros where there are no more."""
    there = rows[start : start + count]
    if len(there) == count:
        return there
    return torch.cat([there, there.new_zeros(count - len(there), *there.shape[1:])])


def _taken(data: Tensor, chosen: Tensor, rows: tuple[int, int], like: Tensor) -> Tensor:
    """[K, B, ...] of data [N, ...], where `rows` are K and B, on the device of `like`."""
    taken = data.index_select(0, chosen).to(like.device, non_blocking=True)
    return taken.view(*rows, *data.shape[1:])


@contextmanager
def _unchanged(slots: Sequence[int], tensors: Sequence[Tensor]) -> Iterator[None]:
    """The rows `slots` are afterwards what they were before."""
    if not slots:
        yield
        return
    where = torch.tensor(slots, device=tensors[0].device)
    before = [tensor[where] for tensor in tensors]
    yield
    for tensor, rows in zip(tensors, before, strict=True):
        tensor[where] = rows
