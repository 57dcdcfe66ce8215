"""What the jobs of a simulated run are going to do."""

from __future__ import annotations

import random

import msgspec

from engine.core import outcome as was
from engine.core.policy import RetryPolicy, TypePolicy
from engine.registry import JobType
from engine.runtime.jobs import BoundType, LiveJob
from engine.telemetry import TypeMeter
from schemas.job import ErrorRecord
from schemas.rules import LANES

ATTEMPTS_MAX = 3
LOSSES_MAX = 3
POLICY = TypePolicy(
    retry=RetryPolicy(attempts_max=ATTEMPTS_MAX, base_ms=500, cap_ms=20_000),
    deliveries_lost_max=LOSSES_MAX,
)
ERROR = ErrorRecord(kind="Simulated")
# What engine failure and server time may do to any job.
_ALWAYS = frozenset({"crash-loop"})
_ENDS = {
    "good": {"done"},
    "flaky": {"done"},
    "hopeless": {"exhausted"},
    "slow": {"timeout"},
    "snoozer": {"done"},
    "asks-again": {"done"},
    "cancelled": {"cancelled"},
    "poison": set[str](),
    "delayed": {"done"},
    "short-lived": {"done", "expired"},
    "malformed": {"malformed"},
}
_OFTEN = ("good", "good", "good", "flaky", "flaky")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """
    One job's fate.

    Attributes:
        kind: What its handler does.
        lane: Where it is added.
        ends: The ends that are right for it.
        attempts_max: Attempts that it may spend.
        losses_max: Lost deliveries after which it is dead.
        run_ms: How long one run takes.
        turns: Failures, snoozes or retries before it succeeds.
        key: Its ordering key.
        unique: Its unique value.
        tenant: The group whose limit of jobs at a time it goes by.
        paced: Goes by a limit of starts in time.
        named: Asks a named limit inside its handler.
    """

    kind: str
    lane: str
    ends: frozenset[str]
    attempts_max: int = ATTEMPTS_MAX
    losses_max: int = LOSSES_MAX
    run_ms: int = 100
    turns: int = 1
    key: str = ""
    unique: str = ""
    tenant: str = ""
    paced: bool = False
    named: bool = False


def draw_plan(chance: random.Random) -> Plan:
    """Draw one job's fate."""
    kind = chance.choice([*_OFTEN, *_ENDS])
    return Plan(
        kind=kind,
        lane=chance.choice(LANES),
        ends=frozenset(_ENDS[kind]) | _ALWAYS,
        run_ms=chance.choice([0, 50, 2_000, 15_000]),
        turns=chance.randint(1, 2),
    )


def fields_of(job_id: str, plan: Plan, chance: random.Random) -> list[bytes]:
    """What the producer writes."""
    data = b"{broken" if plan.kind == "malformed" else b'{"n":1}'
    fields = [b"type", b"work", b"data", data, b"id", job_id.encode()]
    if plan.kind == "delayed":
        fields += [b"delay", b"%d" % chance.randint(1, 30_000)]
    if plan.kind == "short-lived":
        fields += [b"ttl", b"%d" % chance.randint(1, 60_000)]
    for name in ("key", "unique", "tenant"):
        if getattr(plan, name):
            fields += [name.encode(), getattr(plan, name).encode()]
    return [*fields, b"pace", b"fast"] if plan.paced else fields


def outcome_of(plan: Plan, job: LiveJob) -> was.Outcome:
    """How one run of a job ends, if its engine lives to see it."""
    snoozes = job.envelope.meta.snoozes if job.envelope and job.envelope.meta else 0
    match plan.kind:
        case "flaky" if job.attempt <= plan.turns:
            return was.Failed(ERROR)
        case "asks-again" if job.attempt <= plan.turns:
            return was.Retried(ERROR, after_ms=1_000)
        case "snoozer" if snoozes < plan.turns:
            return was.Snoozed(ERROR, after_ms=3_000)
        case "hopeless":
            return was.Failed(ERROR)
        case "slow":
            return was.TimedOut(ERROR)
        case "cancelled":
            return was.Cancelled(ERROR)
    return was.Completed()


async def _never(_job: LiveJob, _payload: object) -> None:
    raise AssertionError("simulated handlers are not called")


def bound_type() -> BoundType:
    """The one job type of simulated runs."""
    job_type = JobType(
        name="work",
        queue="simulated",
        function=_never,
        payload=dict,
        arguments=2,
        timeout_s=20.0,
        policy=POLICY,
        version=1,
        pool="loop",
        events=False,
    )
    return BoundType(job_type, _never, TypeMeter())


class Run(msgspec.Struct):
    """One job that runs until a moment."""

    job: LiveJob
    ends_ms: float


class Silent:
    """Takes what jobs tell of their progress, which is not simulated."""

    def progressed(self, job: LiveJob, percent: float, message: str) -> None:
        """Do nothing."""
