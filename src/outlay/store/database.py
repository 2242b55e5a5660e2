"""The database runner: one writer that commits in groups, and readers that cannot write.

Every write is a *unit*: a synchronous function of one connection. Units wait in a queue; the writer thread takes
what is there, runs each under a savepoint, commits once and then answers each. A unit that raises leaves
nothing behind and does not touch its neighbours. If the group as a whole cannot be kept, it is run again one by
one, so that only the guilty unit fails.
"""

import asyncio
import concurrent.futures
import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from outlay.core.errors import InvariantBroken, OutcomeUnknown, OutlayError, Unavailable
from outlay.store.schema import commit_marker

T = TypeVar("T")
Unit = sa.Connection
Row = sa.Row[Any]
GROUP_MAX = 128
READERS = 4
"""Connections that may read at once."""

_MARK = sa.update(commit_marker)
_BEGIN_PART, _KEEP_PART, _DROP_PART = "SAVEPOINT part", "RELEASE SAVEPOINT part", "ROLLBACK TO SAVEPOINT part"


@contextmanager
def savepoint(unit: Unit) -> Iterator[None]:
    """Keep what the block does only if it ends without an exception.

    Plain statements: SQLAlchemy's nested transactions cost four times as much, and every payout takes two.
    """
    unit.exec_driver_sql(_BEGIN_PART)
    try:
        yield
        unit.exec_driver_sql(_KEEP_PART)
    except BaseException:
        _undo_part(unit)
        raise


def _undo_part(unit: Unit) -> None:
    unit.exec_driver_sql(_DROP_PART)
    unit.exec_driver_sql(_KEEP_PART)


class _Work:
    """One unit waiting for its turn."""

    __slots__ = ("error", "function", "future", "loop", "result")

    def __init__(self, function: Callable[[Unit], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def answer(self) -> None:
        """Give the result to the waiting task; called on its event loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _engine(path: Path, *, writer: bool) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 30},
        pool_size=1 if writer else READERS,
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if not writer:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # The driver's own transaction control is off: a reader that turns writer would fail with a busy snapshot.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


class Database:
    """SQLite in one file: WAL, synchronous=FULL, one writer thread, a pool of readers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = _engine(path, writer=True)
        self._read_engine = _engine(path, writer=False)
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._readers = concurrent.futures.ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._writer = threading.Thread(target=self._write_forever, name="writer", daemon=True)
        self._closed = False
        self.groups = 0  #: commits made, for metrics and benches
        self.units = 0  #: units kept, for metrics and benches
        self._writer.start()

    async def write(self, function: Callable[[Unit], T]) -> T:
        """Run ``function`` as one unit and return its result once it is durable.

        Raises:
            whatever the function raises (nothing of it is kept); OutcomeUnknown: the commit may have happened.
        """
        if self._closed:
            raise Unavailable("the database is closed")
        work = _Work(function, asyncio.get_running_loop())
        self._queue.put(work)
        result: T = await work.future
        return result

    async def read(self, function: Callable[[Unit], T]) -> T:
        """Run ``function`` on one consistent, read-only snapshot."""

        def run() -> T:
            with self._read_engine.begin() as unit:
                return function(unit)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def close(self) -> None:
        """Finish what is queued and let go of the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown()
        self.engine.dispose()
        self._read_engine.dispose()

    # the writer thread

    def _write_forever(self) -> None:
        stop = False
        while not stop:
            group: list[_Work] = []
            item = self._queue.get()
            while True:
                if item is None:
                    stop = True
                    break
                group.append(item)
                if len(group) >= GROUP_MAX:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._run_group(group)
                for loop in {work.loop for work in group}:
                    mine = [work for work in group if work.loop is loop]
                    _tell(loop, mine)

    def _run_group(self, group: list[_Work]) -> None:
        """Keep every unit of ``group`` that can be kept; on a failure of the whole, bisect."""
        token = secrets.token_hex(16)
        try:
            with self.engine.connect() as connection:
                self._run_units(connection, group, token)
        except Exception as error:
            self._after_failure(group, token, error)
        else:
            self.groups += 1
            self.units += len(group)

    def _run_units(self, connection: sa.Connection, group: list[_Work], token: str) -> None:
        transaction = connection.begin()
        try:
            for work in group:
                work.error, work.result = None, None
                connection.exec_driver_sql(_BEGIN_PART)
                try:
                    work.result = work.function(connection)
                    connection.exec_driver_sql(_KEEP_PART)
                except BaseException as error:
                    work.error = _answerable(error)
                    # If this fails, SQLite gave up the whole transaction, and so must we.
                    _undo_part(connection)
            connection.execute(_MARK, {"token": token})
        except BaseException:
            transaction.rollback()
            raise
        transaction.commit()

    def _after_failure(self, group: list[_Work], token: str, error: Exception) -> None:
        """The group as a whole failed: find out whether it was kept, else run its units in halves."""
        self.engine.dispose()
        try:
            with self.engine.begin() as connection:
                kept = connection.execute(sa.select(commit_marker.c.token)).scalar_one() == token
        except Exception:
            for work in group:
                work.error = OutcomeUnknown("the database did not say whether this was kept: read it before retrying")
            return
        if kept:
            return
        if len(group) == 1:
            unavailable = Unavailable("the database could not keep this; nothing has happened, try again")
            unavailable.__cause__ = error
            group[0].error = error if isinstance(error, OutlayError) else unavailable
            return
        half = len(group) // 2
        self._run_group(group[:half])
        self._run_group(group[half:])


def _answerable(error: BaseException) -> Exception:
    """Return what the waiting task is given; the writer and the unit's neighbours outlive whatever it raises."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    broken = InvariantBroken(f"a database unit ended with {type(error).__name__}")
    broken.__cause__ = error
    return broken


def _tell(loop: asyncio.AbstractEventLoop, works: list[_Work]) -> None:
    def answer() -> None:
        for work in works:
            work.answer()

    try:
        loop.call_soon_threadsafe(answer)
    except RuntimeError:  # the loop is gone: nobody waits for these answers any more
        return
