"""Keeping within a rate limit, however late calls arrive."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from outlay.core.errors import InvalidInput

_UNTIL_ONE_ENDS_S = 0.05


class Pace:
    """At most ``count`` requests in any ``per_s`` seconds, as the *server* sees them.

    A request counts from when it is sent until ``per_s`` after its answer: it arrived somewhere between. So whichever
    window the server counts in, fixed or sliding, it never sees more.
    """

    def __init__(
        self,
        count: int,
        per_s: float,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the limit, e.g. ``Pace(100, 60)``: hundred a minute.

        Raises:
            InvalidInput: less than one request, or no time.
        """
        if count < 1 or per_s <= 0:
            raise InvalidInput("is at least one request in more than no time", field="pace")
        self._count, self._per_s, self._now = count, per_s, now
        self._open = 0
        self._ended: deque[float] = deque()
        self._free = threading.Condition()

    @contextmanager
    def taking(self, requests: int = 1) -> Iterator[None]:
        """Wait until there is room, and hold it while the body runs.

        Args:
            requests: how many the body makes; the contract's signed call makes three.

        Raises:
            InvalidInput: more than the limit ever allows.
        """
        while (wait_s := self.take(requests)) > 0:
            with self._free:
                self._free.wait(wait_s)
        try:
            yield
        finally:
            self.end(requests)

    def take(self, requests: int = 1) -> float:
        """Take room if there is some: return 0, or after how many seconds to ask again. See ``taking``."""
        self.require(requests)
        with self._free:
            now = self._now()
            while self._ended and self._ended[0] + self._per_s <= now:
                self._ended.popleft()
            missing = requests - (self._count - self._open - len(self._ended))
            if missing <= 0:
                self._open += requests
                return 0.0
            if missing > len(self._ended):
                return _UNTIL_ONE_ENDS_S
            return max(1e-3, self._ended[missing - 1] + self._per_s - now)

    def require(self, requests: int) -> None:
        """Refuse a call that makes more requests than there is ever room for. Raises InvalidInput."""
        if not 1 <= requests <= self._count:
            raise InvalidInput(f"one call makes {requests} requests, the limit is {self._count}", field="pace")

    def end(self, requests: int = 1) -> None:
        """Say that what was taken is answered: it counts from now on for ``per_s`` more."""
        with self._free:
            self._open -= requests
            self._ended.extend([self._now()] * requests)
            self._free.notify_all()
