"""Who wraps data keys: a local keyring, or another provider that its wrapped keys name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from processors.errors import ConfigurationError, Refused
from processors.rules.envelope import KEY_BYTES, NONCE_BYTES, BadRecord, WrongKey, unwrap, wrap

Random = Callable[[int], bytes]

LOCAL: Final = "local"

UNSET: Final = (
    "encryption needs a keyring: make one with `python -m processors keyring new FILE` and set "
    "PROCESSORS_ENCRYPTION_KEYRING_FILE=FILE, or set PROCESSORS_ENCRYPTION_PROVIDER=kms"
)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """
    A data key as it is kept.

    Attributes:
        kek_id: The key that wrapped it: ``local:ID`` or ``kms:ARN``.
        wrapped: What only that key opens.
    """

    kek_id: str
    wrapped: bytes


class KeyProvider(Protocol):
    """
    Wraps data keys with keys that never leave it.

    A context names what a data key belongs to; it is authenticated with the key, not hidden.
    Every method may raise ``ServiceUnavailable`` where the provider cannot serve now, and
    ``ConfigurationError`` where its key is missing, disabled or not ours to use.
    """

    async def primary(self) -> str:
        """Return the id of the key that wraps what is new."""

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        """Make a data key; return it as it is, and wrapped."""

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        """Wrap a data key with the primary key."""

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        """
        Open a data key.

        Raises:
            Refused: ``undecryptable``: it is damaged or belongs elsewhere.
        """


class LocalKeyring:
    """
    Keys of 32 bytes in this process, by id; the first one wraps what is new.

    Args:
        keys: The keys, at least one.
        random: Gives that many random bytes.
    """

    def __init__(self, keys: Mapping[str, bytes], *, random: Random = os.urandom) -> None:
        self._keys = dict(keys)
        self._primary = next(iter(self._keys))
        self._random = random

    @property
    def ids(self) -> list[str]:
        """The ids of the keys, the primary one first."""
        return list(self._keys)

    async def primary(self) -> str:
        return f"{LOCAL}:{self._primary}"

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        key = self._random(KEY_BYTES)
        return key, await self.wrap(key, context)

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        kek = self._keys[self._primary]
        return WrappedKey(await self.primary(), wrap(kek, key, self._random(NONCE_BYTES), context))

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        key_id = wrapped.kek_id.removeprefix(f"{LOCAL}:")
        kek = self._keys.get(key_id)
        if kek is None:
            raise ConfigurationError(
                f"the keyring has no key {key_id}, by which data keys are wrapped: add it again"
            )
        try:
            return unwrap(kek, wrapped.wrapped, context)
        except WrongKey:
            raise ConfigurationError(
                f"the keyring's key {key_id} is not the one that wrapped this data key"
            ) from None
        except BadRecord as error:
            raise Refused("undecryptable", f"a wrapped data key: {error}") from None


class NoKeys:
    """Stands in where no provider is set, and says how to set one."""

    async def primary(self) -> str:
        raise ConfigurationError(UNSET)

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:  # noqa: ARG002
        raise ConfigurationError(UNSET)

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:  # noqa: ARG002
        raise ConfigurationError(UNSET)

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:  # noqa: ARG002
        raise ConfigurationError(f"a data key is wrapped by {wrapped.kek_id}; {UNSET}")


class KeyProviders:
    """
    Several providers as one: the primary wraps, and each unwraps what it wrapped.

    Args:
        primary: The kind of provider that wraps what is new.
        by_kind: Providers by the kind that their key ids begin with.
    """

    def __init__(self, primary: str, by_kind: Mapping[str, KeyProvider]) -> None:
        self._primary: KeyProvider = by_kind.get(primary, NoKeys())
        self._by_kind = dict(by_kind)

    async def primary(self) -> str:
        return await self._primary.primary()

    async def generate(self, context: Mapping[str, str]) -> tuple[bytes, WrappedKey]:
        return await self._primary.generate(context)

    async def wrap(self, key: bytes, context: Mapping[str, str]) -> WrappedKey:
        return await self._primary.wrap(key, context)

    async def unwrap(self, wrapped: WrappedKey, context: Mapping[str, str]) -> bytes:
        provider = self._by_kind.get(wrapped.kek_id.partition(":")[0], NoKeys())
        return await provider.unwrap(wrapped, context)
