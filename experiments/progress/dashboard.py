"""optuna-dashboard on a run's storage, served on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from search.storage import open_storage
from space.optional import needed
from space.validation import InvalidInput


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Prints nothing."""


def serve(storage: str, port: int, *, ready: Callable[[str], None]) -> None:
    """Serves the dashboard of the storage at a URL until interrupted.

    `ready` is called with the address; port 0 takes a free port. Raises `InvalidInput` if the
    package is not installed or the port is in use.
    """
    package = needed("optuna_dashboard", "dashboard", "phiscale dashboard")
    app = package.wsgi(open_storage(storage))
    try:
        server = make_server("127.0.0.1", port, _local_only(app), handler_class=_Silent)
    except OSError as error:
        raise InvalidInput(
            f"--port {port}: not available ({error.strerror}); choose another, or 0 for a free one"
        ) from None
    with server:
        ready(f"http://127.0.0.1:{server.server_port}/")
        server.serve_forever()


def _local_only(app: Any) -> Any:
    """Refuses requests to other host names, which another site could point to this machine."""

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"only for this machine\n"]
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return guarded
