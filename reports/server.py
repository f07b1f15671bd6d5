"""Serves the report of a run on the loopback interface while the run goes on.

Serves what `reports.page.write` would write at that moment, and writes nothing. The browser reloads
the page every few seconds until the family is complete.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

from reports import page, tables
from reports.load import Run, load
from reports.tables import Tables
from space.validation import InvalidInput

#: Seconds after which the run is read again.
FRESH = 5.0
#: Seconds after which a silent connection is closed, and the most connections at a time (assumed:
#: ample for a browser, which opens six).
_SILENCE = 10.0
_CONNECTIONS = 16
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
}


@dataclass
class _Reader:
    """The run as last read; one thread reads while the others wait."""

    run_dir: Path
    storage: str | None
    read: tuple[float, Run, Tables] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> tuple[Run, Tables]:
        with self.lock:
            if self.read is None or time.monotonic() - self.read[0] > FRESH:
                run = load(self.run_dir, self.storage)
                self.read = (time.monotonic(), run, tables.collect(run))
            return self.read[1:]


def serve(
    run_dir: Path | str,
    storage: str | None = None,
    *,
    port: int = 0,
    ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serves the report of a run to this machine until interrupted.

    `ready` is called with the page's address; port 0 takes a free port. Raises
    `space.validation.InvalidInput` if the run cannot be read or the port is in use.
    """
    with server(run_dir, storage, port) as made:
        ready(f"http://127.0.0.1:{made.server_address[1]}/")
        made.serve_forever()


def server(run_dir: Path | str, storage: str | None = None, port: int = 0) -> ThreadingHTTPServer:
    """The server of `serve`, bound to the loopback interface and not yet serving."""
    reader = _Reader(Path(run_dir), storage)
    reader.now()  # a run that cannot be read raises here, not in the browser

    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENCE

        def do_GET(self) -> None:
            _answer(self, reader)

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    try:
        return _BoundedServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise InvalidInput(
            f"--port {port}: not available ({error.strerror}); choose another, or 0 for a free one"
        ) from None


class _BoundedServer(ThreadingHTTPServer):
    """Answers at most `_CONNECTIONS` requests at a time; others wait until one is done."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._free.acquire()
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints nothing where a browser has left before its answer."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


def _answer(request: BaseHTTPRequestHandler, reader: _Reader) -> None:
    port = request.connection.getsockname()[1]
    if request.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        # DNS rebinding: another site's name that points to this machine may not read the run.
        request.send_error(403)
        return
    try:
        run, found = reader.now()
    except InvalidInput as error:
        request.send_error(503, explain=str(error))
        return
    name = request.path.partition("?")[0].removeprefix("/") or "index.html"
    if name not in ("index.html", *page.file_names(found)):
        request.send_error(404)
        return
    content = page.content(name, run, found)
    request.send_response(200)
    request.send_header("Content-Type", _TYPES[PurePosixPath(name).suffix])
    request.send_header("Content-Length", str(len(content)))
    request.send_header("Cache-Control", "no-store")
    request.send_header("X-Content-Type-Options", "nosniff")
    if name == "index.html" and not run.family:
        request.send_header("Refresh", f"{2 * FRESH:.0f}")
    request.end_headers()
    request.wfile.write(content)
