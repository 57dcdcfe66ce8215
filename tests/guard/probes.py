"""
What is measured between two moments of a workload, and never a time.

Each probe runs a workload of its own, so that none measures another.
"""

from __future__ import annotations

import cProfile
import gc
import re
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Protocol

import redis

HERE = str(Path(__file__).parent)
ROOT = Path(__file__).parents[2]
MONITORED = re.compile(rb'\[\d+ ([^\]]+)\] "([^"]+)"')
HELD_MIN = 100
"""Jobs in hand from which on it is told what one of them takes."""

Figures = dict[str, float]


class Probe(Protocol):
    """Looks at a workload's steady part."""

    def begin(self) -> None:
        """Start; the system is at rest."""

    def look(self, in_hand: int) -> None:
        """Take note of a moment at which that many jobs are in hand."""

    def end(self) -> None:
        """Stop; the system is at rest."""


class Server:
    """
    What the server was asked for, and what Python's allocator keeps.

    Attributes:
        figures: Totals of the server's counters.
        commands: Runs by command, those of scripts included.
        kept_blocks: Allocations that outlived the workload.
        held: Allocations and collectable objects per job in hand.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, protocol=2)
        self._client.ping()
        self._own = self._client.client_id()
        self.figures: Figures = {}
        self.commands: Figures = {}
        self.held: tuple[float, float] | None = None
        self.kept_blocks = 0

    def begin(self) -> None:
        self._before = self._counters()
        gc.collect()
        gc.disable()
        self._objects = len(gc.get_objects())
        self._blocks = sys.getallocatedblocks()

    def look(self, in_hand: int) -> None:
        if self.held is None and in_hand >= HELD_MIN:
            blocks = sys.getallocatedblocks() - self._blocks
            objects = len(gc.get_objects()) - self._objects
            self.held = (blocks / in_hand, objects / in_hand)

    def end(self) -> None:
        gc.enable()
        gc.collect()
        self.kept_blocks = sys.getallocatedblocks() - self._blocks
        after = self._counters()
        self.figures = {name: after[0][name] - self._before[0][name] for name in after[0]}
        gone = {name: count - self._before[1].get(name, 0) for name, count in after[1].items()}
        self.commands = {name: count for name, count in gone.items() if count}
        # This look's own INFO; its CLIENT LIST comes after the first and before the second.
        self.figures["socket_reads"] -= 2
        self.figures["socket_writes"] -= 2
        self._client.close()

    def _counters(self) -> tuple[Figures, Figures]:
        clients: Any = self._client.execute_command("CLIENT", "LIST")
        stats: Any = self._client.info("stats")
        commands: Any = self._client.info("commandstats")
        others = [line for line in _lines(clients) if int(line["id"]) != self._own]
        figures = {
            "socket_reads": stats["total_reads_processed"],
            "socket_writes": stats["total_writes_processed"],
            "bytes_in": sum(int(line["tot-net-in"]) for line in others),
            "bytes_out": sum(int(line["tot-net-out"]) for line in others),
        }
        own = ("info", "client|list")
        ran = {name.removeprefix("cmdstat_"): told["calls"] for name, told in commands.items()}
        return figures, {name: count for name, count in ran.items() if name not in own}


def _lines(clients: Any) -> list[dict[str, str]]:
    if isinstance(clients, list):
        return clients
    return [
        dict(pair.partition("=")[::2] for pair in line.split(" "))
        for line in clients.decode().splitlines()
    ]


class Calls:
    """
    Calls of Python and C functions in this thread, and commands as they were sent.

    Attributes:
        functions: Calls by function.
        sent: Commands that did not come from a script, by name.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._profile = cProfile.Profile()
        self.functions: Figures = {}
        self.sent: Figures = {}

    def begin(self) -> None:
        self._watching = redis.Redis.from_url(self._url, protocol=2)
        self._wire: Any = self._watching.connection_pool.get_connection()
        self._wire.send_command("MONITOR")
        self._wire.read_response()
        self._profile.enable()

    def look(self, in_hand: int) -> None: ...

    def end(self) -> None:
        self._profile.disable()
        found: Counter[str] = Counter()
        for entry in self._profile.getstats():  # type: ignore[attr-defined]
            if _is_ours(entry.code):
                found[_named(entry.code)] += entry.callcount
                continue
            # C functions have no place of their own: their callers tell.
            for called in entry.calls or ():
                if not isinstance(called.code, CodeType):
                    found[_named(called.code)] -= called.callcount
        self.functions = dict(found)
        self.sent = self._read()
        self._wire.disconnect()
        self._watching.close()

    def _read(self) -> Figures:
        end = "end of the workload"
        with redis.Redis.from_url(self._url, protocol=2) as client:
            client.echo(end)
        found: Counter[str] = Counter()
        while end.encode() not in (line := self._wire.read_response(disable_decoding=True)):
            told = MONITORED.search(line)
            if told is not None and told.group(1) != b"lua":
                found[told.group(2).decode().lower()] += 1
        for own in ("client", "hello"):
            found.pop(own, None)
        return dict(found)


class Instructions:
    """
    Bytecode instructions.

    Attributes:
        functions: Instructions by function.
    """

    def __init__(self) -> None:
        self._codes: Counter[CodeType] = Counter()
        self.functions: Figures = {}

    def begin(self) -> None:
        codes = self._codes

        def each(frame: FrameType, event: str, _: Any) -> Any:
            if event == "opcode":
                codes[frame.f_code] += 1
            return each

        def start(frame: FrameType, _event: str, _: Any) -> Any:
            if not _is_ours(frame.f_code):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
            return each

        sys.settrace(start)

    def look(self, in_hand: int) -> None: ...

    def end(self) -> None:
        sys.settrace(None)
        found: Counter[str] = Counter()
        for code, count in self._codes.items():
            found[_named(code)] += count
        self.functions = dict(found)


def _is_ours(code: CodeType | str) -> bool:
    """Tell whether a function is part of the engine, or of Python, and not of the rig."""
    if isinstance(code, str):
        return True
    return not code.co_filename.startswith(HERE) and "site-packages" not in code.co_filename


def _named(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    path = Path(code.co_filename)
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    return f"{place}:{code.co_qualname}"
