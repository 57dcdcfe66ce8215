"""Delays and the gate for log lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processors.rules.pauses import LogGate, jittered_ms, reconnect_delay_s

DRAWS = st.floats(0, 1, exclude_max=True)


@given(base_ms=st.integers(1, 3_600_000), draw=DRAWS)
def test_jitter_stays_within_half_and_one_and_a_half(base_ms: int, draw: float) -> None:
    assert max(1, base_ms // 2) <= jittered_ms(base_ms, draw) <= base_ms * 3 // 2 + 1


@given(failures=st.integers(1, 10**9), draw=DRAWS)
def test_reconnect_delay_is_bounded_for_ever(failures: int, draw: float) -> None:
    assert 0.05 <= reconnect_delay_s(failures, draw, base_s=0.1, cap_s=5) <= 7.5


def test_reconnect_delay_doubles() -> None:
    delays = [reconnect_delay_s(n, 0.5, base_s=0.1, cap_s=0.5) for n in (1, 2, 3, 4, 5)]

    assert delays == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_gate_lets_the_first_line_through_then_one_per_interval() -> None:
    gate = LogGate(30)

    passed = [second for second in range(100) if gate.passes(second)]

    assert passed == [0, 30, 60, 90]
    gate.reset()
    assert gate.passes(100)
