"""Follows the file of tokens, so that giving and taking one away needs no restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from engine.clock import Clock
from engine.dashboard.guard import Guard
from engine.logs import get_logger
from engine.tokens import Token, all_tokens
from schemas.overview import Trouble

log = get_logger("http")

EVERY_S = 5.0


class TokensFile:
    """
    Reads the file again and again; what is wrong with it leaves the tokens as they were.

    Args:
        main: The token that may do everything; empty for none.
        named: The tokens of the settings themselves.
        path: The file.
        guard: Judges by them.
        engine: Name of the engine, for people.
        clock: Paces it.
    """

    def __init__(
        self,
        main: str,
        named: Mapping[str, str],
        path: str,
        *,
        guard: Guard,
        engine: str,
        clock: Clock,
    ) -> None:
        self._main = main
        self._named = named
        self._path = path
        self._guard = guard
        self._engine = engine
        self._clock = clock
        self._wrong = ""

    async def follow(self) -> None:
        """Look for ever."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Take what the file says now."""
        try:
            # Off the loop, which runs jobs: the file may lie on a slow disk.
            found = await asyncio.to_thread(all_tokens, self._main, self._named, self._path)
        except ValueError as error:
            if str(error) != self._wrong:
                log.error("http_tokens_refused", file=self._path, why=str(error))
            self._wrong = str(error)
            return
        if self._wrong:
            log.info("http_tokens_well_again")
            self._wrong = ""
        if found != self._guard.tokens:
            log.warning("http_tokens_changed", **_difference(self._guard.tokens, found))
            self._guard.replace(found)

    def troubles(self) -> list[Trouble]:
        """Say what is wrong with the file, if anything is."""
        if not self._wrong:
            return []
        return [
            Trouble(
                key=f"engine {self._engine} tokens",
                kind="warn",
                check="tokens",
                engine=self._engine,
                what=f"The file of tokens cannot be used: {self._wrong}.",
                evidence="The tokens that it had before still hold, removed ones included.",
                action=f"mend {self._path}; engines read it every few seconds",
            )
        ]


def _difference(before: Sequence[Token], after: Sequence[Token]) -> dict[str, list[str]]:
    """Name whose tokens came, went, and became others or allow something else."""
    old = {token.name: token for token in before}
    new = {token.name: token for token in after}
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    }
