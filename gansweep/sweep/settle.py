"""How trials and their sweep stand, told to their runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection

from gansweep.excerpt import beginning
from gansweep.progress import RUN_STATUS
from gansweep.sweep.plan import Entry
from gansweep.tracking.mlflow import MlflowStore, StoreStatus, TrialRecord

log = logging.getLogger("gansweep")


def is_settled(record: TrialRecord, entry: Entry) -> bool:
    """Whether the run says what the plan says, or the plan does not say how the trial ended.

    What waits, for a longer budget say, is as it ended until it is taken up.
    """
    if entry.state not in RUN_STATUS:
        return True
    return (record.status, record.tags.get("state")) == (RUN_STATUS[entry.state], entry.state)


def settle_run(store: MlflowStore, entry: Entry) -> None:
    """Tags and status as the plan has them; a store that fails is logged."""
    if entry.state == "running" or not entry.run_id:
        return
    tags = {"state": entry.state, "reason": beginning(entry.reason, 5000)}
    if entry.lineage:
        tags["lineage"] = json.dumps(entry.lineage)
    try:
        store.set_tags(entry.run_id, tags)
        if entry.state in RUN_STATUS:
            store.settle(entry.run_id, RUN_STATUS[entry.state])
    except Exception:
        log.exception("the status of trial %s could not be recorded", entry.name)


def sweep_status(entries: Collection[Entry], *, of: int = 0) -> StoreStatus:
    """Of a sweep of these trials that nobody drives now; `of`: how many are to be in its plan."""
    states = {entry.state for entry in entries}
    if len(entries) < of or states & {"waiting", "running", "interrupted"}:
        return "KILLED"
    return "FAILED" if "failed" in states else "FINISHED"
