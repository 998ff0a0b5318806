"""Python's wall clock, shifted by the seconds in the file CHAOS_CLOCK, in every process that has
this folder on its PYTHONPATH. Monotonic clocks, and what is not Python, keep the true time."""

import os
import time


def _shift(path: str) -> None:
    seconds, nanoseconds = time.time, time.time_ns

    def offset() -> float:
        try:
            with open(path) as file:
                return float(file.read())
        except (OSError, ValueError):
            return 0.0

    time.time = lambda: seconds() + offset()
    time.time_ns = lambda: nanoseconds() + int(offset() * 1e9)


if os.environ.get("CHAOS_CLOCK"):
    _shift(os.environ["CHAOS_CLOCK"])
