"""`gansweep ui` in a real browser: the address that it prints, and what a person finds there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .conftest import free_port
from .story import LONGER, NAME, Story

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
LOADED = """([step, count]) => {
    const grids = [...document.images].filter(image => image.src.includes(`step%2B${step}%2B`));
    return grids.length === count && grids.every(image => image.complete && image.naturalWidth);
}"""
SLOW = 90_000  # ms; the first page compiles a lot of script on a busy machine


@contextlib.contextmanager
def served(story: Story, port: int) -> Iterator[str]:
    """The address that `gansweep ui` prints, while it serves."""
    ui = story.place.start(
        "ui", NAME, "--port", port, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert ui.stdout is not None
        said = ""
        for line in ui.stdout:
            said += line
            if found := re.match(r"compare (http\S+)", line):
                yield found[1]
                break
        else:
            raise AssertionError(f"no address, exit {ui.wait()}: {said}")
        ui.send_signal(signal.SIGINT)
        assert ui.wait(timeout=20) == 0
        assert story.place.left_after(10) == []
    finally:
        ui.kill()


def test_the_comparison_shows_names_curves_and_sample_grids(
    story: Story, chromium: str, tmp_path: Path
) -> None:
    from playwright.sync_api import sync_playwright

    shots = Path(os.environ.get("GANSWEEP_SCREENSHOTS", str(tmp_path)))
    shots.mkdir(parents=True, exist_ok=True)
    record = story.wider.record
    port = free_port()
    with served(story, port) as address, sync_playwright() as playwright:
        start = f"http://127.0.0.1:{port}/#/experiments/{record.experiment}/runs?"
        assert address.startswith(start)
        assert "compareRunsMode=CHART" in address
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address, timeout=SLOW)
        page.set_default_timeout(SLOW)
        for run in record.trials.values():
            page.get_by_text(run.name, exact=True).first.wait_for()
        page.locator(".js-plotly-plot").first.wait_for()
        page.screenshot(path=shots / "comparison.png")
        page.set_viewport_size({"width": 1600, "height": 9000})  # charts out of sight are not drawn
        text = page.inner_text("body")
        for group in ("loss", "d", "score", "time"):
            assert re.search(rf"^{group}\s+\(\d+\)", text, re.MULTILINE), f"{group}: {text}"
        slider = page.get_by_role("slider").first  # of the steps of the sample grids
        shown = page.locator("input[type=number]").first
        slider.focus()
        for _ in record.trials:  # it has as many marks, 20, 40, 50, 60, 80 and 100, and begins at 0
            slider.press("ArrowRight")
        assert shown.input_value() == str(LONGER)
        page.wait_for_function(LOADED, arg=[LONGER, len(record.trials)], timeout=SLOW)
        page.screenshot(path=shots / "comparison_long.png")
        assert errors == []
        browser.close()
