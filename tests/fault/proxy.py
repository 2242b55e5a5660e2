"""An RPC endpoint that fails on purpose: it stands before a real node and hands through what it is told to."""

import http.client
import json
import threading
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.world import until


class Proxy:
    """Listens on a port of its own and forwards to ``target``."""

    def __init__(self, target: str) -> None:
        """Listen, in threads of its own.

        Args:
            target: URL of the node.
        """
        self.down = False  #: hang up on every request without an answer
        self.refused: Collection[str] = ()  #: methods to hang up on
        self.methods: list[str] = []  #: every method asked for, those hung up on included
        host = target.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            """Takes one request."""

            def do_POST(self) -> None:
                """Forward it, or hang up."""
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                asked = json.loads(body)
                methods = [call["method"] for call in (asked if isinstance(asked, list) else [asked])]
                proxy.methods += methods
                if proxy.down or set(methods) & set(proxy.refused):
                    self.close_connection = True
                    return
                node = http.client.HTTPConnection(host, timeout=30)
                node.request("POST", "/", body, {"Content-Type": "application/json"})
                answer = node.getresponse().read()
                node.close()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the test has the methods."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait_for(self, method: str, times: int) -> None:
        """Wait until ``method`` was asked for that many more times."""
        wanted = self.methods.count(method) + times
        until(lambda: self.methods.count(method) >= wanted, f"{times} calls of {method}")

    def close(self) -> None:
        """Stop listening; doing it twice is harmless."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
