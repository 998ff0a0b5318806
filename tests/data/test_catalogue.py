"""Every name leads to a well-formed data set, and none of the folder's imports is a heavy one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from gansweep.data.base import Dataset
from gansweep.data.catalogue import DATASETS
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError, Problem

NAMES = [
    "digits",
    "fashion_mnist",
    "gaussian1d",
    "grid25",
    "hub",
    "image_folder",
    "mnist",
    "mnist5k",
    "npz",
    "ring8",
    "swiss_roll",
]


def test_names_are_pinned() -> None:
    assert DATASETS.names == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_a_final_data_set_whose_settings_are_explained(name: str) -> None:
    cls = DATASETS.load(name, at="data.name")
    assert issubclass(cls, Dataset)
    assert cls.__final__  # type: ignore[attr-defined]
    assert issubclass(cls.Settings, DataSettings)
    for field in dataclasses.fields(cls.Settings):
        assert field.metadata["help"], field.name
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls.Settings().batch_size = 3


def test_part_fills_settings_and_reports_all_mistakes() -> None:
    problems: list[Problem] = []
    part = DATASETS.part({"name": "mnist5k", "size": 32}, at="data", problems=problems)
    assert problems == []
    assert part is not None
    assert (part.settings.size, part.settings.batch_size) == (32, 64)

    bad = {"name": "mnist", "split": "validation", "size": 7, "sise": 28}
    assert DATASETS.part(bad, at="data", problems=problems) is None
    assert {p.where for p in problems} == {"data.path", "data.split", "data.size", "data.sise"}


@pytest.mark.parametrize("name", ["image_folder", "npz", "hub", "mnist", "fashion_mnist"])
def test_path_is_required(name: str) -> None:
    problems: list[Problem] = []
    assert DATASETS.part({"name": name}, at="data", problems=problems) is None
    assert [(p.where, p.what) for p in problems] == [("data.path", "is required")]


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mnist5k'"):
        DATASETS.load("mnist5", at="data.name")


def test_no_heavy_import() -> None:
    code = (
        "import importlib, pkgutil, sys, gansweep.data as d\n"
        "names = [m.name for m in pkgutil.iter_modules(d.__path__, 'gansweep.data.')]\n"
        "[importlib.import_module(n) for n in names]\n"
        "from gansweep.data.digits import Digits\n"
        "Digits(Digits.Settings()).load()\n"
        "heavy = {'ray', 'mlflow', 'lightning', 'pytorch_lightning', 'sklearn', 'mlxtend',"
        " 'datasets', 'pandas', 'scipy'}\n"
        "print(len(names), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, _, found = done.stdout.strip().partition(" ")
    assert int(count) >= 14
    assert found == "[]"
