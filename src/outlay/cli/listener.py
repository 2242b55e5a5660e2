"""How bytes on a connection become requests: uvicorn's own parser, with a bound on what comes before a body."""

import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outlay.core.errors import HeadTooLarge, MalformedRequest, OutlayError
from outlay.web.errors import envelope

HEAD_MAX = 64 * 1024
"""Bytes that request line and headers of one request may have together."""


class _HeadTooLargeError(Exception):
    """Stops the parser."""


class Listener(HttpToolsProtocol):
    """One connection. The parser itself would collect headers without end, and refuse in plain text."""

    _head = 0  # bytes of the head so far, in whole parts
    _unfinished = 0  # bytes received since, of a part that does not end
    _messages = 0
    _in_head = False

    def data_received(self, data: bytes) -> None:
        """Parse what came; the parser keeps an unfinished header to itself, so its bytes are counted here."""
        messages = self._messages
        super().data_received(data)
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
