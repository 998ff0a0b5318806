"""Files that are whole or not there: written under a draft's name, then renamed into place."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".draft"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write in the block, which then becomes `path`; where the block raises, it is gone.

    Its name is its own, so that writers on several machines do not meet in it. What a killed writer
    left is removed by `remove_drafts`.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}{SUFFIX}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # a rename onto a link of the same file leaves both names


def keep(path: Path) -> None:
    """Have the disk keep a file as it is, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_drafts(folder: Path) -> None:
    """Remove what killed writers left in `folder`, of which the caller is the only one."""
    for draft in folder.glob(f".*{SUFFIX}"):
        draft.unlink(missing_ok=True)
