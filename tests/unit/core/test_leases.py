"""When leases are renewed, when they count as lost, and when idle time can be believed."""

from __future__ import annotations

from engine.core.leases import RELEASED_IDLE_MS, LeaseTimes, ReclaimGate

LEASE_MS = 30_000
TIMES = LeaseTimes(lease_ms=LEASE_MS, renew_ms=10_000)
ONLY_RELEASED_MS = RELEASED_IDLE_MS // 2


class Server:
    """What a gate is told: a server's identity and clock beside our own."""

    def __init__(self, gate: ReclaimGate, *, run_id: str = "one", uptime_ms: float = 10**9) -> None:
        self.gate = gate
        self.run_id = run_id
        self.uptime_ms = uptime_ms
        self.server_ms = 1_763_769_600_000.0
        self.monotonic_ms = 5_000.0
        self.observe()

    def observe(self, *, later_ms: float = 0.0, step_ms: float = 0.0) -> int:
        self.monotonic_ms += later_ms
        self.uptime_ms += later_ms
        self.server_ms += later_ms + step_ms
        self.gate.observe(
            run_id=self.run_id,
            server_ms=self.server_ms,
            uptime_ms=self.uptime_ms,
            monotonic_ms=self.monotonic_ms,
        )
        return self.gate.idle_ms_min(self.monotonic_ms)


def test_a_lease_wants_a_sign_of_life_at_the_renewal_age() -> None:
    assert not TIMES.needs_renewal(9_999)
    assert TIMES.needs_renewal(10_000)


def test_a_job_starts_only_under_a_lease_with_time_left() -> None:
    assert TIMES.may_start(26_999)
    assert not TIMES.may_start(27_000)


def test_a_lease_is_renewed_past_the_limit_for_one_lease() -> None:
    """A handler that blocks the loop past its limit is still running."""
    assert TIMES.keeps_running(run_ms=1_000 + LEASE_MS, limit_ms=1_000)
    assert not TIMES.keeps_running(run_ms=1_001 + LEASE_MS, limit_ms=1_000)


def test_idle_times_of_a_server_that_has_run_for_long_are_believed() -> None:
    server = Server(ReclaimGate(LEASE_MS))

    assert server.observe() == LEASE_MS


def test_a_server_that_has_just_started_is_doubted_for_one_lease() -> None:
    """Its idle times count the time that it was down."""
    server = Server(ReclaimGate(LEASE_MS), uptime_ms=LEASE_MS - 1)

    assert server.observe(later_ms=LEASE_MS - 1) == ONLY_RELEASED_MS
    assert server.observe(later_ms=1) == LEASE_MS


def test_a_new_run_id_is_doubted_whatever_its_uptime() -> None:
    """Another server may have taken over, with a clock of its own."""
    server = Server(ReclaimGate(LEASE_MS))
    server.run_id = "two"

    assert server.observe() == ONLY_RELEASED_MS
    assert server.observe(later_ms=LEASE_MS) == LEASE_MS


def test_a_step_of_the_servers_clock_is_doubted() -> None:
    for step_ms in (3_600_000, -3_600_000, 1_001, -1_001):
        server = Server(ReclaimGate(LEASE_MS))
        assert server.observe(later_ms=5_000, step_ms=step_ms) == ONLY_RELEASED_MS
        assert server.observe(later_ms=LEASE_MS) == LEASE_MS


def test_a_clock_that_drifts_a_little_is_believed() -> None:
    server = Server(ReclaimGate(LEASE_MS))

    for _ in range(100):
        assert server.observe(later_ms=1_000, step_ms=900) == LEASE_MS


def test_a_reconnect_is_doubted_for_one_lease() -> None:
    gate = ReclaimGate(LEASE_MS)
    server = Server(gate)

    gate.close(server.monotonic_ms)

    assert server.observe(later_ms=LEASE_MS - 1) == ONLY_RELEASED_MS
    assert server.observe(later_ms=1) == LEASE_MS


def test_doubts_never_end_sooner_by_a_second_doubt() -> None:
    gate = ReclaimGate(LEASE_MS)
    gate.close(100_000)
    gate.close(90_000)

    assert gate.idle_ms_min(129_999) == ONLY_RELEASED_MS
    assert gate.idle_ms_min(130_000) == LEASE_MS


def test_what_was_handed_back_may_always_be_taken() -> None:
    assert ONLY_RELEASED_MS < RELEASED_IDLE_MS
