"""Ray Jobs: the driver runs on a Ray cluster that is there, submitted through its dashboard."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

import yaml

from gansweep.addresses import is_http_address
from gansweep.counting import counted
from gansweep.errors import AwayError, ConfigError, Problem
from gansweep.excerpt import beginning
from gansweep.launch.base import Job, JobState, Launcher, Phase, Profile, Submitted
from gansweep.launch.bundle import Bundle, sweep_bundle, with_code, with_files
from gansweep.proxies import LOOPBACK
from gansweep.redaction import has_credentials
from gansweep.settings import setting

PHASES: dict[str, Phase] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "STOPPED": "cancelled",
}

REASON_CHARACTERS = 300

ANSWER_SECONDS = 60.0
"""For which a dashboard may be silent, which Ray's client would wait for without end."""


@final
class RayJobs(Launcher):
    """Submits by `ray.job_submission`; the code and the sweep file travel with the request."""

    @final
    @dataclass(frozen=True)
    class Settings(Profile):
        address: str = setting("http://127.0.0.1:8265", "the dashboard of the cluster's head")
        files: list[str] = setting([], "further files and folders that travel")
        stop_seconds: int = setting(60, "for the trials' checkpoints after `gansweep cancel`", ge=1)

    profile: Settings

    def problems(self, job: Job) -> list[Problem]:
        own, problems = self.profile, []
        if not is_http_address(own.address):
            remedy = "http://HOST:8265, where the cluster's dashboard is"
            return [Problem("address", f"is {own.address!r}", remedy)]
        if has_credentials(own.address):
            what = "has a password, which the job's record would keep"
            problems.append(
                Problem("address", what, "leave it out; RAY_AUTH_TOKEN has a cluster's token")
            )
        if urlsplit(own.address).hostname not in LOOPBACK:
            if own.storage is None:
                what = "is required: the cluster keeps no files of this machine's"
                problems.append(Problem("storage", what, "a folder that all its nodes share"))
            is_file = job.uri.startswith("sqlite")
            if is_file or job.uri_is_of_this_machine:
                what = f"{job.uri} is {'a file of this machine' if is_file else 'this machine'}"
                remedy = (
                    "start an MLflow server that the cluster reaches, and name it: tracking_uri:"
                )
                problems.append(Problem("tracking uri", what, remedy))
        problems.extend(self._data_problems(job))
        return problems

    def _data_problems(self, job: Job) -> Iterator[Problem]:
        """Relative data paths that do not travel."""
        sent = [(job.folder / name).resolve() for name in self.profile.files]
        for path in job.local_data():
            place = (job.folder / path).resolve()
            if not any(place.is_relative_to(folder) for folder in sent):
                what = f"{path!r} is a relative path, which the cluster does not have"
                remedy = f"add it to `files:` in the profile ([{path}]), or name a shared folder"
                yield Problem("data.path", what, remedy)

    def render(self, job: Job) -> str:
        bundle = self._bundle(job)
        request = self._request(job, bundle, name=f"gansweep-{job.sweep.name}-...", folder="...")
        tree = {"address": self.profile.address, **request, "files": _summary(bundle)}
        text: str = yaml.safe_dump(tree, sort_keys=False, width=10**6)
        return text

    def submit(
        self, job: Job, *, on_id: Callable[[Submitted], None] = lambda job: None
    ) -> Submitted:
        bundle = self._bundle(job)
        name = f"gansweep-{job.sweep.name}-{uuid.uuid4().hex[:8]}"
        with tempfile.TemporaryDirectory(prefix="gansweep-") as folder:
            bundle.write(Path(folder))
            bundle.check(Path(folder), job.sweep.overrides)
            request = self._request(job, bundle, name=name, folder=folder)
            on_id(Submitted(name))
            self._send(name, request)
        return Submitted(name)

    def _send(self, name: str, request: dict[str, Any]) -> None:
        answers = False
        try:
            with self._client() as client:
                answers = True
                client.submit_job(**request)
        except AwayError as error:
            if not answers:
                raise
            remedy = f"{self.by_hand(Submitted(name))} ends it"
            lost = Problem(name, "may have been started all the same", remedy)
            outcome = "a job may have been started"
            raise ConfigError([*error.problems, lost], outcome=outcome) from None

    def _bundle(self, job: Job) -> Bundle:
        bundle = with_code(sweep_bundle(job.sweep), job.sweep)
        return with_files(bundle, self.profile.files, job.folder, at="files")

    def _request(self, job: Job, bundle: Bundle, *, name: str, folder: str) -> dict[str, Any]:
        python = self.profile.python or "python"
        words = [*job.command(str(bundle.sweep), python=python), "--address", "auto"]
        return {
            "submission_id": name,
            "entrypoint": shlex.join(words),
            "runtime_env": {
                "working_dir": folder,
                # Read by the job's supervisor, which would kill after 3 s.
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(self.profile.stop_seconds)},
            },
        }

    def state(self, job: Submitted) -> JobState:
        try:
            with self._client() as client:
                info = client.get_job_info(job.id)
        except ConfigError as error:
            if _is_unknown(error):
                return JobState("forgotten", "the cluster knows no such job: it was started anew")
            raise
        phase = PHASES.get(str(getattr(info.status, "value", info.status)), "unknown")
        reason = _reason(info.message or "") if phase in ("failed", "waiting") else ""
        return JobState(phase, reason, info.driver_exit_code)

    def log(self, job: Submitted, after: int) -> tuple[str, int]:
        try:
            with self._client() as client:
                text = str(client.get_job_logs(job.id) or "")
        except ConfigError as error:
            if _is_unknown(error):
                return "", after
            raise
        return text[after:], len(text)

    def cancel(self, job: Submitted) -> None:
        with self._client() as client:
            client.stop_job(job.id)

    def by_hand(self, job: Submitted) -> str:
        return f"`ray job stop {job.id} --address {self.profile.address}`"

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """The official client. What it cannot do is a ConfigError that names the address."""
        import logging

        # Here alone: `--dry-run` and what is wrong with a job need no Ray, which takes a second.
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):  # type: ignore[misc]  # Ray tells no types here
            def _do_request(self, *words: Any, **options: Any) -> Any:
                return super()._do_request(*words, **{"timeout": ANSWER_SECONDS, **options})

        logging.getLogger("ray.dashboard").setLevel(logging.WARNING)
        try:
            with _environment():
                yield Client(self.profile.address)
        except ConnectionError:
            raise AwayError.single(
                self.profile.address,
                "no Ray dashboard answers",
                "address: in the profile; on the head, `ray start --head` needs ray[default]",
            ) from None
        except (RayError, RuntimeError, OSError, ValueError) as error:  # Ray's words for all else
            words = beginning(" ".join(str(error).split()), REASON_CHARACTERS)
            passing = isinstance(error, OSError) or re.search(r"status code (5|429)", words)
            kind = AwayError if passing else ConfigError
            raise kind.single(self.profile.address, words, _remedy(words)) from None


def _is_unknown(error: ConfigError) -> bool:
    """Whether the dashboard answers, and has never heard of the job."""
    words = error.problems[0].what
    return "status code 404" in words and "does not exist" in words


def _remedy(words: str) -> str:
    if "oken" in words or "uthenticat" in words:
        return "RAY_AUTH_MODE=token and the cluster's token in RAY_AUTH_TOKEN"
    return ""


def _summary(bundle: Bundle) -> list[str]:
    """The files of a bundle, packages as one line."""
    packages = {path.parts[0] for path in bundle.files if path.name == "__init__.py"}
    single = [str(path) for path in bundle.files if path.parts[0] not in packages]
    lines = []
    for package in sorted(packages):
        below = [source for path, source in bundle.files.items() if path.parts[0] == package]
        size = sum(source.stat().st_size for source in below)
        lines.append(f"{package}/ ({counted(len(below), 'file')}, {size / 1e6:.1f} MB)")
    return sorted(single) + lines


def _reason(message: str) -> str:
    """The last line that says something of a failed job's message."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return beginning(lines[-1], REASON_CHARACTERS) if lines else ""


@contextmanager
def _environment() -> Iterator[None]:
    """Ray takes no other address than ours, and leaves out nothing of a bundle."""
    before = dict(os.environ)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)
    os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] = "1"
    os.environ["RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES"] = ""
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
