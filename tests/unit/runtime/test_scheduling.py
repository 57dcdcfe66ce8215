"""Declared schedules are put in place, due ones fired, and strangers' records do no harm."""

from __future__ import annotations

import msgspec
import pytest

from engine import Registry
from engine.errors import RegistryError, StoreRefused
from engine.runtime.outage import Outage
from engine.runtime.scheduling import Scheduling
from engine.store.schedules import encode_schedule
from engine.telemetry import Meters, QueueMeter
from engine.testing import EngineHarness, ManualClock, MemoryStore
from engine.testing.clock import START_MS
from schemas.rules import LANES
from schemas.schedule import Schedule

QUEUE = "letters"
APP = "shop:app"
EVERY = Schedule(type="pack", every_ms=10_000)


class Bench:
    """One or more engines' schedulers over one model, stepped by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore.on(self.clock)
        self.queue = self.store.model.queue(QUEUE)
        self.meter = QueueMeter(["pack"], LANES)

    def engine(self, declared: dict[str, Schedule] | None = None, app: str = APP) -> Scheduling:
        outage = Outage(self.clock, Meters([]), wait_ms_max=10, on_change=lambda *_: None)
        return Scheduling(
            self.store,
            QUEUE,
            declared or {},
            app=app,
            clock=self.clock,
            meter=self.meter,
            outage=outage,
        )

    def record(self, name: str = "n") -> Schedule:
        return msgspec.json.decode(self.queue.schedules[name.encode()], type=Schedule)

    def ids(self, lane: str = "normal") -> list[str]:
        rows = self.queue.lanes[lane].entries.values()
        return [row[row.index(b"id") + 1].decode() for row in rows]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_the_code_declares_is_put_in_place_and_fired(bench: Bench) -> None:
    engine = bench.engine({"n": EVERY})

    assert 0 < await engine.step() <= 1
    assert bench.record().next_ms == START_MS + 10_000
    assert (bench.record().source, bench.record().app) == ("code", APP)
    bench.clock.move(10.0)
    await engine.step()

    assert bench.ids() == [f"n:{START_MS + 10_000}"]
    assert (bench.record().ticks, bench.meter.schedule_ticks, bench.meter.schedules) == (1, 1, 1)
    (row,) = bench.queue.lanes["normal"].entries.values()
    assert row[:4] == [b"type", b"pack", b"data", b"{}"]
    assert row[6:] == [b"schedule", b"n", b"tick", b"%d" % (START_MS + 10_000)]


async def test_two_engines_fire_a_tick_once(bench: Bench) -> None:
    engines = [bench.engine({"n": EVERY}) for _ in range(2)]
    for _ in range(5):
        for engine in engines:
            await engine.step()
        bench.clock.move(10.0)
    for engine in engines:
        await engine.step()

    assert bench.ids() == [f"n:{START_MS + at * 10_000}" for at in range(1, 6)]


async def test_a_new_version_of_the_code_changes_and_removes(bench: Bench) -> None:
    await bench.engine({"n": EVERY, "gone": EVERY}).step()
    bench.clock.move(5.0)

    await bench.engine({"n": Schedule(type="pack", every_ms=4_000, lane="low")}).step()

    assert set(bench.queue.schedules) == {b"n"}
    assert (bench.record().every_ms, bench.record().lane) == (4_000, "low")
    assert bench.record().next_ms == START_MS + 8_000


async def test_a_restart_keeps_the_place_so_that_missed_ticks_are_known(bench: Bench) -> None:
    declared = {"n": Schedule(type="pack", every_ms=10_000, catch_up="all")}
    await bench.engine(declared).step()
    bench.clock.move(35.0)

    await bench.engine(declared).step()

    assert bench.ids() == [f"n:{START_MS + at * 10_000}" for at in (1, 2, 3)]


async def test_schedules_of_other_apps_and_of_operators_stay(bench: Bench) -> None:
    await bench.engine({"theirs": EVERY}, app="other:app").step()
    bench.queue.schedules[b"ours"] = b'{"type":"pack","every_ms":60000}'

    await bench.engine({"ours": EVERY}).step()

    assert set(bench.queue.schedules) == {b"theirs", b"ours"}
    assert bench.record("ours").every_ms == 60_000


async def test_a_record_written_by_hand_is_worked_out_and_fired(bench: Bench) -> None:
    engine = bench.engine()
    await engine.step()
    bench.queue.schedules[b"n"] = b'{"type":"pack","cron":"* * * * *","data":{"a":1.50}}'
    bench.clock.move(1.0)
    await engine.step()
    assert bench.record().next_ms == START_MS + 60_000

    bench.clock.move(59.0)
    await engine.step()

    assert bench.ids() == [f"n:{START_MS + 60_000}"]
    (row,) = bench.queue.lanes["normal"].entries.values()
    assert row[3] == b'{"a":1.50}'


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        (b"n", b""),
        (b"n", b"\xff"),
        (b"n", b"[" * 100_000),
        (b"n", b'{"type":"pack"}'),
        (b"n", b'{"type":"pack","every_ms":5000,"corn":"x"}'),
        (b"n", b'{"type":"pack","cron":"* * * * *","tz":"Nowhere"}'),
        (b"n", b'{"type":"pack","cron":"a b c d e"}'),
        (b"n", b'{"type":"Not A Type","every_ms":5000}'),
        (b"n", b'{"type":"pack","every_ms":5000,"data":[1]}'),
        (b"n", b'{"type":"pack","every_ms":5000,"lane":"fast"}'),
        (b"n", b'{"type":"pack","every_ms":5000,"next_ms":1e300}'),
        (b"n", b'{"type":"pack","every_ms":5000,"fields":{"id":"mine"}}'),
        (b"n", b'{"type":"pack","every_ms":5000,"fields":{"at":"5"}}'),
        (b"n", b'{"type":"pack","every_ms":5000,"fields":{"attempts":"many"}}'),
        (b"n", b'{"type":"pack","every_ms":5000,"fields":{"x":"\\ud800"}}'),
        (b"two words", b'{"type":"pack","every_ms":5000}'),
        (b"\xff", b'{"type":"pack","every_ms":5000}'),
    ],
)
async def test_a_record_that_makes_no_sense_harms_nobody(
    bench: Bench, name: bytes, raw: bytes
) -> None:
    """Goal: it is counted and left alone, and the others go on."""
    bench.queue.schedules[name] = raw
    bench.queue.schedules[b"well"] = encode_schedule(EVERY)
    engine = bench.engine()
    await engine.step()
    bench.clock.move(10.0)
    await engine.step()

    assert bench.queue.schedules[name] == raw
    assert (bench.meter.schedules, bench.meter.schedules_broken) == (2, 1)
    assert bench.ids() == [f"well:{START_MS + 10_000}"]


async def test_another_type_in_the_place_of_the_schedules_stops_nothing(bench: Bench) -> None:
    engine = bench.engine({"n": EVERY})

    def refuse(verb: str, moment: str) -> None:
        if verb == "schedules":
            raise StoreRefused("wrongtype", "not a hash")

    bench.store.faults = refuse
    assert await engine.step() == pytest.approx(1.0)
    assert bench.meter.schedules_broken == 1

    bench.store.faults = None
    bench.clock.move(1.0)
    await engine.step()
    assert (bench.meter.schedules, bench.meter.schedules_broken) == (1, 0)


async def test_a_server_that_lost_its_data_gets_the_declared_ones_again(bench: Bench) -> None:
    engine = bench.engine({"n": EVERY})
    await engine.step()
    bench.queue.flush()
    bench.clock.move(1.0)
    await engine.step()

    assert bench.record().next_ms == START_MS + 10_000


async def test_what_an_operator_does_is_followed_within_a_second(bench: Bench) -> None:
    engine = bench.engine({"n": EVERY})
    await engine.step()
    paused = msgspec.structs.replace(bench.record(), paused=True)
    bench.queue.schedules[b"n"] = encode_schedule(paused)
    bench.clock.move(10.0)
    await engine.step()
    assert bench.ids() == []

    bench.queue.schedules.clear()
    bench.clock.move(1.0)
    await bench.engine().step()
    assert bench.meter.schedules == 0


async def test_many_missed_ticks_are_made_up_for_in_steps(bench: Bench) -> None:
    engine = bench.engine({"n": Schedule(type="pack", every_ms=1_000, catch_up="all")})
    await engine.step()
    bench.clock.move(250.0)

    while await engine.step() < 0.1:
        bench.clock.move(0.001)

    assert bench.ids() == [f"n:{START_MS + at * 1_000}" for at in range(1, 251)]


async def test_an_engine_runs_what_its_schedules_make() -> None:
    registry = Registry()
    seen: list[tuple[str, str]] = []

    @registry.job("pack", queue=QUEUE)
    async def pack(job: object, payload: dict) -> None:  # type: ignore[type-arg]
        seen.append((job.id, job.headers["tick"]))  # type: ignore[attr-defined]

    registry.schedule("n", "pack", {"a": 1}, every_s=10)
    async with EngineHarness(registry) as engine:
        await engine.advance(31)

    assert [int(tick) - START_MS for _, tick in seen] == [10_000, 20_000, 30_000]
    assert [job_id for job_id, _ in seen] == [f"n:{tick}" for _, tick in seen]


class Parcel(msgspec.Struct):
    weight: int


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"payload": {"weight": "heavy"}}, "does not fit pack"),
        ({"payload": {"weight": 1}, "cron": "61 * * * *"}, "Bad minute"),
        ({"payload": {"weight": 1}, "every_s": 0.1}, "1 s to 10 years"),
        ({"payload": {"weight": 1}}, "give one of"),
        ({"payload": {"weight": 1}, "every_s": 5, "lane": "fast"}, "lane"),
        ({"payload": {"weight": 1}, "every_s": 5, "fields": {"attempts": "0"}}, "attempts"),
        ({"payload": {"weight": 1}, "every_s": 5, "catch_up": "some"}, "catch-up"),
        ({"payload": {"weight": float("nan")}, "every_s": 5}, "does not fit pack"),
        ({"job_type": "post", "every_s": 5}, "register the job type"),
        ({"name": "a b", "payload": {"weight": 1}, "every_s": 5}, "schedule name"),
    ],
)
def test_a_wrong_declaration_is_refused(given: dict[str, object], told: str) -> None:
    registry = Registry()

    @registry.job("pack", queue=QUEUE)
    async def pack(job: object, payload: Parcel) -> None: ...

    wanted = {"name": "n", "job_type": "pack", "cron": "", **given}
    if "every_s" not in given and not wanted["cron"] and "does not fit" in told:
        wanted["every_s"] = 5
    with pytest.raises(RegistryError, match=told):
        registry.schedule(**wanted)  # type: ignore[arg-type]
    assert registry.schedules == {}


def test_a_name_is_declared_once() -> None:
    registry = Registry()

    @registry.job("pack", queue=QUEUE, version=3)
    async def pack(job: object, payload: dict) -> None: ...  # type: ignore[type-arg]

    registry.schedule("n", "pack", every_s=5)
    with pytest.raises(RegistryError, match="declared already"):
        registry.schedule("n", "pack", every_s=6)
    assert registry.schedules["n"].fields == {"v": "3"}
