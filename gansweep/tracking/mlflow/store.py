"""The driver's side of the record: it makes experiment and runs, settles them, reads them back."""

from __future__ import annotations

import functools
import gc
import getpass
import os
import re
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, final

from gansweep.errors import ConfigError, Problem, nearest
from gansweep.excerpt import beginning
from gansweep.redaction import redact
from gansweep.tracking.mlflow import tags as tag_names
from gansweep.tracking.mlflow.client import error_code, is_locked, open_client, reason
from gansweep.tracking.mlflow.database import make_database
from gansweep.tracking.mlflow.uri import ARTIFACT_FOLDER, artifact_location, is_http, sqlite_file

if TYPE_CHECKING:
    from PIL.Image import Image

StoreStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

_PARAM_CHARACTERS = 6000  # MLflow cuts longer values without a word
_NAME_CHARACTERS = 250  # what databases other than SQLite hold of a run's name
_PAGE = 1000  # runs in one answer
_ANSWER_SECONDS = 3.0  # for a server's sign of life
_LOCK_SECONDS = 60.0  # for another process to let go of a SQLite database
_SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as MLflow has it. `tags` are gansweep's, unprefixed.

    `metrics` are the last values; of one that completed, the last up to its g_steps. It may have
    been killed beyond its last checkpoint, and its budget shortened since. `g_steps` are those of
    its last score or of its end; of one that was killed before its first score, of its last values.
    """

    run_id: str
    key: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    g_steps: int


@final
class MlflowStore:
    """The store at `uri` (from `tracking_uri`). Nothing is opened before it is needed.

    Every call names its run, so neither an active run nor MLFLOW_RUN_ID has any influence.
    Tag names go under `gansweep.`, unless they begin so or with `mlflow.` already.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._indexed: dict[str, dict[str, str]] = {}  # run ids of trials, by experiment and key
        self._unsure: set[str] = set()  # keys of runs that a call that failed may have made

    @functools.cached_property
    def _client(self) -> Any:
        from mlflow.exceptions import MlflowException

        path = sqlite_file(self.uri)
        try:
            if path and not path.exists():
                make_database(path)
            return _open_patiently(self.uri)
        except MlflowException as error:  # e.g. a schema of another version, with the remedy
            raise ConfigError.single("tracking uri", f"{self.uri}: {error}") from error

    def check(self) -> None:
        """Find out within about 5 s whether the store can be used; nothing is written.

        Raises:
            ConfigError: no answer, no MLflow server, no permission, or not a database.
        """
        problem = None
        if is_http(self.uri):
            problem = _server_problem(self.uri)
        elif path := sqlite_file(self.uri):
            problem = _file_problem(path)
        elif not self.uri.startswith("databricks"):
            problem = _database_problem(self.uri)
        if problem:
            raise ConfigError([problem])

    def warm_up(self) -> None:
        """Import what the first call will need; nothing is opened or written."""
        import mlflow.tracking  # noqa: F401

    def experiment(self, name: str) -> str:
        """The id of the experiment, made with its database where there is none.

        Artifacts of a SQLite store lie beside it, in `mlruns/NAME`; a server decides for itself.
        Call it before any worker starts: the schema cannot be created by several at once.

        Raises:
            ConfigError: the experiment was deleted, or the store cannot be opened.
        """
        from mlflow.exceptions import MlflowException

        if number := self.find_experiment(name):
            return number
        path = sqlite_file(self.uri)
        folder = path and path.parent / ARTIFACT_FOLDER / _folder_name(name)
        location = artifact_location(folder) if folder else None
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        number = self.find_experiment(name)  # another driver was faster
        assert number is not None
        return number

    def find_experiment(self, name: str) -> str | None:
        """The id of the experiment, None where there is none; a database is made all the same.

        Raises:
            ConfigError: the experiment was deleted, or the store cannot be opened.
        """
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        number = str(found.experiment_id)
        if found.lifecycle_stage == "deleted":
            raise ConfigError.single(
                "name",
                f"the MLflow experiment {name!r} was deleted",
                f"choose another name, or bring it back with MLFLOW_TRACKING_URI={self.uri} "
                f"mlflow experiments restore --experiment-id {number}",
            )
        return number

    def parent_run(
        self, experiment_id: str, name: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """The run that stands for the sweep `name`: found by its tag `gansweep.sweep`, or made.

        It is RUNNING from now on.
        """
        return self._run(
            experiment_id, tag_names.SWEEP, name, name=name, tags=tags or {}, params={}
        )

    def trial_run(
        self,
        experiment_id: str,
        parent: str | None,
        key: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The run of the trial `key`, below the run `parent`: found by `gansweep.key`, or made.

        It is RUNNING from now on. Without a parent it stands alone; one that it has already is
        kept. A param once stored keeps its value, as MLflow demands; new ones are added. Values
        over 6000 characters are shortened and say so.
        """
        own = {**(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}
        return self._run(experiment_id, tag_names.KEY, key, name=name, tags=own, params=params)

    def index_trials(self, experiment_id: str) -> None:
        """Look once which runs of trials there are, so that `trial_run` need not search for each.

        A search costs the store the more the more runs there are. Nobody else may make runs of the
        same trials from now on.
        """
        index: dict[str, str] = {}
        for run in self._search(experiment_id, f"tags.`{tag_names.KEY}` LIKE '%'"):
            index.setdefault(run.data.tags[tag_names.KEY], str(run.info.run_id))
        self._indexed[experiment_id] = index

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Tags; a later value replaces an earlier one."""
        from mlflow.entities import RunTag

        own = tag_names.namespaced(tags)
        entities = [RunTag(name, redact(value)) for name, value in own.items()]
        self._client.log_batch(run_id, tags=entities, synchronous=True)  # 100 in each request

    def log_text(self, run_id: str, text: str, artifact: str) -> None:
        """A text artifact at the relative path `artifact`; an earlier one is replaced."""
        self._client.log_text(run_id, redact(text), artifact)

    def log_image_file(self, run_id: str, path: Path) -> None:
        """The picture file at `path`, byte for byte, as an artifact of its name."""
        self._client.log_artifact(run_id, str(path))

    def settle(self, run_id: str, status: StoreStatus) -> None:
        """End the run with `status`, or bring it back to life with RUNNING."""
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status)

    def trials(self, experiment: str) -> list[TrialRecord]:
        """Every trial of the experiment of that name, oldest first.

        Raises:
            ConfigError: there is no such experiment.
        """
        return list(self.each_trial(experiment))

    def each_trial(self, experiment: str) -> Iterator[TrialRecord]:
        """As `trials`, one after the other."""
        number = self.existing_experiment(experiment)
        yield from map(self._record, self._search(number, f"tags.`{tag_names.KEY}` LIKE '%'"))

    def _record(self, run: Any) -> TrialRecord:
        tags = tag_names.own(run.data.tags)
        steps = (last.step for last in run.data._metric_objs)
        return TrialRecord(
            run_id=run.info.run_id,
            key=run.data.tags[tag_names.KEY],
            name=run.info.run_name,
            status=run.info.status,
            tags=tags,
            params=dict(run.data.params),
            metrics=self._metrics(run, tags),
            g_steps=int(tags["g_steps"]) if "g_steps" in tags else max(steps, default=0),
        )

    def _metrics(self, run: Any, tags: Mapping[str, str]) -> dict[str, float]:
        values: dict[str, float] = dict(run.data.metrics)
        if tags.get("state") != "completed":
            return values
        end = int(tags.get("g_steps", "0"))
        for name in [last.key for last in run.data._metric_objs if last.step > end]:
            history = self._client.get_metric_history(run.info.run_id, name)
            taken = {each.step: each.value for each in history if each.step <= end}
            del values[name]
            if taken:
                values[name] = taken[max(taken)]
        return values

    def sweep_tags(self, experiment: str) -> dict[str, str]:
        """The tags of the experiment's sweep, as in `TrialRecord`; none where it has no parent run.

        Raises:
            ConfigError: there is no such experiment.
        """
        run = self._sweep_run(experiment)
        return {} if run is None else tag_names.own(run.data.tags)

    def end_sweep(self, experiment: str, status: StoreStatus) -> None:
        """End the experiment's sweep with `status` where its parent run is RUNNING yet.

        Raises:
            ConfigError: there is no such experiment.
        """
        run = self._sweep_run(experiment)
        if run is not None and run.info.status == "RUNNING":
            self.settle(run.info.run_id, status)

    def _sweep_run(self, experiment: str) -> Any:
        number = self.existing_experiment(experiment)
        return next(self._search(number, f"tags.`{tag_names.SWEEP}` LIKE '%'"), None)

    def existing_experiment(self, name: str) -> str:
        """The id of the experiment `name`; nothing is made.

        Raises:
            ConfigError: there is none; it lists the nearest.
        """
        path = sqlite_file(self.uri)
        if path and not path.exists():
            raise ConfigError.single(str(path), "no such database", "run a sweep first")
        found = self._client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            own = (each for each in self._client.search_experiments() if each.experiment_id != "0")
            names = [each.name for each in own]  # without MLflow's own, `Default`
            raise ConfigError.single(name, f"no such sweep in {self.uri}", nearest(name, names))
        return str(found.experiment_id)

    def last_image(self, run_id: str) -> Image | None:
        """The run's latest picture of the series `samples`, by step; None where there is none.

        Nor is there one where the store does not know the run, as another one than it was made in.
        """
        import mlflow.artifacts
        from mlflow.exceptions import MlflowException
        from mlflow.utils.uri import append_to_uri_path
        from PIL import Image

        # By the artifacts' own address: by the run's id, MLflow would look the run up for each.
        try:
            root = self._client.get_run(run_id).info.artifact_uri
        except MlflowException as error:
            if error_code(error) != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        steps: dict[int, str] = {}
        for artifact in mlflow.artifacts.list_artifacts(
            append_to_uri_path(root, "images"), tracking_uri=self.uri
        ):
            name = PurePosixPath(artifact.path).name
            parts = re.split(r"[+%]", name)  # KEY+step+N+timestamp+T+UUID.png; % in older MLflow
            if parts[0] == "samples" and name.endswith(".png") and "step" in parts:
                steps[int(parts[parts.index("step") + 1])] = artifact.path
        if not steps:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            path = mlflow.artifacts.download_artifacts(
                append_to_uri_path(root, steps[max(steps)]),
                dst_path=scratch,
                tracking_uri=self.uri,
            )
            with Image.open(path) as picture:
                picture.load()
                return picture

    @staticmethod
    def comparison_url(experiment_id: str, ui_base: str, *, metric: str, mode: str = "min") -> str:
        """The page of the UI at `ui_base` that draws the trials' curves over each other.

        It lists the trials alone, the best by `metric` first: without an order of its own the UI
        folds them below the sweep's run, and its charts are empty. Around it are MLflow's pages for
        model training; of itself the UI begins with those for language models.
        """
        query = urllib.parse.urlencode(
            {
                "searchFilter": f"tags.`{tag_names.KEY}` LIKE '%'",
                "orderByKey": f"metrics.`{metric}`",
                "orderByAsc": "true" if mode == "min" else "false",
                "compareRunsMode": "CHART",
                "workflowType": "machine_learning",
            },
            quote_via=urllib.parse.quote,
        )
        return f"{ui_base.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"

    def _run(
        self,
        experiment_id: str,
        tag: str,
        value: str,
        *,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, object],
    ) -> str:
        if len(name) > _NAME_CHARACTERS:
            name = f"{name[: _NAME_CHARACTERS - 1]}…"
        hidden = {name: redact(text) for name, text in tag_names.namespaced(tags).items()}
        wanted = hidden | {tag: value}
        stored: Mapping[str, str] = {}
        run = self._find(experiment_id, tag, value)
        if run is None:
            origin = {
                "mlflow.user": _user(),
                "mlflow.source.name": "gansweep",
                "mlflow.source.type": "LOCAL",
            }
            self._unsure.add(value)
            run = self._client.create_run(experiment_id, run_name=name, tags=origin | wanted)
            self._unsure.discard(value)
            if tag == tag_names.KEY and experiment_id in self._indexed:
                self._indexed[experiment_id][value] = str(run.info.run_id)
        else:
            stored = run.data.params
            known = run.data.tags
            changed = {k: v for k, v in wanted.items() if known.get(k) != v}
            if run.info.run_name != name:
                changed["mlflow.runName"] = name
            if changed:
                self.set_tags(run.info.run_id, changed)
            if run.info.status != "RUNNING":
                self.settle(run.info.run_id, "RUNNING")
        run_id = str(run.info.run_id)
        fresh = {name: value for name, value in params.items() if name not in stored}
        if fresh:
            self._log_params(run_id, fresh)
        return run_id

    def _find(self, experiment_id: str, tag: str, value: str) -> Any:
        """The run with that tag, the oldest one; None where there is none."""
        index = self._indexed.get(experiment_id) if tag == tag_names.KEY else None
        if index is None or value in self._unsure:
            return next(self._search(experiment_id, f"tags.`{tag}` = {_quoted(value)}"), None)
        if value not in index:
            return None
        run = self._client.get_run(index[value])
        return run if run.info.lifecycle_stage == "active" else None

    def _log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        entities = [Param(name, _param_text(value)) for name, value in params.items()]
        self._client.log_batch(run_id, params=entities, synchronous=True)  # 100 in each request

    def _search(self, experiment_id: str, filter_string: str) -> Iterator[Any]:
        token = None
        while True:
            with _uncollected():
                page = self._client.search_runs(
                    [experiment_id],
                    filter_string=filter_string,
                    max_results=_PAGE,
                    order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                    page_token=token,
                )
            yield from page
            token = page.token
            if not token:
                return


@contextmanager
def _uncollected() -> Iterator[None]:
    """A page has 100,000 objects and no cycles: to look for some takes longer than all else."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _param_text(value: object) -> str:
    text = redact(str(value))
    if len(text) <= _PARAM_CHARACTERS:
        return text
    marker = f" ... [shortened: {len(text)} characters in all]"
    return text[: _PARAM_CHARACTERS - len(marker)] + marker


def _quoted(text: str) -> str:
    for quote in "'\"":
        if quote not in text:
            return f"{quote}{text}{quote}"
    raise ConfigError.single(text, "has both kinds of quotes", "use neither in a name")


def _folder_name(experiment: str) -> str:
    return re.sub(r"[^\w.-]+", "-", experiment).strip(".") or "experiment"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def _open_patiently(uri: str) -> Any:
    """A client of `uri`, when another process lets go of its SQLite database.

    MLflow's own sessions wait 20 s for it, but its opening only the 5 s of Python's default.
    """
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return open_client(uri)
        except Exception as error:
            if not is_locked(error) or time.monotonic() > until:
                raise
            time.sleep(0.1)


def _server_problem(uri: str) -> Problem | None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        # MLflow's own request, for its credentials and certificates.
        answer = http_request(
            get_default_host_creds(uri),
            "/api/2.0/mlflow/experiments/search",
            "GET",
            params={"max_results": 1},
            timeout=_ANSWER_SECONDS,
            max_retries=0,
            raise_on_status=False,
        )
    except MlflowException as error:
        return Problem(
            uri,
            f"no MLflow server answers ({reason(error)})",
            "start one with `gansweep ui`, or correct the tracking uri",
        )
    if answer.status_code in (401, 403):
        return Problem(
            uri,
            f"the server refuses us: {answer.status_code} {beginning(answer.text.strip(), 200)}",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN; "
            "for an invalid host, start the server with --allowed-hosts",
        )
    try:
        usable = answer.status_code == 200 and isinstance(answer.json(), dict)
    except ValueError:
        usable = False
    if usable:
        return None
    return Problem(uri, f"is no MLflow server (answers {answer.status_code})", "correct the uri")


def _database_problem(uri: str) -> Problem | None:
    # MLflow itself would try for half an hour.
    import sqlalchemy

    limit = {"connect_timeout": int(_ANSWER_SECONDS)}
    known = uri.startswith(("postgresql", "mysql"))
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=limit if known else {})
        engine.connect().close()
        engine.dispose()
    except ImportError as error:
        return Problem("tracking uri", f"its driver is missing: {error}", "install the driver")
    except sqlalchemy.exc.SQLAlchemyError as error:
        words = str(error.__cause__ or error).strip().splitlines()[0]
        return Problem("tracking uri", f"the database does not answer: {words}", "start it")
    return None


def _file_problem(path: Path) -> Problem | None:
    where = str(path)
    if path.is_dir():
        return Problem(where, "is a folder, not a database", "name a file, e.g. mlflow.db")
    if path.exists():
        with path.open("rb") as stream:
            magic = stream.read(len(_SQLITE_MAGIC))
        if magic and magic != _SQLITE_MAGIC:
            return Problem(where, "is no SQLite database", "name another file")
        if not os.access(path, os.W_OK):
            return Problem(where, "is not writable", "name another file")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Problem(str(folder), "is not a writable folder", "choose another tracking uri")
    return None
