"""Where a sweep keeps its files: a folder, or an object store that a folder here is a copy of."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import final

from gansweep.commands.scope import Whole, is_driven, standing
from gansweep.drafts import replacing
from gansweep.ownership import cannot_be_written, may_be_owned, sole_use
from gansweep.storage import Bucket, Copy, Mirror, StorageError, is_url, scratch
from gansweep.sweep.changes import changes_file
from gansweep.sweep.files import (
    JOURNAL_FILE,
    LOG_FILE,
    PACES_FILE,
    PLAN_FILE,
    SHEET_FILE,
    SPENT_FILE,
)
from gansweep.sweep.plan import Plan, alone, trial_folder, trials_folder
from gansweep.sweep.trial_copy import trial_copy
from gansweep.tracking.spool import FOLDER as SPOOL
from gansweep.trial_files import BEST, CHECKPOINT, previous

CHANGES_FILE = changes_file(Path(PLAN_FILE)).name

CHECKPOINTS = (BEST, CHECKPOINT, previous(Path(CHECKPOINT)).name)
"""What a trial goes on from, the best one before those that say that it is there."""

LAST_SECONDS = 15.0
"""How long a command that ends tries to store what it wrote: a stop has a minute in all."""


def find_home(root: Path | str, name: str) -> Home:
    """Of the sweep `name` below the folder or URL `root`; ConfigError as `Bucket` raises it."""
    return _Store(str(root), name) if is_url(root) else _Folder(Path(root), name)


class Home(ABC):
    """Where a sweep keeps its files.

    folder: here, with the plan and what else the driver writes; url: "" where that is all there is.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.url = url

    def __str__(self) -> str:
        return self.url or str(self.folder)

    @abstractmethod
    def check(self, *, write: bool) -> None:
        """ConfigError where it cannot be used; nothing is left there."""

    @abstractmethod
    def as_it_is(self, *names: str) -> AbstractContextManager[Path]:
        """A folder with those files of the sweep that there are, to be read.

        Each is as it is now, and not older than those that are named before it.
        """

    @abstractmethod
    def of_all(self, name: str) -> AbstractContextManager[list[Path]]:
        """The files `name` of this sweep and of those beside it, to be read."""

    @abstractmethod
    def standing(self, name: str) -> Plan:
        """The plan of the sweep `name` as it is there now, to be read, whoever has it."""

    @abstractmethod
    def siblings(self) -> list[str]:
        """The sweeps that are kept beside it, and itself where it is there."""

    @abstractmethod
    def sole_use(self, on_loss: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        """It is this process's alone; ConfigError where another one has it."""

    @abstractmethod
    def is_driven(self) -> bool:
        """Whether a command has it now, as far as can be told without waiting."""

    @abstractmethod
    def in_use(self) -> AbstractContextManager[None]:
        """`folder` as earlier commands left it, spools included; afterwards it is there for good.

        Raises:
            OSError: the store does not take what was last written, which then lies in `folder`.
        """

    @abstractmethod
    def store(self) -> None:
        """What the driver wrote is there before this returns; OSError where that is impossible."""

    @abstractmethod
    def fetch_spools(self) -> None:
        """Have here what trials elsewhere recorded and nobody has delivered."""

    @abstractmethod
    def drop_spools(self) -> None:
        """Spools that were fetched, and delivered since, are gone for good."""

    @abstractmethod
    def trials(self) -> list[str]:
        """The names of their folders, in order: keys, and those of trials that trained alone."""

    def trial_place(self, key: str) -> str:
        """Where a trial's folder is for good: a path or a URL."""
        return f"{self}/{trial_folder(Path(), key).as_posix()}"

    @abstractmethod
    def trial_alone(self, key: str) -> AbstractContextManager[Path]:
        """The folder of a trial that trains here by itself; its checkpoints are there for good.

        It begins where the sweep's own trial stands, which it leaves as it is.
        """


@final
class _Folder(Home):
    """A folder of this machine, or of a file system that several share."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__((root / name).resolve())
        self._root = root

    def check(self, *, write: bool) -> None:
        if not write:
            return
        try:
            there = (path for path in (self.folder, *self.folder.parents) if path.exists())
            with tempfile.TemporaryFile(dir=next(there)):
                pass
        except OSError as error:
            raise cannot_be_written(self.folder, error) from None

    def as_it_is(self, *names: str) -> AbstractContextManager[Path]:
        return nullcontext(self.folder)

    def of_all(self, name: str) -> AbstractContextManager[list[Path]]:
        return nullcontext(sorted(self._root.glob(f"*/{name}")))

    def standing(self, name: str) -> Plan:
        return standing(self.folder, name)

    def siblings(self) -> list[str]:
        return [path.name for path in self._root.glob("*") if path.is_dir()]

    def sole_use(self, on_loss: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        return Whole(self.folder).sole_use(on_loss)

    def is_driven(self) -> bool:
        return is_driven(self.folder)

    def in_use(self) -> AbstractContextManager[None]:
        return nullcontext()

    def store(self) -> None:
        pass

    def fetch_spools(self) -> None:
        pass

    def drop_spools(self) -> None:
        pass

    def trials(self) -> list[str]:
        return sorted(path.name for path in trials_folder(self.folder).glob("*"))

    def trial_alone(self, key: str) -> AbstractContextManager[Path]:
        own, folder = trial_folder(self.folder, key), trial_folder(self.folder, alone(key))
        if not _has_begun(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in CHECKPOINTS:
                if (own / name).exists():
                    with replacing(folder / name) as draft:
                        shutil.copyfile(own / name, draft)
        return nullcontext(folder)


@final
class _Store(Home):
    """An object store; `folder` is scratch."""

    def __init__(self, root: str, name: str) -> None:
        self._root = Bucket(root)
        self._bucket = self._root / name
        super().__init__(scratch(self._bucket.url), self._bucket.url)
        steady = (PLAN_FILE, JOURNAL_FILE, SPENT_FILE, PACES_FILE)
        self._steady = Copy(
            self.folder,
            self._bucket,
            patterns=(*steady, CHANGES_FILE),
            last=(PLAN_FILE, CHANGES_FILE),  # which follow it
            lasting=steady,
        )
        self._fetched: set[str] = set()

    def check(self, *, write: bool) -> None:
        self._bucket.check(write=write)

    @contextmanager
    def as_it_is(self, *names: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="gansweep-") as folder:
            for name in names:
                self._bucket.fetch([name], Path(folder))
            yield Path(folder)

    @contextmanager
    def of_all(self, name: str) -> Iterator[list[Path]]:
        with tempfile.TemporaryDirectory(prefix="gansweep-") as folder:
            self._root.fetch([f"{sweep}/{name}" for sweep in self.siblings()], Path(folder))
            yield sorted(Path(folder).glob(f"*/{name}"))

    def standing(self, name: str) -> Plan:
        with self.as_it_is(CHANGES_FILE, PLAN_FILE) as folder:
            return Plan.load(folder / PLAN_FILE, name)

    def siblings(self) -> list[str]:
        return self._root.folders()

    def sole_use(self, on_loss: Callable[[], None] | None = None) -> AbstractContextManager[None]:
        return sole_use(self._bucket, on_loss=on_loss)

    def is_driven(self) -> bool:
        return may_be_owned(self._bucket)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self._steady.fetch()
        self._bucket.fetch([LOG_FILE], self.folder)  # which goes on
        self.fetch_spools()
        mirror = Mirror()
        mirror.add(self._steady)
        try:
            yield
        finally:
            mirror.close()
            self._steady.settle(LAST_SECONDS)
            Copy(self.folder, self._bucket, patterns=(LOG_FILE, SHEET_FILE)).settle(LAST_SECONDS)

    def store(self) -> None:
        self._steady.settle()

    def fetch_spools(self) -> None:
        self._fetched = set()  # what is gone from here now was not delivered
        shutil.rmtree(trials_folder(self.folder), ignore_errors=True)  # the store is the truth
        names = [name for name in (self._bucket / "trials").names() if _is_of_spool(name)]
        try:
            (self._bucket / "trials").fetch(names, trials_folder(self.folder))
        except StorageError:  # of half a spool, numbers would arrive and their pictures never
            shutil.rmtree(trials_folder(self.folder), ignore_errors=True)
            raise
        self._fetched.update(names)

    def drop_spools(self) -> None:
        for name in sorted(self._fetched):
            if not (trials_folder(self.folder) / name).exists():
                with suppress(StorageError):  # it is delivered again then, and stored once
                    (self._bucket / "trials").remove(name)
                    self._fetched.remove(name)

    def trials(self) -> list[str]:
        return (self._bucket / "trials").folders()

    @contextmanager
    def trial_alone(self, key: str) -> Iterator[Path]:
        copy = trial_copy(self.trial_place(alone(key)))
        copy.fetch()
        if not _has_begun(copy.folder):
            own = Bucket(self.trial_place(key))
            own.fetch([name for name in own.names() if name in CHECKPOINTS], copy.folder)
        mirror = Mirror()
        mirror.add(copy)
        try:
            yield copy.folder
        finally:
            mirror.close()
            copy.settle()
            copy.clear()


def _has_begun(folder: Path) -> bool:
    """Whether a trial has a state there to go on from."""
    return any((folder / name).exists() for name in CHECKPOINTS[1:])


def _is_of_spool(name: str) -> bool:
    return PurePosixPath(name).parts[1:2] == (SPOOL,)
