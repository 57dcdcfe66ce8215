"""Jobs, one by one: pages of a state, and one job wherever it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import EngineError
from engine.store.operator.budget import Budget
from engine.store.operator.entry import INITIALS, Found, as_json, dead_entry
from engine.store.operator.flows import parent, tree
from engine.store.operator.hints import ENTRY, by_hint, lane_entry
from engine.store.operator.link import OperatorLink
from engine.store.operator.needle import Needle
from engine.store.operator.sieve import Chunk, sieve_of
from engine.store.operator.sources import Wanted, read
from engine.store.operator.wanted import check_position
from engine.wire.flows import CHILDREN
from engine.wire.keys import QueueKeys
from schemas.job import JobState
from schemas.rules import LANES
from schemas.story import ChildRow

NAMELESS = re.compile(r"([a-z])-([0-9]{1,19}-[0-9]{1,19})")
SEARCH_MAX = 100_000
"""Entries of one state that a search looks at, if not told otherwise."""

DECODED_MAX = 32
"""Decoded jobs after which a search looks at the time."""

AGAIN_MAX = 10_000
"""Entries above which a search that found nothing is not repeated."""

FLOW: tuple[JobState, ...] = (
    *("delayed", "parked", "waiting", "active", "waiting-children"),
    *("held", "dead", "done"),
)
"""The order in which a job is looked for: the way that jobs move, so that none slips by."""


CHILD_FAILED = "child-failed"


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """
    Within which types' jobs nobody may look for text; ``*`` is every type.

    Attributes:
        payloads: Types whose fields and results are left out.
        errors: Types whose errors are left out.
    """

    payloads: frozenset[str] = frozenset()
    errors: frozenset[str] = frozenset()

    def holds(self, found: Found, text: Needle) -> bool:
        """Tell whether the text stands within what may be searched of a job."""
        if not (self.payloads or self.errors):
            return found.holds(text)
        own = {found.type, "*"}
        # The error of a job whose child ended dead quotes that of the child, of whatever type.
        quotes = found.record is not None and found.record.reason == CHILD_FAILED
        seals_errors = bool(own & self.errors) or (quotes and bool(self.errors))
        # Fields of parents hold the payloads of their children, of whatever type; fields of jobs
        # that failed hold their errors.
        seals_fields = (
            seals_errors or bool(own & self.payloads) or found.field(CHILDREN) is not None
        )
        return found.holds(text, payload=not seals_fields, errors=not seals_errors)


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which jobs are meant.

    Attributes:
        type: The job's type; empty for all.
        id: The job's id; empty for all.
        text: Text anywhere within the job, whatever its case.
        sealed: Where the text is not looked for.
        lanes: Lanes.
        newest: The newest first.
        limit: Most jobs to return.
        search_max: Most jobs to look at.
        cursor: Where an earlier page ended.
        after_ms: Only what came, is due or ended at this Unix ms or later; 0 for no bound.
        before_ms: Only what came, is due or ended before this one; 0 for no bound.
    """

    type: str = ""
    id: str = ""
    text: str = ""
    sealed: Sealed = Sealed()
    lanes: Sequence[str] = LANES
    newest: bool = True
    limit: int = 50
    search_max: int = SEARCH_MAX
    cursor: str = ""
    after_ms: int = 0
    before_ms: int = 0


class Page(msgspec.Struct):
    """Jobs that a query found, how many it looked at, and where the next page begins."""

    jobs: list[Found]
    searched: int
    cursor: str


class JobReader:
    """Reads single jobs of all states."""

    def __init__(self, link: OperatorLink) -> None:
        self._link = link

    async def browse(
        self,
        queue: str,
        state: JobState,
        query: Query,
        *,
        types: Sequence[str] = (),
        budget: Budget | None = None,
    ) -> Page:
        """
        Return the jobs of one state that fit a query.

        Args:
            queue: The queue.
            state: The state.
            query: Which jobs.
            types: Types whose held streams are read.
            budget: How long to search; what was found by then is returned.

        Raises:
            EngineError: The cursor is none that an earlier page gave.
        """
        wanted = Wanted(
            keys=QueueKeys(queue),
            lanes=query.lanes,
            types=types,
            newest=query.newest,
            position=query.cursor,
            after_ms=query.after_ms,
            before_ms=query.before_ms,
        )
        try:
            check_position(state, query.cursor)
            return await self._collect(state, wanted, query, budget)
        except ValueError:
            raise EngineError(f"{query.cursor!r} is no cursor of this list") from None

    async def _collect(
        self, state: JobState, wanted: Wanted, query: Query, budget: Budget | None
    ) -> Page:
        page = Page([], 0, "")
        look = _Look(page, query, budget)
        async for chunk in read(self._link, state, wanted):
            if budget is not None and page.searched:
                if budget.over():
                    return page
                await budget.breathe()
            if not look.through(chunk):
                # There is more; `cursor` names the last one looked at.
                return page
        page.cursor = ""
        return page

    async def find(
        self,
        queue: str,
        job_id: str,
        *,
        types: Sequence[str] = (),
        search_max: int = SEARCH_MAX,
        every: bool = False,
        hint: str = "",
        budget: Budget | None = None,
    ) -> Page:
        """
        Look for a job by id in all states.

        Args:
            queue: The queue.
            job_id: Its id, or the entry id of a dead letter.
            types: Types whose held streams are read.
            search_max: Most entries of one state to look at.
            every: Go on after the first one; producers may use an id twice.
            hint: Where it was, as :attr:`Found.hint` says it.
            budget: How long to search.
        """
        page = Page([], 0, "")
        direct = await by_hint(self._link, queue, hint, job_id) or await self.direct(queue, job_id)
        if direct is not None and not every:
            return Page([direct], 1, "")
        query = Query(id=job_id, search_max=search_max, limit=20)
        # A retry moves a job against the order of the search, so a short one is done twice.
        for _ in range(2):
            for number, state in enumerate(FLOW):
                part_of = budget.part(len(FLOW) - number) if budget else None
                part = await self.browse(queue, state, query, types=types, budget=part_of)
                page.searched += part.searched
                page.jobs += part.jobs
                page.cursor = page.cursor or part.cursor
                if page.jobs and not every:
                    return page
            if page.jobs or page.searched > AGAIN_MAX or (budget is not None and budget.over()):
                break
        return page

    async def direct(self, queue: str, job_id: str) -> Found | None:
        """Look where an id points that the engine gave: at an entry of a lane or dead stream."""
        keys = QueueKeys(queue)
        if ENTRY.fullmatch(job_id):
            entries = await self._link.one(b"XRANGE", keys.dead, job_id, job_id)
            return dead_entry(queue, *entries[0]) if entries else None
        waits = await parent(self._link, keys, job_id)
        if waits is not None:
            return waits
        named = NAMELESS.fullmatch(job_id)
        if named is None or named[1] not in INITIALS:
            return None
        found = await self.at(queue, INITIALS[named[1]], named[2])
        return found if found is not None and found.id == job_id else None

    async def at(self, queue: str, stream: str, entry: str) -> Found | None:
        """Read one entry of a lane, or of its jobs that gates let through, waiting or active."""
        return await lane_entry(self._link, queue, stream, entry)

    async def children(self, found: Found) -> list[ChildRow]:
        """Tell what is known of a job's children."""
        return await tree(self._link, found)

    async def progress(self, queue: str, job_id: str) -> object:
        """Return a running job's last report, or None."""
        return as_json(await self._link.one(b"HGET", QueueKeys(queue).progress, job_id))


class _Look:
    """Fills a page with the jobs that fit a query."""

    def __init__(self, page: Page, query: Query, budget: Budget | None) -> None:
        self._page = page
        self._query = query
        self._budget = budget
        self._text = Needle(query.text) if query.text else None
        self._sieve = sieve_of(type_=query.type, job_id=query.id, text=query.text)

    def through(self, chunk: Chunk[Any]) -> bool:
        """Look through a chunk; False says that page or time ended before it."""
        page, decoded, before = self._page, 0, self._page.searched
        for found in chunk.sifted(self._sieve):
            if self._is_full() or (decoded >= DECODED_MAX and self._is_over()):
                break
            page.searched += 1
            if found is None:
                continue
            decoded = decoded % DECODED_MAX + 1
            if self._fits(found):
                page.jobs.append(found)
        number = page.searched - before
        if number:
            page.cursor = chunk.position(number - 1)
        return number == len(chunk)

    def _is_full(self) -> bool:
        page, query = self._page, self._query
        return len(page.jobs) == query.limit or page.searched == query.search_max

    def _is_over(self) -> bool:
        return self._budget is not None and self._budget.over()

    def _fits(self, found: Found) -> bool:
        query = self._query
        return (
            (len(query.lanes) == len(LANES) or found.lane in query.lanes)
            and (not query.type or found.type == query.type)
            and (not query.id or found.id == query.id)
            and (not query.after_ms or found.at_ms >= query.after_ms)
            and (not query.before_ms or found.at_ms < query.before_ms)
            and (self._text is None or query.sealed.holds(found, self._text))
        )


__all__ = ["ENTRY", "FLOW", "JobReader", "Page", "Query", "Sealed"]
