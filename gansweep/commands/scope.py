"""What of a sweep a command drives: all of it, or a share beside others that drive the rest.

Shares keep plans of their own, `shares/I-of-N/plan.json`, so that no two processes write one file;
the sweep's own plan takes a share's over when that share ends. Which trial is whose says
`shares/deal.json`, which the first share writes and the others read.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, final

from gansweep.errors import ConfigError
from gansweep.ownership import check_unowned, may_be_owned, sole_use
from gansweep.sweep.file import Sweep
from gansweep.sweep.files import DEAL_FILE, PLAN_FILE, SHARES
from gansweep.sweep.packing import pack_size
from gansweep.sweep.plan import Entry, Plan, remove_plan
from gansweep.sweep.share import Share, deal

if TYPE_CHECKING:
    from gansweep.sweep.trials import Trial

PATIENCE_SECONDS = 600.0
"""How long a share waits for what one at a time may do; each takes seconds."""

TO_GO = ("waiting", "running", "interrupted")
"""States of trials that are not over."""


class Outcome(NamedTuple):
    """How a sweep stands as a command ends.

    is_last: whether nobody else drives it now, so that this command settles its run.
    """

    entries: Sequence[Entry]
    is_last: bool


class Scope(ABC):
    """`sweep`: the sweep's folder; `folder`: of this command's own log, account and scratch.

    parts: into how many the sweep is divided.
    """

    def __init__(self, sweep: Path, folder: Path, *, title: str, parts: int = 1) -> None:
        self.sweep: Final = sweep
        self.folder: Final = folder
        self.title: Final = title
        self.parts: Final = parts

    @abstractmethod
    def sole_use(self, on_loss: Callable[[], None]) -> AbstractContextManager[None]:
        """Of what it drives, as `ownership.sole_use`."""

    @abstractmethod
    def take_up(
        self, sweep: Sweep, trials: Sequence[Trial], *, retry_failed: bool
    ) -> tuple[Plan, Sequence[Trial]]:
        """The plan that this command keeps, and which of the sweep's trials are its own."""

    @abstractmethod
    def one_at_a_time(self) -> AbstractContextManager[None]:
        """For what all who drive the sweep have in common."""

    @abstractmethod
    def delivers(self, plan: Plan) -> Collection[str] | None:
        """The keys of the trials whose records it may deliver; None: all that there are."""

    @abstractmethod
    def concluding(
        self, plan: Plan, entries: Sequence[Entry], *, delivered: bool
    ) -> AbstractContextManager[Outcome]:
        """How all stands, nobody else concluding meanwhile.

        entries: those of this command; delivered: whether the store has all of their records.
        """


@final
class Whole(Scope):
    """All of a sweep; nobody else drives anything of it."""

    def __init__(self, sweep: Path) -> None:
        super().__init__(sweep, sweep, title=sweep.name)

    @contextmanager
    def sole_use(self, on_loss: Callable[[], None] | None = None) -> Iterator[None]:
        with sole_use(self.sweep, on_loss=on_loss):
            check_unowned(_share_folders(self.sweep))  # they look whether we are here, too
            yield

    def plan(self, name: str) -> Plan:
        """The sweep's plan, with what shares have left behind."""
        plan = standing(self.sweep, name)
        _take_over(self.sweep, plan)
        return plan

    def take_up(
        self, sweep: Sweep, trials: Sequence[Trial], *, retry_failed: bool
    ) -> tuple[Plan, Sequence[Trial]]:
        return self.plan(sweep.name), trials

    def one_at_a_time(self) -> AbstractContextManager[None]:
        return nullcontext()

    def delivers(self, plan: Plan) -> Collection[str] | None:
        return None

    def concluding(
        self, plan: Plan, entries: Sequence[Entry], *, delivered: bool
    ) -> AbstractContextManager[Outcome]:
        return nullcontext(Outcome(entries, is_last=True))


@final
class Shared(Scope):
    """One share of a sweep."""

    def __init__(self, sweep: Path, share: Share) -> None:
        folder = sweep / SHARES / f"{share.number}-of-{share.count}"
        super().__init__(sweep, folder, title=f"{sweep.name}, share {share}", parts=share.count)
        self._share = share
        self._retry_failed = False
        self._all: Sequence[Trial] = ()

    @contextmanager
    def sole_use(self, on_loss: Callable[[], None]) -> Iterator[None]:
        with sole_use(self.folder, on_loss=on_loss):
            check_unowned([self.sweep])  # who drives all of it looks for us, too
            yield

    def one_at_a_time(self) -> AbstractContextManager[None]:
        return sole_use(self.sweep / SHARES, patience_s=PATIENCE_SECONDS)

    def take_up(
        self, sweep: Sweep, trials: Sequence[Trial], *, retry_failed: bool
    ) -> tuple[Plan, Sequence[Trial]]:
        from gansweep.sweep.proposals import basis_of  # and torch: not to look at a plan

        self._all, self._retry_failed = trials, retry_failed
        with self.one_at_a_time():
            plan = standing(self.sweep, sweep.name)
            name = _name_of_deal(trials, self._share.count, retry_failed=retry_failed)
            shares = self._dealt(name)
            plan.meet(basis_of(sweep))
            to_go = [
                trial
                for trial in trials
                if not (entry := plan.add(trial, retry_failed=retry_failed)).is_finished(
                    entry.budget, retry_failed=retry_failed
                )
            ]
            if shares is None:
                plan.mean({trial.key for trial in trials}, unlisted=0)
                _take_over(self.sweep, plan)
                plan.save()
                shares = self._deal(plan, sweep, to_go)
                _write_deal(self.sweep, name, shares)
            own = Plan(self.folder / PLAN_FILE, sweep.name)
            own.population = plan.population
            own.entries = {key: plan.entries[key] for key in shares[self._share.number - 1]}
            own.save()
        return own, [trial for trial in trials if trial.key in own.entries]

    def _dealt(self, name: str) -> list[list[str]] | None:
        """The trials of each share as they were dealt, None where they are to be dealt.

        Raises:
            ConfigError: others are at work on other trials.
        """
        found = _read_deal(self.sweep)
        if found is None or found.name == name:
            return found and found.shares
        try:
            check_unowned(folder for folder in _share_folders(self.sweep) if folder != self.folder)
        except ConfigError as error:
            where, what = error.problems[0].where, error.problems[0].what
            raise ConfigError.single(
                "--share",
                f"others share out other trials than this command: {where}: {what}",
                "give every task the same command but for I, or wait for the others",
            ) from None
        return None

    def _deal(self, plan: Plan, sweep: Sweep, to_go: Sequence[Trial]) -> list[list[str]]:
        def left(trial: Trial) -> int:
            entry = plan.entries[trial.key]
            return max(1, entry.budget - entry.g_steps)

        count, total = self._share.count, len(to_go)
        size = pack_size(sweep.resources, sweep.search, waiting=total, total=total, workers=count)
        return deal(to_go, count, size=size, left=left)

    def delivers(self, plan: Plan) -> Collection[str] | None:
        return plan.entries.keys()

    @contextmanager
    def concluding(
        self, plan: Plan, entries: Sequence[Entry], *, delivered: bool
    ) -> Iterator[Outcome]:
        with self.one_at_a_time():
            whole = standing(self.sweep, plan.sweep)
            if delivered:  # else the same command again is to find its trials
                whole.save()
                remove_plan(plan.path)
            found = [whole.entries[trial.key] for trial in self._all if trial.key in whole.entries]
            at_work = [path.parent for path in _share_plans(self.sweep) if path != plan.path]
            left = (*TO_GO, "failed") if self._retry_failed else TO_GO  # of shares to come
            if not (at_work or any(entry.state in left for entry in found)) and delivered:
                (self.sweep / SHARES / DEAL_FILE).unlink(missing_ok=True)
            yield Outcome(found, is_last=not any(map(may_be_owned, at_work)))


def standing(folder: Path, name: str) -> Plan:
    """The plan of the sweep in `folder`, with what its shares have not put into it yet.

    Raises:
        ConfigError: a file is damaged.
    """
    while True:
        plan = Plan.load(folder / PLAN_FILE, name)
        for path in _share_plans(folder):
            try:
                plan.entries.update(Plan.load(path, name).entries)
            except ConfigError:
                if path.exists():
                    raise
                break  # it has been taken over meanwhile
        else:
            return plan


def is_driven(folder: Path) -> bool:
    """Whether a command, of a share or of all, has the sweep in `folder`, as far as can be told."""
    return any(map(may_be_owned, (folder, *_share_folders(folder))))


def _take_over(folder: Path, plan: Plan) -> None:
    """Write the `standing` plan, whereupon those of the shares are needed no more."""
    if paths := _share_plans(folder):
        plan.save()
        for path in paths:
            remove_plan(path)
    (folder / SHARES / DEAL_FILE).unlink(missing_ok=True)


def _share_folders(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / SHARES).glob("*-of-*") if path.is_dir())


def _share_plans(folder: Path) -> list[Path]:
    return [path for each in _share_folders(folder) if (path := each / PLAN_FILE).exists()]


def _name_of_deal(trials: Sequence[Trial], count: int, *, retry_failed: bool) -> str:
    """Equal where the same trials are dealt to as many for the same training."""
    whole = hashlib.sha256(f"{count} {retry_failed}".encode())
    for trial in trials:
        whole.update(f" {trial.key} {trial.config.budget.g_steps}".encode())
    return whole.hexdigest()[:16]


class _Deal(NamedTuple):
    """Which trial is whose: the keys of each share, under the name of what was dealt."""

    name: str
    shares: list[list[str]]


def _read_deal(folder: Path) -> _Deal | None:
    path = folder / SHARES / DEAL_FILE
    try:
        return _Deal(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        what = f"does not say which trial is whose: {error}"
        raise ConfigError.single(str(path), what, "remove it while no share is at work") from None


def _write_deal(folder: Path, name: str, shares: list[list[str]]) -> None:
    """In one step; who comes at the same time waits for its turn."""
    path = folder / SHARES / DEAL_FILE
    draft = path.with_name(f".{path.name}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(_Deal(name, shares)._asdict(), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
