"""Queues and engines with one rule of the gates taken out each."""

from __future__ import annotations

from engine.store.base import Settlement
from engine.store.gates import Leave
from engine.testing.gates_state import Head
from engine.testing.queue_model import QueueModel
from tests.simulation.gated import GatedEngine


class StartsWithoutATurn(QueueModel):
    """Nobody looks whose turn it is."""

    def _takes_turn(self, lane: str, key: bytes, ticket: bytes) -> bool:
        self.busy[lane].setdefault(key, ticket)
        return True


class FirstAskedFirstServed(QueueModel):
    """The turn goes to whoever asks first, not to the first of the lane."""

    def _note_keys(self, lane: str, asked: set[bytes], line_max: int) -> str:
        return ""


class PassesOnAtRetry(QueueModel):
    """A job that waits for a retry gives its turn away."""

    def _leave(self, stream: str, leave: Leave) -> None:
        how = "early" if leave.how == "keep" else leave.how
        super()._leave(stream, Leave(leave.entry, how, leave.key, leave.ticket, leave.unique))


class KeepsTheTurn(QueueModel):
    """A job that ended keeps its turn."""

    def _pass_on(self, lane: str, key: bytes, ticket: bytes, *, is_dead: bool) -> None:
        if not is_dead:
            super()._pass_on(lane, key, ticket, is_dead=is_dead)


class LastOfTheLineFirst(QueueModel):
    """The line is a stack."""

    def _first_of(self, lane: str, line: bytes) -> tuple[bytes, bytes]:
        member, ticket = super()._first_of(lane, line)
        ours = [each for each in self.parked[lane] if each.startswith(line + b"\0")]
        if member and line.startswith(b"k"):
            member = ours[-1]
            ticket = member[len(line) + 1 :][:26]
        return member, ticket


class KeepsPlaces(QueueModel):
    """Places are taken and not given back."""

    def _give_back(self, limits: bytes) -> None:
        """Do nothing."""


class GivesPlacesBackTwice(QueueModel):
    """As where an end that is told twice counts twice."""

    def _give_place(self, name: bytes) -> None:
        for _ in range(2):
            if self.places[name]:
                super()._give_place(name)


class TakesNoPlaces(QueueModel):
    """A look and no more."""

    def _let_start(self, stream: str, entry: bytes, head: Head, ticket: bytes) -> None:
        super()._let_start(stream, entry, head._replace(limits=b""), ticket)


class TakesNoTokens(QueueModel):
    """A rate that counts nothing."""

    def _take_token(self, name: bytes) -> None:
        """Do nothing."""


class FreesValuesAtRetry(QueueModel):
    """A unique value is free while its job waits for a retry."""

    def _leave(self, stream: str, leave: Leave) -> None:
        super()._leave(stream, leave)
        self._disclaim(leave.unique, leave.job_id)


class ForgetsThoseWhoWaitForPlaces(QueueModel):
    """A place that was given back wakes nobody, and no time opens it."""

    def _pass_gates(self, settlement: Settlement) -> None:
        super()._pass_gates(settlement)
        self.due.clear()


class AsksNobody(GatedEngine):
    """An engine that knows nothing of gates."""

    def start(self) -> None:
        for lease in self.buffered.values():
            lease.admitted = True
        super().start()
