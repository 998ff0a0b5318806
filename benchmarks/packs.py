"""Figure `quality`: a sweep trained in packs against the same trained one trial at a time.

Points by their mean score over seeds: two that either sweep tells apart must not be in the other
order in the other sweep, and no mean may be further away than its standard error allows.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import workloads
from benchmarks.measure import NOT_AVAILABLE, Case
from benchmarks.plan import Plan
from benchmarks.programs import ranked
from gansweep.errors import ConfigError
from gansweep.sweep.file import load_sweep

ALONE = "resources.pack=1"
"""The override under which every trial has a process of its own."""

SEEDS = 4

APART = 5
"""Standard errors between two points that a sweep tells apart. With 4 seeds each, of 120 pairs that
are alike less than one is so far apart by chance, and three by 3 (Student's t, 6 degrees)."""

Scores = Mapping[str, Sequence[float]]
"""Of each point, by name: a score for each seed."""


def knows_packs() -> bool:
    """Whether this version has the setting."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.yaml"
        file.write_text(yaml.safe_dump(workloads.sweep("wgan", 8, 1)))
        try:
            load_sweep(file, [ALONE])
        except ConfigError as error:
            if any(each.where == "resources.pack" for each in error.problems):
                return False
            raise
    return True


def run(plan: Plan) -> Iterator[Case]:
    g_steps, seeds = (100, 2) if plan.quick else (1000, SEEDS)
    tree = {**workloads.sweep("wgan", 64, g_steps), "seeds": seeds}
    case = Case("quality", f"16 points of {seeds} seeds, wgan of width 64, {g_steps} g_steps")
    if not knows_packs():
        case.notes["packed against unpacked"] = NOT_AVAILABLE
        yield case
        return
    alone, packed = ranked(tree, ALONE), ranked(tree)
    case.facts = {**agreement(alone, packed), "scores": {"alone": alone, "packed": packed}}
    yield case


def agreement(alone: Scores, packed: Scores) -> dict[str, Any]:
    """How well two trainings of the same points agree, at least two seeds each."""
    assert alone.keys() == packed.keys()
    orders = [
        sorted(each, key=lambda name: statistics.mean(each[name])) for each in (alone, packed)
    ]
    places = {name: place for place, name in enumerate(orders[1])}
    moved = max(abs(place - places[name]) for place, name in enumerate(orders[0]))
    sigmas = {name: _sigmas(alone[name], packed[name]) for name in alone}
    told_apart, turned = 0, 0
    for one, other in itertools.combinations(alone, 2):
        found = [_sigmas(each[one], each[other]) for each in (alone, packed)]
        if max(map(abs, found)) > APART:
            told_apart += 1
            turned += found[0] * found[1] < 0
    return {
        "same ranking": orders[0] == orders[1],
        f"pairs of points more than {APART} standard errors apart": told_apart,
        "of these in the other order": turned,
        "same best point": orders[0][0] == orders[1][0],
        "most places moved": moved,
        "rank correlation": _spearman([places[name] for name in orders[0]]),
        "points beyond 2 standard errors": sum(abs(each) > 2 for each in sigmas.values()),
        "largest difference in standard errors": max(abs(each) for each in sigmas.values()),
    }


def _sigmas(a: Sequence[float], b: Sequence[float]) -> float:
    """Difference of the means in units of its standard error; 0 where both are equal."""
    difference = statistics.mean(a) - statistics.mean(b)
    error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
    if error == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / error


def _spearman(places: Sequence[int]) -> float:
    """Of a permutation of 0..n-1 against its order."""
    n = len(places)
    return 1 - 6 * sum((i - place) ** 2 for i, place in enumerate(places)) / (n * (n * n - 1))
