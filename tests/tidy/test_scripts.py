"""Every Lua script says what it takes and returns, and touches declared keys alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy.sources import SCRIPTS, name_of

KEYLESS = {"TIME"}
SUBCOMMANDS = {"XGROUP", "XINFO", "OBJECT", "MEMORY"}

DECLARED = re.compile(r"^-- +(KEYS|ARGV)\[(\d*)(?:-(\d+))?(…?)\] +\S", re.MULTILINE)
USED = re.compile(r"\b(KEYS|ARGV)\[(\d+)\]")
CALLED = re.compile(r"redis\.p?call\(\s*'(\w+)'\s*(?:,\s*('[^']*'|[^,)]+))?(?:,\s*([^,)]+))?")
READ = re.compile(r"redis\.p?call\(\s*'XREADGROUP',[^)]*'STREAMS',\s*([^,)]+)")
BEFORE = re.compile(
    r"^-- (?:may )?(?:needs?: |Stands after )([\w`, ]+?)(?: before .*)?$", re.MULTILINE
)
ASSIGNED = re.compile(r"^\s*(?:local +)?([\w.\[\], ]+?) *= *(.+)$", re.MULTILINE)
LOOPED = re.compile(r"\bfor +([\w, ]+) +in +(.+?) +do\b")
WORD = re.compile(r"[A-Za-z_]\w*")

EACH_SCRIPT = pytest.mark.parametrize("path", SCRIPTS, ids=name_of)

GOOD = """-- good: do well.
--
-- KEYS[1]   lane
-- KEYS[2…]  more lanes
-- ARGV[1]   group
--
-- Returns nothing.
local lane, group = KEYS[1], ARGV[1]
for i = 2, #KEYS do
  local other = KEYS[i]
  redis.call('XACK', other, group, '1-1')
end
redis.call('XGROUP', 'DESTROY', lane, group)
redis.call('XREADGROUP', 'GROUP', group, 'c', 'STREAMS', lane, '>')
return redis.call('TIME')
"""


@EACH_SCRIPT
def test_a_script_begins_with_its_name_and_what_it_does(path: Path) -> None:
    assert re.match(rf"-- {path.stem}: \S", path.read_text())


@EACH_SCRIPT
def test_a_script_says_what_it_returns(path: Path) -> None:
    assert re.search(r"^-- Returns\b", header_of(path.read_text()), re.MULTILINE)


@EACH_SCRIPT
def test_every_key_and_argument_used_is_declared(path: Path) -> None:
    assert undeclared(path.read_text()) == set()


@EACH_SCRIPT
def test_keys_are_neither_written_out_nor_built(path: Path) -> None:
    """
    Goal: the server may route the script by the keys that it was given.

    Method: follow which names stem from KEYS; what stands in a command's place for a key must
    be KEYS or such a name.
    """
    assert foreign_keys(path.read_text(), before=rules_before(path)) == []


def test_the_checks_let_a_good_script_pass() -> None:
    assert undeclared(GOOD) == set()
    assert foreign_keys(GOOD) == []


@pytest.mark.parametrize(
    "line",
    [
        "redis.call('XDEL', 'mq:{q}:normal', '1-1')",
        "redis.call('XDEL', ARGV[1], '1-1')",
        "redis.call('XDEL', lane .. ':dead', '1-1')",
        "redis.call('XGROUP', 'DESTROY', group, group)",
        "redis.call('XREADGROUP', 'GROUP', group, 'c', 'STREAMS', group, '>')",
        "local key = 'mq:' .. group",
    ],
)
def test_the_checks_find_a_key_from_elsewhere(line: str) -> None:
    assert foreign_keys(GOOD + line) != []


@pytest.mark.parametrize("line", ["local a = ARGV[2]", "local b = ARGV[9]"])
def test_the_checks_find_what_is_not_declared(line: str) -> None:
    assert undeclared(GOOD + line) != set()


def test_names_of_the_rules_before_a_script_count_as_its_own() -> None:
    own = "redis.call('XDEL', lane, '1-1')"

    assert foreign_keys(own) != []
    assert foreign_keys(own, before=GOOD) == []


def rules_before(path: Path) -> str:
    """Read the rules that are loaded before a script."""
    found = BEFORE.search(header_of(path.read_text()))
    names = re.findall(r"\w+", found.group(1)) if found else []
    return "\n".join(path.with_name(f"{name}.lua").read_text() for name in names)


def header_of(script: str) -> str:
    lines = script.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("--")), None)
    return "\n".join(lines[:end])


def code_of(script: str) -> str:
    return re.sub(r"--.*", "", script)


def undeclared(script: str) -> set[tuple[str, int]]:
    """List the numbered keys and arguments that the header does not name."""
    spans = [
        (kind, int(first or 1), 1_000 if more else int(last or first))
        for kind, first, last, more in DECLARED.findall(header_of(script))
    ]
    used = {(kind, int(number)) for kind, number in USED.findall(code_of(script))}
    return {
        (kind, number)
        for kind, number in used
        if not any(kind == of and first <= number <= last for of, first, last in spans)
    }


def foreign_keys(script: str, *, before: str = "") -> list[str]:
    """
    List the commands whose key does not stem from KEYS.

    Args:
        script: Its text.
        before: Text of the rules that are loaded before it.
    """
    code = code_of(script)
    keys = names_from_keys(code_of(before) + code)
    found = ["mq:"] if "mq:" in code else []
    calls = [
        (command, second if command in SUBCOMMANDS else first)
        for command, first, second in CALLED.findall(code)
        if command != "XREADGROUP"
    ]
    calls += [("XREADGROUP", key) for key in READ.findall(code)]
    for command, key in calls:
        is_ours = set(WORD.findall(key)) & keys and "'" not in key and ".." not in key
        if command not in KEYLESS and not is_ours:
            found.append(f"{command} {key}")
    return found


def names_from_keys(code: str) -> set[str]:
    """List the names that stem from KEYS, directly or over other names."""
    keys = {"KEYS"}
    before = 0
    while len(keys) > before:
        before = len(keys)
        for names, value in pairs_of(code):
            if set(WORD.findall(value)) & keys:
                keys |= {WORD.findall(name)[0] for name in names.split(",") if WORD.search(name)}
    return keys


def pairs_of(code: str) -> list[tuple[str, str]]:
    """Pair what is assigned to with what is assigned; one by one where the numbers agree."""
    pairs = LOOPED.findall(code)
    for names, value in ASSIGNED.findall(code):
        each, values = names.split(","), re.split(r",(?![^({\[]*[)}\]])", value)
        pairs += zip(each, values, strict=True) if len(each) == len(values) else [(names, value)]
    return pairs
