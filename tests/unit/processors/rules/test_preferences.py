"""The most specific wish counts, and the user's before the tenant's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.preferences import Choice, Preference, built_in, choose, is_of


def own(type_: str, channel: str, enabled: bool, *, digest: bool = False) -> Preference:
    return Preference("user", type_, channel, enabled, digest)


def of_conversation(type_: str, channel: str, enabled: bool) -> Preference:
    return Preference("conversation", type_, channel, enabled, False)


@pytest.mark.parametrize(
    ("mine", "defaults", "enabled"),
    [
        ([], [], True),
        ([], [own("*", "*", False)], False),
        ([own("*", "push", True)], [own("message", "push", False)], True),
        ([own("*", "push", False), own("message", "push", True)], [], True),
        ([own("*", "push", True), own("message", "*", False)], [], False),
        ([own("message", "*", True), own("message", "push", False)], [], False),
        ([own("*", "*", True), own("*", "push", False)], [], False),
        ([own("message", "push", True), of_conversation("*", "*", False)], [], False),
        ([own("message", "email", False)], [], True),
        ([own("billing.*", "push", False)], [], True),
    ],
)
def test_the_order_of_wishes(
    mine: list[Preference], defaults: list[Preference], enabled: bool
) -> None:
    for order in (mine, mine[::-1]):
        assert choose(order, defaults, type_="message", channel="push").enabled is enabled


def test_a_family_counts_by_its_length() -> None:
    wishes = [own("a.*", "push", True), own("a.b.*", "push", False), own("a.b.c", "push", True)]

    def wanted(type_: str) -> bool:
        return choose(wishes, [], type_=type_, channel="push").enabled

    assert (wanted("a.x"), wanted("a.b.x"), wanted("a.b.c")) == (True, False, True)
    assert choose([own("a.*", "push", False)], [], type_="ab", channel="push").enabled


def test_messages_are_gathered_for_email_and_digests_go_by_messages() -> None:
    assert choose([], [], type_="message", channel="email") == Choice(True, digest=True)
    assert choose([], [], type_="login", channel="email") == Choice(True, digest=False)
    assert choose([own("message", "email", False)], [], type_="digest", channel="email") == Choice(
        False
    )
    assert not built_in("login", "sms").enabled


def test_nothing_is_gathered_in_the_app_itself() -> None:
    wish = own("*", "*", True, digest=True)

    assert choose([wish], [], type_="message", channel="in_app") == Choice(True)
    assert choose([wish], [], type_="message", channel="push") == Choice(True, digest=True)


@pytest.mark.parametrize(
    ("type_", "patterns", "expected"),
    [
        ("security.login", ["security.*"], True),
        ("security", ["security.*"], False),
        ("securityx", ["security.*"], False),
        ("billing", ["security.*", "billing"], True),
        ("billing", [], False),
    ],
)
def test_families(type_: str, patterns: list[str], expected: bool) -> None:
    assert is_of(type_, patterns) is expected


PREFERENCES = st.builds(
    Preference,
    st.sampled_from(["user", "conversation"]),
    st.sampled_from(["*", "a", "a.b", "a.*", "b.*"]),
    st.sampled_from(["*", "push", "email"]),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(PREFERENCES, unique_by=lambda each: each[:3]), st.sampled_from(["a", "a.b", "c"]))
def test_what_was_said_exactly_counts_and_order_never_does(
    wishes: list[Preference], type_: str
) -> None:
    found = choose(wishes, [], type_=type_, channel="push")
    exact = [each for each in wishes if each[:3] == ("conversation", type_, "push")]

    assert found == choose(wishes[::-1], [], type_=type_, channel="push")
    assert all(found.enabled == each.enabled for each in exact)
    assert found.enabled or not found.digest
