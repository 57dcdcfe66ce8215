"""Sessions, what other sites may not send, and how often one may ask."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.dashboard import access as access_module
from engine.dashboard import live as live_module
from engine.dashboard import sessions as sessions_module
from engine.dashboard.limits import Rate, Rates
from engine.errors import StoreRefused, StoreUnavailable
from engine.testing import ManualClock
from tests.support.page import Open, Visited

READER = "the-token-of-a-reader-of-the-page"
OPERATOR = "the-token-of-an-operator-of-it"
TOKENS = {"rita": f"read:{READER}", "olga": f"operate:{OPERATOR}"}
TLS = {"Origin": "https://jobs.example", "Host": "jobs.example"}
FEW = Rate(2, 0.5)


async def log_in(opened: Visited, token: str = OPERATOR, **headers: str) -> dict[str, str]:
    """Log in, and return what the browser then sends."""
    answer, text = await opened.ask(
        "/api/session", "POST", json={"token": token}, headers={**TLS, **headers}
    )
    assert answer.status == 200, text
    (cookie,) = answer.cookies.values()
    csrf = msgspec.json.decode(text)["csrf"]
    return {"Cookie": f"{cookie.key}={cookie.value}", "X-CSRF-Token": csrf}


async def test_a_token_begins_a_session_that_scripts_cannot_read(site: Open) -> None:
    opened = await site(tokens=TOKENS, place="PRODUCTION")

    answer, text = await opened.ask("/api/session", "POST", json={"token": OPERATOR}, headers=TLS)

    cookie = answer.cookies["__Host-streamlane"]
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"]) == (True, True, "Strict")
    assert (cookie["path"], cookie["domain"]) == ("/", "")
    me = msgspec.json.decode(text)
    assert (me["name"], me["scope"], me["payloads"]) == ("olga", "operate", True)
    assert me["place"] == "PRODUCTION"
    kept = str(opened.reads.sessions)
    assert cookie.value not in kept
    assert OPERATOR not in kept


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("https://jobs.example", "__Host-streamlane"),
        ("http://127.0.0.1:8787", "__Host-streamlane"),
        ("http://localhost:8787", "__Host-streamlane"),
        ("http://[::1]:8787", "__Host-streamlane"),
        # Browsers keep no secure cookie that came this way.
        ("http://10.0.0.5:8787", "streamlane"),
        ("http://localhost.example:8787", "streamlane"),
    ],
)
async def test_the_cookie_is_bound_as_far_as_the_way_allows(
    origin: str, name: str, site: Open
) -> None:
    opened = await site(tokens=TOKENS)
    headers = {"Origin": origin, "Host": origin.partition("://")[2]}

    browser = await log_in(opened, **headers)

    assert browser["Cookie"].startswith(f"{name}=")
    assert (await opened.ask("/api/me", headers=browser))[0].status == 200


async def test_a_session_may_what_its_token_may(site: Open) -> None:
    opened = await site(tokens=TOKENS)

    _, text = await opened.ask("/api/me", headers=await log_in(opened, READER))

    me = msgspec.json.decode(text)
    assert (me["name"], me["scope"], me["payloads"]) == ("rita", "read", False)


async def test_a_token_for_scraping_opens_no_page(site: Open) -> None:
    scraper = "the-token-of-what-scrapes-it"
    opened = await site(tokens={"prometheus": f"metrics:{scraper}"})

    answer, text = await opened.ask("/api/session", "POST", json={"token": scraper}, headers=TLS)

    assert answer.status == 403
    assert not answer.cookies
    assert "may read metrics alone" in text
    assert opened.reads.sessions == {}


async def test_logging_out_ends_the_session(site: Open) -> None:
    opened = await site(tokens=TOKENS)
    browser = await log_in(opened)

    answer, _ = await opened.ask("/api/session", "DELETE", headers=browser)

    assert answer.status == 200
    assert {cookie.key: cookie["max-age"] for cookie in answer.cookies.values()} == {
        "__Host-streamlane": "0",
        "streamlane": "0",
    }
    assert (await opened.ask("/api/me", headers=browser))[0].status == 401


async def test_a_session_ended_on_another_engine_ends_here_within_seconds(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock)
    browser = await log_in(opened)
    assert (await opened.ask("/api/me", headers=browser))[0].status == 200

    opened.reads.sessions.clear()
    clock.move(sessions_module.TRUST_S)

    assert (await opened.ask("/api/me", headers=browser))[0].status == 401


async def test_a_session_ends_with_its_token_and_with_its_age(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock)
    browser = await log_in(opened)
    other = await site(tokens={"olga": f"operate:{OPERATOR}-another"}, clock=clock)
    other.reads.sessions = opened.reads.sessions

    assert (await other.ask("/api/me", headers=browser))[0].status == 401
    clock.move(sessions_module.AGE_MS_MAX / 1_000 - 1)
    assert (await opened.ask("/api/me", headers=browser))[0].status == 200
    clock.move(2)
    assert (await opened.ask("/api/me", headers=browser))[0].status == 401


async def test_a_session_lasts_while_the_server_is_away_for_a_while(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock)
    browser = await log_in(opened)
    unused = await log_in(opened)
    await opened.ask("/api/me", headers=browser)
    opened.reads.trouble = StoreUnavailable("connection", "refused")
    clock.move(sessions_module.TRUST_S)

    assert (await opened.ask("/api/me", headers=browser))[0].status == 200
    assert (await opened.ask("/api/me", headers=unused))[0].status == 503
    clock.move(sessions_module.TRUST_AWAY_S)
    assert (await opened.ask("/api/me", headers=browser))[0].status == 503


async def test_a_session_lasts_on_a_server_that_takes_no_writes(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock)
    browser = await log_in(opened)
    opened.reads.write_trouble = StoreRefused("readonly", "a replica")

    for _ in range(4):
        assert (await opened.ask("/api/me", headers=browser))[0].status == 200
        clock.move(sessions_module.KEEP_S)


async def test_the_use_of_a_session_is_noted_now_and_then(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock)
    browser = await log_in(opened)

    for _ in range(20):
        await opened.ask("/api/me", headers=browser)
        clock.move(sessions_module.KEEP_S / 10)

    assert len(opened.reads.kept) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "0" * 32},
        {"X-CSRF-Token": "ä"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
async def test_what_the_page_did_not_send_does_not_end_a_session(
    changes: dict[str, str], site: Open
) -> None:
    opened = await site(tokens=TOKENS)
    browser = await log_in(opened)

    answer, _ = await opened.ask("/api/session", "DELETE", headers={**browser, **changes})

    assert answer.status == 403
    assert (await opened.ask("/api/me", headers=browser))[0].status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_other_sites_cannot_log_a_browser_in(
    headers: dict[str, str], status: int, site: Open
) -> None:
    opened = await site(tokens=TOKENS)
    sent = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", **headers}
    if "Origin" in headers:
        del sent["Sec-Fetch-Site"]

    answer, _ = await opened.ask(
        "/api/session", "POST", data=msgspec.json.encode({"token": OPERATOR}), headers=sent
    )

    assert answer.status == status
    assert not opened.reads.sessions


async def test_other_sites_cannot_look_in_where_no_token_is_set(site: Open) -> None:
    opened = await site()
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}

    for path in ("/api/overview", "/api/live?of=/api/overview", "/metrics"):
        assert (await opened.ask(path, headers=headers))[0].status == 403


async def test_wrong_tokens_slow_an_address_down_and_right_ones_pass(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock, rates=Rates(failures=FEW))

    async def attempt(token: str) -> Any:
        return (await opened.ask("/api/session", "POST", json={"token": token}))[0]

    assert [(await attempt("wrong")).status for _ in range(3)] == [401, 401, 429]
    refused = await attempt(OPERATOR)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "2")
    good = {"Authorization": f"Bearer {OPERATOR}"}
    assert (await opened.ask("/api/me", headers=good))[0].status == 200
    bad = {"Authorization": "Bearer wrong"}
    assert (await opened.ask("/api/me", headers=bad))[0].status == 429
    clock.move(2)
    assert (await attempt(OPERATOR)).status == 200


async def test_what_a_holder_may_not_do_is_logged_and_counts_for_its_rate(
    site: Open, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await site(tokens=TOKENS, clock=ManualClock(), rates=Rates(writes=FEW))
    reader = {"Authorization": f"Bearer {READER}"}

    with caplog.at_level("WARNING"):
        tried = [
            (await opened.ask("/api/queues/q/pause", "POST", json={}, headers=reader))[0].status
            for _ in range(4)
        ]

    assert tried == [403, 403, 429, 429]
    said = [each.message for each in caplog.records if "http_refused" in each.message]
    assert len(said) == 2
    assert "who=rita path=/api/queues/q/pause needs=operate" in said[0]


async def test_each_holder_has_a_rate_of_its_own(site: Open) -> None:
    clock = ManualClock()
    opened = await site(tokens=TOKENS, clock=clock, rates=Rates(reads=FEW))

    async def look(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return int((await opened.ask("/api/me", headers=headers))[0].status)

    assert [await look(READER) for _ in range(3)] == [200, 200, 429]
    assert await look(OPERATOR) == 200
    clock.move(2)
    assert [await look(READER), await look(READER)] == [200, 429]
    _, metrics = await opened.ask("/metrics", headers={"Authorization": f"Bearer {OPERATOR}"})
    assert 'engine_http_refused_total{why="rate"} 2.0' in metrics


async def test_a_stream_ends_with_its_session(site: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    monkeypatch.setattr(live_module, "CHECK_S", 1.0)
    opened = await site(tokens=TOKENS, clock=clock)
    browser = await log_in(opened)
    url = f"http://{opened.address}/api/live"

    async with opened.session.get(url, params={"of": "/api/overview"}, headers=browser) as answer:
        await answer.content.readline()
        assert (await opened.ask("/api/session", "DELETE", headers=browser))[0].status == 200
        await clock.advance(live_module.EVERY_S)
        await answer.content.read()

    assert opened.server._live._streams.total() == 0


async def test_one_caller_does_not_take_the_streams_of_all(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "STREAMS_EACH_MAX", 1)
    opened = await site(tokens=TOKENS)
    url = f"http://{opened.address}/api/live?of=/api/overview"
    mine, others = ({"Authorization": f"Bearer {each}"} for each in (READER, OPERATOR))

    async with opened.session.get(url, headers=mine) as first:
        await first.content.readline()
        async with opened.session.get(url, headers=mine) as second:
            assert second.status == 503
        async with opened.session.get(url, headers=others) as third:
            assert third.status == 200


async def test_where_no_token_is_set_there_is_nothing_to_log_in_to(site: Open) -> None:
    opened = await site()

    answer, _ = await opened.ask("/api/session", "POST", json={"token": OPERATOR})
    _, text = await opened.ask("/api/me")

    assert answer.status == 400
    me = msgspec.json.decode(text)
    assert (me["name"], me["scope"], me["csrf"]) == ("local", "admin", "")


@pytest.mark.parametrize("cookie", ["x" * 5_000, "ä", '"', "a;b", ""])
async def test_a_cookie_that_is_none_lets_nobody_in(cookie: str, site: Open) -> None:
    opened = await site(tokens=TOKENS)

    answer, _ = await opened.ask("/api/me", headers={"Cookie": f"__Host-streamlane={cookie}"})

    assert answer.status == 401


REPORT = {
    "csp-report": {
        "document-uri": "https://jobs.example/",
        "violated-directive": "script-src",
        "blocked-uri": "inline" + "x" * 1_000 + "\n",
    }
}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/csp-report", REPORT, 204),
        ("application/reports+json", [{"body": {"blockedURL": "inline"}}] * 100, 204),
        ("application/reports+json", [1, None, {"body": 3}], 204),
        ("text/plain", REPORT, 415),
        ("application/csp-report", {"csp-report": "x" * 20_000}, 413),
    ],
)
async def test_reports_of_browsers_are_taken_within_bounds(
    kind: str, body: Any, status: int, site: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = await site(tokens=TOKENS)

    answer, _ = await opened.ask(
        "/api/csp-report",
        "POST",
        data=msgspec.json.encode(body),
        # Wherever it comes from: it is no request of a person.
        headers={"Content-Type": kind, "Sec-Fetch-Site": "cross-site"},
    )

    assert answer.status == status


async def test_a_flood_of_reports_is_cut_off(site: Open) -> None:
    opened = await site(clock=ManualClock(), rates=Rates(reports=FEW))
    headers = {"Content-Type": "application/csp-report"}

    statuses = [
        (
            await opened.ask(
                "/api/csp-report", "POST", data=msgspec.json.encode(REPORT), headers=headers
            )
        )[0].status
        for _ in range(3)
    ]

    assert statuses == [204, 204, 429]
    _, metrics = await opened.ask("/metrics")
    assert "engine_http_csp_reports_total 2.0" in metrics


def test_the_longest_cookie_of_ours_is_taken() -> None:
    assert access_module.COOKIE_CHARS_MAX >= 4 * sessions_module.NAME_BYTES / 3
