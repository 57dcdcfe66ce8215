"""
Access to Google's APIs with a service account: a signed request buys a token for an hour.

The account's file also says where tokens are bought, so that a test's account leads to its peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from engine import Clock
from processors.errors import ConfigurationError
from processors.rules import fcm
from processors.rules.answers import Answer, Kind
from processors.senders.exchange import NoReply, post

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
GRANT_S: Final = 3_600
RENEW_EARLY_MS: Final = 300_000
"""So long before its end a token is replaced, unless it is shorter-lived than twice that."""

CODE_CHARS_MAX: Final = 64

Text = Annotated[str, msgspec.Meta(min_length=1)]
Sign = Callable[[dict[str, Any]], str]


class ServiceAccount(msgspec.Struct, frozen=True):
    """
    What is used of a service account's file.

    Attributes:
        project_id: The Firebase project.
        private_key: Signs the requests for tokens.
        private_key_id: By which Google finds the public one.
        client_email: Who asks.
        token_uri: Where tokens are bought.
    """

    project_id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.:-]{0,99}$")]
    private_key: Text
    client_email: Text
    token_uri: Annotated[str, msgspec.Meta(pattern=r"^https?://")]
    private_key_id: str = ""


class _Bought(msgspec.Struct):
    """A token as it is sold."""

    access_token: Text
    expires_in: Annotated[float, msgspec.Meta(ge=1, le=1_000_000)] = GRANT_S


class NoToken(Exception):
    """
    No token could be bought.

    Attributes:
        answer: What that means for the message that needed it.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.code)
        self.answer = answer


def read_account(text: str) -> ServiceAccount:
    """
    Read a service account's file.

    Raises:
        ConfigurationError: It is none; the message says what to do, and nothing of the key.
    """
    variable = "PROCESSORS_PUSH_FCM_SERVICE_ACCOUNT"
    hint = (
        f"{variable}_FILE must name the JSON file that the Firebase console makes under "
        "Project settings > Service accounts > Generate new private key"
    )
    try:
        account = msgspec.json.decode(text.encode("utf-8", "replace"), type=ServiceAccount)
    except msgspec.ValidationError as error:
        # Tells field and type, never a value.
        raise ConfigurationError(f"{variable} is no service account: {error}; {hint}") from None
    except msgspec.DecodeError:
        raise ConfigurationError(f"{variable} is not JSON; {hint}") from None
    if urlsplit(account.token_uri).scheme == "http" and not _is_loopback(account.token_uri):
        raise ConfigurationError(f"{variable}: token_uri must begin with https://; {hint}")
    return account


def signer(account: ServiceAccount) -> Sign:
    """
    Make what signs requests for tokens.

    Raises:
        ConfigurationError: The key cannot be read, or the extra is not installed.
    """
    jwt = import_jwt()
    try:
        key = load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigurationError(
            "PROCESSORS_PUSH_FCM_SERVICE_ACCOUNT: private_key is no RSA key in PEM form; "
            "make a new one in the Firebase console"
        )
    found = key
    headers = {"kid": account.private_key_id} if account.private_key_id else None
    return lambda claims: str(jwt.encode(claims, found, algorithm="RS256", headers=headers))


def import_jwt() -> Any:
    """
    Import what signs tokens.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    try:
        import jwt
    except ImportError:
        raise ConfigurationError(
            "push needs packages that are not installed: pip install 'streamlane[push]'"
        ) from None
    return jwt


class AccessTokens:
    """
    Keeps one token and buys the next before it ends; many who need one wait for one purchase.

    Args:
        session: For the requests.
        account: Who asks.
        timeout_ms: How long a purchase may take.
        clock: The time.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        account: ServiceAccount,
        *,
        timeout_ms: int,
        clock: Clock,
    ) -> None:
        self._session = session
        self._account = account
        self._sign = signer(account)
        self._timeout_ms = timeout_ms
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token = ""
        self._renew_s = 0.0
        self._end_s = 0.0

    async def token(self, *, refused: str = "") -> str:
        """
        Return a token, other than the one refused.

        Raises:
            NoToken: None could be bought.
        """
        if self._is_fresh(refused):
            return self._token
        async with self._lock:
            if self._is_fresh(refused):
                # Somebody else has bought it meanwhile.
                return self._token
            try:
                await self._buy()
            except NoToken:
                if self._token == refused or self._clock.monotonic() >= self._end_s:
                    raise
                # The one that we have is still good; the next message tries again.
            return self._token

    def _is_fresh(self, refused: str) -> bool:
        return self._token != refused and self._clock.monotonic() < self._renew_s

    async def _buy(self) -> None:
        now_ms = self._clock.now_ms()
        started_s = self._clock.monotonic()
        claims = {
            "iss": self._account.client_email,
            "scope": SCOPE,
            "aud": self._account.token_uri,
            "iat": now_ms // 1000,
            "exp": now_ms // 1000 + GRANT_S,
        }
        body = urlencode({"grant_type": GRANT, "assertion": self._sign(claims)}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            reply = await post(
                self._session, self._account.token_uri, body, headers, timeout_ms=self._timeout_ms
            )
        except NoReply as error:
            answer = Answer(error.answer.kind, f"oauth-{error.code}", scope="provider")
            raise NoToken(answer) from None
        if reply.status != 200:
            raise NoToken(fcm.token_answer(reply.status, reply.headers, reply.body, now_ms=now_ms))
        try:
            bought = msgspec.json.decode(reply.body, type=_Bought)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise NoToken(Answer(Kind.LATER, "oauth-malformed", scope="provider")) from None
        early_s = min(RENEW_EARLY_MS / 1000, bought.expires_in / 2)
        self._token = bought.access_token
        self._end_s = started_s + bought.expires_in
        self._renew_s = self._end_s - early_s


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}
