"""Everything at a glance, as the page's overview shows it."""

from __future__ import annotations

from typing import Literal

from schemas.numbers import Rates, SparkLine
from schemas.stats import Audited, EngineStats, QueueStats, Server, View

Kind = Literal["bad", "warn", "well", "paused", "unknown"]


class StateWord(View, frozen=True, kw_only=True):
    """How something is: ``kind`` chooses sign and colour, ``word`` is shown."""

    kind: Kind
    word: str


class Verdict(View, frozen=True, kw_only=True):
    """
    Whether anything is wrong, in one line.

    Attributes:
        kind: The worst of what is.
        title: The line.
        note: What is as somebody wanted it, such as pauses; or what shows that all is well.
    """

    kind: Kind
    title: str
    note: str


class Trouble(View, frozen=True, kw_only=True):
    """
    One thing that is wrong.

    Attributes:
        key: Stays the same while the trouble lasts.
        kind: ``bad`` or ``warn``.
        check: Which check of ``health`` found it.
        queue: The queue, or an empty string.
        engine: The engine, or an empty string.
        schedule: The schedule, or an empty string.
        what: What is wrong.
        evidence: What shows it, and what follows from it.
        since_ms: Since when, Unix ms; where nothing tells, since this engine sees it.
        action: What to do, as a command or a sentence.
        href: Where that can be done; empty if nowhere on the page.
        button: What the link says.
    """

    key: str
    kind: Kind
    check: str
    queue: str = ""
    engine: str = ""
    schedule: str = ""
    what: str
    evidence: str = ""
    since_ms: int = 0
    action: str
    href: str = ""
    button: str = ""


class Totals(View, frozen=True, kw_only=True):
    """
    All queues together.

    Attributes:
        oldest_ms: Age of the oldest waiting job of all queues that are not paused.
        oldest_queue: Its queue.
        waiting: Jobs that wait.
        waiting_growth_s: How many more per second; null while unknown.
        done_s: Jobs done per second; null while unknown.
        dead_hour: Jobs that died within the last hour; null while unknown.
        dead: Dead letters.
        engines_live: Engines that beat.
        engines: Engines that were heard of within the last minute.
        slow: Live engines whose loop is late.
        versions: Engines per version.
    """

    oldest_ms: int
    oldest_queue: str
    waiting: int
    waiting_growth_s: float | None
    done_s: float | None
    dead_hour: int | None
    dead: int
    engines_live: int
    engines: int
    slow: int
    versions: dict[str, int]


class Slots(View, frozen=True, kw_only=True):
    """Places for running jobs of a queue over all live engines: ``busy`` out of ``all``."""

    busy: int
    all: int


class QueueGlance(View, frozen=True, kw_only=True):
    """
    One queue.

    Attributes:
        stats: What it holds.
        state: How it is.
        slots: Places for its jobs.
        rate: How fast it goes.
        spark: Its last hour.
        empty_in_ms: When nothing will wait any more at this pace; null where ``empty`` says why.
        empty: The same in words.
    """

    stats: QueueStats
    state: StateWord
    slots: Slots
    rate: Rates
    spark: SparkLine
    empty_in_ms: int | None
    empty: str


class EngineGlance(EngineStats, frozen=True, kw_only=True):
    """
    One engine, with how it is.

    Attributes:
        state: How it is.
        running: Jobs that run in it.
        concurrency: Jobs that it may run at a time.
        load: The share of its places that are taken, to the percent.
    """

    state: StateWord
    running: int
    concurrency: int
    load: float


class Overview(View, frozen=True, kw_only=True):
    """
    Everything at a glance.

    Attributes:
        at_ms: When it was read, by the server's clock, Unix ms.
        age_ms: How old it is, where newer ones cannot be read; else 0.
        trouble: Why there is no newer one, or an empty string.
        verdict: Whether anything is wrong.
        troubles: What is wrong, the worst first.
        totals: All queues together.
        queues: The queues by name.
        order: Their names, the worst first.
        engines: Some engines by name, the worst ones.
        engine_order: Their names, the worst first.
        server: The Redis or Valkey server.
        happened: What people changed lately, the newest first.
    """

    at_ms: int
    age_ms: int = 0
    trouble: str = ""
    verdict: Verdict
    troubles: list[Trouble]
    totals: Totals
    queues: dict[str, QueueGlance]
    order: list[str]
    engines: dict[str, EngineGlance]
    engine_order: list[str]
    server: Server
    happened: list[Audited]
