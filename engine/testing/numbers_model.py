"""The minute counters of a queue of the model."""

from __future__ import annotations

from engine.core.numbers import (
    LEVELS,
    counts_text,
    levels_text,
    quarter_of,
    read_counts,
    read_minutes,
    summed,
)
from engine.core.numbers import MINUTES_PER_QUARTER as QUARTER
from engine.store.numbers import Tally, by_hour, days_of, quarters_over
from engine.testing.queue_state import QueueState
from schemas.numbers import HOUR_MS, MINUTE_MS


class NumbersModel(QueueState):
    """The verbs about numbers, and what settlements count."""

    def tally(self, consumer: str, tally: Tally) -> bool:
        """See :meth:`engine.store.numbers.NumberStore.tally`."""
        hour = self.minutes.setdefault(self.keys.minutes(tally.at_ms), {})
        if int(hour.get(f"@{consumer}", b"0")) >= tally.sequence:
            return False
        minute = tally.at_ms // MINUTE_MS
        for name, counts in tally.counts.items():
            before = read_counts(hour.get(f"{minute}:{name}", b""))
            hour[f"{minute}:{name}"] = counts_text(summed([before, counts])).encode()
        if tally.levels is not None:
            hour[f"{minute}:{LEVELS}"] = levels_text(tally.levels).encode()
        hour[f"@{consumer}"] = b"%d" % tally.sequence
        return True

    def sum_up(self, now_ms: int) -> int:
        """See :meth:`engine.store.numbers.NumberStore.sum_up`."""
        days = days_of(self.keys, quarters_over(now_ms))
        missing = [
            quarter
            for key, quarters in days.items()
            for quarter in quarters
            if quarter not in self.quarters.get(key, {})
        ]
        added = 0
        for hour, quarters in by_hour(missing).items():
            fields = self.minutes.get(self.keys.minutes(hour * HOUR_MS))
            if not fields:
                continue
            minutes = read_minutes({name.encode(): value for name, value in fields.items()})
            for key, few in days_of(self.keys, quarters).items():
                kept = self.quarters.setdefault(key, {})
                kept.update({quarter: quarter_of(minutes, quarter) for quarter in few})
                added += len(few)
        return added

    def count_end(self, at_ms: int, counter: str, count: int) -> None:
        """Count attempts that ended, ever and in their minute."""
        self.stats[counter] += count
        self._count(at_ms, f"{at_ms // MINUTE_MS}:{counter}", count)

    def count_death(self, at_ms: int, fingerprint: str) -> None:
        """Count a death of a group in its quarter of an hour."""
        minute = at_ms // MINUTE_MS
        self._count(at_ms, f"{minute - minute % QUARTER}:deaths:{fingerprint}", 1)

    def _count(self, at_ms: int, field: str, count: int) -> None:
        hour = self.minutes.setdefault(self.keys.minutes(at_ms), {})
        hour[field] = b"%d" % (int(hour.get(field, b"0")) + count)
