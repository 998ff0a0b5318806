"""A launcher: a sweep becomes a batch job of one kind of cluster; and what becomes of the job."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, final
from urllib.parse import urlsplit

from gansweep.counting import counted
from gansweep.errors import AwayError, ConfigError, Problem
from gansweep.proxies import LOOPBACK
from gansweep.settings import setting

if TYPE_CHECKING:
    from gansweep.sweep.file import Resources, Sweep
    from gansweep.sweep.trials import Trial

POLL_SECONDS = 2.0
"""Between two looks at a job that is followed."""

AWAY_SECONDS = 600.0
"""For which a cluster that does not answer is asked again about a job that is followed."""

LAST_LOG_SECONDS = 20.0
"""For the output of a job that is over, where the cluster does not have it: it may be gone."""

Phase = Literal["waiting", "running", "done", "failed", "cancelled", "forgotten", "unknown"]
"""forgotten: the cluster knows it no more, nor how it ended; unknown: it does not tell now."""

OVER: tuple[Phase, ...] = ("done", "failed", "cancelled", "forgotten")


@dataclass(frozen=True)
class Profile:
    """What every kind of cluster is told; each launcher adds its own settings."""

    storage: str | None = setting(
        None, "folder, or s3:// or gs:// URL, of plans and checkpoints for every node; null: runs"
    )
    tracking_uri: str | None = setting(
        None, "MLflow's store; null: MLFLOW_TRACKING_URI, or mlflow.db in this folder"
    )
    python: str | None = setting(None, "Python interpreter on the nodes; null: as the target says")
    start_seconds: int | None = setting(
        None, "how long `gansweep logs --follow` waits for the job to start; null: for ever", ge=1
    )


@final
@dataclass(frozen=True)
class Job:
    """`gansweep run` of one sweep file, found good, as it is to run on a cluster.

    folder: where the command was given; relative paths and own modules begin there.
    root: absolute folder or URL of plans, logs and checkpoints (`--dir`); uri: MLflow's store, and
    whether it was named for this job; flags: further options of `gansweep run`.
    """

    sweep: Sweep
    trials: tuple[Trial, ...]
    folder: Path
    root: Path | str
    uri: str
    flags: tuple[str, ...] = ()
    uri_is_named: bool = True

    @property
    def uri_is_of_this_machine(self) -> bool:
        """Whether MLflow's store is called by a name that this machine has for itself."""
        return urlsplit(self.uri).hostname in LOOPBACK

    def command(self, file: str, *, python: str, says_uri: bool = True) -> list[str]:
        """The words of `gansweep run` over the sweep file that lies at `file` on the cluster.

        says_uri: whether MLflow's store is among them; else it is in the job's environment.
        """
        return [
            *(python, "-P", "-m", "gansweep.cli", "run", file, *self.sweep.overrides),
            *("--dir", str(self.root)),
            *(("--tracking-uri", self.uri) if says_uri else ()),
            *self.flags,
        ]

    def local_data(self) -> list[str]:
        """Relative data paths of the trials, which a machine elsewhere does not have."""
        paths = {getattr(trial.config.data.settings, "path", None) for trial in self.trials}
        return sorted(
            path
            for path in paths
            if isinstance(path, str)
            and not Path(path).is_absolute()
            and (self.folder / path).exists()  # `hub` has names, which are no paths
        )


@final
@dataclass(frozen=True)
class Submitted:
    """A job as its cluster knows it. log: its output as a file, "" where the cluster keeps it."""

    id: str
    log: str = ""


@final
@dataclass(frozen=True)
class JobState:
    """How a job stands. code: exit code of `gansweep run`, where the cluster tells it."""

    phase: Phase
    reason: str = ""
    code: int | None = None

    @property
    def is_over(self) -> bool:
        return self.phase in OVER

    def __str__(self) -> str:
        code = "" if self.code is None else f", exit code {self.code}"
        return f"{self.phase}{code}{f' ({self.reason})' if self.reason else ''}"


def resource_problems(
    wanted: Resources, *, cpus: int, gpus: int, count: int, of: str
) -> list[Problem]:
    """What a trial takes that a job with so many of them on each of `count` machines has not.

    of: what a machine is called there. Each of a trial's processes is on one machine.
    """
    found = []
    for name, take, have in (("cpu", wanted.cpu, cpus), ("gpu", wanted.least_gpu, gpus)):
        at, fitting = f"resources.{name}", count * int(have / take + 1e-9) if take else None
        if take > have:
            what = f"a trial takes {take:g}, a {of} of the job has {have}"
            found.append(Problem(at, what, "raise it in the profile"))
        elif fitting is not None and fitting < wanted.processes:
            what = (
                f"a trial takes {wanted.processes} times {take:g}, the job has "
                f"{counted(count, of)} with {have}"
            )
            found.append(Problem(at, what, "raise it in the profile"))
    return found


class Launcher(ABC):
    """One kind of cluster. Every call is short; what cannot be done is a ConfigError.

    Where the cluster does not answer, and may later, it is an AwayError.
    """

    Settings: ClassVar[type[Profile]] = Profile
    profile: Profile
    """An instance of `Settings`; a subclass with settings of its own says so again."""

    def __init__(self, settings: Profile) -> None:
        self.profile = settings

    @property
    def place_is_known(self) -> bool:
        """Whether it asks the cluster that a job was sent to, whatever is set up here meanwhile."""
        return True

    def spelt_out(self) -> Self:
        """The same, with what says here and now where its jobs go among its settings."""
        return self

    @abstractmethod
    def problems(self, job: Job) -> list[Problem]:
        """What of the job, or of the profile, can be seen from here not to work there."""

    def notes(self, job: Job) -> list[str]:
        """What of the job may not work there, and cannot be told from here."""
        return []

    @abstractmethod
    def render(self, job: Job) -> str:
        """The batch job, or the request, as text for a person; nothing is written."""

    @abstractmethod
    def submit(
        self, job: Job, *, on_id: Callable[[Submitted], None] = lambda job: None
    ) -> Submitted:
        """Hand the job to the cluster.

        on_id hears the job's id before the cluster does, where it is ours to choose.
        """

    @abstractmethod
    def state(self, job: Submitted) -> JobState:
        """How it stands now, asked from the cluster."""

    @abstractmethod
    def log(self, job: Submitted, after: int) -> tuple[str, int]:
        """Its output from the position `after` (0: the beginning), and the position of its end."""

    @abstractmethod
    def cancel(self, job: Submitted) -> None:
        """Have it end; its trials write checkpoints where the cluster leaves them the time."""

    def stop(self, job: Submitted) -> None:
        """The same, where there is a way to leave them the time; `cancel` ends what stays."""
        self.cancel(job)

    def by_hand(self, job: Submitted) -> str:
        """The cluster's own command that ends the job, for a person."""
        return "the cluster's own command"

    def parts(self, job: Submitted) -> Sequence[Submitted]:
        """What of the job has an output of its own."""
        return [job]

    def logs(
        self,
        job: Submitted,
        *,
        follow: bool,
        on_state: Callable[[JobState], None] = lambda state: None,
    ) -> Iterator[str]:
        """Its output so far, or until it is over; that of several parts under their names.

        on_state hears how a job that is followed stands, as often as we look. A cluster that does
        not answer is asked again for AWAY_SECONDS.

        Raises:
            ConfigError: the cluster cannot be asked, or a job that is followed has not started
                within the profile's time.
        """
        positions = dict.fromkeys(self.parts(job), 0)
        named: Submitted | None = None
        began, limit = time.monotonic(), self.profile.start_seconds
        away_since: float | None = None
        over_since: float | None = None
        state: JobState | None = None
        while True:
            try:
                state = None
                state = self.state(job) if follow else None
                for part, position in positions.items():  # after the state: then nothing is missed
                    text, positions[part] = self.log(part, position)
                    if text and len(positions) > 1 and part != named:
                        yield f"==> {part.id} <==\n"
                        named = part
                    if text:
                        yield text
            except AwayError as error:
                if not follow:
                    raise
                away_since = away_since or time.monotonic()
                if state is not None and state.is_over:
                    over_since = over_since or time.monotonic()
                    if time.monotonic() - over_since > LAST_LOG_SECONDS:
                        on_state(state)
                        return
                elif time.monotonic() - away_since > AWAY_SECONDS:
                    raise _given_up(job, error) from None
                else:
                    words = f"{error}; asked again for up to {AWAY_SECONDS:g} s"
                    on_state(JobState("unknown", words))
                time.sleep(POLL_SECONDS)
                continue
            away_since = None
            if state is None:
                return
            on_state(state)
            if state.is_over:
                return
            if state.phase != "waiting":
                limit = None  # it may wait again, where it was preempted
            elif limit is not None and time.monotonic() - began > limit:
                raise ConfigError.single(
                    job.id,
                    f"has not started within {limit} s: {state}",
                    f"it waits on; `gansweep cancel {job.id}` takes it back",
                )
            time.sleep(POLL_SECONDS)


def _given_up(job: Submitted, error: AwayError) -> AwayError:
    (problem, *_) = error.problems
    return AwayError.single(
        job.id,
        f"no answer for {AWAY_SECONDS:g} s: {problem.where}: {problem.what}",
        f"the job goes on without us; `gansweep logs {job.id} --follow` looks again",
    )
