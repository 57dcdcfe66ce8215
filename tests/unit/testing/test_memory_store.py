"""What the memory store adds to the contract that tests/store holds it to."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import GroupMissing, StoreUnavailable
from engine.testing import ManualClock, MemoryStore, ServerModel, Signals, settle_loop
from tests.support.jobs import done, fields, settlement

QUEUE = "letters"


@pytest.fixture
async def store() -> MemoryStore:
    """Give an open store over a model of its own."""
    made = MemoryStore.on(ManualClock())
    await made.open(QUEUE)
    return made


def fail(verb: str, when: str) -> object:
    def faults(called: str, moment: str) -> None:
        if (called, moment) == (verb, when):
            raise StoreUnavailable("connection", "cut on purpose")

    return faults


async def test_a_fault_before_a_verb_leaves_the_model_as_it_was(store: MemoryStore) -> None:
    store.model.queue(QUEUE).add("normal", fields())
    store.faults = fail("fetch", "before")  # type: ignore[assignment]

    with pytest.raises(StoreUnavailable):
        await store.fetch(QUEUE, {"normal": 1})

    assert store.model.queue(QUEUE).waiting()["normal"] == 1


async def test_a_fault_after_a_verb_loses_the_reply(store: MemoryStore) -> None:
    store.model.queue(QUEUE).add("normal", fields())
    store.faults = fail("fetch", "after")  # type: ignore[assignment]

    with pytest.raises(StoreUnavailable):
        await store.fetch(QUEUE, {"normal": 1})

    store.faults = None
    assert len(await store.recover(QUEUE, {})) == 1


async def test_every_verb_yields_to_the_loop(store: MemoryStore) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await settle_loop()
    before = turns
    await store.control(QUEUE)
    counting.cancel()

    assert turns > before


async def test_a_blocked_read_goes_by_the_manual_clock(store: MemoryStore) -> None:
    assert isinstance(store.clock, ManualClock)
    waiting = asyncio.create_task(store.wait(QUEUE, ["normal"], 1, 1_000))

    await store.clock.advance(0.999)
    assert not waiting.done()
    await store.clock.advance(0.001)

    assert await waiting == []
    assert store.clock.sleeping == 0
    assert store.model.observers == []


async def test_a_blocked_read_hears_of_a_flush(store: MemoryStore) -> None:
    waiting = asyncio.create_task(store.wait(QUEUE, ["normal"], 1, 1_000))
    await settle_loop()

    store.model.queue(QUEUE).flush()

    with pytest.raises(GroupMissing):
        await waiting


async def test_what_a_handler_does_to_fields_stays_with_it(store: MemoryStore) -> None:
    store.model.queue(QUEUE).add("normal", fields())
    (lease,) = (await store.fetch(QUEUE, {"normal": 1})).leases

    lease.fields.clear()

    (again,) = await store.recover(QUEUE, {})
    assert again.fields == fields()


async def test_a_closed_store_is_not_used(store: MemoryStore) -> None:
    await store.close()

    with pytest.raises(AssertionError, match="close"):
        await store.control(QUEUE)


async def test_signals_tell_what_happened(store: MemoryStore) -> None:
    signals = Signals(store.model)
    reached = asyncio.create_task(signals.reached("done", 2))
    for _ in range(2):
        store.model.queue(QUEUE).add("normal", fields())
    leases = (await store.fetch(QUEUE, {"normal": 2})).leases
    await settle_loop()
    assert not reached.done()

    await store.settle(QUEUE, settlement(leases, done=[done("j1", "j2")]))

    await reached
    assert {name: signals.counts[name] for name in ("added", "leased", "ended", "done")} == {
        "added": 2,
        "leased": 2,
        "ended": 2,
        "done": 2,
    }
    signals.detach()
    assert store.model.observers == []


async def test_a_signal_that_never_comes_fails_the_test(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.testing.signals.LIMIT_S", 0.01)

    with pytest.raises(AssertionError, match="1 × dead"):
        await Signals(store.model).reached("dead")


def test_a_servers_clock_and_identity() -> None:
    model = ServerModel()
    model.advance(5_000)
    model.step(-3_600_000)
    before = model.state()
    model.restart(down_ms=1_000)
    after = model.state()

    assert before.uptime_ms == 5_000
    assert (after.uptime_ms, after.time_ms - before.time_ms) == (0, 1_000)
    assert before.run_id != after.run_id


def test_entry_ids_rise_while_the_clock_goes_back() -> None:
    model = ServerModel()
    queue = model.queue(QUEUE)
    first = queue.add("normal", fields())
    model.step(-60_000)

    assert [queue.add("normal", fields()) for _ in range(2)] == [
        first.replace(b"-0", b"-1"),
        first.replace(b"-0", b"-2"),
    ]
