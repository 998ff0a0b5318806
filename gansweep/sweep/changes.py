"""What has changed in a plan since it was written whole: lines appended to a file beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from gansweep.drafts import replacing


def changes_file(plan: Path) -> Path:
    """The file of the changes of the plan at `plan`."""
    return plan.with_name(f"{plan.stem}.changes.jsonl")


@final
class Changes:
    """The changes of the plan at `plan`, as its one writer makes them.

    The first line names the writing of the plan that they follow. Where the plan is written anew,
    the file follows no writing that is there any more, and says nothing, until it is removed.
    """

    def __init__(self, plan: Path) -> None:
        self._path = changes_file(plan)
        self._descriptor: int | None = None
        self.bytes = 0
        """Written since the plan was."""

    def append(self, lines: bytes, *, follows: str) -> None:
        """Have the disk keep complete lines, each of them one change.

        Raises:
            OSError: it does not. The last line may be torn, so that nothing may follow it.
        """
        if self._descriptor is None:
            self._begin(follows)
        assert self._descriptor is not None
        _write_all(self._descriptor, lines)
        os.fsync(self._descriptor)
        self.bytes += len(lines)

    def forget(self) -> None:
        """The plan was written whole: what was appended is in it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self.bytes = 0
        self._path.unlink(missing_ok=True)

    def _begin(self, follows: str) -> None:
        """A file of the head alone, under another name first: a reader sees all of it or none."""
        with replacing(self._path) as draft:
            draft.write_bytes(json.dumps({"follows": follows}).encode() + b"\n")
            self._descriptor = os.open(draft, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def read_changes(plan: Path) -> tuple[str, Iterator[dict[str, Any]]]:
    """Which writing of the plan the changes follow, "" where there are none, and they in order.

    A last line without its end was torn, and does not count.

    Raises:
        OSError, ValueError: the file cannot be read; as late as the changes are asked for.
    """
    try:
        text = changes_file(plan).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "", iter(())
    head, *lines = text[: text.rfind("\n") + 1].splitlines() or ["{}"]
    return dict(json.loads(head)).get("follows", ""), (json.loads(line) for line in lines)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
