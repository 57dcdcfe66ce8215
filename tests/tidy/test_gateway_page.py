"""The page about the gateway shows the frames and close codes that there are."""

from __future__ import annotations

import re
import typing
from typing import Any

import msgspec

from processors.realtime.requests import read_frame
from processors.realtime.socket import Code
from schemas import realtime
from tests.tidy.sources import ROOT
from tests.tidy.test_readme import between

PAGE = (ROOT / "processors" / "README.md").read_text()
ID = "00000000-0000-4000-8000-000000000100"
OWN_CODES = {1009}
"""Sent by the WebSocket library by itself."""


def tags(union: Any) -> set[str]:
    kinds = typing.get_args(union)
    return {msgspec.inspect.type_info(kind).tag for kind in kinds}  # type: ignore[union-attr]


def test_every_frame_of_a_client_is_shown_as_it_is_understood() -> None:
    shown = re.findall(r"^\| `(\{.*?\})` \|", between(PAGE, "client frames"), re.MULTILINE)

    frames = [read_frame(text.replace('"ID"', f'"{ID}"')) for text in shown]

    kinds = [type(frame) for frame in frames]
    assert sorted(kinds, key=repr) == sorted(typing.get_args(realtime.Frame), key=repr)


def test_every_frame_of_the_gateway_is_told_with_its_fields() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| (.*) \|$", between(PAGE, "gateway frames"), re.MULTILINE)
    kinds = {msgspec.inspect.type_info(kind).tag: kind for kind in typing.get_args(realtime.Answer)}  # type: ignore[union-attr]

    assert {name for name, _ in rows} == tags(realtime.Answer)
    for name, text in rows:
        fields = {field.encode_name for field in msgspec.structs.fields(kinds[name])} - {"id"}
        told = set(re.findall(r"`(\w+)`", text)) | (
            {"conversationId"} if name == "messages" else set()
        )
        assert fields - told == set(), name


def test_every_close_code_is_told() -> None:
    told = re.findall(r"^\| (\d{4}) \|", between(PAGE, "close codes"), re.MULTILINE)

    assert {int(code) for code in told} == {int(code) for code in Code} | OWN_CODES
