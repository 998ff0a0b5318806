"""A user's own parts, as they would lie in a project beside the sweep file; copied for the tests.

LAB names a folder through which the tests and the workers' processes see each other.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gansweep.metrics.base import Score, Subject
from gansweep.metrics.extractors.base import Extractor
from gansweep.metrics.features import Features
from gansweep.networks.base import Architecture

LAB = Path(os.environ.get("LAB", "."))
BROKEN_AT = 13  # g_steps; a test mends it


class Meeting(Score):
    """How many processes have been training at once: each waits here for a second one."""

    name = "met"
    mode = "max"
    has_floor = False

    def __call__(self, fake: Features, real: Features) -> float:
        room = LAB / "met"
        room.mkdir(exist_ok=True)
        (room / str(os.getpid())).touch()
        end = time.monotonic() + 90
        while len(list(room.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        return float(len(list(room.iterdir())))


class Gate(Score):
    """Takes its time while the file `hold` is there, so that a test can interrupt the trial.

    Of as many seconds as the file says, else of 1.5.
    """

    name = "gate"
    has_floor = False

    def __init__(self, subject: Subject, extractor: Extractor) -> None:
        super().__init__(subject, extractor)
        self.calls = 0

    def __call__(self, fake: Features, real: Features) -> float:
        self.calls += 1
        if (LAB / "hold").exists():
            (LAB / f"held.{os.getpid()}.{self.calls}").touch()
            time.sleep(float((LAB / "hold").read_text() or 1.5))
        return 0.0


@dataclass(frozen=True)
class NetSettings:
    mode: Literal["good", "raises", "dies", "nan"] = "good"
    level: float = 0.0


class Net(Architecture):
    """Linear networks; `level` shifts what G paints, `mode` says how D behaves."""

    Settings = NetSettings

    def generator(self, *, latent_dim, spec, condition):  # type: ignore[no-untyped-def]
        return Generator(latent_dim, spec.shape, self.settings.level)

    def discriminator(self, *, spec, condition):  # type: ignore[no-untyped-def]
        return Discriminator(spec.shape, self.settings.mode)


class Generator(nn.Module):
    def __init__(self, latent_dim: int, shape: tuple[int, ...], level: float) -> None:
        super().__init__()
        self.level = level
        self.body = nn.Sequential(
            nn.Linear(latent_dim, torch.Size(shape).numel()), nn.Unflatten(1, shape)
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return (self.body(z).tanh() * 0.1 + self.level).clamp(-1, 1)


class Discriminator(nn.Module):
    def __init__(self, shape: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.body = nn.Linear(torch.Size(shape).numel(), 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        logits: Tensor = self.body(x.flatten(1)).squeeze(1)
        if x.device.type == "meta":
            return logits
        self.seen += 1
        step = int(self.seen) / CALLS_PER_G_STEP
        if self.mode == "raises" and step > BROKEN_AT:
            raise RuntimeError("broken on purpose")
        if self.mode == "dies" and step > BROKEN_AT:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory is short
        if self.mode == "nan" and step > 5:
            return logits * float("nan")
        return logits


CALLS_PER_G_STEP = 3  # D on real ones, on fakes, and for G
