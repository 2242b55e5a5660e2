"""The listener for those who watch: ``/metrics``, ``/health/live`` and ``/health/ready``, in threads of their own.

It answers also while the event loop does not turn, and says so.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any, Final, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from outlay.observe.health import Health

T = TypeVar("T")
log = structlog.get_logger()

TURN_MAX_S: Final = 8.0
"""How long the event loop may take for an answer of its health, until it counts as stuck."""

CONNECTIONS_MAX: Final = 16
RETRY_S: Final = 5.0
_JSON: Final = [("Content-Type", "application/json")]
_STATUS: Final = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape a few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(*arguments, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection while there is a place for it."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked has hung up."""


class Listener:
    """Listens on a port of its own; without one, it only asks."""

    def __init__(self, registry: CollectorRegistry, health: Health, *, host: str, port: int) -> None:
        """Keep the parts; ``port`` 0: there is no listener."""
        self._registry, self._health, self._place = registry, health, (host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[None] | None = None
        self._server: WSGIServer | None = None

    async def start(self) -> None:
        """Listen. A port that is taken is asked for again: whoever pays is not kept from it by who watches."""
        self._loop = asyncio.get_running_loop()
        if self._place[1] and not self._open():
            self._opening = asyncio.create_task(self._keep_opening(), name="metrics port")

    async def stop(self) -> None:
        """Listen no more."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        server, self._server, self._loop = self._server, None, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def health(self) -> tuple[bool, Mapping[str, bool]] | None:
        """Return from another thread whether the process is live, and each check; None: the loop does not turn."""

        async def ask() -> tuple[bool, Mapping[str, bool]]:
            return self._health.is_live(), await self._health.look()

        return self._ask(ask)

    def _ask(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        if self._loop is None or self._loop.is_closed():
            return None
        asked = asyncio.run_coroutine_threadsafe(function(), self._loop)
        try:
            return asked.result(TURN_MAX_S)
        except TimeoutError:
            asked.cancel()
            return None

    def _open(self) -> bool:
        try:
            server = make_server(*self._place, self._answer, server_class=_Server, handler_class=_Handler)
        except OSError as error:
            log.error("metrics_not_served", port=self._place[1], problem=str(error.strerror))
            return False
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.2,), name="metrics", daemon=True).start()
        return True

    async def _keep_opening(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            if self._open():
                return

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            # The plain format, in which the counter outlay_payouts_total and the gauge outlay_payouts differ in name.
            shown = generate_latest(self._registry)
            start_response(_STATUS[200], [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)])
            return [shown]
        if path in ("/health/live", "/health/ready"):
            found = self.health()
            live, checks = (False, {}) if found is None else found
            good = live if path.endswith("live") else bool(checks) and all(checks.values())
            words = ("live", "stuck") if path.endswith("live") else ("ready", "unready")
            return _say(start_response, 200 if good else 503, {"status": words[0 if good else 1]})
        return _say(start_response, 404, {"status": "unknown"})


def _say(start_response: Any, status: int, body: dict[str, str]) -> list[bytes]:
    start_response(_STATUS[status], list(_JSON))  # it is added to
    return [json.dumps(body).encode()]
