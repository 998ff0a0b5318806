"""A followed job, over a launcher that says what it is told to: every look, whatever it brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, final

import pytest

from gansweep.errors import AwayError, ConfigError, Problem
from gansweep.launch import base
from gansweep.launch.base import Job, JobState, Launcher, Profile, Submitted

from .conftest import Clock

pytestmark = pytest.mark.usefixtures("clock")

RUNNING, DONE = JobState("running"), JobState("done", "", 0)
AWAY = AwayError.single("kubectl", "i/o timeout")
ONE = Submitted("7")


@final
class Scripted(Launcher):
    """Looks are taken from a list, and the last of them for ever; output is a line a look."""

    Settings: ClassVar[type[Profile]] = Profile

    def __init__(self, *looks: JobState | ConfigError, logs: ConfigError | None = None) -> None:
        super().__init__(Profile())
        self.looks = list(looks)
        self.logs_fail = logs
        self.lines = 0

    def state(self, job: Submitted) -> JobState:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, ConfigError):
            raise look
        return look

    def log(self, job: Submitted, after: int) -> tuple[str, int]:
        if self.logs_fail is not None:
            failed, self.logs_fail = self.logs_fail, None
            raise failed
        self.lines += 1
        return f"line {self.lines}\n", after + 1

    def problems(self, job: Job) -> list[Problem]:
        return []

    def render(self, job: Job) -> str:
        return ""

    def submit(
        self, job: Job, *, on_id: Callable[[Submitted], None] = lambda job: None
    ) -> Submitted:
        return ONE

    def cancel(self, job: Submitted) -> None:
        pass


@pytest.fixture
def follow() -> Callable[[Launcher], tuple[str, list[JobState]]]:
    def one(launcher: Launcher) -> tuple[str, list[JobState]]:
        heard: list[JobState] = []
        return "".join(launcher.logs(ONE, follow=True, on_state=heard.append)), heard

    return one


Follow = Callable[[Launcher], tuple[str, list[JobState]]]


def test_every_look_is_heard(follow: Follow) -> None:
    assert follow(Scripted(JobState("waiting"), RUNNING, DONE)) == (
        "line 1\nline 2\nline 3\n",
        [JobState("waiting"), RUNNING, DONE],
    )


def test_a_cluster_that_does_not_answer_is_asked_again(follow: Follow) -> None:
    told = JobState("unknown", "kubectl: i/o timeout; asked again for up to 600 s")
    said, heard = follow(Scripted(RUNNING, AWAY, AWAY, RUNNING, DONE))
    assert said == "line 1\nline 2\nline 3\n"
    assert heard == [RUNNING, told, told, RUNNING, DONE]
    said, heard = follow(Scripted(RUNNING, DONE, logs=AWAY))  # the output alone was not had
    assert (said, heard) == ("line 1\n", [told, DONE])


def test_it_is_asked_so_long_and_no_longer(follow: Follow, clock: Clock) -> None:
    began = clock.now
    with pytest.raises(AwayError) as caught:
        follow(Scripted(RUNNING, AWAY))
    (problem,) = caught.value.problems
    assert str(problem) == (
        "7: no answer for 600 s: kubectl: i/o timeout "
        "(the job goes on without us; `gansweep logs 7 --follow` looks again)"
    )
    assert 600 < clock.now - began <= 600 + 2 * base.POLL_SECONDS


def test_a_job_that_is_over_is_over_even_where_its_output_is_lost(
    follow: Follow, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    began = clock.now
    lost = Scripted(RUNNING, DONE)
    monkeypatch.setattr(lost, "log", lambda job, after: (_ for _ in ()).throw(AWAY))
    said, heard = follow(lost)
    assert said == ""
    assert heard[-1] == DONE
    assert sum(state.phase == "unknown" for state in heard) == 1  # while it ran
    assert 20 < clock.now - began <= 20 + 3 * base.POLL_SECONDS


def test_each_outage_has_its_own_time(follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of one look's time, and all of them of more than is waited for."""
    monkeypatch.setattr(base, "AWAY_SECONDS", 1.25 * base.POLL_SECONDS)
    said, heard = follow(Scripted(*[AWAY, AWAY, RUNNING] * 3, DONE))
    assert heard[-1] == DONE
    assert said.count("line") == 4


def test_who_looks_once_is_told_at_once() -> None:
    with pytest.raises(AwayError, match="i/o timeout"):
        list(Scripted(RUNNING, logs=AWAY).logs(ONE, follow=False))


def test_what_will_not_pass_ends_it(follow: Follow) -> None:
    with pytest.raises(ConfigError, match="Forbidden"):
        follow(Scripted(RUNNING, ConfigError.single("kubectl", "Forbidden")))


def test_a_forgotten_job_has_nothing_to_wait_for(follow: Follow) -> None:
    forgotten = JobState("forgotten", "it knows it no more")
    assert follow(Scripted(RUNNING, forgotten)) == ("line 1\nline 2\n", [RUNNING, forgotten])
    assert forgotten.is_over


def test_nobody_looks_while_nobody_reads() -> None:
    """Output comes as it is read, by a generator."""
    scripted = Scripted(RUNNING)
    reader: Iterator[str] = scripted.logs(ONE, follow=True)
    assert next(reader) == "line 1\n"
    assert scripted.lines == 1
