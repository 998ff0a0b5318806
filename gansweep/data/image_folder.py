"""A folder of pictures, its subfolders the classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch

from gansweep.data.base import Dataset, Samples
from gansweep.data.fingerprint import fingerprint
from gansweep.data.pixels import Picture, decode_all
from gansweep.data.settings import DataSettings
from gansweep.errors import ConfigError
from gansweep.settings import REQUIRED, setting

SUFFIXES = frozenset(
    ".bmp .gif .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
"""Endings of the files that are taken for pictures, in lower case."""


@final
class ImageFolder(Dataset):
    """Every picture below `path`, in the order of their relative paths.

    x: uint8 [N, channels, size, size]; the shorter side is resized to `size` with PIL's Lanczos
    (antialiased), the centre is kept. Files of other endings, and names that begin with a dot, with
    `__MACOSX` or with `lost+found`, are passed over. Links are followed; a folder with two names is
    taken once, and of two classes it is a ConfigError, as are a broken link and a folder that
    cannot be read.

    Labels: where the pictures lie in first-level subfolders, those are the classes, in the order
    of their names (an empty one is none); deeper folders do not matter. Where all pictures lie
    directly in `path` there are no labels. Some here and some there is a ConfigError, since a
    stray file would silently cost all labels; `labels: ignore` takes them all without labels.
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
        if not found:
            raise ConfigError.single(
                str(folder),
                "holds no pictures",
                f"data.path must lead to files ending in {', '.join(sorted(SUFFIXES))}",
            )
        return folder, sorted(found, key=lambda file: file.relative_to(folder).parts)

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
                f"has {len(loose)} pictures beside its class folders, the first is {loose[0].name}",
                "move them into class folders, or set data.labels to ignore",
            )
        names = sorted({part[0] for part in parts})
        index = {name: i for i, name in enumerate(names)}
        return torch.tensor([index[part[0]] for part in parts]), tuple(names)


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX", "lost+found"))  # the last: on a volume, root's alone


def _refuse(error: OSError) -> None:
    raise ConfigError.single(
        str(error.filename),
        f"cannot be read: {error.strerror}",
        "make the folder readable, or take it out of data.path",
    ) from error
