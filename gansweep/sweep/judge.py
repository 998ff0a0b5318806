"""The decision service of a sweep: its scheduler, and a journal that rebuilds it after a break."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Set
from itertools import chain
from pathlib import Path
from typing import Any, final

from gansweep.config import NOT_IDENTITY, ROLES, TrialConfig, resolve
from gansweep.errors import ConfigError
from gansweep.sweep.file import Sweep
from gansweep.sweep.params import flatten
from gansweep.sweep.schedulers.base import Answers, Scheduler
from gansweep.sweep.space import apply
from gansweep.sweep.trials import assigned, points_of, scored_data

log = logging.getLogger("gansweep")


def comparison_basis(sweep: Sweep) -> str:
    """Names what the values of a sweep's objective have in common, so that one may rank them.

    These are the settings of the file's trial, whatever of them the space varies, and the data,
    which all trials share. The budget is not among it, nor when scores are taken. "" for a
    population, whose members go on by what was decided, and which the plan holds to its settings.
    """
    if sweep.search.scheduler == "pbt":
        return ""
    example = _example(sweep)
    config, swept = resolve(sweep.trial, []), set[str]()
    if config is None:  # the space has what makes a trial of it
        config = example
        keys = {key for axis in sweep.space.axes for key in assigned(axis)}
        roles = {key.replace(".", f".{role}.", 1) for key in keys for role in ROLES}
        swept = keys | roles
    parts = {
        name: value
        for name, value in flatten(config.to_dict()).items()
        if name.partition(".")[0] not in NOT_IDENTITY and name not in swept
    }
    score = example.score
    search = sweep.search
    whole = [search.metric, search.mode, parts, scored_data(example), score.samples, score.seed]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def _example(sweep: Sweep) -> TrialConfig:
    """One of the sweep's trials. An end of an interval may be none."""
    points = [] if sweep.search.method == "tpe" else points_of(sweep)
    for point in chain(sweep.space.probes(), points):
        if config := resolve(apply(sweep.trial, point), []):
            return config
    raise ConfigError.single("space", "has no trial", "gansweep plan says why")


@final
class Judge:
    """Passes what happens to the scheduler, in order, and writes it down first.

    A scheduler is deterministic: after a break, replaying the journal brings back the rungs of
    ASHA and the generations of a population. Nothing is written for a scheduler that never waits.
    """

    def __init__(self, scheduler: Scheduler, journal: Path, *, basis: str = "") -> None:
        """`basis` names what values must have in common to be compared; "": whatever they have.

        What was heard under another one is not replayed. Journals of old name none.
        """
        self._scheduler = scheduler
        self._journal = journal
        self._basis = basis
        self.waits = scheduler.waits
        self._living: set[str] = set()
        if not self.waits:
            return
        heard = self._replay() if journal.exists() else ""
        if basis and heard != basis:
            self._note(basis=basis)

    def begin(self, key: str, settings: Mapping[str, Any]) -> None:
        """A trial starts or resumes, with its swept settings by dotted key."""
        self._note(begin=key, settings=dict(settings))
        self._living.add(key)
        self._scheduler.begin(key, settings)

    def report(self, key: str, g_steps: int, value: float) -> Answers:
        """A trial's objective after `g_steps`; all answers that are ready now."""
        self._note(report=key, g_steps=g_steps, value=value)
        return self._scheduler.report(key, g_steps, value)

    def ended(self, key: str) -> Answers:
        """A trial is over."""
        self._note(ended=key)
        self._living.discard(key)
        return self._scheduler.ended(key)

    def forget_all_but(self, keys: Set[str]) -> None:
        """Trials of an earlier run that the sweep does not mean any more are over: none waits."""
        for key in sorted(self._living - keys):
            self.ended(key)

    def _note(self, **event: Any) -> None:
        if not self.waits:
            return
        try:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:  # the trial waits for its verdict
            log.warning("%s: a decision is not on the disk: %s", self._journal, error)

    def _replay(self) -> str:
        """Hear again what was heard under this basis; the last one that the journal names."""
        text = self._journal.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):  # a run was killed in mid-line
            with self._journal.open("a", encoding="utf-8") as file:
                file.write("\n")
        basis = ""
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # such a line
                continue
            if "basis" in event:
                basis = str(event["basis"])
            if self._basis and basis not in ("", self._basis):
                continue
            match event:
                case {"begin": key, "settings": settings}:
                    self._living.add(key)
                    self._scheduler.begin(key, settings)
                case {"report": key, "g_steps": g_steps, "value": value}:
                    self._scheduler.report(key, g_steps, value)
                case {"ended": key}:
                    self._living.discard(key)
                    self._scheduler.ended(key)
        return basis
