"""Tables that fit the screen: what gives way first, to the character."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.text import Text

from gansweep.report.columns import Column, Fitted, first_of, middle


@pytest.mark.parametrize(
    ("width", "shown"),
    [(9, "abcdefghi"), (8, "abcd…ghi"), (7, "abc…ghi"), (4, "ab…i"), (2, "a…"), (1, "…")],
)
def test_middle(width: int, shown: str) -> None:
    assert middle("abcdefghi", width) == shown
    assert len(shown) == width


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (17, "abcd, efgh, ijklm"), (16, "abcd, efgh +1"), (13, "abcd, efgh +1"), (12, "abcd +2"),
        (7, "abcd +2"), (6, "a…d +2"), (4, "… +2"),
    ],
)  # fmt: skip
def test_first_of(width: int, shown: str) -> None:
    assert first_of("abcd, efgh, ijklm", width) == shown
    assert first_of("", width) == ""


def columns() -> list[Column]:
    names = ["clip=0.1 rmsprop lr=0.01 seed=0", "b"]
    return [
        Column("name", [Text(name) for name in names], least=12, elide=middle),
        Column("value", [Text("0.1234"), Text("-")], right=True),
        Column("bar", [ProgressBar(2, 1, width=8)] * 2, width=8, leaves=2),
        Column("left", [Text("1s"), Text("")], right=True, leaves=1),
    ]


def shown(width: int, *, terminal: bool = True, table: Fitted | None = None) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None,
        record=True, soft_wrap=not terminal,
    )  # fmt: skip
    console.print(table or Fitted(columns(), ["a note"]))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_on_a_wide_screen_all_is_there() -> None:
    for width in (31 + 6 + 8 + 4 + 3 * 2, 200):
        lines = shown(width)
        assert lines[0].split() == ["name", "value", "bar", "left"]
        assert lines[1].startswith("clip=0.1 rmsprop lr=0.01 seed=0  0.1234  ")
        assert lines[3:] == ["a note"]


def test_names_are_narrowed_before_a_column_goes() -> None:
    lines = shown(29 + 6 + 8 + 4 + 6)
    assert lines[0].split() == ["name", "value", "bar", "left"]
    assert lines[1].startswith("clip=0.1 rmspr…lr=0.01 seed=0  0.1234  ")
    assert shown(12 + 6 + 8 + 4 + 6)[0].split() == ["name", "value", "bar", "left"]


@pytest.mark.parametrize(
    ("width", "titles", "gone"),
    [
        (35, "name value bar", "left"), (30, "name value bar", "left"),
        (29, "name value", "bar, left"), (15, "name value", "bar, left"),
    ],
)  # fmt: skip
def test_columns_go_in_their_order_and_it_says_so(width: int, titles: str, gone: str) -> None:
    lines = shown(width)
    assert lines[0].split() == titles.split()
    assert " ".join(lines[4:]) == f"too narrow for: {gone}"
    assert max(map(len, lines)) <= width
    assert lines[1].split()[-1 if "bar" not in titles else -2] == "0.1234"  # no number is cut


def test_what_is_no_terminal_gets_all_of_it_in_a_line_each() -> None:
    assert shown(10, terminal=False) == shown(200)


def test_names_that_are_not_elided_go_on_below() -> None:
    names = [Text("clip=0.1 rmsprop lr=0.01")]
    lines = shown(20, table=Fitted([Column("n", names, least=8), Column("v", [Text("0.1234")])]))
    assert [line.split() for line in lines[1:]] == [
        ["clip=0.1", "0.1234"], ["rmsprop"], ["lr=0.01"],
    ]  # fmt: skip


def test_no_rows() -> None:
    assert shown(40, table=Fitted([Column("n", []), Column("v", [])])) == ["n  v"]
