"""How many there are of something, as a person reads it."""

from __future__ import annotations


def counted(number: float, what: str) -> str:
    """`1 trial`, `2 trials`, `0.5 GPUs`: `what` is the word for one of them."""
    shown = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{shown} {what}{'s' * (number != 1)}"
