"""Inception: what it is given, and what is said where it cannot be had.

Neither torch-fidelity nor its weights are here: a stand-in takes the network's place.
"""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.extractors.inception import WEIGHTS_VARIABLE, Inception

GREY = DataSpec((1, 8, 8))


class Network(nn.Module):
    """As torch-fidelity's: a tuple of what was asked for, of images of 8 bits."""

    def __init__(self, name, wanted, feature_extractor_weights_path=None):
        super().__init__()
        if feature_extractor_weights_path is None:
            raise OSError("no network here")
        assert (name, wanted) == ("inception-v3-compat", ["2048", "logits_unbiased"])
        self.register_buffer("weights", torch.load(feature_extractor_weights_path))

    def forward(self, x):
        assert x.dtype == torch.uint8
        assert x.shape[1:] == (3, 8, 8)
        self.seen = x
        features = x[:, 0].flatten(1).repeat(1, 32).float()
        return features, torch.zeros(len(x), 1008)


@pytest.fixture
def fidelity(monkeypatch, tmp_path):
    """torch-fidelity is there; a folder of torch's hub that is empty."""
    package, module = (types.ModuleType(name) for name in ("torch_fidelity", "f"))
    module.FeatureExtractorInceptionV3 = Network
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)


@pytest.mark.usefixtures("fidelity")
def test_images_become_rgb_of_8_bits(monkeypatch, tmp_path):
    torch.save(torch.arange(3.0), tmp_path / "weights.pth")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "weights.pth"))
    inception = Inception(GREY).tried()
    x = torch.tensor([-1.0, 0.0, 1.0, 1.5])[:, None, None, None].expand(4, 1, 8, 8)
    seen = inception(x)
    assert inception.net.seen[:, :, 0, 0].tolist() == [[0] * 3, [128] * 3, [255] * 3, [255] * 3]
    assert seen.features.shape == (4, 2048)
    torch.testing.assert_close(seen.probabilities, torch.full((4, 1008), 1 / 1008))
    assert len(inception.weights) == 12


@pytest.mark.usefixtures("fidelity")
def test_without_weights():
    with pytest.raises(ConfigError, match=r"no network here.*fetch https://.*GANSWEEP_INCEPTION"):
        Inception(GREY)


@pytest.mark.usefixtures("fidelity")
def test_weights_that_are_no_file(monkeypatch):
    monkeypatch.setenv(WEIGHTS_VARIABLE, "/no/such.pth")
    with pytest.raises(ConfigError, match=r"GANSWEEP_INCEPTION is /no/such\.pth, which is no file"):
        Inception(GREY)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match=r"needs the package torch-fidelity.*gansweep\[inception"):
        Inception(GREY)


@pytest.mark.parametrize("shape", [(2,), (4, 8, 8)])
def test_other_data_are_refused(shape):
    with pytest.raises(ConfigError, match="sees images of 1 or 3 channels"):
        Inception(DataSpec(shape))
