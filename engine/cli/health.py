"""``health``."""

from __future__ import annotations

import sys

import click
import msgspec

from engine.admin.words import many
from engine.cli.completing import queue_names
from engine.cli.frame import Frame, json_option
from engine.cli.output import clean, print_json, styled
from engine.cli.watching import watchable
from engine.errors import RegistryError
from schemas.stats import Finding, Health

UNHEALTHY = 1
UNREACHABLE = 3


@click.command()
@click.argument("names", nargs=-1, metavar="[QUEUE]...", shell_complete=queue_names)
@json_option
@click.pass_obj
@watchable
def health(frame: Frame, names: tuple[str, ...], as_json: bool) -> int:
    """
    Look for anything that needs a person, for scripts and probes.

    Without a QUEUE it looks at the setting `queues`, else at all queues of the
    app; those of running engines are looked at too. Exits with 0 when well
    (warnings allowed), 1 when not, 3 when the server cannot be reached.

    \b
    Examples:
      python -m engine health
      python -m engine health message-delivery --json
    """  # noqa: D301 - click reads \b
    settings = frame.settings
    queues = names or settings.queues
    unknown: list[Finding] = []
    if not queues:
        try:
            queues = tuple(frame.app().registry.queues())
        except RegistryError as error:
            unknown.append(_unknown(error))
    report = frame.operate(
        lambda admin: admin.health(queues, backlog_age_ms_max=settings.backlog_age_ms_max),
        known=False,
    )
    report = msgspec.structs.replace(report, findings=[*report.findings, *unknown])
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if not report.reachable:
        return UNREACHABLE
    return 0 if report.healthy else UNHEALTHY


def _print_report(report: Health) -> None:
    for finding in report.findings:
        click.echo(_line(finding))
        click.echo(f"  {clean(finding.action)}")
    if not report.findings:
        click.echo(f"well: {many(len(report.queues), 'queue')}")
    elif report.healthy:
        click.echo(f"well enough: {many(len(report.queues), 'queue')}, warnings only")


def _unknown(error: RegistryError) -> Finding:
    return Finding(
        check="app",
        severity="warning",
        queue="",
        message=f"only queues of running engines were looked at, since {error}",
        action="name queues as arguments, or set ENGINE_QUEUES",
    )


def _line(finding: Finding) -> str:
    colour = "red" if finding.severity == "error" else "yellow"
    severity = styled(finding.severity, colour) if sys.stdout.isatty() else finding.severity
    return f"{severity}: {clean(finding.message)}"
