"""The real clock and the operating system's randomness."""

import secrets
import time

from outlay.core.seams import Instant


class SystemClock:
    """The time of this machine."""

    def now(self) -> Instant:
        """Return microseconds UTC."""
        return time.time_ns() // 1000


class SystemEntropy:
    """The operating system's random bytes."""

    def token(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        return secrets.token_bytes(size)
