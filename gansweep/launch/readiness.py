"""Waits for the nodes of a Ray: `python -m gansweep.launch.readiness ADDRESS NODES SECONDS`."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from gansweep.counting import counted

STEP_SECONDS = 1.0


def wait_for_nodes(count: Callable[[], int], nodes: int, seconds: float) -> str:
    """Return "" once `nodes` are alive, else what was missing after `seconds`.

    count: nodes alive; it raises ConnectionError where there is no Ray (yet).
    """
    alive, end = 0, time.monotonic() + seconds
    while True:
        with suppress(ConnectionError):
            alive = count()
            if alive >= nodes:
                return ""
        if time.monotonic() >= end:
            return f"{alive} of {counted(nodes, 'node')} joined Ray within {seconds:g} s"
        time.sleep(STEP_SECONDS)


def alive_nodes(address: str) -> int:
    """Joins the cluster at the first call."""
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=address, configure_logging=False, log_to_driver=False)
        except Exception as error:
            raise ConnectionError(str(error)) from error
    return sum(bool(node["Alive"]) for node in ray.nodes())


def main() -> int:
    """The exit code: 1 where nodes are missing."""
    address, nodes, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    missing = wait_for_nodes(lambda: alive_nodes(address), nodes, seconds)
    if missing:
        print(f"gansweep: {missing}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
