"""Keys that never leave AWS KMS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog

from processors.errors import ConfigurationError, ProcessorError, Refused, ServiceUnavailable
from processors.rules.kms_answers import KmsMeaning, kms_meaning
from processors.services.keys import WrappedKey
from processors.settings.encryption import EncryptionSettings

log = structlog.get_logger("processors.encryption")

KMS: Final = "kms"
SERVICE: Final = "key-provider"


class AwsKms:
    """
    Wraps data keys by calls to KMS, which are not repeated here: the job is put off instead.

    Args:
        settings: Which key, where, and how long to wait for an answer.
        stack: Closes the client in the end.
    """

    def __init__(self, settings: EncryptionSettings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._arn = ""

    async def primary(self) -> str:
        if not self._arn:
            answer = await self._call("describe_key", KeyId=self._settings.kms_key)
            self._arn = answer["KeyMetadata"]["Arn"]
        return f"{KMS}:{self._arn}"

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        answer = await self._call(
            "generate_data_key",
            KeyId=self._settings.kms_key,
            KeySpec="AES_256",
            EncryptionContext=dict(context),
        )
        return answer["Plaintext"], _wrapped(answer)

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        answer = await self._call(
            "encrypt",
            KeyId=self._settings.kms_key,
            Plaintext=key,
            EncryptionContext=dict(context),
        )
        return _wrapped(answer)

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        answer = await self._call(
            "decrypt",
            # Named, so that a blob of another key is not opened by whatever key it names.
            KeyId=wrapped.kek_id.removeprefix(f"{KMS}:"),
            CiphertextBlob=wrapped.wrapped,
            EncryptionContext=dict(context),
        )
        plaintext: bytes = answer["Plaintext"]
        return plaintext

    async def _call(self, operation: str, **arguments: Any) -> Any:
        """Make one call, and give names to its failures."""
        from botocore import exceptions

        try:
            client = await self._opened()
            return await getattr(client, operation)(**arguments)
        except exceptions.ClientError as error:
            raise _named(operation, error) from None
        except (
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.CredentialRetrievalError,
            exceptions.MetadataRetrievalError,
            TimeoutError,
        ) as error:
            raise ServiceUnavailable(SERVICE, f"KMS {operation}: {type(error).__name__}") from None
        except exceptions.BotoCoreError as error:
            raise ConfigurationError(f"KMS {operation}: {error}") from None

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._stack.enter_async_context(_client(self._settings))
        return self._client


@asynccontextmanager
async def open_kms(settings: EncryptionSettings) -> AsyncIterator[AwsKms]:
    """
    Prepare KMS; it is connected to when it is first asked.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import aiobotocore.session  # noqa: F401 - asked for before the first job needs it
    except ImportError:
        raise ConfigurationError(
            "AWS KMS needs a further package: pip install 'streamlane[kms]'"
        ) from None
    async with AsyncExitStack() as stack:
        yield AwsKms(settings, stack)


def _client(settings: EncryptionSettings) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    timeout_s = settings.kms_timeout_ms / 1000
    return get_session().create_client(
        "kms",
        region_name=settings.kms_region or None,
        endpoint_url=settings.kms_endpoint or None,
        config=AioConfig(
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
        ),
    )


def _named(operation: str, error: Any) -> ProcessorError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    log.warning("kms_refused", operation=operation, code=code, status=status)
    match kms_meaning(code, status):
        case KmsMeaning.UNAVAILABLE:
            return ServiceUnavailable(SERVICE, f"KMS {operation}: {code}")
        case KmsMeaning.DAMAGED:
            return Refused("undecryptable", f"a wrapped data key: KMS {operation}: {code}")
        case KmsMeaning.CONFIGURATION:
            message = error.response.get("Error", {}).get("Message", "")
            return ConfigurationError(f"KMS {operation}: {code}: {message}".rstrip(": "))


def _wrapped(answer: Mapping[str, Any]) -> WrappedKey:
    return WrappedKey(f"{KMS}:{answer['KeyId']}", answer["CiphertextBlob"])
