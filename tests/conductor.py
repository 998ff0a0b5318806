"""A pack's conductor for tests."""

from __future__ import annotations

import threading

from gansweep.progress import Continue


class Script:
    """A conductor that says what a test wrote down.

    verdicts: by trial (its place in the list of all) and g_step, or by g_step alone for all; late:
    how many times the verdict of such a report is asked for in vain. Where `rests`, trials wait
    for a verdict after each score. Any other report is answered with Continue.
    """

    def __init__(self, keys, *, verdicts=None, late=None, rests=False, refills=()):
        self.keys = keys
        self.results, self.seen, self.choices, self.waited = {}, [], [], 0
        self._verdicts, self._late, self._rests = verdicts or {}, late or {}, rests
        self._refills = list(refills)
        self._due = []
        self._lock = threading.Lock()

    def report(self, reports):
        for key, progress in reports.items():
            at = (self.keys.index(key), progress.g_steps)
            self.seen.append((*at, progress.scored))
            verdict = self._verdicts.get(at) or self._verdicts.get(at[1]) or Continue()
            if isinstance(verdict, BaseException):
                raise verdict
            self._due.append([self._late.get(at, 0), key, verdict])

    def verdicts(self, *, wait):
        self.waited += wait
        ready = [each for each in self._due if wait or each[0] == 0]
        self._due = [[left - 1, *rest] for left, *rest in self._due if left > 0 and not wait]
        return {key: verdict for _, key, verdict in ready}

    def waits(self, progress):
        return self._rests and progress.scored

    def ended(self, key, result):
        with self._lock:
            assert key not in self.results
            self.results[key] = result

    def refill(self, *, wait):
        return self._refills.pop(0) if self._refills else None

    def chose(self, choice):
        self.choices.append(choice)
