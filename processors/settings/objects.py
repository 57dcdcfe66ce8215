"""Settings of the object store."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[int, msgspec.Meta(ge=1, le=604_800)]
Hours = Annotated[int, msgspec.Meta(ge=1, le=8_760)]


class ObjectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Settings of the object store of attachments, ``PROCESSORS_OBJECTS_*``.

    Attributes:
        url: Where objects are: ``s3://bucket/prefix``, ``gs://bucket/prefix``,
            ``az://container/prefix``, ``file:///directory``, or ``memory:///`` for tests. Empty:
            there are no attachments.
        endpoint: URL of an S3 server other than Amazon's, or of an Azure emulator.
        region: Region of S3.
        access_key_id: Access key of S3; the provider's usual variables and roles if empty.
        secret_access_key: Secret key of S3. [secret]
        path_style: Put the bucket into the path, as most other S3 servers want it.
            Default false.
        allow_http: Talk to a server without TLS. Default false.
        options: Further options of obstore's store, ``name=value,name=value``, such as
            ``account_key``. [secret]
        timeout_ms: Longest request. Default 30 s.
        size_max: Largest attachment, in bytes. Default 100 MiB.
        upload_url_s: How long a URL to upload to is valid. Default 15 min.
        download_url_s: How long a URL to download from is valid. Default 5 min.
        unclaimed_hours: Uploads that no message claims are removed after that. Default 24 h.
        orphan_hours: Objects without a row are left alone until they are that old. Default 24 h.
        deletes_at_once: Objects deleted at the same time. Default 8.
    """

    url: str = ""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    path_style: bool = False
    allow_http: bool = False
    options: dict[str, str] = {}
    timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=600_000)] = 30_000
    size_max: Annotated[int, msgspec.Meta(ge=1, le=5_368_709_120)] = 104_857_600
    upload_url_s: Seconds = 900
    download_url_s: Seconds = 300
    unclaimed_hours: Hours = 24
    orphan_hours: Hours = 24
    deletes_at_once: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8

    def __post_init__(self) -> None:
        if self.upload_url_s > self.unclaimed_hours * 3_600:
            # Otherwise an object could come after its row is gone.
            raise ValueError("upload_url_s must be at most unclaimed_hours")
