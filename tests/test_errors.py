"""Problems: what a person reads."""

from __future__ import annotations

from gansweep.errors import ConfigError, Problem, in_one_line, nearest


def test_a_problem_in_words():
    assert str(Problem("a.b", "is wrong", "mend it")) == "a.b: is wrong (mend it)"
    assert str(Problem("a.b", "is wrong")) == "a.b: is wrong"
    assert str(Problem("", "is wrong", "mend it")) == "is wrong (mend it)"


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
