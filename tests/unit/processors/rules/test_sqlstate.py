"""Classes of PostgreSQL errors."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.rules.sqlstate import Meaning, meaning

TABLE = {
    Meaning.OUTAGE: "08000 08003 08006 25006 53000 53100 53200 53300 57P01 57P02 57P03 57P05 58030",
    Meaning.CONTENTION: "23505 40001 40P01 40003 55P03 57014 25P03 25P04",
    Meaning.PERMANENT: "23502 23514 22001 22003 22021 22P02 22P05 42601 42804 42P02 54000 54001",
    Meaning.MISCONFIGURED: "28000 28P01 3D000 3F000 42501 42703 42704 42883 42P01 42P10",
    Meaning.SUPERSEDED: "23503",
    Meaning.UNKNOWN: "0A000 25P02 P0001 XX000 F0000",
}


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [(state, expected) for expected, states in TABLE.items() for state in states.split()],
)
def test_meaning(sqlstate: str, expected: Meaning) -> None:
    assert meaning(sqlstate) is expected


@given(sqlstate=st.text(max_size=7))
def test_any_text_has_a_meaning(sqlstate: str) -> None:
    assert isinstance(meaning(sqlstate), Meaning)


def test_every_error_that_the_client_knows_has_a_meaning() -> None:
    known = [
        found.sqlstate
        for found in vars(asyncpg.exceptions).values()
        if isinstance(found, type) and isinstance(getattr(found, "sqlstate", None), str)
    ]
    assert len(known) > 200
    assert {meaning(state) for state in known} == set(Meaning)
