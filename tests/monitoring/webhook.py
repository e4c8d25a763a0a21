"""A webhook on loopback that can be down, and remembers what it took."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """Takes JSON posts while it is up; otherwise it says 503."""

    def __init__(self) -> None:
        self.up = True
        self.taken: list[dict[str, Any]] = []
        self.refused = 0
        self.arrived = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with hook.arrived:
                    if hook.up:
                        hook.taken.append(body)
                    else:
                        hook.refused += 1
                    hook.arrived.notify_all()
                self.send_response(200 if hook.up else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """As Apprise writes it."""
        return f"json://127.0.0.1:{self._server.server_port}/hook?token=s3cret-canary"

    @property
    def ids(self) -> list[str]:
        """Ids of the messages that it took, in order."""
        return [post["message"].rsplit("Message: ", 1)[1] for post in self.taken]

    def wait_for(self, count: int) -> None:
        """Return once so many were taken; the test's own timeout is the limit."""
        with self.arrived:
            self.arrived.wait_for(lambda: len(self.taken) >= count)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
