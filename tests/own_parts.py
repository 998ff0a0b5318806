"""Parts as a user writes them, named in tests by import path."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from gansweep.constraints import WeightClip
from gansweep.data.base import Dataset, Samples
from gansweep.data.settings import DataSettings
from gansweep.dataspec import Modes
from gansweep.diagnosis.rules.base import Rule
from gansweep.formulation import Formulation
from gansweep.metrics.base import Score
from gansweep.metrics.extractors.base import Extractor, Seen
from gansweep.modules.alternating import VariantSettings
from gansweep.modules.gan import GAN
from gansweep.networks.base import Architecture
from gansweep.networks.mlp import MLP, MLPSettings
from gansweep.objectives import NonSaturating
from gansweep.optimizers import OptimizerSpec
from gansweep.penalties import Penalty
from gansweep.settings import setting


@dataclass(frozen=True)
class FragileSettings:
    fail_at: int = setting(0, "forward passes of D until it raises; 0: at once", ge=0)
    poison: bool = setting(False, "give NaN instead of raising")


class Counted(nn.Module):
    def __init__(self, inner: nn.Module, settings: FragileSettings) -> None:
        super().__init__()
        self.inner, self.settings, self.calls = inner, settings, 0

    def forward(self, x, labels=None):
        if x.device.type != "meta":
            self.calls += 1
            if self.calls > self.settings.fail_at:
                if not self.settings.poison:
                    raise RuntimeError("the network broke\nin two lines")
                return self.inner(x, labels) * float("nan")
        return self.inner(x, labels)


class Small(Architecture):
    """MLPs of a layer of 8 units."""

    def generator(self, *, latent_dim, spec, condition):
        small = MLP(MLPSettings(width=8, depth=1))
        return small.generator(latent_dim=latent_dim, spec=spec, condition=condition)

    def discriminator(self, *, spec, condition):
        return MLP(MLPSettings(width=8, depth=1)).discriminator(spec=spec, condition=condition)


class Fragile(Small):
    """An MLP whose discriminator breaks after some forward passes."""

    Settings = FragileSettings

    def discriminator(self, *, spec, condition):
        inner = super().discriminator(spec=spec, condition=condition)
        return Counted(inner, self.settings)


@dataclass(frozen=True)
class RunningSettings:
    assigned: bool = setting(False, "whether the mean is replaced, not written to")


class Centred(nn.Module):
    """What comes in, about a mean of all that came, which no state_dict holds."""

    def __init__(self, inner: nn.Module, size: int, settings: RunningSettings) -> None:
        super().__init__()
        self.inner, self.settings = inner, settings
        self.register_buffer("mean", torch.zeros(size), persistent=False)

    def forward(self, x, labels=None):
        if self.training:
            mean = torch.lerp(self.mean, x.detach().flatten(1).mean(0), 0.1)
            if self.settings.assigned:
                self.mean = mean
            else:
                self.mean.copy_(mean)
        return self.inner(x - self.mean.view(x.shape[1:]), labels)


class Running(Small):
    """MLPs that centre what they are given."""

    Settings = RunningSettings

    def generator(self, *, latent_dim, spec, condition):
        inner = super().generator(latent_dim=latent_dim, spec=spec, condition=condition)
        return Centred(inner, latent_dim, self.settings)

    def discriminator(self, *, spec, condition):
        inner = super().discriminator(spec=spec, condition=condition)
        return Centred(inner, math.prod(spec.shape), self.settings)


class Sideways(nn.Module):
    """Pictures with rows and columns exchanged: they lie in memory otherwise than other tensors."""

    separable = True

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z, labels=None):
        return self.inner(z, labels).mT


@dataclass(frozen=True)
class NoSettings:
    pass


class Turned(Small):
    """MLPs whose generator is `Sideways`."""

    Settings = NoSettings

    def generator(self, *, latent_dim, spec, condition):
        inner = super().generator(latent_dim=latent_dim, spec=spec, condition=condition)
        return Sideways(inner)


@dataclass(frozen=True)
class HungrySettings:
    gpu: float = setting(2.0, "share of a GPU that Ray must have given it", ge=0)
    of_gpu: bool = setting(True, "whether it is a GPU's memory that it lacks")


class Hungry(Small):
    """An MLP whose discriminator runs out of memory where its worker has too little of a GPU."""

    Settings = HungrySettings

    def discriminator(self, *, spec, condition):
        inner = super().discriminator(spec=spec, condition=condition)
        return Starved(inner, self.settings)


class Starved(nn.Module):
    def __init__(self, inner: nn.Module, settings: HungrySettings) -> None:
        super().__init__()
        self.inner, self.settings = inner, settings

    def forward(self, x, labels=None):
        if x.device.type != "meta" and given_of_a_gpu() < self.settings.gpu:
            if self.settings.of_gpu:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            raise MemoryError("no more")
        return self.inner(x, labels)


def given_of_a_gpu() -> float:
    """By Ray, to this worker."""
    import ray

    if not ray.is_initialized():
        return 0.0
    return ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)


@dataclass(frozen=True)
class MortalSettings:
    at: int = setting(10, "generator steps after which the second process dies", ge=0)
    once: str = setting("", "file that is made then, and keeps another from it")


class Mortal(Small):
    """An MLP whose generator ends the second of several processes."""

    Settings = MortalSettings

    def generator(self, *, latent_dim, spec, condition):
        inner = super().generator(latent_dim=latent_dim, spec=spec, condition=condition)
        return Dying(inner, self.settings)


class Dying(nn.Module):
    def __init__(self, inner: nn.Module, settings: MortalSettings) -> None:
        super().__init__()
        self.inner, self.settings, self.steps = inner, settings, 0

    def forward(self, z, labels=None):
        self.steps += torch.is_grad_enabled() and z.device.type != "meta"
        second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        once = Path(self.settings.once) if self.settings.once else None
        if second and self.steps > self.settings.at and not (once and once.exists()):
            if once:
                once.touch()
            os._exit(9)
        return self.inner(z, labels)


class WrongShape(Architecture):
    """Its discriminator keeps a dimension too many."""

    Settings = FragileSettings

    def generator(self, *, latent_dim, spec, condition):
        return MLP(MLPSettings()).generator(latent_dim=latent_dim, spec=spec, condition=condition)

    def discriminator(self, *, spec, condition):
        class D(nn.Linear):
            def forward(self, x, labels=None):
                return super().forward(x.flatten(1))

        return D(spec.shape[0], 1)


class Narrow(Small):
    """Its discriminator is for fewer numbers than the data have."""

    Settings = MLPSettings

    def discriminator(self, *, spec, condition):
        class D(nn.Linear):
            def forward(self, x, labels=None):
                return super().forward(x.flatten(1))[:, 0]

        return D(3, 1)


@dataclass(frozen=True)
class OtherSettings:
    kind: str = setting("", "what is wrong with its discriminator")


class Other(Small):
    """Its discriminator is another thing than a module to train, or looks at values."""

    Settings = OtherSettings

    def discriminator(self, *, spec, condition):
        inner = super().discriminator(spec=spec, condition=condition)

        class Looking(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = inner

            def forward(self, x, labels=None):
                assert x.abs().max() <= 1
                return self.inner(x, labels)

        class Graphless(Looking):
            def forward(self, x, labels=None):
                with torch.no_grad():
                    return self.inner(x, labels)

        class Detaching(Looking):
            def forward(self, x, labels=None):
                return self.inner(x.detach(), labels)

        class Lazy(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.LazyLinear(1)

            def forward(self, x, labels=None):
                return self.layer(x.flatten(1)).squeeze(1)

        return {
            "function": lambda: lambda x, labels: x.flatten(1).sum(1),
            "detached": Detaching,
            "graphless": Graphless,
            "lazy": Lazy,
            "frozen": lambda: inner.requires_grad_(False),
            "nothing": lambda: None,
            "looks": Looking,
        }[self.settings.kind]()


class Named(Small):
    """A setting of it is called name."""

    @dataclass(frozen=True)
    class Settings:
        name: str = setting("x", "a name")


class WideEncoder(Architecture):
    """Its encoder gives a latent dimension too many."""

    Settings = MLPSettings

    def generator(self, *, latent_dim, spec, condition):
        return MLP(self.settings).generator(latent_dim=latent_dim, spec=spec, condition=condition)

    def discriminator(self, *, spec, condition):
        return MLP(self.settings).discriminator(spec=spec, condition=condition)

    def encoder(self, *, latent_dim, spec):
        return MLP(self.settings).encoder(latent_dim=latent_dim + 1, spec=spec)


class Attributes(Dataset):
    """Points in the plane with a condition vector of three numbers that decides where."""

    @dataclass(frozen=True)
    class Settings(DataSettings):
        n: int = setting(200, "points", ge=1)

    def load(self) -> Samples:
        generator = torch.Generator().manual_seed(0)
        y = torch.rand(self.settings.n, 3, generator=generator)
        return Samples(y[:, :2] * 2, y)


class Breaks(Dataset):
    """Raises where it is told to, or says that its modes have one coordinate."""

    @dataclass(frozen=True)
    class Settings(DataSettings):
        where: str = setting("", "what raises")

    def __init__(self, settings):
        super().__init__(settings)
        self._breaks("__init__")

    def _breaks(self, where):
        if self.settings.where == where:
            raise KeyError("image")

    def load(self) -> Samples:
        return Samples(torch.zeros(4, 2))

    @property
    def modes(self):
        self._breaks("modes")
        centre = (0.0,) if self.settings.where == "of another size" else (0.0, 0.0)
        return Modes((centre,), 1.0)

    @property
    def held_out(self):
        self._breaks("held_out")


class NaNScore(Score):
    """Never finite."""

    name = "never"

    def __call__(self, fake, real):
        return float("nan")


class BreaksOnce(Score):
    """Raises when it is asked for the second time."""

    name = "breaks"
    has_floor = False

    def __init__(self, subject, extractor):
        super().__init__(subject, extractor)
        self.calls = 0

    def __call__(self, fake, real):
        self.calls += 1
        if self.calls == 2:
            raise ArithmeticError("this score cannot be had")
        return 0.0


class Later(Score):
    """The later the better."""

    name = "later"
    mode = "max"
    has_floor = False

    def __init__(self, subject, extractor):
        super().__init__(subject, extractor)
        self.calls = 0

    def __call__(self, fake, real):
        self.calls += 1
        return self.calls


class Corner(Extractor):
    """Sees the first coordinate alone, and its sign as two classes."""

    name = "corner"
    classes = 2

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        return Seen(first, torch.cat([first > 0, first <= 0], 1).float())


@dataclass(frozen=True)
class DoomedSettings:
    below: float = setting(9.0, "separation from which on it does not hold", ge=0)


class Doomed(Rule):
    """Always holds, unless it is told otherwise."""

    name = "doomed"
    Settings = DoomedSettings

    def holds(self, reading):
        return "so it is" if reading["separation"] < self.settings.below else None


class Collapsed(Doomed):
    """It calls itself as another does."""

    name = "mode_collapse"


class Unruly(Doomed):
    """It lacks a file."""

    name = "unruly"

    def __init__(self, settings):
        raise KeyError("thresholds")


@dataclass(frozen=True)
class HeardSettings:
    of: str = setting("separation", "diagnostic that it reads")
    gives: str = setting("evidence", "evidence, or a truth value")


class Heard(Rule):
    """Reads one diagnostic of games whose loss saturates."""

    name = "heard"
    Settings = HeardSettings

    @classmethod
    def concerns(cls, objective):
        return objective.saturates

    def holds(self, reading):
        low = reading[self.settings.of] < 0.1
        return low if self.settings.gives != "evidence" else "it is low" if low else None


class Nameless(Score):
    """It forgot its name."""

    def __call__(self, fake, real):
        return 0.0


class Impostor(Score):
    """It calls itself as another does."""

    name = "swd"

    def __call__(self, fake, real):
        return 0.0


class Unspeakable(Score):
    """No store takes its name."""

    name = "how good?"

    def __call__(self, fake, real):
        return 0.0


class Nothing(Score):
    """It forgot to return."""

    name = "nothing"

    def __call__(self, fake, real):
        (fake.x.mean() - real.x.mean()).abs()


class Numbered(Score):
    """Its name is no word."""

    name = 3

    def __call__(self, fake, real):
        return 0.0


class Undecided(Score):
    """Neither "min" nor "max"."""

    name = "undecided"
    mode = "lower"

    def __call__(self, fake, real):
        return 0.0


class Unbuilt(Score):
    """It lacks a file."""

    name = "unbuilt"

    def __init__(self, subject, extractor):
        raise KeyError("weights")

    def __call__(self, fake, real):
        return 0.0


class Blind(Corner):
    """So does it."""

    name = "blind"

    def __init__(self, spec):
        raise KeyError("weights")


class OneNumber(Score):
    """A tensor, as torch gives them."""

    name = "one_number"

    def __call__(self, fake, real):
        return fake.x.mean()


class Unfinished(OptimizerSpec):
    """It does not say its momentum."""

    def build(self, parameters):
        return torch.optim.SGD(parameters, lr=0.1)


@dataclass(frozen=True)
class BuiltSettings:
    kind: str = setting("", "what build gives")


class Built(OptimizerSpec):
    """Builds what it is told to."""

    Settings = BuiltSettings
    momentum = 0.0

    def build(self, parameters):
        if self.settings.kind == "nothing":
            return None
        if self.settings.kind == "closure":
            return torch.optim.LBFGS(parameters)
        return torch.optim.SGD(parameters, lr=0.1, **{self.settings.kind: 0.5})


class Batchless(Dataset):
    """Its Settings extend no others."""

    @dataclass(frozen=True)
    class Settings:
        n: int = setting(200, "points", ge=1)

    def load(self) -> Samples:
        return Samples(torch.zeros(self.settings.n, 2))


@dataclass(frozen=True)
class GroupedSettings:
    lr: float = setting(1e-3, "rate of matrices", gt=0)
    bias_lr: float = setting(1e-2, "rate of all else", gt=0)


class Grouped(OptimizerSpec):
    """Biases learn at a rate of their own."""

    Settings = GroupedSettings
    momentum = 0.0

    def build(self, parameters):
        groups = {True: [], False: []}
        for parameter in parameters:
            groups[parameter.dim() > 1].append(parameter)
        rates = {True: self.settings.lr, False: self.settings.bias_lr}
        return torch.optim.SGD([{"params": groups[k], "lr": rates[k]} for k in groups], lr=1.0)


class Bare(OptimizerSpec):
    """It forgot its Settings."""

    momentum = 0.0

    def build(self, parameters):
        return torch.optim.SGD(parameters, lr=0.1)


class Unpublished(GAN.__bases__[0]):
    """A variant without published defaults."""

    Settings = GAN.Settings
    formulate = GAN.formulate


class Silent(GAN.__bases__[0]):
    Settings = GAN.Settings
    formulate = GAN.formulate


@dataclass(frozen=True)
class PlayedSettings(VariantSettings):
    kind: str = setting("", "what is wrong")


class Played(GAN.__bases__[0]):
    """A variant that goes wrong where it is told to."""

    Settings = PlayedSettings

    @classmethod
    def formulate(cls, settings):
        if settings.kind == "formulate":
            raise KeyError("margin")
        if settings.kind == "timing":
            return Formulation(NonSaturating(), constraint=WeightClip(0.1, timing="afterwards"))
        if settings.kind == "objective":
            return NonSaturating()
        if settings.kind in Heavy.GIVES:
            return Formulation(NonSaturating(), Heavy(settings.kind))
        wrong = settings.kind in ("loss", "float")
        return Formulation(Detached(settings.kind) if wrong else NonSaturating())

    @classmethod
    def d_steps(cls, settings, g_step):
        return 0 if settings.kind == "d_steps" and g_step > 0 else 1

    @classmethod
    def advice(cls, settings, *, optimizer, discriminator):
        return "do not" if settings.kind == "advice" else []


@dataclass(frozen=True)
class Detached(NonSaturating.__bases__[0]):
    """G's loss has no gradient, or is no tensor."""

    kind: str

    def generator(self, fake, real=None):
        loss = fake.detach().mean()
        return float(loss) if self.kind == "float" else loss


@dataclass(frozen=True)
class Heavy(Penalty):
    """D's mean square on real samples, or what is none, or from noise that is none."""

    GIVES: ClassVar = {
        "a penalty": lambda square: square.mean(),
        "a number": lambda square: 0.5,
        "a number a sample": lambda square: square,
        "no noise": lambda square: square.mean(),
        "noise of one step": lambda square: square.mean(),
    }

    kind: str

    def draw(self, steps, batch, *, shape, rng, device, dtype):
        if self.kind == "no noise":
            return None
        return torch.zeros(() if self.kind == "noise of one step" else (steps, batch))

    def __call__(self, D, real, fake, noise):
        return self.GIVES[self.kind](D(real).square())


class TwoTimescale(GAN.__bases__[0]):
    """A variant whose published defaults give the networks different optimizers."""

    Settings = GAN.Settings
    published = {  # noqa: RUF012
        "network": {"name": "mlp"},
        "optimizer": {"name": "adam", "lr": 1e-4, "discriminator": {"lr": 4e-4}},
    }
    formulate = GAN.formulate
