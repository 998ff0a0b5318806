"""How a sweep file names scores, and what is told of names that are wrong."""

from __future__ import annotations

import pytest

from gansweep.dataspec import DataSpec
from gansweep.errors import ConfigError
from gansweep.metrics.base import Subject
from gansweep.metrics.catalogue import build_scores, find_score
from gansweep.metrics.extractors.digits import Digits
from gansweep.metrics.extractors.inception import Inception
from gansweep.metrics.extractors.raw import Raw
from gansweep.metrics.frechet import FrechetDistance
from gansweep.metrics.swd import SlicedWasserstein


@pytest.mark.parametrize(
    ("name", "metric", "cls", "extractor"),
    [
        ("swd", "swd", SlicedWasserstein, Raw),
        ("fd/digits", "fd/digits", FrechetDistance, Digits),
        ("fd/raw", "fd/raw", FrechetDistance, Raw),
        ("fd/inception", "fd/inception", FrechetDistance, Inception),
        ("fid", "fid", FrechetDistance, Inception),
        (
            "gansweep.metrics.frechet:FrechetDistance/gansweep.metrics.extractors.raw:Raw",
            "fd/raw", FrechetDistance, Raw,
        ),
    ],
)  # fmt: skip
def test_names(name, metric, cls, extractor):
    part = find_score(name, at="here")
    assert (part.name, part.cls, part.extractor) == (metric, cls, extractor)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("fd", r"'fd' is a score in the features of an extractor, and names none \(one of fd/dig"),
        ("fd/", "names none"),
        ("fd/digit", r"unknown extractor 'digit' \(did you mean 'digits'"),
        ("swd/digits", "swd takes no extractor"),
        ("fid/digits", "fid takes no extractor"),
        ("fd/math:pi", "is no subclass of gansweep.metrics.extractors.base:Extractor"),
        ("nowhere", "unknown score 'nowhere'"),
        ("nowhere/digits", "unknown score 'nowhere'"),
        ("own_parts:Unspeakable", r"own_parts:Unspeakable is called 'how good\?', which no"),
        ("own_parts:Numbered", "own_parts:Numbered is called 3, which no store takes"),
        ("own_parts:Undecided", r"the mode of own_parts:Undecided is 'lower' \(must be \"min\" or"),
    ],
)
def test_wrong_names(name, what):
    with pytest.raises(ConfigError, match=what) as caught:
        find_score(name, at="here")
    assert [problem.where for problem in caught.value.problems] == ["here"]


def test_scores_of_one_extractor_share_it():
    parts = [find_score(name, at="") for name in ("fd/digits", "kd/digits", "swd")]
    scores = build_scores(parts, Subject(DataSpec((1, 28, 28))))
    assert list(scores) == ["fd/digits", "kd/digits", "swd"]
    assert scores["fd/digits"].extractor is scores["kd/digits"].extractor
    assert scores["swd"].extractor is not scores["fd/digits"].extractor


def test_all_that_do_not_fit_are_told():
    parts = [find_score(name, at="") for name in ("w1", "swd", "modes", "fd/digits")]
    with pytest.raises(ConfigError) as caught:
        build_scores(parts, Subject(DataSpec((3,))))
    words = [str(problem).split()[1] for problem in caught.value.problems]
    assert words == ["w1", "modes", "the"]


@pytest.mark.parametrize("part", ["own_parts:Unbuilt", "fd/own_parts:Blind"])
def test_what_ones_own_raises_as_it_is_built_is_a_mistake(part):
    parts = [find_score(name, at="") for name in (part, "swd")]
    with pytest.raises(ConfigError, match="KeyError: 'weights'") as caught:
        build_scores(parts, Subject(DataSpec((3,))))
    (problem,) = caught.value.problems
    assert problem.where == "trial.score.names"
    assert "in __init__, " in problem.remedy
