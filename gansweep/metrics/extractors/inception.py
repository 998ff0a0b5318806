"""Inception v3 as the FID has it, where torch-fidelity and its weights can be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.base import Extractor, Seen

WEIGHTS_VARIABLE = "GANSWEEP_INCEPTION"
FILE = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"


@final
class Inception(Extractor):
    """The TensorFlow network of 2015 as torch-fidelity has it: 2048 pooled features, 1008 classes.

    Images become 8-bit RGB (grey ones three equal channels), 299x299 by TensorFlow 1's bilinear
    resize. The weights are the file that GANSWEEP_INCEPTION names, else torch's own copy in its hub
    folder, else they are downloaded. Heusel et al. 2017, Salimans et al. 2016.
    """

    name = "inception"
    classes = 1008
    resize = "bilinear 299, TensorFlow 1"
    version = "1"

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        if not spec.is_image or spec.shape[0] not in (1, 3):
            raise _refusal(f"sees images of 1 or 3 channels, the data have shape {spec.shape}")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except Exception as error:  # a torchvision that does not fit torch raises RuntimeError
            raise _refusal(
                f"needs the package torch-fidelity: {type(error).__name__}: {error}",
                'pip install "gansweep[inception]" beside a torchvision that fits torch; '
                "fd/digits needs neither",
            ) from error
        self.net: Any = _load(FeatureExtractorInceptionV3)

    def forward(self, x: Tensor) -> Seen:
        pixels = x.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        features, logits = self.net(pixels.expand(-1, 3, -1, -1))
        return Seen(features.flatten(1).float(), logits.float().softmax(1))


def _load(network: Any) -> Any:
    given = os.environ.get(WEIGHTS_VARIABLE)
    if given and not Path(given).is_file():
        raise _refusal(f"{WEIGHTS_VARIABLE} is {given}, which is no file", f"fetch {URL}")
    kept = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    path = given or (str(kept) if kept.is_file() else None)
    wanted = ["2048", "logits_unbiased"]
    try:
        return network("inception-v3-compat", wanted, feature_extractor_weights_path=path)
    except Exception as error:  # the network, or a file that is something else
        raise _refusal(
            f"has no weights: {type(error).__name__}: {error}",
            f"fetch {URL} and name the file with {WEIGHTS_VARIABLE}; fd/digits needs none",
        ) from error


def _refusal(what: str, remedy: str = "name another extractor") -> ConfigError:
    return ConfigError.single("trial.score.names", f"the extractor inception {what}", remedy)
