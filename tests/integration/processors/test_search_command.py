"""``python -m processors search``, as a person runs it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest

from tests.integration.processors.searching import searching
from tests.integration.processors.world import World

pytestmark = pytest.mark.servers


class Ended(NamedTuple):
    code: int
    out: str
    err: str


async def run(url: str, *arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors", "search", *arguments,
        env={**os.environ, "ENGINE_POSTGRES_URL": url, "FORCE_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def scene(world: World, count: int) -> tuple[UUID, UUID, UUID]:
    conversation, (ada, bob) = await world.conversation(2)
    async with searching(world) as search:
        texts = [f"number {n}: a [red]horse\x1b[31m\nruns" for n in range(count)]
        await search.say(conversation, ada, *texts)
    return conversation, ada, bob


async def test_hits_are_lines_with_what_was_searched_in_bold(
    world: World, postgres_url: str
) -> None:
    _, _, bob = await scene(world, 1)

    ended = await run(postgres_url, "horses", "--user", str(bob))

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("\n") == 1
    assert " test #1 user 0: number 0: a [red]\x1b[1mhorse\x1b[0m" in ended.out
    assert "\x1b[31m" not in ended.out, "a message must not colour the terminal"


async def test_json_has_a_line_per_page_and_pages_follow_each_other(
    world: World, postgres_url: str
) -> None:
    conversation, ada, bob = await scene(world, 5)
    options = ("--user", str(bob), "--conversation", str(conversation), "--sender", str(ada))
    options += ("--limit", "2", "--newest", "--json", "--since", "2020-01-01", "--kind", "text")

    ended = await run(postgres_url, "horse", *options, "--all")
    first = json.loads((await run(postgres_url, "horse", *options)).out)

    pages = [json.loads(line) for line in ended.out.splitlines()]
    assert [[hit["seq"] for hit in page["hits"]] for page in pages] == [[5, 4], [3, 2], [1]]
    assert first == pages[0]
    assert first["hits"][0]["headline"][1] == ["horse", True]
    second = await run(postgres_url, "horse", *options, "--cursor", first["cursor"])
    assert json.loads(second.out) == pages[1]


async def test_further_pages_are_offered(world: World, postgres_url: str) -> None:
    _, _, bob = await scene(world, 2)

    ended = await run(postgres_url, "horse", "--user", str(bob), "--limit", "1")

    assert ended.out.splitlines()[-1].startswith("more: --cursor ")


async def test_nothing_found_and_faults_are_said_plainly(world: World, postgres_url: str) -> None:
    nothing = await run(postgres_url, "horse", "--user", str(uuid4()))
    assert (nothing.code, nothing.out) == (0, "nothing found\n")

    broken = await run(postgres_url, "horse", "--user", str(uuid4()), "--cursor", "x")
    assert broken.code == 1
    assert broken.err == "Error: invalid-cursor: the cursor is damaged\n"
    nowhere = await run("", "horse", "--user", str(uuid4()))
    assert nowhere.code == 1
    assert "ENGINE_POSTGRES_URL" in nowhere.err
