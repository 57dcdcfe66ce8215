"""Payloads made up from schemas."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest

from engine.dashboard.examples import example_of, has_examples
from processors.demo import ADA, CONVERSATION
from schemas.messages import SendMessage


class Address(msgspec.Struct):
    street: Annotated[str, msgspec.Meta(min_length=9)]
    code: Annotated[int, msgspec.Meta(ge=1_000, lt=10_000)]


class Tree(msgspec.Struct):
    name: str
    parts: list[Tree]
    more: Tree | None


class Order(msgspec.Struct):
    id: uuid.UUID
    kind: Literal["small", "large"]
    address: Address
    items: Annotated[list[str], msgspec.Meta(min_length=2)]
    share: Annotated[float, msgspec.Meta(gt=0, lt=1, multiple_of=0.25)]
    tree: Tree
    either: int | str | None
    note: str = "as it is"
    tags: list[str] = []


class Few(msgspec.Struct):
    wanted: str
    first: int = 7
    second: str | None = None
    third: bool = True


@pytest.mark.parametrize("kind", [Order, Few, dict[str, int], list[Few], Tree])
def test_an_example_fits_its_schema(kind: Any) -> None:
    example = example_of(msgspec.json.schema(kind))

    assert msgspec.json.decode(msgspec.json.encode(example), type=kind) is not None


def test_what_is_optional_is_shown_where_little_is_required() -> None:
    assert example_of(msgspec.json.schema(Few)) == {"wanted": "text", "first": 7, "second": "text"}
    assert "note" not in example_of(msgspec.json.schema(Order))


def test_examples_of_the_schema_go_before_what_is_made_up() -> None:
    told = {"type": "object", "properties": {"a": {"type": "string", "examples": ["mine"]}}}

    assert example_of(told) == {"a": "mine"}


def test_the_first_job_that_newcomers_send_says_hello_in_the_demo_conversation() -> None:
    schema = msgspec.json.schema(SendMessage)

    sent = msgspec.json.decode(msgspec.json.encode(example_of(schema)), type=SendMessage)

    assert (sent.conversation_id, sent.sender_id, sent.content) == (CONVERSATION, ADA, "hello")
    assert has_examples(schema)
    assert not has_examples(msgspec.json.schema(Order))
