"""The HTTP side in a real loop, asked over real sockets."""

from __future__ import annotations

import asyncio
import base64

import aiohttp
import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from engine.dashboard import pulse as pulse_module
from engine.dashboard import server as server_module
from engine.dashboard.assets import Assets
from engine.dashboard.guard import HEADERS
from engine.errors import EngineError, StoreUnavailable
from engine.testing import ManualClock
from tests.support.page import Open, engine, until

TOKEN = "a-token-of-some-length"
STYLE = f"/static/{Assets().digest}/page.css"
PATHS = ("/", "/api/overview", "/metrics", "/sd", "/schemas", "/schemas/greet.json")
PROBES = ("/live", "/ready")


@pytest.mark.parametrize("path", [*PATHS, *PROBES, STYLE])
async def test_every_route_answers_with_the_headers_that_protect_it(path: str, site: Open) -> None:
    answer, text = await (await site()).ask(path)

    assert answer.status == 200, text
    for name, value in HEADERS.items():
        kept = name == "Cache-Control" and path == STYLE
        told = "public, max-age=31536000, immutable" if kept else value
        assert answer.headers.getall(name) == [told]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/", "POST", 405),
        ("/live", "DELETE", 405),
        ("/schemas/unknown.json", "GET", 404),
        ("/schemas/..%2f..%2fetc.json", "GET", 404),
        ("/static/0/..%2fserver.py", "GET", 404),
        ("/static/0/%2e%2e/server.py", "GET", 404),
        (f"{STYLE}%00", "GET", 404),
        ("/static/0000/page.css", "GET", 404),
        ("//evil.example/", "GET", 404),
    ],
)
async def test_everything_else_is_refused_with_the_same_headers(
    path: str, method: str, status: int, site: Open
) -> None:
    answer, text = await (await site()).ask(path, method)

    assert answer.status == status
    assert len(text) < 100
    for name, value in HEADERS.items():
        assert answer.headers.getall(name) == [value]


@pytest.mark.parametrize("path", ["/nowhere", "/queues/", "/static/0000/page.css"])
async def test_who_reads_pages_is_told_by_the_page_that_there_is_nothing(
    path: str, site: Open
) -> None:
    accept = {"Accept": "text/html,application/xhtml+xml"}
    answer, text = await (await site()).ask(path, headers=accept)

    assert (answer.status, answer.content_type) == (404, "text/html")
    assert 'id="page"' in text
    for name, value in HEADERS.items():
        assert answer.headers.getall(name) == [value]


async def test_head_is_answered_without_a_body(site: Open) -> None:
    answer, text = await (await site()).ask("/metrics", "HEAD")

    assert (answer.status, text) == (200, "")


@pytest.mark.parametrize("path", PATHS[1:])
async def test_with_a_token_what_the_engines_know_is_closed(path: str, site: Open) -> None:
    opened = await site(token=TOKEN)

    answer, text = await opened.ask(path)
    assert (answer.status, answer.content_type) == (401, "application/problem+json")
    # Browsers do not ask for a password by themselves; the page does.
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "eng-1" not in text

    good = {"Authorization": f"Bearer {TOKEN}"}
    assert (await opened.ask(path, headers=good))[0].status == 200


@pytest.mark.parametrize("path", ["/", "/login", "/queues/q", STYLE])
async def test_the_page_itself_is_open_and_knows_nothing(path: str, site: Open) -> None:
    opened = await site(token=TOKEN, place="PRODUCTION")

    answer, text = await opened.ask(path)

    assert answer.status == 200
    assert not [told for told in ("eng-1", "message-delivery", "PRODUCTION") if told in text]


@pytest.mark.parametrize("path", PROBES)
async def test_probes_are_open(path: str, site: Open) -> None:
    assert (await (await site(token=TOKEN)).ask(path))[0].status == 200


async def test_programs_get_in_with_the_token_as_password(site: Open) -> None:
    opened = await site(token=TOKEN)
    password = base64.b64encode(f"me:{TOKEN}".encode()).decode()

    headers = {"Authorization": f"Basic {password}"}
    assert (await opened.ask("/metrics", headers=headers))[0].status == 200
    assert (await opened.ask("/metrics?token=" + TOKEN))[0].status == 401


async def test_a_name_from_elsewhere_is_not_answered_without_a_token(site: Open) -> None:
    opened = await site()

    answer, _ = await opened.ask("/", headers={"Host": "evil.example"})
    assert answer.status == 421
    assert (await opened.ask("/live", headers={"Host": "evil.example"}))[0].status == 200


async def test_metrics_are_read_by_the_official_parsers(site: Open) -> None:
    opened = await site()

    plain, text = await opened.ask("/metrics")
    names = {family.name for family in text_string_to_metric_families(text)}
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert {"engine_jobs", "engine_queue_waiting", "engine_job_run_seconds"} <= names

    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    opened_metrics, text = await opened.ask("/metrics", headers=accept)
    families = list(openmetrics_parser.text_string_to_metric_families(text))
    assert opened_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert "engine_jobs" in {family.name for family in families}


async def test_a_scrape_asks_nothing_of_the_queues_server(site: Open) -> None:
    opened = await site()
    opened.reads.trouble = AssertionError("a scrape must not read")

    for _ in range(3):
        assert (await opened.ask("/metrics"))[0].status == 200
    assert opened.reads.asked == 0


async def test_ready_says_why_not(site: Open) -> None:
    opened = await site()
    opened.reasons.append("redis: connection refused")

    answer, text = await opened.ask("/ready")

    assert answer.status == 503
    assert msgspec.json.decode(text) == {"ready": False, "reasons": ["redis: connection refused"]}


async def test_why_it_is_not_ready_is_told_to_holders_of_the_token_alone(site: Open) -> None:
    opened = await site(token=TOKEN)
    assert (await opened.ask("/ready"))[1] == '{"ready":true}'
    opened.reasons.append("redis: 10.0.0.7 refused")

    answer, text = await opened.ask("/ready")
    assert (answer.status, msgspec.json.decode(text)) == (503, {"ready": False})

    shown = {"Authorization": f"Bearer {TOKEN}"}
    answer, text = await opened.ask("/ready", headers=shown)
    assert (answer.status, msgspec.json.decode(text)) == (
        503,
        {"ready": False, "reasons": ["redis: 10.0.0.7 refused"]},
    )


async def test_live_says_when_the_loop_stood_still(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)
    assert (await opened.ask("/live"))[0].status == 200

    await clock.advance(pulse_module.SILENT_S_MAX * 2)
    assert (await opened.ask("/live"))[0].status == 200

    assert opened.server._ticking is not None
    opened.server._ticking.cancel()
    await clock.advance(pulse_module.SILENT_S_MAX + 1)
    assert (await opened.ask("/live"))[0].status == 503


async def test_service_discovery_names_live_engines_with_an_address(site: Open) -> None:
    opened = await site()
    no_http = engine("eng-2")
    no_http = msgspec.structs.replace(no_http, beat=msgspec.structs.replace(no_http.beat, http=""))
    opened.reads.engines_found = [engine(), engine("eng-3", live=False), no_http]

    _, text = await opened.ask("/sd")
    assert msgspec.json.decode(text) == [
        {
            "targets": ["127.0.0.1:8787"],
            "labels": {
                "__meta_streamlane_engine": "eng-1",
                "__meta_streamlane_host": "host",
                "__meta_streamlane_version": "0.1.0",
                "__meta_streamlane_queues": "q",
            },
        }
    ]

    opened.reads.trouble = StoreUnavailable("connection", "refused")
    assert (await opened.ask("/sd"))[0].status == 503


async def test_schemas_are_listed_and_served(site: Open) -> None:
    opened = await site()

    _, listed = await opened.ask("/schemas")
    path = msgspec.json.decode(listed)["schemas"]["greet"]
    answer, schema = await opened.ask(path)

    assert answer.content_type == "application/schema+json"
    assert msgspec.json.decode(schema)["title"] == "greet"


async def test_the_overview_is_json(site: Open) -> None:
    answer, text = await (await site()).ask("/api/overview")

    found = msgspec.json.decode(text)
    assert answer.content_type == "application/json"
    assert (found["trouble"], found["ageMs"]) == ("", 0)
    assert found["order"] == ["message-delivery"]
    assert found["queues"]["message-delivery"]["stats"]["waiting"] == 321
    assert found["engines"]["eng-1"]["load"] == 0.03
    assert found["verdict"]["title"] == "The queue is well"


async def test_without_the_server_the_api_says_so_and_keeps_what_was_known(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)
    await opened.ask("/api/overview")
    opened.reads.trouble = StoreUnavailable("connection", "refused")
    clock.move(2)

    found = msgspec.json.decode((await opened.ask("/api/overview"))[1])

    assert found["ageMs"] == 2_000
    assert "refused" in found["trouble"]
    assert found["verdict"]["kind"] == "bad"
    assert found["troubles"][0]["check"] == "reachable"
    assert found["queues"]


async def test_without_anything_known_the_api_answers_with_a_problem(site: Open) -> None:
    opened = await site()
    opened.reads.trouble = StoreUnavailable("connection", "refused")

    answer, text = await opened.ask("/api/overview")

    assert (answer.status, answer.content_type) == (503, "application/problem+json")
    assert msgspec.json.decode(text)["title"] == "not possible now"


async def test_an_error_inside_is_not_shown(site: Open) -> None:
    opened = await site()
    opened.reads.trouble = RuntimeError("secret-detail")

    _, overview = await opened.ask("/api/overview")
    sd, text = await opened.ask("/sd")

    assert sd.status == 500
    assert "secret-detail" not in overview + text


async def test_many_visitors_cost_one_reading(site: Open) -> None:
    opened = await site()
    opened.reads.gate.clear()

    asked = [asyncio.create_task(opened.ask("/api/overview")) for _ in range(20)]
    await until(lambda: opened.reads.asked > 0)
    opened.reads.gate.set()
    answers = await asyncio.gather(*asked)

    assert {answer.status for answer, _ in answers} == {200}
    assert opened.reads.asked == 1


async def test_a_visitor_who_leaves_does_not_take_the_answer_from_others(site: Open) -> None:
    opened = await site()
    opened.reads.gate.clear()

    leaving = asyncio.create_task(opened.ask("/api/overview"))
    staying = asyncio.create_task(opened.ask("/api/overview"))
    await until(lambda: opened.reads.asked > 0)
    leaving.cancel()
    await asyncio.wait({leaving})
    opened.reads.gate.set()

    assert (await staying)[0].status == 200


async def test_more_requests_at_a_time_than_allowed_are_put_off_but_probes_pass(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUESTS_MAX", 2)
    opened = await site()
    opened.reads.gate.clear()

    slow = [asyncio.create_task(opened.ask("/api/overview")) for _ in range(2)]
    await until(lambda: opened.server._requests == 2)
    answer, _ = await opened.ask("/")
    probe, _ = await opened.ask("/live")
    opened.reads.gate.set()
    await asyncio.gather(*slow)

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert probe.status == 200


async def test_a_large_body_is_refused_unread(site: Open) -> None:
    opened = await site()

    got = await opened.raw(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
    )

    assert got.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_request_is_refused_with_the_same_headers(sent: bytes, site: Open) -> None:
    got = await (await site()).raw(sent + b"\r\n\r\n")

    assert b" 400 " in got.partition(b"\r\n")[0]
    assert b"Content-Security-Policy: default-src 'none'" in got
    assert b"aiohttp" not in got.lower()
    assert len(got.partition(b"\r\n\r\n")[2]) < 100


async def test_a_connection_that_never_finishes_its_request_is_closed(site: Open) -> None:
    clock = ManualClock()
    opened = await site(clock=clock)
    host, _, port = opened.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    await until(lambda: len(opened.server._connections) == 1)

    await clock.advance(server_module.SILENT_S_MAX + 2 * server_module.TICK_S)

    assert await reader.read() == b""
    writer.close()
    assert not opened.server._connections


async def test_who_opens_many_connections_and_says_nothing_keeps_no_probe_out(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 3)
    clock = ManualClock()
    opened = await site(clock=clock)
    host, _, port = opened.address.rpartition(":")
    held = []
    for count in range(1, 4):
        held.append(await asyncio.open_connection(host, int(port)))
        await until(lambda: len(opened.server._connections) == count)  # noqa: B023
        clock.move(1)

    probe, _ = await opened.ask("/live")

    assert probe.status == 200
    assert await held[0][0].read() == b""
    assert len(opened.server._connections) == 3
    for _, writer in held:
        writer.close()


async def test_connections_beyond_the_bound_are_closed_while_all_are_at_work(
    site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 2)
    opened = await site()
    opened.reads.gate.clear()
    host, _, port = opened.address.rpartition(":")
    asked = [asyncio.create_task(opened.ask("/api/overview")) for _ in range(2)]
    await until(lambda: opened.server._requests == 2)

    reader, writer = await asyncio.open_connection(host, int(port))
    assert await reader.read() == b""
    writer.close()
    opened.reads.gate.set()

    assert [answer.status for answer, _ in await asyncio.gather(*asked)] == [200, 200]


async def test_an_address_in_use_is_said_in_one_line(site: Open) -> None:
    first = await site()

    with pytest.raises(EngineError, match="cannot listen on"):
        await site(address=first.address)


async def test_a_stopped_server_does_not_answer(site: Open) -> None:
    opened = await site()
    await opened.ask("/live")
    await opened.server.stop()

    with pytest.raises(aiohttp.ClientConnectorError):
        await opened.ask("/live")
