"""Encryption as an engine runs it, and what it leaves behind in words."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import structlog

from engine import App, Cancel, Hold
from processors import demo
from processors.app import build
from processors.errors import Refused
from processors.rules.replies import public_of
from processors.services.keys import LocalKeyring, WrappedKey
from processors.services.protocols import Envelope, Place
from schemas.messages import (
    Decrypt,
    Encrypt,
    EncryptResult,
    ReEncrypt,
    Rewrap,
    Rotate,
    Shred,
    TurnOn,
    TurnOnResult,
)
from tests.integration.processors.encrypted import service
from tests.integration.processors.test_messaging_app import Settings, run
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers

WHO = {"actor": "ada", "reason": "ticket 7"}


def text(payload: Any) -> str:
    return msgspec.json.encode(payload).decode()


@pytest.fixture
def make(postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., App]:
    """Build the app as an engine with these settings does."""

    def made(**settings: str) -> App:
        for name, value in settings.items():
            monkeypatch.setenv(f"PROCESSORS_ENCRYPTION_{name.upper()}", value)
        return build(Settings(postgres_url, redis_url))

    return made


async def prepared(app: App) -> None:
    assert app.migrate is not None
    assert app.seed is not None
    await app.migrate()
    await app.seed()


async def test_without_a_keyring_jobs_are_held_and_say_what_to_set(
    make: Callable[..., App],
) -> None:
    app = make()
    data = text(TurnOn(conversation_id=demo.CONVERSATION))
    await prepared(app)
    async with app.lifespan() as services:
        with pytest.raises(Hold, match="keyring new FILE"):
            await run(app, services, "encryption", data)
        found = await services.database.fetchrow(
            "SELECT encrypted FROM conversations WHERE id = $1", demo.CONVERSATION
        )
    assert found["encrypted"] is False


async def test_jobs_run_with_a_keyring_that_the_app_makes(
    make: Callable[..., App], tmp_path: Path
) -> None:
    app = make(keyring_file=str(tmp_path / "ring"), keyring_create="1")
    await prepared(app)
    async with app.lifespan() as services:
        turned = await run(
            app, services, "encryption", text(TurnOn(conversation_id=demo.CONVERSATION))
        )
        walked = await run(
            app, services, "encryption", text(Encrypt(conversation_id=demo.CONVERSATION))
        )
        with pytest.raises(Cancel, match="decrypt-not-allowed"):
            await run(app, services, "encryption", text(Decrypt(message_ids=(uuid4(),), **WHO)))
        with pytest.raises(Cancel, match="unknown-conversation"):
            await run(app, services, "encryption", text(Rotate(conversation_id=uuid4())))

    assert turned == TurnOnResult(changed=True)
    assert walked == EncryptResult(encrypted=0, more=False)


class TellingKeys(LocalKeyring):
    """A keyring that tells the data keys it made."""

    made: list[bytes]

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        key, wrapped = await super().generate(context)
        self.made.append(key)
        return key, wrapped


def shapes(secret: bytes) -> set[str]:
    """List how a secret could stand in a text."""
    return {
        secret.hex(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
    }


async def test_neither_contents_nor_keys_are_in_logs_errors_results_or_other_rows(
    world: World,
) -> None:
    """
    Goal: of what is encrypted, nothing is told anywhere but to the holder of a reply key.

    Method: a content that occurs nowhere else goes through every action, failures among them.
    """
    canary = "canary-7f3c1d"
    private = bytes(range(1, 33))
    public = base64.b64encode(public_of(private)).decode()
    old, new = bytes(range(40, 72)), bytes(range(80, 112))
    keys = TellingKeys({"b": old})
    keys.made = []
    crypto = service(world, keys=keys, chunk_rows=2, reply_keys=public)
    conversation, (ada, _) = await world.conversation(2)
    sent = [await world.send(conversation, ada, content=f"{canary} {n}") for n in range(3)]
    ids = tuple(each.message_id for each in sent)
    await world.database.execute("DELETE FROM outbox")
    told: list[str] = []

    async def tell(call: Any) -> None:
        try:
            told.append(text(await call))
        except Refused as error:
            told.append(repr(error))

    with structlog.testing.capture_logs() as lines:
        await tell(crypto.turn_on(TurnOn(conversation_id=conversation)))
        await tell(crypto.encrypt(Encrypt(message_ids=ids), job_id="1"))
        await tell(crypto.rotate(Rotate(conversation_id=conversation), job_id="2"))
        await tell(crypto.re_encrypt(ReEncrypt(conversation_id=conversation), job_id="3"))
        turned = service(world, keys=LocalKeyring({"c": new, "b": old}))
        await tell(turned.rewrap(Rewrap(), job_id="4"))
        await tell(crypto.decrypt(Decrypt(message_ids=ids, **WHO), job_id="5"))
        await world.database.execute("UPDATE messages SET version = 9 WHERE id = $1", ids[0])
        await tell(crypto.decrypt(Decrypt(message_ids=ids, **WHO), job_id="6"))
        await tell(crypto.decrypt(Decrypt(message_ids=ids, store=True, **WHO), job_id="7"))
        envelope = Envelope(uuid4(), canary.encode())
        await tell(crypto.open(Place(conversation, ids[0]), envelope))
        await world.database.execute("UPDATE conversations SET deleted_at = now()")
        await tell(crypto.shred(Shred(conversation_id=conversation, **WHO), job_id="8"))
        await tell(crypto.decrypt(Decrypt(message_ids=ids, **WHO), job_id="9"))

    events = {line["event"] for line in lines}
    assert events >= {"messages_encrypted", "message_quarantined", "conversation_shredded"}
    told += [repr(line) for line in lines]
    for table in ("audit_log", "job_inbox", "outbox", "encryption_keys", "encryption_quarantine",
                  "messages", "message_search", "conversations"):  # fmt: skip
        told += [repr(tuple(row)) for row in await world.database.fetch(f"SELECT * FROM {table}")]
    everything = "\n".join(told)
    assert len(keys.made) == 3
    for secret in (canary.encode(), *keys.made, old, new, private):
        assert [shape for shape in shapes(secret) if shape in everything] == []
    assert canary not in everything
    assert str(UUID(int=ids[0].int)) in everything
