"""`gansweep run`: a sweep from its file to the ranked table."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from rich.console import Console
from rich.markup import escape

from gansweep.commands.home import Home, find_home
from gansweep.commands.scope import TO_GO, Scope, Shared, Whole
from gansweep.commands.sync import deliver_spools, what_is_left, what_is_missing
from gansweep.counting import counted
from gansweep.drafts import remove_drafts
from gansweep.errors import ConfigError, Problem, noting
from gansweep.imports import importing
from gansweep.ownership import cannot_be_written
from gansweep.provenance import environment_text, version_tags
from gansweep.report.contact_sheet import write_contact_sheet
from gansweep.report.endings import reasons
from gansweep.report.ranking import PointResult, by_point, rank
from gansweep.report.table import OF_A_POPULATION, ranked_table
from gansweep.storage import StorageError, is_url
from gansweep.sweep.board import Board
from gansweep.sweep.cards import Room
from gansweep.sweep.file import Resources, Search, Sweep, load_sweep
from gansweep.sweep.files import LOG_FILE, SHEET_FILE, SPENT_FILE
from gansweep.sweep.grace import Grace
from gansweep.sweep.outdated import outdated
from gansweep.sweep.plan import Entry, trials_folder
from gansweep.sweep.proposals import Listed, Proposals, Streamed, TreeParzen, basis_of
from gansweep.sweep.schedulers.pbt import generation_interval
from gansweep.sweep.settle import sweep_status
from gansweep.sweep.share import Share, share_problems
from gansweep.sweep.spending import Spending
from gansweep.sweep.startup import RayStart, cores, exit_at_once
from gansweep.sweep.trials import (
    Trial,
    check_data,
    compared_across,
    idle_scheduler,
    is_listed,
    planned,
)
from gansweep.terminal import Display, clock, quiet
from gansweep.tracking.mlflow import (
    Backlog,
    Courier,
    MlflowStore,
    StoreStatus,
    is_refusal,
    reason,
    tracking_uri,
)
from gansweep.tracking.spool import spools

log = logging.getLogger("gansweep")

OK, FAILED, SPENT, INTERRUPTED = 0, 1, 3, 130
"""Exit codes: all well; a trial failed; the sweep's budget ended first; there is more to go. 2 is a
mistake in the input."""

FEW_TRIALS = 20
"""So many runs are rather searched for one by one than among all that the experiment has."""

MOST_ROWS = 200
"""Points in the table at the end; `gansweep show` has all."""


def run_command(
    path: Path,
    overrides: Sequence[str],
    *,
    address: str | None,
    uri: str | None,
    root: Path | str,
    retry_failed: bool,
    share: Share | None = None,
    ray: RayStart | None = None,
) -> int:
    """Train what is left of the sweep, on `ray` where it is on its way up already; the exit code.

    share: what of it is ours, where other commands train the rest. ConfigError before anything is
    written.
    """
    sweep, trials, store, home, advice = _checked(
        path, overrides, uri=uri, address=address, share=share, root=root
    )
    scope = Shared(home.folder, share) if share else Whole(home.folder)
    try:
        scope.folder.mkdir(parents=True, exist_ok=True)
        (scope.folder / LOG_FILE).open("ab").close()
    except OSError as error:
        raise cannot_be_written(scope.folder, error) from None
    with scope.sole_use(_end_at_once) if share else home.sole_use(_end_at_once):
        remove_drafts(scope.folder)
        grace = Grace(end_all=_end_at_once)
        try:
            with home.in_use(), quiet(scope.folder / LOG_FILE) as console:
                run = _Run(
                    sweep,
                    trials,
                    store,
                    home,
                    scope,
                    console,
                    grace,
                    advice=advice,
                    retry_failed=retry_failed,
                )
                return run.go(lambda: ray or RayStart(address, sweep.resources))
        finally:
            grace.over()


def _end_at_once() -> None:
    """As where another driver has the sweep: not one more checkpoint of ours may be written."""
    exit_at_once(INTERRUPTED)


def _checked(
    path: Path,
    overrides: Sequence[str],
    *,
    uri: str | None,
    address: str | None,
    share: Share | None,
    root: Path | str,
) -> tuple[Sweep, list[Trial], MlflowStore, Home, dict[str, list[str]]]:
    """Everything that can be wrong, found before anything is started or written."""
    problems: list[Problem] = []
    sweep, trials, store, home, advice = None, None, None, None, None
    with noting(problems):
        store = MlflowStore(tracking_uri(uri))
        store.check()
    try:
        sweep = load_sweep(path, overrides)
        with noting(problems):
            home = find_home(root, sweep.name)
            home.check(write=True)
        problems.extend(_cluster_problems(address) if address else _local_problems(sweep.resources))
        if share:
            problems.extend(share_problems(sweep.search))
            if is_url(root):
                what = "shares tell each other by files of one folder"
                problems.append(Problem("--share", what, "a --dir that all of them see"))
            if address:
                what = "a share is trained on a Ray of its own"
                problems.append(Problem("--share", what, "leave out --share, or --address"))
        trials = planned(sweep, listed=True if share else None)  # who shares out knows all
        wanted = sweep.resources
        advice = check_data(trials, stacked=wanted.engine == "stacked", processes=wanted.processes)
    except ConfigError as error:
        problems = [*error.problems, *problems]
    if (
        problems
        or sweep is None
        or trials is None
        or store is None
        or home is None
        or advice is None
    ):
        raise ConfigError(problems)
    return sweep, trials, store, home, advice


def _cluster_problems(address: str) -> list[Problem]:
    """What is wrong with `--address`, as far as a knock at the door tells within 3 s."""
    at = "--address"
    if address.startswith("ray://"):
        what = "ray:// clients lose the sweep when the line breaks for 30 s"
        remedy = "run this command on the cluster, with --address auto, or submit it as a Ray job"
        return [Problem(at, what, remedy)]
    if address == "auto":
        return []
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16):
        return [Problem(at, f"{address!r} is no address", "auto or HOST:PORT")]
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError as error:
        what = f"no Ray cluster answers at {address} ({error.strerror or error})"
        return [Problem(at, what, "start one with `ray start --head`, or leave --address out")]
    return []


def _local_problems(resources: Resources) -> list[Problem]:
    import torch

    have = {"cpu": cores(), "gpu": torch.cuda.device_count()}
    each = {"cpu": resources.cpu, "gpu": resources.least_gpu}
    wanted = {name: take * resources.processes for name, take in each.items()}
    return [
        Problem(
            f"resources.{name}",
            f"a trial takes {wanted[name]:g}, this machine has {have[name]}",
            "lower it, or name a cluster with --address",
        )
        for name in have
        if wanted[name] > have[name]
    ]


def _population(search: Search, budget: int) -> str:
    if search.scheduler != "pbt":
        return ""
    interval = generation_interval(search, budget)
    return (
        f"pbt, interval {interval}, quantile {search.quantile}, resample {search.resample}, "
        f"seed {search.seed}"
    )


@final
class _Run:
    """One `gansweep run`, once its input has been found good."""

    def __init__(
        self,
        sweep: Sweep,
        trials: Sequence[Trial],
        store: MlflowStore,
        home: Home,
        scope: Scope,
        console: Console,
        grace: Grace,
        *,
        advice: dict[str, list[str]],
        retry_failed: bool,
    ) -> None:
        self.sweep = sweep
        self.store = store
        self.home = home
        self.scope = scope
        self.folder = scope.sweep
        self.console = console
        self.advice = advice
        self.idle = idle_scheduler(sweep, trials)
        self.courier = Courier(store.uri)
        self.grace = grace
        self.backlog = Backlog()
        self.budget = max(trial.config.budget.g_steps for trial in trials)
        examples = trials
        self.plan, trials = scope.take_up(sweep, trials, retry_failed=retry_failed)
        self.plan.put_aside()
        limits = sweep.limits.shared(scope.parts)
        self.spending = Spending(scope.folder / SPENT_FILE, limits)
        population = _population(sweep.search, self.budget)
        if self.plan.entries and self.plan.population != population:
            raise ConfigError.single(
                "search.scheduler",
                f"this sweep trained as {self.plan.population or 'no population'} before",
                "give it another name, or another --dir",
            )
        self.plan.population = population
        self.plan.meet(basis_of(sweep))

        def finished(entry: Entry) -> bool:
            return entry.is_finished(entry.budget, retry_failed=retry_failed)

        if sweep.search.method == "tpe":
            self.proposals: Proposals = TreeParzen(
                sweep, self.plan.entries.values(), finished=finished
            )
        elif not (isinstance(scope, Shared) or is_listed(sweep)):
            self.proposals = Streamed(sweep, self.plan, finished=finished)
        else:
            done: list[Trial] = []
            to_train: list[Trial] = []
            for trial in trials:
                entry = self.plan.add(trial, retry_failed=retry_failed)
                (done if finished(entry) else to_train).append(trial)
            self.proposals = Listed(to_train, finished=done)
        self.plan.mean(self.proposals.keys, unlisted=self.proposals.unlisted)
        meant = self.plan.meant
        self.outdated = outdated(meant, filter(finished, meant), examples)

    @property
    def entries(self) -> list[Entry]:
        """The trials that this sweep file means, as they stand."""
        keys = self.proposals.keys
        return [entry for entry in self.plan.entries.values() if entry.key in keys]

    def go(self, start: Callable[[], RayStart]) -> int:
        """Train what is left, conclude, and return the exit code."""
        notes = sorted({line for lines in self.advice.values() for line in lines})
        for line in [*notes, *self.idle, *self.outdated]:
            self.console.print(f"[yellow]note[/]: {escape(line)}")
        for key in compared_across(self.sweep):
            self.console.print(
                f"[yellow]note[/]: {self.sweep.search.metric} is compared across {key}, since the "
                "space varies it"
            )
        try:
            self._deliver_earlier()
            trouble = ""
            if self.proposals.total and not self.spending.spent:
                count = counted(self.proposals.total, "trial")
                self.console.print(
                    f"[bold]{self.scope.title}[/]: {count} to train; "
                    f"the log is {escape(str(self.scope.folder / LOG_FILE))}"
                )
                for key in self.sweep.limits.given:
                    self.console.print(f"budget  {self._account(key)}")
                trouble = self._train(start())
            else:
                self.plan.save()  # what this sweep file means of it
            if not self.proposals.total:
                self.console.print(f"[bold]{self.scope.title}[/]: every trial is finished already")
        finally:
            self.courier.close()
        return self._conclude(trouble)

    def _deliver_earlier(self) -> None:
        """Bring into MLflow what an earlier run could not."""
        if self.plan.path.exists() or spools(trials_folder(self.folder)):
            synced = deliver_spools(
                self.store, self.courier, self.home, self.plan,
                of=self.scope.delivers(self.plan),
            )  # fmt: skip
            self.backlog = synced.left
            if synced.records:
                self.console.print(f"[dim]delivered {synced} from an earlier run[/]")
            if synced.missing:
                self.console.print(f"[yellow]note[/]: {what_is_missing(synced.missing)}")

    def _train(self, ray: RayStart) -> str:
        """Train the proposals on Ray; what ended it before its time, or nothing."""
        with importing():
            from gansweep.sweep.cluster import check_cluster, credentials, find_room
            from gansweep.sweep.driver import SweepDriver
            from gansweep.sweep.tune import run_packs

            self.store.warm_up()
        if not ray.is_local:
            ray.wait()  # there may be no such cluster; nothing is written then
            population = bool(self.plan.population)
            try:
                notes = check_cluster(
                    self.store.uri,
                    self.home.url or self.folder,
                    self.sweep.resources,
                    must_share=population,
                )
            except BaseException:
                ray.stop()
                raise
            for note in notes:
                self.console.print(f"[yellow]note[/]: {escape(note)}")
        tags = version_tags(Path.cwd())
        known = self.store.find_experiment(self.sweep.name)  # a new database takes a second
        if known:
            self._index(known)
        have = ray.wait()  # a local Ray may not start; no experiment is made then
        try:
            room = find_room(ray.resources, have)
            workers = room.workers
        except ConfigError:
            ray.stop()
            raise
        if turns := self._turns(room):
            self.console.print(f"[yellow]note[/]: {turns}")
        if have.get("GPU") and not self.sweep.resources.least_gpu:
            note = f"resources.gpu is 0: {counted(have['GPU'], 'GPU')} idle"
            self.console.print(f"[yellow]note[/]: {note}")
        if not (experiment := known):
            experiment = self.store.experiment(self.sweep.name)
            self._index(experiment)
        self.plan.save()
        self.home.store()
        board = Board(
            self.plan, total=self.proposals.size, workers=workers, keys=self.proposals.keys
        )
        with self.scope.one_at_a_time():
            parent = self._parent_run(experiment, tags)
        driver = SweepDriver(
            self.sweep,
            self.plan,
            board,
            self.store,
            self.proposals,
            self.courier,
            workers_deliver=bool(self.home.url) or not ray.is_local,
            experiment=experiment,
            parent=parent,
            folder=self.folder,
            place=self.home.trial_place,
            tags=tags,
            advice=self.advice,
            budget=self.budget,
            spending=self.spending,
            room=room,
        )
        trouble: list[str] = []

        def on_interrupt() -> None:
            spent = self.spending.spent
            self.grace.begin()
            driver.put_aside(f"{spent} spent" if spent else "interrupted")
            trouble.extend([] if spent else [driver.stuck or "interrupted"])
            why = f"{spent} is spent" if spent else "stopping"
            how = "Ctrl-C twice" if spent else "again"
            board.message = f"{why}: the trials write their checkpoints ({how} to end at once)"

        died: list[str] = []

        def on_death(what: str) -> None:
            died.append(what)
            for _ in range(2):  # nobody is left who could put the trials aside: end at once
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)

        ray.watch(on_death)
        try:
            with Display(self.console, board, metric=self.sweep.search.metric).showing():
                self.spending.begin()
                run_packs(
                    driver,
                    concurrent=workers,
                    folder=self.scope.folder,
                    on_interrupt=on_interrupt,
                    is_due=lambda: bool(self.spending.spent or driver.stuck),
                    environment=None if ray.is_local else credentials(self.home.url),
                )
        except KeyboardInterrupt:
            trouble.append("ended at once")
        finally:
            self.grace.workers_ended()
            self.spending.end()
            ray.watch(None)
            unread = ""
            try:
                self.home.fetch_spools()  # of workers that died
            except StorageError as error:  # the next command delivers them
                unread = reason(error)
            driver.settle(unread)
            self.home.drop_spools()
            ray.stop()
        self.backlog = driver.backlog
        for note in board.notes:
            self.console.print(f"[dim]{escape(note)}[/]")
        if driver.trouble:
            trouble.append(driver.trouble)
        return (died or trouble[-1:] or [""])[0]

    def _index(self, experiment: str) -> None:
        if self.proposals.total > FEW_TRIALS:
            self.store.index_trials(experiment)

    def _turns(self, room: Room) -> str:
        """A word on a population whose members cannot all train at once, "" where they can."""
        own, members, workers = self.sweep.resources, self.proposals.total, room.workers
        size = room.most if own.by_memory else 1 if own.processes > 1 else own.pack
        if not (self.plan.population and size and size * workers < members):
            return ""
        return (
            f"the population of {members} trains in turns, since {counted(workers, 'worker')} "
            f"with packs of {size} have room for {size * workers}"
        )

    def _parent_run(self, experiment: str, tags: dict[str, str]) -> str:
        """The sweep's own run, brought to life with its sources."""
        sweep, store = self.sweep, self.store
        described = {
            **tags,
            "file": sweep.files[0].name,
            "overrides": " ".join(sweep.overrides),
            "metric": sweep.search.metric,
            "mode": sweep.search.mode,
            "across": " ".join(compared_across(sweep)),
            "mlflow.note.content": f"The sweep `{sweep.name}`; its trials are the runs below it.",
        }
        parent = store.parent_run(experiment, sweep.name, described)
        store.log_text(parent, sweep.to_yaml(), "sweep.yaml")
        for file in sweep.files:
            store.log_text(parent, file.read_text(encoding="utf-8"), f"source/{file.name}")
        store.log_text(parent, environment_text(), "environment.txt")
        return parent

    def _conclude(self, trouble: str) -> int:
        """Table, best point, where everything is; the status of the sweep's run; the exit code."""
        own = self.entries
        with self.scope.concluding(self.plan, own, delivered=not self.backlog.is_something) as (
            entries,
            is_last,
        ):
            results = self._table(entries)
            failed = [entry for entry in own if entry.state == "failed"]
            listed_to_go = sum(entry.state in TO_GO for entry in own)
            to_go = listed_to_go + self.proposals.unlisted
            left = max(to_go, self.proposals.waiting)
            spent = self.spending.spent if left else ""
            out_of_budget = bool(spent) and not trouble
            code = FAILED if failed else OK
            if trouble or to_go or spent:
                code = SPENT if out_of_budget else INTERRUPTED
            if self.backlog.is_something:  # the store is away, say
                line = what_is_left(self.backlog, self.home, self.sweep.name)
                self.console.print(line, style="yellow", markup=False)
                code = INTERRUPTED
            elif is_last and not self._record_end(
                results, "KILLED" if trouble or spent else sweep_status(entries)
            ):
                code = INTERRUPTED
        console = self.console
        if self.proposals.shortfall:
            console.print(f"[yellow]note[/]: {self.proposals.shortfall}")
        console.print(f"compare gansweep ui {self.sweep.name}")
        diverged = [entry for entry in own if entry.state == "diverged"]
        for line in reasons(diverged):
            console.print(f"[red]diverged[/]  {escape(line)}")
        if diverged:
            console.print(
                "        the run of each has its curves up to there, its tag gansweep.reason why"
            )
        for line in reasons(failed):
            console.print(f"[red]failed[/]  {escape(line)}")
        if failed:
            console.print(
                "        each traceback is the artifact traceback.txt of its run; "
                "--retry-failed trains them again"
            )
        if out_of_budget:
            console.print(
                f"[yellow]out of budget[/]: {self._account(spent)}; "
                f"{counted(left, 'trial')} to go: the same command with a larger {spent} goes on "
                "from the checkpoints"
            )
        elif trouble or to_go:
            console.print(
                f"[yellow]{trouble or 'interrupted'}[/], {counted(to_go, 'trial')} to go: "
                "the same command goes on"
            )
        if of_others := sum(entry.state in TO_GO for entry in entries) - listed_to_go:
            console.print(f"{counted(of_others, 'trial')} of other shares to go")
        return code

    def _table(self, entries: Sequence[Entry]) -> list[PointResult]:
        """Print the trials' points and the best one; the points."""
        metric, console = self.sweep.search.metric, self.console
        results, incomparable = self._ranked(entries)
        seconds = sum(entry.seconds for entry in entries)
        console.print()
        console.print(ranked_table(results, metric=metric, limit=MOST_ROWS))
        console.print()
        for problem in incomparable:
            console.print(f"not ranked: {problem}", style="yellow", markup=False)
        if results and results[0].mean is not None and not incomparable:
            best = results[0]
            so_far = "" if best.is_complete else f", {', '.join(best.states)}"
            console.print(
                f"best    [bold]{escape(best.name)}[/] ({metric} {best.mean:.4g}{so_far})"
            )
        if any(entry.lineage for entry in entries):
            console.print(f"[yellow]note[/]: {OF_A_POPULATION}")
        console.print(f"{counted(len(entries), 'trial')}, {clock(seconds)} of training in all")
        return results

    def _account(self, limit: str) -> str:
        """Of a limit's key: how much of it the sweep has spent."""
        spending = self.spending
        limits = spending.limits
        words = {
            "time_budget": f"{clock(spending.seconds)} of {clock(limits.seconds or 0)}",
            "gpu_hours": f"{spending.gpu_hours:.3g} of {limits.gpu_hours or 0:g}",
        }
        return f"{limit}, {words[limit]} spent"

    def _ranked(self, entries: Sequence[Entry]) -> tuple[list[PointResult], list[Problem]]:
        """Points, the best first, or as they were planned and why they cannot be ranked."""
        search = self.sweep.search
        across = compared_across(self.sweep)
        try:
            return rank(entries, metric=search.metric, mode=search.mode, across=across), []
        except ConfigError as error:
            return by_point(entries, metric=search.metric), error.problems

    def _record_end(self, results: Sequence[PointResult], status: StoreStatus) -> bool:
        """The contact sheet, and the status of the sweep's run; whether the store took them."""
        sheet = self.folder / SHEET_FILE
        metric = self.sweep.search.metric
        try:
            experiment = self.store.experiment(self.sweep.name)
            parent = self.store.parent_run(experiment, self.sweep.name)
            if write_contact_sheet(sheet, results, metric=metric, picture=self.store.last_image):
                self.store.log_image_file(parent, sheet)
                also = "and the series `samples` of each run in MLflow"
                place = escape(f"{self.home}/{SHEET_FILE}")
                self.console.print(f"samples {place}, {also}")
            self.store.settle(parent, status)
        except Exception as error:
            if is_refusal(error) or isinstance(error, ConfigError):
                raise
            log.exception("the sweep's end could not be recorded")
            line = (
                f"MLflow did not take the sweep's end ({reason(error)}): the same command again "
                f"or `gansweep sync {self.sweep.name}` records it"
            )
            self.console.print(line, style="yellow", markup=False)
            return False
        return True
