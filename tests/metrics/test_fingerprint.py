"""Fingerprints: what differs, and how tags hold them."""

from __future__ import annotations

from gansweep.metrics.fingerprint import TAG, differences, from_tags, score_of, to_text


def test_tags():
    one = {"seed": "0", "extractor": "digits"}
    tags = {f"{TAG}fd/digits": to_text(one), "seed": "3"}
    assert from_tags(tags) == {"fd/digits": one}


def test_the_score_of_a_metric():
    for metric in ("score/fd/digits", "best/score/fd/digits", "floor_error/score/fd/digits"):
        assert score_of(metric) == "fd/digits"
    assert score_of("loss/d") == "loss/d"


def test_differences():
    a, b = {"seed": "0", "ema": "no"}, {"seed": "1", "ema": "no"}
    assert differences([a, b, a]) == {"seed": ["0", "1"]}
    assert differences([a, a]) == differences([]) == {}
    assert differences([a, {**a, "resize": "299"}]) == {"resize": ["none", "299"]}
