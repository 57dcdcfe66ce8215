"""A search passes over no job that it looks for: not in any spelling, nor before decoding it."""

from __future__ import annotations

import json

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from engine.store.operator.entry import Found, dead_entry, delayed_entry
from engine.store.operator.link import Entry
from engine.store.operator.needle import Needle
from engine.store.operator.sieve import entry_hay, sieve_of
from engine.wire.codec import DEAD, META, encode_meta
from engine.wire.packing import pack
from schemas.job import DeadRecord, ErrorRecord, Meta

KELVIN = "\u212a"
"""Its lower case is the k of ASCII."""

letters = st.characters(exclude_categories=["Cs"], exclude_characters=KELVIN + "\u0130")
texts = st.text(letters | st.sampled_from('"\\/<>&\n\x00nkäÄ-1'), max_size=12)
types = st.sampled_from(["send", "other", "Bad Type", "a"])
ascii_only = st.booleans()


@given(texts, texts, texts, ascii_only)
@example("", "ÄRGER\U0001f600", "", True)
@example("", 'say "hi"', "", True)
def test_text_is_found_in_json_however_it_is_spelt(
    before: str, text: str, after: str, escaped: bool
) -> None:
    hay = json.dumps({"say": before + text + after}, ensure_ascii=escaped).encode()

    assert Needle(text).within(hay)


@given(texts)
def test_text_is_found_in_plain_text_in_any_case(text: str) -> None:
    assert Needle(text.lower()).within(text.encode())


def passes(found: Found, hay: bytes, text: str) -> bool:
    """Tell whether the sieves for what a job is, and for a text within it, let its bytes pass."""
    sieves = [
        sieve_of(type_=found.type),
        sieve_of(job_id=found.id),
        sieve_of(type_=found.type, job_id=found.id, text=text if found.holds(Needle(text)) else ""),
    ]
    return all(sieve is None or sieve(hay) for sieve in sieves)


@given(texts, types, texts, st.booleans(), st.data())
def test_no_job_that_fits_is_sifted_out(
    own_id: str, job_type: str, said: str, has_meta: bool, data: st.DataObject
) -> None:
    fields = [b"type", job_type.encode(), b"data", json.dumps({"say": said}).encode()]
    fields += [b"id", own_id.encode()] if own_id else []
    fields += [META, encode_meta(Meta(id=own_id or "n-1-2", enqueued_ms=1))] if has_meta else []
    entry: Entry = (b"17-4", fields)
    waiting = Found(
        queue="q", state="waiting", lane="normal", entry="17-4", fields=fields, at_ms=1, position=""
    )
    packed = pack([b"normal", *fields])
    text = data.draw(st.sampled_from([said, said[1:3], own_id, "n", "n-", "17-4", "7"]) | texts)

    assert passes(waiting, entry_hay(entry), text)
    assert passes(delayed_entry("q", packed, "5", "5/1"), packed, text)


@given(texts, texts, texts, st.data())
def test_no_dead_letter_that_fits_is_sifted_out(
    own_id: str, message: str, rule: str, data: st.DataObject
) -> None:
    record = DeadRecord(
        id=own_id,
        type="send",
        lane="normal",
        entry="1-1",
        reason="exhausted",
        error=ErrorRecord(kind="KeyError", message=message),
        rule=rule,
        enqueued_ms=1,
        died_ms=2,
        fingerprint="00ff",
    )
    fields = [DEAD, msgspec.json.encode(record), b"type", b"send", b"data", b"{}"]
    text = data.draw(st.sampled_from([own_id, message, message[2:], rule, "keyerr"]) | texts)
    found, hay = dead_entry("q", b"17-4", fields), entry_hay((b"17-4", fields))
    printed = sieve_of(fingerprint="00ff")

    assert passes(found, hay, text)
    assert printed is not None
    assert printed(hay)


def test_what_cannot_fit_is_sifted_out() -> None:
    hay = entry_hay((b"17-4", [b"type", b"send", b"data", b'{"say":"Hello"}']))

    assert [
        sieve is not None and sieve(hay)
        for sieve in (
            sieve_of(type_="fetch"),
            sieve_of(job_id="job-7"),
            sieve_of(text="goodbye"),
            sieve_of(fingerprint="00ff"),
            sieve_of(type_="send", text="goodbye"),
            sieve_of(type_="send", text="HELLO"),
        )
    ] == [False, False, False, False, False, True]
