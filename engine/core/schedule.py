"""
When schedules tick. Pure: the time is an argument, and chance is drawn from the tick itself.

Cron expressions follow Debian's cron, DST included: a time that the clocks skip fires at the next
one that exists, a time that comes twice fires once, and a minute or hour field that begins with
``*`` follows the time that really passes.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from engine.errors import ScheduleError
from schemas.schedule import Schedule

CRON_CHARS_MAX = 256
EVERY_MS_MIN = 1_000
EVERY_MS_MAX = 10 * 366 * 86_400_000
JITTER_MS_MAX = 86_400_000
MOMENT_MS_MAX = 4_102_444_800_000
"""The year 2100."""

LATE_MS = 15_000
"""A tick that is fired later than this was missed, and its schedule's policy says what follows."""

CATCH_UP_MAX = 1_000
"""Missed ticks that are made up for; older ones are dropped."""

FIRED_MAX = 100
"""Ticks of one schedule that are fired by one call."""

HOUR_MS = 3_600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY_NTH = re.compile(r"\*/([1-9]\d?) \* \* \* \*")


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is to be done for one schedule now.

    Attributes:
        ticks: The ticks to fire, oldest first; may be empty.
        due_ms: From when on that is allowed, by the server's clock.
        after: The schedule afterwards; None where nothing is left of it.
        dropped: Missed ticks that are passed over, as far as they were counted.
    """

    ticks: list[int]
    due_ms: int
    after: Schedule | None
    dropped: int


def check(spec: Schedule) -> None:
    """
    Check a schedule's times.

    Raises:
        ScheduleError: They make no sense, or never come.
    """
    given = [bool(spec.cron), bool(spec.every_ms), bool(spec.at)]
    if sum(given) != 1:
        raise ScheduleError("give one of: a cron expression, an interval, one moment")
    zone(spec.tz)
    if spec.every_ms and not EVERY_MS_MIN <= spec.every_ms <= EVERY_MS_MAX:
        raise ScheduleError(f"an interval must be 1 s to 10 years, not {spec.every_ms} ms")
    if not 0 <= spec.jitter_ms <= JITTER_MS_MAX:
        raise ScheduleError(f"jitter must be 0 to 24 hours, not {spec.jitter_ms} ms")
    for moment in (spec.at, spec.next_ms, spec.last_ms):
        if not 0 <= moment <= MOMENT_MS_MAX:
            raise ScheduleError(f"{moment} is no moment in Unix ms between 1970 and 2100")
    if spec.cron and not _comes_true(spec.cron, spec.tz):
        raise ScheduleError(f"the cron expression {spec.cron!r} never comes true")


@lru_cache(maxsize=2_048)
def _comes_true(cron: str, tz: str) -> bool:
    return tick_after(Schedule(type="", cron=cron, tz=tz), 0) > 0


@lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """
    Find a time zone.

    Raises:
        ScheduleError: There is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        # Names of directories and of no zone at all come out as one of these.
        raise ScheduleError(f"there is no time zone {name!r}; say it as in Europe/Berlin") from None


def ticks(spec: Schedule, after_ms: int) -> Iterator[int]:
    """Yield the ticks after a moment in Unix ms, strictly rising."""
    if spec.at:
        if spec.at > after_ms:
            yield spec.at
    elif spec.every_ms:
        tick = (after_ms // spec.every_ms + 1) * spec.every_ms
        while tick <= MOMENT_MS_MAX:
            yield tick
            tick += spec.every_ms
    else:
        yield from _cron_ticks(spec, after_ms)


def _cron_ticks(spec: Schedule, after_ms: int) -> Iterator[int]:
    # From within the minute before clocks are put forward, the library does not find a tick of that
    # very moment, so it begins on an hour well before.
    begin_ms = (after_ms // HOUR_MS - 1) * HOUR_MS
    start = _EPOCH + timedelta(milliseconds=begin_ms)
    last = after_ms
    for moment in _cron(spec.cron, start.astimezone(zone(spec.tz))):
        tick = round(moment.timestamp()) * 1000
        if tick > MOMENT_MS_MAX:
            return
        # Where clocks are put back, a time that came once is found again.
        if tick > last:
            yield tick
            last = tick


def _cron(expression: str, start: datetime) -> CronSim:
    if len(expression.split()) != 5 or len(expression) > CRON_CHARS_MAX:
        raise ScheduleError(
            f"the cron expression {expression[:80]!r} must have five fields: "
            "minute, hour, day of month, month, day of week"
        )
    try:
        return CronSim(expression, start)
    except CronSimError as error:
        raise ScheduleError(f"the cron expression {expression!r} is wrong: {error}") from None
    except Exception as error:  # noqa: BLE001 - a stranger's text in a parser that is not ours
        raise ScheduleError(f"the cron expression {expression!r} is wrong ({error})") from None


def tick_after(spec: Schedule, moment_ms: int) -> int:
    """Return the first tick after a moment, or 0."""
    return next(ticks(spec, moment_ms), 0)


def planned(spec: Schedule, now_ms: int) -> Schedule:
    """Return a schedule that begins now, with its first tick worked out."""
    first = spec.at or tick_after(spec, now_ms)
    return msgspec.structs.replace(spec, next_ms=first, ended=not first)


def declared(old: Schedule | None, new: Schedule, now_ms: int) -> Schedule:
    """Return what becomes of a schedule that is declared again: changed times begin anew."""
    if old is None:
        return planned(new, now_ms)
    kept = msgspec.structs.replace(
        new, paused=old.paused, last_ms=old.last_ms, ticks=old.ticks, next_ms=0, ended=False
    )
    if _times(old) != _times(new) or not (old.next_ms or old.ended):
        return planned(kept, now_ms)
    return msgspec.structs.replace(kept, next_ms=old.next_ms, ended=old.ended)


def resumed(spec: Schedule, now_ms: int) -> Schedule:
    """Return a schedule that goes on: its ticks of the pause are not wanted any more."""
    on = msgspec.structs.replace(spec, paused=False)
    return on if on.at else planned(on, now_ms)


def _times(spec: Schedule) -> tuple[str, str, int, int]:
    return spec.cron, spec.tz, spec.every_ms, spec.at


def due_ms(name: str, spec: Schedule) -> int:
    """Return when the next tick is to be fired, jitter included; 0 for never."""
    if spec.paused or spec.ended or not spec.next_ms:
        return 0
    return _fires_ms(name, spec, spec.next_ms)


def jitter_ms(name: str, tick: int, bound: int) -> int:
    """Draw by how much a tick is put off, 0 to ``bound``; every engine draws the same."""
    if bound <= 0:
        return 0
    drawn = hashlib.blake2b(f"{name}:{tick}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(drawn) % (bound + 1)


def _fires_ms(name: str, spec: Schedule, tick: int) -> int:
    """Return when a tick is to be fired: never as late as the tick after it."""
    if not spec.jitter_ms:
        return tick
    following = tick_after(spec, tick)
    bound = min(spec.jitter_ms, following - tick - 1) if following else spec.jitter_ms
    return tick + jitter_ms(name, tick, bound)


def firing(name: str, spec: Schedule, now_ms: int, *, bytes_max: int = 1_048_576) -> Firing | None:
    """
    Decide which ticks of a schedule to fire, and what it looks like afterwards.

    Args:
        name: The schedule's name.
        spec: The schedule, with its next tick worked out.
        now_ms: Unix ms by the server's clock.
        bytes_max: Payloads that are fired together, if they are more than one.

    Returns:
        None where nothing is due.
    """
    if not 0 < due_ms(name, spec) <= now_ms:
        return None
    due = _due(name, spec, now_ms)
    late = [tick for tick in due if now_ms - _fires_ms(name, spec, tick) > LATE_MS]
    fresh = due[len(late) :]
    match spec.catch_up:
        case "all":
            most = max(1, min(FIRED_MAX, bytes_max // len(bytes(spec.data))))
            fired, rest = due[:most], due[most:]
        case "last":
            fired, rest = fresh or late[-1:], []
        case "none":
            fired, rest = fresh, []
    following = rest[0] if rest else tick_after(spec, due[-1])
    after = msgspec.structs.replace(
        spec,
        next_ms=following,
        ended=not following,
        last_ms=fired[-1] if fired else spec.last_ms,
        ticks=spec.ticks + len(fired),
    )
    return Firing(
        ticks=fired,
        due_ms=_fires_ms(name, spec, (fired or due)[-1]),
        # A one-off of an app stays, lest the app's next start bring it back.
        after=None if not following and spec.source == "operator" else after,
        dropped=len(due) - len(fired) - len(rest),
    )


def _due(name: str, spec: Schedule, now_ms: int) -> list[int]:
    """The ticks that are due, the latest :data:`CATCH_UP_MAX` of them."""
    first = spec.next_ms
    found = [first, *islice(_until(ticks(spec, first), now_ms), CATCH_UP_MAX)]
    if len(found) > CATCH_UP_MAX:
        found = _latest(spec, first, now_ms)
    # Only the last can be put off beyond now, since none is put off beyond the next.
    if len(found) > 1 and _fires_ms(name, spec, found[-1]) > now_ms:
        found.pop()
    return found


def _latest(spec: Schedule, first: int, now_ms: int) -> list[int]:
    """The latest ticks up to now, looked for in ever longer spans that end now."""
    span = 1_000 * CATCH_UP_MAX
    while True:
        since = max(first - 1, now_ms - span)
        found = deque(_until(ticks(spec, since), now_ms), maxlen=CATCH_UP_MAX)
        if len(found) == CATCH_UP_MAX or since < first:
            return list(found) or [first]
        span *= 2


def _until(rising: Iterator[int], end_ms: int) -> Iterator[int]:
    for tick in rising:
        if tick > end_ms:
            return
        yield tick


def words(spec: Schedule) -> str:
    """Say in plain words when a schedule ticks."""
    if spec.at:
        return f"once, {moment_words(spec.at, spec.tz)} {spec.tz}"
    if spec.every_ms:
        text = f"every {_interval(spec.every_ms).removeprefix('1 ')}"
    else:
        text = f"{_cron_words(spec.cron)} {spec.tz}"
    if spec.jitter_ms:
        text += f", up to {_interval(spec.jitter_ms)} later"
    return text


def moment_words(moment_ms: int, tz: str, *, now_ms: int = 0) -> str:
    """Write a moment in a zone, for people: the year only where it is not this one."""
    at = (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone(tz))
    now = (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(zone(tz))
    year = "" if at.year == now.year else " %Y"
    seconds = ":%S" if at.second else ""
    return at.strftime(f"%a %d %b{year} %H:%M{seconds}")


def _cron_words(expression: str) -> str:
    nth = _EVERY_NTH.fullmatch(expression.strip())
    if nth and 60 % int(nth[1]) == 0:
        return f"every {nth[1]} minutes" if nth[1] != "1" else "every minute"
    told = _cron(expression, _EPOCH).explain()
    told = told[:1].lower() + told[1:]
    at, _, days = told.partition(" on ")
    if days == "Monday through Friday":
        return f"every weekday {at}"
    if told.endswith(" every day"):
        return f"every day {told.removesuffix(' every day')}"
    return told


def _interval(ms: int) -> str:
    for unit, size in (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000)):
        if ms % size == 0:
            return f"{ms // size} {unit}{'s' * (ms != size)}"
    return f"{ms / 1000:g} second{'s' * (ms != 1000)}"
