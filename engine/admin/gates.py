"""Order by key, and limits: what operators set for a queue, live."""

from __future__ import annotations

from engine.admin.base import AdminBase, checked_queue
from engine.admin.explain import span
from engine.core.limits import NAME, LimitRule, read_rule
from engine.errors import EngineError, NotFound
from schemas.gates import LimitStats, OnDead
from schemas.rules import DELAY_MS_MAX
from schemas.stats import GateChange

SHUT_MS = 60_000
_UNBOUNDED = LimitRule().text()


class GateVerbs(AdminBase):
    """The verbs that steer order by key and limits; engines follow within a second."""

    async def limits(self, queue: str) -> list[LimitStats]:
        """List a queue's limits: those with a rule, those somebody waits for, those shut."""
        gates = (await self.queue(queue)).gates
        return gates.limits if gates else []

    async def set_limit(
        self, queue: str, name: str, rule: LimitRule, *, reason: str = ""
    ) -> GateChange:
        """
        Set what a limit allows, over all engines; wins over the code's own until cleared.

        Args:
            queue: The queue.
            name: ``queue``, ``type:<type>``, ``<group>=*``, or a name that handlers use.
            rule: The rule; see :func:`engine.core.limits.make_rule`.
            reason: Why, for the audit stream.
        """
        after = rule.text()
        before = await self._store.control.set(checked_queue(queue), {_field(name): after})
        return await self._noted("limit-set", (queue, name), before, after, reason)

    async def clear_limit(self, queue: str, name: str, *, reason: str = "") -> GateChange:
        """
        Take a limit's rule away: it bounds nothing until an engine that declares it starts.

        Raises:
            NotFound: It has no rule.
        """
        before = await self._store.control.set(checked_queue(queue), {_field(name): ""})
        if not before:
            raise NotFound(f"limit {name} of queue {queue} has no rule")
        await self._store.limits.forget(queue, name)
        return await self._noted("limit-clear", (queue, name), before, "", reason)

    async def shut_limit(
        self, queue: str, name: str, *, for_ms: int = SHUT_MS, reason: str = ""
    ) -> GateChange:
        """Let nobody through a limit for a while, as a handler does that meets a 429."""
        if not 1 <= for_ms <= DELAY_MS_MAX:
            raise EngineError(f"a limit can be shut for {span(DELAY_MS_MAX)} at most")
        field = _field(name)
        before = await self._store.limits.shut_until(checked_queue(queue), name)
        until_ms = await self._store.now_ms() + for_ms
        if "=" not in name:
            # Jobs ask for limits that have a rule, be it one without bounds.
            await self._store.control.set(queue, {field: _UNBOUNDED}, keep="*")
        await self._store.limits.shut(queue, name, until_ms)
        told = str(before or "")
        return await self._noted("limit-shut", (queue, name), told, str(until_ms), reason)

    async def open_limit(self, queue: str, name: str, *, reason: str = "") -> GateChange:
        """Open a limit that was shut, by an operator or by a handler that met a 429."""
        field = _field(name)
        before = await self._store.limits.shut_until(checked_queue(queue), name)
        await self._store.limits.open(queue, name)
        rule = await self._store.control.get(queue, field)
        if rule == _UNBOUNDED:
            await self._store.control.set(queue, {field: ""})
        told = str(before or "")
        return await self._noted("limit-open", (queue, name), told, "", reason)

    async def order(
        self, queue: str, on_dead: OnDead | None = None, *, reason: str = ""
    ) -> GateChange:
        """
        Set what a dead job does to the others of its key.

        Args:
            queue: The queue.
            on_dead: ``continue``: the next one goes on; ``block``: they wait until it is brought
                back or discarded. Going back to ``continue`` lets blocked keys go. None to ask.
            reason: Why, for the audit stream.
        """
        if on_dead is None:
            now = await self._store.control.get(checked_queue(queue), "on_dead")
            told = now if now == "block" else "continue"
            return GateChange(queue=queue, what="order", changed=False, before=told, after=told)
        value = "block" if on_dead == "block" else ""
        before = await self._store.control.set(checked_queue(queue), {"on_dead": value})
        # Also where it was so already: a command that was killed may have left keys blocked.
        let_go = 0 if value else await self._store.limits.unblock(queue)
        was = "block" if before == "block" else "continue"
        changed = was != on_dead or let_go > 0
        if changed:
            detail = {"before": was, "after": on_dead, "keys_let_go": let_go}
            await self._record(queue, "order", detail, reason)
        return GateChange(
            queue=queue,
            what="order",
            changed=changed,
            before=was,
            after=on_dead,
            keys_let_go=let_go,
        )

    async def _noted(
        self, what: str, limit: tuple[str, str], before: str, after: str, reason: str
    ) -> GateChange:
        queue, name = limit
        if before != after:
            detail = {"limit": name, "before": before, "after": after}
            await self._record(queue, what, detail, reason)
        return GateChange(
            queue=queue, what=what, changed=before != after, before=before, after=after, limit=name
        )


def _field(name: str) -> str:
    """Name the field of a limit's rule, a single group's own rule included."""
    group, sign, value = name.partition("=")
    known = NAME.fullmatch(group) and (not sign or (value and value.isprintable()))
    if not known or any(each.isspace() for each in name):
        raise EngineError(f"limit {name!r} must match {NAME.pattern}")
    return f"limit:{name}"


def told_rule(text: str) -> str:
    """Say a rule that stands in the control hash for people."""
    rule = read_rule(text)
    return rule.words() if rule else text or "no rule"
