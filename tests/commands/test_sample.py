"""`gansweep sample`: a trained generator's samples, as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweep_files import TEXT
from trees import small

from gansweep.commands.sample import _folder_names
from gansweep.generator import TrainedGenerator
from gansweep.images import to_uint8
from gansweep.storage import Bucket
from gansweep.tracking.memory import MemoryTracker
from gansweep.tracking.mlflow import MlflowStore
from gansweep.trial import run_trial
from gansweep.trial_files import CHECKPOINT

Gansweep = Callable[..., tuple[int, str, str]]


def trained(folder: Path, model: str, data: str) -> Path:
    config = small(model, "mlp", data, budget={"g_steps": 2}, score={"names": []})
    assert run_trial(config, MemoryTracker(), folder=folder).state == "completed"
    return folder / CHECKPOINT


def pictures(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_pictures(gansweep: Gansweep, tmp_path: Path) -> None:
    path = trained(tmp_path, "gan", "digits")
    out = tmp_path / "out"
    code, said, err = gansweep("sample", path, "--out", out, "--count", 12, "--seed", 3)
    assert (code, err) == (0, "")
    assert said == f"12 samples of {path} after 2 g_steps: {out}\n"
    assert pictures(out) == [f"{i:02}.png" for i in range(12)]
    expected = to_uint8(TrainedGenerator.load(path).sample(12, seed=3))[7, 0].numpy()
    assert np.array_equal(np.asarray(Image.open(out / "07.png")), expected)
    one = tmp_path / "one"
    said = gansweep("sample", path, "--out", one, "--count", 1)[1]
    assert said == f"1 sample of {path} after 2 g_steps: {one}\n"
    code, said, err = gansweep("sample", path, "--out", out)
    assert (code, said) == (2, "")
    assert "is there already, and no empty folder" in err
    assert len(pictures(out)) == 12


def test_pictures_by_class_and_of_one(gansweep: Gansweep, tmp_path: Path) -> None:
    path = trained(tmp_path, "cgan", "digits")
    assert gansweep("sample", path, "--out", tmp_path / "all", "--count", 20)[0] == 0
    folders = sorted(p.name for p in (tmp_path / "all").iterdir())
    assert len(folders) == 10
    assert all(len(pictures(tmp_path / "all" / name)) == 2 for name in folders)
    one = tmp_path / "one.npz"
    assert gansweep("sample", path, "--out", one, "--count", 5, "--label", 3)[0] == 0
    with np.load(one) as file:
        assert (file["x"].shape, file["x"].dtype) == ((5, 8, 8), np.uint8)
        assert file["y"].tolist() == [3] * 5
    code, _, err = gansweep("sample", path, "--out", one, "--label", 10)
    assert code == 2
    assert "--label: is 10 (0 to 9)" in err


def test_one_that_is_conditioned_on_numbers_is_of_python(
    gansweep: Gansweep, tmp_path: Path
) -> None:
    path = trained(tmp_path, "cgan", "own_parts:Attributes")
    for words in ((), ("--label", 1)):
        code, _, err = gansweep("sample", path, "--out", tmp_path / "x.npz", *words)
        assert code == 2
        assert f"  {path}: its generator is conditioned on 3 numbers" in err
        assert "--label" not in err


def test_names_of_classes_lead_nowhere_else() -> None:
    """They come with the data, and with a checkpoint, whoever wrote it."""
    names = ("T-shirt", "a b", "../up", "/root", ".", "", "a/b", "x" * 300)
    found = _folder_names(names, 9)
    assert found == ["T-shirt", "a b", "2", "3", "4", "5", "6", "7", "8"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("10", "2"), ["10", "2"]),
        (("1", "a/b", "2"), ["class 0", "class 1", "class 2"]),
        (("a", "a"), ["class 0", "class 1"]),
        (("Cat", "cat"), ["class 0", "class 1"]),
        ((), ["0", "1", "2"]),
        (("a/b", "cat"), ["00", "cat", *(f"{i:02}" for i in range(2, 11))]),
        (("a",) * 11, [f"class {i:02}" for i in range(11)]),
    ],
)
def test_no_two_classes_share_a_folder(names: tuple[str, ...], expected: list[str]) -> None:
    """A name may be the number of a class whose own cannot be a folder's. Numbers sort as such."""
    assert _folder_names(names, len(expected)) == expected


def test_pictures_are_all_there_or_none(
    gansweep: Gansweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained(tmp_path / "trial", "gan", "digits")
    save = Image.Image.save

    def refuse(image: Image.Image, to: Path, **options: object) -> None:
        if to.name == "5.png":
            raise OSError(5, "Input/output error")
        save(image, to, **options)

    monkeypatch.setattr(Image.Image, "save", refuse)
    out = tmp_path / "place" / "out"
    code, _, err = gansweep("sample", path, "--out", out, "--count", 9)
    assert (code, "cannot be written: Input/output error" in err) == (2, True)
    assert list(out.parent.iterdir()) == []


def test_vectors_are_an_array(gansweep: Gansweep, tmp_path: Path) -> None:
    path = trained(tmp_path, "gan", "ring8")
    out = tmp_path / "below" / "x.npz"
    assert gansweep("sample", path, "--out", out, "--count", 600)[0] == 0
    with np.load(out) as file:
        assert list(file) == ["x"]
        assert np.array_equal(file["x"], TrainedGenerator.load(path).sample(600).numpy())
    code, _, err = gansweep("sample", path, "--out", tmp_path / "folder")
    assert code == 2
    assert "vectors are no pictures (name a file .npz)" in err
    code, _, err = gansweep("sample", path, "--out", out, "--label", 1)
    assert "--label: the generator is not conditional" in err
    code, _, err = gansweep("sample", path, "--out", tmp_path / "y.npz", "--trial", "ab0")
    assert (code, f"--trial: {path} is a checkpoint, of one trial (leave it out" in err) == (
        2,
        True,
    )
    assert [p.name for p in out.parent.iterdir()] == ["x.npz"]


def test_of_a_sweep_its_best_trial(
    gansweep: Gansweep, tmp_path: Path, store: MlflowStore, work: Path
) -> None:
    """The best step's checkpoint where there is one, and any trial by its key."""
    (work / "file.yaml").write_text(TEXT)
    words = ("--tracking-uri", store.uri, "--dir", tmp_path / "runs")
    for clip in (0.01, 0.02):
        code, _, err = gansweep("train", "file.yaml", f"model.clip={clip}", *words)
        assert code == 0, err
    code, said, err = gansweep("sample", "small", "--out", tmp_path / "x.npz", *words)
    assert code == 0, err
    shown = gansweep("show", "small", "--tracking-uri", store.uri, "--json")[1]
    first = json.loads(shown)["trials"][0]["key"]
    trials = sorted(p.name for p in (tmp_path / "runs" / "small" / "trials").iterdir())
    assert len(trials) == 2
    assert [name for name in trials if f"/{name}/" in said] == [first]
    other = next(name for name in trials if name != first)
    out = tmp_path / "y.npz"
    code, said, _ = gansweep("sample", "small", "--out", out, "--trial", other, *words)
    assert (code, f"/{other}/" in said) == (0, True)
    before = out.read_bytes()
    code, _, err = gansweep("sample", "small", "--out", out, "--trial", other, *words)
    assert (code, f"--out: {out} is there already (name another file)" in err) == (2, True)
    assert out.read_bytes() == before
    code, _, err = gansweep("sample", "no", "--out", tmp_path / "z.npz", *words)
    assert (code, "no such sweep" in err) == (2, True)


def test_a_trial_is_named_by_the_start_of_its_key(gansweep: Gansweep, tmp_path: Path) -> None:
    """The sweep's own before the one that trained alone; of several all are named."""
    folder = tmp_path / "runs" / "small" / "trials"
    path = trained(folder / "ab0", "gan", "ring8")
    for name in ("ab0-alone", "ab1", "c0-alone"):
        (folder / name).mkdir()
        (folder / name / CHECKPOINT).write_bytes(path.read_bytes())
    (folder / "d0").mkdir()

    def sample(start: str) -> tuple[int, str]:
        out = tmp_path / f"{start}.npz"
        words = ("--dir", tmp_path / "runs", "--trial", start, "--count", 1)
        code, said, err = gansweep("sample", "small", "--out", out, *words)
        return code, said + err

    for start, key in {"ab0": "ab0", "ab0-": "ab0-alone", "ab1": "ab1", "c": "c0-alone"}.items():
        code, said = sample(start)
        assert (code, f"/{key}/{CHECKPOINT} " in said) == (0, True), start
    code, said = sample("ab")
    assert (code, "--trial: 2 keys begin with 'ab' (ab0, ab1)" in said) == (2, True)
    code, said = sample("none")
    assert (code, "has a key that begins with 'none' (`gansweep show small --json`" in said) == (
        2,
        True,
    )
    code, said = sample("d")
    assert (code, "has neither best.pt nor checkpoint.pt" in said) == (2, True)


def test_of_a_sweep_in_an_object_store(gansweep: Gansweep, tmp_path: Path, s3: str) -> None:
    """The samples of the object itself: of the best step, or else of the last."""
    last, best = (trained(tmp_path / name, "gan", "digits") for name in ("last", "best"))
    trial = Bucket(f"{s3}/lab/small/trials/1a2b")
    trial.write("checkpoint.pt", last.read_bytes())
    out = tmp_path / "x.npz"
    words = ("--dir", f"{s3}/lab", "--count", 3, "--out", out)
    for name, path in (("checkpoint.pt", last), ("best.pt", best)):
        trial.write(name, path.read_bytes())
        code, said, err = gansweep("sample", "small", "--trial", "1a", *words)
        assert (code, err) == (0, "")
        assert said == f"3 samples of {trial}/{name} after 2 g_steps: {out}\n"
        with np.load(out) as file:
            expected = to_uint8(TrainedGenerator.load(path).sample(3))[:, 0].numpy()
            assert np.array_equal(file["x"], expected)
        out.unlink()
    code, _, err = gansweep("sample", "small", "--trial", "none", *words)
    assert (code, out.exists()) == (2, False)
    assert f"no trial in {s3}/lab/small/trials has a key that begins with 'none'" in err
    trial.write("best.pt", b"x" * 100)
    code, said, err = gansweep("sample", "small", "--trial", "1a", *words)
    assert (code, said) == (2, "")
    (line,) = err.splitlines()[1:]
    assert line.startswith(f"  {s3}/lab/small/trials/1a2b/best.pt: is damaged: it is torn")
    assert "gansweep-" not in line, "a scratch folder that is gone by now"
    code, _, err = gansweep("sample", f"{trial}/best.pt", "--out", out)
    assert (code, "name the sweep, with --dir URL and --trial KEY" in err) == (2, True)
