"""Plots: colours where they are expected."""

from __future__ import annotations

import torch

from gansweep.plots import FAKE_COLOUR, PLOTS, REAL_COLOUR, SIDE, histogram, scatter

WHITE = [255, 255, 255]
REAL = REAL_COLOUR.int().tolist()
FAKE = FAKE_COLOUR.int().tolist()


def colour(picture, row, column):
    return picture[:, row, column].tolist()


def test_scatter_puts_points_where_they_are():
    """The data span [0, 6]; a quarter more on each side makes [-1.5, 7.5] of 255 steps."""
    real = torch.tensor([[0.0, 0.0], [6.0, 6.0]])
    fake = torch.tensor([[3.0, 0.0], [100.0, 3.0], [float("nan"), 100.0]])
    picture = scatter(real, fake)
    assert picture.shape == (3, SIDE, SIDE)
    assert picture.dtype == torch.uint8

    def place(value):
        return round((value + 1.5) / 9 * 255)

    expected = {
        (255 - place(0), place(0)): REAL,
        (255 - place(6), place(6)): REAL,
        (255 - place(0), 128): FAKE,
        (128 - 1, 255): FAKE,  # beyond: on the border
        (0, 0): FAKE,  # not a number: at the lower end
    }
    for (row, column), wanted in expected.items():
        assert colour(picture, row, column) == wanted
    assert (picture != 255).any(0).sum() == len(expected) == 5
    for value, column in ((1e30, 255), (float("inf"), 255), (-1e30, 0), (-float("inf"), 0)):
        far = scatter(real, torch.tensor([[value, 3.0]]))
        assert colour(far, 128 - 1, column) == FAKE, value


def test_generated_points_lie_over_real_ones():
    real = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    picture = scatter(real, real[:1])
    reds = (picture == FAKE_COLOUR.view(3, 1, 1)).all(0)
    blues = (picture == REAL_COLOUR.view(3, 1, 1)).all(0)
    assert (reds.sum(), blues.sum()) == (1, 1)
    row, column = reds.nonzero()[0].tolist()
    assert row > 128 > column  # (0, 0) is lower left


def test_more_dimensions_show_the_first_two():
    assert set(PLOTS) == {1, 2}
    real, fake = torch.randn(20, 2), torch.randn(20, 2)
    wide = [torch.cat((x, torch.randn(20, 3)), 1) for x in (real, fake)]
    assert torch.equal(scatter(*wide), scatter(real, fake))


def test_histogram_of_two_spikes():
    """Real: all at 0 and 1; generated: all at 1, in the bin of its own, twice as high."""
    real, fake = torch.tensor([[0.0], [1.0]] * 50), torch.ones(100, 1)
    picture = histogram(real, fake)
    assert picture.shape == (3, SIDE, SIDE)
    # [-1/4, 5/4] in 64 bins of 4 pixels: 0 in bin 10, 1 in bin 53
    blue = (picture == REAL_COLOUR.view(3, 1, 1).to(torch.uint8)).all(0)
    red = (picture == FAKE_COLOUR.view(3, 1, 1).to(torch.uint8)).all(0)
    columns = blue.any(0).nonzero().flatten().tolist()
    assert columns == [*range(40, 44), *range(213, 216)]  # red climbs in 212
    half = round((SIDE - 8) / 2)
    assert blue[:, 40].sum() == half - 2  # the red line covers its foot, two rows thick
    assert colour(picture, SIDE - half, 41) == REAL
    assert colour(picture, SIDE - half - 1, 41) == WHITE
    top = SIDE - 1 - (SIDE - 8)
    assert red[top, 212:216].all()
    assert red[SIDE - 1, :212].all()
    assert not red[top, :212].any()


def test_the_histogram_counts_shares_not_points():
    real = torch.tensor([[0.0], [1.0]] * 50)
    assert torch.equal(histogram(real, torch.ones(1, 1)), histogram(real, torch.ones(999, 1)))


def test_hopeless_samples_still_make_a_picture():
    ran = 0
    real = torch.linspace(0, 1, 30)
    for value in (float("nan"), float("inf"), 1e30):
        assert histogram(real.view(-1, 1), torch.full((9, 1), value)).shape == (3, SIDE, SIDE)
        both = torch.stack((real, real), 1)
        assert scatter(both, torch.full((9, 2), value)).shape == (3, SIDE, SIDE)
        ran += 1
    assert ran == 3
    constant = torch.full((5, 1), 2.0)
    assert histogram(constant, constant).shape == (3, SIDE, SIDE)
