"""How bytes on a connection become requests: uvicorn's own parser, with a bound on what comes before a body."""

import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX = 64 * 1024
"""Bytes that request line and headers of one request may have together."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_MALFORMED = b"HTTP/1.1 400 Bad Request\r\n"


class _HeadTooLargeError(Exception):
    """Stops the parser."""


class Listener(HttpToolsProtocol):
    """One connection. The parser itself would collect headers without end, and refuse in plain text."""

    _head = 0

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._head = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > HEAD_MAX:
            raise _HeadTooLargeError

    def send_400_response(self, msg: str) -> None:
        """Refuse what never became a request, and hang up; ``msg`` is uvicorn's own and says less than ours."""
        if self._head > HEAD_MAX:
            line, code = _TOO_LARGE, "head_too_large"
            message = f"request line and headers are larger than {HEAD_MAX} bytes together"
        else:
            line, code, message = _MALFORMED, "malformed_request", "this is not an HTTP/1.1 request"
        self.transport.write(line + _answer(line, code, message))
        self.transport.close()


def _answer(line: bytes, code: str, message: str) -> bytes:
    error: dict[str, Any] = {"status": int(line[9:12]), "code": code, "message": message, "details": {}}
    body = json.dumps({"error": error, "message": message}).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
