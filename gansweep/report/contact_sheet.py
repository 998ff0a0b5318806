"""Contact sheet: the last sample grids of a sweep's points side by side, the best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from gansweep.report.ranking import PointResult
from gansweep.report.table import format_mean

CELL = 232
"""Pixels of a picture's side on the sheet."""
MARGIN = 12
CAPTION = 40
MOST = 48
"""Points on a sheet; the rest are left out, the worst first."""


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_contact_sheet(
    path: Path,
    results: Sequence[PointResult],
    *,
    metric: str,
    picture: Callable[[str], Image.Image | None],
) -> bool:
    """Write the sheet as a PNG file; False, and no file, where no trial has a picture.

    `picture` gives the last sample grid of a run by its id. A point shows its first seed's.
    """
    cells = []
    for place, result in enumerate(results[:MOST], start=1):
        run_id = getattr(result.trials[0], "run_id", "")
        grid = picture(run_id) if run_id else None  # a trial that never began has no run
        if grid is not None:
            cells.append((place, result, grid))
    if not cells:
        return False
    columns = min(len(cells), 6 if len(cells) > 8 else 4)
    rows = -(-len(cells) // columns)
    width, height = CELL + MARGIN, CELL + CAPTION + MARGIN
    sheet = Image.new("RGB", (columns * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for index, (place, result, grid) in enumerate(cells):
        left = MARGIN + index % columns * width
        top = MARGIN + index // columns * height
        sheet.paste(_fitted(grid.convert("RGB")), (left, top))
        words = [state for state in result.states if state != "completed"]
        state = "".join(f"  {word}" for word in (*words, *result.diagnoses))
        title = _clipped(f"{place}. {result.name}", draw, font)
        draw.text((left, top + CELL + 3), title, fill="black", font=font)
        caption = _clipped(f"{metric} {format_mean(result.mean, result.error)}{state}", draw, font)
        draw.text((left, top + CELL + 19), caption, fill="#555555", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    sheet.save(temporary, format="PNG", compress_level=3)  # smaller than 9 makes it, and faster
    temporary.replace(path)
    return True


def _clipped(text: str, draw: ImageDraw.ImageDraw, font: Font) -> str:
    """The text, its end replaced by an ellipsis where it is wider than a cell."""
    if draw.textlength(text, font=font) <= CELL:
        return text
    while text and draw.textlength(text + "…", font=font) > CELL:
        text = text[:-1]
    return text + "…"


def _fitted(grid: Image.Image) -> Image.Image:
    """The grid scaled to fit a cell, on white: enlarged by nearest pixels, reduced smoothly."""
    scale = CELL / max(grid.size)
    size = (max(1, round(grid.width * scale)), max(1, round(grid.height * scale)))
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    cell = Image.new("RGB", (CELL, CELL), "white")
    cell.paste(grid.resize(size, method), (0, 0))
    return cell
