"""Long texts as messages have them: their beginning or their end, cut between two words."""

from __future__ import annotations

from typing import Final

MARK: Final = "..."
"""Where something is left out."""


def beginning(text: str, characters: int) -> str:
    """At most so many `characters` of it, the mark included; one long word is cut anyhow."""
    if len(text) <= characters:
        return text
    room = characters - len(MARK) - 1
    words = text[: room + 1].rpartition(" ")[0].rstrip()
    return f"{words if len(words) >= room // 2 else text[:room]} {MARK}"


def ending(text: str, characters: int) -> str:
    """The same of its end."""
    if len(text) <= characters:
        return text
    room = characters - len(MARK) - 1
    words = text[-room - 1 :].partition(" ")[2].lstrip()
    return f"{MARK} {words if len(words) >= room // 2 else text[-room:]}"
