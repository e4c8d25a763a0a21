"""The key that our own clients send: the user's, or the endpoint's local one.

Knows files and settings, not HTTP. An endpoint makes a local key at each start. That of a running
endpoint lies in a file that only its user can read; that of one in this process stays in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from headwater.files import write_atomic
from headwater.serving.keys import new_secret
from headwater.settings import Settings

#: The id in local keys, and in the log of what they ask.
LOCAL = "local"
#: Local keys of the endpoints that this process serves itself, by URL.
_own: dict[str, SecretStr] = {}


def local_key_file(settings: Settings) -> Path:
    """Where a running endpoint leaves the key for clients on this machine."""
    return settings.serving / "local.key"


def client_key(settings: Settings, url: str) -> SecretStr | None:
    """What a client that acts for the user sends to the endpoint at `url`; None for nothing."""
    return settings.api_key or _own.get(url) or local_key(settings)


def operator_key(settings: Settings, url: str) -> SecretStr | None:
    """What this installation itself sends: to find its endpoint, move it and verify it.

    The local key first: it may do everything, and costs nobody's quota.
    """
    return _own.get(url) or local_key(settings) or settings.api_key


def local_key(settings: Settings) -> SecretStr | None:
    """The running endpoint's local key, where there is one that we may read."""
    try:
        return SecretStr(local_key_file(settings).read_text("ascii").strip())
    except (FileNotFoundError, PermissionError):  # another user's endpoint: it wants a key of ours
        return None


def new_local_key() -> tuple[SecretStr, str]:
    """A fresh local key and its digest."""
    secret, digest = new_secret(LOCAL)
    return SecretStr(secret), digest


@contextmanager
def published(settings: Settings, secret: SecretStr) -> Iterator[None]:
    """Leave a local key for other processes of this user within the block."""
    path = local_key_file(settings)
    write_atomic(path, secret.get_secret_value() + "\n", mode=0o600)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def remembered(url: str, secret: SecretStr) -> Iterator[None]:
    """Keep the key of an endpoint in this process within the block."""
    _own[url] = secret
    try:
        yield
    finally:
        del _own[url]
