"""One training run: settings -> modules -> Trainer.fit -> result. It knows no Ray and no MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

from gansweep.config import TrialConfig
from gansweep.engines import Choice
from gansweep.pack import Pack
from gansweep.progress import Continue, Progress, Report, TrialResult, Verdict
from gansweep.replica import Job
from gansweep.tracking.base import Tracker


def silent(progress: Progress) -> Verdict:
    """A Report that listens to nothing and never stops a trial."""
    return Continue()


def run_trial(
    config: TrialConfig,
    tracker: Tracker,
    report: Report = silent,
    *,
    folder: Path | None = None,
) -> TrialResult:
    """Train `config` to its budget, going on from the checkpoint in `folder` where there is one.

    Everything is recorded with `tracker`, whose run this ends; `report` is called between
    generator steps and may stop the trial. Without `folder` nothing is checkpointed. A trial that
    raises ends as "failed", with its traceback as the artifact `traceback.txt`: nothing is raised
    but KeyboardInterrupt, upon which the run ends as interrupted.
    """
    conductor = _Alone(report)
    pack = Pack([Job(config, tracker, folder)], conductor)
    try:
        pack.fit()
    except Exception as error:
        pack.fail(error)
    assert conductor.result is not None
    return conductor.result


@final
class _Alone:
    """The conductor of a single trial."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._verdicts: dict[str, Verdict] = {}
        self.result: TrialResult | None = None

    def report(self, reports: Mapping[str, Progress]) -> None:
        self._verdicts = {key: self._report(progress) for key, progress in reports.items()}

    def verdicts(self, *, wait: bool) -> Mapping[str, Verdict]:
        return self._verdicts

    def waits(self, progress: Progress) -> bool:
        return False

    def ended(self, key: str, result: TrialResult) -> None:
        self.result = result

    def refill(self, *, wait: bool) -> Job | None:
        return None

    def chose(self, choice: Choice) -> None:
        pass
