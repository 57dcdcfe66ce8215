"""The users of ``deploy/redis/users.acl`` on a real server: what each may do, and what none may."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from engine import Client, NewJob
from engine.cli import main
from engine.embedded.process import EmbeddedError
from engine.wire.keys import QueueKeys
from tests.support.acl import REDIS, TEMPLATE, USERS, AclServer, rendered
from tests.support.daemon import Daemon, Start
from tests.support.rights_app import OTHER, QUEUE
from tests.support.servers import REDIS_SERVERS, NotInstalled, RedisTestServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.servers

ENGINE = Path(__file__).parents[3] / "engine"
APP = "tests.support.rights_app:build"
JOB = ("type", "order", "data", "{}")
DANGEROUS = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "default", "on", "nopass", "+@all"),
    ("LATENCY", "RESET"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "FLUSH"),
    ("MODULE", "LIST"),
    ("RENAME", "mq:{orders}:normal", "mq:{orders}:stolen"),
    ("XGROUP", "SETID", "mq:{orders}:normal", "engine", "$"),
    ("GET", "elsewhere"),
    ("SET", "elsewhere", "1"),
)
LANE = "mq:{orders}:normal"
ALLOWED: dict[str, tuple[tuple[str, ...], ...]] = {
    "producer-orders": (
        ("XADD", LANE, "*", *JOB),
        ("XADD", "mq:{orders}:critical", "*", *JOB),
        ("XREAD", "STREAMS", "mq:{orders}:reply:me", "0"),
        ("XDEL", "mq:{orders}:reply:me", "1-1"),
    ),
    "client-orders": (
        ("XADD", LANE, "*", *JOB),
        ("HGET", "mq:{orders}:control", "paused"),
        ("SCRIPT", "LOAD", "return 1"),
    ),
    "engine": (
        ("XADD", "mq:{bills}:low", "*", *JOB),
        ("HDEL", "mq:engines", "nobody"),
        ("SPUBLISH", "conv:{1}", "x"),
        ("SET", "gateway:ticket:1", "x", "PX", "1000"),
        ("GETDEL", "gateway:ticket:1"),
        ("COMMAND", "INFO", "spublish"),
    ),
    "operator": (
        ("XREVRANGE", "mq:audit", "+", "-", "COUNT", "1"),
        ("HSET", "mq:{orders}:control", "concurrency", "5"),
        ("XREVRANGE", "mq:{orders}:dead", "+", "-", "COUNT", "1"),
    ),
    "probe": (("PING",), ("INFO", "server"), ("ROLE",)),
    "admin": (("CONFIG", "GET", "maxmemory"), ("ACL", "LIST"), ("KEYS", "*")),
}
DENIED: dict[str, tuple[tuple[str, ...], ...]] = {
    "producer-orders": (
        *DANGEROUS,
        ("XADD", "mq:{bills}:normal", "*", *JOB),
        ("XADD", "mq:{orders}:dead", "*", *JOB),
        ("XADD", "mq:audit", "*", *JOB),
        ("XRANGE", LANE, "-", "+"),
        ("XREAD", "STREAMS", LANE, "0"),
        ("XDEL", LANE, "1-1"),
        ("DEL", LANE),
        ("XTRIM", LANE, "MAXLEN", "0"),
        ("HSET", "mq:{orders}:control", "paused", "{}"),
        ("EVAL", "return 1", "0"),
        ("EVALSHA", "0" * 40, "0"),
        ("SCRIPT", "LOAD", "return 1"),
        ("INFO",),
    ),
    "client-orders": (
        *DANGEROUS,
        ("XADD", "mq:{bills}:normal", "*", *JOB),
        ("HGETALL", "mq:{bills}:control"),
        ("XADD", "mq:audit", "*", *JOB),
        ("HGETALL", "mq:engines"),
        ("XREADGROUP", "GROUP", "engine", "me", "STREAMS", LANE, ">"),
        ("XTRIM", LANE, "MAXLEN", "0"),
        ("PUBLISH", "conv:{1}", "x"),
    ),
    "engine": (*DANGEROUS, ("PUBLISH", "elsewhere", "x")),
    "operator": (
        *DANGEROUS,
        ("XREADGROUP", "GROUP", "engine", "me", "STREAMS", LANE, ">"),
        ("GET", "gateway:ticket:1"),
        ("PUBLISH", "conv:{1}", "x"),
    ),
    "probe": (*DANGEROUS, ("XLEN", LANE), ("XADD", LANE, "*", *JOB)),
}


@pytest.fixture(scope="module")
def acl_server(session_directory: Path) -> Iterator[AclServer]:
    """Give a Valkey with the ACL of the repository."""
    server = AclServer(session_directory / "acl")
    server.start()
    yield server
    server.stop()


def refused(server: AclServer, user: str, *commands: tuple[str, ...]) -> list[str]:
    """Run commands as a user, and return those that the ACL forbade."""
    found = []
    with redis.Redis.from_url(server.url_of(user)) as client:
        for command in commands:
            try:
                client.execute_command(*command)
            except redis.ResponseError as error:
                if isinstance(error, NoPermissionError) or "NOPERM" in str(error):
                    found.append(" ".join(command))
    return found


def denials(server: AclServer) -> list[str]:
    """List what the server refused since the last reset, to whomever."""
    with server.client(decode_responses=True) as client:
        return [
            f"{row['username']}: {row['reason']} {row['object']}"
            for row in client.acl_log(count=1_000)
        ]


@pytest.mark.parametrize("user", ALLOWED)
def test_users_may(acl_server: AclServer, user: str) -> None:
    assert refused(acl_server, user, *ALLOWED[user]) == []


@pytest.mark.parametrize("user", DENIED)
def test_users_may_not(acl_server: AclServer, user: str) -> None:
    acl_server.call("ACL", "LOG", "RESET")
    assert refused(acl_server, user, *DENIED[user]) == [" ".join(each) for each in DENIED[user]]
    assert any(line.startswith(f"{user}: command flushall") for line in denials(acl_server))


def test_nobody_gets_in_without_a_name(acl_server: AclServer) -> None:
    never = Retry(NoBackoff(), 0)
    with (
        redis.Redis(port=acl_server.port, retry=never) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_every_user_is_in_the_tables() -> None:
    assert set(USERS) == set(ALLOWED) == {*DENIED, "admin"}


def granted(user: str) -> set[str]:
    """Read from the file which commands a user may run, outside of round brackets."""
    block = re.search(
        rf"^user {user} on (.*?)(?=^\S|\Z)", TEMPLATE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert block is not None
    text = re.sub(r"\([^)]*\)", "", block[1])
    return set(re.findall(r"\+([a-z|]+)", text))


def used(server: AclServer, *places: str) -> dict[str, str]:
    """
    Find the commands that the sources name, in scripts and in Python, and where.

    Whatever is quoted and is the name of a command counts, so that none is missed.
    """
    with server.client(protocol=2) as client:
        client.response_callbacks.clear()
        known = {name.decode().upper() for name in client.execute_command("COMMAND", "LIST")}
    found = {}
    files = [path for place in places for path in sorted(ENGINE.glob(place))]
    assert len(files) > 10
    for path in files:
        for command, inner in re.findall(
            r"""b?['"]([A-Z]{3,})['"](?:,\s*b?['"]([A-Z]+)['"])?""", path.read_text()
        ):
            if command in known and command not in WORDS:
                if command not in WITH_SUBCOMMANDS:
                    found[command.lower()] = path.name
                elif inner:
                    found[f"{command}|{inner}".lower()] = path.name
    return found


WORDS = {"READONLY"}
"""Names of commands that the sources use for something else: here, an error."""
WITH_SUBCOMMANDS = {"XGROUP", "XINFO", "MEMORY", "SCRIPT", "CLIENT", "CONFIG", "COMMAND", "OBJECT"}


def test_the_engine_may_run_every_command_that_its_sources_name(acl_server: AclServer) -> None:
    found = used(acl_server, "store/**/*.lua", "store/**/*.py")

    missing = {name: place for name, place in found.items() if name not in granted("engine")}
    assert missing == {}, "add them to users.acl, to engine and where needed to operator"


def test_operators_may_run_every_command_that_their_store_names(acl_server: AclServer) -> None:
    found = used(acl_server, "store/operator/*.py")

    missing = {name: place for name, place in found.items() if name not in granted("operator")}
    assert missing == {}


PAGES = (
    "/api/overview",
    "/api/queues/orders",
    "/api/queues/orders/jobs?state=done",
    "/api/queues/bills/jobs?state=waiting-children",
    "/api/queues/orders/jobs/dead2",
    "/api/search?text=dead",
    "/api/dead",
    "/api/engines",
    "/api/schedules",
    "/api/operations",
    "/api/series?queue=orders&range=1h",
    "/api/audit",
    "/metrics",
)
"""What the page asks its engine for."""


def shown(daemon: Daemon, path: str) -> bool:
    """Tell whether an engine answers a path; on a busy machine its first look may come too late."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=20):
            return True
    except urllib.error.HTTPError as error:
        with error:
            told = error.read().decode()
        raise AssertionError(f"{error.code}: {told}") from None


def test_the_page_may_do_as_its_engine_what_operators_may() -> None:
    assert granted("operator") <= granted("engine")


COMMANDS = (
    "queues",
    "queues orders",
    "jobs orders",
    "jobs orders --state delayed",
    "jobs orders --state dead",
    "jobs orders --state done",
    "jobs bills --state waiting-children",
    "job later",
    "run-now later",
    "reschedule much-later --in 2h",
    "priority waiting high",
    "cancel much-later --reason test",
    "pause bills --reason test",
    "resume bills",
    "pause bills --type stamp --reason test",
    "enqueue stamp --data {}",
    "resume bills --type stamp",
    "concurrency orders 50",
    "concurrency orders default",
    "bounds orders --jobs 1000",
    "bounds orders --clear",
    "limit list orders",
    "limit set orders carrier --rate 50/s",
    "limit shut orders carrier --for 1s",
    "limit open orders carrier",
    "limit clear orders carrier",
    "order orders --on-dead block",
    "order orders --on-dead continue",
    "schedule list",
    "schedule add nightly order --every 1h",
    "schedule run nightly",
    "schedule pause nightly --reason test",
    "schedule resume nightly",
    "schedule delete nightly",
    "dead analyse orders",
    "dead analyse orders --scan",
    "dead list orders",
    "dead show orders dead1",
    "dead retry orders dead1",
    "dead discard orders dead2 --yes",
    "operations list",
    "health",
    "enqueue order --data {} --id by-hand",
)


def work(job_type: str, payload: dict[str, object] | None = None, **more: Any) -> NewJob:
    return NewJob(type=job_type, payload=payload or {}, **more)


async def enqueue_all(client: Client) -> None:
    """Send jobs that go by everything that the engine has."""
    for job in (
        work("order", id="plain"),
        work("order", {"fails": 1}, id="retried"),
        work("order", {"fails": 9}, id="dead1"),
        work("order", {"fails": 9}, id="dead2"),
        work("order", id="later", delay_ms=3_600_000),
        work("order", id="much-later", delay_ms=7_200_000),
        work("order", {"sleep_s": 15}, id="waiting"),
        work("order", id="keyed1", key="k", reply="mq:{orders}:reply:me"),
        work("order", id="keyed2", key="k"),
        work("order", unique="u", window_ms=60_000),
        work("order", unique="u", window_ms=60_000),
        work("order", unique="d", debounce_ms=100),
        work("parcel"),
        work("parcel"),
    ):
        await client.enqueue_flow(job)


def cli(server: AclServer, line: str) -> str:
    """Run a command as an operator; it must go well or say that there was nothing to do."""
    environ = {"ENGINE_REDIS_URL": server.url_of("operator"), "ENGINE_APP": APP}
    found = CliRunner().invoke(main, line.split(), env=environ)
    assert "NOPERM" not in found.output, f"{line}: {found.output}"
    assert found.exit_code in {0, 1}, f"{line}: {found.output}"
    return found.output


async def life_of_everything(server: AclServer, start_daemon: Start) -> None:
    """Run an engine, a client and an operator over all that they can do, each as its user."""
    client = Client(server.url_of("client-orders"), queues={"order": QUEUE, "parcel": QUEUE})
    async with client:
        await enqueue_all(client)
    with redis.Redis.from_url(server.url_of("producer-orders")) as producer:
        producer.xadd(LANE, dict(zip(JOB[::2], JOB[1::2], strict=True)))
    daemon = start_daemon(server.url_of("engine"), app=APP)
    await eventually(daemon.is_ready, "ready")
    keys = QueueKeys(QUEUE)
    await eventually(lambda: server.call("XLEN", keys.dead) == 2, "two are dead")
    children = (work("bill", queue=OTHER), work("order", id="child"))
    flow = work("order", id="parent", children=children, results=True)
    queues = {"order": QUEUE, "bill": OTHER}
    async with Client(server.url_of("engine"), queues=queues) as client:
        await client.enqueue_flow(flow)
    for path in PAGES:
        await eventually(lambda path=path: shown(daemon, path), path)
    for line in COMMANDS:
        await asyncio.to_thread(cli, server, line)
    await eventually(lambda: "state   done" in cli(server, "job parent"), "the flow is done")
    await eventually(lambda: "state   done" in cli(server, "job by-hand"), "the last one is done")
    assert daemon.stop() == 0
    assert not [line for line in daemon.log_lines() if "NOPERM" in line]


async def test_engines_clients_and_operators_meet_no_refusal(
    acl_server: AclServer, start_daemon: Start
) -> None:
    acl_server.call("ACL", "LOG", "RESET")

    await life_of_everything(acl_server, start_daemon)

    assert denials(acl_server) == []


@pytest.mark.full
@pytest.mark.parametrize("name", REDIS_SERVERS)
async def test_the_same_on_every_server(
    server_directory: Path, start_daemon: Start, name: str
) -> None:
    """On older servers ``acl.sh`` leaves out what they do not know."""
    try:
        server = AclServer(server_directory / "acl", name=name)
    except NotInstalled as reason:
        pytest.skip(str(reason))
    server.start()
    try:
        await life_of_everything(server, start_daemon)
        # Of CLIENT SETINFO, which libraries send unasked and which these cannot be told to allow.
        told = [line for line in denials(server) if not line.endswith("command client")]
        assert told == []
        assert refused(server, "producer-orders", ("XADD", "mq:{bills}:normal", "*", *JOB))
        assert refused(server, "engine", ("FLUSHALL",))
    finally:
        server.stop()


def test_both_passwords_count_while_one_is_changed(
    server_directory: Path, start_redis: Callable[..., RedisTestServer]
) -> None:
    secrets = server_directory / "secrets"
    secrets.mkdir()
    (secrets / "probe").write_text("old one\nnew one\n")
    told = rendered(secrets)
    acl = server_directory / "users"
    acl.write_text(told.stdout)
    server = start_redis(config={"aclfile": str(acl)})

    for password in ("old one", "new one"):
        with redis.Redis(port=server.port, username="probe", password=password) as client:
            assert client.ping()
    assert "no password for engine" in told.stderr
    assert "user engine" not in told.stdout


def test_a_server_refuses_the_file_without_passwords(server_directory: Path) -> None:
    server = RedisTestServer(server_directory / "raw", config={"aclfile": str(TEMPLATE)})

    with pytest.raises(EmbeddedError, match="did not start"):
        server.start()


def test_no_password_is_in_the_repository() -> None:
    text = TEMPLATE.read_text()

    assert not re.search(r"#[0-9a-f]{64}", text)
    assert not re.search(r"(^|\s)(>\S|nopass)", text)
    assert (REDIS / "acl.sh").stat().st_mode & 0o111
