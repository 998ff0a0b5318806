"""The sweep that is injured, and all that must be as if it had not been."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from e2e.command import Place
from e2e.record import Record

NAME = "injured"
TRIALS = 4
G_STEPS, LOG, CHECKPOINT, SAMPLES = 2400, 40, 80, 800
SWEEP = f"""
name: {NAME}
trial:
  model: {{name: wgan, n_critic: 2, burst_first: 0, burst_every: 0, clip: 0.1}}
  network: {{name: mlp, width: 32, depth: 2}}
  latent: {{dim: 32}}
  optimizer: {{name: rmsprop}}
  data: {{name: digits, batch_size: 32}}
  budget: {{g_steps: {G_STEPS}}}
  ema: {{decay: 0.9}}
  samples: {{every: {SAMPLES}, rows: 2, columns: 2}}
  score: {{samples: 64, every: 400}}
  log: {{every: {LOG}}}
  checkpoint: {{every: {CHECKPOINT}}}
  compile: false
space:
  optimizer.lr: {{grid: [1.0e-5, 1.0e-4]}}
seeds: 2
"""
ENGINES = ("interleaved", "stacked")


@dataclass(frozen=True)
class Outcome:
    """What a completed sweep left. `bytes` counts those of the weights and states compared."""

    table: Any
    weights: Mapping[str, str]
    curves: Mapping[str, Mapping[str, list[tuple[int, Any]]]]
    images: Mapping[str, Mapping[int, int]]
    states: Mapping[str, tuple[str, str]]
    files: frozenset[str]
    bytes: int


def words(place: Place, engine: str) -> list[str]:
    """Of the command that trains it, in the folder of `place`."""
    file = place.folder / "injured.yaml"
    file.write_text(SWEEP)
    return ["run", str(file), f"resources.engine={engine}"]


def outcome(place: Place, folder: Path, uri: str) -> Outcome:
    """Of the completed sweep in `folder`, the sweep's own."""
    record = Record(uri, NAME)
    shown = json.loads(place.run("show", NAME, "--json", "--tracking-uri", uri).text)
    digests, count = {}, 0
    for trial in sorted((folder / "trials").iterdir()):
        whole = hashlib.sha256()
        state = torch.load(trial / "checkpoint.pt", weights_only=True)["module"]
        for path, leaf in leaves(state):
            data = leaf.numpy().tobytes() if isinstance(leaf, torch.Tensor) else repr(leaf).encode()
            whole.update(path.encode() + data)
            count += len(data)
        digests[trial.name] = whole.hexdigest()
    return Outcome(
        table=without(shown, ("run_id", "time/seconds", "time/g_steps_per_s")),
        weights=digests,
        curves={key: run.learning for key, run in record.trials.items()},
        images={
            key: {step: len(found) for step, found in run.images.items()}
            for key, run in record.trials.items()
        },
        states={
            key: (run.status, run.tags["gansweep.state"])
            for key, run in {**record.trials, "sweep": record.parent}.items()
            if key != "sweep"
        }
        | {"sweep": (record.parent.status, "")},
        files=frozenset(
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and ".owner" not in path.parts and path.suffix != ".log"
        ),
        bytes=count,
    )


def assert_whole(found: Outcome) -> None:
    """Every step once, nothing besides; of any sweep, disturbed or not."""
    assert len(found.weights) == len(found.curves) == TRIALS
    for curves in found.curves.values():
        assert [step for step, _ in curves["loss/d"]] == list(range(LOG, G_STEPS + 1, LOG))
        assert [step for step, _ in curves["score/swd"]] == list(range(400, G_STEPS + 1, 400))
    for images in found.images.values():
        assert images == dict.fromkeys(range(SAMPLES, G_STEPS + 1, SAMPLES), 1)
    assert set(found.states.values()) == {("FINISHED", "completed"), ("FINISHED", "")}


def assert_same(one: Outcome, other: Outcome) -> None:
    """Word by word, bit by bit."""
    assert one.table == other.table
    assert one.weights == other.weights
    assert one.curves == other.curves
    assert one.images == other.images
    assert one.states == other.states
    assert one.files == other.files


def leaves(state: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All tensors and values of a state, by path."""
    if isinstance(state, Mapping):
        for key in sorted(state, key=str):
            yield from leaves(state[key], f"{path}/{key}")
    elif isinstance(state, (list, tuple)):
        for i, value in enumerate(state):
            yield from leaves(value, f"{path}/{i}")
    else:
        yield path, state


def without(tree: Any, names: tuple[str, ...]) -> Any:
    """`tree` without the keys `names`, at any depth."""
    if isinstance(tree, dict):
        return {k: without(v, names) for k, v in tree.items() if k not in names}
    return [without(each, names) for each in tree] if isinstance(tree, list) else tree
