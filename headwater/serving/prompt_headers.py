"""A connection whose request's head does not come is closed. Knows uvicorn's protocol, no routes.

Uvicorn waits for headers as long as a client likes; a few hundred clients that send a byte now and
then would hold all connections. The body's time is bounded by the application.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 35\r\nconnection: close\r\n\r\nThe request's head took too long.\r\n"
)


def prompt_headers(seconds: float) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, with `seconds` for each request's head to arrive."""
    base: Any = AutoHTTPProtocol

    class PromptHeaders(base):  # type: ignore[misc]
        """Between two requests uvicorn's keep-alive timeout counts; ours from the first byte on."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._alarm: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, error: Exception | None) -> None:
            self._rest()
            super().connection_lost(error)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._rest()  # the head is here
            elif self._alarm is None and not self.transport.is_closing():
                self._alarm = self.loop.call_later(seconds, self._end)

        def _rest(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

        def _end(self) -> None:
            self._alarm = None
            if not self.transport.is_closing():
                self.transport.write(_ANSWER)
                self.transport.close()

    return PromptHeaders
