"""What the world brings along instead of the real time, the real dice and the disk."""

import functools
import random
from typing import Any

import sqlalchemy as sa

from outlay.core.seams import MINUTE, Instant
from outlay.store.schema import metadata

START: Instant = 1_800_000_000_000_000
"""Where the clock starts: January 2027."""


class FakeClock:
    """A clock that shows what it is told; it may step back."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> Instant:
        return self.at

    def step(self, *, minutes: float = 0, micros: int = 0) -> Instant:
        self.at += int(minutes * MINUTE) + micros
        return self.at


class SeededEntropy:
    """Bytes that are the same in every run."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


@functools.cache
def empty_database() -> bytes:
    """Return a file with all tables and nothing in them; making them takes longer than founding an organization."""
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as unit:
        driver: Any = unit.connection.driver_connection
        content: bytes = driver.serialize()
    return content


def forget_durability(connection: Any, _record: Any) -> None:
    """Let commits return before they are on the disk: no test here pulls the plug."""
    connection.execute("PRAGMA synchronous=OFF")
