"""``encryption``: keys of conversations, and contents that are stored already."""

from __future__ import annotations

from engine import Exponential, Job, Registry
from processors.services.bundle import Services
from schemas.messages import (
    Decrypt,
    Encrypt,
    Encryption,
    EncryptionResult,
    ReEncrypt,
    Rewrap,
    Rotate,
    Shred,
    TurnOn,
)


async def encryption(job: Job, payload: Encryption, services: Services) -> EncryptionResult:
    """
    Do what the payload's action says.

    Safe to run twice: rows change only where they still are what was read, and what a job did is
    recorded in the transaction that did it, so a second run returns the first one's result.
    Values that ``decrypt`` returns are read anew each time, and audited once.
    """
    service = services.encryption
    match payload:
        case Encrypt():
            return await service.encrypt(payload, job_id=job.id)
        case Decrypt():
            return await service.decrypt(payload, job_id=job.id)
        case ReEncrypt():
            return await service.re_encrypt(payload, job_id=job.id)
        case Rotate():
            return await service.rotate(payload, job_id=job.id)
        case Rewrap():
            return await service.rewrap(payload, job_id=job.id)
        case Shred():
            return await service.shred(payload, job_id=job.id)
        case TurnOn():
            return await service.turn_on(payload)


def register(types: Registry) -> None:
    """Register the type, with its queue and its patience."""
    types.job(
        "encryption",
        queue="encryption",
        timeout_s=120,
        retry=Exponential(attempts=8, base_s=1, cap_s=300),
    )(encryption)
