"""Addresses of names whose servers may be dead: nobody else's lookup waits for theirs.

The operating system's resolver cannot be interrupted, so a dead name keeps its thread for as long as that takes, 10
to 30 seconds. Each name has at most one thread at a time. One that answered last time, one that nothing is known of
and one that was silent last time never compete for the same places; and a lookup that takes long gives its place
back while it still runs. No answer is kept: what is remembered of a name is only whether it answers.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

LATE_S = 1.0
"""After so many seconds a lookup gives its place to others."""
SILENT_S = 5.0
"""How long a name is not asked for again after its servers were silent."""
ANSWERING, UNKNOWN, SILENT = 32, 64, 8
"""Places for names that answered last time, of which nothing is known, and that were silent last time."""
LATE_MAX = 64
"""Lookups that may go on after they gave their places back."""
NAMES_MAX = 10_000
"""Names of which it is remembered how they answered, of each kind."""


@dataclass(slots=True)
class _Lane:
    """Places for some names; those beyond wait in their order."""

    free: int
    waiting: deque["_Search"] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class _Search:
    """A lookup of one name, which all that ask for it meanwhile share."""

    host: str
    lane: _Lane
    answer: asyncio.Future[list[str]]
    began: float = 0.0
    has_place: bool = True
    timer: asyncio.TimerHandle | None = None


class SystemLookup:
    """The operating system's resolver, in threads of its own, with no cache. Belongs to one event loop."""

    def __init__(self, resolve: Callable[[str], list[str]] | None = None) -> None:
        """Prepare; ``resolve`` takes a thread's time and raises OSError (the system's unless a test gives one)."""
        self._resolve = resolve or addresses
        self._answering, self._unknown, self._silent = _Lane(ANSWERING), _Lane(UNKNOWN), _Lane(SILENT)
        self._running: dict[str, _Search] = {}
        self._good: dict[str, None] = {}  # names that answered in time, the last time
        self._until: dict[str, float] = {}  # names that were silent the last time; not asked for again before
        self._late = 0
        self._is_closed = False

    async def __call__(self, host: str) -> list[str]:
        """Return all addresses of ``host``, looked up now.

        Raises:
            OSError: it has none, or its servers were silent a moment ago.
        """
        search = self._running.get(host)
        if search is None:
            loop = asyncio.get_running_loop()
            if self._is_closed or loop.time() < self._until.get(host, 0.0):
                raise OSError("the servers of the name gave no answer a moment ago")
            search = self._begin(host, loop)
        return await asyncio.shield(search.answer)

    def close(self) -> None:
        """Let go of the threads without waiting for the network; whoever still waits gets an OSError."""
        self._is_closed = True
        for search in self._running.values():
            if search.timer is not None:
                search.timer.cancel()
            if not search.answer.done():
                search.answer.set_exception(OSError("closed"))

    def _begin(self, host: str, loop: asyncio.AbstractEventLoop) -> _Search:
        lane = self._silent if host in self._until else self._answering if host in self._good else self._unknown
        search = self._running[host] = _Search(host, lane, loop.create_future())
        # Nobody may be waiting any more when it ends; an unread exception would be logged.
        search.answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        lane.waiting.append(search)
        self._fill(lane)
        return search

    def _fill(self, lane: _Lane) -> None:
        """Start what waits, as far as there are places."""
        loop = asyncio.get_running_loop()
        while lane.free > 0 and lane.waiting and not self._is_closed:
            search = lane.waiting.popleft()
            lane.free -= 1
            search.began = loop.time()
            # A daemon: the end of the process does not wait for dead servers.
            thread = threading.Thread(target=self._run, args=(loop, search), name="lookup", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread left
                loop.call_soon(self._ended, search, OSError(str(error)))
                continue
            if lane is not self._silent:
                search.timer = loop.call_later(LATE_S, self._is_late, search)

    def _run(self, loop: asyncio.AbstractEventLoop, search: _Search) -> None:
        found: list[str] | Exception
        try:
            found = self._resolve(search.host)
        except Exception as error:  # raised again where the answer is waited for
            found = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(self._ended, search, found)

    def _is_late(self, search: _Search) -> None:
        if self._late < LATE_MAX:
            self._late += 1
            self._give_back(search)

    def _give_back(self, search: _Search) -> None:
        search.has_place = False
        search.lane.free += 1
        self._fill(search.lane)

    def _ended(self, search: _Search, found: list[str] | Exception) -> None:
        if self._is_closed:
            return
        if search.timer is not None:
            search.timer.cancel()
        del self._running[search.host]
        now = asyncio.get_running_loop().time()
        self._note(search.host, is_answered=not isinstance(found, Exception), is_late=now - search.began >= LATE_S)
        if isinstance(found, Exception):
            search.answer.set_exception(found)
        else:
            search.answer.set_result(found)
        if search.has_place:
            self._give_back(search)
        else:
            self._late -= 1

    def _note(self, host: str, *, is_answered: bool, is_late: bool) -> None:
        """Remember how a name answered. A late answer, and a quick one that there is no such name, say nothing."""
        self._good.pop(host, None)
        self._until.pop(host, None)
        if is_answered and not is_late:
            self._good[host] = None
        elif is_late and not is_answered:
            self._until[host] = asyncio.get_running_loop().time() + SILENT_S
        if len(self._good) > NAMES_MAX:
            del self._good[next(iter(self._good))]
        if len(self._until) > NAMES_MAX:
            del self._until[next(iter(self._until))]


def addresses(host: str) -> list[str]:
    """Return all addresses of ``host`` as the operating system finds them. Raises OSError if it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label of more than 63 characters
        raise OSError(str(error)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
