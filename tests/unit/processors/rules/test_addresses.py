"""Addresses are told apart, compared and hashed as mail servers and networks do."""

from __future__ import annotations

import pytest

from processors.rules.addresses import address_hash, email_ascii, email_fault


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com",
        "ada.lovelace+news@mail.example.co.uk",
        "o'brien@example.com",
        "用户@例え.jp",
        "ada@bücher.example",
        "ada@localhost",
        f"{'a' * 64}@example.com",
    ],
)
def test_an_address_is_one(address: str) -> None:
    assert email_fault(address) == ""


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("", "form"),
        ("ada", "form"),
        ("@example.com", "form"),
        ("ada@", "form"),
        ("ada @example.com", "white space"),
        ("ada@example.com\r\nBcc: eve@example.com", "white space"),
        ("ada\x00@example.com", "white space"),
        ("ada@eve@example.com", "dot-atom"),
        ("<ada@example.com", "dot-atom"),
        (".ada@example.com", "dot-atom"),
        ("ada..l@example.com", "dot-atom"),
        ("ada@-example-.com", "domain"),
        ("ada@example..com", "domain"),
        ("ada@example.com.", "domain"),
        ("ada@exa_mple.com>", "domain"),
        (f"{'a' * 65}@example.com", "64 bytes"),
        (f"{'é' * 33}@example.com", "64 bytes"),
        (f"{'a' * 64}@{'.'.join(['b' * 60] * 4)}", "254 bytes"),
    ],
)
def test_what_is_no_address_is_told(address: str, fault: str) -> None:
    assert fault in email_fault(address)


def test_a_domain_goes_out_in_the_form_of_the_dns() -> None:
    assert email_ascii("Ada@Bücher.Example") == "Ada@xn--bcher-kva.example"
    # IDNA 2008 keeps the sharp s, which the older rules in the standard library fold away.
    assert email_ascii("a@straße.example") == "a@xn--strae-oqa.example"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        (" ada@example.com\n", "ada@example.com"),
        ("ada@bücher.example", "ADA@XN--BCHER-KVA.EXAMPLE"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
    ],
)
def test_spellings_of_one_address_have_one_hash(one: str, other: str) -> None:
    assert address_hash("email", one) == address_hash("email", other)


def test_different_addresses_and_channels_have_different_hashes() -> None:
    hashes = {
        address_hash("email", "ada@example.com"),
        address_hash("email", "ada+news@example.com"),
        address_hash("email", "+14155550100"),
        address_hash("sms", "+14155550100"),
        address_hash("sms", "+14155550101"),
    }

    assert len(hashes) == 5
    assert {len(each) for each in hashes} == {32}
