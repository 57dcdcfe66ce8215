"""Where settings come from, which are refused, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.configuration import describe, mask
from engine.errors import SettingsError
from engine.settings import PREFIX, EngineSettings, http_address, load_engine
from engine.tokens import all_tokens
from schemas.rules import DATA_BYTES_MAX


def loaded(environ: dict[str, str], **more: object) -> EngineSettings:
    return load_engine(environ, **more).settings  # type: ignore[arg-type]


def refused(environ: dict[str, str], **more: object) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(environ, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_need_no_environment() -> None:
    settings = loaded({"PATH": "/bin", "ENGINEER": "no"})

    assert settings == EngineSettings()
    assert (settings.lease_ms, settings.renew_ms) == (30_000, 10_000)
    assert settings.data_bytes_max == DATA_BYTES_MAX


def test_every_kind_of_value_is_read_from_the_environment() -> None:
    settings = loaded(
        {
            "ENGINE_REDIS_URL": "rediss://cache:6380/1",
            "ENGINE_QUEUES": "cleanup, indexing,",
            "ENGINE_CONCURRENCY": "7",
            "ENGINE_QUEUE_CONCURRENCY": "cleanup=1, indexing=2",
            "ENGINE_GRACE_S": "2.5",
            "ENGINE_WEIGHTS": "high=5,normal=3,low=1",
            "ENGINE_LOG_FORMAT": "json",
        }
    )

    assert settings.redis_url == "rediss://cache:6380/1"
    assert settings.queues == ("cleanup", "indexing")
    assert settings.concurrency == 7
    assert settings.queue_concurrency == {"cleanup": 1, "indexing": 2}
    assert settings.grace_s == 2.5
    assert settings.weights == {"high": 5, "normal": 3, "low": 1}
    assert settings.log_format == "json"


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text(
        'concurrency = 1\nblock_ms = 11\nqueues = ["a"]\n[weights]\nhigh=2\nnormal=2\nlow=1\n'
    )
    environ = {"ENGINE_CONFIG": str(file), "ENGINE_CONCURRENCY": "2", "ENGINE_BLOCK_MS": "12"}

    found = load_engine(environ, overrides={"concurrency": 3})

    assert (found.settings.concurrency, found.settings.block_ms) == (3, 12)
    assert found.settings.queues == ("a",)
    assert found.settings.weights["high"] == 2
    assert found.sources == {
        "concurrency": "command line",
        "block_ms": "environment",
        "queues": "file",
        "weights": "file",
    }


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret-of-16-chars\n")

    assert loaded({"ENGINE_HTTP_TOKEN_FILE": str(secret)}).http_token == "s3cret-of-16-chars"
    both = {"ENGINE_HTTP_TOKEN": "t" * 16, "ENGINE_HTTP_TOKEN_FILE": str(secret)}
    for order in (both.items(), reversed(both.items())):
        assert loaded(dict(order)).http_token == "t" * 16
    assert "ENGINE_HTTP_TOKEN_FILE" in refused({"ENGINE_HTTP_TOKEN_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ENGINE_CONCURENCY": "5"}, ["ENGINE_CONCURENCY", "did you mean ENGINE_CONCURRENCY?"]),
        ({"ENGINE_XYZZY": "5"}, ["ENGINE_XYZZY", "engine settings"]),
        ({"ENGINE_CONCURRENCY": "many"}, ["ENGINE_CONCURRENCY", "expected `int`", "not 'many'"]),
        ({"ENGINE_CONCURRENCY": "0"}, ["ENGINE_CONCURRENCY", "1"]),
        ({"ENGINE_CONCURRENCY": ""}, ["ENGINE_CONCURRENCY"]),
        ({"ENGINE_GRACE_S": "0"}, ["ENGINE_GRACE_S"]),
        ({"ENGINE_GRACE_S": "nan"}, ["ENGINE_GRACE_S"]),
        ({"ENGINE_QUEUE_CONCURRENCY": "cleanup"}, ["ENGINE_QUEUE_CONCURRENCY", "name=number"]),
        ({"ENGINE_QUEUE_CONCURRENCY": "cleanup=x"}, ["ENGINE_QUEUE_CONCURRENCY"]),
        ({"ENGINE_LOG_LEVEL": "loud"}, ["ENGINE_LOG_LEVEL", "debug, info, warning, error", "loud"]),
        ({"ENGINE_LOG_FORMAT": "xml"}, ["ENGINE_LOG_FORMAT", "auto, console, json", "'xml'"]),
        ({"ENGINE_HTTP_TOKEN": "fifteen-letters"}, ["ENGINE_HTTP_TOKEN", "16 characters"]),
        ({"ENGINE_PORT": "8787"}, ["ENGINE_PORT"]),
        ({"ENGINE_HTTP_PORT": "8787"}, ["ENGINE_HTTP_PORT"]),
        ({"ENGINE_SERVICES": "a"}, ["ENGINE_SERVICES"]),
        ({"ENGINE_NAME": "a b"}, ["ENGINE_NAME"]),
        ({"ENGINE_RENEW_MS": "20000"}, ["renew_ms", "half of lease_ms"]),
        ({"ENGINE_SOCKET_TIMEOUT_MS": "1000"}, ["socket_timeout_ms", "block_ms"]),
        ({"ENGINE_WEIGHTS": "high=1,normal=1"}, ["weights", "low"]),
        ({"ENGINE_WEIGHTS": "critical=1,high=1,normal=1,low=1"}, ["weights"]),
        ({"ENGINE_REDIS_URL": "http://example.org"}, ["redis_url", "redis://"]),
        ({"ENGINE_HTTP": "8787"}, ["host:port"]),
        ({"ENGINE_HTTP": "127.0.0.1:99999"}, ["host:port"]),
        ({"ENGINE_HTTP": "0.0.0.0:8787"}, ["ENGINE_HTTP_TOKEN", "secret", "127.0.0.1"]),
        ({"ENGINE_CONFIG": "/nowhere.toml"}, ["/nowhere.toml"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(environ: dict[str, str], words: list[str]) -> None:
    message = refused(environ)

    assert all(word in message for word in words), message


def test_what_kubernetes_sets_for_a_service_named_engine_is_no_setting() -> None:
    settings = loaded(
        {
            "ENGINE_SERVICE_HOST": "10.0.0.1",
            "ENGINE_SERVICE_PORT": "8787",
            "ENGINE_SERVICE_PORT_HTTP_METRICS": "8787",
            "ENGINE_PORT": "tcp://10.0.0.1:8787",
            "ENGINE_PORT_8787_TCP": "tcp://10.0.0.1:8787",
            "ENGINE_PORT_8787_TCP_PROTO": "tcp",
            "ENGINE_PORT_8787_TCP_PORT": "8787",
            "ENGINE_PORT_8787_TCP_ADDR": "10.0.0.1",
            "ENGINE_WEB_SERVICE_HOST": "10.0.0.2",
            "ENGINE_WEB_PORT": "udp://10.0.0.2:53",
            "ENGINE_PARENT": "1",
        }
    )

    assert settings == EngineSettings()


def test_choices_may_be_written_in_any_case() -> None:
    settings = loaded({"ENGINE_LOG_LEVEL": "WARNING", "ENGINE_LOG_FORMAT": "Json"})

    assert (settings.log_level, settings.log_format) == ("warning", "json")


def test_a_wrong_secret_is_not_quoted() -> None:
    message = refused({}, overrides={"http_token": ["s3cret"]})

    assert "http_token" in message
    assert "s3cret" not in message


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    for text in ("concurrency = = 1", "\udcff"):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert "engine.toml is not TOML" in refused({}, file=file)


def test_another_address_than_loopback_wants_a_token() -> None:
    settings = loaded({"ENGINE_HTTP": "0.0.0.0:8787", "ENGINE_HTTP_TOKEN": "x" * 16})

    assert settings.http == "0.0.0.0:8787"
    assert loaded({"ENGINE_HTTP": ""}).http == ""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_is_split(address: str, expected: tuple[str, int]) -> None:
    assert http_address(address) == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", ""),
        ("s3cret", "***"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://:p%40ss@cache:6379/0", "redis://:***@cache:6379/0"),
        ("postgresql://me:p@ss@db/chat", "postgresql://me:***@db/chat"),
        ("redis://me:s3cret@[::1/0", "***"),
        ("postgresql://db/chat?user=me&password=s3cret", "***"),
        ("redis://me:pass@[::1]:6379/0", "redis://me:***@[::1]:6379/0"),
    ],
)
def test_a_secret_is_masked_and_the_rest_is_shown(value: str, shown: str) -> None:
    assert mask(value) == shown


def test_every_setting_is_described_with_its_source() -> None:
    found = load_engine(
        {"ENGINE_REDIS_URL": "redis://:hidden@cache", "ENGINE_HTTP_TOKEN": "hidden-hidden-hidden"}
    )

    rows = describe(found.settings, found.sources, PREFIX)

    assert [row.name for row in rows] == list(EngineSettings.__struct_fields__)
    assert all(row.meaning for row in rows)
    assert "hidden" not in "".join(row.value for row in rows)
    by_name = {row.name: row for row in rows}
    assert by_name["redis_url"].source == "environment"
    assert by_name["redis_url"].variable == "ENGINE_REDIS_URL"
    assert (by_name["lease_ms"].value, by_name["lease_ms"].source) == ("30000", "default")
    assert by_name["weights"].value == "high=16,normal=4,low=1"


def test_the_files_of_tls_join_the_url_once() -> None:
    environ = {
        "ENGINE_REDIS_URL": "rediss://engine:secret@cache:6379/0?timeout=3",
        "ENGINE_REDIS_CA_FILE": "/run/secrets/ca file.pem",
        "ENGINE_REDIS_CERT_FILE": "/run/secrets/engine.pem",
        "ENGINE_REDIS_KEY_FILE": "/run/secrets/engine.key",
    }

    settings = loaded(environ)

    assert settings.redis_url == (
        "rediss://engine:secret@cache:6379/0?timeout=3&ssl_ca_certs=/run/secrets/ca%20file.pem"
        "&ssl_certfile=/run/secrets/engine.pem&ssl_keyfile=/run/secrets/engine.key"
    )
    assert loaded({**environ, "ENGINE_REDIS_URL": settings.redis_url}) == settings
    shown = {row.name: row.value for row in describe(settings, {}, PREFIX)}
    assert "secret@" not in shown["redis_url"]
    assert "ssl_ca_certs" in shown["redis_url"]


def test_a_url_without_files_stays_as_it_was() -> None:
    for url in ("redis://cache:6379/0", "rediss://cache:6380", "unix:///run/valkey.sock?db=2"):
        assert loaded({"ENGINE_REDIS_URL": url}).redis_url == url


def test_files_of_tls_that_do_not_fit_are_refused() -> None:
    assert "redis_ca_file needs a redis_url that begins with rediss://" in refused(
        {"ENGINE_REDIS_CA_FILE": "/ca.pem"}
    )
    assert "redis_key_file needs redis_cert_file" in refused(
        {"ENGINE_REDIS_URL": "rediss://cache", "ENGINE_REDIS_KEY_FILE": "/key.pem"}
    )


LONG = "a-token-of-22-letters!"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ("alice", ["ENGINE_HTTP_TOKENS", "name=value"]),
        (f"alice={LONG}", ["alice", "read, operate, admin"]),
        (f"alice=root:{LONG}", ["alice", "read, operate, admin"]),
        (f"alice=read:{LONG[:-1]}", ["alice", "22", "21", "token alice"]),
        ("alice=read:sha256:123", ["alice", "64"]),
        (f"alice=read:{LONG},bob=admin:{LONG}", ["alice", "bob", "same"]),
        (f"alice=read:{LONG},alice=admin:{LONG}x", ["alice", "more than once"]),
        (f"a b=read:{LONG}", ["'a b'"]),
        (f"local=read:{LONG}", ["'local'"]),
        (f"token=read:{LONG}", ["'token'"]),
    ],
)
def test_a_wrong_token_is_named_and_not_quoted(tokens: str, words: list[str]) -> None:
    message = refused({"ENGINE_HTTP_TOKENS": tokens})

    assert all(word in message for word in words), message
    assert LONG[:-1] not in message


def test_tokens_may_lie_in_a_file_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who reads\nalice=read:{LONG}\n\nbob=admin:sha256:{'0' * 64}\n")

    environ = {"ENGINE_HTTP_TOKENS_FILE": str(file), "ENGINE_HTTP": "0.0.0.0:8787"}
    settings = loaded({**environ, "ENGINE_HTTP_TOKENS": f"eve=metrics:{LONG}-eve"})

    found = all_tokens("", settings.http_tokens, settings.http_tokens_file)
    assert [(token.name, token.scope) for token in found] == [
        ("eve", "metrics"),
        ("alice", "read"),
        ("bob", "admin"),
    ]
    (row,) = [row for row in describe(settings, {}, PREFIX) if row.name == "http_tokens"]
    assert row.value == "eve=***"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["names no token"]),
        ("# nobody\n", ["names no token"]),
        (f"alice={LONG}\n", ["alice", "scope:token"]),
        (f"\nread:{LONG}\n", ["line 2", "name=scope:token"]),
        (f"alice=read:{LONG}\nalice=admin:{LONG}2\n", ["line 2", "'alice' again"]),
        (f"eve=read:{LONG}\n", ["eve", "as http_tokens does"]),
        (f"alice=read:{LONG}-eve\n", ["eve and alice hold the same"]),
    ],
)
def test_a_file_that_holds_no_tokens_is_refused_and_not_quoted(
    text: str, words: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)

    message = refused(
        {"ENGINE_HTTP_TOKENS_FILE": str(file), "ENGINE_HTTP_TOKENS": f"eve=metrics:{LONG}-eve"}
    )

    assert all(word in message for word in words), message
    assert LONG not in message


def test_a_file_of_tokens_that_is_not_there_is_named() -> None:
    assert "/none/tokens" in refused({"ENGINE_HTTP_TOKENS_FILE": "/none/tokens"})


@pytest.mark.parametrize(
    ("text", "redact"),
    [
        ("send-message=body;to", {"send-message": "body;to"}),
        ("send-message=body to,*=password", {"send-message": "body to", "*": "password"}),
        ("deliver=*", {"deliver": "*"}),
    ],
)
def test_what_is_redacted_is_read_by_type(text: str, redact: dict[str, str]) -> None:
    assert loaded({"ENGINE_HTTP_REDACT": text}).http_redact == redact


@pytest.mark.parametrize("text", ["Send Message=body", "send-message=", "send-message=;"])
def test_what_cannot_be_redacted_is_refused(text: str) -> None:
    assert "http_redact" in refused({"ENGINE_HTTP_REDACT": text}).lower()
