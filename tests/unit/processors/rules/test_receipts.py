"""Folding a batch of receipts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from processors.rules.receipts import DELIVERED, READ, Claim, fold, instant, rank

START = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = st.none() | st.integers(0, 5).map(lambda hours: START + timedelta(hours=hours))
CLAIMS = st.lists(
    st.builds(
        Claim,
        message_id=st.integers(1, 4).map(lambda number: UUID(int=number)),
        user_id=st.integers(1, 2).map(lambda number: UUID(int=number)),
        rank=st.sampled_from([DELIVERED, READ]),
        delivered_at=TIMES,
        read_at=TIMES,
    ),
    max_size=12,
)


@given(claims=CLAIMS, data=st.data())
def test_folding_forgets_order_and_repeats(claims: list[Claim], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(claims + claims[::2]))

    assert fold(shuffled) == fold(claims)


@given(claims=CLAIMS)
def test_one_claim_per_message_and_recipient_in_locking_order(claims: list[Claim]) -> None:
    folded = fold(claims)

    places = [(claim.message_id, claim.user_id) for claim in folded]
    assert places == sorted({(claim.message_id, claim.user_id) for claim in claims})
    for claim in folded:
        same = [each for each in claims if each[:2] == claim[:2]]
        assert claim.rank == max(each.rank for each in same)
        known = [each.read_at for each in same if each.read_at is not None]
        assert claim.read_at == min(known, default=None)


def test_read_ranks_over_delivered() -> None:
    assert rank("read") > rank("delivered")


def test_times_come_as_iso_or_unix_ms() -> None:
    assert instant(1_767_225_600_001) == START + timedelta(milliseconds=1)
    assert instant(START) is START
    assert instant(None) is None
    assert instant(253_402_300_799_999) is not None
