"""Publisher and listener choose the same pub/sub, on every server."""

from __future__ import annotations

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from processors.errors import ConfigurationError
from processors.services.pubsub import PLAIN, SHARDED, Dialect, Publisher
from processors.services.redis_link import connect
from processors.settings import from_env
from tests.integration.processors.test_outbox_relay import listening
from tests.support.servers import RedisTestServer, StartRedis

pytestmark = pytest.mark.servers


@pytest.mark.parametrize(
    ("server", "dialect"),
    [("valkey", SHARDED), ("redis82", SHARDED), ("redis70", SHARDED), ("redis62", PLAIN)],
)
async def test_the_server_says_which_pubsub_it_has(
    start_redis: StartRedis, server: str, dialect: Dialect
) -> None:
    url = start_redis(name=server).url
    async with (
        connect(url) as client,
        listening(url, "c", sharded=dialect is SHARDED) as listener,
    ):
        publisher = Publisher(client)
        await publisher.publish([("c", '{"n": 1}'), ("c", b'{"n": 2}')])
        await publisher.publish([("c", '{"n": 3}')])
        assert [(await listener.hear())[1]["n"] for _ in range(3)] == [1, 2, 3]
        assert publisher._dialect is dialect


async def test_a_setting_decides_without_asking(redis_url: str) -> None:
    settings = from_env({"PROCESSORS_PUBSUB": "plain"})
    async with connect(redis_url) as client, listening(redis_url, "c", sharded=False) as listener:
        before = await asked(client)
        await Publisher(client, settings.pubsub).publish([("c", "1")])
        assert await listener.hear() == ("c", 1)
        assert await asked(client) == before


async def test_sharded_where_there_is_none_is_an_error(start_redis: StartRedis) -> None:
    async with connect(start_redis(name="redis62").url) as client:
        with pytest.raises(ResponseError, match="unknown command"):
            await Publisher(client, "sharded").publish([("c", "1")])


async def test_server_exchanged_under_a_publisher_is_noticed(redis_url: str) -> None:
    """Goal: after an upgrade the very next batch goes where listeners now are."""
    async with connect(redis_url) as client, listening(redis_url, "c") as listener:
        publisher = Publisher(client)
        publisher._dialect = PLAIN  # what the server before had answered
        await publisher.publish([("c", "1")])
        assert await listener.hear() == ("c", 1)
        assert publisher._dialect is SHARDED


async def test_user_who_may_not_ask_is_told_what_to_set(redis_server: RedisTestServer) -> None:
    rights = ("on", ">pw", "allkeys", "allchannels", "+@all", "-command")
    redis_server.call("ACL", "SETUSER", "mute", *rights)
    url = redis_server.url.replace("redis://", "redis://mute:pw@")
    async with connect(url) as client, listening(url, "c") as listener:
        with pytest.raises(ConfigurationError, match="PROCESSORS_PUBSUB"):
            await Publisher(client).publish([("c", "1")])
        await Publisher(client, "sharded").publish([("c", "2")])
        assert await listener.hear() == ("c", 2)


async def asked(client: redis.asyncio.Redis) -> int:
    """How often COMMAND INFO was asked of the server."""
    found = (await client.info("commandstats")).get("cmdstat_command|info", {})
    return int(found.get("calls", 0))
