"""The alternation of discriminator and generator steps, written once for every variant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gansweep.data.loader import Batch
from gansweep.formulation import Formulation
from gansweep.latent import Latent
from gansweep.optimizers import OptimizerSpec
from gansweep.penalties import Discriminator
from gansweep.seeding import stream
from gansweep.settings import setting

Published = Mapping[str, Mapping[str, Any]]
"""Defaults of a trial's sections, by section and key."""


@dataclass(frozen=True)
class VariantSettings:
    """The settings that every variant has."""

    n_critic: int = setting(1, "discriminator steps per generator step", ge=1)
    conditional: bool = setting(False, "give the labels y to both networks")


class AlternatingModule(pl.LightningModule, ABC):
    """D and G trained in turns with manual optimization.

    One Lightning batch is one generator step's worth of data: `batch.steps` discriminator steps,
    then one generator step; `batch_idx` therefore counts g_steps from where training began.
    A variant is a small final subclass: its `Settings`, its published defaults for the other
    sections of a trial, its formulation, and the advice that the literature gives on its use.

    Every draw of randomness comes from `self.rng`, a generator of the trial's own.
    """

    Settings: ClassVar[type[VariantSettings]] = VariantSettings
    published: ClassVar[Published] = {}
    """Defaults of the trial's other sections, as in the variant's paper or its authors' code."""

    def __init__(
        self,
        settings: Any,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizers: tuple[OptimizerSpec, OptimizerSpec],
        latent: Latent,
        seed: int,
    ) -> None:
        """`optimizers` are those of the discriminator and of the generator, in this order."""
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.generator = generator
        self.discriminator = discriminator
        self.latent = latent
        self.formulation = self.formulate(settings)
        self.g_step = 0
        self.d_step = 0
        self.images_seen = 0
        self.g_steps_budget = 0
        self.meters: dict[str, list[Tensor]] = {}
        self._specs = optimizers
        self._seed = seed
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
    def d_steps(cls, settings: Any, g_step: int) -> int:
        """How many discriminator steps precede generator step `g_step` (counted from 0)."""
        return int(settings.n_critic)

    @classmethod
    def advice(
        cls, settings: Any, *, optimizer: OptimizerSpec, discriminator: nn.Module
    ) -> list[str]:
        """What the literature advises against in this use, one sentence each, with its source."""
        return []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        self.d_optimizer = self._specs[0].build(self._d_parameters)
        self.g_optimizer = self._specs[1].build(self._g_parameters)
        return [self.d_optimizer, self.g_optimizer]

    def setup(self, stage: str) -> None:
        self.rng = stream(self._seed, "training", device=self.device)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch  # the loader's batches are where they belong already

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        z = self.latent.draw(batch.steps + 1, batch.size, rng=self.rng, device=self.device)
        labels = None
        for step in range(batch.steps):
            real = batch.real(step)
            labels = batch.labels(step) if self.settings.conditional else None
            self._discriminator_step(real, labels, z[step])
        self._generator_step(labels, z[batch.steps])
        self.g_step += 1
        self.d_step += batch.steps
        self.images_seen += batch.steps * batch.size

    def _discriminator_step(self, real: Tensor, labels: Tensor | None, z: Tensor) -> None:
        formulation = self.formulation
        constraint, penalty = formulation.constraint, formulation.penalty
        with torch.no_grad():
            fake = self._generate(z, labels)
        if constraint and constraint.timing == "before":
            constraint.project(self._constrained)
        noise = penalty.draw(real, self.rng) if penalty else None
        loss = formulation.discriminator_loss(
            self._bound(labels), real, fake, noise, D_pure=self._bound_pure(labels)
        )
        self.d_optimizer.zero_grad()
        self.manual_backward(loss.total, inputs=self._d_parameters)
        self.d_optimizer.step()
        if constraint and constraint.timing == "after":
            constraint.project(self._constrained)
        self._meter(loss.metrics)

    def _generator_step(self, labels: Tensor | None, z: Tensor) -> None:
        loss = self.formulation.generator_loss(self._bound(labels), self._generate(z, labels))
        self.g_optimizer.zero_grad()
        self.manual_backward(loss.total, inputs=self._g_parameters)
        self.g_optimizer.step()
        self._meter(loss.metrics)

    # Under autocast networks give bfloat16: samples and logits leave them in the data's precision,
    # so that losses and penalties are computed in it.

    def _generate(self, z: Tensor, labels: Tensor | None) -> Tensor:
        fake: Tensor = self.generator(z, labels)
        return fake.to(z.dtype)

    def _bound(self, labels: Tensor | None) -> Discriminator:
        return lambda x: self.discriminator(x, labels).to(x.dtype)

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
        if not self.meters:
            return {}
        names = list(self.meters)
        means = torch.stack([torch.stack(values).float().mean() for values in self.meters.values()])
        if clear:
            self.meters.clear()
        return dict(zip(names, means.tolist(), strict=True))

    def training_state(self) -> dict[str, Any]:
        """All that the next step depends on, but for the data order: tensors and plain values."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "g_optimizer": self.g_optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
            "rng": self.rng.get_state(),
            "device": self.device.type,
            "meters": {name: torch.stack(values) for name, values in self.meters.items()},
            "g_step": self.g_step,
            "d_step": self.d_step,
            "images_seen": self.images_seen,
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Stand where `training_state` was taken; call it when the optimizers exist.

        On another type of device than then the draws go on from a new stream, since a generator's
        state does not carry over: training is as good, but not bit-identical.
        """
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.g_optimizer.load_state_dict(state["g_optimizer"])
        self.d_optimizer.load_state_dict(state["d_optimizer"])
        if state["device"] == self.device.type:
            self.rng.set_state(state["rng"].cpu())
        else:
            self.rng = stream(self._seed, "training", state["g_step"], device=self.device)
        self.meters = {
            name: list(values.to(self.device)) for name, values in state["meters"].items()
        }
        self.g_step = state["g_step"]
        self.d_step = state["d_step"]
        self.images_seen = state["images_seen"]


@contextmanager
def evaluating(module: nn.Module) -> Any:
    """`module` in eval mode and without gradients, its mode restored afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield module
    finally:
        module.train(was_training)
