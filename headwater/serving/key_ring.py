"""Which requests an endpoint takes: the keys in force, followed as their file changes.

Knows keys and what they may do, not routes. Where the endpoint is bound to loopback and no key was
ever made, everybody on the machine may do everything.
"""

import hmac
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from headwater.errors import HeadwaterError
from headwater.files import signature
from headwater.serving.admission import RequestRate
from headwater.serving.credentials import LOCAL
from headwater.serving.keys import (
    SCOPES,
    Key,
    Scope,
    digest_secret,
    keys_file,
    read_keys,
    secret_id,
)
from headwater.serving.openai_types import ApiError
from headwater.settings import Settings

log = logging.getLogger("headwater")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: a key's id, "local" for a client of ours on this machine, "" for anybody."""

    key: str = ""
    scopes: tuple[Scope, ...] = SCOPES
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None

    @property
    def is_local(self) -> bool:
        """Whether it holds the endpoint's local key."""
        return self.key == LOCAL


#: Whoever asks where no key is needed.
ANYBODY = Caller()


class KeyRing:
    """The keys of an endpoint. Used from one thread, the event loop's.

    Args:
        settings: where `keys.json` lies.
        is_loopback: whether only this machine reaches the endpoint.
        local_digest: of the endpoint's local key; None where it has none.

    Raises:
        HeadwaterError: `keys.json` cannot be read.
    """

    def __init__(
        self, settings: Settings, *, is_loopback: bool, local_digest: str | None = None
    ) -> None:
        self._settings, self._local = settings, local_digest
        self._seen: object = signature(keys_file(settings))
        self._keys = read_keys(settings)
        self._guarded = bool(self._keys) or not is_loopback
        self._told: object = None
        self._rate = RequestRate()

    @property
    def is_open(self) -> bool:
        """Whether no key is needed. Revoked and expired keys are keys: losing them opens nothing."""
        self._follow()
        return not self._guarded

    def caller(self, authorization: str | None) -> Caller:
        """Who sends this `Authorization` header.

        Raises:
            ApiError: it is missing, unknown, expired or revoked (401).
        """
        if self.is_open:
            return ANYBODY
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise _unauthorized(
                "This endpoint needs an API key: send it as 'Authorization: Bearer KEY'.",
                "missing_api_key",
            )
        return self._of(secret.strip())

    def count(self, caller: Caller) -> None:
        """Count a request against the caller's requests a minute.

        Raises:
            ApiError: it has had them (429).
        """
        if caller.requests_per_minute is not None:
            self._rate.take(caller.key, caller.requests_per_minute)

    def _of(self, secret: str) -> Caller:
        now, digest = datetime.now(UTC), digest_secret(secret)
        id = secret_id(secret)
        if id == LOCAL and self._local is not None and hmac.compare_digest(digest, self._local):
            return Caller(key=LOCAL)
        key = self._keys.get(id or "")
        if key is None or not _holds(key, digest, now):
            raise _unauthorized("This API key is not known here.", "invalid_api_key")
        if (state := key.state(now)) != "active":
            raise _unauthorized(f"This API key is {state}.", f"{state}_api_key")
        return Caller(
            key=key.id,
            scopes=key.scopes,
            requests_per_minute=key.requests_per_minute,
            tokens_per_day=key.tokens_per_day,
        )

    def _follow(self) -> None:
        """Read the file where it has changed; where it cannot be read, what was known stays."""
        seen = signature(keys_file(self._settings))
        if seen == self._seen:
            return
        try:
            self._keys = read_keys(self._settings)
        except HeadwaterError as error:
            if seen != self._told:  # tried again at each request, told once
                log.error("endpoint: %s The keys known so far stay in force.", error)
            self._told = seen
            return
        self._seen = seen
        # A file that is gone for a moment must not open the endpoint: that takes a restart.
        self._guarded = self._guarded or bool(self._keys)


def _holds(key: Key, digest: str, now: datetime) -> bool:
    """Whether the digest is of one of the key's secrets, in a time that tells nothing of them."""
    matches = [hmac.compare_digest(digest, own) for own in key.digests(now)]
    return any(matches)


def _unauthorized(told: str, code: str) -> ApiError:
    return ApiError(401, told, kind="authentication_error", code=code)
