"""What an error of AWS KMS means for who asked."""

from __future__ import annotations

import enum
from typing import Final


class KmsMeaning(enum.Enum):
    """What becomes of the request."""

    UNAVAILABLE = "unavailable"
    """KMS cannot serve now; asking again later may work."""

    CONFIGURATION = "configuration"
    """The key or the access to it is not as it has to be; somebody has to change that."""

    DAMAGED = "damaged"
    """The wrapped key is not what KMS gave out, or belongs elsewhere."""


DAMAGED: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
UNAVAILABLE: Final = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


def kms_meaning(code: str, status: int) -> KmsMeaning:
    """
    Judge an error that KMS answered with.

    What is not known counts as a matter of configuration: the jobs stay, and nothing is lost.

    Args:
        code: The error's name, such as ``DisabledException``.
        status: The HTTP status.
    """
    if code in DAMAGED:
        return KmsMeaning.DAMAGED
    if code in UNAVAILABLE or status >= 500 or status == 429:
        return KmsMeaning.UNAVAILABLE
    return KmsMeaning.CONFIGURATION
