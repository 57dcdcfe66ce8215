"""
One HTTP/2 connection: many requests at a time, each of which ends.

The protocol itself is that of the library h2, but for GOAWAY, after which h2 would take nothing
more: requests that the server has taken still get their answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.errors import ErrorCodes

HEADER_BYTES: Final = 9
GOAWAY: Final = 7
READ_BYTES: Final = 65_536
WINDOW_BYTES: Final = 1 << 20
BODY_BYTES_MAX: Final = 65_536
FRAME_BYTES_MAX: Final = 16_384
"""What a frame may hold unless we allowed more, which we do not (RFC 9113, section 4.2)."""

LAST_STREAM: Final = 0x7FFF_FFFF


class Http2Error(Exception):
    """A request got no answer."""


class Unsent(Http2Error):
    """The server has not acted on it, and says so or cannot have seen it: it may go out again."""


class Lost(Http2Error):
    """Nobody knows what became of it."""


@dataclass(frozen=True, slots=True)
class Response:
    """
    One answer.

    Attributes:
        status: The status code.
        headers: By name in lower case.
        body: The whole body.
    """

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class _Stream:
    """A request on its way."""

    done: asyncio.Future[Response]
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    is_sent: bool = False


class Frames:
    """Cuts what was received into whole frames (RFC 9113, section 4.1)."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, data: bytes) -> list[bytes]:
        """
        Add what was received; returns the frames that are complete by now.

        Raises:
            ProtocolError: A frame says that it is longer than may be.
        """
        self._rest += data
        frames = []
        while len(self._rest) >= HEADER_BYTES:
            size = int.from_bytes(self._rest[:3])
            if size > FRAME_BYTES_MAX:
                raise h2.exceptions.FrameTooLargeError(f"a frame of {size} bytes")
            end = HEADER_BYTES + size
            if len(self._rest) < end:
                break
            frames.append(bytes(self._rest[:end]))
            del self._rest[:end]
        return frames


class Connection:
    """
    One connection; its reader task ends it.

    Args:
        reader: What the server sends.
        writer: Where to write.
        authority: The host as requests name it.
        streams_max: Requests under way at a time, at most; the server may allow fewer.
        ping_s: After so long a silence with requests under way the server is asked for a sign.
        answer_s: How long that sign may take.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        authority: str,
        streams_max: int,
        ping_s: float,
        answer_s: float,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._authority = authority
        self._streams_max = streams_max
        self._ping_s, self._answer_s = ping_s, answer_s
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config=config)
        self._streams: dict[int, _Stream] = {}
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._ready = asyncio.Event()
        self._why = ""
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it is closed, and nobody waits for anything."""
        return self._writer.is_closing() and not self._streams

    @property
    def is_usable(self) -> bool:
        """Whether new requests may go out here."""
        return not self._closing

    async def open(self) -> None:
        """
        Exchange settings.

        Raises:
            Unsent: The server does not speak HTTP/2, or hung up.
        """
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.ENABLE_PUSH: 0})
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._watch())]
        # How many streams the server allows is known with its settings.
        await self._ready.wait()
        if self._closing:
            raise Unsent(self._why)

    async def request(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> Response:
        """
        Send one request and wait for its answer; a caller that gives up resets the stream.

        Raises:
            Unsent: It was not acted on.
            Lost: Nobody knows.
        """
        while self.is_usable and not self._has_room():
            self._changed.clear()
            await self._changed.wait()
        if not self.is_usable:
            raise Unsent(self._why)
        stream_id = self._next_stream()
        stream = _Stream(asyncio.get_running_loop().create_future())
        self._streams[stream_id] = stream
        try:
            head = [(":method", method), (":scheme", "https"), (":authority", self._authority)]
            self._h2.send_headers(
                stream_id, [*head, (":path", path), *headers], end_stream=not body
            )
            self._flush()
            await self._send_body(stream_id, stream, body)
            return await stream.done
        finally:
            self._streams.pop(stream_id, None)
            # Who gives up cancels the future, too; and an answer may come before all was sent.
            if not stream.is_sent or not stream.done.done() or stream.done.cancelled():
                self._reset(stream_id)
            self._changed.set()
            self._end_when_drained()

    async def close(self) -> None:
        """Hang up; what is still under way is lost."""
        self._finish("closed by this side", processed=None)
        tasks = [*self._tasks, *([self._probing] if self._probing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
            async with asyncio.timeout(self._answer_s):
                await self._writer.wait_closed()

    def abort(self, error: Http2Error) -> None:
        """Hang up at once."""
        self._finish(str(error), processed=None)
        self._writer.transport.abort()

    def suspect(self) -> None:
        """Ask for a sign now: a request ran out of time."""
        if self._probing is None or self._probing.done():
            self._heard.clear()
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    def _next_stream(self) -> int:
        try:
            return self._h2.get_next_available_stream_id()
        except h2.exceptions.NoAvailableStreamIDError:
            self._finish("all streams were used", processed=LAST_STREAM)
            raise Unsent(self._why) from None

    def _has_room(self) -> bool:
        allowed = min(self._streams_max, self._h2.remote_settings.max_concurrent_streams)
        return self._h2.open_outbound_streams < allowed

    async def _send_body(self, stream_id: int, stream: _Stream, body: bytes) -> None:
        """Send a body as far as the windows allow, and wait for them to open."""
        rest = memoryview(body)
        while rest and not stream.done.done():
            size = min(
                self._h2.local_flow_control_window(stream_id),
                self._h2.max_outbound_frame_size,
                len(rest),
            )
            if size == 0:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._h2.send_data(stream_id, bytes(rest[:size]), end_stream=size == len(rest))
            rest = rest[size:]
            self._flush()
        stream.is_sent = not rest

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._writer.is_closing():
            self._writer.write(data)

    def _reset(self, stream_id: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            self._flush()

    async def _read(self) -> None:
        why = "the server hung up"
        frames = Frames()
        try:
            while data := await self._reader.read(READ_BYTES):
                self._heard.set()
                for frame in frames.take(data):
                    if frame[3] == GOAWAY:
                        self._on_goaway(frame)
                        continue
                    for event in self._h2.receive_data(frame):
                        self._on(event)
                self._flush()
        except (OSError, ssl.SSLError) as error:
            why = f"{type(error).__name__}: {error}"
        except h2.exceptions.ProtocolError as error:
            why = f"the server broke the protocol: {error}"
            self._flush()
        self._finish(why, processed=None)

    def _on(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=int(stream_id)):
                self._take_headers(stream_id, event.headers or [])
            case h2.events.DataReceived(stream_id=int(stream_id)):
                self._take_data(stream_id, event)
            case h2.events.StreamEnded(stream_id=int(stream_id)):
                self._answered(stream_id)
                # The request may wait for a window yet.
                self._changed.set()
            case h2.events.StreamReset(stream_id=int(stream_id)):
                self._was_reset(stream_id, event.error_code)
                self._changed.set()
            case h2.events.RemoteSettingsChanged():
                self._ready.set()
                self._changed.set()
            case h2.events.WindowUpdated():
                self._changed.set()
            case _:
                pass

    def _on_goaway(self, frame: bytes) -> None:
        # Kept from h2, which would take no answer after it: streams up to the last one still get
        # theirs (RFC 9113, section 6.8).
        last = int.from_bytes(frame[HEADER_BYTES : HEADER_BYTES + 4]) & LAST_STREAM
        code = int.from_bytes(frame[HEADER_BYTES + 4 : HEADER_BYTES + 8])
        self._finish(f"GOAWAY with code {code}", processed=last)

    def _take_headers(self, stream_id: int, headers: Any) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.headers |= {str(name): str(value) for name, value in headers}

    def _take_data(self, stream_id: int, event: h2.events.DataReceived) -> None:
        size = event.flow_controlled_length or 0
        if size:
            self._h2.acknowledge_received_data(size, stream_id)
        stream = self._streams.get(stream_id)
        if stream is not None and len(stream.body) < BODY_BYTES_MAX:
            stream.body += event.data or b""

    def _answered(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.done.done():
            return
        status = stream.headers.get(":status", "")
        if status.isdigit():
            stream.done.set_result(Response(int(status), stream.headers, bytes(stream.body)))
        else:
            stream.done.set_exception(Lost("an answer without a status"))

    def _was_reset(self, stream_id: int, code: Any) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.done.done():
            kind = Unsent if code == ErrorCodes.REFUSED_STREAM else Lost
            stream.done.set_exception(kind(f"stream reset: {code!s}"))

    def _finish(self, why: str, *, processed: int | None) -> None:
        """
        Take no more requests.

        Args:
            why: What happened.
            processed: The last stream that the server may have acted on; those up to it still get
                their answers. None: the connection is gone.
        """
        self._why = self._why or why
        self._closing = True
        for stream_id, stream in self._streams.items():
            if stream.done.done():
                continue
            if processed is None:
                stream.done.set_exception(Lost(self._why))
            elif stream_id > processed:
                stream.done.set_exception(Unsent(self._why))
        self._ready.set()
        self._changed.set()
        self._end_when_drained()

    def _end_when_drained(self) -> None:
        if self._closing and not self._streams and not self._writer.is_closing():
            self._writer.close()

    async def _watch(self) -> None:
        """Ask for a sign whenever the server was silent while it owed an answer."""
        while not self._writer.is_closing():
            self._heard.clear()
            await asyncio.sleep(self._ping_s)
            if self._streams and not self._heard.is_set():
                await self._probe()

    async def _probe(self) -> None:
        try:
            self._h2.ping(b"streamla")
            self._flush()
            async with asyncio.timeout(self._answer_s):
                await self._heard.wait()
        except TimeoutError:
            self.abort(Lost(f"no sign of the server for {self._answer_s:g} s"))
        except h2.exceptions.ProtocolError:
            return
