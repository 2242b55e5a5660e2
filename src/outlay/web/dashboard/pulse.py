"""Tells pages that something changed: they ask for themselves anew and show what is different.

Only which kinds of things changed goes out, so the stream needs no permission but to be signed in; what is shown is
read again under the permissions of whoever looks.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from litestar import Request

from outlay.core.errors import OutlayError
from outlay.store import audit, feed, organizations
from outlay.store.database import Unit
from outlay.web.gate import Gate

STREAM = "/dashboard/stream"
LOOK_S = 1.0
"""How often the database is asked, however many pages listen."""
ADMIT_S = 30.0
"""How often it is asked whether a listener is still signed in; also how often a silent stream says that it lives."""
LISTENERS_MAX = 500
RECORDS = "records"
"""The topic of all that is kept as records: people, policies, settings. Others are the first word of an event."""


CALLS = "call"
"""The topic of what somebody signed, whatever it changed: of a decision that settles nothing yet no event tells."""


@dataclass(slots=True)
class Pulse:
    """What changed lately, asked once for all who listen."""

    gate: Gate
    listeners: int = 0
    _number: int = -1
    _head: str = ""
    _logged: int = -1
    _asked_at: float = 0.0
    _changed: dict[str, int] = field(default_factory=dict)
    _turn: int = 0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def listen(self, request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
        """Yield server-sent events until the caller is signed out."""
        loop = asyncio.get_running_loop()
        self.listeners += 1
        try:
            await self._look(loop.time())
            seen, admitted_at = self._turn, loop.time()
            yield b"retry: 2000\n\n"
            while True:
                await asyncio.sleep(LOOK_S)
                if loop.time() >= admitted_at + ADMIT_S:
                    try:
                        await self.gate.read(request, None, lambda _unit, _caller: None)
                    except OutlayError:
                        yield b"event: ended\ndata: {}\n\n"
                        return
                    admitted_at = loop.time()
                    yield b": still here\n\n"
                await self._look(loop.time())
                topics = sorted(topic for topic, turn in self._changed.items() if turn > seen)
                seen = self._turn
                if topics:
                    yield f"data: {json.dumps(topics)}\n\n".encode("ascii")
        finally:
            self.listeners -= 1

    async def _look(self, now: float) -> None:
        async with self._lock:
            if self._asked_at and now < self._asked_at + LOOK_S / 2:
                return
            self._asked_at = now
            number, kinds, head, logged, called = await self.gate.db.read(self._read)
            if self._number >= 0:
                topics = {kind.split(".")[0] for kind in kinds} | ({RECORDS} if head != self._head else set())
                topics |= {CALLS} if called else set()
                if topics:
                    self._turn += 1
                    self._changed.update(dict.fromkeys(topics, self._turn))
            self._number, self._head, self._logged = number, head, logged

    def _read(self, unit: Unit) -> tuple[int, list[str], str, int, bool]:
        number, kinds = feed.kinds_after(unit, self._number)
        return number, kinds, str(organizations.get(unit).head), *audit.calls_after(unit, self._logged)
