"""The lines of a spool: what each one holds, and how it is written and read."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from gansweep.tracking.base import RunStatus

FORMAT = 1
"""Version of the layout of a line."""

CHUNK_BYTES = 1024 * 1024


@final
@dataclass(frozen=True, slots=True)
class Metrics:
    """One call of `log_metrics`; `step` in g_steps."""

    values: Mapping[str, float]
    step: int
    milliseconds: int


@final
@dataclass(frozen=True, slots=True)
class Image:
    """One picture, uint8 [H, W, 3 or 1] in the NumPy file `file` beside the lines."""

    key: str
    file: str
    step: int
    milliseconds: int


@final
@dataclass(frozen=True, slots=True)
class Text:
    """A text artifact at the relative path `artifact`."""

    text: str
    artifact: str
    milliseconds: int


@final
@dataclass(frozen=True, slots=True)
class Tags:
    """Tags, as the trial named them."""

    tags: Mapping[str, str]
    milliseconds: int


@final
@dataclass(frozen=True, slots=True)
class End:
    """The run is over, unless more lines follow: then the trial went on."""

    status: RunStatus
    milliseconds: int


@final
@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is none of this version's."""

    line: str


Record = Metrics | Image | Text | Tags | End


def to_line(record: Record) -> bytes:
    """One JSON object and a line feed; a number that is not finite is a string."""
    head: dict[str, Any] = {"v": FORMAT, "t": record.milliseconds}
    match record:
        case Metrics(values, step):
            numbers = {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
            tree = {**head, "kind": "metrics", "step": step, "values": numbers}
        case Image(key, file, step):
            tree = {**head, "kind": "image", "step": step, "key": key, "file": file}
        case Text(text, artifact):
            tree = {**head, "kind": "text", "artifact": artifact, "text": text}
        case Tags(tags):
            tree = {**head, "kind": "tags", "tags": dict(tags)}
        case End(status):
            tree = {**head, "kind": "end", "status": status}
    return json.dumps(tree, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def from_line(line: bytes) -> Record | Unreadable:
    """What `to_line` wrote."""
    try:
        tree = json.loads(line)
        if tree["v"] != FORMAT:
            raise ValueError(f"format {tree['v']}, this version reads {FORMAT}")
        now = int(tree["t"])
        match tree["kind"]:
            case "metrics":
                values = {name: float(value) for name, value in tree["values"].items()}
                return Metrics(values, int(tree["step"]), now)
            case "image":
                return Image(tree["key"], tree["file"], int(tree["step"]), now)
            case "text":
                return Text(tree["text"], tree["artifact"], now)
            case "tags":
                return Tags(tree["tags"], now)
            case "end":
                return End(tree["status"], now)
        raise ValueError(f"unknown kind {tree['kind']!r}")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unreadable(line[:200].decode(errors="replace"))


def read_records(path: Path, offset: int) -> Iterator[tuple[Record | Unreadable, int]]:
    """About 1 MiB of the complete lines from byte `offset` on, each with the byte where it ends."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(CHUNK_BYTES) + file.readline()
    for line in io.BytesIO(data):
        if line.endswith(b"\n"):
            offset += len(line)
            yield from_line(line), offset


def count_records(path: Path, offset: int) -> int:
    """How many complete lines lie from byte `offset` on; 0 where there is no file."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
