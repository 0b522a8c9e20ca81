"""A small local HTTP server for tests of downloads, which can simulate faults.

    with Loopback({"/data/a.tar": b"..."}) as server:          # or Loopback(Path("folder"))
        server.misbehave("/data/a.tar", Fault(status=503), Fault(cut=1000))   # for the next two requests
        server.misbehave("/data/b.tar", Fault(status=404), always=True)       # until misbehave(path) is called again
        ...  # get server.url + "/data/a.tar"
        server.asked("/data/a.tar")                             # the headers of every request for it, in order

An answer without a fault has a Content-Length and an ETag, and honours Range and If-Range.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass(frozen=True)
class Fault:
    """How one answer differs from an answer without a fault.

    Attributes:
        status: send this error status without the file.
        location: redirect to this address.
        body: send these bytes instead of the file.
        cut: close the connection after this many bytes of the answer.
        stall: send nothing more after this many bytes, but keep the connection open.
        trickle: send small pieces with this many seconds between them.
        no_range: ignore Range and send the whole file.
        no_length: send no Content-Length.
        no_version: send no ETag.
    """

    status: int | None = None
    location: str | None = None
    body: bytes | None = None
    cut: int | None = None
    stall: int | None = None
    trickle: float | None = None
    no_range: bool = False
    no_length: bool = False
    no_version: bool = False


class Loopback:
    """Serves the files of a dict (by path) or a folder inside a `with` block; `url` is its address."""

    def __init__(self, files: dict[str, bytes] | Path):
        self.files = files
        self._requests: list[tuple[str, Message]] = []
        self._faults: dict[str, list[Fault]] = {}
        self._always: set[str] = set()

    def __enter__(self) -> Loopback:
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"loopback": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # Leaving the block takes up to this interval.
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def misbehave(self, path: str, *faults: Fault, always: bool = False) -> None:
        """Apply the faults to the next requests for `path`, one per request, or with `always` one fault to all.

        Without faults, `path` is served normally again.
        """
        self._faults[path] = list(faults)
        (self._always.add if always else self._always.discard)(path)

    def asked(self, path: str) -> list[Message]:
        """The headers of the requests for `path` so far."""
        return [headers for asked, headers in self._requests if asked == path]

    def _fault(self, path: str) -> Fault:
        faults = self._faults.get(path)
        return (faults[0] if path in self._always else faults.pop(0)) if faults else Fault()

    def _content(self, path: str) -> bytes | None:
        if isinstance(self.files, dict):
            return self.files.get(path)
        file = self.files / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.loopback._requests.append((path, self.headers))
        fault = self.loopback._fault(path)
        content = self.loopback._content(path) if fault.body is None else fault.body
        with suppress(ConnectionError):  # a client may disconnect at any time
            if fault.location:
                self._answer(302, {"Location": fault.location, "Content-Length": 0})
            elif fault.status or content is None:
                self._answer(fault.status or 404, {"Content-Length": 0})
            else:
                self._serve(content, fault)

    def _serve(self, content: bytes, fault: Fault) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        status, headers, start = 200, {} if fault.no_version else {"ETag": tag}, 0
        if "Range" in self.headers and not fault.no_range and self.headers.get("If-Range", tag) == tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self._answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": 0})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        content = content[start:]
        self._answer(status, headers if fault.no_length else headers | {"Content-Length": len(content)})
        sent = content[: fault.cut if fault.cut is not None else fault.stall]
        step = 100 if fault.trickle else max(len(sent), 1)
        for at in range(0, len(sent), step):
            self.wfile.write(sent[at : at + step])
            self.loopback._closing.wait(fault.trickle or 0)
        if fault.stall is not None:
            self.loopback._closing.wait()

    def _answer(self, status: int, headers: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *args) -> None:
        pass
