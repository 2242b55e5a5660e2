"""A forwarder between a client and a server that loses answers, as networks do: after the call was carried out."""

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "content-length", "date", "server"})


class Forwarder:
    """Forwards to a port on this machine. Every so many calls it hangs up: before forwarding, or after the answer."""

    def __init__(self, port: int, *, seed: int, lose_before: float = 0.0, lose_after: float = 0.0) -> None:
        """Listen; the shares are between 0 and 1."""
        self.statuses: Counter[int] = Counter()  #: what the server answered, also what was lost on the way
        self.lost_after: Counter[int] = Counter()  #: the answers that were lost
        self.arrived: list[float] = []  #: when each request came, by the monotonic clock
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._port, self._before, self._after = port, lose_before, lose_after
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _fate(self) -> str:
        with self._lock:
            self.arrived.append(time.monotonic())
            drawn = self._chance.random()
        return "before" if drawn < self._before else "after" if drawn < self._before + self._after else ""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        forwarder = self

        class Handler(BaseHTTPRequestHandler):
            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                fate = forwarder._fate()
                self.close_connection = True
                if fate == "before":
                    return
                line = http.client.HTTPConnection("127.0.0.1", forwarder._port, timeout=30)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                line.request(self.command, self.path, body or None, headers)
                answer = line.getresponse()
                content = answer.read()
                with forwarder._lock:
                    forwarder.statuses[answer.status] += 1
                    if fate == "after":
                        forwarder.lost_after[answer.status] += 1
                if fate == "after":
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.send_header("connection", "close")
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content)
                line.close()

            do_GET = do_POST = do_PUT = do_DELETE = _forward

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler

    @contextlib.contextmanager
    def running(self) -> Iterator["Forwarder"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
