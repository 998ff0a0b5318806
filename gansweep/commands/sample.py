"""`gansweep sample`: samples of a trained generator, as pictures or as an array."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from gansweep.commands.home import Home, find_home
from gansweep.commands.show import best_trial
from gansweep.counting import counted
from gansweep.drafts import replacing
from gansweep.errors import ConfigError, is_full_disk
from gansweep.generator import TrainedGenerator
from gansweep.images import to_uint8
from gansweep.storage import is_url
from gansweep.sweep.plan import alone, trial_folder
from gansweep.tracking.mlflow import MlflowStore, tracking_uri
from gansweep.trial_files import BEST, CHECKPOINT

SUFFIX = ".pt"
"""Of what is named as a checkpoint, and not as a sweep."""
MOST_KEYS = 8
"""Keys of trials that are listed, where several begin as a person wrote."""


def sample_command(
    what: str,
    *,
    out: Path,
    count: int,
    seed: int,
    label: int | None,
    trial: str | None,
    uri: str | None,
    root: Path | str,
) -> int:
    """Write `count` samples of the generator in a checkpoint, or in a sweep's best trial.

    out: a file .npz, whose array x is uint8 [N, H, W(, C)] of images and float32 [N, D] of vectors,
    with the labels y of a conditional one, or a folder of PNG files, one below per class. Nothing
    is written where ConfigError is raised.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if is_url(what):
        named = "is no name of a sweep, and no file here"
        remedy = "name the sweep, with --dir URL and --trial KEY"
        raise ConfigError.single(what, named, remedy)
    if what.endswith(SUFFIX):
        if trial is not None:
            of_one = f"{what} is a checkpoint, of one trial"
            raise ConfigError.single("--trial", of_one, "leave it out, or name the sweep")
        place, generator = what, TrainedGenerator.load(what, device=device)
    else:
        with _checkpoint(what, trial, uri=uri, root=root) as (place, path):
            generator = TrainedGenerator.load(path, device=device, place=place)
    as_array = out.suffix == ".npz"
    if not as_array and not generator.spec.is_image:
        raise ConfigError.single("--out", f"{out}: vectors are no pictures", "name a file .npz")
    labels = _labels(generator, count, label, place=place)
    if as_array and out.exists():
        raise ConfigError.single("--out", f"{out} is there already", "name another file")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        there = f"{out} is there already, and no empty folder"
        raise ConfigError.single("--out", there, "name another folder, or a file .npz")
    x = generator.sample(count, seed=seed, labels=labels)
    try:
        if as_array:
            _write_array(out, x, labels)
        else:
            _write_pictures(out, x, labels, generator)
    except OSError as error:
        if is_full_disk(error):
            raise
        raise ConfigError.single("--out", f"{out} cannot be written: {error.strerror}") from None
    Console(soft_wrap=True).print(
        f"{counted(count, 'sample')} of {place} after {counted(generator.g_step, 'g_step')}: {out}",
        markup=False,
    )
    return 0


@contextmanager
def _checkpoint(
    name: str, trial: str | None, *, uri: str | None, root: Path | str
) -> Iterator[tuple[str, Path]]:
    """Of a sweep's trial, the best one where none is named: its best step's, or else its last.

    Where it is for good, and a file to read.
    """
    home = find_home(root, name)
    home.check(write=False)
    if trial is None:
        store = MlflowStore(tracking_uri(uri))
        store.check()
        key = best_trial(store, name)
    else:
        key = _key(trial, home, name)
    for each in (BEST, CHECKPOINT):
        below = trial_folder(Path(), key) / each
        with home.as_it_is(below.as_posix()) as folder:
            if (folder / below).exists():
                yield f"{home.trial_place(key)}/{each}", folder / below
                return
    what = f"has neither {BEST} nor {CHECKPOINT}"
    remedy = f"`gansweep show {name} --json` has the keys"
    raise ConfigError.single(home.trial_place(key), what, remedy)


def _key(start: str, home: Home, name: str) -> str:
    """The one trial in `home` whose key begins so; rather the sweep's own than one alone."""
    keys = [key for key in home.trials() if key.startswith(start)]
    found = [key for key in keys if not key.endswith(alone(""))] or keys
    if len(found) == 1:
        return found[0]
    if not found:
        what = f"no trial in {home.trial_place('')} has a key that begins with {start!r}"
        raise ConfigError.single("--trial", what, f"`gansweep show {name} --json` has the keys")
    more = [f"{len(found) - MOST_KEYS} more"] if len(found) > MOST_KEYS else []
    which = ", ".join([*found[:MOST_KEYS], *more])
    raise ConfigError.single("--trial", f"{len(found)} keys begin with {start!r}", which)


def _labels(
    generator: TrainedGenerator, count: int, label: int | None, *, place: str
) -> Tensor | None:
    condition = generator.condition
    if condition is None:
        if label is not None:
            raise ConfigError.single("--label", "the generator is not conditional", "leave it out")
        return None
    if condition.kind != "class":
        what = f"its generator is conditioned on {counted(condition.size, 'number')}"
        remedy = "gansweep.generator.TrainedGenerator in Python takes them, as sample(labels=...)"
        raise ConfigError.single(place, what, remedy)
    if label is None:
        return generator.classes(count)
    if not 0 <= label < condition.size:
        raise ConfigError.single("--label", f"is {label}", f"0 to {condition.size - 1}")
    return torch.full((count,), label)


def _array(x: Tensor) -> np.ndarray:
    """Images as they lie in files, uint8 [N, H, W] or [N, H, W, 3]; vectors as they are."""
    if x.dim() == 2:
        return x.float().numpy()
    rows = to_uint8(x).permute(0, 2, 3, 1).numpy()
    return rows[..., 0] if rows.shape[3] == 1 else rows


def _write_array(path: Path, x: Tensor, labels: Tensor | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"x": _array(x), **({} if labels is None else {"y": labels.numpy()})}
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _write_pictures(
    folder: Path, x: Tensor, labels: Tensor | None, generator: TrainedGenerator
) -> None:
    """All or none of them: they are in their place once the last one is written."""
    condition = generator.condition
    names = _folder_names(condition.names, condition.size) if condition else []
    digits = len(str(len(x) - 1))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as draft:
        whole = Path(draft) / "whole"
        for i, pixels in enumerate(_array(x)):
            below = whole if labels is None else whole / names[int(labels[i])]
            below.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(below / f"{i:0{digits}}.png")
        whole.replace(folder)


def _folder_names(names: Sequence[str], size: int) -> list[str]:
    """Of each class its own name where it can be one of a folder, else its number.

    Where two would share a folder, by their numbers alone.
    """
    digits = len(str(size - 1))
    numbers = [f"{label:0{digits}}" for label in range(size)]
    padded = [*names, *[""] * (size - len(names))]
    found = [
        name if re.fullmatch(r"\w[\w .+-]{0,99}", name) else number
        for name, number in zip(padded, numbers, strict=True)
    ]
    distinct = len({name.casefold() for name in found}) == size
    return found if distinct else [f"class {number}" for number in numbers]
