"""Data keys under AWS KMS, against moto's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from processors.errors import ConfigurationError, Refused, ServiceUnavailable
from processors.services.keyrings import open_keys
from processors.services.keys import KeyProvider, WrappedKey
from processors.settings import from_env
from schemas.messages import Decrypt, Encrypt, Rewrap, TurnOn
from tests.integration.processors.encrypted import audited, service
from tests.integration.processors.world import World
from tests.peers.kms import CLOSE, HANG, REGION, KmsPeer, serve_kms

pytestmark = pytest.mark.servers

CONTEXT = {"conversation": "c", "key": "k", "purpose": "data"}


@pytest.fixture
async def kms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KmsPeer]:
    """Run a KMS, with credentials in the environment and no other source of settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with serve_kms() as peer:
        yield peer


def settings(kms: KmsPeer, key: str, **more: str) -> Any:
    given = {
        "PROVIDER": "kms",
        "KMS_KEY": key,
        "KMS_REGION": REGION,
        "KMS_ENDPOINT": kms.url,
        **more,
    }
    return from_env({f"PROCESSORS_ENCRYPTION_{name}": text for name, text in given.items()})


@pytest.fixture
async def arn(kms: KmsPeer) -> str:
    return await kms.make_key()


@pytest.fixture
async def keys(kms: KmsPeer, arn: str) -> AsyncIterator[KeyProvider]:
    async with open_keys(settings(kms, arn).encryption) as provider:
        yield provider


async def test_a_data_key_is_made_wrapped_and_opened_by_kms(
    kms: KmsPeer, arn: str, keys: KeyProvider
) -> None:
    key, wrapped = await keys.generate(CONTEXT)
    again = await keys.wrap(key, CONTEXT)

    assert len(key) == 32
    assert wrapped.kek_id == again.kek_id == await keys.primary() == f"kms:{arn}"
    assert key not in wrapped.wrapped
    assert await keys.unwrap(wrapped, CONTEXT) == await keys.unwrap(again, CONTEXT) == key
    assert kms.calls == ["GenerateDataKey", "Encrypt", "DescribeKey", "Decrypt", "Decrypt"]


async def test_a_key_may_be_named_by_its_alias(kms: KmsPeer, arn: str) -> None:
    await kms.ask("CreateAlias", AliasName="alias/chat", TargetKeyId=arn)

    async with open_keys(settings(kms, "alias/chat").encryption) as keys:
        key, wrapped = await keys.generate(CONTEXT)
        assert await keys.primary() == f"kms:{arn}"
        assert await keys.unwrap(wrapped, CONTEXT) == key


async def test_a_wrapped_key_opens_with_its_context_alone(keys: KeyProvider) -> None:
    _, wrapped = await keys.generate(CONTEXT)
    damaged = WrappedKey(wrapped.kek_id, wrapped.wrapped[:-1] + b"\0")

    for key, context in ((wrapped, CONTEXT | {"key": "other"}), (damaged, CONTEXT)):
        with pytest.raises(Refused, match="undecryptable"):
            await keys.unwrap(key, context)


async def test_another_key_than_the_one_that_wrapped_is_not_used(
    kms: KmsPeer, keys: KeyProvider
) -> None:
    _, wrapped = await keys.generate(CONTEXT)
    other = await kms.make_key()

    with pytest.raises(ConfigurationError, match="AccessDenied"):
        await keys.unwrap(WrappedKey(f"kms:{other}", wrapped.wrapped), CONTEXT)


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ("DisableKey", {}, "DisabledException"),
        ("ScheduleKeyDeletion", {"PendingWindowInDays": 7}, "KMSInvalidStateException"),
    ],
)
async def test_a_key_that_is_switched_off_is_a_matter_of_configuration(
    kms: KmsPeer, arn: str, keys: KeyProvider, change: str, arguments: Any, said: str
) -> None:
    key, wrapped = await keys.generate(CONTEXT)
    await kms.ask(change, KeyId=arn.rpartition("/")[2], **arguments)

    for call in (keys.generate(CONTEXT), keys.wrap(key, CONTEXT), keys.unwrap(wrapped, CONTEXT)):
        with pytest.raises(ConfigurationError, match=said):
            await call


async def test_a_key_that_does_not_exist_is_a_matter_of_configuration(kms: KmsPeer) -> None:
    missing = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-4000-8000-000000000001"
    async with open_keys(settings(kms, missing).encryption) as keys:
        with pytest.raises(ConfigurationError, match="NotFoundException"):
            await keys.generate(CONTEXT)


@pytest.mark.parametrize(
    "trouble", ["ThrottlingException", "KMSInternalException", "KeyUnavailableException", CLOSE]
)
async def test_trouble_of_kms_puts_the_job_off_and_passes(
    kms: KmsPeer, keys: KeyProvider, trouble: str
) -> None:
    kms.troubles.append(trouble)

    with pytest.raises(ServiceUnavailable, match="key-provider") as error:
        await keys.generate(CONTEXT)

    assert error.value.service == "key-provider"
    assert kms.calls == ["GenerateDataKey"]
    assert len((await keys.generate(CONTEXT))[0]) == 32


async def test_a_silent_kms_is_given_up(kms: KmsPeer, arn: str) -> None:
    kms.troubles.append(HANG)

    async with open_keys(settings(kms, arn, KMS_TIMEOUT_MS="100").encryption) as keys:
        with pytest.raises(ServiceUnavailable, match="Timeout"):
            await keys.generate(CONTEXT)


async def test_a_kms_that_is_not_there_puts_the_job_off(
    kms: KmsPeer, arn: str, unused_port: int
) -> None:
    away = f"http://127.0.0.1:{unused_port}"
    async with open_keys(settings(kms, arn, KMS_ENDPOINT=away).encryption) as keys:
        with pytest.raises(ServiceUnavailable):
            await keys.generate(CONTEXT)


async def test_missing_credentials_are_a_matter_of_configuration(
    kms: KmsPeer, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    async with open_keys(settings(kms, arn).encryption) as keys:
        with pytest.raises(ConfigurationError, match="credentials"):
            await keys.generate(CONTEXT)


async def test_a_region_that_is_named_nowhere_is_a_matter_of_configuration(
    kms: KmsPeer, arn: str
) -> None:
    async with open_keys(settings(kms, arn, KMS_REGION="", KMS_ENDPOINT="").encryption) as keys:
        with pytest.raises(ConfigurationError, match="region"):
            await keys.generate(CONTEXT)


async def talk(world: World) -> tuple[Any, tuple[Any, ...]]:
    conversation, (ada, _) = await world.conversation(2)
    sent = [await world.send(conversation, ada, content=f"m{n}") for n in range(2)]
    return conversation, tuple(each.message_id for each in sent)


async def test_conversations_move_from_a_keyring_to_kms(
    world: World, kms: KmsPeer, arn: str
) -> None:
    conversation, ids = await talk(world)
    await service(world).turn_on(TurnOn(conversation_id=conversation))
    await service(world).encrypt(Encrypt(message_ids=ids), job_id="e")
    both = settings(kms, arn, KEYRING=f"a={'A' * 43}=").encryption
    read = Decrypt(message_ids=ids, actor="ada", reason="test")

    async with open_keys(both) as keys:
        result = await service(world, keys=keys).rewrap(Rewrap(), job_id="w")
    async with open_keys(settings(kms, arn).encryption) as keys:
        values = await service(world, keys=keys, decrypt_plain=1).decrypt(read, job_id="d")

    assert (result.rewrapped, result.damaged) == (2, 0)
    assert set(await world.values("SELECT kek_id FROM encryption_keys")) == {f"kms:{arn}"}
    assert [each.value for each in values.values] == ["m0", "m1"]
    assert await audited(world) == ["encryption.turn-on", "encryption.rewrap", "encryption.decrypt"]


async def test_many_who_ask_at_once_make_one_call(
    world: World, kms: KmsPeer, keys: KeyProvider
) -> None:
    conversation, _ = await world.conversation(1)
    sealer = service(world, keys=keys)

    await asyncio.gather(*(sealer.fingerprint(conversation, b"x") for _ in range(20)))

    assert kms.calls == ["GenerateDataKey", "Decrypt"]


async def test_throttling_in_the_middle_of_a_job_changes_nothing(
    world: World, kms: KmsPeer, keys: KeyProvider
) -> None:
    """Goal: wherever KMS gives up, the job can be run again, and then does its work."""
    conversation, ids = await talk(world)
    payload = Encrypt(message_ids=ids)
    await world.database.execute(
        "UPDATE conversations SET encrypted = true, search_mode = 'none' WHERE id = $1",
        conversation,
    )
    for passed in range(4):
        kms.troubles.extend([""] * passed + ["ThrottlingException"])
        with pytest.raises(ServiceUnavailable):
            await service(world, keys=keys).encrypt(payload, job_id="j")
        assert not kms.troubles
        bodies = await world.values("SELECT body FROM messages ORDER BY seq")
        assert bodies == ["m0", "m1"]
        await world.database.execute("DELETE FROM encryption_keys")

    result = await service(world, keys=keys).encrypt(payload, job_id="j")

    assert result.encrypted == 2
    assert await contents(world, keys) == ["m0", "m1"]


async def contents(world: World, keys: KeyProvider) -> list[str | None]:
    ids = await world.values("SELECT id FROM messages ORDER BY seq")
    read = Decrypt(message_ids=tuple(ids), actor="ada", reason="test")
    result = await service(world, keys=keys, decrypt_plain=1).decrypt(read, job_id="read")
    return [each.value for each in result.values]
