"""`gansweep train`: put aside by a signal as `run` does, and apart from the sweep of its file."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Sequence

import pytest
from mlflow.tracking import MlflowClient

from gansweep.checkpoint import read_checkpoint
from gansweep.tracking.mlflow import MlflowStore

from .command import Place, wait_for
from .record import Record

NAME = "alone"
FILE = f"""
name: {NAME}
trial:
  model: {{name: wgan, n_critic: 1, burst_first: 0, burst_every: 0}}
  network: {{name: mlp, width: 8, depth: 1}}
  latent: {{dim: 4}}
  data: {{name: ring8, batch_size: 8, n: 400}}
  budget: {{g_steps: 1000000}}
  samples: {{every: 1000000}}
  score: {{every: 500, samples: 30}}
  log: {{every: 100}}
  checkpoint: {{every: 1000000}}
  diagnosis: {{every: 0}}
  compile: false
space:
  model.clip: {{grid: [0.01, 0.02]}}
"""
LIMIT = 60.0  # seconds from the signal to the end


def interrupted(place: Place, signals: Sequence[signal.Signals], *words: str) -> str:
    """What a command said that got these signals in training; it ended with 130."""
    driver = place.start(
        "train", "file.yaml", *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert driver.stdout is not None
    said = []
    for line in driver.stdout:
        said.append(line)
        if re.match(r"g_step \d{3}", line):
            break
    for each in signals:
        driver.send_signal(each)
    rest, _ = driver.communicate(timeout=LIMIT)
    text = "".join(said) + rest
    assert driver.returncode == 130, text
    assert "the same command goes on" in text
    assert "Traceback" not in text
    return text


def g_step_of(place: Place) -> int | None:
    """Where the checkpoint stands."""
    (folder,) = (place.folder / "runs" / NAME / "trials").iterdir()
    saved = read_checkpoint(folder / "checkpoint.pt")
    return None if saved is None else int(saved["module"]["g_step"])


@pytest.fixture
def place(new_place: Callable[..., Place]) -> Place:
    made = new_place("train")
    (made.folder / "file.yaml").write_text(FILE)
    return made


@pytest.mark.long
def test_a_path_with_brackets_is_told_as_it_is(new_place: Callable[..., Place]) -> None:
    place = new_place("[x] train [")
    (place.folder / "file.yaml").write_text(FILE)
    said = place.run("train", "file.yaml", "budget.g_steps=20", "--no-record").text
    assert f"checkpoint {place.folder}/runs/alone/trials/" in said
    said = place.run("run", "file.yaml", "budget.g_steps=20").text
    assert f"the log is {place.folder}/runs/alone/driver.log\n" in said
    assert f"samples {place.folder}/runs/alone/samples.png, " in said


@pytest.mark.long
def test_a_signal_puts_the_trial_aside_where_it_is(place: Place) -> None:
    before = 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        text = interrupted(place, [number])
        g_step = g_step_of(place)
        assert g_step is not None
        assert g_step > before
        assert f"interrupted at g_step {g_step}" in text
        assert text.count("stopping: the trial writes its checkpoint (again to end at once)") == 1
        (run,) = Record(place.uri, NAME, parent=False).trials.values()
        assert (run.status, run.tags["gansweep.state"]) == ("KILLED", "interrupted")
        assert run.tags["gansweep.g_steps"] == str(g_step)
        before = g_step
    text = place.run("train", "file.yaml", f"budget.g_steps={before + 100}").text
    assert not re.search("GPU available|litlogger|srun", text)  # Lightning's own words
    assert f"completed at g_step {before + 100}" in text
    (run,) = Record(place.uri, NAME, parent=False).trials.values()
    assert (run.status, run.tags["gansweep.state"]) == ("FINISHED", "completed")
    steps = [step for step, _ in run.curves["score/swd"]]
    assert steps == sorted(set(steps))
    assert steps[:-1] == list(range(500, before + 100, 500))[: len(steps) - 1]
    assert place.left_after(5) == []


@pytest.mark.long
@pytest.mark.parametrize("record", ["--record", "--no-record"])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_one_ends_it_at_once(second: signal.Signals, record: str, place: Place) -> None:
    """From then on it goes on from the checkpoint before, or from the beginning."""
    interrupted(place, [signal.SIGINT, second], record)
    assert place.left_after(5) == []


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_while_the_first_step_compiles_ends_it_soon(
    number: signal.Signals, place: Place
) -> None:
    """There is nothing to put aside yet, and no step comes for long."""
    compiler = place.folder / "inductor"
    place.environment["GANSWEEP_CACHE"] = str(place.folder / "cache")
    place.environment["TORCHINDUCTOR_CACHE_DIR"] = str(compiler)
    driver = place.start(
        "train", "file.yaml", "compile=true", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    wait_for(lambda: any(compiler.rglob("*.py")), seconds=100, what="compiling")
    driver.send_signal(number)
    text, _ = driver.communicate(timeout=15)
    assert driver.returncode == 130, text
    assert text == "interrupted before the first step: the same command goes on\n"
    (run,) = Record(place.uri, NAME, parent=False).trials.values()
    assert (run.status, run.tags["gansweep.state"]) == ("KILLED", "interrupted")
    assert place.left_after(5) == []


@pytest.mark.long
def test_it_leaves_the_sweep_of_its_file_as_it_is(place: Place) -> None:
    """It goes on from where the sweep's own trial stands, in a folder and a run of its own."""
    words = ("file.yaml", "budget.g_steps=600")
    place.run("run", *words)
    folder = place.folder / "runs" / NAME
    plan = json.loads((folder / "plan.json").read_text())
    key = plan["trials"][0]["key"]
    own = folder / "trials" / key
    kept = {path.name: path.read_bytes() for path in own.glob("*.pt")}
    store = MlflowStore(place.uri)
    before = {run.key: run for run in store.trials(NAME)}
    told = place.run("train", "file.yaml", "model.clip=0.01", "space=null", "budget.g_steps=600")
    assert told.text.splitlines() == [
        "finished already: its sweep trained it to g_step 600; a larger budget.g_steps goes on",
        f"checkpoint {own}/checkpoint.pt",
    ]
    assert {run.key: run for run in store.trials(NAME)} == before
    text = place.run(
        "train", "file.yaml", "model.clip=0.01", "space=null", "budget.g_steps=1100"
    ).text
    assert "g_step 500/" not in text
    assert "completed at g_step 1100" in text
    assert {path.name: path.read_bytes() for path in own.glob("*.pt")} == kept
    after = {run.key: run for run in store.trials(NAME)}
    own_run = after.pop(f"{key}-alone")
    assert after == before
    curve = MlflowClient(place.uri).get_metric_history(own_run.run_id, "score/swd")
    assert [value.step for value in curve] == [1000, 1100]
    told = place.run("train", "file.yaml", "model.clip=0.01", "space=null", "budget.g_steps=1100")
    assert told.text.splitlines() == [
        "finished already: it is trained to g_step 1100; a larger budget.g_steps goes on",
        f"checkpoint {folder}/trials/{key}-alone/checkpoint.pt",
    ]
    assert "every trial is finished already" in place.run("run", *words).text
    assert json.loads((folder / "plan.json").read_text())["trials"] == plan["trials"]
    assert place.run("sync", NAME).text == f"{NAME}: everything is in MLflow\n"
