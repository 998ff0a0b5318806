"""Slurm: one sbatch script: on one node with a Ray of its own, on several with one across them.

Or an array of jobs of one node each, with a Ray of its own each, that share the trials.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import final

from gansweep.counting import counted
from gansweep.errors import AwayError, ConfigError, Problem
from gansweep.launch.base import (
    OVER,
    Job,
    JobState,
    Launcher,
    Phase,
    Profile,
    Submitted,
    resource_problems,
)
from gansweep.launch.bundle import Bundle, sweep_bundle
from gansweep.settings import setting
from gansweep.storage import is_url
from gansweep.sweep.share import share_problems

WALLTIME = re.compile(r"(\d+-)?\d+(:\d{2}){1,2}")

ANSWER_SECONDS = 30.0
"""For an answer of Slurm's commands."""

EARLY_SECONDS = 60
"""So much before its moment Slurm may send a signal."""

PHASES: dict[str, Phase] = {
    "PENDING": "waiting",
    "CONFIGURING": "waiting",
    "REQUEUED": "waiting",
    "REQUEUE_HOLD": "waiting",
    "REQUEUE_FED": "waiting",
    "SPECIAL_EXIT": "waiting",
    "RUNNING": "running",
    "COMPLETING": "running",
    "SUSPENDED": "running",
    "STOPPED": "running",
    "SIGNALING": "running",
    "RESIZING": "running",
    "STAGE_OUT": "running",
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
    "FAILED": "failed",
    "TIMEOUT": "failed",
    "PREEMPTED": "failed",  # where it may not go back to the queue
    "NODE_FAIL": "failed",
    "BOOT_FAIL": "failed",
    "DEADLINE": "failed",
    "OUT_OF_MEMORY": "failed",
}

REMEDIES = (
    ("invalid partition", "partition: in the profile; `sinfo` lists them"),
    (
        "invalid account",
        "account: in the profile; `sacctmgr show associations user=$USER` lists them",
    ),
    ("permission", "ask those who run the cluster for access"),
    ("not permitted", "another partition: in the profile, or ask those who run it for access"),
    ("not available", "ask for fewer nodes, cores or GPUs: `sinfo -o '%P %D %c %G'`"),
    ("time limit", "lower walltime: in the profile"),
    ("unable to contact", "is slurmctld up? `scontrol ping`"),
    ("configuration source", "submit from a login node: Slurm here knows of no cluster"),
    ("authentication", "is munged up, with the cluster's key? Ask those who run it"),
)
"""What to do about words of sbatch."""

PASSING = (
    "unable to contact", "timed out", "connection refused", "connection reset", "try again",
    "temporarily", "zero bytes", "communication",
)  # fmt: skip
"""Words of Slurm's commands that the same command may not say a moment later."""

REASONS = (
    ("PartitionTimeLimit", "lower walltime: in the profile"),
    ("PartitionNodeLimit", "lower nodes: in the profile"),
    ("PartitionConfig", "ask for fewer nodes, cores, GPUs or memory: `sinfo -o '%P %D %c %m %G'`"),
    ("Partition", "it takes no jobs now: another partition: in the profile; `sinfo` lists them"),
    ("ReqNodeNotAvail", "nodes are down or reserved: `sinfo -R` says why"),
    ("BadConstraints", "no node is like that: options: in the profile"),
    ("JobHeldUser", "it is held: `scontrol release`"),
    ("JobHeld", "ask those who run the cluster"),
    ("JobHoldMaxRequeue", "it was cut off too often: submit the same file again"),
    ("Assoc", "the account's limit: `sacctmgr show associations user=$USER`"),
    ("QOS", "the limit of its quality of service: `sacctmgr show qos`"),
    ("JobLaunchFailure", "does the node see the folder of its output? storage: in the profile"),
    ("out_of_memory", "raise memory: in the profile"),
)
"""What to do about a job that waits or has failed, by the beginning of Slurm's reason."""

VARIABLES = {
    # The second would make several jobs of one, the third wait for its end.
    "job-name": ("SBATCH_JOB_NAME", "SBATCH_ARRAY_INX", "SBATCH_WAIT"),
    "output": ("SBATCH_OUTPUT", "SBATCH_ERROR"),
    "open-mode": ("SBATCH_OPEN_MODE",),
    "partition": ("SBATCH_PARTITION",),
    "account": ("SBATCH_ACCOUNT",),
    "gpus-per-node": ("SBATCH_GPUS_PER_NODE",),
    "mem": ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU"),
    "time": ("SBATCH_TIMELIMIT",),
    "signal": ("SBATCH_SIGNAL",),
    "requeue": ("SBATCH_NO_REQUEUE",),
    "no-requeue": ("SBATCH_REQUEUE",),
}
"""sbatch's variables, which count more than a line of the script, by the option of that line."""

LETTERS = {
    "a": "array", "c": "cpus-per-task", "e": "error", "N": "nodes", "n": "ntasks", "o": "output",
    "W": "wait",
}  # fmt: skip
"""Options of one letter by their long names."""

READ = "`gansweep logs` reads the output as slurm-ID.log in the sweep's folder"

OWN_OPTIONS = {
    "array": "array: in the profile, or --array N",
    "cpus-per-task": "cpus: in the profile",
    "error": READ,
    "nodes": "nodes: in the profile",
    "ntasks": "nodes: and cpus: in the profile",
    "ntasks-per-node": "nodes: and cpus: in the profile",
    "open-mode": READ,
    "output": READ,
    "signal": "stop_seconds: in the profile",
    "wait": "`gansweep logs ID --follow` waits for the end",
}
"""Options of sbatch that the job needs as it sets them, and what there is in their place."""

SHOWN_PHASES: tuple[Phase, ...] = (
    "running", "waiting", "unknown", "failed", "cancelled", "forgotten", "done",
)  # fmt: skip
"""An array is what the first of these says that one of its tasks is in."""


TASK = "%a"
"""Slurm's sign for the number of an array's task, in the name of its log."""


@final
class Slurm(Launcher):
    """Submits by `sbatch`, from a machine that has Slurm's commands and shares its files."""

    @final
    @dataclass(frozen=True)
    class Settings(Profile):
        partition: str | None = setting(None, "partition; null: the cluster's default")
        account: str | None = setting(None, "account that pays; null: the user's default")
        nodes: int = setting(1, "nodes of the job; Ray spans them", ge=1)
        array: int | None = setting(
            None, "so many jobs of one node, each with a share of the trials; null: one job", ge=1
        )
        cpus: int = setting(1, "cores on each node", ge=1)
        gpus_per_node: int = setting(0, "GPUs on each node", ge=0)
        memory: str | None = setting(None, "memory on each node, as 32G; null: the default")
        walltime: str | None = setting(
            None, "longest run, in quotes: '4:00:00' or '2-00:00:00'; null: the partition's default"
        )
        setup: list[str] = setting([], "shell lines before all: modules and such")
        options: list[str] = setting([], "further options of sbatch: --qos=long")
        requeue: bool = setting(True, "whether the job goes back to the queue when it was cut off")
        restarts: int = setting(100, "how often it goes back by itself at most", ge=0)
        stop_seconds: int = setting(
            120, "before its time is up the trials are asked for checkpoints", ge=1
        )
        ready_seconds: int = setting(300, "for all nodes of the job to join Ray", ge=1)

    profile: Settings

    def problems(self, job: Job) -> list[Problem]:
        own, problems = self.profile, []
        if own.walltime is not None and not WALLTIME.fullmatch(own.walltime):
            what = f"is {own.walltime!r}, no time of Slurm's"
            problems.append(Problem("walltime", what, "hours:minutes:seconds in quotes, '4:00:00'"))
        elif 0 < (given := _seconds(own.walltime or "0:00")) <= own.stop_seconds + EARLY_SECONDS:
            what = f"is {own.walltime!r}, {given} s, of which the stop takes {own.stop_seconds} s"
            remedy = "more; '2:00' are minutes and seconds, '2:00:00' hours"
            problems.append(Problem("walltime", what, remedy))
        for name, value in [("options", o) for o in own.options] + [
            ("partition", own.partition), ("account", own.account), ("memory", own.memory)
        ]:  # fmt: skip
            if value is not None and (not value.strip() or "\n" in value):
                problems.append(Problem(name, f"is {value!r}", "one word"))
        for option in own.options:
            if not option.startswith("-"):
                what = f"{option!r} is no option of sbatch"
                problems.append(Problem("options", what, "write it as --name=value"))
            elif instead := OWN_OPTIONS.get(_name_of(option)):
                what = f"{option!r} would be set over the job's own"
                problems.append(Problem("options", what, instead))
        at_once = max(own.nodes, own.array or 1)
        if at_once > 1 and job.uri.startswith("sqlite"):
            problems.append(
                Problem(
                    "tracking uri",
                    f"{job.uri} is a file, which {at_once} nodes cannot write to at once",
                    "start `gansweep ui --host 0.0.0.0` on a machine that all nodes reach, and "
                    "name it: tracking_uri: http://HOST:5000",
                )
            )
        if own.array:
            problems.extend(share_problems(job.sweep.search))
            if is_url(job.root):
                what = "is a URL, and the tasks of an array tell each other by files of one folder"
                problems.append(Problem("storage", what, "a folder, or leave out array"))
            if own.nodes > 1:
                what = f"is {own.nodes}, and a task of an array has one node"
                problems.append(Problem("nodes", what, "leave out nodes, or array"))
        problems += resource_problems(
            job.sweep.resources, cpus=own.cpus, gpus=own.gpus_per_node, count=own.nodes, of="node"
        )
        return problems

    def notes(self, job: Job) -> list[str]:
        notes = []
        if job.uri_is_of_this_machine:
            notes.append(
                f"the job looks for {job.uri} on the node that it runs on: where the server is "
                "elsewhere, give its machine's name, and start it with --host 0.0.0.0"
            )
        tasks, trials = self.profile.array or 0, len(job.trials)
        if tasks > trials:
            notes.append(
                f"the array has {counted(tasks, 'task')} for {counted(trials, 'trial')}: "
                f"{tasks - trials} of them will have nothing to do"
            )
        return notes

    def render(self, job: Job) -> str:
        bundle = sweep_bundle(job.sweep)
        return self._script(job, self._snapshot(job, bundle) / bundle.sweep)

    def submit(
        self, job: Job, *, on_id: Callable[[Submitted], None] = lambda job: None
    ) -> Submitted:
        _need("sbatch")
        bundle = sweep_bundle(job.sweep)
        snapshot = self._snapshot(job, bundle)
        try:
            bundle.write(snapshot)
        except OSError as error:
            what = f"cannot be written: {error.strerror or error}"
            remedy = "another --dir, or storage: in the profile"
            raise ConfigError.single(str(_folder(job)), what, remedy) from None
        bundle.check(snapshot, job.sweep.overrides)
        said = self._sent(job, self._script(job, snapshot / bundle.sweep))
        number, _, cluster = said.strip().splitlines()[-1].partition(";")
        task = f"_{TASK}" if self.profile.array else ""
        log = f"{_folder(job)}/slurm-{number}{task}.log"
        return Submitted(f"{number}@{cluster}" if cluster else number, log)

    def _sent(self, job: Job, script: str) -> str:
        """What sbatch says to the script."""
        try:
            return _slurm("sbatch", "--parsable", input=script)
        except AwayError as error:
            if "no answer" not in error.problems[0].what:
                raise
            name = shlex.quote(f"gansweep-{job.sweep.name}")
            remedy = f"`squeue --me --name={name}` shows it; `scancel NUMBER` ends it"
            lost = Problem("sbatch", "may have been heard all the same", remedy)
            outcome = "a job may be in the queue"
            raise ConfigError([*error.problems, lost], outcome=outcome) from None

    def _snapshot(self, job: Job, bundle: Bundle) -> Path:
        """The files as they are now: what changes until the job starts is meant for another."""
        return _folder(job) / "submitted" / bundle.digest

    def _script(self, job: Job, file: Path) -> str:
        own = self.profile
        several = own.nodes > 1
        options = {
            "job-name": f"gansweep-{job.sweep.name}",
            "chdir": str(job.folder),
            "array": own.array and f"1-{own.array}",
            "output": f"{_folder(job)}/slurm-".replace("%", "%%")
            + (f"%A_{TASK}.log" if own.array else "%j.log"),  # %A, %j: the job's number
            "open-mode": "append",
            "partition": own.partition,
            "account": own.account,
            "nodes": own.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": own.cpus,
            "gpus-per-node": own.gpus_per_node or None,
            "mem": own.memory,
            "time": own.walltime,
            "signal": f"B:USR1@{own.stop_seconds}",
        }
        lines = [f"--{k}={shlex.quote(str(v))}" for k, v in options.items() if v is not None]
        lines.append("--requeue" if own.requeue else "--no-requeue")
        lines += ["--no-kill"] * several  # one lost worker does not end the job
        python = own.python or sys.executable
        words = {
            "RUN": f"({shlex.join(job.command(str(file), python=python))})",
            "RESTARTS": own.restarts if own.requeue else 0,
            "STOP_SECONDS": own.stop_seconds,
        }
        if own.array:
            words["TASKS"] = own.array
        if several:
            words |= {
                "PYTHON": shlex.quote(python),
                "NODES": own.nodes,
                "CPUS": own.cpus,
                "GPUS": own.gpus_per_node,
                "READY_SECONDS": own.ready_seconds,
                "RAY_LOG": shlex.quote(f"{_folder(job)}/slurm-") + "$SLURM_JOB_ID.ray.log",
            }
        return "\n".join(
            [
                "#!/usr/bin/env bash",
                *(f"#SBATCH {line}" for line in [*lines, *own.options]),
                "",
                *own.setup,
                *(f"{name}={value}" for name, value in words.items()),
                "",
                _part("slurm_driver.sh"),
                _part(f"slurm_{'nodes' if several else 'share' if own.array else 'node'}.sh"),
            ]
        )

    def state(self, job: Submitted) -> JobState:
        _need("scontrol")
        try:
            said = _asked(job, "scontrol", "--oneliner", "show", "job", number_of(job))
        except ConfigError as error:
            if "nvalid job id" in str(error):
                return self._accounted(job)
            raise
        return self._together(list(_tasks(said)), job)

    def _together(self, tasks: Sequence[tuple[JobState, int]], job: Submitted) -> JobState:
        """How the job stands, or an array of so many tasks in each state."""
        states, wanted = [state for state, _ in tasks], self.profile.array
        if not (wanted and states):
            return states[0] if states else JobState("unknown", "Slurm says nothing of it")
        counts: Counter[Phase] = Counter()
        for state, count in tasks:
            counts[state.phase] += count
        phase: Phase = next((phase for phase in SHOWN_PHASES if counts[phase]), "unknown")
        forgotten = wanted - counts.total()
        if forgotten > 0 and phase in OVER:
            accounted = self._accounted(job)
            if accounted.phase != "forgotten":
                return accounted
        words = [f"{counts[phase]} {phase}" for phase in SHOWN_PHASES if counts[phase]]
        words += [f"{forgotten} over and forgotten"] * (forgotten > 0)
        why = next((state.reason for state in states if state.phase == phase and state.reason), "")
        codes = [state.code for state in states if state.code is not None]
        told = "; ".join(filter(None, [", ".join(words) if len(words) > 1 else "", why]))
        return JobState(phase, told, max(codes) if codes and phase in OVER else None)

    def _accounted(self, job: Submitted) -> JobState:
        """How a job ended that Slurm itself has forgotten, which takes it minutes."""
        words = ("sacct", "-X", "-n", "-P", "-j", number_of(job), "-o", "State,ExitCode")
        said, why = "", "keeps no accounts"
        if shutil.which("sacct"):
            try:
                said, why = _asked(job, *words).strip(), "its accounts do not name it"
            except AwayError:
                raise
            except ConfigError as error:
                if "disabled" not in str(error):  # where there are no accounts, it says so
                    why = f"its accounts say: {error.problems[0].what}"
        if not said:
            return JobState("forgotten", f"Slurm knows it no more, and {why}")
        lines = [line.partition("|") for line in said.splitlines()]
        if not self.profile.array:
            del lines[:-1]
        tasks = [(_state(state.split()[0], "", code), 1) for state, _, code in lines]
        if len(tasks) < (self.profile.array or 1):
            return JobState("forgotten", "Slurm knows it no more, and its accounts not all tasks")
        return self._together(tasks, job)

    def parts(self, job: Submitted) -> Sequence[Submitted]:
        if self.profile.array is None:
            return [job]
        log = Path(job.log)
        return [
            Submitted(
                f"{number_of(job)}_{task}", str(log.with_name(log.name.replace(TASK, str(task))))
            )
            for task in range(1, self.profile.array + 1)
        ]

    def log(self, job: Submitted, after: int) -> tuple[str, int]:
        try:
            with open(job.log, "rb") as file:
                file.seek(after)
                content = file.read()
        except FileNotFoundError:  # it waits
            return "", after
        except OSError as error:
            raise ConfigError.single(job.log, f"cannot be read: {error.strerror}") from None
        return content.decode("utf-8", errors="replace"), after + len(content)

    def stop(self, job: Submitted) -> None:
        """Slurm's own word would reach Ray on every node before the trials have checkpoints."""
        _need("scancel")
        _asked(job, "scancel", "--state=PENDING", number_of(job))
        with suppress(ConfigError):  # as where a task of an array waits again: the others heard it
            _asked(job, "scancel", "--state=RUNNING", "--batch", "--signal=USR2", number_of(job))

    def cancel(self, job: Submitted) -> None:
        _need("scancel")
        _asked(job, "scancel", number_of(job))

    def by_hand(self, job: Submitted) -> str:
        return f"`{shlex.join(_on_its_cluster(job, 'scancel', number_of(job)))}`"


def _name_of(option: str) -> str:
    """The long name of an option of sbatch as a person wrote it: of -N2, -N 2, --nodes=2."""
    if option.startswith("--"):
        return re.split(r"[=\s]", option[2:], maxsplit=1)[0]
    return LETTERS.get(option[1:2], "")


def number_of(job: Submitted) -> str:
    """Its number, which is its own on one cluster alone."""
    return job.id.partition("@")[0]


def _on_its_cluster(job: Submitted, command: str, *words: str) -> list[str]:
    """The command's words, for the cluster that has the job where Slurm has several."""
    _, _, cluster = job.id.partition("@")
    return [command, *([f"--clusters={cluster}"] if cluster else []), *words]


def _asked(job: Submitted, command: str, *words: str) -> str:
    return _slurm(*_on_its_cluster(job, command, *words))


def _folder(job: Job) -> Path:
    """The sweep's, or one of its name where the job was submitted: a store takes no growing log."""
    root = job.folder / "runs" if is_url(job.root) else Path(job.root)
    return root / job.sweep.name


def _seconds(walltime: str) -> int:
    """Of a `WALLTIME`, as Slurm reads it: minutes:seconds, or with days before, hours:minutes."""
    days, dash, rest = walltime.rpartition("-")
    numbers = list(map(int, rest.split(":")))
    from_hours = dash or len(numbers) == 3
    hours, minutes, seconds = [*numbers, 0][:3] if from_hours else [0, *numbers]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _part(name: str) -> str:
    return (files("gansweep.launch") / name).read_text(encoding="utf-8")


def _need(command: str) -> None:
    if shutil.which(command) is None:
        raise ConfigError.single(
            "--to slurm",
            f"this machine has no {command}",
            "submit from a login node of the cluster; --dry-run prints the script anywhere",
        )


def _slurm(*words: str, input: str | None = None) -> str:
    """What a command of Slurm's says; ConfigError with its own words where it fails."""
    try:
        ended = subprocess.run(
            words,
            input=input,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            env=_environment(input or ""),
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"no answer within {ANSWER_SECONDS:g} s"
        raise AwayError.single(words[0], what, "is slurmctld up? `scontrol ping`") from None
    except OSError as error:
        raise ConfigError.single(words[0], f"cannot be run: {error.strerror}") from None
    if ended.returncode:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        plain = [re.sub(rf"^{words[0]}: ((error|fatal): )?", "", line) for line in lines]
        what = "; ".join(plain) or f"exit code {ended.returncode}"
        passing = any(part in what.lower() for part in PASSING)
        raise (AwayError if passing else ConfigError).single(words[0], what, _remedy(what))
    return ended.stdout


def _environment(script: str) -> dict[str, str]:
    """Ours, without the variables that would have sbatch overrule what the script says."""
    said = {
        line.removeprefix("#SBATCH --").partition("=")[0]
        for line in script.splitlines()
        if line.startswith("#SBATCH --")
    }
    taken = {name for option, names in VARIABLES.items() if option in said for name in names}
    return {name: value for name, value in os.environ.items() if name not in taken}


def _remedy(words: str) -> str:
    low = words.lower()
    return next((remedy for part, remedy in REMEDIES if part in low), "")


def _remedy_for(reason: str) -> str:
    """What to do about a reason to wait or to fail."""
    return next((remedy for start, remedy in REASONS if reason.startswith(start)), "")


def _tasks(said: str) -> Iterator[tuple[JobState, int]]:
    """What `scontrol show job` says: states, and how many tasks are in each."""
    for line in said.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split() if "=" in part)
        if state := fields.get("JobState"):
            count = _count(fields.get("ArrayTaskId", ""))
            yield _state(state, fields.get("Reason", ""), fields.get("ExitCode", "")), count


def _count(tasks: str) -> int:
    """How many task numbers there are in "1,3-5,7-8%2"; 1 where there is none."""
    ranges = [part.partition("-") for part in tasks.partition("%")[0].split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges if first) or 1


def _state(name: str, reason: str, code: str) -> JobState:
    """Slurm's own words as a state. code: EXIT:SIGNAL."""
    phase = PHASES.get(name, "unknown")
    exit_code, _, signal = code.partition(":")
    reason = "" if reason in ("None", "") or phase in ("done", "running") else reason
    if name not in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"):
        reason = ", ".join(filter(None, [name.lower(), reason]))
    if phase in ("waiting", "failed") and (remedy := _remedy_for(reason)):
        reason = f"{reason}; {remedy}"
    known = phase in ("done", "failed") and exit_code.isdecimal() and signal in ("", "0")
    return JobState(phase, reason, int(exit_code) if known else None)
