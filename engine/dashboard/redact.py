"""
What of a job leaves the server: the one place where payloads, results and raw fields do.

Payloads are shown from a scope on; beyond that, settings name what nobody is shown, by job type:
``send-message=body;to.phone``. A path is made of names with dots, ``[*]`` or ``*`` for every
element, ``..name`` for a name at any depth; a leading ``$.`` may stand. ``*`` alone is everything,
``@error`` the text of errors. The type ``*`` stands for all types.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from engine.admin import Sealed
from engine.dashboard.routes import Caller, Refused, Scope
from schemas.access import AuditEntry
from schemas.dead import DeadGroupPage, DeadRow
from schemas.job import ErrorRecord
from schemas.looks import PayloadShown
from schemas.operations import Operation
from schemas.rules import PATH_STEP
from schemas.schedule import ScheduleView
from schemas.stats import DeadFilter
from schemas.story import JobRow, JobStory, RawField

MASK = "•••"
"""Stands for what is not shown."""
DATA = "data"
ALL = "*"
ERRORS = "@error"
QUOTES = "ChildFailed"
"""Kind of the error of a job whose child ended dead, which quotes the error of the child."""
PATHS_MAX = 100
"""Places that are named as left out; further ones are left out all the same."""
HASH = "_sha256"
"""Ends the names of what the audit holds of payloads' hashes."""
INNER_FIELDS = frozenset({DATA, "children", "_engine", "_dead"})
"""Fields that hold payloads, of the job or of its children, or what was written of earlier runs."""

STEP = re.compile(PATH_STEP)

Step = tuple[bool, str]
"""A name, and whether it may stand at any depth below; ``*`` is every element."""


class Rules(msgspec.Struct, frozen=True):
    """
    What of one type's jobs nobody is shown.

    Attributes:
        everything: Whole payloads.
        errors: The text of errors.
        paths: Parts of payloads.
    """

    everything: bool = False
    errors: bool = False
    paths: tuple[tuple[Step, ...], ...] = ()

    @property
    def hides_payload(self) -> bool:
        """Whether any part of payloads is left out."""
        return self.everything or bool(self.paths)


class Redactor:
    """
    Leaves out what callers may not see.

    Args:
        scope: From which on payloads are shown.
        rules: What nobody is shown: paths by job type, as settings have them.

    Attributes:
        hides_errors: Whether errors of any type are shown to nobody.
    """

    def __init__(self, scope: Scope, rules: Mapping[str, str]) -> None:
        self._scope = scope
        self._rules = {job_type: read_rules(text) for job_type, text in rules.items()}
        self.hides_errors = any(each.errors for each in self._rules.values())

    def may_search_payloads(self, caller: Caller) -> bool:
        """Tell whether a caller may look for text within payloads, of which it could guess them."""
        return caller.may(self._scope)

    def sealed(self, caller: Caller) -> Sealed:
        """Tell within which types' payloads and errors a caller's searches must not look."""
        every = frozenset({ALL})
        hidden = frozenset(each for each, rules in self._rules.items() if rules.hides_payload)
        return Sealed(
            payloads=hidden if self.may_search_payloads(caller) else every,
            errors=frozenset(each for each, rules in self._rules.items() if rules.errors),
        )

    def check_text(self, caller: Caller, text: str, job_type: str = "") -> None:
        """
        Refuse a filter by text that would tell what a caller may not see.

        Raises:
            Refused: It would.
        """
        if not text:
            return
        if not self.may_search_payloads(caller):
            raise Refused(403, f"looking for text within jobs needs {self._scope}")
        sealed = self.sealed(caller)
        hidden = sealed.payloads | sealed.errors
        if hidden and (not job_type or hidden & {ALL, job_type}):
            raise Refused(
                403, "parts of these jobs are shown to nobody, so name a type without any"
            )

    def check_new(self, caller: Caller, data: str) -> None:
        """
        Refuse a new payload of those who may not see the old one, or that holds what stood for its
        hidden parts.

        Raises:
            Refused: It does.
        """
        if not caller.may(self._scope):
            raise Refused(403, f"to edit what is in a job needs {self._scope}")
        if self._rules and MASK in data:
            raise Refused(409, f"the payload holds {MASK}, which only stands for what is hidden")

    def story(self, story: JobStory, caller: Caller) -> tuple[JobStory, PayloadShown]:
        """Leave out of a job's story what its asker may not see, and tell what that was."""
        told = self._without_errors(story) if self._hides_errors_of(story) else story
        rules = self._of(story.job.type)
        size, digest = _measure(story)
        cut = any(field.cut and field.name == DATA for field in story.fields)
        shown = PayloadShown(shown=not cut, size_bytes=size, sha256=digest, cut=cut)
        if not caller.may(self._scope) or rules.hides_payload:
            told, shown = _without_hash(told), msgspec.structs.replace(shown, sha256="")
        if not caller.may(self._scope) or rules.everything:
            empty = msgspec.structs.replace(
                told, payload=None, fields=[], progress=None, result=None
            )
            redacted = ["$"] if caller.may(self._scope) else []
            return empty, msgspec.structs.replace(shown, shown=False, redacted=redacted)
        if not self._rules:
            return told, shown
        found: list[str] = []
        payload = _mask(told.payload, rules.paths, found)
        # The same names in what came of it, which is not part of the payload's account.
        told = msgspec.structs.replace(
            told,
            payload=payload,
            progress=_mask(told.progress, rules.paths, []),
            result=_mask(told.result, rules.paths, []),
            fields=[self._field(each, payload, rules) for each in told.fields],
        )
        return told, msgspec.structs.replace(shown, redacted=found)

    def rows(self, rows: Sequence[JobRow]) -> list[JobRow]:
        """Leave out of a list what nobody may see."""
        return [self._row(row) for row in rows]

    def check_error_text(self, text: str, job_type: str = "") -> None:
        """
        Refuse a filter by text of errors that would tell what nobody may see.

        Raises:
            Refused: It would.
        """
        hidden = {each for each, rules in self._rules.items() if rules.errors}
        if text and hidden and (not job_type or hidden & {ALL, job_type}):
            raise Refused(
                403, "some of these errors are shown to nobody, so name a type without any"
            )

    def dead(self, row: DeadRow) -> DeadRow:
        """Leave out of a group of dead letters what nobody may see."""
        group = msgspec.structs.replace(
            row.group, message=self._error_text(row.group.type, row.group.kind, row.group.message)
        )
        return msgspec.structs.replace(row, group=group)

    def dead_group(self, page: DeadGroupPage, caller: Caller) -> DeadGroupPage:
        """Leave out of a group of dead letters what its asker may not see."""
        hides = self._hides(page.row.group.type, page.row.group.kind)
        return msgspec.structs.replace(
            page,
            row=self.dead(page.row),
            samples=[
                msgspec.structs.replace(each, error=_hidden(each.error)) if hides else each
                for each in page.samples
            ],
            operations=[self.operation(each, caller) for each in page.operations],
        )

    def operation(self, operation: Operation, caller: Caller) -> Operation:
        """Leave out what an operation looked for within payloads, for those who may not."""
        wanted = self.wanted(operation.record.filter, caller)
        record = msgspec.structs.replace(operation.record, filter=wanted)
        return msgspec.structs.replace(operation, record=record)

    def wanted(self, wanted: DeadFilter, caller: Caller) -> DeadFilter:
        """Leave out the text that a filter looks for within payloads, likewise."""
        if not wanted.text or self.may_search_payloads(caller):
            return wanted
        return msgspec.structs.replace(wanted, text=MASK)

    def schedule(self, schedule: ScheduleView, caller: Caller) -> ScheduleView:
        """Leave out of a schedule what its asker may not see of the jobs that it makes."""
        rules = self._of(schedule.type)
        if not caller.may(self._scope) or rules.everything:
            return msgspec.structs.replace(schedule, data=None, fields={})
        return msgspec.structs.replace(schedule, data=_mask(schedule.data, rules.paths, []))

    def audited(self, entry: AuditEntry, caller: Caller) -> AuditEntry:
        """Leave out of a recorded change what its reader may not see, such as a schedule's job."""
        if not caller.may(self._scope):
            # What is not a plain word or number may hold payloads, or what was looked for in them.
            plain = {
                name: value
                for name, value in entry.detail.items()
                if isinstance(value, str | int | float | None) and not _is_json(value)
            }
            return msgspec.structs.replace(entry, detail=_without_hashes(plain))
        told = self._within(entry.detail)
        if self._of(str(entry.detail.get("type", ""))).hides_payload:
            told = _without_hashes(told)
        return msgspec.structs.replace(entry, detail=told)

    def _within(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._within(part) for part in value]
        if not isinstance(value, dict):
            return MASK if self._rules and _is_json(value) else value
        told = {name: self._within(part) for name, part in value.items()}
        if isinstance(value.get("type"), str) and DATA in value:
            rules = self._of(value["type"])
            told[DATA] = MASK if rules.everything else _mask(value[DATA], rules.paths, [])
            if rules.everything and "fields" in told:
                told["fields"] = {}
        return told

    def _error_text(self, job_type: str, kind: str, text: str) -> str:
        return MASK if text and self._hides(job_type, kind) else text

    def _hides(self, job_type: str, kind: str) -> bool:
        """Tell whether nobody may see an error, its own or the child's that it quotes."""
        return (self.hides_errors and kind.startswith(QUOTES)) or self._of(job_type).errors

    def _hides_errors_of(self, story: JobStory) -> bool:
        kinds = [each.error.kind for each in story.history if each.error]
        kinds += [story.dead.error.kind] if story.dead else []
        return any(self._hides(story.job.type, kind) for kind in ("", *kinds))

    def _of(self, job_type: str) -> Rules:
        own, common = self._rules.get(job_type, Rules()), self._rules.get(ALL, Rules())
        return Rules(
            everything=own.everything or common.everything,
            errors=own.errors or common.errors,
            paths=own.paths + common.paths,
        )

    def _row(self, row: JobRow) -> JobRow:
        return msgspec.structs.replace(row, error=self._error_text(row.type, row.error, row.error))

    def _without_errors(self, story: JobStory) -> JobStory:
        errors = [each.error for each in story.history if each.error]
        errors += [story.dead.error] if story.dead else []
        why = story.why
        for message in sorted({each.message for each in errors if each.message}, key=len):
            why = why.replace(message, MASK)
        return msgspec.structs.replace(
            story,
            job=msgspec.structs.replace(story.job, error=MASK if story.job.error else ""),
            why=why,
            history=[
                msgspec.structs.replace(each, error=_hidden(each.error)) for each in story.history
            ],
            dead=story.dead
            and msgspec.structs.replace(story.dead, error=_hidden(story.dead.error)),
        )

    def _field(self, field: RawField, payload: Any, rules: Rules) -> RawField:
        if field.name not in INNER_FIELDS:
            return field
        if field.name == DATA and not rules.paths:
            return field
        told = MASK if field.name != DATA or payload is None else orjson.dumps(payload).decode()
        return RawField(name=field.name, value=told)


def read_rules(text: str) -> Rules:
    """
    Read what settings say of one type.

    Raises:
        ValueError: A path cannot be read.
    """
    paths = [path for path in re.split(r"[\s;]+", text) if path]
    return Rules(
        everything=ALL in paths,
        errors=ERRORS in paths,
        paths=tuple(_steps(path) for path in paths if path not in {ALL, ERRORS}),
    )


def _steps(path: str) -> tuple[Step, ...]:
    rest = path[1:] if path.startswith(("$.", "$[")) else path
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        found = STEP.match(rest, at)
        if found is None:
            raise ValueError(f"{path!r} is no path: write names with dots, [*] or ..name")
        at = found.end()
        if found[2]:
            steps.append((found[1] == "..", found[2]))
        elif found[0].startswith("["):
            # A place in a list may move, so that its number counts for all.
            steps.append((False, ALL))
    if not steps:
        raise ValueError(f"{path!r} is no path: it names nothing")
    return tuple(steps)


def _mask(value: Any, paths: Sequence[Sequence[Step]], found: list[str]) -> Any:
    """Copy a value without what the paths lead to; notes where that was."""
    return _masked(value, [path for path in paths if path], "$", found) if paths else value


def _masked(value: Any, paths: Sequence[Sequence[Step]], where: str, found: list[str]) -> Any:
    if isinstance(value, dict):
        return {
            name: _element(part, str(name), paths, f"{where}.{name}", found)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [
            _element(part, None, paths, f"{where}[{number}]", found)
            for number, part in enumerate(value)
        ]
    return value


def _element(
    value: Any, name: str | None, paths: Sequence[Sequence[Step]], where: str, found: list[str]
) -> Any:
    left: list[Sequence[Step]] = []
    for path in paths:
        is_deep, wanted = path[0]
        if is_deep:
            left.append(path)
        if wanted in {ALL, name}:
            if len(path) == 1:
                if len(found) < PATHS_MAX:
                    found.append(where)
                return MASK
            left.append(path[1:])
    return _masked(value, left, where, found) if left else value


def _measure(story: JobStory) -> tuple[int, str]:
    raw = next((field for field in story.fields if field.name == DATA), None)
    if raw is None:
        return (story.dead.cut, story.dead.sha256) if story.dead else (0, "")
    if raw.cut:
        return raw.cut, ""
    data = base64.b64decode(raw.value) if raw.encoding == "base64" else raw.value.encode()
    return len(data), hashlib.sha256(data).hexdigest()


def _without_hash(story: JobStory) -> JobStory:
    """Leave out the hash of a dead job's fields, by which small payloads could be guessed."""
    if story.dead is None:
        return story
    return msgspec.structs.replace(story, dead=msgspec.structs.replace(story.dead, sha256=""))


def _without_hashes(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the same out of a recorded change."""
    return {name: value for name, value in detail.items() if not name.endswith(HASH)}


def _is_json(value: Any) -> bool:
    """Tell whether a text is a whole record, as older entries have them."""
    return isinstance(value, str) and value.startswith(("{", "["))


def _hidden(error: ErrorRecord | None) -> Any:
    return error and ErrorRecord(kind=error.kind, message=MASK)
