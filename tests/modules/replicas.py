"""Small trials over made-up images, to train alone or as replicas of a stack on the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gansweep.assembly import build_module
from gansweep.config import resolved
from gansweep.data.base import Samples
from gansweep.data.batch import Batch
from gansweep.data.stream import BatchOrder
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.stack import Stack
from gansweep.modules.stacked_step import StackedStep

BATCH = 6


def made_up(side: int) -> Samples:
    """30 images of 3 classes: a bright bar at a place of its own for each class, and noise."""
    rng = torch.Generator().manual_seed(4)
    x = torch.randint(0, 80, (30, 1, side, side), generator=rng)
    labels = torch.arange(30) % 3
    for image, label in zip(x, labels.tolist(), strict=True):
        image[:, :, label] += 160
    return Samples(x.to(torch.uint8), labels, ("left", "middle", "right"))


def tree(
    model: str, /, *, optimizer: Mapping[str, Any], ema: float = 0.9, **sections: Any
) -> dict[str, Any]:
    """A trial's settings: the variant's, on a small mlp; `sections` go over it, key by key."""
    base: dict[str, Any] = {
        "model": {"name": model},
        "network": {"name": "mlp", "width": 6, "depth": 2},
        "latent": {"dim": 3},
        "optimizer": dict(optimizer),
        "data": {"name": "digits", "batch_size": BATCH},
        "ema": {"decay": ema},
    }
    if model == "wgan":
        base["model"] |= {"n_critic": 2, "burst_first": 0, "burst_every": 0}
    if model in ("wgan_gp", "hinge"):
        base["model"] |= {"n_critic": 2}
    for name, section in sections.items():
        base[name] = section if "name" in section else {**base[name], **section}
    return base


class Trial:
    """A module with its own data order; images of 4x4, or 8x8 where the network wants more."""

    def __init__(self, settings: Mapping[str, Any], *, seed: int) -> None:
        config = resolved({**settings, "seed": seed})
        self.samples = made_up(8 if config.network.name == "dcgan" else 4)
        self.module: AlternatingModule = build_module(config, self.samples.spec)
        self.module.setup("fit")
        self.module.configure_optimizers()
        self.order = BatchOrder(len(self.samples), seed)
        self.size = config.data.settings.batch_size
        self.taken = 0

    def batch(self, d_steps: int | None = None) -> Batch:
        """The data of its next generator step, `d_steps` as the variant says where None."""
        k = d_steps or type(self.module).d_steps(self.module.settings, self.taken)
        self.taken += 1
        cpu = torch.device("cpu")
        return Batch.take(self.samples, self.order, steps=k, size=self.size, device=cpu)

    def skip(self, steps: int) -> Trial:
        """Its data from a later step on."""
        for _ in range(steps):
            self.batch()
        return self

    def alone(self, steps: int, d_steps: int | None = None) -> Trial:
        for _ in range(steps):
            self.module.training_step(self.batch(d_steps), self.module.g_step)
        return self


def trials(settings: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """One of each, seeded by its place."""
    return [Trial(one, seed=seed) for seed, one in enumerate(settings)]


def stacked(members: Mapping[int, Trial], *, slots: int, compile: bool = False) -> Stack:
    """A stack with the trials by slot."""
    example = next(iter(members.values())).module
    stack = Stack(StackedStep(example, compile=compile), example, slots=slots)
    for slot, trial in members.items():
        stack.put(slot, trial.module)
    return stack


def run(stack: Stack, members: Mapping[int, Trial], steps: int) -> None:
    for _ in range(steps):
        stack.step({slot: trial.batch() for slot, trial in members.items()})


def together(members: Sequence[Trial], steps: int) -> list[Trial]:
    """The trials trained in a stack of their number."""
    slots = dict(enumerate(members))
    run(stacked(slots, slots=len(members)), slots, steps)
    return list(members)


def leaves(state: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All that a training state holds, by path, but for BatchNorm's unused count of batches."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            if not str(key).endswith("num_batches_tracked"):
                yield from leaves(value, f"{name}/{key}")
    elif isinstance(state, (list, tuple)):
        for i, value in enumerate(state):
            yield from leaves(value, f"{name}/{i}")
    else:
        yield name, state


def assert_close(one: AlternatingModule, other: AlternatingModule, *, rel: float = 1e-9) -> int:
    """Equal training states: tensors to `rel` of their largest number, all else exactly.

    Returns how many tensors of floating-point numbers were compared.
    """
    expected, found = dict(leaves(one.training_state())), dict(leaves(other.training_state()))
    assert expected.keys() == found.keys()
    compared = 0
    for name, value in expected.items():
        if not torch.is_tensor(value):
            assert value == found[name], name
        elif name.endswith("/step"):
            assert value.item() == found[name].item(), name
        elif not value.is_floating_point():
            assert torch.equal(value, found[name]), name
        else:
            assert value.isfinite().all(), name
            assert (value.shape, value.dtype) == (found[name].shape, found[name].dtype), name
            off = (value - found[name]).abs().max().item()
            assert off <= rel * max(value.abs().max().item(), 1e-3), (name, off)
            compared += 1
    return compared


def identical(one: AlternatingModule, other: AlternatingModule) -> bool:
    """Equal training states, bit for bit."""
    expected, found = dict(leaves(one.training_state())), dict(leaves(other.training_state()))
    return expected.keys() == found.keys() and all(
        torch.equal(value, found[name]) if torch.is_tensor(value) else value == found[name]
        for name, value in expected.items()
    )
