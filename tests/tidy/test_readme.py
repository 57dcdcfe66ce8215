"""The documents say what the code says: settings, commands, metrics, fields, keys, links."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from engine import __version__
from engine.cli import main
from engine.configuration import describe
from engine.core import decision, outcome
from engine.settings import PREFIX, EngineSettings
from engine.telemetry import EngineCollector, Meters, QueueMeter, Sizes
from engine.wire import codec, keys
from processors import settings as processor_settings
from schemas.job import DeadRecord
from schemas.rules import LANES
from tests.tidy.sources import ROOT

README = (ROOT / "README.md").read_text()
FLOW = (ROOT / "engine" / "FLOW.md").read_text()
PROCESSORS_README = (ROOT / "processors" / "README.md").read_text()
ENGINE_README = (ROOT / "engine" / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "engine" / "README.md",
    ROOT / "engine" / "FLOW.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "processors" / "README.md",
    ROOT / "deploy" / "RUNBOOK.md",
]

ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
COMMAND = re.compile(r"python -m engine((?: +[^\s`|#]+)*)")
VARIABLE = re.compile(r"\bENGINE_[A-Z_]+\b")
KEPT_OUT_OF_SETTINGS = {"ENGINE_CONFIG", "ENGINE_REDIS_URL_FILE", "ENGINE_HTTP_TOKENS_FILE"}


def between(document: str, name: str) -> str:
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", document, re.DOTALL)
    assert found, f"the document has no part marked {name!r}"
    return found[1]


def settings_table() -> str:
    rows = describe(msgspec.convert({}, EngineSettings), {}, PREFIX)
    lines = [
        f"| `{row.variable}` | {f'`{row.value}`' if row.value else ''} | {row.meaning} |"
        for row in rows
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *lines]) + "\n"


def processor_table() -> str:
    rows = processor_settings.described({})
    lines = [f"| `{row.variable}` | {row.meaning} |" for row in rows]
    return "\n".join(["| variable | meaning |", "|---|---|", *lines]) + "\n"


@pytest.mark.parametrize(
    ("document", "name", "table"),
    [
        (README, "settings", settings_table()),
        (PROCESSORS_README, "processor settings", processor_table()),
    ],
    ids=["engine", "processors"],
)
def test_the_document_lists_every_setting(document: str, name: str, table: str) -> None:
    assert between(document, name) == table, f"put this between the marks:\n{table}"


def test_the_readme_names_no_setting_that_is_not_there() -> None:
    there = {PREFIX + name.upper() for name in EngineSettings.__struct_fields__}

    assert set(VARIABLE.findall(README)) - there - KEPT_OUT_OF_SETTINGS == set()


def test_the_readme_lists_every_command() -> None:
    flow = set(ROW.findall(FLOW)) & commands().keys()
    in_brief = [name.split()[0] if name in flow else name for name in commands()]

    assert ROW.findall(between(README, "commands")) == list(dict.fromkeys(in_brief))


def test_the_readme_lists_every_metric() -> None:
    meters = Meters(["connection"])
    meters.queues["q"] = QueueMeter(["t"], LANES)
    meters.queues["q"].types["t"].batches = Sizes()
    families = list(EngineCollector(meters, __version__).collect())
    endings = {"counter": "_total", "info": "_info"}
    wanted = {
        f"{family.name}{endings.get(family.type, '')}": {
            label for sample in family.samples for label in sample.labels
        }
        - {"le"}
        for family in families
    }
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*)\|", between(README, "metrics"), re.MULTILINE)

    assert {name: set(labels.replace(",", " ").split()) for name, labels in rows} == wanted


def test_the_readme_lists_every_field_of_the_wire() -> None:
    listed = set(ROW.findall(between(README, "fields")))

    ours = {name for name in codec._KNOWN if name.startswith(b"_")}
    assert {name.encode() for name in listed} == codec._KNOWN - ours


def test_the_readme_lists_every_reason_for_being_dead() -> None:
    told = re.search(r"reason: Why it is dead: (.*?)\.", DeadRecord.__doc__ or "", re.DOTALL)
    assert told
    listed = re.findall(r"^\| `([\w-]+)` \|", section(README, "### Dead letters"), re.MULTILINE)

    assert set(listed) == set(re.findall(r"``([\w-]+)``", told[1]))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_a_document_exist_with_their_options(document: Path) -> None:
    known = commands()
    for words in COMMAND.findall(document.read_text()):
        name, options = read_command(words.split(), known)
        if name == "COMMAND":
            continue
        assert name in known or name == "", f"there is no command {name!r}"
        have = {option for each in known[name or "run"].params for option in each.opts}
        assert set(options) - have - {"--help"} == set(), f"of {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_a_document_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_engine_s_document_lists_every_key() -> None:
    rows = set(ROW.findall(between(ENGINE_README, "keys")))
    queue = keys.QueueKeys("Q")
    lane = "<lane>"
    wanted = {
        *(
            getattr(queue, name)
            for name in queue.__slots__
            if name not in {"lanes", "queue", "streams"}
        ),
        queue.lane("normal").replace("normal", lane),
        queue.held("<type>"),
        queue.minutes(0).replace(":0", ":<hour>"),
        queue.quarters(0).replace(":0", ":<day>"),
        queue.producer("<name>"),
        queue.flow("<flow>"),
        queue.operation("<id>"),
        queue.operation_due("<id>"),
        queue.plan("<id>"),
        *(make("normal").replace("normal", lane) for make in (queue.busy, queue.parked)),
        queue.lane(keys.READY["normal"]).replace("normal", lane),
        "mq:{Q}:reply:<any>",
        keys.ENGINES,
        keys.AUDIT,
        f"{keys.PAGE_SESSION}<hash>",
    } - {queue.producers}

    assert rows == wanted


def test_the_engine_s_document_lists_every_outcome_and_decision() -> None:
    table = between(ENGINE_README, "decisions")

    assert set(ROW.findall(table)) == set(union_of(outcome.Outcome))
    assert set(re.findall(r"\*\*(\w+)\*\*", table)) == set(union_of(decision.Decision))


def union_of(kind: object) -> list[str]:
    return [each.__name__ for each in kind.__args__]  # type: ignore[attr-defined]


def commands() -> dict[str, click.Command]:
    """List all commands by name, those of groups by both words."""
    found: dict[str, click.Command] = {}
    assert isinstance(main, click.Group)
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {each}": made for each, made in command.commands.items()}
        else:
            found[name] = command
    return found


def read_command(words: list[str], known: dict[str, click.Command]) -> tuple[str, list[str]]:
    options = [word for word in words if word.startswith("--")]
    pair = " ".join(words[:2])
    if pair in known:
        return pair, options
    return (words[0] if words and not words[0].startswith("-") else ""), options


def section(document: str, heading: str) -> str:
    rest = document.partition(f"\n{heading}\n")[2]
    assert rest, f"there is no {heading!r}"
    return re.split(r"\n#{1,3} ", rest)[0]


def anchors(document: str) -> set[str]:
    """List what headings are called in links."""
    headings = re.findall(r"^#+ +(.+)$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
