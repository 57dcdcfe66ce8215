"""
The pool of connections to PostgreSQL.

Connections are made when they are first needed, so an engine starts while PostgreSQL is down and
goes on by itself once it is back. Trouble with the connection itself leaves this module as
:class:`DatabaseUnavailable`; errors that carry an SQLSTATE leave it as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
import orjson
import structlog

from processors.errors import ConfigurationError, DatabaseUnavailable, StatementTimeout
from processors.settings import ProcessorSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
    BaseConnection = asyncpg.Connection[asyncpg.Record]
else:
    BaseConnection = asyncpg.Connection

log = structlog.get_logger("processors.database")

ClientErrors = (asyncpg.InterfaceError, asyncpg.InternalClientError)
CLOSE_S_MAX = 5.0


class StatelessConnection(BaseConnection):
    """A connection that carries no session state, so a release costs no round trip to reset it."""

    def get_reset_query(self) -> str:
        """Nothing is left behind: no listeners, no session locks, no SET outside transactions."""
        return ""


class Database:
    """
    Hands out connections for a limited time.

    Inside the blocks of :meth:`connection` and :meth:`transaction` nothing but the database is
    awaited, so that no transaction spans a call to another system.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, wait_s: float) -> None:
        self._pool = pool
        self._wait_s = wait_s

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """
        Borrow a connection.

        Raises:
            DatabaseUnavailable: None was free or could be made in time, or it was lost in use.
            StatementTimeout: The client gave a statement up.
            ConfigurationError: The address is not one of PostgreSQL.
        """
        connection = await self._acquire()
        try:
            with translated(connection):
                yield connection
        finally:
            await self._release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Borrow a connection inside a transaction: committed at the end, undone on any error."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement in a transaction of its own and return all rows."""
        async with self.connection() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        """Run one statement in a transaction of its own and return its first row."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Run one statement in a transaction of its own for its effect."""
        async with self.connection() as connection:
            await connection.execute(statement, *arguments)

    async def close(self) -> None:
        """Close all connections, those still at work after a short while by force."""
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _acquire(self) -> Connection:
        try:
            # The pool's own time limit can lose a cancellation that comes with the connection.
            async with asyncio.timeout(self._wait_s):
                return await self._pool.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable("pool", f"no connection within {self._wait_s:g} s") from error
        except OSError as error:
            raise DatabaseUnavailable("connect", str(error)) from error
        except asyncpg.exceptions.ClientConfigurationError as error:
            raise ConfigurationError(f"postgres_url: {error}") from error
        except asyncpg.InterfaceError as error:
            raise DatabaseUnavailable("pool", str(error)) from error

    async def _release(self, connection: Connection) -> None:
        """Give a connection back; whatever its end, the work on it has ended already."""
        try:
            await self._pool.release(connection, timeout=self._wait_s)
        except (*ClientErrors, asyncpg.PostgresError, OSError) as error:
            # A lost connection has left the pool by itself; any other is closed by the failure.
            log.debug("connection_dropped", error=type(error).__name__)


@contextmanager
def translated(connection: Connection) -> Iterator[None]:
    """Give names to what can happen to a connection in use."""
    try:
        yield
    except TimeoutError as error:
        raise StatementTimeout("a statement was given up by the client's time limit") from error
    except OSError as error:
        raise DatabaseUnavailable("lost", str(error)) from error
    except ClientErrors as error:
        if _is_lost(connection):
            raise DatabaseUnavailable("lost", str(error)) from error
        raise


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool took it back when the server hung up.
        return True


async def open_database(url: str, settings: ProcessorSettings) -> Database:
    """Make a pool without connecting yet."""
    statement_s = settings.statement_ms_max / 1000
    pool = asyncpg.create_pool(
        url,
        min_size=0,
        max_size=settings.pool_connections_max,
        connection_class=StatelessConnection,
        init=_set_codecs,
        # The server's own limit comes first and says why; the client's is for a lost server.
        command_timeout=statement_s + 2,
        timeout=settings.pool_wait_ms / 1000,
        server_settings={
            "application_name": "streamlane",
            "statement_timeout": str(settings.statement_ms_max),
            "lock_timeout": str(settings.lock_wait_ms_max),
            "idle_in_transaction_session_timeout": str(settings.statement_ms_max),
            "jit": "off",  # short statements lose more by compiling than they gain
        },
    )
    await pool
    return Database(pool, wait_s=settings.pool_wait_ms / 1000)


async def _set_codecs(connection: BaseConnection | Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode, decoder=orjson.loads
    )


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()
