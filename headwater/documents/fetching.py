"""Fetching over HTTP where somebody else names the address: which ones may be reached, and how much
is taken from them.

A host is resolved here, each of its addresses is checked, and the connection goes to a checked one,
so nothing can be resolved to another address in between; a redirect is a new request that is checked
like the first. Knows neither sites nor documents.
"""

import math
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Self

import httpcore
import httpx

from headwater.documents.kinds.base import ReadError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Answers without a body, whatever their headers say of one.
_BODILESS = frozenset({204, 304})
#: Of one URL. The table's own limit is none, what asks for a document by its URI has one of 2,048.
MAX_URL = 2_000
#: Members of one gzip stream; each costs a copy of what follows it.
_MAX_MEMBERS = 100
_BLOCK = 2**16
_SHARED = IPv4Network("100.64.0.0/10")
#: Special by IANA's registries, and not by Python's `is_private`.
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL = IPv6Network("2000::/3")


class FetchError(ReadError):
    """A URL that cannot be fetched; `passing` is one that may be fetched at another time."""

    def __init__(self, reason: str, detail: str, *, passing: bool = False) -> None:
        super().__init__(reason, detail)
        self.passing = passing


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one request, its redirects apart."""

    seconds: float = 60.0  # from the first byte sent to the last one received
    silence: float = 15.0  # without a byte, or a connection
    redirects: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said; header names are in small letters."""

    url: str  # where the last redirect led
    status: int
    headers: Mapping[str, str]
    body: bytes


def parse_url(url: str) -> httpx.URL:
    """A URL in its normal form, without its fragment.

    Raises:
        FetchError: `bad_url`: no absolute http or https URL, with a user or password, or too long.
    """
    try:
        parsed = httpx.URL(url)
        found = parsed.copy_with(fragment=None)
        host = parsed.host
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchError("bad_url", f"{url[:200]!r} is no URL: {error}") from error
    if found.scheme not in ("http", "https") or not host:
        raise FetchError("bad_url", f"{url[:200]!r} is no http or https URL")
    if found.userinfo:
        raise FetchError("bad_url", "a URL with a user or a password")
    if found.port is not None and not 0 < found.port < 2**16:
        raise FetchError("bad_url", f"a URL with the port {found.port}")
    if len(str(found)) > MAX_URL:
        raise FetchError("bad_url", f"a URL of {len(str(found)):,} characters")
    return found


def why_not(address: str) -> str | None:
    """What an address is, where it must not be reached unasked; None of a public one."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return _why_not_4(ip)
    if ip.ipv4_mapped is not None:
        return _why_not_4(ip.ipv4_mapped)
    if ip in _NAT64:
        return _why_not_4(IPv4Address(int(ip) & 0xFFFFFFFF))
    return _why_not_6(ip)


def _why_not_either(ip: IPv4Address | IPv6Address) -> str | None:
    kinds = {
        "unspecified": ip.is_unspecified,
        "loopback": ip.is_loopback,
        "link-local": ip.is_link_local,
        "multicast": ip.is_multicast,
    }
    return next((kind for kind, is_one in kinds.items() if is_one), None)


def _why_not_4(ip: IPv4Address) -> str | None:
    if (kind := _why_not_either(ip)) is not None:
        return kind
    if ip in _SHARED:
        return "shared by a carrier's NAT"
    if ip.is_reserved or any(ip in network for network in _SPECIAL):
        return "reserved"
    return "private" if ip.is_private else None


def _why_not_6(ip: IPv6Address) -> str | None:
    if (kind := _why_not_either(ip)) is not None:
        return kind
    if ip.sixtofour is not None or ip.teredo is not None:
        return "a tunnel to an IPv4 address"
    if ip.is_private or ip.is_site_local:
        return "private"
    return None if ip in _GLOBAL else "reserved"


def addresses_of(host: str, port: int, allow_private: Collection[str]) -> list[str]:
    """Addresses of a host, none of which may be forbidden: one that is says enough of it.

    Args:
        allow_private: hosts (`name` or `name:port`) whatever address they have.

    Raises:
        FetchError: `forbidden_address`.
        httpcore.ConnectError: the name cannot be resolved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"its name cannot be resolved: {error}") from error
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    shown = f"[{host}]" if ":" in host else host
    if not {name.lower() for name in allow_private} & {host, shown, f"{shown}:{port}"}:
        for address in addresses:
            word = why_not(address)
            if word is not None:
                raise FetchError("forbidden_address", f"{host} is {address}, which is {word}")
    return addresses


class Fetcher:
    """GET requests, one at a time, to public addresses and to hosts that are named as private.

    Proxies, cookies and credentials of the environment are not used. Close it after use.

    Args:
        user_agent: what the servers are told.
        allow_private: hosts (`wiki.intern`, or `wiki.intern:8443` for one port) whatever address
            they have.
        delay: seconds between the end of a request and the next one; may be changed later.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        allow_private: Collection[str] = (),
        delay: float = 0.0,
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.delay = delay
        self._user_agent = user_agent
        self._limits = limits or Limits()
        self._sleep = sleep
        self._last = -math.inf  # when the last request ended, of the monotonic clock
        self._held = -math.inf  # until when none may begin
        self._clock = _Clock()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(),
            max_connections=4,
            keepalive_expiry=30.0,
            network_backend=_CheckedBackend(allow_private, self._clock),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def hold(self, seconds: float) -> None:
        """Begin no request for so long."""
        self._held = max(self._held, time.monotonic() + seconds)

    @property
    def wait(self) -> float:
        """Seconds until the next request may begin."""
        return max(0.0, max(self._last + self.delay, self._held) - time.monotonic())

    def get(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        check: Callable[[httpx.URL], None] = lambda url: None,
        reads: Callable[[int, Mapping[str, str]], bool] = lambda status, headers: True,
    ) -> Answer:
        """What a URL answers, after redirects.

        Args:
            max_bytes: of the body, as it was sent and inflated.
            headers: more of them, such as `If-None-Match`.
            check: raises a FetchError for a URL that is not to be asked; also asked about redirects.
            reads: whether the body of an answer with this status and these headers is wanted.

        Raises:
            FetchError: `bad_url`, `forbidden_address`, `too_many_redirects`, `too_large`,
                `bad_response`; passing ones: `unreachable`, `too_slow`.
        """
        target = parse_url(url)
        for _ in range(self._limits.redirects + 1):
            check(target)
            self._sleep_until_free()
            try:
                answer = self._ask(target, headers or {}, max_bytes, reads)
            finally:
                self._last = time.monotonic()
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            target = _join(target, location)
        raise FetchError("too_many_redirects", f"more than {self._limits.redirects} redirects")

    def _sleep_until_free(self) -> None:
        seconds = self.wait
        if seconds > 0:
            self._sleep(seconds)

    def _ask(
        self,
        url: httpx.URL,
        more: Mapping[str, str],
        max_bytes: int,
        reads: Callable[[int, Mapping[str, str]], bool],
    ) -> Answer:
        silence = self._limits.silence
        headers: dict[str, str] = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": self._user_agent,
            "Accept": "*/*",
            "Accept-Encoding": "gzip",
            **more,
        }
        self._clock.begin(self._limits.seconds)
        try:
            with self._pool.stream(
                "GET",
                httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=[*headers.items()],
                extensions={
                    "timeout": dict.fromkeys(("connect", "read", "write", "pool"), silence)
                },
            ) as response:
                heads = _headers(response.headers)
                body = b""
                if response.status in _BODILESS:
                    b"".join(response.iter_stream())  # so that the connection is kept
                elif response.status not in _REDIRECTS and reads(response.status, heads):
                    body = _body(response.iter_stream(), heads, max_bytes)
                return Answer(url=str(url), status=response.status, headers=heads, body=body)
        except httpcore.TimeoutException as error:
            raise FetchError(
                "too_slow", f"{url.host} did not answer in time", passing=True
            ) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            detail = f"{url.host}: {error or type(error).__name__}"
            raise FetchError("unreachable", detail, passing=True) from error


def inflate(chunks: Iterable[bytes], max_bytes: int) -> bytes:
    """The content of a gzip stream.

    Raises:
        FetchError: `too_large`, at most a block beyond the limit was inflated; `bad_response`.
    """
    content = bytearray()
    inflater, members = zlib.decompressobj(wbits=31), 1
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if inflater.eof:
                    inflater, members = zlib.decompressobj(wbits=31), members + 1
                    if members > _MAX_MEMBERS:
                        raise FetchError("bad_response", f"gzip of more than {_MAX_MEMBERS} parts")
                content += inflater.decompress(rest, max_bytes + 1 - len(content))
                if len(content) > max_bytes:
                    raise FetchError("too_large", f"more than {max_bytes:,} bytes inflated")
                rest = inflater.unused_data
    except zlib.error as error:
        raise FetchError("bad_response", f"damaged gzip: {error}") from error
    if not inflater.eof:
        raise FetchError("bad_response", "gzip that ends too early")
    return bytes(content)


def in_blocks(content: bytes) -> Iterable[bytes]:
    """Bytes as they would arrive over a network."""
    return (content[at : at + _BLOCK] for at in range(0, len(content), _BLOCK))


def _body(chunks: Iterable[bytes], headers: Mapping[str, str], max_bytes: int) -> bytes:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise FetchError("too_large", f"{int(length[:20]):,} bytes; the limit is {max_bytes:,}")
    encoding = headers.get("content-encoding", "").strip().lower()
    bounded = _bounded(chunks, max_bytes)
    match encoding:
        case "" | "identity":
            return b"".join(bounded)
        case "gzip" | "x-gzip":
            return inflate(bounded, max_bytes)
        case _:
            raise FetchError("bad_response", f"an encoding that was not asked for: {encoding[:50]}")


def _bounded(chunks: Iterable[bytes], max_bytes: int) -> Iterable[bytes]:
    taken = 0
    for chunk in chunks:
        taken += len(chunk)
        if taken > max_bytes:
            raise FetchError("too_large", f"more than {max_bytes:,} bytes")
        yield chunk


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name in small letters; what is there twice is joined by commas."""
    found: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _join(base: httpx.URL, location: str) -> httpx.URL:
    try:
        # Servers send bytes; those that are no ASCII are UTF-8 or nothing we know.
        joined = base.join(location.encode("latin-1").decode("utf-8", "replace"))
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchError("bad_url", f"a redirect to no URL: {error}") from error
    return parse_url(str(joined))


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Certificates of certifi, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`; made once, it takes long."""
    return httpx.create_ssl_context()


class _Clock:
    """When the request that is under way must have ended."""

    def __init__(self) -> None:
        self._end = math.inf

    def begin(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, timeout: float | None) -> float:
        """What is left of a time limit."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for this request is over")
        return left if timeout is None else min(left, timeout)


class _TimedStream(httpcore.NetworkStream):
    """A connection whose reads and writes end with the request's time, however slowly bytes drip."""

    def __init__(self, stream: httpcore.NetworkStream, clock: _Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._clock.left(timeout))
        return _TimedStream(inner, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to checked addresses only; the name stays what TLS verifies."""

    def __init__(self, allow_private: Collection[str], clock: _Clock) -> None:
        self._allowed = allow_private
        self._clock = clock
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failed: Exception | None = None
        for address in addresses_of(host, port, self._allowed):
            try:
                stream = self._inner.connect_tcp(
                    address, port, self._clock.left(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _TimedStream(stream, self._clock)
        raise failed or httpcore.ConnectError("it has no address")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        raise FetchError("forbidden_address", "a socket of this machine")
