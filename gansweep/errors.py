"""What a person's mistake looks like: problems, collected and reported together."""

from __future__ import annotations

import difflib
import errno
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from gansweep.excerpt import beginning
from gansweep.redaction import redact


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is (a dotted key or a file), what is wrong, and the remedy."""

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.remedy})" if self.remedy else text

    def redacted(self) -> Problem:
        """Without secrets. Each part by itself: `token: unknown key` assigns nothing to a token."""
        return Problem(redact(self.where), redact(self.what), redact(self.remedy))


class ConfigError(Exception):
    """Input that cannot be used; carries every problem found, so that all are mended at once.

    outcome: what a person must know of it, which is said above the problems.
    """

    def __init__(
        self, problems: Iterable[Problem], *, outcome: str = "nothing was started"
    ) -> None:
        self.problems = list(dict.fromkeys(problems))
        self.outcome = outcome
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def single(
        cls, where: str, what: str, remedy: str = "", *, outcome: str = "nothing was started"
    ) -> Self:
        return cls([Problem(where, what, remedy)], outcome=outcome)


class OwnCodeError(ConfigError):
    """A person's own part has raised something that is no ConfigError."""


class AwayError(ConfigError):
    """A service that does not answer now, and may later: what was asked of it may have happened."""


@contextmanager
def noting(problems: list[Problem]) -> Iterator[None]:
    """What is found wrong goes to `problems`."""
    try:
        yield
    except ConfigError as error:
        problems.extend(error.problems)


def nearest(word: str, choices: Sequence[str]) -> str:
    """`did you mean 'x'?` where a choice is close to `word`, else the list of choices."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"valid: {', '.join(sorted(choices))}" if choices else ""


def in_one_line(error: BaseException) -> str:
    """What was raised, as a reason that may be recorded: one line without secrets."""
    return beginning(redact(f"{type(error).__name__}: {error}".splitlines()[0]), 500)


def raised_at(error: BaseException, package: str) -> str:
    """The line of `package` that `error` comes from, the innermost one; "" where it is none's."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            return f"in {frame.f_code.co_name}, {frame.f_code.co_filename}:{line}"
    return ""


def is_full_disk(error: BaseException) -> bool:
    """Whether it says that a disk, or someone's part of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
