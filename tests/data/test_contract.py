"""What a data set of a person's own must give."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gansweep.data.base import Dataset, Samples
from gansweep.data.contract import checked
from gansweep.data.prepare import prepare
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError

IMAGES = torch.zeros(4, 3, 5, 7)
POINTS = torch.zeros(4, 2)
CLASSES = torch.tensor([0, 1, 2, 0])


def holding(x: Tensor, value: float) -> Tensor:
    changed = x.clone()
    changed.view(-1)[1] = value
    return changed


GOOD: dict[str, tuple[Any, ...]] = {
    "bytes": (IMAGES.to(torch.uint8), CLASSES, ("a", "b", "c")),
    "float images": (holding(IMAGES, -1.0), CLASSES),
    "rounded": (holding(IMAGES, 1.0005),),
    "half": (IMAGES.half(),),
    "vectors beyond 1": (holding(POINTS.double(), 300.0), torch.rand(4, 6)),
    "more names": (POINTS, CLASSES, tuple("abcd")),
}
BAD: dict[str, tuple[tuple[Any, ...], str]] = {
    "numpy": ((POINTS.numpy(),), "x as ndarray"),
    "0..255": ((holding(IMAGES, 255.0),), "float images from 0 to 255 (scale them to [-1, 1]"),
    "below": ((holding(IMAGES, -1.01),), "float images from -1.01 to 0 (scale"),
    "whole numbers": ((IMAGES.long(),), "x as int64 [4, 3, 5, 7] (images are uint8"),
    "byte vectors": ((POINTS.to(torch.uint8),), "x as uint8 [4, 2] (images are uint8"),
    "channels last": ((IMAGES.permute(0, 2, 3, 1),), "x as float32 [4, 5, 7, 3] (images are [N, C"),
    "no channels": ((IMAGES[:, 0],), "x as float32 [4, 5, 7] (images are [N, C"),
    "empty": ((IMAGES[:0],), "x as float32 [0, 3, 5, 7] (there must be samples"),
    "nan": ((holding(POINTS, math.nan),), "x that are NaN or infinite"),
    "infinite": ((holding(IMAGES, math.inf),), "x that are NaN or infinite"),
    "int32": ((POINTS, CLASSES.int()), "labels as int32 [4] for 4 samples (classes are int64"),
    "floats [N]": ((POINTS, CLASSES.float()), "labels as float32 [4] for 4"),
    "classes [N, 1]": ((POINTS, CLASSES[:, None]), "labels as int64 [4, 1]"),
    "too few": ((POINTS, CLASSES[:3]), "labels as int64 [3] for 4 samples"),
    "of none": ((POINTS, torch.zeros(4, 0)), "labels as float32 [4, 0]"),
    "list": ((POINTS, [0, 1, 2, 0]), "labels as list"),
    "from -1": ((POINTS, CLASSES - 1), "classes from -1"),
    "nameless": ((POINTS, CLASSES, ("a", "b")), "classes up to 2, and 2 names"),
    "of no dimension": ((POINTS, torch.tensor(3)), "labels as int64 [] for 4 samples (classes"),
    "elsewhere": ((POINTS.to("meta"),), "x on meta (give it on the CPU"),
    "sparse": ((POINTS.to_sparse(),), "x as torch.sparse_coo (give it .to_dense"),
    "a network's": ((POINTS.clone().requires_grad_(),), "x with a gradient (give it without"),
    "labels of one": ((POINTS, POINTS.clone().requires_grad_()), "labels with a gradient"),
    "no names": ((POINTS, CLASSES, None), "class_names None (a tuple of strings"),
    "numbers for names": ((POINTS, CLASSES, (0, 1, 2)), "class_names (0, 1, 2) (a tuple"),
    "nan label": ((POINTS, holding(torch.zeros(4, 2), math.nan)), "labels that are NaN"),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_as_described_passes(case: str) -> None:
    samples = Samples(*GOOD[case])
    assert checked(samples, name="mine") is samples


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_is_told_with_a_remedy(case: str) -> None:
    parts, words = BAD[case]
    with pytest.raises(ConfigError) as caught:
        checked(Samples(*parts), name="mine:Own")
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"data.name: mine:Own gives {words}")
    assert problem.remedy


def test_a_list_of_names_becomes_a_tuple() -> None:
    """An extractor compares them with its own, which are one."""
    samples = checked(Samples(POINTS, CLASSES, list("abc")), name="mine")  # type: ignore[arg-type]
    assert samples.class_names == tuple("abc")
    assert samples.x is POINTS


class Own(Dataset):
    """Cached, where it is told so."""

    Settings = DataSettings
    key: str | None = None

    def cache_key(self) -> str | None:
        return self.key

    def load(self) -> Samples:
        return (POINTS, CLASSES)  # type: ignore[return-value]


@pytest.mark.parametrize("key", [None, "kept"])
def test_a_data_set_of_ones_own_is_checked_as_it_is_loaded(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Own, "key", key)
    with pytest.raises(ConfigError, match=r"test_contract:Own gives tuple \(load\(\) returns Sam"):
        prepare(Own(DataSettings()))


class Broken(Dataset):
    """Raises where it is told to."""

    where, key = "load", ""

    def _breaks(self, where: str) -> None:
        if where == self.where:
            raise KeyError("image")

    def cache_key(self) -> str | None:
        self._breaks("cache_key")
        return self.key or None

    def load(self) -> Samples:
        self._breaks("load")
        return Samples(POINTS)


@pytest.mark.parametrize(("where", "key"), [("load", ""), ("load", "kept"), ("cache_key", "")])
def test_what_a_data_set_of_ones_own_raises_is_told_with_its_place(
    where: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "where", where)
    monkeypatch.setattr(Broken, "key", key)
    with pytest.raises(ConfigError) as caught:
        prepare(Broken(DataSettings()))
    (problem,) = caught.value.problems
    assert problem.where == "data.name"
    assert problem.what.endswith("test_contract:Broken raises KeyError: 'image'")
    assert problem.remedy.startswith(f"in _breaks, {__file__}:")
    monkeypatch.setattr(Broken, "where", "nowhere")
    assert len(prepare(Broken(DataSettings()))) == 4


def test_a_cache_key_is_a_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "key", 3)
    with pytest.raises(ConfigError, match=r"test_contract:Own gives int as its cache_key \(a str"):
        prepare(Own(DataSettings()))
