"""An RPC provider with a plan: it stands before a real node and lets only so many requests through."""

import http.client
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Throttle:
    """Listens on a port of its own and forwards to ``target`` what its limit allows; answers 429 to the rest.

    The window slides: in any ``period_s`` seconds no more than ``limit`` pass. Refused requests never reach the node.
    """

    def __init__(
        self,
        target: str,
        *,
        limit: int = 10,
        period_s: float = 1.0,
        counts_calls: bool = False,
        retry_after: bool = False,
    ) -> None:
        """Listen, in threads of its own.

        Args:
            target: URL of the node.
            limit: requests in a period, >= 1.
            period_s: seconds, > 0.
            counts_calls: a batch counts as its calls; one that never fits is refused for ever.
            retry_after: refusals say how long to wait, in whole seconds.
        """
        self.allowed = 0  #: requests let through
        self.refused = 0  #: requests answered with 429
        self.methods: list[str] = []  #: every method let through
        self._limit, self._period_s, self._counts_calls = limit, period_s, counts_calls
        self._passed: deque[float] = deque()
        self._is_closed = False
        self._lock = threading.Lock()
        host = target.removeprefix("http://")
        front = self

        class Handler(BaseHTTPRequestHandler):
            """Takes the requests of one connection."""

            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                """Keep one connection to the node for this one."""
                super().setup()
                self.node = http.client.HTTPConnection(host, timeout=30)

            def finish(self) -> None:
                """Close both."""
                self.node.close()
                super().finish()

            def do_POST(self) -> None:
                """Forward one request, or refuse it."""
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                if front._is_closed:
                    self.close_connection = True  # connections outlive the listener
                    return
                if not front._passes(json.loads(body)):
                    self._answer(429, b"too many requests")
                    return
                self.node.request("POST", "/", body, {"Content-Type": "application/json"})
                self._answer(200, self.node.getresponse().read())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if status == 429 and retry_after:
                    self.send_header("Retry-After", str(max(1, round(front._period_s))))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the test has the counts."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _passes(self, asked: Any) -> bool:
        calls = asked if isinstance(asked, list) else [asked]
        cost = len(calls) if self._counts_calls else 1
        with self._lock:
            now = time.monotonic()
            while self._passed and self._passed[0] <= now - self._period_s:
                self._passed.popleft()
            if len(self._passed) + cost > self._limit:
                self.refused += 1
                return False
            self._passed.extend([now] * cost)
            self.allowed += 1
            self.methods += [call["method"] for call in calls]
            return True

    def close(self) -> None:
        """Stop listening, and hang up on who is connected; doing it twice is harmless."""
        self._is_closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
