"""A plain HTTP client that costs little beside the servers it measures: kept-alive connections, no features."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Refused(Exception):
    """The server answered with another status than 200."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        """Wait for a request; use ``connect``."""
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._host = b""

    @classmethod
    async def connect(cls, url: str) -> "Connection":
        """Return an open connection to the server at ``url``."""
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        _, connection = await asyncio.get_running_loop().create_connection(cls, parts.hostname, parts.port)
        connection._host = parts.netloc.encode()
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect the answer; end the wait once it is whole."""
        self._buffer += data
        end = self._buffer.find(_END)
        if end < 0 or self._answer is None:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(_LENGTH)
        if at < 0:
            self._fail(ConnectionError("an answer without content-length"))
            return
        line_end = head.find(b"\r\n", at)
        size = int(head[at + len(_LENGTH) : len(head) if line_end < 0 else line_end])
        whole = end + len(_END) + size
        if len(self._buffer) < whole:
            return
        body = bytes(self._buffer[end + len(_END) : whole])
        del self._buffer[:whole]
        if not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self._fail(error or ConnectionError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def request(self, method: str, path: str, headers: bytes, body: bytes = b"") -> Any:
        """Return the parsed JSON answer.

        Args:
            method: e.g. ``POST``.
            path: with query, if any.
            headers: further header lines, each ended.
            body: JSON.

        Raises:
            Refused: not a 200. ConnectionError: no whole answer.
        """
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(
            b"%s %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"
            % (method.encode(), path.encode(), self._host, len(body), headers, body)
        )
        status, answer = await self._answer
        if status != 200:
            raise Refused(f"{method} {path}: {status} {answer[:300].decode(errors='replace')}")
        return msgspec.json.decode(answer)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


@dataclass(slots=True)
class Tally:
    """What one measured stretch came to."""

    done: int = 0
    elapsed_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.done / self.elapsed_s if self.elapsed_s else 0.0


async def drive(
    url: str,
    jobs: Iterator[Callable[[Connection], Awaitable[None]]],
    *,
    connections: int,
    seconds: float | None = None,
) -> Tally:
    """Run jobs over parallel connections until they or the time end; jobs begun are finished.

    Args:
        url: the server.
        jobs: each gets a connection of its own while it runs.
        connections: how many run at once.
        seconds: no job begins later than this; None: until there are no more.
    """
    lines = [await Connection.connect(url) for _ in range(connections)]
    tally = Tally()
    began = time.perf_counter()

    async def work(line: Connection) -> None:
        for job in jobs:
            at = time.perf_counter()
            try:
                await job(line)
            except (Refused, ConnectionError) as error:
                tally.faults.append(str(error))
                return
            tally.done += 1
            tally.times_s.append(time.perf_counter() - at)
            if seconds is not None and time.perf_counter() - began >= seconds:
                return

    await asyncio.gather(*(work(line) for line in lines))
    tally.elapsed_s = time.perf_counter() - began
    for line in lines:
        line.close()
    return tally
