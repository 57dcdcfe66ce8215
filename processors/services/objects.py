"""
The object store: S3, Google Cloud Storage, Azure, a directory or memory, chosen by a URL.

What the library says of a failure becomes one of few things here: an object that is not there, a
store that cannot serve now, or settings that do not fit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from processors.errors import ConfigurationError, ProcessorError, ServiceUnavailable
from processors.settings.objects import ObjectSettings

SERVICE = "object-store"
DETAIL_CHARS_MAX = 200
STREAM_CHUNK = 1_048_576
LIST_CHUNK = 1_000
BUCKET_GONE = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
REFUSED = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "PermanentRedirect",
)


class ObjectMissing(ProcessorError):
    """There is no object with this key."""


class ObjectExists(ProcessorError):
    """There is an object with this key already."""


class Stored(NamedTuple):
    """
    An object as the store tells of it.

    Attributes:
        key: Its key.
        size: Its size in bytes.
        modified: When it was written.
    """

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Where objects are; :class:`Objects` over a real store."""

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """
        Write a new object.

        Raises:
            ObjectExists: There is one with this key.
            ServiceUnavailable: It may or may not be written.
        """

    async def head(self, key: str) -> Stored:
        """
        Tell of an object.

        Raises:
            ObjectMissing: There is none.
        """

    async def delete(self, key: str) -> bool:
        """Delete an object; False where it is known not to have been there, which S3 never says."""

    def list(self, prefix: str) -> AsyncIterator[list[Stored]]:
        """List objects, in the store's order."""

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """
        Read an object piece by piece.

        Raises:
            ObjectMissing: There is none.
        """

    async def sign(self, method: Literal["GET", "PUT"], key: str, *, valid_s: int) -> str | None:
        """Make a URL that allows one thing for a while; None where the store cannot."""


class Objects:
    """
    The object store over a library's client.

    Args:
        store: A store of ``obstore``.
        signs: Whether it can sign URLs.
    """

    def __init__(self, store: Any, *, signs: bool) -> None:
        self._store = store
        self._signs = signs

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        """Write a new object; see :class:`ObjectStore`."""
        import obstore

        attributes = {"Content-Type": media_type} if self._signs else None
        with translated(key):
            await obstore.put_async(self._store, key, data, mode="create", attributes=attributes)

    async def head(self, key: str) -> Stored:
        """Tell of an object; see :class:`ObjectStore`."""
        import obstore

        with translated(key):
            return _stored(await obstore.head_async(self._store, key))

    async def delete(self, key: str) -> bool:
        """Delete an object; see :class:`ObjectStore`."""
        import obstore

        try:
            with translated(key):
                await obstore.delete_async(self._store, key)
        except ObjectMissing:
            return False
        return True

    async def list(self, prefix: str) -> AsyncIterator[list[Stored]]:
        """List objects; see :class:`ObjectStore`."""
        import obstore

        with translated(prefix):
            async for chunk in obstore.list(self._store, prefix=prefix, chunk_size=LIST_CHUNK):
                yield [_stored(each) for each in chunk]

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """Read an object; see :class:`ObjectStore`."""
        import obstore

        with translated(key):
            found = await obstore.get_async(self._store, key)
            async for chunk in found.stream(min_chunk_size=STREAM_CHUNK):
                yield bytes(chunk)

    async def sign(self, method: Literal["GET", "PUT"], key: str, *, valid_s: int) -> str | None:
        """Sign a URL; see :class:`ObjectStore`."""
        import obstore

        if not self._signs:
            return None
        with translated(key):
            url = await obstore.sign_async(
                self._store, method, key, expires_in=timedelta(seconds=valid_s)
            )
        return str(url)


def open_objects(settings: ObjectSettings) -> Objects | None:
    """
    Make a client of the store that the settings name, or None where they name none.

    Nothing is sent yet.

    Raises:
        ConfigurationError: The URL or an option does not fit, or the library is not installed.
    """
    if not settings.url:
        return None
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store, from_url
    except ImportError as error:
        raise ConfigurationError(
            "PROCESSORS_OBJECTS_URL needs obstore: pip install 'streamlane[objects]'"
        ) from error
    scheme = urlsplit(settings.url).scheme
    try:
        if scheme == "memory":
            return Objects(MemoryStore(), signs=False)
        if scheme == "file":
            directory = Path(unquote(urlsplit(settings.url).path))
            return Objects(LocalStore(directory, mkdir=True), signs=False)
        store = from_url(settings.url, **_options(settings, s3=scheme in ("s3", "s3a")))
    except (BaseError, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(f"PROCESSORS_OBJECTS_URL: {_brief(error)}") from error
    if not isinstance(store, S3Store | GCSStore | AzureStore):
        raise ConfigurationError(
            f"PROCESSORS_OBJECTS_URL: {scheme or 'no'} scheme; give s3, gs, az, file or memory"
        )
    return Objects(store, signs=True)


def _options(settings: ObjectSettings, *, s3: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        **settings.options,
        "client_options": {
            "timeout": f"{settings.timeout_ms}ms",
            "allow_http": settings.allow_http,
        },
        # The job is tried again later; here only what a moment mends.
        "retry_config": {
            "max_retries": 2,
            "retry_timeout": timedelta(milliseconds=settings.timeout_ms),
        },
    }
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    if s3:
        options["virtual_hosted_style_request"] = not settings.path_style
        own = {
            "region": settings.region,
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key,
        }
        options |= {name: value for name, value in own.items() if value}
    return options


@contextmanager
def translated(key: str) -> Iterator[None]:
    """Give names to what the library says of a failure."""
    from obstore import exceptions

    try:
        yield
    except (exceptions.BaseError, OSError) as error:
        text = str(error)
        if any(word in text for word in BUCKET_GONE):
            # Not an object that is gone already: nothing of the store is there.
            raise ConfigurationError(f"there is no such bucket: {_brief(error)}") from error
        if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
            raise ObjectMissing(f"there is no object {key}") from error
        if isinstance(error, exceptions.AlreadyExistsError):
            raise ObjectExists(f"there is an object {key} already") from error
        refused = (
            exceptions.PermissionDeniedError,
            exceptions.UnauthenticatedError,
            PermissionError,
        )
        if isinstance(error, refused) or any(word in text for word in REFUSED):
            raise ConfigurationError(f"the object store refuses: {_brief(error)}") from error
        raise ServiceUnavailable(SERVICE, _brief(error)) from error


def _brief(error: BaseException) -> str:
    """The first line of an error; the library puts pages of debugging below it."""
    return str(error).partition("\n")[0][:DETAIL_CHARS_MAX]


def _stored(meta: Any) -> Stored:
    return Stored(meta["path"], meta["size"], meta["last_modified"])
