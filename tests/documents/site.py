"""A web site on loopback that serves what a test puts there, and remembers what it was asked for."""

import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Ways to write an address of this machine, and what each is refused as.
LOOPBACK = {
    "127.0.0.1": "forbidden_address",
    "localhost": "forbidden_address",
    "LocalHost": "forbidden_address",
    "127.1": "forbidden_address",
    "2130706433": "forbidden_address",
    "0x7f000001": "forbidden_address",
    "0x7f.1": "forbidden_address",
    "017700000001": "forbidden_address",
    "0177.1": "forbidden_address",
    "0177.0.0.1": "bad_url",
    "0": "forbidden_address",
    "0.0.0.0": "forbidden_address",
    "[::1]": "forbidden_address",
    "[::]": "forbidden_address",
    "[::ffff:127.0.0.1]": "forbidden_address",
    "[::ffff:7f00:1]": "forbidden_address",
    "[::127.0.0.1]": "forbidden_address",
    "[64:ff9b::7f00:1]": "forbidden_address",
    "[2002:7f00:1::]": "forbidden_address",
}


@dataclass
class Reply:
    """What one path answers; `seconds` is the pause before each byte."""

    body: bytes = b""
    status: int = 200
    type: str = "text/html; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    listed: bool = True
    lastmod: str = ""
    conditional: bool = True
    counted: bool = True  # whether Content-Length is sent
    seconds: float = 0.0

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'


class Site:
    """Replies by path. The sitemap lists them all, and robots.txt is absent, unless put otherwise."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[str] = []
        self.answered: list[tuple[str, int]] = []
        self.agents: set[str] = set()
        self.more: list[str] = []  # further URLs that the sitemap lists
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.agents.add(self.headers.get("User-Agent", ""))
                site.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.netloc}/"

    def put(self, path: str, body: str | bytes = b"", **fields: Any) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.replies[path] = Reply(body=content, **fields)

    def put_gzip(self, path: str, body: bytes, **fields: Any) -> None:
        """A body that is sent compressed."""
        headers = {"Content-Encoding": "gzip"}
        self.put(path, gzip.compress(body), headers=headers, **fields)

    def forget(self) -> None:
        """Forget what it was asked for."""
        self.asked.clear()
        self.answered.clear()

    def pages(self, status: int) -> list[str]:
        """Paths of pages that were answered so, in order."""
        files = ("/robots.txt", "/sitemap.xml")
        return [path for path, told in self.answered if told == status and path not in files]

    def sitemap(self) -> bytes:
        entries = [
            f"<url><loc>{self.url}{path[1:]}</loc>"
            + (f"<lastmod>{reply.lastmod}</lastmod>" if reply.lastmod else "")
            + "</url>"
            for path, reply in self.replies.items()
            if reply.listed
        ]
        entries += [f"<url><loc>{url}</loc></url>" for url in self.more]
        space = "http://www.sitemaps.org/schemas/sitemap/0.9"
        return f'<?xml version="1.0"?><urlset xmlns="{space}">{"".join(entries)}</urlset>'.encode()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        reply = self.replies.get(handler.path)
        if reply is None and handler.path == "/sitemap.xml":
            reply = Reply(body=self.sitemap(), type="application/xml")
        if reply is None:
            reply = Reply(status=404, body=b"not here")
        status, body = reply.status, reply.body
        if reply.conditional and handler.headers.get("If-None-Match") == reply.etag:
            status, body = 304, b""
        self.answered.append((handler.path, status))
        handler.send_response(status)
        handler.send_header("Content-Type", reply.type)
        if reply.conditional:
            handler.send_header("ETag", reply.etag)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.counted:
            handler.send_header("Content-Length", str(len(body)))
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        try:
            if not reply.seconds:
                handler.wfile.write(body)
            for byte in body if reply.seconds else b"":
                time.sleep(reply.seconds)
                handler.wfile.write(bytes([byte]))
        except OSError:
            handler.close_connection = True  # the client has had enough, as some tests want it to

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()
    try:
        yield site
    finally:
        site.close()
