"""A tiny game in float64 to try the variants on, with spies on everything that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from gansweep.latent import Latent
from gansweep.modules.alternating import AlternatingModule
from gansweep.modules.catalogue import VARIANTS
from gansweep.networks.encoding import EncodingGenerator
from gansweep.optimizers import OptimizerSpec, SGDSettings

LATENT, FEATURES, CLASSES, BATCH = 3, 2, 4, 5


class Net(nn.Module):
    """tanh network of the input and, where given, of the one-hot label; notes its inputs."""

    def __init__(self, inputs: int, outputs: int, *, classes: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs + classes, 4)
        self.last = nn.Linear(4, outputs)
        self.classes, self.outputs = classes, outputs
        self.seen: list[tuple[Tensor, Tensor | None, bool]] = []

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        if not torch._C._functorch.is_gradtrackingtensor(x):
            self.seen.append((x.detach().clone(), labels, x.requires_grad))
        if self.classes:
            one_hot = torch.nn.functional.one_hot(labels, self.classes).to(x.dtype)
            x = torch.cat((x, one_hot), 1)
        y = self.last(torch.tanh(self.first(x)))
        return y if self.outputs > 1 else y.squeeze(1)


def nets(
    *, classes: int = 0, seed: int = 0, pac: int = 1, encoder: bool = False
) -> tuple[nn.Module, Net]:
    """G and D, which judges `pac` samples together; with an encoder, pairs of them with z."""
    torch.manual_seed(seed)
    G: nn.Module = Net(LATENT, FEATURES, classes=classes)
    D = Net(pac * (FEATURES + LATENT * encoder), 1, classes=classes)
    for parameter in D.parameters():
        parameter.data.mul_(2)
    if encoder:
        inner = G
        G = EncodingGenerator(inner, Net(FEATURES, LATENT))
        G.seen = inner.seen
    return G.double(), D.double()


def nets_for(name: str, **shape: int) -> tuple[nn.Module, Net]:
    """Networks for the variant `name`."""
    return nets(encoder=VARIANTS.load(name, at="").encodes, **shape)


@dataclass
class Log:
    """What happened, in order: ("d" or "g", weights of both after it, gradients of both)."""

    events: list[str] = field(default_factory=list)
    weights: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)
    gradients: list[tuple[list[Tensor | None], list[Tensor | None]]] = field(default_factory=list)


class Spy(OptimizerSpec):
    """SGD that writes each step into a log."""

    Settings = SGDSettings

    def __init__(self, name: str, lr: float, log: Log, pair: tuple[nn.Module, nn.Module]) -> None:
        super().__init__(SGDSettings(lr=lr))
        self.name, self.log, self.pair = name, log, pair

    @property
    def momentum(self) -> float:
        return 0.0

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=self.settings.lr)

        def note(*_: Any) -> None:
            self.log.events.append(self.name)
            self.log.gradients.append(
                tuple(
                    [None if p.grad is None else p.grad.clone() for p in net.parameters()]
                    for net in self.pair
                )
            )
            self.log.weights.append(
                tuple([p.detach().clone() for p in net.parameters()] for net in self.pair)
            )

        optimizer.register_step_post_hook(note)
        return optimizer


class PlainBatch:
    """What a loader yields, from tensors: x [k, B, ...] and y [k, B]."""

    def __init__(self, x: Tensor, y: Tensor | None) -> None:
        self.x, self.y = x, y
        self.steps, self.size = x.shape[:2]
        self.shape = tuple(x.shape[2:])

    def real(self, step: int) -> Tensor:
        return self.x[step]

    def labels(self, step: int) -> Tensor | None:
        return None if self.y is None else self.y[step]


def batches(steps: Sequence[int], *, seed: int = 9, size: int = BATCH) -> list[PlainBatch]:
    rng = torch.Generator().manual_seed(seed)
    made = []
    for k in steps:
        x = torch.randn(k, size, FEATURES, generator=rng, dtype=torch.float64) + 1.5
        made.append(PlainBatch(x, torch.randint(CLASSES, (k, size), generator=rng)))
    return made


def make(
    name: str,
    pair: tuple[nn.Module, nn.Module],
    *,
    log: Log | None = None,
    lr: tuple[float, float] = (0.05, 0.07),
    seed: int = 1,
    **settings: Any,
) -> AlternatingModule:
    cls = VARIANTS.load(name, at="")
    G, D = pair
    log = log or Log()
    return cls(
        cls.Settings(**settings),
        generator=G,
        discriminator=D,
        optimizers=(Spy("d", lr[0], log, pair), Spy("g", lr[1], log, pair)),
        latent=Latent(LATENT, "normal"),
        seed=seed,
    )


class FixedLoader:
    """Not a list, so that Lightning leaves the batches as they are."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Any:
        return iter(self.items)


def fit(module: AlternatingModule, data: Sequence[Any], *, precision: Any = "64-true") -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_dataloaders=FixedLoader(data))
