"""``health``."""

from __future__ import annotations

import click

from engine.cli.frame import Frame, json_option
from engine.cli.output import clean, print_json
from schemas.stats import Finding, Health

UNHEALTHY = 1
UNREACHABLE = 3


@click.command()
@click.argument("names", nargs=-1, metavar="[QUEUE]...")
@json_option
@click.pass_obj
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
    if not queues:
        app = frame.app()
        queues = tuple(app.registry.queues()) if app else ()
    report = frame.operate(
        lambda admin: admin.health(queues, backlog_age_ms_max=settings.backlog_age_ms_max),
        known=False,
    )
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
        click.echo(f"well: {len(report.queues)} queues")
    elif report.healthy:
        click.echo(f"well enough: {len(report.queues)} queues, warnings only")


def _line(finding: Finding) -> str:
    colour = "red" if finding.severity == "error" else "yellow"
    return f"{click.style(finding.severity, fg=colour)}: {clean(finding.message)}"
