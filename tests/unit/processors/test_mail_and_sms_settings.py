"""Settings of email and SMS are checked at the start, and their secrets are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.errors import ConfigurationError
from processors.settings import described, from_env

KEY = "a-key-of-enough-length"
EMAIL = {"HOST": "smtp.example.com", "SENDER": "Chat <chat@example.com>"}
SMS = {"ACCOUNT_SID": "AC1", "AUTH_TOKEN": "token", "SENDER": "+14155550199"}


def variables(part: str, values: dict[str, str]) -> dict[str, str]:
    return {f"PROCESSORS_{part}_{name}": value for name, value in values.items()}


def test_both_are_off_without_settings() -> None:
    own = from_env({})

    assert (own.email.host, own.sms.account_sid) == ("", "")


@pytest.mark.parametrize(
    ("changed", "port"),
    [
        ({}, 587),
        ({"TLS": "tls"}, 465),
        ({"TLS": "none"}, 25),
        ({"TLS": "STARTTLS", "PORT": "2525"}, 2525),
    ],
)
def test_the_port_follows_from_tls(changed: dict[str, str], port: int) -> None:
    assert from_env(variables("EMAIL", EMAIL | changed)).email.server_port == port


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SENDER": ""}, "sender"),
        ({"TLS": "none", "USERNAME": "a", "PASSWORD": "b"}, "password"),
        ({"RETURN_PATH": "bounces@example.com"}, "return_path"),
        ({"RETURN_PATH": "{id}+{id}@example.com"}, "return_path"),
        ({"UNSUBSCRIBE_URL": "https://chat.example.com"}, "unsubscribe_keys"),
        ({"UNSUBSCRIBE_KEYS": KEY}, "unsubscribe_url"),
        ({"UNSUBSCRIBE_URL": "chat.example.com", "UNSUBSCRIBE_KEYS": KEY}, "https"),
        ({"UNSUBSCRIBE_URL": "https://x.example", "UNSUBSCRIBE_KEYS": f"{KEY} short"}, "16"),
        ({"TLS": "ssl"}, "tls"),
    ],
)
def test_settings_of_email_that_cannot_work_are_told(changed: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?i){named}"):
        from_env(variables("EMAIL", EMAIL | changed))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_password_may_be_shown_to_this_machine(host: str) -> None:
    changed = {"HOST": host, "TLS": "none", "USERNAME": "a", "PASSWORD": "b"}

    assert from_env(variables("EMAIL", EMAIL | changed)).email.host == host


def test_keys_may_stand_in_a_file_one_per_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}-2\n{KEY}-1\n")
    changed = {"UNSUBSCRIBE_URL": "https://x.example", "UNSUBSCRIBE_KEYS_FILE": str(file)}

    assert from_env(variables("EMAIL", EMAIL | changed)).email.keys == (f"{KEY}-2", f"{KEY}-1")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SENDER": ""}, "sender"),
        ({"MESSAGING_SERVICE": "MG1"}, "messaging_service"),
        ({"AUTH_TOKEN": ""}, "auth_token"),
        ({"API_KEY": "SK1"}, "api_key_secret"),
        ({"AUTH_TOKEN": "", "API_KEY": "a", "API_KEY_SECRET": "b", "WEBHOOK_URL": "https://x.y"},
         "webhook_url"),
        ({"WEBHOOK_URL": "chat.example.com"}, "webhook_url"),
        ({"URL": "api.twilio.com"}, "url"),
        ({"COUNTRIES": "Germany"}, "countries"),
        ({"ACCOUNT_SID": "../AC1"}, "account_sid"),
        ({"SEGMENTS_MAX": "0"}, "segments_max"),
    ],
)  # fmt: skip
def test_settings_of_sms_that_cannot_work_are_told(changed: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?i){named}"):
        from_env(variables("SMS", SMS | changed))


def test_who_signs_in() -> None:
    token = from_env(variables("SMS", SMS)).sms
    key = from_env(variables("SMS", SMS | {"API_KEY": "SK1", "API_KEY_SECRET": "s"})).sms

    assert (token.sign_in, key.sign_in) == (("AC1", "token"), ("SK1", "s"))
    assert from_env(variables("SMS", SMS | {"AUTH_TOKEN_OLD": "old"})).sms.tokens == (
        "token",
        "old",
    )


def test_secrets_are_masked() -> None:
    secrets = {
        **variables("EMAIL", {"PASSWORD": "hidden-1", "UNSUBSCRIBE_KEYS": f"hidden-2-{KEY}"}),
        **variables("EMAIL", EMAIL | {"UNSUBSCRIBE_URL": "https://x.example"}),
        **variables("SMS", SMS | {"AUTH_TOKEN": "hidden-3", "AUTH_TOKEN_OLD": "hidden-4"}),
        **variables("SMS", {"API_KEY": "SK1", "API_KEY_SECRET": "hidden-5"}),
    }

    assert not [row for row in described(secrets) if "hidden" in row.value]
