"""Where time and randomness enter. Core and actions take both as arguments and never ask themselves."""

from typing import Protocol

Instant = int
"""Microseconds since 1970-01-01 UTC, as an integer."""


SECOND: Instant = 1_000_000
MINUTE: Instant = 60 * SECOND
HOUR: Instant = 60 * MINUTE
DAY: Instant = 24 * HOUR


class Clock(Protocol):
    """The time of day."""

    def now(self) -> Instant:
        """Return the current instant in microseconds UTC."""
        ...


class Entropy(Protocol):
    """A source of unpredictable bytes."""

    def token(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        ...
