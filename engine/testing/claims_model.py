"""Uniqueness in the model: who took a value, and until when."""

from __future__ import annotations

from typing import Literal

from engine.store.gates import Answer, Question, ticket_of
from engine.testing.gates_state import Taken
from engine.testing.limits_model import LimitsModel

UNIQUE_MS_MAX = 7 * 86_400_000
"""While its job lives, a value is taken, yet not for ever."""


WAITS = "waits "
"""The last of a burst so far waits for its end; its ticket follows."""


class ClaimsModel(LimitsModel):
    """Rules of unique values and ids."""

    def _taken(self, field: str) -> Taken | None:
        taken = self.taken.get(field)
        return taken if taken is not None and taken.till_ms > self.gates_ms() else None

    def _known_id(
        self, question: Question, place: str, window_ms: int
    ) -> Literal["duplicate", "conflict"] | None:
        """Tell whether an earlier job of the window had this one's id; its body says how."""
        before = self._taken("i" + question.own_id)
        now_ms = self.gates_ms()
        if before is None:
            taken = Taken(place, now_ms + window_ms, now_ms, question.body)
            self.taken["i" + question.own_id] = taken
        elif before.by != place:
            return "duplicate" if before.more == question.body else "conflict"
        return None

    def _claim(self, question: Question) -> Answer | None:
        """Claim a unique value; None where the job may go on."""
        field, now_ms = "u" + question.unique, self.gates_ms()
        before = self._taken(field)
        if question.mode == "debounce":
            return self._debounce(question, field, before)
        if before is not None and before.by != question.job_id:
            return Answer("duplicate", before.by)
        if question.mode == "throttle":
            if before is None:
                self.taken[field] = Taken(question.job_id, now_ms + question.ms, now_ms, "")
            return None
        since_ms = before.since_ms if before else now_ms
        taken = Taken(question.job_id, now_ms + UNIQUE_MS_MAX, since_ms, str(question.ms))
        self.taken[field] = taken
        return None

    def _debounce(self, question: Question, field: str, before: Taken | None) -> Answer | None:
        now_ms = self.gates_ms()
        if question.wakes:
            if before is not None and before.by != question.job_id:
                return Answer("replaced", before.by)
            till_ms = now_ms + max(question.ms, 1_000)
            self.taken[field] = Taken(question.job_id, till_ms, now_ms, "ran")
            return None
        since_ms, replaced = now_ms, ""
        ticket = question.ticket or ticket_of(question.entry)
        if before is not None and before.more.startswith(WAITS):
            if before.by != question.job_id and before.more.removeprefix(WAITS) > ticket:
                return Answer("replaced", before.by)
            since_ms = before.since_ms
            replaced = before.by if before.by != question.job_id else ""
        due_ms = now_ms + question.ms
        if question.ms_max > 0:
            due_ms = min(due_ms, since_ms + question.ms_max)
        self.taken[field] = Taken(question.job_id, now_ms + UNIQUE_MS_MAX, since_ms, WAITS + ticket)
        return Answer("wait", str(due_ms), replaced)

    def _disclaim(self, value: str, job_id: str) -> None:
        """A job has ended: its value is free, or taken until its window is over."""
        before = self._taken("u" + value)
        if before is None or before.by != job_id or before.more in {"", "ran"}:
            return
        # The last of a burst may end before its time: nobody stands for that burst any more.
        window_ms = 0 if before.more.startswith(WAITS) else int(before.more)
        till_ms = before.since_ms + window_ms
        if window_ms and till_ms > self.gates_ms():
            self.taken["u" + value] = Taken(job_id, till_ms, before.since_ms, "0")
        else:
            del self.taken["u" + value]

    def _forget_claims(self, most: int) -> None:
        now_ms = self.gates_ms()
        over = sorted((taken.till_ms, field) for field, taken in self.taken.items())
        for till_ms, field in over[:most]:
            if till_ms <= now_ms:
                del self.taken[field]
