"""scikit-learn's digits, against scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from gansweep.data.digits import Digits


def test_equals_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    expected = load_digits()
    samples = Digits(Digits.Settings()).load()
    assert samples.x.dtype == torch.uint8
    assert samples.x.shape == (1797, 1, 8, 8)
    np.testing.assert_allclose(samples.x[:, 0].numpy(), expected.images * 255 / 16, atol=0.501)
    assert (int(samples.x.min()), int(samples.x.max())) == (0, 255)
    assert samples.labels is not None
    np.testing.assert_array_equal(samples.labels.numpy(), expected.target)
    assert samples.class_names == tuple("0123456789")


def test_size_resizes() -> None:
    samples = Digits(Digits.Settings(size=16)).load()
    assert samples.x.shape == (1797, 1, 16, 16)
    original = Digits(Digits.Settings()).load().x.float()
    assert abs(samples.x.float().mean() - original.mean()) < 3
