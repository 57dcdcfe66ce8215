"""What the README shows works as it stands there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from tests.tidy.sources import ROOT

pytestmark = pytest.mark.servers

README = (ROOT / "README.md").read_text()
LIMIT_S = 30


def test_the_wire_example_becomes_the_row_that_is_shown(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    command = shlex.split(marked("wire"))
    assert command[:3] == ["redis-cli", "-p", "6390"]
    environ = environment({"ENGINE_REDIS_URL": redis_url, "ENGINE_POSTGRES_URL": postgres_url})
    prepare = (
        "import os; from types import SimpleNamespace as N; import asyncio; "
        "from processors.app import build; e = os.environ; "
        "app = build(N(postgres_url=e['ENGINE_POSTGRES_URL'], redis_url=e['ENGINE_REDIS_URL'])); "
        "asyncio.run(app.migrate()); asyncio.run(app.seed())"
    )
    run([sys.executable, "-c", prepare], environ, tmp_path)
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command(*command[3:])

    run([sys.executable, "-m", "engine", "run", "--burst"], environ, tmp_path)

    seq, client_msg_id, body, n_recipients = shown_row(README)
    found = fetch_row(postgres_url)
    assert found == (int(seq), client_msg_id, body, int(n_recipients))


def test_the_handler_of_one_s_own_runs_as_written(redis_url: str, tmp_path: Path) -> None:
    write_examples(tmp_path)
    serving = commands_of("run")
    asking = commands_of("enqueue")
    own = {"ENGINE_REDIS_URL": redis_url}

    with engine(serving.lines[0], environment({**serving.exports, **own}), tmp_path):
        environ = environment({**asking.exports, **own})
        job_id = run(words(asking.lines[0]), environ, tmp_path).strip()
        with redis.Redis.from_url(redis_url) as client:
            assert client.xread({"mq:{shop}:done": "0"}, block=LIMIT_S * 1000)
        told = run([*words(asking.lines[1]), "--json"], environ, tmp_path)

    assert job_id == "order-7"
    story = json.loads(told)["found"][0]
    assert story["job"]["state"] == "done"
    assert story["result"] == json.loads(shown_result(README))


def test_the_tests_of_handlers_run_as_written(tmp_path: Path) -> None:
    write_examples(tmp_path)

    told = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", "tests"],
        environment({"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}),
        tmp_path,
    )

    assert "2 passed" in told


def test_the_larger_example_steers_jobs_as_it_says(redis_url: str, tmp_path: Path) -> None:
    """
    Goal: every way of steering a job that the README shows ends as it says there.

    Method: the orders 1 to 4 stand for a free, busy, silent and locked carrier; 5 is unknown.
    """
    write_examples(tmp_path)
    environ = environment({"ENGINE_REDIS_URL": redis_url, "ENGINE_APP": "shop.shipping:app"})
    lines = [{"type": "ship", "data": {"order": n}, "id": f"ship-{n}"} for n in (1, 2, 3, 5, 4)]
    lines.append({"type": "digest", "data": {"rounds": 1}, "id": "digest"})
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    python = [sys.executable, "-m", "engine"]
    run([*python, "enqueue", "--file", "jobs.jsonl"], environ, tmp_path)

    told = run([*python, "run", "--burst", "--concurrency", "1"], environ, tmp_path)

    assert "ship ship-5 is dead: cancelled, no order 5" in told
    states = {
        row["id"]: state
        for state in ("done", "delayed", "dead", "held")
        for row in json.loads(
            run([*python, "jobs", "shipping", "--state", state, "--json"], environ, tmp_path)
        )["jobs"]
    }
    # Its retry is due half a second later; by then the type may be held.
    assert states.pop("ship-3", "waiting") in {"delayed", "waiting", "held"}
    assert states == {
        "ship-1": "done",
        "digest": "done",
        "ship-2": "delayed",
        "ship-5": "dead",
        "ship-4": "held",
    }


class Shown:
    """The lines of an example: what it exports, and the commands after it."""

    def __init__(self, block: str) -> None:
        rows = [row for row in block.splitlines() if row]
        pairs = [row.removeprefix("export ").split("=", 1) for row in rows if "export " in row]
        self.exports = dict(pairs)
        self.lines = [row for row in rows if "export " not in row]


def marked(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no example marked {name!r}"
    return found[1]


def commands_of(name: str) -> Shown:
    return Shown(marked(name))


def words(line: str) -> list[str]:
    command = shlex.split(line)
    assert command[:3] == ["python", "-m", "engine"]
    return [sys.executable, *command[1:]]


def write_examples(directory: Path) -> None:
    """Write every Python example that begins with the name of its file."""
    examples = re.findall(r"```python\n# ([\w/]+\.py)\n(.*?)```", README, re.DOTALL)
    assert {name for name, _ in examples} >= {"shop/jobs.py", "shop/shipping.py"}
    for name, text in examples:
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def environment(own: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "ENGINE_HTTP": "", **own}


def run(command: list[str], environ: Mapping[str, str], directory: Path) -> str:
    done = subprocess.run(
        command,
        env=environ,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def engine(line: str, environ: Mapping[str, str], directory: Path) -> Iterator[None]:
    process = subprocess.Popen(words(line), env=environ, cwd=directory)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def shown_row(document: str) -> tuple[Any, ...]:
    row = re.search(r"^ +(\d+) \| (\S+) +\| (\S+) +\| +(\d+) \|", document, re.MULTILINE)
    assert row
    return row.groups()


def shown_result(document: str) -> str:
    return re.findall(r"^result +(.+)$", document, re.MULTILINE)[-1]


def fetch_row(postgres_url: str) -> tuple[Any, ...]:

    async def fetch() -> tuple[Any, ...]:
        connection = await asyncpg.connect(postgres_url)
        try:
            query = "SELECT seq, client_msg_id, body, n_recipients FROM messages"
            return tuple(await connection.fetchrow(query))
        finally:
            await connection.close()

    return asyncio.run(fetch())
