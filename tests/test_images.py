"""Pictures: rounding, and where every pixel of a grid lies."""

from __future__ import annotations

import pytest
import torch

from gansweep.data.base import to_float
from gansweep.images import tile, to_uint8


def test_rounding():
    x = torch.tensor([-1.0, 1.0, 0.0, -2.0, 7.0, -1 + 1.4 / 127.5, -1 + 1.6 / 127.5])
    assert to_uint8(x).tolist() == [0, 255, 128, 0, 255, 1, 2]
    assert to_uint8(x).dtype == torch.uint8
    broken = torch.tensor([float("nan"), float("inf"), float("-inf")])
    assert to_uint8(broken).tolist() == [0, 255, 0]


def test_every_level_survives_the_way_there_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(levels)), levels)


def test_the_argument_is_left_alone():
    x = torch.tensor([[[[-3.0, 3.0]]]])
    tile(x, columns=1)
    assert x.flatten().tolist() == [-3.0, 3.0]


def level(value: int) -> float:
    return value / 127.5 - 1


def test_the_layout_pixel_by_pixel():
    """Three images of 1 x 2 pixels in two columns; the fourth cell is dark."""
    images = torch.tensor([[10, 11], [20, 21], [30, 31]]).float() / 127.5 - 1
    sheet = tile(images.view(3, 1, 1, 2), columns=2)
    assert sheet.tolist() == [
        [
            [0, 0, 0, 0, 0, 0, 0],
            [0, 10, 11, 0, 20, 21, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 30, 31, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    ]
    assert sheet.is_contiguous()


def test_colour_channels_stay_in_place():
    images = torch.full((4, 3, 2, 2), -1.0)
    images[2, 1] = 1.0
    sheet = tile(images, columns=2)
    assert sheet.shape == (3, 7, 7)
    expected = torch.zeros(3, 7, 7, dtype=torch.uint8)
    expected[1, 4:6, 1:3] = 255  # the third image: second row, first column
    assert torch.equal(sheet, expected)


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (6, 3, 2), (7, 3, 3), (2, 5, 1)])
def test_sizes(n, columns, rows):
    assert tile(torch.zeros(n, 1, 4, 6), columns=columns).shape == (
        1,
        rows * 5 + 1,
        columns * 7 + 1,
    )
