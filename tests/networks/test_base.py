"""Which data an architecture for images refuses, and in what words."""

import pytest

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.networks.base import require_image


def test_square_images_within_the_sides_pass():
    passed = 0
    for side in (8, 9, 128):
        require_image(DataSpec((3, side, side)), name="dcgan", sides=(8, 128))
        passed += 1
    assert passed == 3


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2,), "dcgan needs images, the data are vectors of 2"),
        ((1, 8, 16), "square images of 8 to 128 pixels, got 8x16"),
        ((1, 7, 7), "got 7x7"),
        ((1, 129, 129), "got 129x129"),
    ],
)
def test_others_are_refused_with_key_and_remedy(shape, words):
    with pytest.raises(ConfigError) as raised:
        require_image(DataSpec(shape), name="dcgan", sides=(8, 128))
    (problem,) = raised.value.problems
    assert problem.where == "network.name"
    assert words in problem.what
    assert "mlp" in problem.remedy
