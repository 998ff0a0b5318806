from __future__ import annotations

import pytest

from gansweep.counting import counted


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 trials"),
        (1, "1 trial"),
        (2, "2 trials"),
        (1_000_000, "1000000 trials"),
        (1.0, "1 trial"),
        (0.5, "0.5 trials"),
    ],
)
def test_one_of_them_has_no_plural(number: float, expected: str) -> None:
    assert counted(number, "trial") == expected
