"""Chromium without a window, driven by the DevTools protocol: clicks, keys, and what it fetched."""

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
_KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, "")}


class Page:
    """One tab. `requests`, `console` and `dialogs` hold all that it did since it was opened."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.requests: list[str] = []
        self.console: list[str] = []
        self.dialogs: list[str] = []
        self.answers: dict[str, bytes] = {}  # path -> event stream, given instead of the endpoint's
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        until = time.monotonic() + 60
        while time.monotonic() < until:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self._heard(message)
        raise AssertionError(f"no answer to {method}")

    def _heard(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.console += [str(argument.get("value")) for argument in params["args"]]
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(params["exceptionDetails"])[:500])
            case "Log.entryAdded":
                self.console.append(params["entry"]["text"])
            case "Page.javascriptDialogOpening":
                self.dialogs.append(params["message"])
                self._post("Page.handleJavaScriptDialog", accept=False)
            case "Fetch.requestPaused":
                self._answer(params)

    def _post(self, method: str, **params: Any) -> None:
        self._socket.send(json.dumps({"id": next(self._ids), "method": method, "params": params}))

    def _answer(self, paused: dict[str, Any]) -> None:
        url = httpx.URL(paused["request"]["url"])
        body = self.answers.get(url.path)
        if body is None:
            self._post("Fetch.continueRequest", requestId=paused["requestId"])
            return
        headers = {
            "Content-Type": "text/event-stream",
            "X-Headwater-Trace": "0" * 32,
            "X-Headwater-Release": "1" * 64,
        }
        self._post(
            "Fetch.fulfillRequest",
            requestId=paused["requestId"],
            responseCode=200,
            responseHeaders=[{"name": name, "value": value} for name, value in headers.items()],
            body=base64.b64encode(body).decode(),
        )

    def answer_with(self, path: str, events: bytes) -> None:
        """Let a path answer with these events from now on."""
        self.answers[path] = events
        self.send("Fetch.enable", patterns=[{"urlPattern": "*/v1/*"}])

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def eval(self, expression: str) -> Any:
        """The value of an expression in the page (which may be a promise)."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression holds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(AssertionError):  # the page is being replaced
                if self.eval(f"!!({expression})"):
                    return
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}; console: {self.console}")

    def click(self, selector: str, number: int = 0) -> None:
        """Click with the mouse in the middle of an element that is visible there."""
        find = f"document.querySelectorAll({json.dumps(selector)})[{number}]"
        x, y, hit = self.eval(
            f"(() => {{ const e = {find}; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect();"
            " const x = r.x + r.width / 2, y = r.y + r.height / 2;"
            " return [x, y, e.contains(document.elementFromPoint(x, y))]; })()"
        )
        assert hit, f"{selector} is covered by something else"
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def key(self, key: str) -> None:
        code, text = _KEYS[key] if key in _KEYS else (ord(key.upper()), key)
        how = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **how)
        self.send("Input.dispatchKeyEvent", type="keyUp", **how)

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2, mobile=mobile,
        )  # fmt: skip

    def dark(self, yes: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if yes else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path) -> None:
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """A page of a fresh Chromium whose profile lies in a folder; it ends with the block."""
    assert CHROMIUM is not None
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--disable-background-networking",
                "--disable-component-update", "--remote-debugging-port=0",
                f"--user-data-dir={folder / 'profile'}", "about:blank",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        with connect(_page_address(folder / "profile", process), max_size=2**26) as socket:
            yield Page(socket)
    finally:
        with suppress(ProcessLookupError):  # its helpers are in the same session
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _page_address(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    told = profile / "DevToolsActivePort"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with suppress(FileNotFoundError, IndexError, httpx.TransportError, StopIteration):
            port = told.read_text().split()[0]
            targets = httpx.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
            return str(next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page"))
        time.sleep(0.1)
    raise AssertionError((profile.parent / "chromium.log").read_text()[-2000:])
