"""Sole use of a folder, on a shared file system or in an object store: an owner whose heart beats.

The folder holds numbered owner files; the highest number owns it. Who finds that owner dead makes
the next number, which one of several can do. On the owner's own host its process tells whether it
lives; from elsewhere, or where another user's processes are hidden, whether its beat goes on. No
clock of another machine is asked, and who looks counts no time in which it could not look.

Nobody is kept from writing by force: an owner that was silent for too long learns at its next beat
that it is one no more, and what it wrote until then is there.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from gansweep.drafts import replacing
from gansweep.errors import ConfigError, is_full_disk

if TYPE_CHECKING:
    from gansweep.storage import Bucket

log = logging.getLogger("gansweep")

FOLDER: Final = ".owner"

BEAT_SECONDS = 5.0
"""Between two beats of an owner."""

SILENT_SECONDS = 30.0
"""An owner on another host without a beat for so long is dead."""

_TRIES = 100

_LOOK_SECONDS = 0.2
"""Between two tries of who waits for an owner that lives."""

_LOOKERS = 32


class _NotOursError(Exception):
    """Another one is the owner; `words` say who."""


class Files(Protocol):
    """Small files that all see who want the folder. Calls raise OSError where they fail."""

    def names(self) -> list[str]:
        """Of all of them."""

    def create(self, name: str, data: bytes) -> bool:
        """Make the file, if nobody was faster."""

    def read(self, name: str) -> bytes | None:
        """What it holds, whole; None where there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Replace it in one step."""

    def remove(self, name: str) -> None:
        """Remove it, where it is there."""


@contextmanager
def sole_use(
    folder: Path | Bucket, *, on_loss: Callable[[], None] | None = None, patience_s: float = 0.0
) -> Iterator[None]:
    """The sweep's folder for this process alone, until the end of the block.

    `on_loss` is called in another thread where somebody took it over, having found us dead: this
    process was stopped for longer than an owner may be silent, say. It has to end.
    `patience_s`: how long to wait for an owner that lives.

    Raises:
        ConfigError: another process has it, after waiting for a beat where it is of another host;
            or the folder cannot be written.
    """
    end = time.monotonic() + patience_s
    while True:
        owner = _owner(folder, on_loss)
        try:
            owner.acquire()
            break
        except _NotOursError as error:
            if time.monotonic() >= end:
                raise _refusal(folder, error) from None
        except OSError as error:
            if isinstance(folder, Path):
                raise cannot_be_written(folder, error) from None
            raise
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        owner.release()


def cannot_be_written(folder: Path, error: OSError) -> ConfigError:
    """What to say of a sweep's folder; a full disk is raised as it is: the same command goes on."""
    if is_full_disk(error):
        raise error
    what = f"cannot be written: {error.strerror or error}"
    return ConfigError.single(str(folder), what, "use another --dir")


def check_unowned(folders: Iterable[Path]) -> None:
    """Wait until it is known that none of the folders has an owner that lives.

    Raises:
        ConfigError: one has.
    """

    def look(folder: Path) -> None:
        owner = _owner(folder)
        try:
            owner.await_the_end()
        except _NotOursError as error:
            raise _refusal(folder, error) from None

    with ThreadPoolExecutor(_LOOKERS) as pool:  # those that are silent take their time
        list(pool.map(look, folders))


def may_be_owned(folder: Path | Bucket) -> bool:
    """Whether an owner has not released the folder, as far as can be told without waiting."""
    return _owner(folder).seems_to_live()


def _refusal(folder: Path | Bucket, error: _NotOursError) -> ConfigError:
    return ConfigError.single(
        str(folder),
        f"another gansweep drives this sweep: {error}",
        "wait for it, or use another --dir",
    )


def _owner(folder: Path | Bucket, on_loss: Callable[[], None] | None = None) -> _Owner:
    files = OnDisk(folder / FOLDER) if isinstance(folder, Path) else folder / FOLDER
    return _Owner(files, str(folder), on_loss)


@final
class OnDisk:
    """Files of a folder, which many hosts may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        return [path.name for path in self._folder.glob("*")]

    def create(self, name: str, data: bytes) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            descriptor = os.open(self._folder / name, flags, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        return True

    def read(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self._folder / name).read_bytes()
        return None

    def write(self, name: str, data: bytes) -> None:
        with replacing(self._folder / name) as draft:
            draft.write_bytes(data)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


@final
class _Owner:
    """One try to own a folder, and the life as its owner."""

    def __init__(self, files: Files, folder: str, on_loss: Callable[[], None] | None) -> None:
        self._files = files
        self._folder = folder
        self._on_loss = on_loss
        self._number = 0
        self._beats = 0
        self._own: Final = {**_this_process(), "life": uuid.uuid4().hex}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="owner", daemon=True)

    def acquire(self) -> None:
        """Raises _NotOursError, OSError."""
        for _ in range(_TRIES):
            newest = max(self._numbers(), default=0)
            if newest:
                self._await_the_end_of(newest)
            if self._make(newest + 1):
                if max(self._numbers()) == self._number:
                    break
                self._files.remove(_name(self._number))  # others had gone on meanwhile
        else:
            raise _NotOursError("too many want it at once")
        for number in self._numbers():
            if number < self._number:
                self._files.remove(_name(number))
        self._thread.start()

    def await_the_end(self) -> None:
        """Return when the present owner is known to be gone; _NotOursError where it lives."""
        if newest := max(self._numbers(), default=0):
            self._await_the_end_of(newest)

    def seems_to_live(self) -> bool:
        """Whether there is an owner, and no sign that it is gone."""
        found = self._read(max(self._numbers(), default=0))
        gone = found.get("host") == self._own["host"] and _dead(found)
        return bool(found) and not found.get("released") and not gone

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        with suppress(OSError):  # they find out by our silence
            if self._number == max(self._numbers(), default=0):
                self._write({**self._own, "released": True})

    def _numbers(self) -> list[int]:
        stems = [name.removesuffix(".json") for name in self._files.names()]
        return [int(stem) for stem in stems if stem.isdecimal()]

    def _make(self, number: int) -> bool:
        """The file `number`, if nobody was faster."""
        made = self._files.create(_name(number), _text({**self._own, "beat": 0}))
        self._number = number if made else self._number
        return made

    def _await_the_end_of(self, number: int) -> None:
        """Return when the owner `number` is known to be gone; _NotOursError where it lives."""
        first = self._read(number)
        silent_s, looked = 0.0, time.monotonic()
        while number in self._numbers():
            found = self._read(number)
            dead = _dead(found) if found.get("host") == self._own["host"] else None
            if found.get("released") or dead:
                return
            if dead is False:
                raise _NotOursError(f"process {found['pid']} on this machine")
            if found and first and found != first:
                raise _NotOursError(f"process {found.get('pid')} on {found.get('host')}")
            first = found or first
            now = time.monotonic()
            silent_s += min(now - looked, BEAT_SECONDS)  # what we ourselves stood still is no sign
            looked = now
            if silent_s > SILENT_SECONDS:
                log.warning(
                    "the owner of %s, process %s on %s, has been silent for %g s: taken over",
                    self._folder, first.get("pid"), first.get("host"), SILENT_SECONDS,
                )  # fmt: skip
                return
            time.sleep(min(1.0, BEAT_SECONDS / 5))

    def _read(self, number: int) -> dict[str, Any]:
        """What the file says; nothing where it is being made, or was removed."""
        try:
            tree = json.loads(self._files.read(_name(number)) or b"")
        except (OSError, ValueError):
            return {}
        return tree if isinstance(tree, dict) else {}

    def _write(self, tree: dict[str, Any]) -> None:
        self._files.write(_name(self._number), _text(tree))

    def _live(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self._beats += 1
            try:
                if max(self._numbers(), default=0) > self._number or not self._is_own():
                    break
                self._write({**self._own, "beat": self._beats})
            except OSError as error:
                log.warning("the owner of %s cannot say that it lives: %s", self._folder, error)
        else:
            return
        log.error("%s was taken over by another gansweep", self._folder)
        if self._on_loss:
            self._on_loss()

    def _is_own(self) -> bool:
        """Whether our number is ours: some stores let two make it, and keep the later one's."""
        return bool(self._read(self._number).get("life", self._own["life"]) == self._own["life"])


def _name(number: int) -> str:
    return f"{number}.json"


def _text(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree).encode()


def _this_process() -> dict[str, Any]:
    return {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


def _host() -> str:
    """Of this boot of this machine, or of this container."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")  # process ids mean something within one alone
        return f"{socket.gethostname()} {boot} {space}"
    return socket.gethostname()


def _started(process: int) -> str:
    """When it began, in ticks since the boot; "" where it has ended or the system does not tell.

    Process ids are used again: this tells two of them apart.
    """
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _dead(owner: dict[str, Any]) -> bool | None:
    """Whether the process of an owner on this host has ended; None where it cannot be told."""
    try:
        os.kill(owner["pid"], 0)
    except (ProcessLookupError, KeyError, TypeError):
        return True
    except PermissionError:  # another user's, whom /proc may not show (hidepid)
        if owner.get("started") and not os.access(f"/proc/{owner['pid']}/stat", os.R_OK):
            return None
    return _started(owner["pid"]) != owner.get("started")
