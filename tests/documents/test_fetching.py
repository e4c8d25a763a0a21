"""What may be fetched: no form of a forbidden address, and no more than the bounds."""

import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpcore
import pytest

from headwater.documents import fetching
from headwater.documents.fetching import Fetcher, FetchError, Limits, inflate, parse_url, why_not
from tests.documents.site import LOOPBACK, Site, serving


@pytest.fixture
def canary() -> Iterator[Site]:
    """What nobody may reach."""
    with serving() as site:
        yield site
        assert site.asked == []


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def fetcher(site: Site | None = None, **fields) -> Fetcher:
    allowed = [site.netloc] if site else []
    return Fetcher(user_agent="test", allow_private=allowed, **fields)


def refusal(url: str, site: Site | None = None, *, max_bytes: int = 9_999, **fields) -> FetchError:
    with fetcher(site, **fields) as client, pytest.raises(FetchError) as error:
        client.get(url, max_bytes=max_bytes)
    return error.value


@pytest.mark.parametrize(("host", "reason"), LOOPBACK.items())
def test_no_form_of_a_forbidden_address_is_reached(canary, host, reason):
    assert refusal(f"http://{host}:{canary.port}/").reason == reason


@pytest.mark.parametrize(("host", "reason"), LOOPBACK.items())
def test_nor_by_a_redirect(canary, site, host, reason):
    site.put("/", status=302, headers={"Location": f"http://{host}:{canary.port}/secret"})
    assert refusal(site.url, site).reason == reason
    assert site.asked == ["/"]


@pytest.mark.parametrize("host", ["127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1"])
def test_letters_that_look_like_an_address_are_none_or_that_address(canary, host):
    assert refusal(f"http://{host}:{canary.port}/").reason in ("bad_url", "forbidden_address")


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.8.8.8", "loopback"),
        ("10.0.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("169.254.169.254", "link-local"),
        ("100.64.0.1", "shared"),
        ("100.127.255.255", "shared"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("192.0.0.8", "reserved"),
        ("192.0.2.1", "private"),
        ("198.18.0.1", "private"),
        ("0.1.2.3", "private"),
        ("fd00::1", "private"),
        ("fec0::1", "private"),
        ("fe80::1%eth0", "link-local"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "private"),
        ("2001::7f00:1", "tunnel"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a00:1", "private"),
        ("64:ff9b:1::1", "reserved"),
        ("100::1", "private"),
        ("4000::1", "reserved"),
    ],
)
def test_addresses_that_are_not_public(address, word):
    found = why_not(address)
    assert found is not None
    assert word in found


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "100.63.255.255", "100.128.0.1", "2606:4700:4700::1111", "64:ff9b::101:101"],
)
def test_addresses_that_are_public(address):
    assert why_not(address) is None


def resolving(monkeypatch, *answers: list[str]) -> list[str]:
    """Have names resolve to one answer after another; what was resolved."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def fake(host, port, *args, **kwargs):
        if not host.endswith(".test"):
            return real(host, port, *args, **kwargs)
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


def connecting(monkeypatch) -> list[str]:
    """Have no connection come about; the addresses that were tried."""
    tried: list[str] = []

    def connect_tcp(self, host, *args, **kwargs):
        tried.append(host)
        raise httpcore.ConnectError("not here")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect_tcp)
    return tried


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(canary, monkeypatch):
    # A name that is public when it is checked, and private as soon as it is asked for again.
    asked = resolving(monkeypatch, ["93.184.216.34", "1.1.1.1"], ["127.0.0.1"])
    tried = connecting(monkeypatch)
    assert refusal(f"http://rebind.test:{canary.port}/").reason == "unreachable"
    assert asked == ["rebind.test"]
    assert tried == ["93.184.216.34", "1.1.1.1"]


def test_a_name_with_one_forbidden_address_is_not_connected_to_at_all(canary, monkeypatch):
    resolving(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    tried = connecting(monkeypatch)
    error = refusal(f"http://both.test:{canary.port}/")
    assert (error.reason, error.passing) == ("forbidden_address", False)
    assert "10.0.0.1, which is private" in error.detail
    assert tried == []


def test_a_host_that_is_named_may_be_private_on_its_port_alone(canary, site, monkeypatch):
    resolving(monkeypatch, ["127.0.0.1"])
    site.put("/", "hello")
    with Fetcher(user_agent="test", allow_private=[f"Wiki.test:{site.port}"]) as client:
        assert client.get(f"http://wiki.TEST:{site.port}/", max_bytes=9).body == b"hello"
        with pytest.raises(FetchError, match="loopback"):
            client.get(f"http://wiki.test:{canary.port}/", max_bytes=9)
        with pytest.raises(FetchError, match="loopback"):
            client.get(f"http://other.test:{site.port}/", max_bytes=9)
    with Fetcher(user_agent="test", allow_private=["wiki.test"]) as client:
        assert client.get(f"http://wiki.test:{site.port}/", max_bytes=9).status == 200


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "//127.0.0.1/",
        "http:///x",
        "http://user:pass@127.0.0.1/",
        "http://127.0.0.1\r\nHost: x/",
        "http://127.0.0.1:99999999/",
        "http://[fe80::1/",
        "http://127.0.0.1/" + "x" * 2_000,
    ],
)
def test_what_is_no_url_of_a_page(url, site):
    assert refusal(url).reason == "bad_url"
    if url == "http:///x":
        return  # as a redirect it is a path of the same host
    site.put("/", status=301, headers={"Location": url.replace("\r\n", "")})
    error = refusal(site.url, site)
    assert error.reason in ("bad_url", "forbidden_address")


def test_urls_have_one_form():
    found = parse_url("HTTP://Example.ORG:80/a b?q=\u00fc#part")
    assert str(found) == "http://example.org/a%20b?q=%C3%BC"


def test_redirects_are_followed_and_bounded(site):
    site.put("/a", status=301, headers={"Location": "b/c?d=1"})
    site.put("/b/c?d=1", status=307, headers={"Location": "//" + site.netloc + "/e"})
    site.put("/e", "here")
    with fetcher(site) as client:
        answer = client.get(site.url + "a", max_bytes=9)
    assert (answer.status, answer.body, answer.url) == (200, b"here", site.url + "e")
    site.forget()
    site.put("/loop", status=302, headers={"Location": "/loop"})
    assert refusal(site.url + "loop", site).reason == "too_many_redirects"
    assert site.asked == ["/loop"] * 6


def test_each_hop_is_put_to_the_caller(site):
    def check(url):
        if url.path == "/private":
            raise FetchError("robots", "no")

    site.put("/", status=302, headers={"Location": "/private"})
    with fetcher(site) as client, pytest.raises(FetchError, match="no"):
        client.get(site.url, max_bytes=9, check=check)
    assert site.asked == ["/"]


@pytest.mark.parametrize("counted", [True, False])
def test_a_body_beyond_its_bound_is_not_taken(site, counted):
    site.put("/", b"x" * 100, counted=counted)
    assert refusal(site.url, site, max_bytes=99).reason == "too_large"
    with fetcher(site) as client:
        assert len(client.get(site.url, max_bytes=100).body) == 100


def test_a_compressed_body_is_bounded_as_what_it_inflates_to(site):
    site.put_gzip("/", b"x" * 5_000_000)
    assert refusal(site.url, site, max_bytes=100_000).reason == "too_large"
    site.put_gzip("/", b"x" * 1_000)
    with fetcher(site) as client:
        assert client.get(site.url, max_bytes=1_000).body == b"x" * 1_000
    site.put("/", b"no gzip", headers={"Content-Encoding": "gzip"})
    assert refusal(site.url, site).reason == "bad_response"
    site.put("/", b"?", headers={"Content-Encoding": "br"})
    assert refusal(site.url, site).reason == "bad_response"


def test_gzip_in_parts_and_gzip_that_is_cut():
    parts = gzip.compress(b"a") + gzip.compress(b"b")
    assert inflate([parts[:5], parts[5:]], 9) == b"ab"
    for damaged in (parts[:-3], b"", gzip.compress(b"a") * 101):
        with pytest.raises(FetchError) as error:
            inflate([damaged], 999)
        assert error.value.reason == "bad_response"


def test_a_body_that_drips_ends_with_the_time_of_its_request(site):
    site.put("/", b"x" * 1_000, seconds=0.05)
    error = refusal(site.url, site, limits=Limits(seconds=0.3, silence=5))
    assert (error.reason, error.passing) == ("too_slow", True)


def test_a_server_that_is_silent_or_gone_may_be_back(site):
    site.put("/", b"x", seconds=3)
    assert refusal(site.url, site, limits=Limits(silence=0.1)).passing
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    named = Fetcher(user_agent="test", allow_private=["127.0.0.1"])
    with named as client, pytest.raises(FetchError) as error:
        client.get(f"http://127.0.0.1:{port}/", max_bytes=9)
    assert (error.value.reason, error.value.passing) == ("unreachable", True)


def test_requests_keep_their_distance(site):
    site.put("/", status=302, headers={"Location": "/b"})
    site.put("/b", "b")
    slept: list[float] = []
    with fetcher(site, delay=500.0, sleep=slept.append) as client:
        client.get(site.url, max_bytes=9)
        client.hold(900.0)
        client.get(site.url + "b", max_bytes=9)
    first, second = slept  # before the redirect's request, and before the one that follows
    assert 400 < first <= 500
    assert 800 < second <= 900


def test_headers_that_are_sent(site):
    site.put("/", "x")
    with fetcher(site) as client:
        etag = client.get(site.url, max_bytes=9).headers["etag"]
        answer = client.get(site.url, max_bytes=9, headers={"If-None-Match": etag})
    assert (answer.status, answer.body) == (304, b"")
    assert site.agents == {"test"}


def test_proxies_of_the_environment_are_not_asked(canary, site, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, canary.url)
    site.put("/", "direct")
    with fetcher(site) as client:
        assert client.get(site.url, max_bytes=9).body == b"direct"


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Port of a server whose certificate, which is trusted, is for site.test."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["Host"].encode())

        def log_message(self, *_: object) -> None:
            pass

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("site.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    fetching._tls.cache_clear()
    yield server.server_port
    fetching._tls.cache_clear()
    server.shutdown()
    server.server_close()


def test_certificates_are_verified_for_the_name_not_for_the_address(secure, monkeypatch):
    resolving(monkeypatch, ["127.0.0.1"])
    with Fetcher(user_agent="test", allow_private=["site.test", "other.test"]) as client:
        answer = client.get(f"https://site.test:{secure}/", max_bytes=99)
        assert answer.body == f"site.test:{secure}".encode()
        with pytest.raises(FetchError, match=r"other\.test"):
            client.get(f"https://other.test:{secure}/", max_bytes=99)
