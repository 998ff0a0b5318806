"""What a sweep left in MLflow, read with MLflow's own client."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from PIL import Image

SPEED = ("time/seconds", "time/g_steps_per_s")
"""Metrics that differ from one machine and run to another."""


SERIES = ("samples", "critic_weights", "game", "reconstructions", "inpainted")


@dataclass(frozen=True)
class Run:
    """One run; `images` are its sample grids.

    `curves` are the histories as (step, value), in the order of time; NaN is None.
    """

    id: str
    name: str
    status: str
    start: int
    end: int | None
    tags: dict[str, str]
    params: dict[str, str]
    curves: dict[str, list[tuple[int, Any]]]
    images: dict[int, list[str]]
    artifacts: set[str]

    @property
    def point(self) -> dict[str, Any]:
        return dict(json.loads(self.tags["gansweep.point"]))

    def steps(self, metric: str) -> list[int]:
        return [step for step, _ in self.curves[metric]]

    @property
    def learning(self) -> dict[str, list[tuple[int, Any]]]:
        """The curves without the speed of the machine, and without the tests' own scores."""
        return {
            name: curve
            for name, curve in self.curves.items()
            if name not in SPEED and not name.endswith(("score/met", "score/gate"))
        }


class Record:
    """The experiment `name` of a store: one parent, and its children by trial key."""

    parent: Run

    def __init__(self, uri: str, name: str, *, parent: bool = True) -> None:
        """`parent`: whether there must be one; a trial of `gansweep train` has none."""
        self.client = MlflowClient(uri)
        found = [each for each in self.client.search_experiments() if each.name == name]
        assert len(found) == 1, f"{len(found)} experiments called {name}"
        self.experiment = found[0].experiment_id
        runs = [self._run(run) for run in self.client.search_runs([self.experiment])]
        parents = [run for run in runs if "gansweep.sweep" in run.tags]
        assert len(parents) == parent, f"{len(parents)} parents"
        children = [run for run in runs if "gansweep.key" in run.tags]
        assert len(parents) + len(children) == len(runs)
        for self.parent in parents:
            assert all(run.tags["mlflow.parentRunId"] == self.parent.id for run in children)
        self.trials = {run.tags["gansweep.key"]: run for run in children}
        assert len(self.trials) == len(children), "a trial has two runs"

    def named(self, word: str) -> Run:
        """The one trial whose name has `word` among its words."""
        found = [run for run in self.trials.values() if word in run.name.split()]
        assert len(found) == 1, f"{word}: {[run.name for run in self.trials.values()]}"
        return found[0]

    def text(self, run: Run, artifact: str) -> str:
        return Path(self.client.download_artifacts(run.id, artifact)).read_text()

    def picture(self, run: Run, artifact: str) -> Image.Image:
        data = Path(self.client.download_artifacts(run.id, artifact)).read_bytes()
        return Image.open(io.BytesIO(data))

    def _run(self, run: Any) -> Run:
        number = run.info.run_id
        images: dict[int, list[str]] = {}
        for artifact in self.client.list_artifacts(number, "images"):
            key, word, step, *_ = artifact.path.removeprefix("images/").split("+")
            assert key in SERIES, artifact.path
            assert word == "step", artifact.path
            if key == "samples" and artifact.path.endswith(".png"):
                images.setdefault(int(step), []).append(artifact.path)
        return Run(
            id=number,
            name=run.info.run_name,
            status=run.info.status,
            start=run.info.start_time,
            end=run.info.end_time,
            tags=dict(run.data.tags),
            params=dict(run.data.params),
            curves={
                name: [
                    (each.step, None if math.isnan(each.value) else each.value)
                    for each in sorted(
                        self.client.get_metric_history(number, name),
                        key=lambda each: each.timestamp,
                    )
                ]
                for name in run.data.metrics
            },
            images=images,
            artifacts={each.path for each in self.client.list_artifacts(number)},
        )
