"""A folder of pictures, its subfolders the classes."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch

from gansweep.counting import counted
from gansweep.data.base import Dataset, Samples
from gansweep.data.fingerprint import fingerprint
from gansweep.data.pixels import Picture, decode_all
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError, Problem
from gansweep.notes import Note
from gansweep.settings import REQUIRED, setting

SUFFIXES = frozenset(
    ".bmp .gif .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
"""Endings of the files that are taken for pictures, in lower case."""

UNREAD = frozenset(
    ".arw .avif .cr2 .dng .heic .heif .jfif .jp2 .jpe .jxl .nef .psd .svg .tga".split()  # noqa: SIM905
)
"""Of pictures that are passed over."""

MOST_ENDINGS = 5
"""Of files that are no pictures, listed in an error or a note."""


@final
class ImageFolder(Dataset):
    """Every picture below `path`, in the order of their relative paths.

    x: uint8 [N, channels, size, size]; the shorter side is resized to `size` with PIL's Lanczos
    (antialiased), the centre is kept. Files of other endings, and names that begin with a dot, with
    `__MACOSX` or with `lost+found`, are passed over, with a Note where they are pictures. Links
    are followed; a folder with two names is taken once, and of two classes it is a ConfigError, as
    are a broken link and a folder that cannot be read.

    Labels: where the pictures lie in first-level subfolders, those are the classes, in the order
    of their names (an empty one is none, and one with other files alone a ConfigError); deeper
    folders do not matter. Where all pictures lie directly in `path` there are no labels. Some here
    and some there is a ConfigError, since a stray file would silently cost all labels;
    `labels: ignore` takes them all without labels.
    """

    @dataclass(frozen=True)
    class Settings(DataSettings):
        path: str = setting(REQUIRED, "folder of the pictures")
        size: int = setting(32, "side of the images in pixels", ge=8, le=128)
        channels: Literal[1, 3] = setting(3, "1: grey, 3: RGB")
        labels: Literal["folders", "ignore"] = setting(
            "folders", "folders: first-level subfolders are classes; ignore: no labels"
        )

    def load(self) -> Samples:
        """Decodes all pictures. Raises ConfigError that names the folder or each damaged file."""
        s: ImageFolder.Settings = self.settings
        folder, files = self._files()
        labels, names = self._labels(folder, files)
        pictures = (Picture(str(file), file) for file in files)
        x = decode_all(pictures, count=len(files), size=s.size, channels=s.channels)
        return Samples(torch.from_numpy(x), labels, names)

    def cache_key(self) -> str:
        """Paths, sizes and times of all pictures, and the settings."""
        folder, files = self._files()
        try:
            return fingerprint(self.settings, files)
        except OSError as error:
            raise ConfigError.single(
                str(error.filename or folder),
                f"cannot be read: {error.strerror}",
                "is it a broken link, or was it removed just now?",
            ) from error

    def _files(self) -> tuple[Path, list[Path]]:
        folder = Path(os.path.expanduser(self.settings.path))
        if not os.path.isdir(folder):  # Path's own may raise
            raise ConfigError.single(
                "data.path", f"{folder} is no folder", "give the folder of the pictures"
            )
        found: list[Path] = []
        others: list[Path] = []
        seen: dict[str, Path] = {}
        for at, subfolders, names in os.walk(folder, followlinks=True, onerror=_refuse):
            parent = Path(at)
            first = seen.setdefault(os.path.realpath(at), parent)
            if first is not parent:  # a link to a folder above would never end
                if self._class(folder, first) not in ("", self._class(folder, parent)):
                    raise ConfigError.single(
                        at,
                        f"is the folder {first} once more, which is of another class",
                        "remove one of the links, or set data.labels to ignore",
                    )
                subfolders.clear()
                continue
            subfolders[:] = sorted(name for name in subfolders if not _hidden(name))
            for file in (parent / name for name in names if not _hidden(name)):
                if file.suffix.lower() in SUFFIXES:
                    found.append(file)
                elif file.is_symlink() and not os.path.exists(file):
                    raise ConfigError.single(
                        str(file), "is a broken link, perhaps to a class", "mend or remove it"
                    )
                else:
                    others.append(file)
        self._check_others(folder, found, others)
        return folder, sorted(found, key=lambda file: file.relative_to(folder).parts)

    def _check_others(self, folder: Path, found: list[Path], others: list[Path]) -> None:
        """ConfigError where there are no pictures, or none in a class, beside the other files."""
        classes = {self._class(folder, file.parent) for file in found}
        lacking: dict[Path, list[Path]] = {} if found else {folder: others}
        for file in others if classes - {""} else ():
            name = self._class(folder, file.parent)
            if name and name not in classes:
                lacking.setdefault(folder / name, []).append(file)
        if lacking:
            remedy = f"convert them to one of {', '.join(sorted(SUFFIXES))}"
            if found:
                remedy += "; where it is no class, move it out of data.path"
            elif not others:
                remedy = "give the folder of the pictures"
            raise ConfigError(
                [Problem(str(at), _none_in(files), remedy) for at, files in lacking.items()]
            )
        pictures = sorted(file for file in others if file.suffix.lower() in UNREAD)
        if pictures:
            what = f"{counted(len(pictures), 'picture')} passed over ({_endings(pictures)})"
            remedy = "convert to PNG what is to be among the samples"
            warnings.warn(f"{folder}: {what}, as {pictures[0]}: {remedy}", Note, stacklevel=2)

    def _class(self, folder: Path, below: Path) -> str:
        """The name of the class that a folder is of; without labels, and of `folder` itself, ""."""
        parts = below.relative_to(folder).parts
        return parts[0] if parts and self.settings.labels == "folders" else ""

    def _labels(
        self, folder: Path, files: list[Path]
    ) -> tuple[torch.Tensor | None, tuple[str, ...]]:
        parts = [file.relative_to(folder).parts for file in files]
        loose = [file for file, part in zip(files, parts, strict=True) if len(part) == 1]
        if self.settings.labels == "ignore" or len(loose) == len(files):
            return None, ()
        if loose:
            raise ConfigError.single(
                str(folder),
                f"has {counted(len(loose), 'picture')} beside its class folders, as "
                f"{loose[0].name}",
                "move them into class folders, or set data.labels to ignore",
            )
        names = sorted({part[0] for part in parts})
        index = {name: i for i, name in enumerate(names)}
        return torch.tensor([index[part[0]] for part in parts]), tuple(names)


def _none_in(files: list[Path]) -> str:
    return "holds no pictures" + (f", but {_files_that_end(files)}" if files else "")


def _files_that_end(files: list[Path]) -> str:
    """`files that end in .avif, .txt or have no ending`."""
    endings = _endings(files)
    words = [f"end in {endings}"] if endings else []
    if not all(file.suffix for file in files):
        words.append("have no ending")
    return f"files that {' or '.join(words)}"


def _endings(files: list[Path]) -> str:
    return ", ".join(sorted({file.suffix.lower() for file in files} - {""})[:MOST_ENDINGS])


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX", "lost+found"))  # the last: on a volume, root's alone


def _refuse(error: OSError) -> None:
    raise ConfigError.single(
        str(error.filename),
        f"cannot be read: {error.strerror}",
        "make the folder readable, or take it out of data.path",
    ) from error
