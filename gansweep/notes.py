"""Notes: what a person may want to know, told from where nothing but samples is returned."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO

from gansweep.redaction import redact


class Note(UserWarning):
    """A warning that the command line tells as a note."""


def tell_notes() -> None:
    """Each note of this process once, on stderr, without the place in the code."""
    show = warnings.showwarning
    told = set()

    def tell(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = redact(str(message))
        if not issubclass(category, Note):
            show(message, category, filename, lineno, file, line)
        elif text not in told:
            told.add(text)
            print(f"note: {text}", file=sys.stderr)

    warnings.showwarning = tell
