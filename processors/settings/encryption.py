"""Settings of encryption."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

USES_MAX = 2**30
"""Records under one key: random nonces of 12 bytes collide too often well beyond 2^32."""


class EncryptionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of encryption, ``PROCESSORS_ENCRYPTION_*``.

    Attributes:
        provider: What wraps new data keys: the local keyring, or kms. Default local.
        keyring: Keys as id=base64, parted by spaces; the first one wraps what is new. [secret]
        keyring_file: A file with such keys, one per line, that nobody but its owner may read.
        keyring_create: Make that file with a first key where there is none: for trying out.
            Default false.
        kms_key: The key in AWS KMS: ARN, id or alias.
        kms_region: Its region; empty for what AWS's own settings say.
        kms_endpoint: Another address of KMS, for tests and private links.
        kms_timeout_ms: Longest wait for one answer of KMS. Default 3 s.
        cache_keys_max: Data keys held in memory, at most. Default 10,000.
        cache_ttl_s: How long a data key is held: so long a shredded or disabled key may still
            open what it sealed. Default 300 s.
        uses_block: Uses of a data key that a process books at once. Default 1,000.
        epoch_uses_max: Uses after which a conversation gets a new data key. Default 2^30, the most
            that is allowed.
        epoch_days_max: Days after which it gets one. Default 90.
        chunk_rows: Messages or keys that one job changes before the next takes over. Default 200.
        reply_keys: X25519 public keys, base64, to which decrypt may seal values. Default none.
        decrypt_plain: Let decrypt return values as they are, which puts them into Redis.
            Default false.
        decrypt_store: Let decrypt write values back into messages, which undoes encryption at
            rest. Default false.
    """

    provider: Literal["local", "kms"] = "local"
    keyring: str = ""
    keyring_file: str = ""
    keyring_create: bool = False
    kms_key: str = ""
    kms_region: str = ""
    kms_endpoint: str = ""
    kms_timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=60_000)] = 3_000
    cache_keys_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    cache_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300
    uses_block: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1_000
    epoch_uses_max: Annotated[int, msgspec.Meta(ge=1, le=USES_MAX)] = USES_MAX
    epoch_days_max: Annotated[int, msgspec.Meta(ge=1, le=3_650)] = 90
    chunk_rows: Annotated[int, msgspec.Meta(ge=1, le=500)] = 200
    reply_keys: tuple[str, ...] = ()
    decrypt_plain: bool = False
    decrypt_store: bool = False

    def __post_init__(self) -> None:
        if self.keyring and self.keyring_file:
            raise ValueError("keyring and keyring_file exclude each other")
        if self.keyring_create and not self.keyring_file:
            raise ValueError("keyring_create needs keyring_file, the file to make")
        if self.provider == "kms" and not self.kms_key:
            raise ValueError("provider kms needs kms_key")
        if self.uses_block > self.epoch_uses_max:
            raise ValueError("uses_block must be at most epoch_uses_max")
