"""One step of every replica of a stack: pure in its tensors, so that it can be compiled whole."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm

from gansweep.formulation import Both, Formulation
from gansweep.modules.alternating import (
    FAKES_AT_ONCE,
    AlternatingModule,
    is_separable,
    on_both,
)
from gansweep.modules.compiled import Compiled, describe, prepare
from gansweep.optimizers import OptimizerSpec

Tensors = dict[str, Tensor]

JOINED: Final = 2**20
"""Numbers of K replicas that an optimizer updates at once: in few operations, small temporaries."""


OF_ONE: Final = (
    "configure_optimizers", "training_step", "update", "_sides", "_discriminator_step",
    "_generator_step", "_update_average", "_bound", "_bound_pure", "_both", "_meter",
)  # fmt: skip
"""Methods of a module that a stack does not call: it has the same for all its rows."""


@final
class Layout:
    """Named tensors of one replica laid out in a row of `width` numbers.

    Matrices lie there by columns: `x W^T` of a linear layer then reads both as they lie, and so is
    its derivative in W written, which a BLAS does up to twice as fast for small ones.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.names = list(tensors)
        self.shapes = [tensor.shape for tensor in tensors.values()]
        self.sizes = [tensor.numel() for tensor in tensors.values()]
        self.width = sum(self.sizes)

    def views(self, rows: Tensor) -> Tensors:
        """The tensors by name, each [K, *shape], from rows [K, width]."""
        return self.shaped(self.parts(rows))

    def parts(self, rows: Tensor) -> list[Tensor]:
        """The tensors in the order of their names, flat: views [K, size] of rows [K, width]."""
        return list(torch.split(rows, self.sizes, 1))

    def shaped(self, parts: Sequence[Tensor]) -> Tensors:
        """By name, each [K, *shape], from `parts`."""
        return {
            name: _shaped(part, shape)
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def of(self, row: Tensor) -> Tensors:
        """The tensors by name, each as shaped, from one row [width]."""
        return {name: view[0] for name, view in self.views(row.unsqueeze(0)).items()}

    def rows(self, tensors: Tensors) -> Tensor:
        """The inverse of `views`: [K, width] from tensors by name, each [K, *shape]."""
        return torch.cat([_flat(tensors[name]) for name in self.names], 1)

    def joined(self, parts: Sequence[Tensor], most: int) -> Iterator[tuple[slice, Tensor]]:
        """Neighbours of `parts` as copies of at most `most` numbers, or of one part that has more.

        Each with its columns of the rows.
        """
        start, group, replicas = 0, 0, len(parts[0])
        for end in range(1, len(parts) + 1):
            if end < len(parts) and replicas * sum(self.sizes[group : end + 1]) <= most:
                continue
            columns = slice(start, start + sum(self.sizes[group:end]))
            yield columns, torch.cat(list(parts[group:end]), 1)
            start, group = columns.stop, end


def _shaped(part: Tensor, shape: torch.Size) -> Tensor:
    """[K, *shape], of [K, n]."""
    if len(shape) == 2:
        return part.view(-1, shape[1], shape[0]).mT
    return part.view(-1, *shape)


def _flat(tensor: Tensor) -> Tensor:
    """The inverse of `_shaped`."""
    return (tensor.mT if tensor.dim() == 3 else tensor).reshape(len(tensor), -1)


@final
class NetworkPlan:
    """What the replicas have in common in one of their networks."""

    def __init__(self, network: nn.Module, spec: OptimizerSpec) -> None:
        rule = spec.rule
        assert rule is not None
        self.rule = rule
        self.skeleton = _skeleton(network)
        self.parameters = Layout(dict(network.named_parameters()))
        self.buffers = Layout(buffers_of(network))


def buffers_of(network: nn.Module) -> Tensors:
    """Buffers that matter: without BatchNorm's count of batches, which a fixed momentum ignores."""
    return {
        name: buffer
        for name, buffer in network.named_buffers()
        if not name.endswith("num_batches_tracked")
    }


def _skeleton(network: nn.Module) -> nn.Module:
    """The structure of `network`, without memory, for `functional_call`."""
    skeleton = deepcopy(network).to("meta")
    for part in skeleton.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.num_batches_tracked = None
    return skeleton


def _normalise_in_own_precision(network: nn.Module) -> None:
    """Have BatchNorm and LayerNorm take bfloat16 as numbers of their own type.

    Under autocast other layers hand it to them, and on a CPU under `vmap` torch refuses to
    normalise it, or to differentiate that twice, unless it is compiled.
    """

    def cast(norm: nn.Module, x: tuple[Tensor]) -> Tensor:
        own = chain(norm.parameters(recurse=False), norm.buffers(recurse=False))
        return x[0].to(next(own, x[0]).dtype)

    for part in network.modules():
        if isinstance(part, (nn.modules.batchnorm._NormBase, nn.LayerNorm)):
            part.register_forward_pre_hook(cast)


def scalars(settings: Any) -> dict[str, float]:
    """The settings in which replicas of one stack may differ: the floating-point ones."""
    return {
        field.name: value
        for field in dataclasses.fields(settings)
        if isinstance(value := getattr(settings, field.name), float)
    }


@final
@dataclasses.dataclass(frozen=True)
class NetworkRows:
    """One network of K replicas: weights [K, P], buffers [K, Q], optimizer state [K, P] by name.

    steps: float [K, n], the optimizer's, a number for each of n parameters as torch.optim keeps it;
    columns: its hyperparameters, float64 [K, 1] by name.
    """

    theta: Tensor
    buffers: Tensor
    state: Tensors
    steps: Tensor
    columns: Tensors

    @property
    def changing(self) -> list[Tensor]:
        """What a step changes."""
        return [self.theta, self.buffers, self.steps, *self.state.values()]


def obstacle(module: AlternatingModule) -> str | None:
    """Why trials like `module` cannot be stacked; None where nothing is known against it."""
    for name in OF_ONE:
        if getattr(type(module), name) is not getattr(AlternatingModule, name):
            return f"{type(module).__name__} has {name} of its own"
    for spec in module.specs:
        if spec.rule is None:
            return f"the optimizer {type(spec).__name__} has no update rule for rows"
    networks = (module.generator, module.discriminator)
    layers = [part for network in networks for part in network.modules()]
    weights = [id(weight) for part in layers for weight in part.parameters(recurse=False)]
    if len(set(weights)) < len(weights):
        return "two layers share a weight"
    for network in networks:
        for part in network.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
                return "dropout draws from one stream for all replicas"
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.momentum is None:
                return f"the statistics of a {type(part).__name__} without momentum count batches"
            if isinstance(part, nn.RNNBase):
                return f"{type(part).__name__} does not run under vmap"
            if any(isinstance(hook, SpectralNorm) for hook in part._forward_pre_hooks.values()):
                return "the hook of spectral_norm does not run under vmap"
            if parametrize.is_parametrized(part):
                return f"a parametrized {type(part).__name__} changes its own state"
        if not all(parameter.requires_grad for parameter in network.parameters()):
            return "some weights are frozen"
        if not all(buffer.is_floating_point() for buffer in buffers_of(network).values()):
            return "a buffer holds integers"
    return None


@final
class StackedStep:
    """The discriminator's and the generator's step on K rows, for replicas like one example.

    All that replicas have in common is here, and nothing of any one of them: stacks of the same
    shape share it, and with it what was compiled.
    """

    def __init__(self, example: AlternatingModule, *, compile: bool = False) -> None:
        """Raises ValueError where `example` cannot be stacked."""
        reason = obstacle(example)
        if reason:
            raise ValueError(f"cannot be stacked: {reason}")
        self._cls = type(example)
        self._settings = example.settings
        self.discriminator = NetworkPlan(example.discriminator, example.specs[0])
        self.generator = NetworkPlan(example.generator, example.specs[1])
        constraint = example.formulation.constraint
        self._separable = is_separable(example.discriminator)
        self.at_once = _fakes_at_once(example)
        self._timing = constraint.timing if constraint else None
        self._constrained = _constrained(example)
        self.train_discriminator: Callable[..., Tensors] = self._discriminator_step
        self.train_generator: Callable[..., Tensors] = self._generator_step
        self.generate: Callable[..., Tensors] = self._generated
        self.is_prepared = False
        if compile:
            about = self._description()
            for_d, for_g = StackedStep._discriminator_step, StackedStep._generator_step
            self.train_discriminator = Compiled(for_d, self, about=about)
            self.train_generator = Compiled(for_g, self, about=about)
            self.generate = Compiled(StackedStep._generated, self, about=about)
        else:
            for plan in (self.discriminator, self.generator):
                _normalise_in_own_precision(plan.skeleton)

    def prepare(
        self, of_d: tuple[Any, ...], of_g: tuple[Any, ...], generated: tuple[Any, ...] | None
    ) -> None:
        """Compile, once, for such arguments of `train_discriminator` and `train_generator`.

        And of `generate`, where there are any.
        """
        if not self.is_prepared:
            calls: list[tuple[Any, tuple[Any, ...] | None]]
            calls = [(self.train_discriminator, of_d), (self.train_generator, of_g)]
            calls.append((self.generate, generated))
            prepare(*((f, given) for f, given in calls if given and isinstance(f, Compiled)))
            self.is_prepared = True

    def _description(self) -> str | None:
        """All here that a trace depends on, but sources; None where it cannot be told."""
        networks = [describe(plan.skeleton) for plan in (self.discriminator, self.generator)]
        settings = {
            field.name: getattr(self._settings, field.name)
            for field in dataclasses.fields(self._settings)
        }
        for name in scalars(self._settings):
            del settings[name]
        parts = [
            f"{self._cls.__module__}.{self._cls.__qualname__}",
            repr(settings),
            repr((self.discriminator.rule, self.generator.rule)),
            repr((self._timing, self._constrained)),
        ]
        return None if None in networks else "\n".join([*parts, *map(str, networks)])

    def _generated(self, g: NetworkRows, labels: Tensor | None, z: Tensor) -> Tensors:
        """`fake`: G's samples [K, n B, *shape] for n steps of D, of a G that is separable.

        labels [K, n B, ...], z [n, K, B, dim]. G's weights are then read once, not n times.
        """

        def samples(*given: Any) -> tuple[Tensor, Tensors]:
            return self._play(*given)[1:]

        with torch.no_grad():
            whole = z.transpose(0, 1).flatten(1, 2)
            views = self.generator.parameters.views(g.theta)
            copies = _copies(self.generator, g.buffers)
            fake, buffers = vmap(samples)(views, copies, whole, _given(labels=labels))
            _keep(self.generator, g.buffers, buffers)
        return {"fake": fake.contiguous()}  # D's step is compiled for no other

    def _discriminator_step(
        self,
        d: NetworkRows,
        g: NetworkRows | None,
        settings: Tensors,
        real: Tensor,
        labels: Tensor | None,
        z: Tensor | None,
        noise: Tensor | None,
        fake: Tensor | None,
    ) -> Tensors:
        """One step of D in each row, in place; the metrics, each [K].

        settings: the variant's floating-point settings, [K] by name. real [K, B, *shape],
        labels [K, B, ...], noise [K, ...] as the penalty draws it. D sees `fake` [K, B, *shape],
        or else what G makes of z [K, B, dim].
        """
        with torch.no_grad():
            seen = real
            if fake is None:
                assert g is not None
                assert z is not None
                seen, fake = self._sides(g, real, labels, z)
            if self._timing == "before":
                self._project(d.theta, settings)
        gradient, metrics = self._discriminator_gradient(
            d.theta, d.buffers, settings, seen, labels, fake, noise
        )
        self._discriminator_update(d, gradient, settings)
        return metrics

    def _discriminator_update(
        self, d: NetworkRows, gradient: list[Tensor], settings: Tensors
    ) -> None:
        with torch.no_grad():
            self._update(self.discriminator, d, gradient)
            if self._timing == "after":
                self._project(d.theta, settings)

    def _sides(
        self, g: NetworkRows, real: Tensor, labels: Tensor | None, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Real and generated samples as D sees them; G's buffers change in place."""
        seen, fake, buffers = vmap(self._play)(
            self.generator.parameters.views(g.theta),
            _copies(self.generator, g.buffers),
            z,
            _given(labels=labels, real=real),
        )
        assert seen is not None
        _keep(self.generator, g.buffers, buffers)
        return seen, fake

    def _discriminator_gradient(
        self,
        d_theta: Tensor,
        d_buffers: Tensor,
        settings: Tensors,
        seen: Tensor,
        labels: Tensor | None,
        fake: Tensor,
        noise: Tensor | None,
    ) -> tuple[list[Tensor], Tensors]:
        """Of each row's loss in its weights, in parts, and the metrics; buffers change in place."""
        given = _given(labels=labels, noise=noise)
        plan = self.discriminator

        def total(theta: list[Tensor]) -> tuple[Tensor, tuple[Tensors, Tensors]]:
            losses, metrics, buffers = vmap(self._discriminator_loss)(
                plan.parameters.shaped(theta),
                _copies(plan, d_buffers),
                settings,
                seen,
                fake,
                given,
            )
            return losses.sum(), (metrics, buffers)

        gradient: list[Tensor]
        metrics: Tensors
        gradient, (metrics, d_new) = grad(total, has_aux=True)(plan.parameters.parts(d_theta))
        with torch.no_grad():
            _keep(plan, d_buffers, d_new)
        return gradient, metrics

    def _generator_step(
        self,
        d: NetworkRows,
        g: NetworkRows,
        settings: Tensors,
        real: Tensor | None,
        labels: Tensor | None,
        z: Tensor,
        averages: list[Tensor],
        weight: Tensor | None,
    ) -> Tensors:
        """One step of G in each row, in place; the metrics, each [K].

        real [K, B, *shape] where the objective needs it, else None. averages: the averaged
        weights and buffers of G, [K, P] and [K, Q], where there are any; weight [K, 1] is what the
        new ones count.
        """
        gradient, metrics = self._generator_gradient(
            d.theta, d.buffers, g.theta, g.buffers, settings, real, labels, z
        )
        self._generator_update(g, gradient, averages, weight)
        return metrics

    def _generator_update(
        self, g: NetworkRows, gradient: list[Tensor], averages: list[Tensor], weight: Tensor | None
    ) -> None:
        with torch.no_grad():
            self._update(self.generator, g, gradient)
            if weight is not None:
                averages[0].lerp_(g.theta, weight.to(g.theta.dtype))
                averages[1].lerp_(g.buffers, weight.to(g.buffers.dtype))

    def _generator_gradient(
        self,
        d_theta: Tensor,
        d_buffers: Tensor,
        g_theta: Tensor,
        g_buffers: Tensor,
        settings: Tensors,
        real: Tensor | None,
        labels: Tensor | None,
        z: Tensor,
    ) -> tuple[list[Tensor], Tensors]:
        """Of each row's loss in its weights, in parts, and the metrics; buffers change in place."""
        given = _given(labels=labels, real=real)
        plan = self.generator

        def total(theta: list[Tensor]) -> tuple[Tensor, tuple[Tensors, Tensors, Tensors]]:
            losses, metrics, g_new, d_new = vmap(self._generator_loss)(
                plan.parameters.shaped(theta),
                _copies(plan, g_buffers),
                self.discriminator.parameters.views(d_theta),
                _copies(self.discriminator, d_buffers),
                settings,
                z,
                given,
            )
            return losses.sum(), (metrics, g_new, d_new)

        gradient: list[Tensor]
        metrics: Tensors
        gradient, (metrics, g_new, d_new) = grad(total, has_aux=True)(
            plan.parameters.parts(g_theta)
        )
        with torch.no_grad():
            _keep(plan, g_buffers, g_new)
            _keep(self.discriminator, d_buffers, d_new)
        return gradient, metrics

    # What one replica does: the same calls as in AlternatingModule, of functions of its tensors.

    def _formulation(self, settings: Tensors) -> Formulation:
        return self._cls.mathematics(dataclasses.replace(self._settings, **settings))

    def _play(
        self, parameters: Tensors, buffers: Tensors, z: Tensor, given: Tensors
    ) -> tuple[Tensor | None, Tensor, Tensors]:
        def generator(*arguments: Tensor | None) -> Any:
            return _call(self.generator, parameters, buffers, arguments)

        real, fake = self._cls.play(generator, given.get("real"), z, given.get("labels"))
        return real, fake, buffers

    def _discriminator_loss(
        self,
        parameters: Tensors,
        buffers: Tensors,
        settings: Tensors,
        real: Tensor,
        fake: Tensor,
        given: Tensors,
    ) -> tuple[Tensor, Tensors, Tensors]:
        def logits(x: Tensor) -> Tensor:
            return self._logits(parameters, buffers, x, given)

        def pure_logits(x: Tensor) -> Tensor:
            copies = {name: buffer.clone() for name, buffer in buffers.items()}
            return self._logits(parameters, copies, x, given)

        loss = self._formulation(settings).discriminator_loss(
            logits,
            real,
            fake,
            given.get("noise"),
            D_pure=pure_logits,
            D_both=self._both(parameters, buffers, given),
        )
        return loss.total, loss.metrics, buffers

    def _generator_loss(
        self,
        parameters: Tensors,
        buffers: Tensors,
        d_parameters: Tensors,
        d_buffers: Tensors,
        settings: Tensors,
        z: Tensor,
        given: Tensors,
    ) -> tuple[Tensor, Tensors, Tensors, Tensors]:
        real, fake, buffers = self._play(parameters, buffers, z, given)
        loss = self._formulation(settings).generator_loss(
            lambda x: self._logits(d_parameters, d_buffers, x, given),
            fake,
            real,
            D_both=self._both(d_parameters, d_buffers, given),
        )
        return loss.total, loss.metrics, buffers, d_buffers

    def _both(self, parameters: Tensors, buffers: Tensors, given: Tensors) -> Both | None:
        if not self._separable:
            return None

        def whole(x: Tensor, labels: Tensor | None) -> Tensor:
            return self._logits(parameters, buffers, x, _given(labels=labels))

        return lambda real, fake: on_both(whole, real, fake, given.get("labels"))

    def _logits(self, parameters: Tensors, buffers: Tensors, x: Tensor, given: Tensors) -> Tensor:
        arguments = (x, given.get("labels"))
        logits: Tensor = _call(self.discriminator, parameters, buffers, arguments)
        return logits.to(x.dtype)

    def _project(self, theta: Tensor, settings: Tensors) -> None:
        def one(row: Tensor, settings: Tensors) -> Tensor:
            constraint = self._formulation(settings).constraint
            assert constraint is not None
            constraint.project(
                [
                    _shaped(row[start:end].unsqueeze(0), shape)[0]
                    for start, end, shape in self._constrained
                ]
            )
            return row

        vmap(one)(theta, settings)

    def _update(self, plan: NetworkPlan, rows: NetworkRows, gradient: list[Tensor]) -> None:
        rows.steps.add_(1.0)
        # A compiler needs no temporary, and turns each change of a part into one of the whole.
        most = sys.maxsize if torch.compiler.is_compiling() else JOINED
        for columns, part in plan.parameters.joined(gradient, most):
            state = {name: tensor[:, columns] for name, tensor in rows.state.items()}
            plan.rule.update(rows.theta[:, columns], part, state, rows.steps[:, :1], rows.columns)


def _fakes_at_once(module: AlternatingModule) -> int:
    """The steps of D for which G is called once; 1 where it is called in each of them."""
    steps: int = module.settings.n_critic
    return -(-steps // -(-steps // FAKES_AT_ONCE)) if module.draws_ahead else 1


def _call(
    plan: NetworkPlan, parameters: Tensors, buffers: Tensors, arguments: tuple[Tensor | None, ...]
) -> Any:
    """The network of these tensors called; `buffers` then holds those that it put in their place.

    Most write to a buffer as it lies, and some replace it (`self.mean = ...`).
    """
    tensors = {**parameters, **buffers}
    out = functional_call(plan.skeleton, tensors, arguments)
    buffers.update((name, tensors[name]) for name in buffers)
    return out


def _given(**tensors: Tensor | None) -> Tensors:
    """Those that there are: vmap takes no None."""
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _copies(plan: NetworkPlan, rows: Tensor) -> Tensors:
    """The buffers for networks to write to, each in memory of its own: vmap's BatchNorm would write
    past a view of rows.
    """
    views = plan.buffers.views(rows)
    return {name: view.clone(memory_format=torch.contiguous_format) for name, view in views.items()}


def _keep(plan: NetworkPlan, rows: Tensor, buffers: Tensors) -> None:
    if buffers:
        rows.copy_(plan.buffers.rows(buffers))


def _constrained(module: AlternatingModule) -> list[tuple[int, int, torch.Size]]:
    """(start, end, shape) in D's rows of what the constraint projects.

    Neighbours are one where the constraint does not care for shapes.
    """
    constraint = module.formulation.constraint
    if constraint is None:
        return []
    chosen = {id(tensor) for tensor in constraint.select(module.discriminator)}
    ranges: list[tuple[int, int, torch.Size]] = []
    end = 0
    for parameter in module.discriminator.parameters():
        start, end = end, end + parameter.numel()
        if id(parameter) not in chosen:
            continue
        if constraint.elementwise and ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        shape = torch.Size((end - start,)) if constraint.elementwise else parameter.shape
        ranges.append((start, end, shape))
    return ranges
