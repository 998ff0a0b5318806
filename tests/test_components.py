"""Parts by name: short names, import paths, and what is wrong with them."""

from __future__ import annotations

import errno
import importlib
import sys
from pathlib import Path

import pytest

from gansweep.components import answering, own_source
from gansweep.data.catalogue import DATASETS
from gansweep.errors import ConfigError, OwnCodeError
from gansweep.metrics.catalogue import EXTRACTORS, SCORES
from gansweep.modules.catalogue import VARIANTS
from gansweep.networks.catalogue import ARCHITECTURES
from gansweep.optimizers import OPTIMIZERS, Adam, AdamSettings


def problem(catalogue, name):
    with pytest.raises(ConfigError) as caught:
        catalogue.load(name, at="here.name")
    (found,) = caught.value.problems
    assert found.where == "here.name"
    return found


def test_every_short_name_loads():
    ran = 0
    for catalogue in (VARIANTS, ARCHITECTURES, OPTIMIZERS, SCORES, EXTRACTORS):
        for name in catalogue.names:
            assert isinstance(catalogue.load(name, at=""), type)
            ran += 1
    assert ran == 11 + 5 + 4 + 18 + 3


@pytest.mark.parametrize("path", ["own_parts.Fragile", "own_parts:Fragile"])
def test_an_import_path(path):
    import own_parts

    assert ARCHITECTURES.load(path, at="") is own_parts.Fragile
    part = ARCHITECTURES.part({"name": path, "fail_at": 3}, at="network", problems=[])
    assert part.settings == own_parts.FragileSettings(fail_at=3)
    assert part.to_dict() == {"name": path, "fail_at": 3, "poison": False}


def test_a_misspelt_name():
    found = problem(OPTIMIZERS, "adan")
    assert found.what == "unknown optimizer 'adan'"
    assert found.remedy.startswith("did you mean 'adam'?")
    assert "adam, adamw, rmsprop, sgd, or an import path" in found.remedy
    assert problem(OPTIMIZERS, "zzzzzz").remedy.startswith("one of adam, adamw, rmsprop, sgd")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("no_such_module.Thing", "ModuleNotFoundError"),
        ("own_parts:Missing", "AttributeError"),
        ("own_parts:", "ModuleNotFoundError"),
        ("broken_part:Thing", "RuntimeError: no such accelerator"),
        (":Thing", "ValueError"),
        (".Thing", "ValueError"),
    ],
)
def test_what_cannot_be_imported(path, kind):
    found = problem(ARCHITECTURES, path)
    assert found.what.startswith(f"cannot import {path!r}: ")
    if path != "own_parts:":
        assert kind in found.what


def test_a_module_that_cannot_be_imported_is_told_with_its_line():
    """It is there: PYTHONPATH is no remedy."""
    assert problem(ARCHITECTURES, "broken_part:Thing").remedy.endswith("broken_part.py:3")
    for path in ("no_such_module.Thing", "own_parts:Missing"):
        assert problem(ARCHITECTURES, path).remedy == "is the module on PYTHONPATH?"


@pytest.mark.parametrize("own", ["statistics.py", "email/net.py", "random/__init__.py"])
def test_a_module_of_the_folder_that_python_has_too(monkeypatch, tmp_path, own):
    """Python's is found first."""
    monkeypatch.chdir(tmp_path)
    package = own.partition("/")[0].removesuffix(".py")
    module = importlib.import_module(package)
    inner = ".net" if own.endswith("net.py") else ""
    assert problem(ARCHITECTURES, f"{package}{inner}:Net").remedy == "is the module on PYTHONPATH?"
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).touch()
    remedy = (
        f"{module.__file__} is found before {own.partition('/')[0]} in this folder: rename that"
    )
    assert problem(ARCHITECTURES, f"{package}{inner}:Net").remedy == remedy
    assert problem(ARCHITECTURES, f"{package}:__doc__").remedy == remedy  # no class


def test_a_module_of_the_folder_that_is_the_one_found(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "found_here.py").write_text("Thing = 1")
    (tmp_path / "found_too").mkdir()
    (tmp_path / "found_too" / "part.py").write_text("Thing = 1")
    for path in ("found_here:Thing", "found_too.part:Thing"):
        assert problem(ARCHITECTURES, path).remedy == ""


def test_what_own_code_raises_is_a_mistake():
    """But what built-in code does is none, nor a full disk."""
    import own_parts

    def answer(cls, error):
        with answering(cls, at="here"):
            raise error

    own, full = own_parts.Attributes, OSError(errno.ENOSPC, "no space")
    with pytest.raises(OwnCodeError, match=r"^here: own_parts:Attributes raises KeyError: 'x' \("):
        answer(own, KeyError("x"))
    mistake = ConfigError.single("there", "is wrong")
    for cls, error in ((Adam, KeyError("x")), (own, full), (own, mistake)):
        with pytest.raises(type(error)) as caught:
            answer(cls, error)
        assert caught.value is error


def test_a_setting_must_not_be_called_name():
    """It would take the place of the part's own where settings are written down."""
    problems = []
    assert ARCHITECTURES.part({"name": "own_parts:Named"}, at="network", problems=problems) is None
    (found,) = problems
    assert found.where == "network.name"
    assert "have a field called name" in found.what


def test_what_is_no_part_of_this_kind():
    ran = 0
    for path in ("own_parts:NaNScore", "own_parts:torch", "math.pi", "gansweep.optimizers:SGD"):
        assert problem(ARCHITECTURES, path).what == (
            f"{path!r} is no subclass of gansweep.networks.base:Architecture"
        )
        ran += 1
    assert ran == 4


def test_a_part_without_settings():
    problems = []
    assert OPTIMIZERS.part({"name": "own_parts:Bare"}, at="o", problems=problems) is None
    assert str(problems[0]) == "o.name: 'own_parts:Bare' needs a dataclass called Settings"


@pytest.mark.parametrize(
    ("catalogue", "name", "what"),
    [
        (OPTIMIZERS, "Unfinished", "defines no momentum"),
        (SCORES, "Nameless", "defines no name"),
        (ARCHITECTURES, "Architecture", "defines no discriminator, generator"),
    ],
)
def test_a_class_that_is_not_finished(catalogue, name, what):
    path = f"own_parts:{name}"
    found = problem(catalogue, path)
    assert found.what == f"{path!r} {what}"
    assert "as every subclass of gansweep" in found.remedy


def test_settings_that_extend_no_others():
    problems = []
    assert DATASETS.part({"name": "own_parts:Batchless"}, at="d", problems=problems) is None
    assert str(problems[0]) == (
        "d.name: the Settings of 'own_parts:Batchless' have no batch_size (let them extend "
        "gansweep.data.settings:DataSettings)"
    )
    assert DATASETS.part({"name": "own_parts:Attributes"}, at="d", problems=problems[1:])


def test_a_part_without_a_name():
    ran = 0
    for values in ({}, {"lr": 0.1}, {"name": None}, {"name": 3}, {"name": ["adam"]}):
        problems = []
        assert OPTIMIZERS.part(values, at="o", problems=problems) is None
        assert [p.where for p in problems] == ["o.name"]
        assert problems[0].what == "is required"
        ran += 1
    assert ran == 5


def test_a_part():
    part = OPTIMIZERS.part({"name": "adam", "lr": 1e-3}, at="o", problems=[])
    assert (part.name, part.cls, part.settings) == ("adam", Adam, AdamSettings(lr=1e-3))
    again = OPTIMIZERS.part(part.to_dict(), at="o", problems=[])
    assert again == part


def test_own_code_is_named_by_what_it_draws_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "drawnlab"
    package.mkdir()
    contents = {
        "__init__": "",
        "nets": "import json\nfrom drawnlab.blocks import half\nclass Net: pass\n",
        "blocks": "from drawnlab import deep\ndef half(x): return deep.two(x)\n",
        "deep": "def two(x): return x / 2\n",
        "other": "one = 1\n",
    }
    monkeypatch.syspath_prepend(tmp_path)
    digests = {}
    for changed in (None, *contents):
        for name, content in contents.items():
            (package / f"{name}.py").write_text(content + "# new\n" * (name == changed))
        for name in [name for name in sys.modules if name.startswith("drawnlab")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        digests[changed] = own_source(importlib.import_module("drawnlab.nets").Net)
    assert len({digests[name] for name in (None, "nets", "blocks", "deep")}) == 4
    assert digests[None] == digests["__init__"] == digests["other"]
    assert own_source(Adam) == ""
    assert own_source(type("Cell", (), {"__module__": "no_module_of_a_notebook"})) == ""
