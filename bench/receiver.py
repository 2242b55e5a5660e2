"""An endpoint that is told of payouts: ``python -m bench.receiver PORT``. One for product and rivals.

``PUT /`` with a secret begins anew. Each POST carries ``<header>: sha256=<HMAC of the body>`` and is answered 200 when
that is right. ``GET /`` answers how many came, how many were different (by the body's subject) and how many were
wrongly signed.
"""

import asyncio
import hashlib
import hmac
import sys

import httptools
import msgspec

SIGNATURE = b"x-dfns-webhook-signature"
_TAKEN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"
_WRONG = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"


class Counts:
    """What came."""

    def __init__(self) -> None:
        """Begin without a secret: nothing is taken."""
        self.begin(b"")

    def begin(self, secret: bytes) -> None:
        """Forget what came; expect signatures made with ``secret``."""
        self.secret = secret
        self.received = 0
        self.wrong = 0
        self.subjects: set[str] = set()


class Endpoint(asyncio.Protocol):
    """One connection."""

    def __init__(self, counts: Counts) -> None:
        """Count into ``counts``."""
        self._counts = counts
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._signature = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the signature."""
        if name.lower() == SIGNATURE:
            self._signature = value

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Check, count, answer."""
        body, self._body = self._body, b""
        signature, self._signature = self._signature, b""
        assert self._transport is not None
        counts = self._counts
        if self._parser.get_method() == b"PUT":
            counts.begin(body)
            self._transport.write(_TAKEN)
            return
        if self._parser.get_method() == b"GET":
            told = {"received": counts.received, "different": len(counts.subjects), "wrong": counts.wrong}
            text = msgspec.json.encode(told)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
            return
        expected = b"sha256=" + hmac.new(counts.secret, body, hashlib.sha256).hexdigest().encode()
        if not counts.secret or not hmac.compare_digest(expected, signature):
            counts.wrong += 1
            self._transport.write(_WRONG)
            return
        counts.received += 1
        counts.subjects.add(subject(msgspec.json.decode(body)))
        self._transport.write(_TAKEN)


def subject(event: dict[str, object]) -> str:
    """Return the payout an event is about: ours nest the transfer request, rivals name it at the top."""
    data = event.get("data")
    if isinstance(data, dict) and isinstance(data.get("transferRequest"), dict):
        return str(data["transferRequest"]["id"])
    return str(event.get("id"))


async def _serve(port: int) -> None:
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Endpoint(counts), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
