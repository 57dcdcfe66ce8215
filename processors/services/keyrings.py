"""Keyring files, and the key providers that the settings ask for."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from processors.errors import ConfigurationError
from processors.rules.envelope import KEY_BYTES
from processors.rules.keyring import BadKeyring, parse, written
from processors.services.keys import LOCAL, KeyProvider, KeyProviders, LocalKeyring
from processors.services.kms import KMS, open_kms
from processors.settings.encryption import EncryptionSettings

log = structlog.get_logger("processors.encryption")

FIRST_ID: Final = "first"
FILE_BYTES_MAX: Final = 65_536


@asynccontextmanager
async def open_keys(settings: EncryptionSettings) -> AsyncIterator[KeyProvider]:
    """
    Make the providers that are set; without any, each use says what to set.

    Raises:
        ConfigurationError: A keyring is set and cannot be used, or an extra is not installed.
    """
    async with AsyncExitStack() as stack:
        by_kind: dict[str, KeyProvider] = {}
        keys = _local_keys(settings)
        if keys:
            by_kind[LOCAL] = LocalKeyring(keys)
        if settings.kms_key:
            by_kind[KMS] = await stack.enter_async_context(open_kms(settings))
        yield KeyProviders(settings.provider, by_kind)


def _local_keys(settings: EncryptionSettings) -> dict[str, bytes]:
    if settings.keyring:
        return parsed(settings.keyring, "PROCESSORS_ENCRYPTION_KEYRING")
    if not settings.keyring_file:
        return {}
    path = Path(settings.keyring_file)
    if settings.keyring_create and not path.exists():
        _create(path)
    return read_keyring(path)


def _create(path: Path) -> None:
    try:
        write_keyring(path, {FIRST_ID: os.urandom(KEY_BYTES)}, replace=False)
    except FileExistsError:
        return  # Another process was faster; its keys are as good.
    except OSError as error:
        raise ConfigurationError(f"cannot make keyring {path}: {error.strerror}") from None
    log.info("keyring_created", path=str(path))


def read_keyring(path: Path) -> dict[str, bytes]:
    """
    Read a keyring file.

    Raises:
        ConfigurationError: It is not there, others may read it, or it holds no keyring.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            mode = stat.S_IMODE(found.st_mode)
            # What Kubernetes and systemd hand out belongs to root, and is read as its group.
            forbidden = 0o077 if found.st_uid == os.geteuid() else 0o037
            if mode & forbidden:
                raise ConfigurationError(
                    f"keyring {path} has mode {mode:04o}: others may read it; chmod 600 {path}"
                )
            text = file.read(FILE_BYTES_MAX).decode()
    except OSError as error:
        raise ConfigurationError(f"cannot read keyring {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"keyring {path} is not text") from None
    return parsed(text, str(path))


def parsed(text: str, where: str) -> dict[str, bytes]:
    """
    Read a keyring's text.

    Raises:
        ConfigurationError: It holds none.
    """
    try:
        return parse(text)
    except BadKeyring as error:
        raise ConfigurationError(f"keyring {where}: {error}") from None


def write_keyring(path: Path, keys: Mapping[str, bytes], *, replace: bool) -> None:
    """
    Put a keyring file in place, whole or not at all, for its owner alone.

    Args:
        path: The file; its directory is made when missing.
        keys: The keys.
        replace: Whether a file may be there already.

    Raises:
        FileExistsError: It is, and may not.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(written(keys))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            # Unlike a rename, a link does not take the place of what is there.
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
