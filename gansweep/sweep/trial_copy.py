"""A trial's folder in an object store, and its copy on the node where it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gansweep.storage import Bucket, Copy, scratch
from gansweep.tracking.spool import FOLDER, LINES
from gansweep.trial_files import BEST, CHECKPOINT, previous

LAST: Final = (f"{FOLDER}/{LINES}", BEST, CHECKPOINT)
"""A checkpoint says that the best one is there, and that the record has all steps before it."""


def trial_copy(url: str) -> Copy:
    """Of the trial's folder `url`; it has news when there is a new checkpoint."""
    return Copy(
        scratch(url),
        Bucket(url),
        patterns=("*", f"{FOLDER}/*"),
        last=LAST,
        news=(CHECKPOINT,),
        kept=(previous(Path(CHECKPOINT)).name,),
        lasting=(BEST, CHECKPOINT),
    )
