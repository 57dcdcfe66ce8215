"""What is sent to the API: too large, too slow, packed, broken, or aimed elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from typing import Any

import pytest

from engine.dashboard import routes as routes_module
from engine.dashboard import server as server_module
from engine.dashboard.guard import HEADERS
from tests.support.page import Open, Visited, until

LOGIN = "/api/session"
TOKEN = "the-token-of-a-reader-of-the-page"
JSON = {"Content-Type": "application/json"}


async def opened_with_token(site: Open) -> Visited:
    return await site(token=TOKEN)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'{"token": 5}', 400),
        (b'{"token": "x", "more": 1}', 400),
        (b'{"token": ""}', 400),
        (b'{"token": "' + b"x" * 513 + b'"}', 400),
        (b'{"token": "\xff"}', 400),
        (b'{"token": "x"} {"token": "x"}', 400),
        (b'{"token":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b"[" * 500_000, 400),
        (b'{"token": NaN}', 400),
        (b" " * 1_048_577, 413),
    ],
)
async def test_a_body_that_is_not_as_described_is_refused(
    body: bytes, status: int, site: Open
) -> None:
    opened = await opened_with_token(site)

    answer, text = await opened.ask(LOGIN, "POST", data=io.BytesIO(body), headers=JSON)

    assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert len(text) < 500


async def test_a_body_without_an_end_is_cut_off_at_its_bound(site: Open) -> None:
    opened = await opened_with_token(site)
    host, _, port = opened.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {LOGIN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    sent = 0
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    while not reader._buffer and sent < 64 * 1_048_576:  # type: ignore[attr-defined]
        writer.write(chunk)
        sent += 65_536
        try:
            await writer.drain()
        except ConnectionError:
            break
        await asyncio.sleep(0)

    got = await reader.read()
    writer.close()

    assert got.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in got.lower()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
async def test_a_packed_body_is_refused_unopened(coding: str, site: Open) -> None:
    opened = await opened_with_token(site)
    bomb = gzip.compress(b" " * 10_000_000)

    answer, _ = await opened.ask(
        LOGIN, "POST", data=bomb, headers={**JSON, "Content-Encoding": coding}
    )

    assert answer.status == 415


async def test_a_body_that_does_not_come_is_not_waited_for(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_module, "BODY_S_MAX", 0.05)
    opened = await opened_with_token(site)

    got = await opened.raw(
        f"POST {LOGIN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 50\r\n\r\n{".encode()
    )

    assert got.startswith(b"HTTP/1.1 408")
    assert opened.server._requests == 0


async def test_slow_bodies_of_strangers_do_not_keep_others_out(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STRANGERS_MAX", 2)
    opened = await opened_with_token(site)
    host, _, port = opened.address.rpartition(":")
    held = []
    for _ in range(2):
        held.append(await asyncio.open_connection(host, int(port)))
        held[-1][1].write(
            f"POST {LOGIN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 50\r\n\r\n{".encode()
        )
    await until(lambda: opened.server._strangers == 2)

    stranger, _ = await opened.ask(LOGIN, "POST", json={"token": "x"})
    known, _ = await opened.ask("/api/overview", headers={"Authorization": f"Bearer {TOKEN}"})
    probe, _ = await opened.ask("/ready")

    assert (stranger.status, known.status, probe.status) == (503, 200, 200)
    for _, writer in held:
        writer.close()
    await until(lambda: opened.server._strangers == 0)


@pytest.mark.parametrize(
    "path",
    [
        "/api/queues/..%2f..%2fetc/jobs",
        "/api/queues/%2e%2e/jobs",
        "/api/queues/q%00/jobs",
        "/api/queues/q%0d%0aX:1/jobs",
        "/api/queues/%7Bq%7D/jobs",
        "/api/queues/*/jobs",
        "/api/queues/" + "q" * 65 + "/jobs",
        "/api/queues/%ff/jobs",
        "/api/series?queue=..%2f",
        "/api/dead?queue=%7B%7D",
        "/api/dead/%2e%2e/x",
        "/api/operations/%7Bq%7D/x",
        "/api/audit?queue=%00",
        "/api/audit?cursor=%2b",
        "/api/queues/q/jobs?limit=201",
        "/api/queues/q/jobs?limit=-1",
        "/api/queues/q/jobs?limit=1e9",
        "/api/queues/q/jobs?state=nothing",
        "/api/queues/q/jobs?unknown=1",
        "/api/dead?limit=201",
        "/api/search?text=x&limit=201",
        "/api/operations?limit=201",
        "/api/audit?limit=201",
        "/api/me?x=1",
    ],
)
async def test_names_and_numbers_that_break_the_rules_reach_no_key(
    path: str, site: Open, redis_url: str
) -> None:
    from engine.admin import Admin

    async with Admin(redis_url, who="test") as admin:
        opened = await site(admin=admin)
        got = await opened.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )

    head, _, body = got.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] in {b"400", b"404"}, got
    assert json.loads(body)["detail"]
    assert b"etc" not in body or b"must match" in body


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/%2f..",
        "/..%2f",
        "http://evil.example/api/me",
        "/api//me",
        "/API/me",
        "/api/me/",
    ],
)
async def test_addresses_that_only_look_like_ours_are_not_answered(path: str, site: Open) -> None:
    opened = await opened_with_token(site)

    got = await opened.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )

    status = got.split(b" ")[1]
    assert status in {b"400", b"401", b"404"}
    assert b"location:" not in got.lower()


async def test_every_problem_carries_the_headers_that_protect(site: Open) -> None:
    opened = await opened_with_token(site)
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("/api/me", "GET", {}),
        ("/api/nothing", "GET", {}),
        ("/api/me", "POST", {}),
        (LOGIN, "POST", {"data": b"x", "headers": {"Content-Type": "text/plain"}}),
        (LOGIN, "POST", {"json": {"token": "wrong"}}),
        (LOGIN, "POST", {"json": {}, "headers": {"Sec-Fetch-Site": "cross-site"}}),
    ]

    for path, method, options in asked:
        answer, _ = await opened.ask(path, method, **options)
        assert 400 <= answer.status < 500
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
