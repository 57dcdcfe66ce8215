"""What of jobs nobody is shown, and what only some are."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
import orjson
import pytest

from engine.dashboard.redact import MASK, Redactor
from engine.dashboard.routes import Caller, Refused
from engine.errors import SettingsError
from engine.settings import JSON_PATHS, load_engine
from schemas.access import AuditEntry
from schemas.job import ErrorRecord
from schemas.looks import PayloadShown
from schemas.schedule import ScheduleView
from schemas.story import Attempt, Burial, JobRow, JobStory, RawField

READER = Caller(name="rita", scope="read")
OPERATOR = Caller(name="olga", scope="operate")
PAYLOAD = {
    "to": {"phone": "+49 170", "name": "Ann"},
    "parts": [{"text": "s3cret", "n": 1}, {"text": "more", "n": 2}],
    "deep": {"er": {"password": "pw"}},
    "password": "pw",
}
RAW = orjson.dumps(PAYLOAD).decode()
ERROR = ErrorRecord(kind="ValueError", message="s3cret in words", traceback="frame s3cret")


def story(job_type: str = "send", **changes: Any) -> JobStory:
    row = JobRow(
        id="j1",
        type=job_type,
        queue="q",
        lane="low",
        state="dead",
        entry="1-1",
        at_ms=1,
        enqueued_ms=1,
        attempts=1,
        size_bytes=1,
        error="ValueError: s3cret in words",
    )
    attempt = Attempt(number=1, at_ms=1, run_ms=1, engine="e", outcome="failed", error=ERROR)
    burial = Burial(
        reason="exhausted",
        rule="",
        path="",
        error=ERROR,
        died_ms=1,
        fingerprint="f",
        cut=0,
        sha256="",
        unable="",
    )
    values: dict[str, Any] = {
        "job": row,
        "why": "dead 1 s ago: ValueError: s3cret in words",
        "payload": PAYLOAD,
        "fields": [
            RawField(name="type", value=job_type),
            RawField(name="data", value=RAW),
            RawField(name="children", value='[{"data":"s3cret"}]'),
            RawField(name="_engine", value='{"history":"s3cret"}'),
        ],
        "history": [attempt],
        "progress": {"percent": 5, "message": "s3cret"},
        "result": {"password": "pw"},
        "dead": burial,
    }
    return JobStory(**{**values, **changes})


def told(
    redactor: Redactor, caller: Caller, of: JobStory | None = None
) -> tuple[Any, PayloadShown]:
    shown, payload = redactor.story(of or story(), caller)
    return msgspec.to_builtins(shown), payload


def test_without_rules_those_who_may_see_payloads_see_everything() -> None:
    shown, payload = Redactor("operate", {}).story(story(), OPERATOR)

    assert shown == story()
    digest = hashlib.sha256(RAW.encode()).hexdigest()
    assert payload == PayloadShown(shown=True, size_bytes=len(RAW), sha256=digest)


@pytest.mark.parametrize(
    ("scope", "caller"), [("operate", READER), ("admin", READER), ("admin", OPERATOR)]
)
def test_others_see_its_size_alone(scope: Any, caller: Caller) -> None:
    shown, payload = told(Redactor(scope, {}), caller)

    assert not payload.shown
    assert (payload.size_bytes, payload.sha256, shown["dead"]["sha256"]) == (len(RAW), "", "")
    assert (shown["payload"], shown["fields"], shown["progress"], shown["result"]) == (
        *(None, []),
        *(None, None),
    )
    assert "Ann" not in str(shown)
    # Errors are told, unless settings say otherwise.
    assert "s3cret in words" in shown["why"]


@pytest.mark.parametrize(
    ("rule", "redacted", "left"),
    [
        ("to.phone", ["$.to.phone"], "Ann"),
        ("$.to.phone", ["$.to.phone"], "Ann"),
        ("to", ["$.to"], "more"),
        ("parts[*].text", ["$.parts[0].text", "$.parts[1].text"], "Ann"),
        ("parts[0].text", ["$.parts[0].text", "$.parts[1].text"], "Ann"),
        ("parts[].text", ["$.parts[0].text", "$.parts[1].text"], "Ann"),
        ("parts.*.text", ["$.parts[0].text", "$.parts[1].text"], "Ann"),
        ("to.*", ["$.to.phone", "$.to.name"], "more"),
        ("..password", ["$.deep.er.password", "$.password"], "Ann"),
        ("$..password", ["$.deep.er.password", "$.password"], "Ann"),
        ("deep..password", ["$.deep.er.password"], "Ann"),
        ("nothing.here", [], "Ann"),
    ],
)
def test_paths_lead_to_what_nobody_sees(rule: str, redacted: list[str], left: str) -> None:
    shown, payload = told(Redactor("operate", {"send": rule}), OPERATOR)

    assert payload.redacted == redacted
    assert left in str(shown["payload"])
    data = next(each["value"] for each in shown["fields"] if each["name"] == "data")
    assert orjson.loads(data) == shown["payload"]
    assert str(shown["payload"]).count(MASK) == len(redacted)


def test_what_is_hidden_in_the_payload_is_hidden_wherever_else_it_stands() -> None:
    redactor = Redactor("operate", {"send": "..password;..text", "other": "x"})

    shown, _ = told(redactor, OPERATOR)

    assert shown["result"] == {"password": MASK}
    assert {each["name"]: each["value"] for each in shown["fields"]}["children"] == MASK
    assert "s3cret" not in str((shown["payload"], shown["fields"], shown["result"]))


@pytest.mark.parametrize("rule", ["to.phone", "nothing.here", "*"])
def test_no_hash_tells_what_is_hidden(rule: str) -> None:
    """A hidden number of four digits is found by ten thousand tries, if its hash is known."""
    burial = story().dead
    assert burial is not None
    cut = msgspec.structs.replace(burial, sha256="a1")

    shown, payload = told(Redactor("operate", {"send": rule}), OPERATOR, story(dead=cut))

    assert (payload.sha256, shown["dead"]["sha256"]) == ("", "")


def test_a_payload_that_is_no_json_is_hidden_whole_where_any_part_is() -> None:
    broken = story(payload=None, fields=[RawField(name="data", value="s3cret{")])

    shown, _ = told(Redactor("operate", {"send": "text"}), OPERATOR, broken)

    assert "s3cret" not in str(shown["fields"])


@pytest.mark.parametrize("rules", [{"send": "*"}, {"*": "*"}, {"send": "x;*"}])
def test_whole_payloads_are_shown_to_nobody(rules: dict[str, str]) -> None:
    shown, payload = told(Redactor("read", rules), Caller(name="", scope="admin"))

    assert (payload.shown, payload.redacted) == (False, ["$"])
    assert (shown["payload"], shown["fields"], shown["result"]) == (None, [], None)


def test_the_text_of_errors_is_hidden_where_settings_say_so() -> None:
    redactor = Redactor("operate", {"send": "@error;..text;message"})

    shown, _ = told(redactor, OPERATOR)

    assert "s3cret" not in str(shown)
    assert shown["history"][0]["error"]["kind"] == "ValueError"
    assert [row.error for row in redactor.rows([story().job, story("other").job])] == [
        MASK,
        "ValueError: s3cret in words",
    ]


def test_what_a_parent_quotes_of_a_hidden_error_is_hidden() -> None:
    told_of = "ChildFailed: child 0, c (send in q), ended dead: s3cret in words"
    error = ErrorRecord(kind="ChildFailed", message=told_of)
    parent, own = story("parent"), story("other")
    assert parent.dead is not None
    attempt = msgspec.structs.replace(parent.history[0], error=error)
    row = msgspec.structs.replace(parent.job, error=told_of)
    parent = msgspec.structs.replace(
        parent,
        job=row,
        why=f"dead 1 s ago: {told_of}",
        history=[attempt],
        dead=msgspec.structs.replace(parent.dead, error=error),
        fields=[],
    )

    shown, _ = told(Redactor("operate", {"send": "@error"}), OPERATOR, parent)

    assert "s3cret in words" not in str(shown)
    assert "s3cret in words" in str(told(Redactor("operate", {"send": "@error"}), OPERATOR, own))
    assert Redactor("operate", {"send": "@error"}).rows([row])[0].error == MASK
    assert Redactor("operate", {"send": "to"}).rows([row])[0].error == told_of


def test_rules_of_all_types_add_to_those_of_one() -> None:
    redactor = Redactor("operate", {"*": "..password", "send": "to"})

    assert told(redactor, OPERATOR)[1].redacted == ["$.to", "$.deep.er.password", "$.password"]
    other = told(redactor, OPERATOR, story("other"))[1]
    assert other.redacted == ["$.deep.er.password", "$.password"]


def test_what_a_schedule_will_send_is_hidden_like_its_jobs() -> None:
    made = ScheduleView(
        queue="q", name="n", when="", state="on", type="send", data=PAYLOAD, fields={"h": "v"}
    )
    redactor = Redactor("operate", {"send": "to"})

    assert redactor.schedule(made, OPERATOR).data["to"] == MASK
    hidden = redactor.schedule(made, READER)
    assert (hidden.data, hidden.fields) == (None, {})


@pytest.mark.parametrize(
    ("rules", "caller", "job_type", "refused"),
    [
        ({}, OPERATOR, "", False),
        ({}, READER, "", True),
        ({"send": "to"}, OPERATOR, "", True),
        ({"send": "to"}, OPERATOR, "send", True),
        ({"send": "@error"}, OPERATOR, "send", True),
        ({"send": "to"}, OPERATOR, "other", False),
        ({"*": "to"}, OPERATOR, "other", True),
    ],
)
def test_no_filter_by_text_tells_what_is_hidden(
    rules: dict[str, str], caller: Caller, job_type: str, refused: bool
) -> None:
    redactor = Redactor("operate", rules)

    redactor.check_text(caller, "", job_type)
    if not refused:
        redactor.check_text(caller, "text", job_type)
        return
    with pytest.raises(Refused) as caught:
        redactor.check_text(caller, "text", job_type)
    assert caught.value.status == 403


def test_what_stands_for_the_hidden_is_not_sent_back_as_a_payload() -> None:
    redactor = Redactor("operate", {"send": "to"})

    redactor.check_new(OPERATOR, RAW)
    with pytest.raises(Refused, match="hidden"):
        redactor.check_new(OPERATOR, f'{{"to": "{MASK}"}}')
    with pytest.raises(Refused, match="needs admin"):
        Redactor("admin", {}).check_new(OPERATOR, RAW)


@pytest.mark.parametrize(
    ("detail", "caller", "shown"),
    [
        ({"id": "j", "n": 1}, READER, {"id": "j", "n": 1}),
        ({"after": {"type": "send", "data": PAYLOAD}}, READER, {}),
        ({"before": '{"data":"s3cret"}'}, READER, {}),
        ({"before": '{"data":"s3cret"}'}, OPERATOR, {"before": MASK}),
        ({"filter": {"text": "s3cret"}, "jobs": 3}, READER, {"jobs": 3}),
        ({"after": {"type": "send", "data": {"to": 1}}}, OPERATOR,
         {"after": {"type": "send", "data": {"to": MASK}}}),
        ({"after": {"type": "x", "data": {"to": 1}}}, OPERATOR,
         {"after": {"type": "x", "data": {"to": 1}}}),
        ({"type": "send", "before_sha256": "a1"}, OPERATOR, {"type": "send"}),
        ({"type": "x", "before_sha256": "a1"}, OPERATOR, {"type": "x", "before_sha256": "a1"}),
        ({"type": "x", "before_sha256": "a1"}, READER, {"type": "x"}),
        ({"after": {"type": "all", "data": 1, "fields": {"headers": "s3cret"}}}, OPERATOR,
         {"after": {"type": "all", "data": MASK, "fields": {}}}),
    ],
)  # fmt: skip
def test_what_the_audit_holds_of_payloads_is_hidden_likewise(
    detail: dict[str, Any], caller: Caller, shown: dict[str, Any]
) -> None:
    entry = AuditEntry(id="1-1", at=1, who="w", what="x", queue="q", detail=detail, reason="")

    redactor = Redactor("operate", {"send": "to", "all": "*"})
    assert redactor.audited(entry, caller).detail == shown


@pytest.mark.parametrize("text", ["$", ".", "a..", "a b;;", "[x]", "a[", "a]", "a.[", "", " "])
def test_a_path_that_settings_take_can_be_read(text: str) -> None:
    if re.search(JSON_PATHS, text):
        Redactor("operate", {"t": text})
    else:
        with pytest.raises(SettingsError):
            load_engine({"ENGINE_HTTP_REDACT": f"send={text}"})
