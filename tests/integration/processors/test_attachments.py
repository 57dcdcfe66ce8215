"""Uploads, from the first row to the bytes that come back, over each kind of store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import msgspec
import pytest

from engine.embedded import unused_port
from processors.errors import ConfigurationError, Refused, ServiceUnavailable
from processors.services.objects import ObjectExists, ObjectMissing, open_objects
from processors.settings.objects import ObjectSettings
from tests.integration.processors.keeper import DAY_S, Keeper
from tests.peers.s3 import S3Peer, serve_s3

pytestmark = pytest.mark.servers

PICTURE = b"\x89PNG" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Peer]:
    with serve_s3(unused_port()) as peer:
        yield peer


@pytest.fixture
def s3(s3_server: S3Peer) -> S3Peer:
    s3_server.empty()
    return s3_server


@pytest.fixture(params=["file", "memory", "s3"])
def object_settings(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectSettings:
    if request.param == "s3":
        peer = request.getfixturevalue("s3")
        assert isinstance(peer, S3Peer)
        return peer.settings()
    urls = {"file": f"file://{tmp_path}/any place", "memory": "memory:///"}
    return ObjectSettings(url=urls[request.param])


async def test_a_store_keeps_an_object_and_loses_it(object_settings: ObjectSettings) -> None:
    store = open_objects(object_settings)
    assert store is not None
    await store.put("ab/c0", PICTURE, "image/png")
    await store.put("ac/c1", b"", "image/png")

    with pytest.raises(ObjectExists):
        await store.put("ab/c0", b"other", "image/png")
    head = await store.head("ab/c0")
    read = b"".join([chunk async for chunk in store.stream("ab/c0")])
    listed = [each.key async for chunk in store.list("ab/") for each in chunk]
    empty = [chunk async for chunk in store.list("ff/")]
    await store.delete("ab/c0")
    again = await store.delete("ab/c0")

    assert (head.key, head.size) == ("ab/c0", len(PICTURE))
    assert read == PICTURE
    assert listed == ["ab/c0"]
    assert empty == []
    # Only directories say that there was nothing to delete.
    assert again is not object_settings.url.startswith("file")
    with pytest.raises(ObjectMissing):
        await store.head("ab/c0")
    with pytest.raises(ObjectMissing):
        [chunk async for chunk in store.stream("ab/c0")]


async def test_an_upload_is_ready_once_its_object_is_whole(
    keeper: Keeper, object_settings: ObjectSettings
) -> None:
    keeper.store, keeper.object_settings = open_objects(object_settings), object_settings
    _, users = await keeper.world.conversation(1)
    upload = await keeper.attachments.begin_upload(users[0], "image/png", len(PICTURE))

    attachment = await keeper.attachments.put(upload.attachment_id, users[0], PICTURE)
    again = await keeper.attachments.put(upload.attachment_id, users[0], PICTURE)

    assert attachment == again
    assert attachment.state == "ready"
    assert attachment.sha256 == hashlib.sha256(PICTURE).digest()
    read = keeper.attachments.open(upload.attachment_id, users[0])
    assert b"".join([chunk async for chunk in read]) == PICTURE


async def test_clients_write_and_read_s3_by_signed_urls(keeper: Keeper, s3: S3Peer) -> None:
    keeper.store, keeper.object_settings = open_objects(s3.settings()), s3.settings()
    _, users = await keeper.world.conversation(1)
    upload = await keeper.attachments.begin_upload(users[0], "image/png", len(PICTURE))
    assert upload.url is not None
    async with aiohttp.ClientSession() as session:
        async with session.put(upload.url, data=PICTURE) as answer:
            assert answer.status == 200
        await keeper.attachments.complete_upload(
            upload.attachment_id, users[0], sha256=hashlib.sha256(PICTURE).digest()
        )
        url = await keeper.attachments.download_url(upload.attachment_id, users[0])
        assert url is not None
        async with session.get(url) as answer:
            read = await answer.read()

    assert read == PICTURE


async def test_an_upload_that_differs_is_removed_with_its_object(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(1)
    assert keeper.store is not None
    for announced, sha256 in ((len(PICTURE) + 1, None), (len(PICTURE), b"x" * 32)):
        upload = await keeper.attachments.begin_upload(users[0], "image/png", announced)
        key = await keeper.world.value(
            "SELECT object_key FROM attachments WHERE id = $1", upload.attachment_id
        )
        await keeper.store.put(key, PICTURE, "image/png")

        with pytest.raises(Refused) as refused:
            await keeper.attachments.complete_upload(upload.attachment_id, users[0], sha256=sha256)

        assert refused.value.code == "upload-differs"
    await keeper.expired()
    assert await keeper.world.value("SELECT count(*) FROM attachments") == 0
    assert await keeper.keys() == set()


async def test_an_upload_without_an_object_stays_pending(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(1)
    upload = await keeper.attachments.begin_upload(users[0], "image/png", 5)

    with pytest.raises(Refused, match="not-uploaded"):
        await keeper.attachments.complete_upload(upload.attachment_id, users[0])

    assert await keeper.world.values("SELECT state FROM attachments") == ["pending"]


@pytest.mark.parametrize(
    ("media_type", "size", "code"),
    [
        ("image/png\r\nX: y", 5, "invalid-media-type"),
        ("image", 5, "invalid-media-type"),
        ("image/png", 104_857_601, "invalid-size"),
        ("image/png", -1, "invalid-size"),
    ],
)
async def test_an_upload_that_cannot_be_meant_is_refused(
    keeper: Keeper, media_type: str, size: int, code: str
) -> None:
    _, users = await keeper.world.conversation(1)

    with pytest.raises(Refused) as refused:
        await keeper.attachments.begin_upload(users[0], media_type, size)

    assert refused.value.code == code


async def test_only_users_upload_and_only_their_own(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(2)
    upload = await keeper.attachments.begin_upload(users[0], "image/png", 5)

    with pytest.raises(Refused, match="unknown-user"):
        await keeper.attachments.begin_upload(uuid4(), "image/png", 5)
    with pytest.raises(Refused, match="unknown-attachment"):
        await keeper.attachments.put(upload.attachment_id, users[1], b"12345")
    assert not await keeper.attachments.discard(upload.attachment_id, users[1])


async def test_members_see_what_messages_hold_and_others_do_not(keeper: Keeper) -> None:
    conversation, (ada, bob) = await keeper.world.conversation(2)
    _, (eve,) = await keeper.world.conversation(1)
    attachment = await keeper.upload(ada)

    with pytest.raises(Refused, match="unknown-attachment"):
        await keeper.attachments.describe(attachment, bob)
    message = await keeper.send_with(conversation, ada, attachment)
    seen = await keeper.attachments.describe(attachment, bob)
    with pytest.raises(Refused, match="unknown-attachment"):
        await keeper.attachments.describe(attachment, eve)
    await keeper.world.database.execute(
        "UPDATE messages SET body = NULL, deleted_at = now() WHERE id = $1", message
    )
    with pytest.raises(Refused, match="unknown-attachment"):
        await keeper.attachments.describe(attachment, bob)

    assert seen.state == "attached"


async def test_thumbnails_go_with_their_attachment(keeper: Keeper) -> None:
    _, users = await keeper.world.conversation(1)
    attachment = await keeper.upload(users[0])
    for _ in range(2):
        await keeper.attachments.put_thumbnail(attachment, users[0], "small", b"s", "image/png")
    before = await keeper.keys()
    keeper.clock.move(2 * DAY_S)

    result = await keeper.expired()

    assert len(before) == 2
    assert result.counts == {"attachmentsRemoved": 1, "objectsQueued": 2, "objectsDeleted": 2}
    assert await keeper.keys() == set()


async def test_without_a_store_uploads_say_what_to_set(keeper: Keeper) -> None:
    keeper.store = None
    _, users = await keeper.world.conversation(1)

    with pytest.raises(ConfigurationError, match="PROCESSORS_OBJECTS_URL"):
        await keeper.attachments.begin_upload(users[0], "image/png", 5)
    assert (await keeper.expired()).complete
    assert (await keeper.reconciled()).complete


async def test_a_store_that_cannot_be_reached_is_an_outage(unused_port: int) -> None:
    peer = S3Peer(f"http://127.0.0.1:{unused_port}")
    store = open_objects(msgspec.structs.replace(peer.settings(), timeout_ms=500))
    assert store is not None

    with pytest.raises(ServiceUnavailable) as trouble:
        await store.delete("ab/c0")

    assert trouble.value.service == "object-store"


async def test_a_bucket_that_is_missing_is_no_missing_object(s3: S3Peer) -> None:
    """Otherwise the ledger would be emptied while the objects stay where they are."""
    store = open_objects(s3.settings(bucket="elsewhere"))
    assert store is not None

    with pytest.raises(ConfigurationError, match="bucket"):
        await store.delete("ab/c0")
    with pytest.raises(ConfigurationError, match="bucket"):
        [chunk async for chunk in store.list("ab/")]


@pytest.mark.parametrize("url", ["ftp://x/y", "s3:/nowhere", "http://host/path", "bucket"])
def test_a_url_of_no_store_is_refused_with_its_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PROCESSORS_OBJECTS_URL"):
        open_objects(ObjectSettings(url=url))


@pytest.mark.parametrize(
    "settings",
    [
        ObjectSettings(url="gs://bucket/prefix", options={"skip_signature": "true"}),
        ObjectSettings(
            url="az://container/prefix", options={"account_name": "me", "account_key": "a2V5"}
        ),
    ],
    ids=["gs", "az"],
)
async def test_google_and_azure_are_opened_and_sign_by_their_options(
    settings: ObjectSettings,
) -> None:
    store = open_objects(settings)

    assert store is not None
    if settings.url.startswith("az"):
        url = await store.sign("PUT", "ab/c0", valid_s=60)
        assert url is not None
        assert url.startswith("https://me.blob.core.windows.net/container/prefix/ab/c0?")


def test_no_url_is_no_store() -> None:
    assert open_objects(ObjectSettings()) is None
