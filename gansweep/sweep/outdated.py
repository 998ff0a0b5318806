"""Trials that were trained on something else than the sweep file would train them on now.

No trial key knows of it: a key holds names and settings, not what lies behind a name.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gansweep.assembly import load_samples, real_samples
from gansweep.config import TrialConfig
from gansweep.counting import counted
from gansweep.metrics.fingerprint import Fingerprint
from gansweep.reference import Reference
from gansweep.sweep.plan import Entry
from gansweep.sweep.trials import Trial


def outdated(
    entries: Iterable[Entry], finished: Iterable[Entry], trials: Iterable[Trial]
) -> list[str]:
    """A word on the own code and on the data of what was trained, where these have changed.

    What is not finished goes on with the code and the data that there are.
    """
    return [*of_other_code(finished, trials), *of_other_data(entries, trials)]


def of_other_code(finished: Iterable[Entry], trials: Iterable[Trial]) -> list[str]:
    """A word on finished trials that were trained by other own code than `trials` have now."""
    now = {trial.config.own_code for trial in trials}
    count = sum(bool(entry.code) and entry.code not in now for entry in finished)
    if not count:
        return []
    return [
        f"your own code has changed since {counted(count, 'finished trial')} trained, and the "
        "values stay: give the sweep another name to train anew"
    ]


def of_other_data(entries: Iterable[Entry], trials: Iterable[Trial]) -> list[str]:
    """A word on trials that were trained on other samples than the data of `trials` hold now.

    By the fingerprints of their scores. Where there are any, the data are loaded.
    """
    trained = [
        (_facts(fingerprint), fingerprint.get("real", ""))
        for entry in entries
        for fingerprint in list(entry.fingerprints.values())[:1]  # all are of the same samples
    ]
    now: dict[tuple[str, ...], set[str]] = {facts: set() for facts, _ in trained}
    configs = {str((t.config.data, real_samples(t.config))): t.config for t in trials}
    for config in configs.values():
        facts = _facts(real_samples(config))
        if facts in now:
            now[facts].add(digest(config))
    count = sum(bool(now[facts]) and real not in now[facts] for facts, real in trained)
    if not count:
        return []
    return [
        f"the data have changed since {counted(count, 'trial')} trained: give the sweep "
        "another name to train anew on what they hold now"
    ]


def _facts(fingerprint: Fingerprint) -> tuple[str, ...]:
    """Which samples it is of, but for what these are."""
    return tuple(fingerprint.get(name, "") for name in ("data", "split", "real_count", "seed"))


def digest(config: TrialConfig) -> str:
    """Of the real samples that its scores compare with, as fingerprints hold it."""
    samples, of = load_samples(config), config.score
    cpu = torch.device("cpu")
    return Reference(samples, count=of.samples, seed=of.seed, device=cpu).digest
