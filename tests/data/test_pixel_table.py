"""The quick csv reader against values written down, and against every kind of damage."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gansweep.data.pixel_table import packaged_file, read_pixel_table
from gansweep.errors import ConfigError


def table(folder: Path, text: str) -> Path:
    file = folder / "table.csv.gz"
    file.write_bytes(gzip.compress(text.encode()))
    return file


def test_values_of_one_two_and_three_digits(tmp_path: Path) -> None:
    pixels, labels = read_pixel_table(table(tmp_path, "0,7,42,255,3\n100,10,9,99,0\n"), side=2)
    assert pixels.tolist() == [[[[0, 7], [42, 255]]], [[[100, 10], [9, 99]]]]
    assert labels.tolist() == [3, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3,4\n",  # too few columns
        "1,2,3,4,5,6\n",
        "1,2,3,4,5",  # no line end: cut off
        "1,2,3,,5\n",
        "1,2,3,1000,5\n",
        "1,2,3,x,5\n",
        "1,2,-3,4\n",
        "1,2,3.5,4\n",
        "1\n2,3,4,5\n",
        "1,2,3,4,5\n1,2,3,4,5,6,7,8,9\n1\n",
    ],
)
def test_damage_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"table\.csv\.gz: is damaged"):
        read_pixel_table(table(tmp_path, text), side=2)


def test_damaged_packing_is_named(tmp_path: Path) -> None:
    file = table(tmp_path, "1,2,3,4,5\n" * 100)
    whole = file.read_bytes()
    for damaged in (whole[:-12], whole[:20], b"text", b""):
        file.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"table\.csv\.gz: is damaged"):
            read_pixel_table(file, side=2)


@pytest.mark.parametrize("package", ["no_such_package_here", "numpy"])
def test_missing_file_says_what_to_install(package: str) -> None:
    with pytest.raises(ConfigError, match=f"pip install --force-reinstall {package}"):
        packaged_file(package, "data/none.csv.gz")
