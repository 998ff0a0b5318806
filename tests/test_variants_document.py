"""docs/VARIANTS.md names every variant, preset and, for each mistake, a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

from gansweep.modules.catalogue import VARIANTS
from gansweep.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "VARIANTS.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading, to the next one."""
    return TEXT.split(f"## {title}", 1)[1].split("\n## ", 1)[0]


def test_every_variant_has_a_row_with_its_presets() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.+)\|$", TEXT.split("\n## ", 1)[0], re.MULTILINE)
    assert sorted(name for name, _ in rows) == VARIANTS.names
    for name, row in rows:
        own = {preset for preset, p in PRESETS.items() if p.trial["model"]["name"] == name}
        assert set(re.findall(r"`(\w+/\w+)`", row)) == own


def test_every_preset_has_its_deviations() -> None:
    found = re.findall(r"`(\w+/\w+)`", "".join(re.findall(r"^\| .*? \|", section("Presets"), re.M)))
    assert sorted(found) == sorted(PRESETS)


def test_every_test_that_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", section("Mistakes"))
    assert len(named) >= 20
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), (path, test)
