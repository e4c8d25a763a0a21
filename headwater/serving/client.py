"""A client of our own endpoint: find it, ask it, wait for its release. Knows HTTP only."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import SecretStr

from headwater.errors import HeadwaterError
from headwater.files import read_json
from headwater.serving.credentials import operator_key
from headwater.settings import Settings

#: Seconds an endpoint on this machine may take to say whether it is ready.
_READY_TIMEOUT = 3.0
_MENDS = {
    401: "Set HEADWATER_API_KEY to a key of `headwater keys create`.",
    403: "Set HEADWATER_API_KEY to a key with that scope.",
}


class EndpointError(HeadwaterError):
    """The endpoint refused a request or is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running endpoint; `error` tells why it has no release, or not the newest.

    `recent_answers` are the champion's in the last minutes that canary.yaml names.
    """

    url: str
    pid: int
    ready: bool
    release: str | None
    error: str | None
    recent_answers: int


def endpoint_file(settings: Settings) -> Path:
    """Where a running endpoint tells its address."""
    return settings.serving / "endpoint.json"


def find_endpoint(settings: Settings) -> Endpoint | None:
    """The endpoint that runs for this installation, or None.

    What a killed endpoint left behind is not believed: its process must live, and answer as ours.
    """
    told = read_json(endpoint_file(settings))
    if told is None or not psutil.pid_exists(told["pid"]):
        return None
    try:
        ready = _ready(told["url"], operator_key(settings, told["url"]))
    except (httpx.HTTPError, ValueError):
        return None
    if not isinstance(ready, dict) or ready.get("pid") != told["pid"]:
        return None
    return Endpoint(
        url=told["url"],
        pid=told["pid"],
        ready=ready["ready"],
        release=ready["release"],
        error=ready["error"],
        recent_answers=ready["recent_answers"],
    )


def ask(
    url: str,
    question: str,
    *,
    user: str | None = None,
    key: SecretStr | None = None,
    timeout: float = 120.0,
) -> dict[str, Any]:
    """One question to the endpoint at `url`.

    Args:
        user: names who asks; stays with one release while a canary runs.
        key: where the endpoint needs one; see `credentials.client_key`.
        timeout: seconds; the request's deadline, too.

    Returns:
        answer; citations, a list of uri, title, heading, start, end, text; release; trace.

    Raises:
        EndpointError: it is not there, or refused.
    """
    try:
        with _client(timeout, key) as client:
            response = client.post(
                f"{url}/v1/chat/completions",
                json=_body(question, user),
                headers={"X-Headwater-Deadline": f"{timeout:g}"},
            )
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if response.is_error:
        raise EndpointError(
            f"The endpoint at {url} refused: {_message(response)}",
            mend=_MENDS.get(response.status_code, "`headwater status` tells whether it is ready."),
        )
    reply = response.json()
    return {
        "answer": reply["choices"][0]["message"]["content"],
        "citations": reply["citations"],
        "release": response.headers["X-Headwater-Release"],
        "trace": response.headers["X-Headwater-Trace"],
    }


def wait_for_release(
    url: str,
    release: str,
    timeout: float = 60.0,
    *,
    canary: str | None = None,
    key: SecretStr | None = None,
) -> None:
    """Have the endpoint load what the pointer names, and wait until that is `release`.

    Args:
        canary: where given, wait until this one is loaded beside it, too.
        key: as for `ask`; needed where the endpoint listens on another address than loopback.

    Raises:
        EndpointError: it cannot load it, or did not within `timeout` seconds.
    """
    until = time.monotonic() + timeout
    last = "it was not asked"
    while time.monotonic() < until:
        try:
            with _client(max(_READY_TIMEOUT, until - time.monotonic()), key) as client:
                reply = client.post(f"{url}/admin/reload")
        except httpx.HTTPError as error:
            last = f"no answer: {error}"
        else:
            if reply.is_error:
                last = _message(reply)
                break
            serves = reply.json()
            if serves["release"] == release and canary in (None, serves["canary"]):
                return
            last = f"it serves {serves['release']}"
        time.sleep(0.1)
    raise EndpointError(
        f"The endpoint at {url} did not load release {release}: {last}.",
        mend="See the endpoint's log, then build again.",
    )


def canary_judgement(url: str, *, key: SecretStr | None = None) -> dict[str, Any] | None:
    """What the endpoint's evidence on its canary shows now; None without a canary.

    Raises:
        EndpointError: it is not there, or refused.
    """
    try:
        with _client(_READY_TIMEOUT, key) as client:
            response = client.get(f"{url}/admin/canary")
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if response.is_error:
        raise EndpointError(
            f"The endpoint at {url} refused: {_message(response)}",
            mend="Ask on the machine that it runs on.",
        )
    found: dict[str, Any] | None = response.json()["judgement"]
    return found


def _body(question: str, user: str | None) -> dict[str, Any]:
    body = {"model": "headwater", "messages": [{"role": "user", "content": question}]}
    return body if user is None else {**body, "user": user}


def _unreachable(url: str, error: httpx.HTTPError) -> EndpointError:
    return EndpointError(
        f"The endpoint at {url} does not answer: {error}.", mend="Start it by `headwater serve`."
    )


def _ready(url: str, key: SecretStr | None) -> Any:
    with _client(_READY_TIMEOUT, key) as client:
        return client.get(f"{url}/readyz").json()


def _client(timeout: float, key: SecretStr | None) -> httpx.Client:
    # Proxies of the environment are not asked for an address on this machine.
    return httpx.Client(timeout=timeout, trust_env=False, headers=authorization(key))


def authorization(key: SecretStr | None) -> dict[str, str]:
    """The header that carries a key; nothing for None."""
    return {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"
