"""Optimizers by name, with the settings that a sweep may vary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import nn

from gansweep.components import Catalogue
from gansweep.settings import setting
from gansweep.update_rules import AdamRule, RMSpropRule, SGDRule, UpdateRule


class OptimizerSpec(ABC):
    """Settings that make a torch optimizer."""

    Settings: ClassVar[type[Any]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def momentum(self) -> float:
        """The weight of past gradients in the direction of a step; 0 where there is none."""

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer over `parameters`."""

    @property
    def rule(self) -> UpdateRule | None:
        """The same step on the rows of a stacked pack; None: its trials train one by one.

        The rule's columns are the floating-point settings.
        """
        return None


@dataclass(frozen=True)
class SGDSettings:
    lr: float = setting(0.1, "learning rate", gt=0)
    momentum: float = setting(0.0, "momentum", ge=0, lt=1)
    weight_decay: float = setting(0.0, "L2 penalty", ge=0)


@final
class SGD(OptimizerSpec):
    """torch.optim.SGD."""

    Settings = SGDSettings

    @property
    def momentum(self) -> float:
        return float(self.settings.momentum)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        s: SGDSettings = self.settings
        return torch.optim.SGD(
            parameters, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay, foreach=True
        )

    @property
    def rule(self) -> UpdateRule:
        s: SGDSettings = self.settings
        return SGDRule(with_momentum=s.momentum > 0, with_decay=s.weight_decay > 0)


@dataclass(frozen=True)
class RMSpropSettings:
    lr: float = setting(5e-5, "learning rate; the default is WGAN's", gt=0)
    alpha: float = setting(0.99, "decay of the mean of squared gradients", ge=0, lt=1)
    eps: float = setting(1e-8, "added to the denominator", gt=0)
    momentum: float = setting(0.0, "momentum", ge=0, lt=1)
    weight_decay: float = setting(0.0, "L2 penalty", ge=0)


@final
class RMSprop(OptimizerSpec):
    """torch.optim.RMSprop."""

    Settings = RMSpropSettings

    @property
    def momentum(self) -> float:
        return float(self.settings.momentum)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        s: RMSpropSettings = self.settings
        return torch.optim.RMSprop(
            parameters,
            lr=s.lr,
            alpha=s.alpha,
            eps=s.eps,
            momentum=s.momentum,
            weight_decay=s.weight_decay,
            foreach=True,
        )

    @property
    def rule(self) -> UpdateRule:
        s: RMSpropSettings = self.settings
        return RMSpropRule(with_momentum=s.momentum > 0, with_decay=s.weight_decay > 0)


@dataclass(frozen=True)
class AdamSettings:
    lr: float = setting(2e-4, "learning rate; the default is DCGAN's", gt=0)
    beta1: float = setting(0.5, "decay of the mean gradient; the default is DCGAN's", ge=0, lt=1)
    beta2: float = setting(0.999, "decay of the mean of squared gradients", ge=0, lt=1)
    eps: float = setting(1e-8, "added to the denominator", gt=0)
    weight_decay: float = setting(0.0, "L2 penalty (adam) or decoupled decay (adamw)", ge=0)


class _AdamFamily(OptimizerSpec):
    Settings = AdamSettings
    _cls: ClassVar[type[torch.optim.Adam]]

    @property
    def momentum(self) -> float:
        return float(self.settings.beta1)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        s: AdamSettings = self.settings
        return self._cls(
            parameters,
            lr=s.lr,
            betas=(s.beta1, s.beta2),
            eps=s.eps,
            weight_decay=s.weight_decay,
            fused=True,
        )

    @property
    def rule(self) -> UpdateRule:
        decoupled = issubclass(self._cls, torch.optim.AdamW)
        return AdamRule(decoupled=decoupled, with_decay=self.settings.weight_decay > 0)


@final
class Adam(_AdamFamily):
    """torch.optim.Adam (Kingma & Ba 2015), fused."""

    _cls = torch.optim.Adam


@final
class AdamW(_AdamFamily):
    """torch.optim.AdamW (Loshchilov & Hutter 2019), fused."""

    _cls = torch.optim.AdamW


OPTIMIZERS: Catalogue[OptimizerSpec] = Catalogue(
    "optimizer",
    "gansweep.optimizers:OptimizerSpec",
    {
        name: f"gansweep.optimizers:{cls.__name__}"
        for name, cls in {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}.items()
    },
)
