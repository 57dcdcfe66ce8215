"""Cancelled jobs in the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from engine.errors import Malformed
from engine.store.base import Summoned
from engine.testing.queue_state import UpkeepModel
from engine.testing.streams import parse_id
from engine.wire.codec import META, with_meta
from engine.wire.keys import RELEASED
from engine.wire.packing import pack, unpack
from engine.wire.tombstones import mark, read_tombstone
from schemas.job import Meta, Tombstone
from schemas.rules import LANES


class CancelsModel(UpkeepModel):
    """The verbs for cancelled jobs."""

    def cancel(self, job_id: str, *, who: str = "", reason: str = "", ahead: bool = False) -> None:
        """Lay a tombstone, as operators and producers do."""
        # The clock may have been set back since these jobs came; their ids never go back.
        at_ms = max(int(self.now_ms()), *(stream.last[0] for stream in self.lanes.values()))
        tombstone = Tombstone(who=who, reason=reason, at_ms=at_ms, ahead=ahead)
        self.cancelled[job_id] = msgspec.json.encode(tombstone)

    def tombstones(self) -> Mapping[str, Tombstone]:
        """What :meth:`engine.store.base.Store.control` tells of cancelled jobs."""
        return {job_id: read_tombstone(raw) for job_id, raw in self.cancelled.items()}

    def summon(self, types: Iterable[str], *, count: int) -> Summoned:
        """See :meth:`engine.store.base.Store.summon`; each call is a whole round."""
        del count
        moved = 0
        for packed in list(self.delayed):
            marked = self._marked(packed)
            if marked:
                del self.delayed[packed]
                self._bring_back(marked)
                moved += 1
        for lane in LANES:
            for member in list(self.parked[lane]):
                # Line, ticket, and packed: what it asks for, then its fields.
                fields = unpack(member.split(b"\0", 2)[2])[1:]
                marked = self._marked(pack([lane.encode(), *fields]))
                if marked:
                    self.parked[lane].remove(member)
                    self._bring_back(marked)
                    moved += 1
        for name in types:
            entries = self.held[name].entries if name in self.held else {}
            for entry in list(entries):
                marked = self._marked(entries[entry][1])
                if marked:
                    del entries[entry]
                    self._bring_back(marked)
                    moved += 1
        return Summoned(moved=moved, ended=True)

    def forget(self, ids: Sequence[str], *, age_ms_min: int) -> int:
        """See :meth:`engine.store.base.Store.forget`."""
        now_ms = int(self.now_ms())
        heads = [next(iter(stream.entries), None) for stream in self.streams.values()]
        oldest_ms = min([now_ms, *(parse_id(head)[0] for head in heads if head is not None)])
        dropped = 0
        for job_id in [each for each in ids if each in self.cancelled]:
            stone = read_tombstone(self.cancelled[job_id])
            if not stone.at_ms:
                stone = msgspec.structs.replace(stone, at_ms=now_ms, ahead=True)
                self.cancelled[job_id] = msgspec.json.encode(stone)
            elif now_ms - stone.at_ms >= age_ms_min and oldest_ms > stone.at_ms:
                del self.cancelled[job_id]
                dropped += 1
        return dropped

    def move_waiting(self, lane: str, entry: bytes, *, to: str, due_ms: int | None = None) -> bool:
        """
        Move an entry that waits to another lane or time, as operators do.

        Returns:
            False if an engine has it, or it is gone; nothing was changed then.
        """
        stream = self.lanes[lane]
        line = stream.group.pending.get(entry) if stream.group else None
        if entry not in stream.entries or (line is not None and line.consumer != RELEASED):
            return False
        fields = stream.entries.pop(entry)
        if stream.group:
            stream.group.pending.pop(entry, None)
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        meta = Meta(
            id=found.get(b"id", f"{lane[0]}-{entry.decode()}".encode()).decode(),
            enqueued_ms=parse_id(entry)[0],
        )
        if META in found:
            meta = msgspec.json.decode(found[META], type=Meta)
        meta = msgspec.structs.replace(meta, lost=meta.lost + (line.deliveries if line else 0))
        self._put(pack([to.encode(), *with_meta(fields, meta)]), due_ms)
        return True

    def move_delayed(self, packed: bytes, *, to: str, due_ms: int | None = None) -> bool:
        """Move a job of the delayed set likewise."""
        if packed not in self.delayed:
            return False
        del self.delayed[packed]
        self._put(pack([to.encode(), *unpack(packed)[1:]]), due_ms)
        return True

    def _put(self, packed: bytes, due_ms: int | None) -> None:
        if due_ms is None:
            self._bring_back(packed)
        else:
            self.delayed[packed] = due_ms

    def _marked(self, packed: bytes) -> bytes:
        """Return a cancelled job with its tombstone; empty for others."""
        try:
            fields = unpack(packed)
            raw = dict(zip(fields[1::2], fields[2::2], strict=True)).get(META, b"")
            meta = msgspec.json.decode(raw, type=Meta)
        except (Malformed, ValueError):
            return b""
        stone = self.cancelled.get(meta.id)
        if stone is None or not read_tombstone(stone).stops(meta.enqueued_ms):
            return b""
        meta = msgspec.structs.replace(meta, cancelled=mark(stone))
        # Those with their turn come to their lane, too: their ends give back what they hold.
        lane = fields[0].partition(b":")[0]
        return pack([lane, *with_meta(fields[1:], meta)])

    def _bring_back(self, packed: bytes) -> None:
        raise NotImplementedError
