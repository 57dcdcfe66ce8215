"""A schedule as it is kept in ``mq:{Q}:schedules``, and as operators see it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from schemas.stats import View

CatchUp = Literal["none", "last", "all"]
Source = Literal["code", "operator"]


class Schedule(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """
    One schedule: what it makes, when, and how far it has come.

    A record with a field that this version does not know is left alone, since it would lose that
    field at its next tick.

    Attributes:
        type: The type of its jobs.
        data: Their payload, as its producer wrote it.
        lane: Their lane.
        fields: Further fields of the wire for each job, such as ``key``, and headers.
        cron: Five fields, or an empty string.
        tz: The IANA zone in which ``cron`` is read.
        every_ms: Interval in ms, counted from the Unix epoch; 0 for none.
        at: The only tick, Unix ms; 0 for none.
        catch_up: Which ticks are fired that nobody could fire at their time.
        jitter_ms: Most by which a tick is put off.
        paused: No tick is fired.
        source: Who owns it: the code of an app, or operators.
        app: The app that declares it; empty for operators' ones.
        next_ms: The tick that comes next, Unix ms, without its jitter; 0 where it has not been
            worked out, or will never come.
        last_ms: The tick that was fired last.
        ticks: Ticks fired.
        ended: There is no further tick.
    """

    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    lane: str = "normal"
    fields: dict[str, str] = {}
    cron: str = ""
    tz: str = "UTC"
    every_ms: int = 0
    at: int = 0
    catch_up: CatchUp = "last"
    jitter_ms: int = 0
    paused: bool = False
    source: Source = "operator"
    app: str = ""
    next_ms: int = 0
    last_ms: int = 0
    ticks: int = 0
    ended: bool = False


class ScheduleView(View, frozen=True, kw_only=True):
    """
    One schedule as operators see it.

    Attributes:
        queue: Its queue.
        name: Its name.
        when: Its times in plain words; empty if it cannot be read.
        state: ``on``, ``paused``, ``ended``, or ``broken`` where it cannot be read.
        next: When it fires next, in plain words.
        next_ms: The same as Unix ms, jitter included; 0 for never.
        upcoming: Its next ticks, Unix ms, without jitter.
        problem: Why it cannot be read, or why nobody fires it.
        type, data, lane, fields, cron, tz, every_ms, at, catch_up, jitter_ms, source, app,
            last_ms, ticks: See :class:`Schedule`.
    """

    queue: str
    name: str
    when: str
    state: Literal["on", "paused", "ended", "broken"]
    next: str = ""
    next_ms: int = 0
    upcoming: list[int] = msgspec.field(default_factory=list)
    problem: str = ""
    type: str = ""
    data: Any = None
    lane: str = ""
    fields: dict[str, str] = msgspec.field(default_factory=dict)
    cron: str = ""
    tz: str = ""
    every_ms: int = 0
    at: int = 0
    catch_up: str = ""
    jitter_ms: int = 0
    source: str = ""
    app: str = ""
    last_ms: int = 0
    ticks: int = 0


class Preview(View, frozen=True, kw_only=True):
    """
    The ticks that times would have.

    Attributes:
        when: The times in plain words.
        ticks: The next ticks, Unix ms.
        words: The same for people, in the zone of the times.
    """

    when: str
    ticks: list[int]
    words: list[str]


class ScheduleChanged(View, frozen=True, kw_only=True):
    """
    What became of a change.

    Attributes:
        queue: The queue.
        name: The schedule.
        what: ``schedule-add``, ``-change``, ``-pause``, ``-resume``, ``-run`` or ``-delete``.
        changed: False where it was so already.
        job: The id of the job, where one was enqueued.
        now: The schedule as it is now; None where it is gone.
    """

    queue: str
    name: str
    what: str
    changed: bool
    job: str = ""
    now: ScheduleView | None = None
