"""A minute without the MLflow server: no training step waits for it, and nothing is lost.

`pytest -m slow -s tests/chaos/test_outage.py` prints the figures of docs/RELIABILITY.md.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from e2e.command import Place, wait_for
from e2e.record import Record
from mlflow.tracking import MlflowClient

from .faults import STOP_SECONDS
from .ground import Server

BEFORE_SECONDS, AWAY_SECONDS = 30.0, 60.0
LOG = 20  # g_steps between two records
NAME = "outage"
SWEEP = f"""
name: {NAME}
trial:
  model: {{name: wgan, n_critic: 2, burst_first: 0, burst_every: 0, clip: 0.1}}
  network: {{name: mlp, width: 32, depth: 2}}
  data: {{name: digits, batch_size: 32}}
  budget: {{g_steps: 1000000}}
  samples: {{every: 5000, rows: 2, columns: 2}}
  score: {{samples: 64, every: 5000}}
  log: {{every: {LOG}}}
  checkpoint: {{every: 2000}}
  compile: false
space:
  optimizer.lr: {{grid: [1.0e-5]}}
seeds: 2
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_training_step_waits_for_a_server_that_is_away(new_place: Callable[..., Place]) -> None:
    place = new_place("outage")
    server = Server(place.folder / "server")
    file = place.folder / "outage.yaml"
    file.write_text(SWEEP)
    try:
        server.start()
        driver = place.start(
            "run", str(file), "resources.concurrent=1", "resources.engine=interleaved",
            "--tracking-uri", server.uri,
            stdout=(place.folder / "output").open("wb"),
        )  # fmt: skip
        client = MlflowClient(server.uri)
        wait_for(lambda: recorded(client), seconds=180, what="the first record in MLflow")
        time.sleep(BEFORE_SECONDS)
        server.kill()
        away = time.time()
        time.sleep(AWAY_SECONDS)
        back = time.time()
        server.start()
        time.sleep(20)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=STOP_SECONDS) == 130
        place.run("sync", NAME, "--tracking-uri", server.uri)
        record = Record(server.uri, NAME)
        client = MlflowClient(server.uri)
        count = 0
        for run in record.trials.values():
            history = client.get_metric_history(run.id, "loss/d")
            history.sort(key=lambda each: each.step)
            steps = [each.step for each in history]
            assert steps == list(range(LOG, steps[-1] + 1, LOG))  # none is missing or twice
            spans = [
                (one.timestamp / 1000, (two.timestamp - one.timestamp) / LOG)
                for one, two in pairwise(history)
            ]
            before = [ms for at, ms in spans if away - BEFORE_SECONDS <= at < away - 1]
            during = [ms for at, ms in spans if away <= at < back - 1]
            for name, found in (("before", before), ("away", during)):
                print(
                    f"{run.name}, {name}: {len(found) * LOG} g_steps, {statistics.mean(found):.2f} "
                    f"ms each, median {statistics.median(found):.2f}, slowest {LOG} g_steps "
                    f"{max(found) * LOG:.0f} ms",
                    flush=True,
                )
            assert statistics.mean(during) < 1.5 * statistics.mean(before)  # other work varies
            assert max(during) * LOG < 10_000  # one that waits for the server waits for a minute
            count += 1
        assert count == 2
    finally:
        place.close()
        server.place.close()


def recorded(client: MlflowClient) -> bool:
    """Whether both trials have a curve."""
    found = client.get_experiment_by_name(NAME)
    if found is None:
        return False
    runs = client.search_runs([found.experiment_id])
    return sum("loss/d" in run.data.metrics for run in runs) == 2
