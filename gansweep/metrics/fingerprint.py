"""Fingerprints: what a score's value depends on beside the generator, so that like meets like."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

Fingerprint = Mapping[str, str]
"""By key: data, split, real (a digest), real_count, fake_count, extractor, weights, resize,
batch_norm, ema, seed, and the score's own version and mode."""

TAG = "fingerprint."
"""Of the tag that holds a score's fingerprint: `gansweep.fingerprint.NAME` in the trial's run."""


def to_text(fingerprint: Fingerprint) -> str:
    return json.dumps(dict(fingerprint), sort_keys=True)


def from_tags(tags: Mapping[str, str]) -> dict[str, Fingerprint]:
    """The fingerprints among a run's tags, by score."""
    return {
        name.removeprefix(TAG): json.loads(text)
        for name, text in tags.items()
        if name.startswith(TAG)
    }


def score_of(metric: str) -> str:
    """The score that a metric is a value of: `fd/digits` for `best/score/fd/digits`."""
    return metric.partition("score/")[2] or metric


def differences(fingerprints: Iterable[Fingerprint]) -> dict[str, list[str]]:
    """By key the values that differ, in the order in which they occur."""
    found = list(fingerprints)
    keys = dict.fromkeys(key for each in found for key in each)
    values = {key: list(dict.fromkeys(each.get(key, "none") for each in found)) for key in keys}
    return {key: each for key, each in values.items() if len(each) > 1}
