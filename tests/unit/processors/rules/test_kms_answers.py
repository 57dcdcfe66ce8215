"""What errors of AWS KMS mean."""

from __future__ import annotations

import pytest

from processors.rules.kms_answers import KmsMeaning, kms_meaning


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("ThrottlingException", 400, KmsMeaning.UNAVAILABLE),
        ("LimitExceededException", 400, KmsMeaning.UNAVAILABLE),
        ("KMSInternalException", 500, KmsMeaning.UNAVAILABLE),
        ("DependencyTimeoutException", 503, KmsMeaning.UNAVAILABLE),
        ("KeyUnavailableException", 500, KmsMeaning.UNAVAILABLE),
        ("Unheard", 502, KmsMeaning.UNAVAILABLE),
        ("", 429, KmsMeaning.UNAVAILABLE),
        ("NotFoundException", 400, KmsMeaning.CONFIGURATION),
        ("DisabledException", 400, KmsMeaning.CONFIGURATION),
        ("KMSInvalidStateException", 400, KmsMeaning.CONFIGURATION),
        ("AccessDeniedException", 400, KmsMeaning.CONFIGURATION),
        ("UnrecognizedClientException", 400, KmsMeaning.CONFIGURATION),
        ("InvalidKeyUsageException", 400, KmsMeaning.CONFIGURATION),
        ("Unheard", 400, KmsMeaning.CONFIGURATION),
        ("InvalidCiphertextException", 400, KmsMeaning.DAMAGED),
        ("IncorrectKeyException", 400, KmsMeaning.DAMAGED),
    ],
)
def test_each_error_has_one_meaning(code: str, status: int, meaning: KmsMeaning) -> None:
    assert kms_meaning(code, status) is meaning
