"""Git's own HTTP backend behind TLS on loopback, which asks for a password and remembers requests."""

import base64
import datetime
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

#: A name that no resolver knows; the certificate is for it and for 127.0.0.1.
HOST = "git.example.test"


class GitServer:
    """Repositories below a folder. `password` is asked for where it is set; `hangs` is without an answer."""

    def __init__(self, folder: Path, backend: Path) -> None:
        self.folder, self.backend = folder, backend
        self.password = ""
        self.hangs = threading.Event()
        self.ended = threading.Event()
        #: Method and path of each request.
        self.asked: list[str] = []
        self.port = 0

    def url(self, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}/handbook/.git"

    @property
    def fetched(self) -> int:
        """How many times objects were asked for. (The list of refs is a POST, too.)"""
        return sum(each == "fetch" for each in self.asked)


@contextmanager
def git_server(folder: Path, state: Path) -> Iterator[GitServer | None]:
    """Serve the repositories of a folder; None where git has no HTTP backend."""
    path = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout
    backend = Path(path.strip()) / "git-http-backend"
    if not backend.exists():
        yield None
        return
    served = GitServer(folder, backend)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(state))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(served: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if served.hangs.is_set():
                served.ended.wait(30)
                return
            sent = self.headers.get("Authorization", "").removeprefix("Basic ")
            if served.password and base64.b64decode(sent).decode() != served.password:
                return self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            if self.path.startswith("/moved/"):
                return self._answer(302, {"Location": self.path.removeprefix("/moved")}, b"")
            self._run()

        do_POST = do_GET

        def _run(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            served.asked.append("fetch" if b"command=fetch" in body else f"{self.command} {path}")
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(served.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "127.0.0.1",
            }
            done = subprocess.run(
                [served.backend], input=body, env=environment, capture_output=True, check=True
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            status = int(headers.pop("Status", "200").split()[0])
            self._answer(status, headers, content)

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def certificate(folder: Path) -> Path:
    """A file with a key and a certificate of its own making."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / "server.pem"
    if path.exists():
        return path
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    names = [x509.DNSName(HOST), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path
