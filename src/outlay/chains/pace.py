"""How much one endpoint is asked: a little more while it answers, much less as soon as it says that it is too much.

What is too much for now waits for its turn, first come, first served; nothing is given up here.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

START_WIDTH: Final = 16
"""Requests in flight to an endpoint that has not complained."""

_WIDTH_MAX: Final = 64
_RATE_MIN: Final = 0.5  # requests a second
_RATE_FREE: Final = 1000.0  # from here on no limit is kept
_RATE_LEFT: Final = 0.7  # of the rate that was too much
_PAUSE_S: Final = 0.25  # after the first refusal, doubled with each that follows
_PAUSE_MAX_S: Final = 8.0


class Pace:
    """Requests in flight and requests a second of one endpoint: additive increase, multiplicative decrease.

    A batch counts as one request; an endpoint that counts its calls instead is met by shorter batches.
    """

    def __init__(self) -> None:
        """Start without a rate: it is learned from the first refusal."""
        self.width = float(START_WIDTH)  #: requests in flight allowed
        self.rate: float | None = None  #: requests a second allowed; None: no limit is known
        self._opens_at = -math.inf  # loop time from which the next request may start
        self._in_flight = 0
        self._refusals = 0  # since the last answer
        self._slowed_at = -math.inf
        self._slowings = 0
        self._answered: deque[float] = deque()  # within the last second
        self._line = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether a request would have to wait for more than a moment now."""
        return self._opens_at - asyncio.get_running_loop().time() > _PAUSE_S / 2

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for a turn and hold it; gives the instant of the loop's clock at which it began."""
        loop = asyncio.get_running_loop()
        async with self._line:
            while self._in_flight >= int(self.width):
                self._freed.clear()
                await self._freed.wait()
            # A refusal meanwhile makes it longer.
            while (delay := self._opens_at - loop.time()) > 0:  # noqa: ASYNC110 - waits for an instant, not an event
                await asyncio.sleep(delay)
            started = loop.time()
            if self.rate is not None:
                self._opens_at = started + 1 / self.rate
            self._in_flight += 1
        try:
            yield started
        finally:
            self._in_flight -= 1
            self._freed.set()

    def answered(self) -> None:
        """Note an answer: allow a little more."""
        now = asyncio.get_running_loop().time()
        self._refusals = 0
        self._answered.append(now)
        self._forget(now)
        self.width = min(_WIDTH_MAX, self.width + 1 / self.width)
        if self.rate is not None:
            # The first rate was a guess from one second: doubled each second until it proves too high. From then on
            # about one request a second more with each second, or a tenth where that is more.
            more = self.rate if self._slowings < 2 else max(1.0, self.rate / 10)
            self.rate += more / self.rate
            self.rate = None if self.rate >= _RATE_FREE else self.rate

    def refused(self, started: float, retry_after_s: float | None) -> None:
        """Note that a request was one too many: allow much less, and none for a while.

        Args:
            started: what ``turn`` gave; refusals of requests that began before the last slowing count as one.
            retry_after_s: how long the endpoint asked for, if it said so.
        """
        now = asyncio.get_running_loop().time()
        if started > self._slowed_at:
            self._forget(now)
            self.rate = max(_RATE_MIN, (self.rate or len(self._answered)) * _RATE_LEFT)
            self.width = max(1.0, self.width / 2)
            self._slowed_at = now
            self._slowings += 1
            self._refusals += 1
        pause = min(_PAUSE_MAX_S, _PAUSE_S * 2 ** min(self._refusals - 1, 10))
        self._opens_at = max(self._opens_at, now + (pause if retry_after_s is None else retry_after_s))

    def _forget(self, now: float) -> None:
        while self._answered and self._answered[0] <= now - 1:
            self._answered.popleft()
