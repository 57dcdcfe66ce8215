"""
One engine over a real server, made to do the same thing in the same order each time it is run.

Three things make an engine's batches depend on the machine: replies that overtake each other,
reads that block until something comes, and the clock. Here one verb of the store is under way at a
time, a blocking read begins when the workload says so, and the clock moves by hand. Nothing else is
changed: the engine is that of production with its default settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import Any, cast

import msgspec
import redis

from engine import App, Registry
from engine.runtime.engine import Engine
from engine.settings import EngineSettings
from engine.store.base import Lease, ServerState, Store
from engine.store.link import Link
from engine.store.redis import RedisStore, StoreSettings
from engine.testing import ManualClock
from engine.testing.clock import TURNS
from engine.wire.keys import QueueKeys

QUEUE = "guard"
KEYS = QueueKeys(QUEUE)
ROUNDS_MAX = 20_000
POST_TURNS = 100
BEHIND_MS = 600_000
PATIENCE_S = 300.0
"""A busy machine under a probe may take long to read a reply that has come."""

Entry = tuple[str, dict[str, str]]


class PacedStore(RedisStore):
    """
    A store with one verb under way at a time, whose blocking reads wait to be let.

    Attributes:
        reads: Released once for each blocking read that may begin.
        before_settling: Called before each settlement.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reads = asyncio.Semaphore(0)
        self.before_settling: Callable[[], None] = lambda: None
        self._turn = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None
        self._under_way = 0
        self._ended: asyncio.Future[None] | None = None

    async def wait(
        self, queue: str, lanes: Sequence[str], count: int, block_ms: int
    ) -> list[Lease]:
        await self.reads.acquire()
        return await self.in_turn(RedisStore.wait, queue, lanes, count, block_ms)

    async def server(self) -> ServerState:
        state: ServerState = await self.in_turn(RedisStore.server)
        # What the engine puts off for no time is due at once, however far its clock was moved.
        return msgspec.structs.replace(state, time_ms=state.time_ms - BEHIND_MS)

    async def in_turn(self, verb: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """Do a verb once those before it are done; what it calls itself belongs to it."""
        task = asyncio.current_task()
        if self._owner is task:
            return await verb(self, *args, **kwargs)
        self._under_way += 1
        try:
            async with self._turn:
                # Whatever else goes on is over when the server is asked, so that it makes no
                # difference how soon it answers.
                await _calm()
                self._owner = task
                if verb is RedisStore.settle:
                    self.before_settling()
                try:
                    return await verb(self, *args, **kwargs)
                finally:
                    self._owner = None
        finally:
            self._under_way -= 1
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(None)

    async def rest(self) -> None:
        """Wait until no verb is under way and none follows."""
        while True:
            for _ in range(TURNS):
                await _turn()
            if not self._under_way:
                return
            self._ended = asyncio.get_running_loop().create_future()
            await self._ended


def _calm(turns: int = TURNS, calm: asyncio.Future[None] | None = None) -> asyncio.Future[None]:
    """Return what is done after some turns of the loop."""
    loop = asyncio.get_running_loop()
    calm = calm or loop.create_future()
    if turns:
        loop.call_soon(_calm, turns - 1, calm)
    else:
        calm.set_result(None)
    return calm


def pace_posts(link: Link) -> None:
    """Let a connection's answers come in one at a time, each once all else is over."""
    post, latest = link.post, asyncio.get_running_loop().create_future()
    latest.set_result(None)

    def paced(*command: Any) -> Any:
        nonlocal latest
        *sent, told = command
        before, latest = latest, asyncio.get_running_loop().create_future()
        after = latest

        async def tell(*answer: Any) -> None:
            await before
            await _calm(POST_TURNS)
            told(*answer)
            after.set_result(None)

        return post(*sent, lambda *answer: telling.append(asyncio.ensure_future(tell(*answer))))

    # The loop itself keeps tasks by weak references alone.
    telling: list[asyncio.Future[None]] = []
    link.post = paced  # type: ignore[method-assign]


@types.coroutine
def _turn() -> Generator[None]:
    """Let the loop turn once, by no call that a probe would count."""
    yield


def _pace(name: str) -> None:
    verb = getattr(RedisStore, name)

    async def paced(self: PacedStore, *args: Any, **kwargs: Any) -> Any:
        return await self.in_turn(verb, *args, **kwargs)

    setattr(PacedStore, name, paced)


for _name in {name for base in Store.__mro__ for name in vars(base)} - {"wait", "server", "close"}:
    if inspect.iscoroutinefunction(getattr(RedisStore, _name, None)):
        _pace(_name)


class Tally:
    """Jobs that ended as they should, counted by their handlers."""

    done = 0


class Bench:
    """
    A running engine.

    Attributes:
        clock: Its time.
        store: Its store.
        tally: What its handlers counted.
        producer: A plain client, to put jobs into lanes.
    """

    def __init__(self, engine: Engine, store: PacedStore, clock: ManualClock, tally: Tally) -> None:
        self.engine = engine
        self.store = store
        self.clock = clock
        self.tally = tally

    def load(self, url: str, entries: Sequence[Entry]) -> None:
        """Put jobs into their lanes, all of one millisecond, so that their ids are as long."""
        with redis.Redis.from_url(url, protocol=2) as client:
            seconds, micros = cast(tuple[int, int], client.time())
            pipe = client.pipeline(transaction=False)
            for lane, fields in entries:
                pipe.xadd(KEYS.lane(lane), fields, id=f"{seconds * 1_000 + micros // 1_000}-*")
            pipe.execute()

    async def work_off(self, jobs: int) -> None:
        """Let the engine run until so many jobs more have ended and nothing is left in it."""
        wanted = self.tally.done + jobs
        for _ in range(ROUNDS_MAX):
            before = (self.tally.done, self.in_hand())
            self.store.reads.release()
            await self.store.rest()
            if not self.store.reads.locked():
                # The engine has not begun another read.
                await self.store.reads.acquire()
            if self.tally.done == wanted and not self.in_hand():
                return
            if (self.tally.done, self.in_hand()) == before:
                # It waits for its clock.
                await self.move(0.05)
        raise AssertionError(f"{wanted - self.tally.done} jobs have not ended")

    async def move(self, seconds: float) -> None:
        """Move the clock and let everything happen that is due by then."""
        self.clock.move(seconds)
        await self.store.rest()

    def in_hand(self) -> int:
        """Jobs that the engine holds."""
        return self.engine.runners[QUEUE].upkeep.inflight()


@contextlib.asynccontextmanager
async def running(url: str, build: Callable[[Tally], Registry]) -> AsyncIterator[Bench]:
    """Start an engine, and end it in order."""
    clock, tally = ManualClock(), Tally()
    patient = StoreSettings(timeout_s=PATIENCE_S, connect_timeout_s=PATIENCE_S)
    store = PacedStore.from_url(url, consumer="guard", monotonic=clock.monotonic, settings=patient)
    assert isinstance(store, PacedStore)
    # A blocking read that finds nothing takes this much real time, and nothing else depends on it.
    chosen = msgspec.convert({"redis_url": url, "http": "", "block_ms": 10}, EngineSettings)
    started = asyncio.Event()
    engine = Engine(chosen, App(build(tally)), store, clock, name="guard", on_started=started.set)
    task = asyncio.create_task(engine.run())
    await started.wait()
    await store.rest()
    try:
        yield Bench(engine, store, clock, tally)
    finally:
        engine.stop()
        while not task.done():
            # A read that was not let is waited for, like one that blocks.
            store.reads.release()
            await store.rest()
            clock.move(0.05)
        assert task.result() == 0
