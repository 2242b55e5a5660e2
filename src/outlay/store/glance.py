"""A read connection beside those that payouts use: one at most, with a limit on the time that a look may take."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from outlay.core.errors import Unavailable
from outlay.store.database import Unit, open_engine

T = TypeVar("T")

STEPS: Final = 10_000
"""SQLite's virtual machine asks so often, in instructions, whether time is up."""


class Glance:
    """Reads for those who only watch. Thread-safe; looks wait for each other."""

    def __init__(self, where: Path | str) -> None:
        """Remember the database; it is opened by the first look."""
        self._where = where
        self._turn = threading.Lock()
        self._engine: sa.Engine | None = None

    def read(self, function: Callable[[Unit], T], *, within_s: float) -> T:
        """Run ``function`` on one consistent, read-only snapshot, for ``within_s`` seconds at most.

        Raises:
            Unavailable: the database does not answer, or not in time.
        """
        if not self._turn.acquire(timeout=within_s):
            raise Unavailable("another look at the database takes too long")
        try:
            if self._engine is None:
                self._engine = open_engine(self._where, writer=False, size=1)
            with self._engine.begin() as unit, _bounded(unit, within_s):
                return function(unit)
        except sa.exc.DBAPIError as error:
            raise Unavailable(f"the database does not answer a look ({type(error.orig).__name__})") from None
        finally:
            self._turn.release()

    def close(self) -> None:
        """Let go of the database."""
        with self._turn:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


@contextlib.contextmanager
def _bounded(unit: Unit, within_s: float) -> Iterator[None]:
    if unit.dialect.name != "sqlite":
        unit.exec_driver_sql(f"SET LOCAL statement_timeout = {int(within_s * 1000)}")
        yield
        return
    connection: Any = unit.connection.driver_connection
    end = time.monotonic() + within_s
    connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
