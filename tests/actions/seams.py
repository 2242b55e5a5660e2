"""What the world brings along instead of the real time and the real dice."""

import random

from outlay.core.seams import MINUTE, Instant

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
