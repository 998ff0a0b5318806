from __future__ import annotations

import pytest

from gansweep.excerpt import beginning, ending

TEXT = "one two three four"


@pytest.mark.parametrize(
    ("characters", "first", "last"),
    [
        (99, TEXT, TEXT),
        (18, TEXT, TEXT),
        (17, "one two three ...", "... three four"),
        (16, "one two ...", "... three four"),
        (14, "one two ...", "... three four"),
        (13, "one two ...", "... four"),
        (11, "one two ...", "... four"),
        (10, "one ...", "... four"),
        (8, "one ...", "... four"),
        (7, "one ...", "... our"),
        (6, "on ...", "... ur"),
    ],
)
def test_a_text_is_cut_between_words(characters: int, first: str, last: str) -> None:
    assert beginning(TEXT, characters) == first
    assert ending(TEXT, characters) == last
    assert max(len(first), len(last)) <= characters


def test_a_long_word_is_cut_all_the_same() -> None:
    assert beginning("x" * 20, 10) == "xxxxxx ..."
    assert ending("x" * 20, 10) == "... xxxxxx"
