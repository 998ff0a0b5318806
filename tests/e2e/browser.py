"""A real browser on the comparison page of a sweep."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .record import Record

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
LOADED = """([step, count]) => {
    const grids = [...document.images].filter(image => image.src.includes(`step%2B${step}%2B`));
    return grids.length === count && grids.every(image => image.complete && image.naturalWidth);
}"""
SLOW = 90_000  # ms; the first page compiles a lot of script on a busy machine


FRAME = "new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn)))"
AT_ONCE, IN_A_ROW = 0.5, 3  # s and frames: charts that come into sight take a minute on a busy one


def settled(page: Any) -> None:
    """Wait until the page has drawn what is in sight: till then it hears no key and no click."""
    quick = 0
    while quick < IN_A_ROW:
        began = time.monotonic()
        page.evaluate(FRAME)
        quick = quick + 1 if time.monotonic() - began < AT_ONCE else 0


def screenshots(folder: Path) -> Path:
    """Where they go: to `folder`, unless a variable names another."""
    shots = Path(os.environ.get("GANSWEEP_SCREENSHOTS", str(folder)))
    shots.mkdir(parents=True, exist_ok=True)
    return shots


@contextlib.contextmanager
def comparison(chromium: str, address: str, record: Record) -> Iterator[Any]:
    """The page once it shows every trial's name and a chart; none of its scripts may fail."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address, timeout=SLOW)
        page.set_default_timeout(SLOW)
        for run in record.trials.values():
            page.get_by_text(run.name, exact=True).first.wait_for()
        page.locator(".js-plotly-plot").first.wait_for()
        yield page
        assert errors == []
        browser.close()
