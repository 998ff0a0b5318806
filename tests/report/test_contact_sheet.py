from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gansweep.report.contact_sheet import CAPTION, CELL, MARGIN, MOST, write_contact_sheet
from gansweep.report.ranking import PointResult
from gansweep.sweep.plan import Entry

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]

WRONG = ("clip_saturated", "mode_collapse", "no_progress")


def results(count: int, *, begun: bool = True, state: Any = "completed") -> list[PointResult]:
    return [
        PointResult(
            f"clip={i}",
            float(i),
            None,
            (Entry(f"k{i}", "n", {}, 0, 1, state=state, run_id=f"r{i}" if begun else ""),),
        )
        for i in range(count)
    ]


def colours(size: tuple[int, int] = (16, 16)) -> Callable[[str], Image.Image]:
    def picture(run_id: str) -> Image.Image:
        return Image.new("RGB", size, COLOURS[int(run_id[1:]) % len(COLOURS)])

    return picture


def corner(place: int, columns: int) -> tuple[int, int]:
    row, column = divmod(place, columns)
    return MARGIN + column * (CELL + MARGIN), MARGIN + row * (CELL + CAPTION + MARGIN)


def test_pictures_stand_in_the_order_of_the_ranking(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    assert write_contact_sheet(path, results(5), metric="m", picture=colours())
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (4 * (CELL + MARGIN) + MARGIN, 2 * (CELL + CAPTION + MARGIN) + MARGIN)
        checked = 0
        for place, colour in enumerate(COLOURS):
            left, top = corner(place, 4)
            for x, y in ((0, 0), (CELL - 1, 0), (0, CELL - 1), (CELL - 1, CELL - 1)):
                assert sheet.getpixel((left + x, top + y)) == colour
                checked += 1
            assert sheet.getpixel((left - 1, top)) == (255, 255, 255)
            assert sheet.getpixel((left, top - 1)) == (255, 255, 255)
            caption = sheet.crop((left, top + CELL, left + CELL, top + CELL + CAPTION))
            assert caption.convert("L").getextrema()[0] < 100  # something is written there
        left, top = corner(5, 4)  # an empty cell
        empty = sheet.crop((left, top, left + CELL, top + CELL))
        assert empty.getextrema() == ((255, 255),) * 3
    assert checked == 20
    assert os.listdir(path.parent) == ["sheet.png"]


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (8, 4, 2), (9, 6, 2)])
def test_layout(tmp_path: Path, count: int, columns: int, rows: int) -> None:
    path = tmp_path / "sheet.png"
    assert write_contact_sheet(path, results(count), metric="m", picture=colours())
    with Image.open(path) as sheet:
        width, height = CELL + MARGIN, CELL + CAPTION + MARGIN
        assert sheet.size == (columns * width + MARGIN, rows * height + MARGIN)


def test_no_more_than_fit(tmp_path: Path) -> None:
    asked = []

    def picture(run_id: str) -> Image.Image:
        asked.append(run_id)
        return Image.new("L", (4, 4))

    write_contact_sheet(tmp_path / "s.png", results(MOST + 3), metric="m", picture=picture)
    assert asked == [f"r{i}" for i in range(MOST)]  # the best


@pytest.mark.parametrize("size", [(40, 20), (1000, 500)])
def test_shape_is_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "s.png"
    assert write_contact_sheet(path, results(1), metric="m", picture=colours(size))
    with Image.open(path) as sheet:
        for y, colour in (
            (0, COLOURS[0]),
            (CELL // 2 - 2, COLOURS[0]),
            (CELL // 2 + 2, (255,) * 3),
        ):
            assert sheet.getpixel((MARGIN + CELL // 2, MARGIN + y)) == colour


def test_words_stay_below_their_own_picture(tmp_path: Path) -> None:
    """However long a name, and however much is wrong with a trial."""
    found = [
        replace(
            result,
            name="clip=0.1 " * 20,
            trials=(
                Entry("k", "n", {}, 0, 1, "completed", run_id=f"r{i}", diagnosis=", ".join(WRONG)),
            ),
        )
        for i, result in enumerate(results(2))
    ]
    path = tmp_path / "sheet.png"
    write_contact_sheet(path, found, metric="score/swd", picture=colours())
    left, top = corner(0, 2)
    beside = (left + CELL + 1, top + CELL + 1, left + CELL + MARGIN, top + CELL + CAPTION)
    with Image.open(path) as sheet:
        assert sheet.crop(beside).getcolors() == [
            (sheet.crop(beside).width * sheet.crop(beside).height, (255, 255, 255))
        ]


def test_points_without_pictures_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "s.png"
    second = colours()
    assert write_contact_sheet(
        path, results(2), metric="m", picture=lambda run: second(run) if run == "r1" else None
    )
    with Image.open(path) as sheet:
        assert sheet.size[0] == CELL + 2 * MARGIN
        assert sheet.getpixel((MARGIN, MARGIN)) == COLOURS[1]


def test_no_picture_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.png"
    assert not write_contact_sheet(path, results(3), metric="m", picture=lambda run: None)
    assert not write_contact_sheet(path, [], metric="m", picture=colours())
    assert os.listdir(tmp_path) == []


def test_trials_that_never_began_are_not_asked_for(tmp_path: Path) -> None:
    def picture(run_id: str) -> Image.Image:
        raise AssertionError(f"asked for {run_id!r}")

    waiting = results(2, begun=False, state="waiting")
    assert not write_contact_sheet(tmp_path / "s.png", waiting, metric="m", picture=picture)
