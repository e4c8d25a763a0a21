"""An endpoint to ask: the one that runs, or else one in this process; and proof of its release."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from headwater.errors import HeadwaterError
from headwater.records import short
from headwater.release import pointer
from headwater.serving.client import ask, find_endpoint, wait_for_release
from headwater.serving.credentials import operator_key
from headwater.serving.request_log import VERIFIER
from headwater.settings import Settings

#: What a fresh release is asked; any corpus can refuse it or answer it.
PROBE = "What is described here?"


@contextmanager
def connect(settings: Settings) -> Iterator[tuple[str, bool]]:
    """Base URL of an endpoint with the current release, and whether it is one that serves users.

    Where none runs, the same application is served from this process on a free loopback port
    until the block ends.

    Raises:
        HeadwaterError: there is no release yet.
    """
    from headwater.serving.server import serve_in_thread

    current = pointer.current(settings)
    if current is None:
        raise HeadwaterError("There is no release yet.", mend="Run `headwater build`.")
    running = find_endpoint(settings)
    if running is not None:
        if not running.ready:  # it has just been started
            wait_for_release(running.url, current, key=operator_key(settings, running.url))
        yield running.url, True
        return
    with serve_in_thread(settings) as url:
        yield url, False


def verify(
    url: str, release: str, *, key: SecretStr | None = None, timeout: float = 120.0
) -> dict[str, Any]:
    """Wait until the endpoint serves a release, and have it answer a question with it.

    Args:
        key: where the endpoint needs one.

    Returns:
        What `ask` returns, and the question.

    Raises:
        HeadwaterError: it does not load the release, or another one answers.
    """
    wait_for_release(url, release, timeout, key=key)
    reply = ask(url, PROBE, user=VERIFIER, key=key)
    if reply["release"] != release:
        raise HeadwaterError(
            f"The endpoint answered with release {short(reply['release'])}, not {short(release)}.",
            mend="Another promotion came between; run `headwater build` again.",
        )
    return {**reply, "question": PROBE}
