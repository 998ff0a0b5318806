"""Columns of a table that fits the screen: names are elided, the least important columns go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

GAP = 2


def middle(text: str, width: int) -> str:
    """The text, with an ellipsis in its middle where it is longer than `width` characters."""
    if len(text) <= width:
        return text
    tail = max(0, width - 1) // 2
    return text[: max(0, width - 1 - tail)] + "…" + text[len(text) - tail :]


def first_of(text: str, width: int) -> str:
    """Of names parted by commas so many as fit, and how many more there are: `one, two +1`."""
    names = text.split(", ")
    for count in range(len(names), 0, -1):
        more = f" +{len(names) - count}" if count < len(names) else ""
        shown = ", ".join(names[:count]) + more
        if len(shown) <= width:
            return shown
    return middle(names[0], width - len(more)) + more


def texts(values: Iterable[object]) -> list[Text]:
    """Cells without a style."""
    return [Text(str(value)) for value in values]


@final
@dataclass(frozen=True)
class Column:
    """A column of a `Fitted` table, and how it gives way on a narrow screen.

    least: characters below which it is not narrowed while another column can go; None: it is never
    narrowed. elide: what then becomes of its cells, which are `Text`s; None: they go on in further
    lines. leaves: the column with the least number goes first; None: it stays. width: of cells that
    are no `Text`.
    """

    title: str
    cells: Sequence[RenderableType]
    right: bool = False
    style: str = ""
    least: int | None = None
    elide: Callable[[str, int], str] | None = None
    leaves: int | None = None
    width: int | None = None

    @property
    def natural(self) -> int:
        """Characters that it takes unless it has to be narrowed."""
        texts = [cell.cell_len for cell in self.cells if isinstance(cell, Text)]
        return self.width or max([len(self.title), *texts])

    @property
    def needs(self) -> int:
        return self.natural if self.least is None else min(self.least, self.natural)

    def cell(self, row: int, width: int) -> RenderableType:
        """The cell of `row` in `width` characters."""
        cell = self.cells[row]
        if self.elide is None or not isinstance(cell, Text) or cell.cell_len <= width:
            return cell
        return Text(self.elide(cell.plain, width), style=cell.style)


@final
@dataclass(frozen=True)
class Fitted:
    """A table as wide as the terminal at most; all of it where the output is none.

    It says which columns it leaves out. `notes` are lines below it.
    """

    columns: Sequence[Column]
    notes: Sequence[str] = ()

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        columns = list(self.columns)
        widths = [column.natural for column in columns]
        if console.is_terminal:
            columns = _kept(columns, options.max_width)
            widths = _widths(columns, options.max_width)
        total = _total(widths)
        table = Table(box=None, pad_edge=False, header_style="bold", width=total)
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                style=column.style,
                width=width,
                no_wrap=column.least is None or column.elide is not None,
                overflow="fold",
            )
        for row in range(max(len(column.cells) for column in columns)):
            table.add_row(
                *(column.cell(row, width) for column, width in zip(columns, widths, strict=True))
            )
        yield table
        for note in self.notes:
            yield Text(note)
        if gone := [column.title for column in self.columns if column not in columns]:
            yield Text(f"too narrow for: {', '.join(gone)}", style="dim")


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _kept(columns: list[Column], width: int) -> list[Column]:
    """The columns without those that have to go."""
    leaving = sorted(
        (column for column in columns if column.leaves is not None),
        key=lambda column: column.leaves or 0,
    )
    for gone in leaving:
        if _total([column.needs for column in columns]) <= width:
            break
        columns = [column for column in columns if column is not gone]
    return columns


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """What each takes: what is left beyond their needs goes to the first that wants it.

    Where there is not even enough for their needs, those that can be narrowed are, the first most.
    """
    widths = [column.needs for column in columns]
    for place, column in enumerate(columns):
        if column.least is not None:
            left = width - _total(widths)
            widths[place] = max(1, min(column.natural, widths[place] + left))
    return widths
