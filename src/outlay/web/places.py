"""A bounded number of places for requests that wait for the database."""

from collections.abc import Iterator
from contextlib import contextmanager

from outlay.core.errors import TooManyRequests


class Places:
    """Who finds no place is sent away before anything is done for it; whoever has one is answered."""

    def __init__(self, number: int) -> None:
        """Make ``number`` places, 1 or more."""
        self._number, self.taken = number, 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Keep a place for as long as the block takes.

        Raises:
            TooManyRequests: there is none.
        """
        if self.taken >= self._number:
            raise TooManyRequests(
                f"{self._number} requests wait to be admitted: nothing was stored, send the same call again",
                retry_after_s=1,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
