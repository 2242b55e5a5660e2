"""A queue of payouts in front of a server: nothing lost, nothing doubled, within the server's rate limit.

It works for any client whose call carries an ``externalId``: Outlay's own, or the official Dfns SDK. What is put in
gets its id before anything is sent and, with a file, is on disk before ``put`` returns: whatever happens then (a call
that times out after it was carried out, a server that says "later", a program that dies), the same id is sent again
until an answer says what became of it. So an unknown outcome is never taken for a refusal.
"""

import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from outlay.client.calls import ApiError
from outlay.client.pace import Pace
from outlay.client.retry import Retry, describe, may_repeat, unknown_before
from outlay.client.sync import new_external_id
from outlay.core.errors import InvalidInput, OutcomeUnknown

Send = Callable[[str, dict[str, Any]], Any]
"""Makes one call: ``(external id, item)``, and returns its answer. It must not retry by itself."""

_CLOSES_WITHIN_S = 0.2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS payout (
    external_id TEXT PRIMARY KEY,
    item TEXT NOT NULL,
    state TEXT NOT NULL,  -- waiting, answered, refused
    answer TEXT
) STRICT
"""


class Refused(ApiError):
    """The server refused a payout for good, in an earlier life of this queue; ``details`` says what was kept of it."""

    def __init__(self, kept: dict[str, Any]) -> None:
        """Keep what the file holds."""
        super().__init__(kept.get("status") or 0, {"error": {"message": kept["message"], "code": kept.get("code")}})
        self.details = kept


class PayoutQueue:
    """Payouts that wait to be asked for. Several threads may put; several threads send. Close it, or use ``with``."""

    def __init__(
        self,
        send: Send,
        *,
        path: Path | None = None,
        pace: Pace | None = None,
        requests: int = 1,
        retry: Retry | None = None,
        workers: int = 4,
    ) -> None:
        """Open the queue, and begin to send what an earlier life of it left in the file.

        Args:
            send: makes one call; of a ``Client``, ``client.send``. Give such a client ``retry=ONCE``, and the ``pace``.
            path: the file that keeps the queue; without it what waits is lost when the program ends.
            pace: the rate limit to keep within, also by what is sent again.
            requests: how many requests one call makes; a signed call of the contract makes 3.
            retry: how long to wait between attempts; attempts without an answer never end by themselves.
            workers: calls at the same time at most.

        Raises:
            InvalidInput: one call makes more requests than the pace ever allows.
        """
        if pace is not None:
            pace.require(requests)
        self._send, self._pace, self._requests, self._retry = send, pace, requests, retry or Retry()
        self._lock = threading.Condition()
        self._waiting: deque[str] = deque()
        self._items: dict[str, dict[str, Any]] = {}
        self._tickets: dict[str, Future[Any]] = {}
        self._open = 0  #: tickets without an answer
        self._is_closing = threading.Event()
        self._file = _open(path) if path is not None else None
        for external_id, item in self._left():
            self._add(external_id, item)
        self._doubtful = set(self._tickets)  # an earlier life may have sent them
        self._threads = [threading.Thread(target=self._work, daemon=True, name=f"payouts-{n}") for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def put(self, item: Mapping[str, Any], *, external_id: str | None = None) -> "Future[Any]":
        """Take a payout, and return what will hold its answer, or the error that refused it.

        The same ``external_id`` with the same item is the same payout, also one of an earlier life of the file.

        Args:
            item: what ``send`` gets; JSON.
            external_id: your id of it; made up unless given.

        Raises:
            InvalidInput: the id stands for another item, or the queue is closed.
        """
        external_id = external_id or new_external_id()
        kept = json.loads(json.dumps(dict(item)))
        with self._lock:
            if self._is_closing.is_set():
                raise InvalidInput("the queue is closed", field="queue")
            known = self._items.get(external_id)
            if known is not None:
                if known != kept:
                    raise InvalidInput("stands for another payout already", field="external_id")
                return self._tickets[external_id]
            if self._file is not None and (ended := self._ended(external_id, kept)) is not None:
                return ended
            if self._file is not None:
                self._file.execute("INSERT INTO payout VALUES (?, ?, 'waiting', NULL)", (external_id, json.dumps(kept)))
            ticket = self._add(external_id, kept)
            self._lock.notify()
            return ticket

    def tickets(self) -> dict[str, "Future[Any]"]:
        """Return what waits, by external id, also what the file had left; without a file, also what has ended."""
        with self._lock:
            return dict(self._tickets)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing waits any more; tell whether that is so."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while self._open:
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._lock.wait(left)
            return True

    def close(self, *, wait_s: float | None = None) -> None:
        """Take no more, and stop.

        Args:
            wait_s: how long to wait for what waits, seconds; None: until all is answered; 0: only for calls under way.
                What has no answer then stays in the file, and its ticket ends with OutcomeUnknown.
        """
        self.wait(wait_s)
        with self._lock:
            self._is_closing.set()
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()
        with self._lock:
            for external_id, ticket in self._tickets.items():
                if not ticket.done():
                    message = "the queue was closed before an answer said what became of this payout: put it again"
                    ticket.set_exception(OutcomeUnknown(message, externalIds=[external_id]))
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> Self:
        """Use it in ``with``."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it: after an error without waiting for what waits."""
        self.close(wait_s=None if kind is None else 0)

    def _add(self, external_id: str, item: dict[str, Any]) -> "Future[Any]":
        ticket: Future[Any] = Future()
        ticket.set_running_or_notify_cancel()  # a payout that may have been sent cannot be taken back by forgetting it
        self._items[external_id], self._tickets[external_id] = item, ticket
        self._waiting.append(external_id)
        self._open += 1
        return ticket

    def _work(self) -> None:
        while (external_id := self._next()) is not None:
            try:
                self._until_answered(external_id, self._items[external_id])
            except Exception as error:
                # The file cannot be written: what is in it is the truth of the next life.
                unknown = OutcomeUnknown(f"the answer could not be kept: {error}", externalIds=[external_id])
                self._tell(external_id, error=unknown)

    def _next(self) -> str | None:
        with self._lock:
            while not self._waiting:
                if self._is_closing.is_set():
                    return None
                self._lock.wait()
            return None if self._is_closing.is_set() else self._waiting.popleft()

    def _until_answered(self, external_id: str, item: dict[str, Any]) -> None:
        attempt = 1
        while not self._is_closing.is_set():
            if not self._has_room():
                return
            try:
                answer = self._send(external_id, dict(item))
            except Exception as error:
                again = may_repeat(error)
                if again is None and external_id in self._doubtful:
                    # A refusal of this attempt (a token that ran out) says nothing of an earlier one: it stays in the
                    # file, and the next life asks again.
                    self._tell(external_id, error=unknown_before(error))
                    return
                if again is None:
                    self._end(external_id, error=error)
                    return
                if again.is_unknown:
                    self._doubtful.add(external_id)
                # Closing does not wait for the back-off.
                self._is_closing.wait(self._retry.wait_s(min(attempt, 32), again.after_s))
                attempt += 1
            else:
                self._end(external_id, answer=answer)
                return
            finally:
                if self._pace is not None:
                    self._pace.end(self._requests)

    def _has_room(self) -> bool:
        """Wait for room within the limit; False: the queue is closing."""
        while self._pace is not None and (wait_s := self._pace.take(self._requests)) > 0:
            if self._is_closing.wait(min(wait_s, _CLOSES_WITHIN_S)):
                return False
        return True

    def _end(self, external_id: str, *, answer: Any = None, error: Exception | None = None) -> None:
        """Keep what became of a payout, then tell it."""
        if self._file is not None:
            state, kept = ("answered", answer) if error is None else ("refused", describe(error))
            with self._lock:
                self._file.execute(
                    "UPDATE payout SET state = ?, answer = ? WHERE external_id = ?",
                    (state, json.dumps(kept, default=str), external_id),
                )
        self._tell(external_id, answer=answer, error=error)

    def _tell(self, external_id: str, *, answer: Any = None, error: Exception | None = None) -> None:
        with self._lock:
            ticket = self._tickets[external_id]
            self._doubtful.discard(external_id)
            self._open -= 1
            if self._file is not None:
                # The file knows it from now on: a queue that runs for years stays small.
                del self._tickets[external_id], self._items[external_id]
            if error is None:
                ticket.set_result(answer)
            else:
                ticket.set_exception(error)
            self._lock.notify_all()

    def _left(self) -> list[tuple[str, dict[str, Any]]]:
        if self._file is None:
            return []
        rows = self._file.execute("SELECT external_id, item FROM payout WHERE state = 'waiting' ORDER BY rowid")
        return [(external_id, json.loads(item)) for external_id, item in rows]

    def _ended(self, external_id: str, item: dict[str, Any]) -> "Future[Any] | None":
        """Return the ticket of what the file has an answer for. Raises InvalidInput: it was another item."""
        assert self._file is not None
        found = self._file.execute(
            "SELECT item, state, answer FROM payout WHERE external_id = ?", (external_id,)
        ).fetchone()
        if found is None:
            return None
        if json.loads(found[0]) != item:
            raise InvalidInput("stands for another payout already", field="external_id")
        if found[1] == "waiting":
            return self._again(external_id, item)
        ticket: Future[Any] = Future()
        if found[1] == "answered":
            ticket.set_result(json.loads(found[2]))
        else:
            ticket.set_exception(Refused(json.loads(found[2])))
        return ticket

    def _again(self, external_id: str, item: dict[str, Any]) -> "Future[Any]":
        """Take up what ended without an answer, and may have been carried out."""
        self._doubtful.add(external_id)
        ticket = self._add(external_id, item)
        self._lock.notify()
        return ticket


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(_SCHEMA)
    return connection
