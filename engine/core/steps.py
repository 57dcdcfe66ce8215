"""
What charts show of a step of time, over all types and lanes: read, merged, added up. Pure.

Charts over a week for many queues read tens of thousands of these, hence the few fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from engine.core.numbers import LEVELS, WAIT, read_counts, read_levels, summed
from schemas.numbers import Levels

ENDED = ("done", "dead", "cancelled", "duplicate")
"""Outcomes that are ends for good; what somebody cancelled has failed nobody."""

_WAIT, _LEVELS = WAIT.encode(), LEVELS.encode()
_OUTCOMES = {name.encode(): name for name in ("retried", *ENDED)}


class Step(msgspec.Struct):
    """
    What a queue did within a minute, a quarter of an hour or an hour.

    Attributes:
        done, retried, dead, cancelled, duplicate: Attempts that ended so.
        wait: Jobs by the bucket of their time from entry to start, over all lanes.
        last: What the queue held at the end; None where nobody looked.
        most: The most of each that was seen.
    """

    done: int = 0
    retried: int = 0
    dead: int = 0
    cancelled: int = 0
    duplicate: int = 0
    wait: list[int] = []
    last: Levels | None = None
    most: Levels | None = None

    def count(self, outcome: str, times: int) -> None:
        """Count attempts that ended so; others than those above are of no interest."""
        if outcome in _COUNTED:
            setattr(self, outcome, getattr(self, outcome) + times)

    @property
    def ended(self) -> int:
        """Jobs that have ended for good."""
        return sum(getattr(self, outcome) for outcome in ENDED)


_COUNTED = frozenset(_OUTCOMES.values())


class _Kept(msgspec.Struct):
    """What of a quarter's record is of interest here; the rest is skipped while it is read."""

    ends: dict[str, dict[str, int]] = {}
    wait: dict[str, list[int]] = {}
    last: Levels | None = None
    most: Levels | None = None


_kept = msgspec.json.Decoder(_Kept)
_NOTHING = _Kept()


def read_steps(fields: Mapping[bytes, bytes], minutes: range) -> dict[int, Step]:
    """Read some minutes of the hash of an hour."""
    found: dict[int, Step] = {}
    for name, value in fields.items():
        minute, _, rest = name.partition(b":")
        kind, _, _ = rest.partition(b":")
        if not minute.isdigit() or int(minute) not in minutes:
            continue
        if kind in _OUTCOMES and value.isdigit():
            step = found.setdefault(int(minute), Step())
            step.count(_OUTCOMES[kind], int(value))
        elif kind == _WAIT:
            step = found.setdefault(int(minute), Step())
            step.wait = summed([step.wait, read_counts(value)])
        elif kind == _LEVELS:
            step = found.setdefault(int(minute), Step())
            step.last = step.most = read_levels(value)
    return found


def read_quarter_step(raw: bytes) -> Step | None:
    """Read what is kept of a quarter of an hour; None if nothing is known of it."""
    try:
        kept = _kept.decode(raw)
    except msgspec.MsgspecError:
        return None
    if kept == _NOTHING:
        return None
    step = Step(wait=summed(kept.wait.values()), last=kept.last, most=kept.most)
    for outcome, types in kept.ends.items():
        step.count(outcome, sum(types.values()))
    return step


def following(steps: Iterable[Step | None]) -> Step | None:
    """Put steps together that follow each other; None if nothing is known of any."""
    known = [step for step in steps if step is not None]
    if len(known) < 2:
        return known[0] if known else None
    total = _counted(known)
    total.last = next((step.last for step in reversed(known) if step.last is not None), None)
    most = [msgspec.structs.astuple(step.most) for step in known if step.most is not None]
    if most:
        total.most = Levels(*map(max, *most)) if len(most) > 1 else Levels(*most[0])
    return total


def together(steps: Iterable[Step | None]) -> Step | None:
    """Put the same step of several queues together: what they hold adds up, ages do not."""
    known = [step for step in steps if step is not None]
    if len(known) < 2:
        return known[0] if known else None
    total = _counted(known)
    total.last = _side_by_side([step.last for step in known])
    total.most = _side_by_side([step.most for step in known])
    return total


def _counted(steps: Sequence[Step]) -> Step:
    return Step(
        done=sum(step.done for step in steps),
        retried=sum(step.retried for step in steps),
        dead=sum(step.dead for step in steps),
        duplicate=sum(step.duplicate for step in steps),
        wait=summed(step.wait for step in steps),
    )


def _side_by_side(parts: Sequence[Levels | None]) -> Levels | None:
    rows = [msgspec.structs.astuple(part) for part in parts if part is not None]
    if not rows:
        return None
    *jobs, ages = zip(*rows, strict=True)
    return Levels(*[*map(sum, jobs), max(ages)])


def came(before: Levels | None, step: Step) -> int | None:
    """
    Estimate how many jobs came in: those that ended, and those that the queue holds more.

    Args:
        before: What it held at the end of the step before; None if that is unknown.
        step: What it did in this one, and holds at its end.
    """
    if before is None or step.last is None:
        return None
    # What people discard, and what is counted a moment early or late, must not count as less
    # than none.
    return max(0, step.ended + step.last.unended - before.unended)


def came_of(steps: Sequence[Step | None]) -> list[int | None]:
    """How many jobs came in, step by step from the second one on."""
    return [
        came(before.last if before is not None else None, step) if step is not None else None
        for before, step in pairwise(steps)
    ]
