"""`gansweep ui` in a real browser: the address that it prints, and what a person finds there."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import LOADED, SLOW, comparison, screenshots, settled
from .conftest import free_port
from .story import LONGER, NAME, Story


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
        assert ui.wait(timeout=60) == 0
        assert story.place.left_after(10) == []
    finally:
        ui.kill()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_comparison_shows_names_curves_and_sample_grids(
    story: Story, chromium: str, tmp_path: Path
) -> None:
    shots, record = screenshots(tmp_path), story.wider.record
    port = free_port()
    with served(story, port) as address:
        start = f"http://127.0.0.1:{port}/#/experiments/{record.experiment}/runs?"
        assert address.startswith(start)
        assert "compareRunsMode=CHART" in address
        with comparison(chromium, address, record) as page:
            page.screenshot(path=shots / "comparison.png")
            sidebar = page.inner_text("nav")
            assert "Runs" in sidebar
            assert "Judges" not in sidebar
            # Charts out of sight are not drawn.
            page.set_viewport_size({"width": 1600, "height": 9000})
            settled(page)
            text = page.inner_text("body")
            for group in ("loss", "d", "score", "time"):
                assert re.search(rf"^{group}\s+\(\d+\)", text, re.MULTILINE), f"{group}: {text}"
            slider = page.get_by_role("slider").first  # of the steps of the sample grids
            shown = page.locator("input[type=number]").first
            slider.focus()
            # It has as many marks as there are trials, 20, 40, 50, 60, 80 and 100, and begins at 0.
            for _ in record.trials:
                slider.press("ArrowRight")
            assert shown.input_value() == str(LONGER)
            page.wait_for_function(LOADED, arg=[LONGER, len(record.trials)], timeout=SLOW)
            page.screenshot(path=shots / "comparison_long.png")
