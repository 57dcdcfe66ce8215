"""``limit list``, ``set``, ``shut``, ``open``, ``clear``, and ``order``."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import cast

import click

from engine.admin import Admin
from engine.admin.gates import SHUT_MS, told_rule
from engine.cli.frame import Frame, json_option, note, queue_argument
from engine.cli.gate_tables import print_limits
from engine.cli.output import age, due_ms, print_json
from engine.cli.queues import reason_option
from engine.core.limits import LimitRule, make_rule
from schemas.gates import OnDead
from schemas.stats import GateChange

name_argument = click.argument("name")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)/(\d{0,9})(s|sec|min|m|h|d)")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}


@click.group(invoke_without_command=False)
def limit() -> None:
    """
    Show and set what jobs of a queue may start, over all engines.

    \b
    Examples:
      python -m engine limit list message-delivery
      python -m engine limit set message-delivery queue --rate 100/s
    """  # noqa: D301 - click reads \b


@limit.command("list")
@queue_argument
@json_option
@click.pass_obj
def list_(frame: Frame, queue: str, as_json: bool) -> None:
    """
    List a queue's limits, and how they stand now.

    \b
    Example:
      python -m engine limit list message-delivery
    """  # noqa: D301 - click reads \b
    found = frame.operate(lambda admin: admin.limits(queue), known=False)
    if as_json:
        print_json(found)
    elif found:
        print_limits(found)
    else:
        note(f"queue {queue} has no limits")


@limit.command("set")
@queue_argument
@name_argument
@click.option("--rate", metavar="N/UNIT", help="Starts per time: 100/s, 6000/min, 10/5s, 3/h.")
@click.option("--burst", type=click.IntRange(1), help="Starts at once after a silence.")
@click.option("--concurrency", type=click.IntRange(0), default=0, help="Jobs at a time.")
@click.option("--by", default="", metavar="SOURCE", help="Of NAME=*: header:NAME or data:PATH.")
@click.option("--share", default="", metavar="SOURCE", help="Share it out by this, likewise.")
@click.option("--weight", "weights", multiple=True, metavar="SHARE=N", help="A share's weight.")
@reason_option
@json_option
@click.pass_obj
def set_(
    frame: Frame,
    /,
    *,
    queue: str,
    name: str,
    rate: str | None,
    burst: int | None,
    concurrency: int,
    by: str,
    share: str,
    weights: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """
    Set what a limit allows; engines follow within a second.

    NAME is `queue`, `type:TYPE`, a name that handlers use such as provider:sms,
    or GROUP=* for each value of a header or of a payload's field by itself;
    GROUP=VALUE sets one of these apart. What is left out is not bounded.

    \b
    Examples:
      python -m engine limit set message-delivery queue --rate 100/s --burst 20
      python -m engine limit set message-delivery provider:sms --concurrency 5
      python -m engine limit set message-delivery 'tenant=*' --by header:tenant --rate 600/min
      python -m engine limit set message-delivery queue --concurrency 50 --share header:tenant \
--weight acme=3
    """  # noqa: D301 - click reads \b
    amount, per_s = _rate(rate) if rate else (0.0, 1.0)
    group, sign, value = name.partition("=")
    # The rule of one group stands beside that of all of them, which says how jobs tell theirs.
    checked = group if sign and value != "*" else name
    rule = make_rule(
        checked,
        rate=amount,
        per_s=per_s,
        burst=burst,
        concurrency=concurrency,
        by=by,
        share=share,
        weights=_weights(weights),
    )
    if rule == LimitRule():
        raise click.UsageError("say what it allows: --rate, --concurrency")

    def change(admin: Admin) -> Awaitable[GateChange]:
        return admin.set_limit(queue, name, rule, reason=reason)

    _change(frame, change, as_json)


@limit.command()
@queue_argument
@name_argument
@click.option("--for", "length", metavar="SPAN", help="How long: 500ms, 30s, 15m; 1m if left out.")
@reason_option
@json_option
@click.pass_obj
def shut(
    frame: Frame, /, *, queue: str, name: str, length: str | None, reason: str, as_json: bool
) -> None:
    """
    Let nobody through a limit for a while.

    Handlers do the same when they meet a 429. Jobs that run go on; the others
    wait without spending an attempt.

    \b
    Example:
      python -m engine limit shut message-delivery provider:sms --for 10m --reason "429s"
    """  # noqa: D301 - click reads \b
    for_ms = _span_ms(length) if length else SHUT_MS

    def change(admin: Admin) -> Awaitable[GateChange]:
        return admin.shut_limit(queue, name, for_ms=for_ms, reason=reason)

    _change(frame, change, as_json)


@limit.command("open")
@queue_argument
@name_argument
@reason_option
@json_option
@click.pass_obj
def open_(frame: Frame, /, *, queue: str, name: str, reason: str, as_json: bool) -> None:
    """
    Open a limit before its time, whoever shut it.

    \b
    Example:
      python -m engine limit open message-delivery provider:sms
    """  # noqa: D301 - click reads \b

    def change(admin: Admin) -> Awaitable[GateChange]:
        return admin.open_limit(queue, name, reason=reason)

    _change(frame, change, as_json)


@limit.command()
@queue_argument
@name_argument
@reason_option
@json_option
@click.pass_obj
def clear(frame: Frame, /, *, queue: str, name: str, reason: str, as_json: bool) -> None:
    """
    Take a limit's rule away.

    One that the code declares comes back when an engine starts.

    \b
    Example:
      python -m engine limit clear message-delivery queue
    """  # noqa: D301 - click reads \b

    def change(admin: Admin) -> Awaitable[GateChange]:
        return admin.clear_limit(queue, name, reason=reason)

    _change(frame, change, as_json)


@click.command()
@queue_argument
@click.option(
    "--on-dead",
    type=click.Choice(["continue", "block"]),
    help="What a dead job does to the others of its key.",
)
@reason_option
@json_option
@click.pass_obj
def order(frame: Frame, /, *, queue: str, on_dead: str | None, reason: str, as_json: bool) -> None:
    """
    Show or set what becomes of the jobs behind a dead one of their key.

    With `continue` the next one goes on. With `block` they wait until the dead
    one is retried or discarded. Going back to `continue` lets them go.

    \b
    Examples:
      python -m engine order message-delivery
      python -m engine order message-delivery --on-dead block
    """  # noqa: D301 - click reads \b

    def change(admin: Admin) -> Awaitable[GateChange]:
        return admin.order(queue, cast(OnDead | None, on_dead), reason=reason)

    _change(frame, change, as_json)


def _change(frame: Frame, verb: Callable[[Admin], Awaitable[GateChange]], as_json: bool) -> None:
    done = frame.operate(verb, known=False)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done.queue}: {told(done)}")


def told(change: GateChange) -> str:
    """Say what was changed."""
    name, before, after = f"limit {change.limit}", change.before, change.after
    match change.what:
        case "limit-set" if change.changed:
            return f"{name} allows {told_rule(after)} now"
        case "limit-set":
            return f"{name} allowed {told_rule(after)} already"
        case "limit-clear":
            return f"{name} has no rule now; it was {told_rule(before)}"
        case "limit-shut":
            return f"{name} is shut and opens {age(int(after))}"
        case "limit-open" if change.changed:
            return f"{name} is open"
        case "limit-open":
            return f"{name} was not shut"
    kept = {
        "continue": "a dead job lets the next one of its key go on",
        "block": "a dead job blocks its key until it is retried or discarded",
    }
    freed = f"; {change.keys_let_go} blocked keys go on" if change.keys_let_go else ""
    return f"{kept[after]}{freed}"


def _rate(text: str) -> tuple[float, float]:
    """Read a rate: how many, per how many seconds."""
    found = _RATE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0 or found[2] == "0":
        raise click.UsageError(f"{text!r} is no rate such as 100/s, 6000/min or 10/5s")
    return float(found[1]), float(found[2] or 1) * _SECONDS[found[3]]


def _span_ms(text: str) -> int:
    try:
        at_ms, ms = due_ms(text)
    except ValueError:
        at_ms, ms = 1, 0
    if at_ms or not ms:
        raise click.UsageError(f"{text!r} is no span such as 500ms, 30s or 15m")
    return ms


def _weights(words: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not name or not (number.isascii() and number.isdigit()):
            raise click.UsageError(f"{word!r} is no weight such as acme=3")
        found[name] = int(number)
    return found
