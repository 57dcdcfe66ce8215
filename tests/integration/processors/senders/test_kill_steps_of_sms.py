"""A text is sent once, wherever the process dies that sends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine import SystemClock
from processors.senders.base import Sms
from processors.senders.sms import open_sms_sender
from processors.senders.sms_api import SmsApi
from processors.settings import from_env
from tests.peers.sms import SmsPeer
from tests.support import steps
from tests.support.steps import ROOT, kill_at_each_step

pytestmark = pytest.mark.servers

ADA = "+14155550100"
SETTLED_MS = 61_000


class Later(SystemClock):
    """The machine's clock, once the provider had time enough."""

    def now_ms(self) -> int:
        return super().now_ms() + SETTLED_MS


class Row:
    """What a delivery's row keeps of its attempts, in a file."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def read(self) -> dict[str, Any]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def write(self, **values: Any) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self.read() | values))
        beside.rename(self._path)

    def remove(self) -> None:
        self._path.unlink()
        self._path.parent.rmdir()


class SendsOnce:
    """Ada is sent a text; the attempt is written down before, as a delivery's row does it."""

    async def prepare(self) -> dict[str, Any]:
        return {"delivery": str(uuid4()), "row": f"{tempfile.mkdtemp()}/row"}

    async def run(self, scene: dict[str, Any]) -> None:
        row = Row(scene["row"])
        tried_ms = row.read().get("tried_ms", 0)
        if not tried_ms:
            steps.step()
            row.write(tried_ms=SystemClock().now_ms())
            steps.step()
        settings = from_env(os.environ).sms
        sender = open_sms_sender(
            settings, clock=Later() if tried_ms else SystemClock(), others=self.others
        )
        assert sender
        answer = await sender.send(
            Sms(
                delivery_id=UUID(scene["delivery"]),
                to=ADA,
                text=f"text {scene['delivery']}",
                tried_from_ms=tried_ms,
                tried_until_ms=tried_ms,
            )
        )
        steps.step()
        row.write(kind=answer.kind.name, sid=answer.provider_id)
        await sender.close()

    async def others(self, ids: Sequence[str], delivery_id: UUID) -> set[str]:
        """The texts of the other scenes, as other rows would name them."""
        api = SmsApi(from_env(os.environ).sms)
        texts = await api.texts_to(ADA, 0)
        await api.close()
        return {text.sid or "" for text in texts if text.body != f"text {delivery_id}"}

    async def observe(self, scene: dict[str, Any]) -> Any:
        row = Row(scene["row"])
        seen = row.read()
        api = SmsApi(from_env(os.environ).sms)
        texts = [
            text for text in await api.texts_to(ADA, 0) if text.body == f"text {scene['delivery']}"
        ]
        await api.close()
        row.remove()
        return [seen["kind"], [text.sid == seen["sid"] for text in texts]]


@pytest.fixture
async def peer() -> AsyncIterator[SmsPeer]:
    async with SmsPeer() as peer:
        yield peer


async def test_a_text_survives_a_kill_at_every_step(peer: SmsPeer) -> None:
    seen = await asyncio.to_thread(kill_at_each_step, f"{__name__}:SendsOnce", peer.environ())

    assert seen.unkilled == ["SENT", [True]]
    assert seen.differing() == {}
    assert seen.total >= 2


async def test_a_text_survives_a_kill_between_acceptance_and_answer(
    peer: SmsPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Goal: the provider has the text and the process dies before it hears so.

    Method: the provider keeps the answer to itself, and its taking the text is what kills.
    """
    scenario = SendsOnce()
    scene = await scenario.prepare()
    code = (
        "import asyncio, json, sys\n"
        f"from {__name__} import SendsOnce\n"
        "asyncio.run(SendsOnce().run(json.loads(sys.argv[1])))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, json.dumps(scene)),
        env={**os.environ, **peer.environ(), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    peer.creating.append("hang-after")
    peer.on_arrival = lambda _: process.send_signal(signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGKILL
    assert len(peer.texts) == 1

    for name, value in peer.environ().items():
        monkeypatch.setenv(name, value)
    await scenario.run(scene)
    assert await scenario.observe(scene) == ["SENT", [True]]
    assert peer.asked == 1
