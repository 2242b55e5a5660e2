"""The database runner: one writer that commits in groups, and readers that cannot write.

Every write is a *unit*: a synchronous function of one connection. Units wait in a queue; the writer thread takes
what is there, runs each under a savepoint, commits once and then answers each. A unit that raises leaves
nothing behind and does not touch its neighbours. If the group as a whole cannot be kept, it is run again one by
one, so that only the guilty unit fails.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event

from outlay.core.errors import InvariantBroken, OutcomeUnknown, OutlayError, Unavailable
from outlay.core.seams import SECOND, Clock, Instant
from outlay.store import postgresql, tally
from outlay.store.schema import group_mark

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
Unit = sa.Connection
Batch = Callable[[Unit, Sequence[I]], Sequence[T | Exception]]
"""Does for many items at once what a unit does for one: returns a result or an error for each, in order."""
Row = sa.Row[Any]
GROUP_MAX = 128
CROWD, DEAR_S = 4, 0.01
"""Units in a group, and seconds it took: after it the next one is gathered and not begun with whoever came first."""
GATHER_S, GATHER_MAX_S = 0.002, 0.02
"""How long a unit is waited for after the one before it, and all of them together."""
READERS = 4
"""Connections that may read at once."""

ALONE: Any = object()
"""The item of a unit that shares its function with no other."""

_MARK = (
    "INSERT INTO group_mark (writer, token, at) VALUES (:writer, :token, {now})"
    " ON CONFLICT (writer) DO UPDATE SET token = excluded.token, at = excluded.at"
)
_NOW = {
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER) * 1000000",
    "postgresql": "CAST(extract(epoch FROM now()) * 1000000 AS BIGINT)",
}
_MARKS = {name: sa.text(_MARK.format(now=now)) for name, now in _NOW.items()}
# Who listens hears of a group when it is kept, and who writes is told the server's time.
_MARKS["postgresql"] = sa.text(
    f"{_MARKS['postgresql'].text} RETURNING pg_notify('{postgresql.CHANNEL}', ''),"
    " CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS told"
)

CLOCKS_APART_MAX: Instant = 10 * SECOND
"""How far the clock of a process that writes may be from the database server's: windows and leases follow it."""

_OLD_MARK = "DELETE FROM group_mark WHERE at < {now} - 86400000000"
_OLD_MARKS = {name: sa.text(_OLD_MARK.format(now=now)) for name, now in _NOW.items()}
"""What processes left behind that ended a day ago; nobody asks for it any more."""

_CHECKPOINT_PAGES = 10_000
"""Pages of the log of a SQLite file before they are moved into it: 40 MB. A full group writes hundreds of pages, often
the same ones as the group before, and the default of 1,000 moved them every few groups.
"""

ASK_MAX_S = 15.0
"""How long a writer asks a PostgreSQL that does not answer whether a commit happened."""

_ASK_PAUSE_S = 0.1
_BEGIN_PART, _KEEP_PART, _DROP_PART = "SAVEPOINT part", "RELEASE SAVEPOINT part", "ROLLBACK TO SAVEPOINT part"


@contextmanager
def savepoint(unit: Unit) -> Iterator[None]:
    """Keep what the block does only if it ends without an exception.

    Plain statements: SQLAlchemy's nested transactions cost four times as much, and every payout takes two.
    """
    notes = tally.listening(unit)
    noted = 0 if notes is None else len(notes)
    unit.exec_driver_sql(_BEGIN_PART)
    try:
        yield
        unit.exec_driver_sql(_KEEP_PART)
    except BaseException:
        if notes is not None:
            del notes[noted:]
        _undo_part(unit)
        raise


def _undo_part(unit: Unit) -> None:
    unit.exec_driver_sql(_DROP_PART)
    unit.exec_driver_sql(_KEEP_PART)


class _NotBegun(Unavailable):
    """No transaction was begun."""


class _ClockIsWrong(Unavailable):
    """The whole group was taken back."""


class _Work:
    """One unit waiting for its turn."""

    __slots__ = ("error", "function", "future", "item", "loop", "result")

    def __init__(self, function: Callable[..., Any], loop: asyncio.AbstractEventLoop, item: Any = ALONE) -> None:
        self.function = function  #: of the unit; with an item, of the unit and the items of all that wait for it
        self.item = item
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


def open_engine(where: Path | str, *, writer: bool, size: int = 1) -> sa.Engine:
    """Return an engine with ``size`` connections that write, or that cannot; nothing is connected yet."""
    if isinstance(where, str):
        return postgresql.make_engine(postgresql.parse_url(where), writer=writer, size=size)
    return _sqlite_engine(where, writer=writer, size=size)


def _sqlite_engine(path: Path, *, writer: bool, size: int) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 30},
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,  # an error is logged, and parameters hold secrets
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA foreign_keys=ON")
        if not writer:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # The driver's own transaction control is off: a reader that turns writer would fail with a busy snapshot.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


class Database:
    """One writer thread and a pool of readers on a SQLite file (WAL, synchronous=FULL) or on PostgreSQL.

    Any number of processes may have it open: the databases let one write transaction in at a time.
    """

    writer = "writer"
    """Names this writer's row of ``group_mark``; each instance has its own."""

    clock: Clock | None = None
    """Whose time the units are written in, compared with the server's before each commit; None: nobody's."""

    on_kept: tally.Listener | None = None
    """Is told what was noted in the units of each group once it is kept, on the event loop."""

    _is_swept = False
    _noted: Sequence[tally.Note] = ()  # in the group that is being written
    _kept: tuple[tally.Note, ...] = ()  # and was not told yet

    def __init__(self, where: Path | str) -> None:
        """Open the SQLite file at a path, or the PostgreSQL database that a URL names; nothing is connected yet.

        Raises:
            InvalidInput: a text that is no URL of PostgreSQL.
        """
        self.where = where
        self.writer = secrets.token_hex(16)
        self.engine = open_engine(where, writer=True)
        self._read_engine = open_engine(where, writer=False, size=READERS)
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

    async def write_item(self, batch: Callable[[Unit, Sequence[I]], Sequence[T | Exception]], item: I) -> T:
        """Give ``item`` to ``batch`` together with every other item that waits for the same function now.

        What ``batch`` raises is raised by none of its neighbours: the items are then given to it one by one.

        Raises:
            what ``batch`` returned for this item, or raised for it alone; OutcomeUnknown: as for ``write``.
        """
        if self._closed:
            raise Unavailable("the database is closed")
        work = _Work(batch, asyncio.get_running_loop(), item)
        self._queue.put(work)
        result: T = await work.future
        return result

    @property
    def path(self) -> Path:
        """The SQLite file. Raises InvariantBroken: there is none."""
        if isinstance(self.where, str):
            raise InvariantBroken("the database is no file")
        return self.where

    @property
    def is_alive(self) -> bool:
        """Whether what is asked to be written will be looked at."""
        return not self._closed and self._writer.is_alive()

    @property
    def waiting(self) -> int:
        """How many units wait for their turn."""
        return self._queue.qsize()

    async def read(self, function: Callable[[Unit], T]) -> T:
        """Run ``function`` on one consistent, read-only snapshot."""

        def run() -> T:
            try:
                return self._read(function)
            except sa.exc.DBAPIError as error:
                # A server that was started again has dropped every connection; what was read has had no effect.
                if not self._is_gone(error):
                    raise
            try:
                return self._read(function)
            except sa.exc.DBAPIError as error:
                if not self._is_gone(error):
                    raise
                raise Unavailable("the database does not answer; nothing has happened, try again") from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _is_gone(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether a connection ended, or there was none to be had; a file is always there."""
        is_served = isinstance(self.where, str)
        return error.connection_invalidated or (is_served and isinstance(error, sa.exc.OperationalError))

    def _read(self, function: Callable[[Unit], T]) -> T:
        with self._read_engine.begin() as unit:
            return function(unit)

    def close(self) -> None:
        """Finish what is queued and let go of the database."""
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
        stop, expected = False, 0
        while not stop:
            group, stop = self._next_group(expected)
            began = time.monotonic()
            if group:
                self._run_group(group)
                # Whoever is answered now may ask again at once, and what a group costs is mostly the same for few and
                # for many: if nobody waited, they would come in turns with those that are there already.
                is_worth_it = len(group) >= CROWD and time.monotonic() - began >= DEAR_S
                expected = len(group) + self._queue.qsize() if is_worth_it else 0
                self._tell_notes(group[0].loop)
                for loop in {work.loop for work in group}:
                    mine = [work for work in group if work.loop is loop]
                    _tell(loop, mine)

    def _next_group(self, expected: int) -> tuple[list[_Work], bool]:
        """Return the units that wait, one at least, and whether they are the last ever.

        Up to ``expected`` units are waited for as long as they follow each other closely.
        """
        group: list[_Work] = []
        item = self._queue.get()
        until = time.monotonic() + GATHER_MAX_S
        while item is not None:
            group.append(item)
            if len(group) >= GROUP_MAX:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                if len(group) >= expected or time.monotonic() >= until:
                    return group, False
                try:
                    item = self._queue.get(timeout=GATHER_S)
                except queue.Empty:
                    return group, False
        return group, True

    def _run_group(self, group: list[_Work]) -> None:
        """Keep every unit of ``group`` that can be kept; on a failure of the whole, bisect."""
        token = secrets.token_hex(16)
        try:
            with self._begin() as connection:
                self._run_units(connection, group, token)
        except (_NotBegun, _ClockIsWrong) as error:
            for work in group:
                work.error = error
        except Exception as error:
            self._after_failure(group, token, error)
        else:
            self._keep_notes()
            self.groups += 1
            self.units += len(group)

    def _keep_notes(self) -> None:
        if self._noted:
            self._kept, self._noted = (*self._kept, *self._noted), ()

    def _tell_notes(self, loop: asyncio.AbstractEventLoop) -> None:
        kept, self._kept = self._kept, ()
        if kept and self.on_kept is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever counted
                loop.call_soon_threadsafe(self.on_kept, kept)

    def _begin(self) -> sa.Connection:
        """Return a connection within a transaction; one to PostgreSQL that died since the last group is replaced.

        Raises:
            _NotBegun: there is no connection, or no turn: nothing of the group was sent.
        """
        if not isinstance(self.where, str):
            return self._try_to_begin()
        try:
            try:
                return self._try_to_begin()
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self.engine.dispose()
                return self._try_to_begin()
        except sa.exc.DBAPIError as error:
            raise _NotBegun("the database does not answer; nothing has happened, try again") from error

    def _try_to_begin(self) -> sa.Connection:
        connection = self.engine.connect()
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    def _run_units(self, connection: sa.Connection, group: list[_Work], token: str) -> None:
        if self.on_kept is not None:
            self._noted = connection.info[tally.KEY] = []
        try:
            for works in _parts(group):
                self._run_part(connection, works)
            name = connection.dialect.name
            if not self._is_swept:
                connection.execute(_OLD_MARKS[name])
            self._mark(connection, token)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
        self._is_swept = True

    def _mark(self, connection: sa.Connection, token: str) -> None:
        """Mark the group as kept, unless this process lives in another time than the database server.

        One machine has one clock, so nothing is compared where the database is a file.
        """
        before = None if self.clock is None else self.clock.now()
        found = connection.execute(_MARKS[connection.dialect.name], {"writer": self.writer, "token": token})
        if self.clock is None or before is None or connection.dialect.name != "postgresql":
            return
        told, after = found.one().told, self.clock.now()
        apart, which = max((before - told, "ahead of"), (told - after, "behind"))
        if apart > CLOCKS_APART_MAX:
            raise _ClockIsWrong(
                f"this machine's clock is {apart // SECOND} s {which} the database server's: nothing has happened, set"
                " the clock right"
            )

    def _run_part(self, connection: sa.Connection, works: list[_Work]) -> None:
        """Run units that share one function, under one savepoint."""
        for work in works:
            work.error, work.result = None, None
        notes = tally.listening(connection)
        noted = 0 if notes is None else len(notes)
        connection.exec_driver_sql(_BEGIN_PART)
        try:
            if works[0].item is ALONE:
                works[0].result = works[0].function(connection)
            else:
                _keep_answers(works, works[0].function(connection, [work.item for work in works]))
            connection.exec_driver_sql(_KEEP_PART)
        except BaseException as error:
            # If this fails, the database gave up the whole transaction, and so must we.
            if notes is not None:
                del notes[noted:]
            _undo_part(connection)
            if len(works) == 1:
                works[0].error = _answerable(error)
                return
            for work in works:
                self._run_part(connection, [work])

    def _after_failure(self, group: list[_Work], token: str, error: Exception) -> None:
        """The group as a whole failed: find out whether it was kept, else run its units in halves."""
        self.engine.dispose()
        try:
            kept = self._ask(token)
        except Exception:
            for work in group:
                work.error = OutcomeUnknown("the database did not say whether this was kept: read it before retrying")
            return
        if kept:
            self._keep_notes()
            return
        if len(group) == 1:
            unavailable = Unavailable("the database could not keep this; nothing has happened, try again")
            unavailable.__cause__ = error
            group[0].error = error if isinstance(error, OutlayError) else unavailable
            return
        half = len(group) // 2
        self._run_group(group[:half])
        self._run_group(group[half:])

    def _ask(self, token: str) -> bool:
        """Tell whether the group of ``token`` was kept.

        On PostgreSQL the backend of the lost connection may still be at work. It holds the writer's lock until its
        transaction has ended one way or the other, so whoever has the lock reads the truth.
        """
        patience = time.monotonic() + (ASK_MAX_S if isinstance(self.where, str) else 0)
        while True:
            try:
                with self.engine.begin() as connection:
                    mine = group_mark.c.writer == self.writer
                    return connection.execute(sa.select(group_mark.c.token).where(mine)).scalar() == token
            except sa.exc.OperationalError:
                if time.monotonic() >= patience:
                    raise
            time.sleep(_ASK_PAUSE_S)


def _parts(group: list[_Work]) -> list[list[_Work]]:
    """Return the units of a group in their order; those that share a function are one part, in the place of the first.

    They all wait at the same time, so nobody can tell in which order they came.
    """
    parts: list[list[_Work]] = []
    shared: dict[Any, list[_Work]] = {}
    for work in group:
        if work.item is not ALONE and work.function in shared:
            shared[work.function].append(work)
            continue
        parts.append([work])
        if work.item is not ALONE:
            shared[work.function] = parts[-1]
    return parts


def _keep_answers(works: list[_Work], answers: Sequence[Any]) -> None:
    for work, answer in zip(works, answers, strict=True):
        if isinstance(answer, Exception):
            work.error = answer
        else:
            work.result = answer


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
