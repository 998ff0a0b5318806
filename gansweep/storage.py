"""Object stores: a folder at a URL, of which a node keeps a scratch copy while it is in use.

The store is the truth. An object comes whole or not at all and replaces the one of its name in one
step, which is what S3 and GCS promise of every upload; nothing is renamed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, final

from gansweep.drafts import replacing
from gansweep.errors import ConfigError
from gansweep.excerpt import beginning
from gansweep.redaction import redact

log = logging.getLogger("gansweep")

INTERVAL_SECONDS = 1.0
"""Between two looks whether a folder has news for its store."""

PATIENCE_SECONDS = 60.0
"""How long what has to be in the store, or to come from it, is tried again."""

RETRY_SECONDS = 1.0

TRANSFERS = 8
"""Objects that are fetched at a time."""


@final
@dataclass(frozen=True)
class Kind:
    """A kind of store: fsspec's module for it, gansweep's extra with it, and what lets one in."""

    module: str
    extra: str
    keys: str


KINDS: Final = {
    "s3": Kind(
        "s3fs",
        "s3",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws or the machine's role; "
        "AWS_ENDPOINT_URL where it is not AWS",
    ),
    "gs": Kind("gcsfs", "gcs", "GOOGLE_APPLICATION_CREDENTIALS or the machine's service account"),
}

CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION",
    "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
)  # fmt: skip
"""Variables that let one in and mean the same on every node."""


class StorageError(OSError):
    """The store is away, or refuses."""


@final
class MissingError(StorageError, FileNotFoundError):
    """There is no such bucket, or no such object."""


@final
class ForbiddenError(StorageError, PermissionError):
    """We may not."""


def is_url(place: object) -> bool:
    """Whether a folder is named that lies in an object store."""
    return "://" in str(place)


def check_url(url: str) -> None:
    """ConfigError where no store can be meant; nobody is asked."""
    scheme, _, path = url.partition("://")
    if scheme not in KINDS:
        known = ", ".join(f"{each}://BUCKET/FOLDER" for each in KINDS)
        raise ConfigError.single(url, f"{scheme}:// is not known", f"{known}, or a folder")
    if not path.strip("/"):
        raise ConfigError.single(url, "names no bucket", f"{scheme}://BUCKET/FOLDER")
    if "@" in path or "?" in path or "#" in path:
        raise ConfigError.single(url, "has more than bucket and folder", KINDS[scheme].keys)


def scratch(url: str) -> Path:
    """This node's folder for the copy of the folder `url`: one of the user's own.

    Below $GANSWEEP_SCRATCH, else below the folder of temporary files.
    """
    chosen = os.environ.get("GANSWEEP_SCRATCH")
    root = Path(chosen).expanduser() if chosen else Path(tempfile.gettempdir())
    root /= f"gansweep-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise ConfigError.single(str(root), "is another's", "GANSWEEP_SCRATCH=a folder of yours")
    bucket = PurePosixPath(url.partition("://")[2])
    return root / hashlib.sha256(url.encode()).hexdigest()[:12] / bucket.name


@final
class Bucket:
    """The objects below `url`, by their names relative to it.

    Every call raises StorageError where the store is away or refuses.

    Raises:
        ConfigError: no such kind of store, or its extra is not installed.
    """

    def __init__(self, url: str) -> None:
        check_url(url)
        self.url: Final = url.rstrip("/")
        self._kind: Final = KINDS[url.partition("://")[0]]
        if importlib.util.find_spec(self._kind.module) is None:
            extra = self._kind.extra
            raise ConfigError.single(
                self.url, f"needs {self._kind.module}", f'pip install "gansweep[{extra}]"'
            )
        self._path: Final = self.url.partition("://")[2]

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self.url}/{name}")

    def check(self, *, write: bool) -> None:
        """Look whether it can be listed, and with `write` written to; it is left as it was.

        Raises:
            ConfigError: it cannot; what to do about it.
        """
        bucket = self._path.partition("/")[0]
        try:
            (self / ".owner").names()
            if write:
                name = f".probe-{uuid.uuid4().hex}"
                self.write(name, b"")
                self.read(name)
                self.remove(name)
        except MissingError:
            raise ConfigError.single(
                self.url, f"there is no bucket {bucket}", "make it, or name another"
            ) from None
        except ForbiddenError as error:
            what = f"may not be used: {error}"
            remedy = f"leave to list, read, write and delete there; {self._kind.keys}"
            raise ConfigError.single(self.url, what, remedy) from None
        except StorageError as error:
            what = f"cannot be used: {error}"
            raise ConfigError.single(self.url, what, self._kind.keys) from None

    def names(self) -> list[str]:
        """Of all objects below, in order; MissingError where there is no such bucket.

        Left out are those that others made and that are no file of a folder here: the empty object
        by which a browser shows a folder, and a name that leads out of it.
        """
        with _asked():
            found = self._files.find(self._path)
        start = len(self._path) + 1
        names = sorted(str(path)[start:] for path in found if len(path) > start)
        return [name for name in names if not {"", ".", ".."} & set(name.split("/"))]

    def folders(self) -> list[str]:
        """The names of what is directly below."""
        with _asked(), suppress(FileNotFoundError):
            return sorted({PurePosixPath(p).name for p in self._files.ls(self._path, detail=False)})
        return []

    def read(self, name: str) -> bytes | None:
        """What the object holds; None where there is none."""
        with _asked(), suppress(FileNotFoundError):
            return bytes(self._files.cat_file(self._at(name)))
        return None

    def write(self, name: str, data: bytes) -> None:
        """Put the object, or another in its place."""
        with _asked():
            self._files.pipe_file(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put the object if there is none yet, which one of several can do; `data` is of one's own.

        A store that knows no such condition takes each one's; the last is then the one that stays.
        """
        try:
            with _asked():
                self._files.pipe_file(self._at(name), data, mode="create")
        except StorageError:
            found = self.read(name)  # ours, where the store took it and its answer was lost
            if found is None:
                raise
            return found == data
        return True

    def copy(self, name: str, to: str) -> None:
        """Have the store make a copy of the object; no byte of it comes here."""
        with _asked():
            self._files.cp_file(self._at(name), self._at(to))

    def remove(self, name: str) -> None:
        """Remove the object, where there is one."""
        with _asked(), suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Have these objects as files below `folder`; one that is gone is left out."""
        with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="fetch") as pool:
            list(pool.map(lambda name: self._fetch(name, folder / name), names))

    def _fetch(self, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _asked(), suppress(FileNotFoundError), replacing(path) as draft:
            self._files.get_file(self._at(name), str(draft))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    @property
    def _files(self) -> Any:
        return _filesystem(self.url.partition("://")[0])


@functools.cache
def _filesystem(scheme: str) -> Any:
    """fsspec's, one for all threads: each would open connections of its own."""
    import fsspec

    # Listings are asked for anew: others write there.
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


@contextmanager
def _asked() -> Iterator[None]:
    """Whatever the libraries raise of a store is a StorageError."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(_words(error)) from error
    except PermissionError as error:
        raise ForbiddenError(_words(error)) from error
    except Exception as error:
        raise StorageError(_words(error)) from error


def _words(error: Exception) -> str:
    return beginning(redact(" ".join(str(error).split())), 300) or type(error).__name__


Stamp = tuple[int, int, int]
"""Of a file as it is: inode, bytes, time of its last change."""


@final
class Copy:
    """A folder here, and the same in a store.

    patterns: which files, as globs; those whose names begin with a dot stay here.
    last: names of files that speak of others: each is sent after those, as it was before them. So
    what the store has of it is never ahead of the rest.
    news: names of the files for whose sake the rest is sent, too; none: each is sent for its own.
    kept: names that the store copies from the object that was last sent under another name, and
    that are never sent.
    lasting: names that are never removed from the store, whatever happens to the files here.
    """

    def __init__(
        self,
        folder: Path,
        bucket: Bucket,
        *,
        patterns: Sequence[str] = ("*",),
        last: Sequence[str] = (),
        news: Sequence[str] = (),
        kept: Collection[str] = (),
        lasting: Collection[str] = (),
    ) -> None:
        self.folder: Final = folder
        self.bucket: Final = bucket
        self._patterns = patterns
        self._last = last
        self._news = news
        self._kept = kept
        self._lasting = lasting
        self._there: dict[str, Stamp] = {}
        self._lock = threading.Lock()

    @property
    def has_news(self) -> bool:
        """Whether there is something to send."""
        names = self._news or self._names()
        return any(
            _stamp(self.folder / name) not in (None, self._there.get(name)) for name in names
        )

    def fetch(self) -> None:
        """Have the files as the store has them; whatever else was in the folder is gone.

        Raises:
            OSError: the store is away for longer than PATIENCE_SECONDS.
        """
        with self._lock:
            _patiently(self._fetch)

    def _fetch(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        names = [name for name in self.bucket.names() if self._covers(name)]
        self.bucket.fetch(names, self.folder)
        stamps = {name: _stamp(self.folder / name) for name in self._names()}
        self._there = {name: stamp for name, stamp in stamps.items() if stamp}

    def push(self) -> None:
        """Send what has changed, and remove what is gone here.

        Raises:
            OSError: not all could be sent; what was is not sent again.
        """
        with self._lock, ExitStack() as stack:
            last = {name: self._opened(name, stack) for name in reversed(self._last)}
            names = self._names()  # asked for now: what the last speak of is among them
            for name in names:
                if name not in last:
                    with ExitStack() as own:  # they may be many
                        self._send(name, self._opened(name, own))
            for name, file in reversed(last.items()):
                self._send(name, file)
            gone = set(self._there) - set(names) - {name for name, file in last.items() if file}
            for name in sorted(gone - set(self._lasting)):
                self.bucket.remove(name)
                del self._there[name]

    def _opened(self, name: str, stack: ExitStack) -> tuple[BinaryIO, Stamp] | None:
        """The file as it is now; None where it is gone: it was delivered meanwhile, say."""
        with suppress(FileNotFoundError):
            file = stack.enter_context((self.folder / name).open("rb"))
            return file, _stamp_of(os.fstat(file.fileno()))
        return None

    def _send(self, name: str, opened: tuple[BinaryIO, Stamp] | None) -> None:
        if opened is None:
            return
        file, stamp = opened
        if name in self._kept:
            self._keep(name, stamp)
        elif self._there.get(name) != stamp:
            self.bucket.write(name, file.read(stamp[1]))
            self._there[name] = stamp

    def _keep(self, name: str, stamp: Stamp) -> None:
        twins = [each for each, its in self._there.items() if its == stamp and each != name]
        if twins and self._there.get(name) != stamp:
            with suppress(MissingError):  # someone took it away
                self.bucket.copy(twins[0], name)
                self._there[name] = stamp

    def settle(self, patience_s: float | None = None) -> None:
        """`push`, tried for so long; None: for PATIENCE_SECONDS."""
        _patiently(self.push, patience_s)

    def leave(self, pattern: str) -> None:
        """Remove these files here, and let the store keep them."""
        with self._lock:
            for path in self.folder.glob(pattern):
                path.unlink()
                self._there.pop(path.relative_to(self.folder).as_posix(), None)

    def clear(self) -> None:
        """Remove the folder here; the store keeps all."""
        with self._lock:
            self._there = {}
            shutil.rmtree(self.folder, ignore_errors=True)

    def _covers(self, name: str) -> bool:
        path = PurePosixPath(name)
        return not path.name.startswith(".") and any(
            len(path.parts) == pattern.count("/") + 1 and path.match(pattern)
            for pattern in self._patterns
        )

    def _names(self) -> list[str]:
        found = (path for pattern in self._patterns for path in self.folder.glob(pattern))
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in found
            if not path.name.startswith(".") and path.is_file()
        )


@final
class Mirror:
    """Sends the news of folders to their stores, from one thread.

    While a store is away it tries again and again, and sends the newest state alone.
    """

    def __init__(self) -> None:
        self._copies: list[Copy] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def add(self, copy: Copy) -> None:
        """Send its news from now on."""
        with self._lock:
            self._copies.append(copy)

    def drop(self, copy: Copy) -> None:
        """No more of it."""
        with self._lock:
            if copy in self._copies:
                self._copies.remove(copy)

    def close(self) -> None:
        """End the thread, after what it sends now."""
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            with self._lock:
                copies = list(self._copies)
            for copy in copies:
                try:
                    if copy.has_news:
                        copy.push()
                        self._warned = False
                except OSError as error:
                    if not self._warned:
                        log.warning("%s: will try again: %s", copy.bucket, error)
                    self._warned = True


def _patiently(act: Callable[[], None], patience_s: float | None = None) -> None:
    end = time.monotonic() + (PATIENCE_SECONDS if patience_s is None else patience_s)
    while True:
        try:
            return act()
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(RETRY_SECONDS)


def _stamp(path: Path) -> Stamp | None:
    try:
        return _stamp_of(path.stat())
    except FileNotFoundError:
        return None


def _stamp_of(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns
