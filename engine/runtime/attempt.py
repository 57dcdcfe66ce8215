"""
From a stream entry to a running handler, and from what it raised to an outcome.

This is the only place where exceptions become outcomes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from engine.core import outcome as was
from engine.core.limits import QUEUE, LimitRule, limits_of
from engine.errors import Cancel, Hold, JobSignal, Limited, Malformed, Retry, Snooze
from engine.runtime.calls import LeaseTooOld, OverLimit
from engine.runtime.cancels import Cancels
from engine.runtime.family import for_children, waits_for_children
from engine.runtime.jobs import BoundType, LiveJob, Reporter
from engine.runtime.raised import MESSAGE_CHARS_MAX, error_record, text_of
from engine.store.base import Lease
from engine.store.gates import Question
from engine.wire.codec import META, Envelope, Limits, is_unjudged, parse, salvage
from engine.wire.keys import slot_tag
from engine.wire.meta import read_meta
from engine.wire.names import name_of
from engine.wire.payload import payload_fault
from schemas.job import ErrorRecord, Tombstone


class Ask(msgspec.Struct, frozen=True):
    """The job is gated: the store must be asked before it starts."""

    question: Question


class Admission:
    """
    Judges the entries of one queue when their turn has come.

    Args:
        types: The types of the queue, by name.
        unknown: Stands in for all others.
        limits: What this engine accepts.
        reporter: Where the jobs' progress goes.
        now_ms: Unix time in ms.
        id_window_ms: How long a producer's id is remembered; 0 for not at all.
    """

    def __init__(
        self,
        types: Mapping[str, BoundType],
        unknown: BoundType,
        *,
        limits: Limits,
        reporter: Reporter,
        now_ms: Callable[[], int],
        id_window_ms: int = 0,
    ) -> None:
        self._now_ms = now_ms
        self.cancels = Cancels()
        self._id_window_ms = id_window_ms
        self._rules: Mapping[str, LimitRule] = {}
        self.types = dict(types)
        self.unknown = unknown
        self._limits = limits
        self._data_bytes_max = limits.data_bytes_max
        self._reporter = reporter
        self._by_bytes = {name.encode(): bound for name, bound in types.items()}

    def follow(
        self,
        *,
        held: Collection[str],
        cancelled: Mapping[str, Tombstone] | None = None,
        limits: Mapping[str, LimitRule] | None = None,
    ) -> None:
        """
        Do what operators set.

        Whatever else has to be asked before jobs start belongs into ``plain`` too: bare jobs of a
        type that is not plain are judged like any other.

        Args:
            held: Held types.
            cancelled: Cancelled jobs; None where nothing new is known of them.
            limits: The queue's limits; likewise.
        """
        if cancelled is not None:
            self.cancels.known = cancelled
        if limits is not None:
            self._rules = limits
        groups = any(rule.by for rule in self._rules.values())
        for name, bound in self.types.items():
            bound.held = bound.meter.held = name in held
            own = [each for each in (QUEUE, f"type:{name}") if each in self._rules]
            bound.limits = (*own, *bound.named_limits)
            bound.limited = groups or bool(bound.limits)
            # A bare job is one of version 1, which handlers up to version 2 take.
            bound.plain = bound.version <= 2 and not (
                bound.held or bound.limited or self.cancels.known
            )

    def admit(self, lease: Lease) -> tuple[LiveJob, Any, was.Outcome | Ask | None]:
        """
        Judge one entry.

        Returns:
            The job, its payload, and the outcome where it ends without being run, or what is to
            be asked first.
        """
        fields = lease.fields
        if len(fields) == 4:
            first, name, second, data = fields
            bound = self._by_bytes.get(name)
            if (
                # The bare job of the wire: nothing but a type and a payload.
                bound is not None
                and bound.plain
                and first == b"type"
                and second == b"data"
                and len(data) <= self._data_bytes_max
            ):
                job = LiveJob(lease, bound, 1, bound.attempts_max, self._reporter)
                try:
                    payload = (bound.decode_ascii if data.isascii() else bound.decode)(data)
                except Malformed as error:
                    return job, None, _broken(error)
                except Exception as error:  # noqa: BLE001 - as in the decoder itself
                    return job, None, _broken(payload_fault(error))
                return job, payload, was.Vanished() if lease.deliveries > 1 else None
        elif len(fields) == 6 and fields[4] == b"key" and lease.deliveries == 1:
            keyed = self._admit_keyed(lease)
            if keyed is not None:
                return keyed
        elif len(fields) == 6 and fields[4] == META:
            known = self._admit_again(lease)
            if known is not None:
                return known
        return self._admit_any(lease)

    def _admit_keyed(self, lease: Lease) -> tuple[LiveJob, Any, was.Outcome | Ask | None] | None:
        """Judge an entry of type, payload and key; None where that takes a longer look."""
        fields = lease.fields
        bound = self._by_bytes.get(fields[1])
        if fields[0] != b"type" or fields[2] != b"data" or bound is None or not bound.plain:
            return None
        data, key = fields[3], name_of(fields[5])
        if not key or len(data) > self._limits.data_bytes_max:
            return None
        envelope = Envelope(type=bound.name, data=data, key=key)
        job = LiveJob(lease, bound, 1, bound.attempts_max, self._reporter, envelope)
        if not lease.admitted or lease.early:
            lease.gated = True
            return job, None, Ask(Question(entry=lease.entry, key=key, job_id=job.id))
        try:
            return job, bound.decode(data), None
        except Malformed as error:
            return job, None, _broken(error)

    def _admit_again(self, lease: Lease) -> tuple[LiveJob, Any, was.Outcome | Ask | None] | None:
        """Judge a bare job that has been through an engine; None where that takes a longer look."""
        fields = lease.fields
        bound = self._by_bytes.get(fields[1])
        if fields[0] != b"type" or fields[2] != b"data" or bound is None or not bound.plain:
            return None
        data = fields[3]
        try:
            meta = read_meta(fields[5])
        except Malformed:
            return None
        if meta.cancelled or len(data) > self._data_bytes_max:
            return None
        envelope = Envelope(type=bound.name, data=data, meta=meta)
        job = LiveJob(lease, bound, meta.attempts + 1, bound.attempts_max, self._reporter, envelope)
        try:
            payload = bound.decode(data)
        except Malformed as error:
            return job, None, _broken(error)
        return job, payload, was.Vanished() if lease.deliveries > 1 else None

    def _admit_any(self, lease: Lease) -> tuple[LiveJob, Any, was.Outcome | Ask | None]:
        job = LiveJob(lease, self.unknown, 1, 1, self._reporter)
        try:
            envelope = parse(lease.fields, entry_ms=job.entry_ms, limits=self._limits)
            job.envelope = envelope
            job.bound = self._bound(envelope)
            job.attempt = envelope.meta.attempts + 1 if envelope.meta else 1
            job.attempts_max = envelope.attempts or job.bound.attempts_max
            self._check_reply(job)
            cancelled = self.cancels.outcome(job, started=False)
            if cancelled is not None:
                return job, None, cancelled
            waits = _not_now(job, envelope, self._now_ms())
            early = isinstance(waits, was.Early) or waits_for_children(envelope)
            # Its time may have come since it was asked for, and with it its turn and its limits.
            unasked = not lease.admitted or (lease.early and not early)
            if unasked and not isinstance(waits, was.Late):
                question = self._question(job, envelope, early=early)
                if question is not None:
                    return job, None, Ask(question)
            if waits is not None:
                return job, None, waits
            payload = job.bound.decode(envelope.data)
            if envelope.children > 0 and (waits := for_children(envelope)) is not None:
                return job, None, waits
        except Malformed as error:
            if job.bound is self.unknown:
                job.bound = self._named(lease.fields)
            if job.envelope is None:
                job.envelope = salvage(lease.fields, self._limits)
                with contextlib.suppress(Malformed):
                    self._check_reply(job)
            return job, None, _broken(error)
        return job, payload, was.Vanished() if lease.deliveries > 1 else None

    def passes(self, lease: Lease) -> bool:
        """Tell whether a job that has been given its turn has nothing else to ask for."""
        names = lease.fields[::2]
        limited = any(bound.limited for bound in self.types.values())
        return not (limited or b"unique" in names or b"id" in names)

    def _question(self, job: LiveJob, envelope: Envelope, *, early: bool) -> Question | None:
        """
        Say what a job asks for before it starts; None where it asks for nothing.

        One whose time has not come claims its id and its unique value, and nothing else.
        """
        meta, bound, lease = envelope.meta, job.bound, job.lease
        is_new = is_unjudged(meta)
        own_id = envelope.id if self._id_window_ms and is_new else ""
        claim = envelope.claim
        if claim is not None and claim.mode in {"debounce", "throttle"} and not is_new:
            # Once it has run, or is run again, it stands for the burst no more; and whoever was let
            # through once need not ask again when the span is over.
            claim = claim if meta is not None and meta.why == "debounce" else None
        key = "" if early else envelope.key
        limits: tuple[str, ...] = ()
        if bound.limited and not early:
            limits = limits_of(bound.limits, self._rules, envelope.headers, envelope.data)
            lease.limits = limits
        if not (key or limits or claim or own_id):
            return None
        # A new id alone leaves nothing to give back. What an earlier look or engine took stands.
        lease.gated = lease.gated or bool(envelope.key or envelope.unique or bound.limited)
        lease.limits = limits
        lease.early = early
        return Question(
            entry=lease.entry,
            deliveries=lease.deliveries,
            ticket=meta.ticket if meta else "",
            key=key,
            job_id=job.id,
            unique=envelope.unique if claim else "",
            mode=claim.mode if claim else "",
            ms=claim.ms if claim else 0,
            ms_max=claim.ms_max if claim else 0,
            wakes=meta is not None and meta.why == "debounce",
            own_id=own_id,
            body=hashlib.blake2b(envelope.data, digest_size=12).hexdigest() if own_id else "",
            limits=limits,
        )

    def _named(self, fields: Sequence[bytes]) -> BoundType:
        """Return the type that an entry names, whatever else is wrong with it."""
        for name, value in zip(fields[::2], fields[1::2], strict=False):
            if name == b"type":
                return self._by_bytes.get(value, self.unknown)
        return self.unknown

    def stand_in(self, lease: Lease, fields: Sequence[bytes] = ()) -> LiveJob:
        """
        Stand in for a job that nobody looks at: it is handed back, or its entry is gone.

        Args:
            lease: Its lease.
            fields: What stood in an entry that is gone, where somebody knows.
        """
        job = LiveJob(lease, self.unknown, 1, 1, self._reporter)
        if fields:
            job.bound = self._named(fields)
            job.envelope = salvage(fields, self._limits)
            with contextlib.suppress(Malformed):
                self._check_reply(job)
        return job

    def _bound(self, envelope: Envelope) -> BoundType:
        bound = self.types.get(envelope.type)
        if bound is None:
            taken = ", ".join(self.types) or "none"
            raise Malformed(
                "type-unknown", detail=f"{envelope.type} is not one of this queue's: {taken}"
            )
        return bound

    def _check_reply(self, job: LiveJob) -> None:
        envelope = job.envelope
        if envelope is None or not envelope.reply or slot_tag(envelope.reply) == job.queue:
            return
        if not self._limits.allows_reply(envelope.reply):
            # A script writes it together with the job's end, so it must share the queue's slot,
            # unless the operator says otherwise. Nor is the refusal told there.
            envelope.reply = ""
            raise Malformed("reply-key", detail=f"must begin with mq:{{{job.queue}}}:reply:")


def _not_now(job: LiveJob, envelope: Envelope, now_ms: int) -> was.Outcome | None:
    if envelope.expires_ms and now_ms > envelope.expires_ms:
        return was.Late()
    if envelope.due_ms > now_ms:
        return was.Early(due_ms=envelope.due_ms)
    if not job.bound.knows(envelope.version):
        return was.UnknownVersion(version=envelope.version)
    if job.bound.held:
        return was.Held()
    return None


def _broken(error: Malformed) -> was.Broken:
    record = ErrorRecord(kind=error.rule, message=error.detail[:MESSAGE_CHARS_MAX])
    return was.Broken(rule=error.rule, path=error.path, error=record)


def timed_out(job: LiveJob) -> was.TimedOut:
    """Say that an attempt ran into its limit."""
    text = f"ran longer than its limit of {job.bound.limit_s:g} s"
    return was.TimedOut(error=ErrorRecord(kind="timeout", message=text))


def outcome_of(error: BaseException, job: LiveJob) -> was.Outcome:
    """Say how an attempt ended that raised; the caller has dealt with its own cancelling."""
    if isinstance(error, JobSignal):
        record = ErrorRecord(kind=type(error).__name__, message=text_of(error))
        if isinstance(error, Retry):
            return was.Retried(error=record, after_ms=error.after_ms)
        if isinstance(error, Snooze):
            return was.Snoozed(error=record, after_ms=error.after_ms)
        if isinstance(error, Cancel):
            return was.Cancelled(error=record)
        if isinstance(error, Hold):
            return was.Held(error=record)
        if isinstance(error, Limited):
            return was.Limited(limit=error.limit, error=record)
    if isinstance(error, OverLimit):
        return timed_out(job)
    if isinstance(error, LeaseTooOld):
        return was.Interrupted()
    return was.Failed(error=error_record(error, full=job.attempt >= job.attempts_max))
