"""What arrived where: the closing tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from processors.database.statements import demo as statements
from processors.day.acts import Stage

Totals = dict[tuple[str, str], int]
"""Jobs ever, by type and outcome."""

OUTCOMES = ("done", "retried", "snoozed", "dead")


def totals_of(queues: Iterable[Any]) -> Totals:
    """Add up what queues count."""
    found: Totals = {}
    for queue in queues:
        for outcome, types in queue.totals.items():
            for job_type, count in types.items():
                found[job_type, outcome] = found.get((job_type, outcome), 0) + count
    return found


async def closing(stage: Stage, before: Totals, after: Totals) -> dict[str, Any]:
    """Gather what there is to tell."""
    database = stage.services.database
    people = [person.id for person in stage.cast.people]
    (messages,) = await database.fetch(statements.MESSAGES, list(stage.cast.places.values()))
    (notices,) = await database.fetch(statements.NOTIFICATIONS, people)
    deliveries = await database.fetch(statements.DELIVERIES, people)
    events: Counter[str] = Counter()
    for client in stage.clients:
        events.update(client.events)
    return {
        "jobs": {
            job_type: {
                outcome: after.get((job_type, outcome), 0) - before.get((job_type, outcome), 0)
                for outcome in OUTCOMES
            }
            for job_type in sorted({job_type for job_type, _ in after})
        },
        "channels": [
            {
                "channel": " ".join(filter(None, (row["channel"], row["provider"]))),
                "state": row["state"],
                "code": row["error_code"] or "",
                "count": row["n"],
            }
            for row in deliveries
        ],
        "messages": {name: int(value or 0) for name, value in messages.items()},
        "notifications": dict(notices.items()),
        "sockets": {"clients": len(stage.clients), **dict(sorted(events.items()))},
        "told": stage.told,
    }


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Print the closing tables."""
    console.print()
    console.print(
        _table(
            "Jobs of this day",
            ["type", *OUTCOMES],
            [[name, *map(str, counts.values())] for name, counts in found["jobs"].items()],
        )
    )
    console.print(
        _table(
            "What arrived where",
            ["channel", "state", "why", "count"],
            [
                [row["channel"], row["state"], row["code"], str(row["count"])]
                for row in found["channels"]
            ],
        )
    )
    messages, sockets = found["messages"], dict(found["sockets"])
    console.print(
        f"{messages['sent']} messages, {messages['sealed']} of them encrypted; "
        f"{messages['delivered']} deliveries, {messages['read']} read; "
        f"{sockets.pop('clients')} clients got "
        + ", ".join(f"{count} {kind}" for kind, count in sockets.items())
    )
    for what, told in found["told"].items():
        console.print(f"[bold]{what}[/bold]: {told}", highlight=False)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        is_text = number == 0 or column in {"state", "why"}
        table.add_column(column, justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*row)
    return table
