"""The shared tracking server as infra/compose starts it: PostgreSQL, S3 and a browser, all real."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import yaml
from s3 import environment

from gansweep.tracking.mlflow import MlflowStore

from .browser import LOADED, SLOW, comparison, screenshots, settled
from .command import REPOSITORY, Ended, Place, answers, wait_for
from .conftest import free_port
from .postgres import Postgres, what_is_missing
from .record import Record
from .story import CLIPS, NAME, OPTIMIZERS, words

pytestmark = [pytest.mark.tracking, pytest.mark.timeout(600)]

COMPOSE = REPOSITORY / "infra" / "compose"
G_STEPS = 60


@dataclass(frozen=True)
class Recorded:
    place: Place
    uri: str
    database: Postgres
    ended: Ended


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    if missing := what_is_missing():
        pytest.skip(missing)
    postgres = Postgres()
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()


@pytest.fixture(scope="module")
def recorded(
    new_place: Callable[..., Place], database: Postgres, s3_server: str
) -> Iterator[Recorded]:
    """The demo, small, once it is in the shared server. No worker has a key of the storage."""
    tree = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    service = tree["services"]["mlflow"]
    port = free_port()
    place = new_place("shared")
    keys = environment(s3_server)
    server = Place(
        place.folder / "server",
        **{name: keys[name] for name in keys if name != "AWS_ENDPOINT_URL"},
        MLFLOW_S3_ENDPOINT_URL=s3_server,
        MLFLOW_BACKEND_STORE_URI=database.uri,
        MLFLOW_SERVER_ALLOWED_HOSTS="localhost,localhost:*,127.0.0.1,127.0.0.1:*",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
    )
    assert set(service["environment"]) - {"<<"} <= set(server.environment)
    bucket = tree["services"]["bucket"]["command"][-1]
    for _ in range(2):  # it may be started again
        subprocess.run(
            [sys.executable, str(COMPOSE / "mlflow" / "bucket.py"), bucket],
            env=server.environment, check=True, timeout=60,
        )  # fmt: skip
    command = service["command"].replace("0.0.0.0", "127.0.0.1").replace("5000", str(port))
    with (server.folder / "server.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command), "--workers", "1"],
            cwd=server.folder, env=server.environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    uri = f"http://127.0.0.1:{port}"

    try:
        wait_for(lambda: answers(uri), seconds=180, what="an answer of the tracking server")
        ended = place.run(*words(clips=CLIPS, g_steps=G_STEPS), "--tracking-uri", uri)
        yield Recorded(place, uri, database, ended)
    finally:
        server.close()


def test_our_own_reader_has_every_trial(recorded: Recorded) -> None:
    trials = MlflowStore(recorded.uri).trials(NAME)
    assert len(trials) == len(CLIPS) * len(OPTIMIZERS)
    assert {trial.status for trial in trials} == {"FINISHED"}
    said = recorded.place.run("show", NAME, "--tracking-uri", recorded.uri, "--json").text
    shown = json.loads(said)["trials"]
    assert {trial["key"] for trial in shown} == {trial.key for trial in trials}
    assert all(trial["g_steps"] == G_STEPS for trial in shown)
    values = [trial["metrics"]["score/swd"] for trial in shown]
    assert values == sorted(values)


def test_mlflows_client_has_every_curve_and_picture(recorded: Recorded) -> None:
    record = Record(recorded.uri, NAME)
    assert record.parent.status == "FINISHED"
    assert "sweep.yaml" in record.parent.artifacts
    steps = list(range(20, G_STEPS + 1, 20))
    for run in record.trials.values():
        assert run.steps("loss/d") == list(range(10, G_STEPS + 1, 10))
        assert run.steps("score/swd") == steps
        assert {step: len(paths) for step, paths in run.images.items()} == dict.fromkeys(steps, 1)
        assert record.picture(run, run.images[G_STEPS][0]).size[0] > 28


def test_runs_are_in_postgresql_and_artifacts_in_s3_alone(
    recorded: Recorded, s3_server: str
) -> None:
    runs = len(CLIPS) * len(OPTIMIZERS) + 1
    assert recorded.database.ask("select count(*) from runs") == runs
    keys = environment(s3_server)
    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="mlflow")
    names = [each["Key"] for page in pages for each in page.get("Contents", ())]
    assert len([name for name in names if "/images/samples" in name and ".png" in name]) >= 12
    assert not list(recorded.place.folder.rglob("mlruns"))
    assert not (recorded.place.folder / "mlflow.db").exists()
    texts = [recorded.ended.text, *(p.read_text() for p in recorded.place.folder.rglob("*.log"))]
    assert not [text for text in texts if recorded.database.password in text]


def test_the_page_shows_the_curves_and_the_pictures(
    recorded: Recorded, chromium: str, tmp_path: Path
) -> None:
    shots, record = screenshots(tmp_path), Record(recorded.uri, NAME)
    said = recorded.place.run("ui", NAME, "--tracking-uri", recorded.uri).text
    address = said.strip().splitlines()[-1]
    assert address.startswith(f"{recorded.uri}/#/experiments/{record.experiment}/runs?")
    with comparison(chromium, address, record) as page:
        page.set_viewport_size({"width": 1600, "height": 9000})
        settled(page)
        slider = page.get_by_role("slider").first
        slider.focus()
        for _ in range(20, G_STEPS + 1, 20):
            slider.press("ArrowRight")
        page.wait_for_function(LOADED, arg=[G_STEPS, len(record.trials)], timeout=SLOW)
        page.screenshot(path=shots / "shared_server.png")
