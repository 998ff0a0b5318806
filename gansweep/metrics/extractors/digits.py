"""A small classifier of handwritten digits, shipped with its weights."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.base import Extractor, Seen

WEIGHTS = Path(__file__).with_name("digits.safetensors")
SHAPE = (1, 28, 28)
FEATURES = 64
AT_ONCE = 100
"""Samples in one pass: what lies between the layers then stays in the processor's cache."""


class LeNet(nn.Module):
    """Two 5x5 convolutions with max pooling and one hidden layer, as LeNet-5 (LeCun et al. 1998).

    With ReLU and twice its widths: 46,730 weights. x [B, 1, 28, 28] in [-1, 1], digits bright ->
    features [B, 64], the hidden layer after its ReLU, and logits [B, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.hidden = nn.Linear(32 * 4 * 4, FEATURES)
        self.out = nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = nn.functional.max_pool2d(self.conv1(x), 2).relu()
        x = nn.functional.max_pool2d(self.conv2(x), 2).relu()
        features = self.hidden(x.flatten(1)).relu()
        return features, self.out(features)


@final
class Digits(Extractor):
    """28x28 grey images, digits bright on dark as in MNIST -> 64 features, 10 classes.

    Trained by `tools/train_digits_extractor.py` on MNIST's 60,000 training images; 99.42 % of the
    10,000 test images are classified rightly, as the file's header says.
    """

    name = "digits"
    classes = 10
    class_names = tuple("0123456789")
    version = "1"

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        if spec.shape != SHAPE:
            raise ConfigError.single(
                "trial.score.names",
                f"the extractor digits sees images of shape {SHAPE}, the data have {spec.shape}",
                "score grey 28x28 images, or name an extractor of your own",
            )
        from safetensors.torch import load_file  # not needed by those who score without it

        self.net = LeNet()
        self.net.load_state_dict(load_file(WEIGHTS))
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Seen:
        features, logits = zip(*(self.net(part) for part in torch.split(x, AT_ONCE)), strict=True)
        return Seen(torch.cat(features), torch.cat(logits).softmax(1))
