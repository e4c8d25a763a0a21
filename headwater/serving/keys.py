"""API keys on disk: who may use the endpoint, for what, how much and until when.

Knows `keys.json`, not HTTP. A secret is shown once and kept as its SHA-256: it holds 256 random
bits, so nobody can guess it from the digest however fast the hash is. Slow hashes are for what
people choose, and would cost every request some milliseconds.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Literal, get_args

from headwater.errors import HeadwaterError
from headwater.files import read_json, write_json
from headwater.settings import Settings

Scope = Literal["chat", "embeddings", "feedback", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
#: What a key may do where nobody says: what an application needs. Feedback is trained on.
DEFAULT_SCOPES: tuple[Scope, ...] = ("chat", "embeddings")
#: Seconds for which the secret before a rotation stays valid.
GRACE_SECONDS = 3600.0
#: Format of `keys.json`.
KEYS_VERSION = 1

_SECRET_BYTES = 32
_SECRET = re.compile(rb"hw_(?:[0-9a-f]{8}|local)_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[^\W_][\w .@/-]{0,63}")

State = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key without its secret; times are ISO 8601 in UTC.

    `digest` is of the secret, `old_digest` of the one before a rotation, valid until `old_until`.
    None as a quota is no quota, None as `expires` is never.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    digest: str
    created: str
    expires: str | None = None
    revoked: str | None = None
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    old_digest: str | None = None
    old_until: str | None = None

    def state(self, now: datetime) -> State:
        """Whether it may be used."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if _is_past(self.expires, now) else "active"

    def digests(self, now: datetime) -> list[str]:
        """Digests of the secrets that are its own now."""
        old = self.old_digest is not None and not _is_past(self.old_until, now)
        return [self.digest, *([self.old_digest] if old and self.old_digest else [])]

    def public(self) -> dict[str, Any]:
        """What a list may show of it: everything but digests."""
        shown = {name: value for name, value in asdict(self).items() if "digest" not in name}
        return shown | {"state": self.state(_now())}


def keys_file(settings: Settings) -> Path:
    """Where the keys of an installation lie."""
    return settings.serving / "keys.json"


def read_keys(settings: Settings) -> dict[str, Key]:
    """Every key by id, also revoked and expired ones; empty where none was ever made.

    Raises:
        HeadwaterError: the file is not what we write; nobody must take that for "no keys".
    """
    path = keys_file(settings)
    try:
        value = read_json(path)
        if value is None:
            return {}
        if value["version"] != KEYS_VERSION:
            raise ValueError(f"version {value['version']!r}")
        return {id: _from_json(id, fields) for id, fields in value["keys"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadwaterError(
            f"{path} cannot be read: {error}.",
            mend="Restore it from a backup, or remove it and create the keys anew.",
        ) from error


def create(
    settings: Settings,
    name: str,
    *,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    requests_per_minute: int | None = None,
    tokens_per_day: int | None = None,
    days: float | None = None,
) -> tuple[Key, str]:
    """Make a key. Returns it with its secret, which is nowhere else.

    Args:
        days: until it expires; None for never.

    Raises:
        HeadwaterError: the name is no name or is taken by an active key, or a scope is unknown.
    """
    if not _NAME.fullmatch(name):
        raise HeadwaterError(
            f"{name!r} cannot name a key.",
            mend="Use up to 64 letters, digits, spaces and . _ - @ /, the first a letter or digit.",
        )
    chosen = _scopes(scopes)
    now = _now()
    with _changing(settings) as keys:
        if any(key.name == name and key.state(now) == "active" for key in keys.values()):
            raise HeadwaterError(
                f"There is an active key called {name!r} already.",
                mend="Give another name, or rotate or revoke that one.",
            )
        id = _new_id(keys)
        secret, digest = new_secret(id)
        key = Key(
            id=id,
            name=name,
            scopes=chosen,
            digest=digest,
            created=_text(now),
            expires=None if days is None else _text(now + timedelta(days=days)),
            requests_per_minute=requests_per_minute,
            tokens_per_day=tokens_per_day,
        )
        keys[id] = key
    return key, secret


def revoke(settings: Settings, id: str) -> Key:
    """End a key at once. Its record stays, so that the log's ids keep a name.

    Args:
        id: or an unambiguous beginning of it.

    Raises:
        HeadwaterError: there is no such key.
    """

    def change(key: Key, now: datetime) -> Key:
        return replace(key, revoked=key.revoked or _text(now), old_digest=None, old_until=None)

    return _change(settings, id, change)


def rotate(settings: Settings, id: str, *, grace: float = GRACE_SECONDS) -> tuple[Key, str]:
    """Give a key a new secret; the one before stays valid for `grace` seconds.

    A rotation within the grace of another ends the grace of the oldest secret.

    Raises:
        HeadwaterError: there is no such key, or it is revoked or expired.
    """
    secrets_made: list[str] = []

    def change(key: Key, now: datetime) -> Key:
        if (state := key.state(now)) != "active":
            raise HeadwaterError(
                f"Key {key.id} ({key.name}) is {state}.", mend="Create another by `keys create`."
            )
        secret, digest = new_secret(key.id)
        secrets_made.append(secret)
        until = _text(now + timedelta(seconds=grace))
        keeps = grace > 0
        return replace(
            key,
            digest=digest,
            old_digest=key.digest if keeps else None,
            old_until=until if keeps else None,
        )

    key = _change(settings, id, change)
    return key, secrets_made[0]


def new_secret(id: str) -> tuple[str, str]:
    """A fresh secret for a key's id, and its digest."""
    secret = f"hw_{id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return secret, digest_secret(secret)


def digest_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def secret_id(secret: str) -> str | None:
    """The id that a secret names, or None where it does not look like one of ours."""
    parts = secret.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "hw" else None


def scrub(line: bytes) -> bytes:
    """Text without the secrets in it: somebody will paste one into a question."""
    return _SECRET.sub(b"[API KEY]", line) if b"hw_" in line else line


def _change(settings: Settings, id: str, change: Callable[[Key, datetime], Key]) -> Key:
    with _changing(settings) as keys:
        found = [key for key in keys if id and key.startswith(id)]
        if len(found) != 1:
            raise HeadwaterError(
                f"{len(found)} keys have an id that begins with {id!r}.",
                mend="`headwater keys list` shows them; give the whole id.",
            )
        key = change(keys[found[0]], _now())
        keys[key.id] = key
    return key


@contextmanager
def _changing(settings: Settings) -> Iterator[dict[str, Key]]:
    """The keys, written back where the block ends well; one process at a time."""
    settings.serving.mkdir(parents=True, exist_ok=True)
    with (settings.serving / ".keys.lock").open("w") as file:
        flock(file, LOCK_EX)
        keys = read_keys(settings)
        yield keys
        value = {"version": KEYS_VERSION, "keys": {id: asdict(key) for id, key in keys.items()}}
        write_json(keys_file(settings), value, mode=0o600)


def _from_json(id: str, fields: dict[str, Any]) -> Key:
    key = Key(**{**fields, "scopes": _scopes(fields["scopes"])})
    if key.id != id:
        raise ValueError(f"key {id} calls itself {key.id}")
    for moment in (key.expires, key.old_until):
        _is_past(moment, _now())
    return key


def _scopes(given: Sequence[str]) -> tuple[Scope, ...]:
    unknown = sorted(set(given) - set(SCOPES))
    if unknown or not given:
        raise HeadwaterError(
            f"There is no scope {unknown[0]!r}." if unknown else "A key needs a scope.",
            mend=f"Scopes are {', '.join(SCOPES)}.",
        )
    return tuple(scope for scope in SCOPES if scope in given)


def _new_id(keys: dict[str, Key]) -> str:
    while (id := secrets.token_hex(4)) in keys:
        pass
    return id


def _now() -> datetime:
    return datetime.now(UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _is_past(moment: str | None, now: datetime) -> bool:
    return moment is not None and datetime.fromisoformat(moment) <= now
