"""Problems: what a person reads."""

from __future__ import annotations

import json

import pytest

from gansweep.errors import ConfigError, Problem, in_one_line, nearest, raised_at


def test_a_problem_in_words():
    assert str(Problem("a.b", "is wrong", "mend it")) == "a.b: is wrong (mend it)"
    assert str(Problem("a.b", "is wrong")) == "a.b: is wrong"
    assert str(Problem("", "is wrong", "mend it")) == "is wrong (mend it)"


def test_a_problem_without_secrets(monkeypatch):
    """But with its words: `token: unknown key` is no token that is called `unknown`."""
    monkeypatch.setenv("MY_TOKEN", "hunter22hunter")
    problem = Problem("profile.token", "unknown key hunter22hunter", "secret: is password=hunter2")
    assert str(problem.redacted()) == ("profile.token: unknown key *** (secret: *** password=***)")
    assert str(Problem("secret", "is 's s', no name").redacted()) == "secret: is 's s', no name"


def test_an_error_holds_each_problem_once_in_order():
    b, a = Problem("b", "x"), Problem("a", "x")
    error = ConfigError([b, a, b])
    assert error.problems == [b, a]
    assert str(error) == "b: x\na: x"
    assert ConfigError.single("k", "w", "r").problems == [Problem("k", "w", "r")]


def test_nearest():
    assert nearest("lrr", ["lr", "beta1"]) == "did you mean 'lr'?"
    assert nearest("zzz", ["b", "a"]) == "valid: a, b"
    assert nearest("zzz", []) == ""


def test_what_was_raised_in_one_line():
    assert in_one_line(ValueError("a\nb")) == "ValueError: a"
    told = in_one_line(ValueError("potential " * 60))
    assert told == f"ValueError: {'potential ' * 48}..."
    assert len(told) <= 500


def test_the_line_that_raised():
    """The innermost one of the package, not of a library that it calls."""

    def parse():
        json.loads("{")

    with pytest.raises(ValueError, match="Expecting") as caught:
        parse()
    own = __name__.partition(".")[0]
    line = parse.__code__.co_firstlineno + 1
    assert raised_at(caught.value, own) == f"in parse, {__file__}:{line}"
    assert raised_at(caught.value, "json").startswith("in raw_decode, ")
    assert raised_at(caught.value, "nobody") == ""
