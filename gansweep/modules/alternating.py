"""The alternation of discriminator and generator steps, written once for every variant."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gansweep.data.batch import Batch
from gansweep.errors import ConfigError
from gansweep.formulation import Both, Formulation
from gansweep.latent import Latent
from gansweep.optimizers import OptimizerSpec
from gansweep.penalties import Discriminator
from gansweep.seeding import stream
from gansweep.settings import setting

Published = Mapping[str, Mapping[str, Any]]
"""Defaults of a trial's sections, by section and key."""

Play = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Real samples and z -> real and generated samples as D sees them."""

FAKES_AT_ONCE = 8
"""Discriminator steps whose fakes a separable generator draws in one call: memory is its bound."""

MOST_VALUES = 1000
"""Values of a meter that are kept one by one, a thousand bytes each: then they become one."""


@dataclass(frozen=True)
class VariantSettings:
    """The settings that every variant has."""

    n_critic: int = setting(1, "discriminator steps per generator step", ge=1)
    conditional: bool = setting(False, "give the labels y to both networks")
    pac: int = setting(
        1, "samples that the discriminator judges together (PacGAN); divides the batch", ge=1
    )


class AlternatingModule(pl.LightningModule, ABC):
    """D and G trained in turns with manual optimization.

    One Lightning batch is one generator step's worth of data: `batch.steps` discriminator steps,
    then one generator step; `batch_idx` therefore counts g_steps from where training began.
    A variant is a small final subclass: its `Settings`, its published defaults for the other
    sections of a trial, its formulation, and the advice that the literature gives on its use.

    Every draw of randomness comes from generators of the trial's own: `rng`, and for what networks
    draw from torch's global one (dropout) a stream that is put in its place during each step.
    """

    Settings: ClassVar[type[VariantSettings]] = VariantSettings
    published: ClassVar[Published] = {}
    """Defaults of the trial's other sections, as in the variant's paper or its authors' code."""

    encodes: ClassVar[bool] = False
    """Whether an encoder is trained beside G, and D judges pairs of samples and latents.

    `generator` is then an `EncodingGenerator`; the objective must need real samples in G's step.
    """

    penalises_slopes: ClassVar[bool] = False
    """Whether a penalty of its takes D's gradient at one sample after the other."""

    def __init__(
        self,
        settings: Any,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizers: tuple[OptimizerSpec, OptimizerSpec],
        latent: Latent,
        seed: int,
        ema_decay: float = 0.0,
    ) -> None:
        """`optimizers` are those of the discriminator and of the generator, in this order.

        With an `ema_decay` above 0 an averaged copy of the generator goes along.
        """
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.generator = generator
        self.discriminator = discriminator
        self.average = averaged(generator) if ema_decay > 0 else None
        self.ema_decay = ema_decay
        self.latent = latent
        self.seed = seed
        self.specs = optimizers
        self.formulation = self.mathematics(settings)
        self.g_step = 0
        self.d_step = 0
        self.images_seen = 0
        self.meters: dict[str, list[Tensor]] = {}
        self.gather_meters: Callable[[], None] = _nothing
        self._d_parameters = [p for p in discriminator.parameters() if p.requires_grad]
        self._g_parameters = [p for p in generator.parameters() if p.requires_grad]
        constraint = self.formulation.constraint
        self._constrained = constraint.select(discriminator) if constraint else []
        self._d_buffers = bool(list(discriminator.buffers()))

    @classmethod
    @abstractmethod
    def formulate(cls, settings: Any) -> Formulation:
        """The variant's mathematics under `settings`."""

    @classmethod
    def mathematics(cls, settings: Any) -> Formulation:
        """`formulate`, with what holds for every variant."""
        formulation = cls.formulate(settings)
        if not isinstance(formulation, Formulation):
            kind = type(formulation).__name__
            raise TypeError(f"formulate gives {kind}, must give a Formulation")
        return replace(formulation, pac=settings.pac)

    @classmethod
    def d_steps(cls, settings: Any, g_step: int) -> int:
        """How many discriminator steps precede generator step `g_step` (counted from 0)."""
        return int(settings.n_critic)

    @classmethod
    def advice(
        cls, settings: Any, *, optimizer: OptimizerSpec, discriminator: nn.Module
    ) -> list[str]:
        """What the literature advises against in this use, one sentence each, with its source."""
        layers = discriminator.modules() if cls.penalises_slopes else ()
        if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
            return [
                "BatchNorm in a critic under a gradient penalty ties the samples of a batch, which "
                "the penalty takes one by one (Gulrajani et al. 2017, section 4): use "
                "network.discriminator_norm: layer or none"
            ]
        return []

    @classmethod
    def play(
        cls,
        generator: Callable[..., Any],
        real: Tensor | None,
        z: Tensor,
        labels: Tensor | None,
    ) -> tuple[Tensor | None, Tensor]:
        """Real and generated samples as D sees them, from real ones [N, *shape] and z [N, dim].

        Where the variant encodes, pairs [N, ...]: [x, E(x)] and [G(z), z]. Under autocast networks
        give bfloat16: samples leave them in the data's precision, as logits do, so that losses and
        penalties are computed in it.
        """
        if cls.encodes:
            real, fake = generator(z, labels, real)
        else:
            fake = generator(z, labels)
        return real, fake.to(z.dtype)

    @property
    def draws_ahead(self) -> bool:
        """Whether G may be called once for several discriminator steps.

        That is for a `play` as above, which leaves real samples as they are.
        """
        own: Any = type(self).play
        ours: Any = AlternatingModule.play
        return own.__func__ is ours.__func__ and is_separable(self.generator)

    @property
    def sampled(self) -> nn.Module:
        """The generator that people see and scores judge: the averaged one where there is one."""
        return self.average or self.generator

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        self.d_optimizer = self.specs[0].build(self._d_parameters)
        self.g_optimizer = self.specs[1].build(self._g_parameters)
        return [self.d_optimizer, self.g_optimizer]

    def setup(self, stage: str) -> None:
        self.rng = stream(self.seed, "training", device=self.device)
        self.draw_dropout_from()

    def draw_dropout_from(self, *names: object) -> None:
        """Have dropout draw from the stream `names` of dropout's own from now on."""
        self._dropout_rng = stream(self.seed, "dropout", *names, device=self.device).get_state()

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch  # the loader's batches are where they belong already

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """One generator step's randomness: z [steps + 1, B, dim], and the penalty's noise."""
        z = self.latent.draw(batch.steps + 1, batch.size, rng=self.rng, device=self.device)
        noise = self.formulation.draw(
            batch.steps,
            batch.size,
            shape=self._seen(batch.shape),
            rng=self.rng,
            device=self.device,
            dtype=z.dtype,
        )
        return z, noise

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        z, noise = self.draw(batch)
        self.update(batch, z, noise)
        self.advance(batch)

    def update(self, batch: Batch, z: Tensor, noise: Tensor | None) -> None:
        """D's steps, then G's and its average's, on the randomness that `draw` gave for `batch`."""
        labels = None
        with self._dropout():
            for step, (labels, real, fake) in enumerate(self._sides(batch, z)):
                self._discriminator_step(real, labels, fake, None if noise is None else noise[step])
            needed = self.formulation.objective.needs_real
            last = batch.real(batch.steps - 1) if needed else None
            self._generator_step(last, labels, z[batch.steps])
        if self.average is not None:
            self._update_average(self.average)

    def _seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of one sample as D sees it, where samples have `shape`."""
        return (math.prod(shape) + self.latent.dim,) if self.encodes else shape

    def advance(self, batch: Batch) -> None:
        """Count the generator step that trained on `batch`."""
        self.g_step += 1
        self.d_step += batch.steps
        self.images_seen += batch.steps * batch.size
        for values in self.meters.values():
            if len(values) >= MOST_VALUES:
                values[:] = [_joined(values)]

    @contextmanager
    def _dropout(self) -> Iterator[None]:
        """The trial's own stream in the place of torch's global generator."""
        with global_state(self._dropout_rng, self.device) as generator:
            try:
                yield
            finally:
                self._dropout_rng = generator.get_state()

    def _sides(self, batch: Batch, z: Tensor) -> Iterator[tuple[Tensor | None, Tensor, Tensor]]:
        """Labels, real and generated samples [B, ...] of each discriminator step, when asked for.

        An `EncodingGenerator` is not separable, so that it has the real samples of each call.
        """
        at_once = FAKES_AT_ONCE if self.draws_ahead else 1
        for start in range(0, batch.steps, at_once):
            end = min(start + at_once, batch.steps)
            labels = [
                batch.labels(step) if self.settings.conditional else None
                for step in range(start, end)
            ]
            with torch.no_grad():
                first, fake = self.play(
                    self.generator, batch.real(start), z[start:end].flatten(0, 1), _cat(labels)
                )
            reals = chain((first,), map(batch.real, range(start + 1, end)))
            yield from zip(labels, reals, torch.split(fake, batch.size), strict=True)

    def _discriminator_step(
        self, real: Tensor, labels: Tensor | None, fake: Tensor, noise: Tensor | None
    ) -> None:
        formulation = self.formulation
        constraint = formulation.constraint
        if constraint and constraint.timing == "before":
            constraint.project(self._constrained)
        loss = formulation.discriminator_loss(
            self._bound(labels),
            real,
            fake,
            noise,
            D_pure=self._bound_pure(labels),
            D_both=self._both(labels),
        )
        _descend(loss.total, self._d_parameters, self.d_optimizer)
        if constraint and constraint.timing == "after":
            constraint.project(self._constrained)
        self._meter(loss.metrics)

    def _generator_step(self, real: Tensor | None, labels: Tensor | None, z: Tensor) -> None:
        real, fake = self.play(self.generator, real, z, labels)
        loss = self.formulation.generator_loss(
            self._bound(labels), fake, real, D_both=self._both(labels)
        )
        _descend(loss.total, self._g_parameters, self.g_optimizer)
        self._meter(loss.metrics)

    @property
    def ema_weight(self) -> float:
        """What this step's generator counts in the average: all, at the first step."""
        return 1.0 if self.g_step == 0 else 1.0 - self.ema_decay

    @torch.no_grad()
    def _update_average(self, average: nn.Module) -> None:
        """theta_ema <- decay theta_ema + (1 - decay) theta; the first step's weights as they are.

        Parameters and floating-point buffers alike (Yaz\u0131c\u0131 et al. 2019).
        """
        pairs = zip(_floats(average), _floats(self.generator), strict=True)
        kept, new = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(kept, new, self.ema_weight)
        for kept_count, count in zip(_counts(average), _counts(self.generator), strict=True):
            kept_count.copy_(count)

    def _bound(self, labels: Tensor | None) -> Discriminator:
        return lambda x: self.discriminator(x, labels).to(x.dtype)

    def players(self, labels: Tensor | None) -> tuple[Play, Discriminator, Discriminator]:
        """`play`, D, and D without side effects on its buffers, as the steps call them, y bound."""
        D = self._bound(labels)

        def play(real: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
            seen, fake = self.play(self.generator, real, z, labels)
            assert seen is not None
            return seen, fake

        return play, D, self._bound_pure(labels) or D

    def _both(self, labels: Tensor | None) -> Both | None:
        if not is_separable(self.discriminator):
            return None
        return lambda real, fake: on_both(self.discriminator, real, fake, labels)

    def _bound_pure(self, labels: Tensor | None) -> Discriminator | None:
        if not self._d_buffers:
            return None

        def pure(x: Tensor) -> Tensor:
            copies = {name: buffer.clone() for name, buffer in self.discriminator.named_buffers()}
            logits: Tensor = functional_call(self.discriminator, copies, (x, labels))
            return logits.to(x.dtype)

        return pure

    def _meter(self, metrics: Mapping[str, Tensor]) -> None:
        for name, value in metrics.items():
            self.meters.setdefault(name, []).append(value)

    def read_meters(self, *, clear: bool = True) -> dict[str, float]:
        """Means since the last clearing by metric name; the one place that waits for the device."""
        self.gather_meters()
        if not self.meters:
            return {}
        names = list(self.meters)
        means = torch.stack([_joined(values).float().mean() for values in self.meters.values()])
        if clear:
            self.meters.clear()
        return dict(zip(names, means.tolist(), strict=True))

    def set_hyperparameters(self, settings: Any, optimizers: tuple[OptimizerSpec, ...]) -> None:
        """Go on under other floating-point settings of the variant and of both optimizers."""
        self.settings = settings
        self.formulation = self.mathematics(settings)
        d_spec, g_spec = optimizers
        self.specs = (d_spec, g_spec)
        for optimizer, spec, parameters in (
            (self.d_optimizer, self.specs[0], self._d_parameters),
            (self.g_optimizer, self.specs[1], self._g_parameters),
        ):
            fresh = spec.build(parameters).param_groups
            for group, new in zip(optimizer.param_groups, fresh, strict=True):
                group.update({name: new[name] for name in new if name != "params"})

    def training_state(self) -> dict[str, Any]:
        """All that the next step depends on, but for the data order: tensors and plain values.

        The tensors are copies, or may share memory with the networks where these are a trial's own.
        """
        self.gather_meters()
        return {
            "generator": _own(network_state(self.generator)),
            "discriminator": _own(network_state(self.discriminator)),
            "average": _own(network_state(self.average)) if self.average else None,
            "g_optimizer": _own(self.g_optimizer.state_dict()),
            "d_optimizer": _own(self.d_optimizer.state_dict()),
            "rng": self.rng.get_state(),
            "dropout_rng": self._dropout_rng,
            "device": self.device.type,
            "meters": {name: _joined(values) for name, values in self.meters.items()},
            "g_step": self.g_step,
            "d_step": self.d_step,
            "images_seen": self.images_seen,
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Stand where `training_state` was taken; call it when the optimizers exist.

        On another type of device than then the draws go on from a new stream, since a generator's
        state does not carry over: training is as good, but not bit-identical. ConfigError where it
        is of other networks or optimizers.
        """
        load_network_state(self.generator, state["generator"])
        load_network_state(self.discriminator, state["discriminator"])
        if self.average is not None:
            load_network_state(self.average, state["average"])
        for optimizer, name in (
            (self.g_optimizer, "g_optimizer"),
            (self.d_optimizer, "d_optimizer"),
        ):
            try:
                optimizer.load_state_dict(deepcopy(state[name]))  # else it would share its tensors
            except ValueError as error:
                raise _of_other_code(type(optimizer), str(error)) from error
            _lay_out(optimizer)
        if state["device"] == self.device.type:
            self.rng.set_state(state["rng"].cpu())
            self._dropout_rng = state["dropout_rng"].cpu()
        else:
            names = ("training", "dropout")
            streams = [
                stream(self.seed, name, state["g_step"], device=self.device) for name in names
            ]
            self.rng, self._dropout_rng = streams[0], streams[1].get_state()
        self.meters = {name: [values.to(self.device)] for name, values in state["meters"].items()}
        self.g_step = state["g_step"]
        self.d_step = state["d_step"]
        self.images_seen = state["images_seen"]


def _descend(
    loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """One step of `optimizer` along the gradient of `loss` in `parameters` alone.

    Without `manual_backward`, whose hooks cost as much as a small layer: neither 32-bit nor bf16
    training scales its losses.
    """
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Have what is kept of each parameter lie in memory as the parameter does.

    Fused optimizers go through both as they lie; a state may be of networks in another order.
    """
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _nothing() -> None:
    pass


def network_state(network: nn.Module) -> dict[str, Tensor]:
    """Its `state_dict`, and the buffers that it leaves out, which may change in training too."""
    left_out = {name: getattr(part, key) for name, part, key in _left_out(network)}
    given = {name: buffer for name, buffer in left_out.items() if buffer is not None}
    return {**network.state_dict(), **given}


def load_network_state(
    network: nn.Module, state: Mapping[str, Tensor], *, place: str = "checkpoint"
) -> None:
    """Stand where `network_state` was taken; older versions kept no buffers beyond `state_dict`.

    ConfigError, which names the `place` of the state, where it is of a network of other weights.
    """
    state = dict(state)
    for name, part, key in list(_left_out(network)):
        if name in state:
            device = next(network.parameters()).device
            setattr(part, key, state.pop(name).to(device, copy=True))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first, *more = str(error).splitlines()
        if not more or "state_dict" not in first:
            raise
        what = " ".join(more[0].split())
        raise _of_other_code(type(network), what, place=place) from error


def _of_other_code(kind: type[Any], what: str, *, place: str = "checkpoint") -> ConfigError:
    return ConfigError.single(
        place,
        f"does not fit {kind.__name__} as it is now: {what}",
        "its code has changed since: undo that, or give the sweep another name to train anew",
    )


def _left_out(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Of the buffers that no `state_dict` holds, each one's name, and where it lies."""
    for path, part in network.named_modules():
        for key in sorted(part._non_persistent_buffers_set):
            yield f"{path}.{key}" if path else key, part, key


def is_separable(network: nn.Module) -> bool:
    """Whether `network` says so of itself, as `Architecture` explains it."""
    return bool(getattr(network, "separable", False))


def on_both(
    discriminator: Callable[[Tensor, Tensor | None], Tensor],
    real: Tensor,
    fake: Tensor,
    labels: Tensor | None,
) -> tuple[Tensor, ...]:
    """Logits of real and of generated samples, which go through D as one batch."""
    both = None if labels is None else torch.cat([labels, labels])
    logits = discriminator(torch.cat([real, fake]), both).to(real.dtype)
    return torch.split(logits, len(real))


def averaged(network: nn.Module) -> nn.Module:
    """A copy of `network` for an average of its weights, which no optimizer trains."""
    return deepcopy(network).requires_grad_(False)


def _floats(network: nn.Module) -> list[Tensor]:
    tensors = [*network.parameters(), *network.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


def _counts(network: nn.Module) -> list[Tensor]:
    return [buffer for buffer in network.buffers() if not buffer.is_floating_point()]


def _cat(labels: list[Tensor | None]) -> Tensor | None:
    given = [y for y in labels if y is not None]
    return torch.cat(given) if given else None


def _joined(values: list[Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in values])


def _own(state: Any) -> Any:
    """`state` with a storage of its own for each tensor that is a part of a larger one.

    Its numbers then lie there in torch's usual order, which fused optimizers rely on.
    """
    if isinstance(state, Tensor):
        whole = state.untyped_storage().nbytes() == state.nbytes
        return state if whole else state.clone(memory_format=torch.contiguous_format)
    if isinstance(state, Mapping):
        return {key: _own(value) for key, value in state.items()}
    return state


def global_generator(device: torch.device) -> torch.Generator:
    """torch's own generator of `device`, from which networks draw (dropout)."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    return torch.default_generator


@contextmanager
def global_state(state: Tensor, device: torch.device) -> Iterator[torch.Generator]:
    """`state` in torch's own generator of `device`, whose own is put back afterwards."""
    generator = global_generator(device)
    before = generator.get_state()
    generator.set_state(state)
    try:
        yield generator
    finally:
        generator.set_state(before)


@contextmanager
def evaluating(module: nn.Module) -> Any:
    """`module` in eval mode and without gradients; the mode of each part is restored afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield module
    finally:
        module.train(was_training)
        for part, mode in modes:  # some may be frozen
            part.training = mode
