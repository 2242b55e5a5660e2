"""The line between a process and PostgreSQL, cut on purpose: a TCP proxy that knows where a commit passes."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

COMMIT = b"COMMIT\x00"
"""How a message that commits ends; ``READ COMMITTED`` has no such end."""

WRITER = b"pg_advisory_xact_lock"
"""What the first message of a transaction that writes holds."""

Cut = Literal["before", "after"]
CUTS: tuple[Cut, ...] = ("before", "after")
"""The commit never reaches the server; or it does, and its answer never comes back."""


@dataclass(eq=False)
class _Line:
    """One connection: what its open transaction has said so far."""

    closing: Callable[[], None]
    writes: bool = False
    said: bytearray = field(default_factory=bytearray)
    awaited: Callable[[], None] | None = None  #: called when the server has answered a commit
    lost: bool = False  #: nothing of the answer goes on


class Wire:
    """Listens on a port of its own and forwards to a server on 127.0.0.1, in a thread of its own."""

    def __init__(self, target: int) -> None:
        """Forward to the port ``target``."""
        self.cuts: list[Cut] = []  #: what was cut so far
        self._target = target
        self._due: list[Cut] = []
        self._watched: tuple[bytes, Callable[[], None]] | None = None
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self, *how: Cut) -> None:
        """Cut the next commits of writers, one in each of these ways; every other connection stays."""
        self._due += how

    def mend(self) -> None:
        """Forget what has not happened yet."""
        self._due.clear()
        self._watched = None

    def when_committed(self, words: bytes, do: Callable[[], None]) -> None:
        """Call ``do`` once the next transaction that says ``words`` is committed, before its client hears of it."""
        self._watched = (words, do)

    def drop(self) -> None:
        """Hang up on everybody."""

        def hang_up() -> None:
            for line in list(self._lines):
                line.closing()

        self._loop.call_soon_threadsafe(hang_up)

    def close(self) -> None:
        """Stop listening and hang up."""

        async def end() -> None:
            self._server.close()
            for line in list(self._lines):
                line.closing()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is down: so is the line
            writer.close()
            return

        def closing() -> None:
            line.lost = True
            writer.close()
            server_writer.close()

        line = _Line(closing)
        self._lines.add(line)
        try:
            await asyncio.gather(self._forward(reader, server_writer, line), self._return(server_reader, writer, line))
        except (OSError, asyncio.CancelledError):  # one side is gone, or this wire is closed
            pass
        finally:
            closing()
            self._lines.discard(line)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        while data := await reader.read(1 << 16):
            if not self._passes(data, line):
                break
            writer.write(data)
            await writer.drain()
        if line.awaited is None:
            line.closing()

    async def _return(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        while data := await reader.read(1 << 16):
            if line.awaited is not None:
                awaited, line.awaited = line.awaited, None
                awaited()
            if line.lost:
                break
            writer.write(data)
            await writer.drain()
        line.closing()

    def _passes(self, data: bytes, line: _Line) -> bool:
        """Look at what a client says; tell whether it goes on to the server."""
        if WRITER in data:
            line.writes = True
        if not line.writes:
            return True
        if COMMIT not in data:
            if self._watched is not None:
                line.said += data
            return True
        said, line.said, line.writes = bytes(line.said), bytearray(), False
        if self._watched is not None and self._watched[0] in said:
            line.awaited, self._watched = self._watched[1], None
        elif self._due:
            how = self._due.pop(0)
            self.cuts.append(how)
            if how == "before":
                line.closing()
                return False
            line.awaited = line.closing
        return True
