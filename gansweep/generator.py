"""A trained generator out of a checkpoint, for samples beyond those that a sweep recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from gansweep.assembly import build_module
from gansweep.checkpoint import DamagedCheckpointError, read_checkpoint
from gansweep.config import NOT_IDENTITY, TrialConfig, resolved
from gansweep.dataspec import Condition, DataSpec
from gansweep.errors import ConfigError
from gansweep.modules.alternating import evaluating, global_state, load_network_state
from gansweep.seeding import stream

AT_ONCE = 500
"""Samples of one pass through the network."""


def about(config: TrialConfig, spec: DataSpec) -> dict[str, Any]:
    """What a checkpoint holds for a `TrainedGenerator`: settings, and what the data look like.

    Without the settings that do not decide what is learnt: a trial that is trained further ends
    in the same bytes.
    """
    condition, tree = spec.condition, config.to_dict()
    return {
        "config": json.dumps({key: tree[key] for key in tree if key not in NOT_IDENTITY}),
        "spec": {
            "shape": list(spec.shape),
            "condition": condition and [condition.kind, condition.size, list(condition.names)],
        },
    }


@final
class TrainedGenerator:
    """`TrainedGenerator.load("runs/NAME/trials/KEY/best.pt").sample(64)`.

    network: the generator, by its averaged weights where there are any, in eval mode: z [N, dim]
    and labels [N, ...] or None -> samples [N, *spec.shape], images in [-1, 1]. g_step: after how
    many generator steps.
    """

    def __init__(
        self, config: TrialConfig, spec: DataSpec, network: nn.Module, *, g_step: int
    ) -> None:
        self.config = config
        self.spec = spec
        self.network = network.eval()
        self.g_step = g_step

    @classmethod
    def load(cls, path: Path | str, *, device: torch.device | str = "cpu", place: str = "") -> Self:
        """That of the checkpoint at `path`, without its data.

        Networks that are named by import path are imported, which runs their code.
        place: what messages name in its place, where `path` is a copy.

        Raises:
            ConfigError: there is none, it is damaged, it does not hold its settings, or its network
            has other weights by now.
        """
        place = place or str(path)
        try:
            saved = read_checkpoint(Path(path), place=place)
        except DamagedCheckpointError:
            what = "is damaged: it is torn, was changed, or is no checkpoint of gansweep's"
            raise ConfigError.single(place, what, "name another") from None
        except OSError as error:
            raise ConfigError.single(place, f"cannot be read: {error.strerror}") from None
        if saved is None:
            raise ConfigError.single(place, "there is no such checkpoint")
        if "config" not in saved:
            what = "does not hold the trial's settings, as those of earlier versions"
            raise ConfigError.single(place, what, "train it further with `gansweep run`")
        config = resolved(json.loads(saved["config"]))
        spec = _spec(saved["spec"])
        module = build_module(config, spec)
        state = saved["module"]
        weights = state["average"] or state["generator"]
        load_network_state(module.sampled, weights, place=place)
        return cls(config, spec, module.sampled.to(device), g_step=state["g_step"])

    @property
    def condition(self) -> Condition | None:
        """What it is conditioned on, of the data's labels."""
        return self.spec.condition if self.config.model.settings.conditional else None

    def sample(self, count: int, *, seed: int = 0, labels: Tensor | None = None) -> Tensor:
        """`count` samples on the CPU, all that is random drawn from `seed`: float [count, *shape].

        labels: what a conditional generator is asked for, int64 [count] or float [count, K];
        without them each class in turn.

        Raises:
            ValueError: no samples are asked for, labels are none of `condition`, or it is
            conditioned on numbers, and there are no labels.
        """
        if count < 1:
            raise ValueError(f"count is {count}, must be at least 1")
        if labels is not None:
            self._check(labels, count)
        elif self.condition is not None:
            labels = self.classes(count)
        device = next(self.network.parameters()).device
        z = self.config.latent.draw(count, rng=stream(seed, "samples"))
        parts = []
        noise = stream(seed, "samples", "noise", device=device).get_state()
        with evaluating(self.network), global_state(noise, device):
            for start in range(0, count, AT_ONCE):
                rows = slice(start, start + AT_ONCE)
                y = None if labels is None else labels[rows].to(device)
                parts.append(self.network(z[rows].to(device), y).cpu())
        return torch.cat(parts)

    def classes(self, count: int) -> Tensor:
        """`count` labels, each class in turn: int64 [count]."""
        condition = self.condition
        if condition is None or condition.kind != "class":
            raise ValueError("without classes there are none to take in turn: give labels")
        return torch.arange(count) % condition.size

    def _check(self, labels: Tensor, count: int) -> None:
        """ValueError where `labels` are none for `count` samples."""
        condition = self.condition
        if condition is None:
            raise ValueError("labels: the generator is not conditional: leave them out")
        of_classes = condition.kind == "class"
        shape = [count] if of_classes else [count, condition.size]
        if list(labels.shape) != shape or (of_classes and labels.dtype != torch.int64):
            given = f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
            wanted = f"{'int64' if of_classes else 'float'} {shape}"
            raise ValueError(f"labels are {given}, must be {wanted}: one for each sample")
        low, high = torch.aminmax(labels)
        if of_classes and not 0 <= low <= high < condition.size:
            must = f"must be classes from 0 to {condition.size - 1}"
            raise ValueError(f"labels are from {low} to {high}, {must}")


def _spec(saved: Mapping[str, Any]) -> DataSpec:
    condition = saved["condition"]
    if condition is not None:
        kind, size, names = condition
        condition = Condition(kind, size, tuple(names))
    return DataSpec(tuple(saved["shape"]), condition)
