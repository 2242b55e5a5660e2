"""How bytes on a connection become requests: uvicorn's own parser, with a bound on what comes before a body."""

import asyncio
import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outlay.core.errors import HeadTooLarge, MalformedRequest, OutlayError
from outlay.web.dashboard.pulse import STREAM
from outlay.web.errors import envelope

HEAD_MAX = 64 * 1024
"""Bytes that request line and headers of one request may have together."""

RECEIVE_MAX_S = 60.0
"""Seconds until a request has come in whole, from the connection or from its first byte; then the server hangs up."""


class _HeadTooLargeError(Exception):
    """Stops the parser."""


class Listener(HttpToolsProtocol):
    """One connection. The parser itself would collect headers without end, and refuse in plain text."""

    _head = 0  # bytes of the head so far, in whole parts
    _unfinished = 0  # bytes received since, of a part that does not end
    _messages = 0
    _in_head = False
    _completed = 0
    _receiving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request within bounded time."""
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._received()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End with the server: what was begun is finished, but not a stream, which has no end of its own."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete and self.scope["path"] == STREAM:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse what came; the parser keeps an unfinished header to itself, so its bytes are counted here."""
        messages, completed = self._messages, self._completed
        super().data_received(data)
        if self._completed == completed:  # bytes between requests count as the begin of one
            self._expect_request()
        if self._in_head and self._messages == messages and not self.transport.is_closing():
            self._unfinished += len(data)
            if self._unfinished > HEAD_MAX:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._head = self._unfinished = 0
        self._messages += 1
        self._in_head = True
        self._expect_request()

    def on_message_complete(self) -> None:
        """Stop the clock: the whole request is here."""
        self._completed += 1
        self._received()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Stop counting."""
        self._in_head = False
        super().on_headers_complete()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def _expect_request(self) -> None:
        if self._receiving is None and not self.transport.is_closing():
            self._receiving = self.loop.call_later(RECEIVE_MAX_S, self.transport.close)

    def _received(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_MAX:
            raise _HeadTooLargeError

    def send_400_response(self, msg: str) -> None:
        """Refuse what never became a request, and hang up; ``msg`` is uvicorn's own and says less than ours."""
        refusal: OutlayError = MalformedRequest("this is not an HTTP/1.1 request")
        if max(self._head, self._unfinished) > HEAD_MAX:
            refusal = HeadTooLarge(f"request line and headers are larger than {HEAD_MAX} bytes together: send less")
        body = json.dumps(envelope(refusal)).encode()
        lines = [
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        self.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        self.transport.close()
