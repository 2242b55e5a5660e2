"""The database runner inline: the real group commit, its bisection and its questions after a failure, on one
SQLite in memory, without threads, with commits that fail in every way a commit can.
"""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from outlay.store.database import GROUP_MAX, Batch, Database, I, Unit, _Work
from tests.sim.loop import Dead, Process

T = TypeVar("T")

BUSY, LOST, KEPT, UNKNOWN_LOST, UNKNOWN_KEPT, FULL = (
    "db.busy",
    "db.lost",
    "db.kept",
    "db.unknown_lost",
    "db.unknown_kept",
    "db.full",
)
COMMIT_FAULTS = (BUSY, LOST, KEPT, UNKNOWN_LOST, UNKNOWN_KEPT, FULL)
READ_FAULT, SLOW = "db.read", "db.slow"

Ask = Callable[[str], str | None]
"""Asked at a port (``write``, ``read``): which fault happens there, if any."""


class _Kept(sqlite3.Connection):
    """A connection that outlives its closing: the only one there is to this database."""

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()


class Disk:
    """The database file, so to speak: what is committed survives every process."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Kept)
        self.engine = sa.create_engine("sqlite://", creator=lambda: self.connection, poolclass=StaticPool)
        self.fault: str | None = None  # what happens to the group that is being written
        self.silent = False  # the question whether it was kept gets no answer either
        self.reading = False
        self.dead: Process | None = None  # died within this group
        # Listeners would be asked about every statement too.
        dialect: Any = self.engine.dialect
        dialect.do_begin, dialect.do_commit = self._begin, self._commit

    def load(self, content: bytes) -> None:
        """Become a copy of a database."""
        self.connection.deserialize(content)
        self.connection.execute("PRAGMA foreign_keys=ON")
        self.fault, self.silent, self.reading, self.dead = None, False, False, None

    def copy(self) -> bytes:
        return self.connection.serialize()

    def _begin(self, _connection: Any) -> None:
        if self.silent:
            raise sqlite3.OperationalError("disk I/O error")
        if self.fault == BUSY:
            self.fault = None
            raise sqlite3.OperationalError("database is locked")
        self.connection.execute("BEGIN" if self.reading else "BEGIN IMMEDIATE")

    def _commit(self, _connection: Any) -> None:
        fault, self.fault = self.fault, None
        if self.dead is not None:
            fault = UNKNOWN_LOST  # there is nobody left to ask
        if fault is None:
            self.connection.execute("COMMIT")
            return
        self.connection.execute("COMMIT" if fault in (KEPT, UNKNOWN_KEPT) else "ROLLBACK")
        self.silent = fault in (UNKNOWN_KEPT, UNKNOWN_LOST)
        raise sqlite3.OperationalError("database or disk is full" if fault == FULL else "disk I/O error")


class SimDatabase(Database):
    """One process's runner on the shared disk."""

    def __init__(
        self, disk: Disk, process: Process, chance: random.Random, ask: Ask, after_commit: Callable[[], None]
    ) -> None:
        self._disk, self._process, self._chance, self._fault_at = disk, process, chance, ask
        self._after_commit = after_commit
        self.where, self.engine = Path(":memory:"), disk.engine
        self.groups = self.units = 0
        self._waiting: list[_Work] = []
        self._batches: dict[Any, Callable[[Unit, Sequence[Any]], Any]] = {}  # one function for all that share one

    async def write(self, function: Callable[[Unit], T]) -> T:
        def run(unit: Unit) -> T:
            with self._noticed():
                return function(unit)

        result: T = await self._wait_for(_Work(run, asyncio.get_running_loop()))
        return result

    async def write_item(self, batch: Batch[I, T], item: I) -> T:
        run = self._batches.get(batch)
        if run is None:

            def run(unit: Unit, items: Sequence[Any]) -> Any:
                with self._noticed():
                    return batch(unit, items)

            self._batches[batch] = run
        result: T = await self._wait_for(_Work(run, asyncio.get_running_loop(), item))
        return result

    @contextmanager
    def _noticed(self) -> Iterator[None]:
        """Note that the process died within a unit."""
        try:
            yield
        except Dead:
            self._disk.dead = self._process
            raise

    async def _wait_for(self, work: "_Work") -> Any:
        self._process.check()
        self._waiting.append(work)
        if len(self._waiting) == 1:
            work.loop.call_later(self._delay(), self._flush)
        result = await work.future
        self._process.check()
        return result

    async def read(self, function: Callable[[Unit], T]) -> T:
        self._process.check()
        await asyncio.sleep(self._delay())
        self._process.check()
        if self._fault_at("read") == READ_FAULT:
            raise sa.exc.OperationalError("SELECT", {}, sqlite3.OperationalError("disk I/O error"))
        disk, before = self._disk, self._disk.connection.total_changes
        disk.reading = True
        try:
            with self.engine.begin() as unit:
                result = function(unit)
        finally:
            disk.reading = False
        assert disk.connection.total_changes == before, "a reading unit wrote"
        await asyncio.sleep(0)  # what was read is old by the time it is used
        self._process.check()
        return result

    def close(self) -> None:
        """The disk stays."""

    def _delay(self) -> float:
        if self._fault_at("delay") == SLOW:
            return self._chance.uniform(1.0, 20.0)
        return self._chance.random() * 0.02

    def _flush(self) -> None:
        group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
        if self._waiting:
            asyncio.get_running_loop().call_later(self._delay(), self._flush)
        if not self._process.alive:
            return
        disk = self._disk
        disk.fault, disk.silent, disk.dead = self._fault_at("write"), False, None
        try:
            with self._process.entered():
                self._run_group(group)
        finally:
            disk.fault, disk.silent, disk.dead = None, False, None
        self._after_commit()
        for work in group:
            # Between commit and answer a process may die.
            asyncio.get_running_loop().call_later(self._chance.random() * 0.01, self._answer, work)

    def _answer(self, work: "_Work") -> None:
        if self._process.alive:
            work.answer()
