"""Rate limits: how many calls the organization, an identity or one route may make, told in the contract's headers.

They keep one caller from crowding out the others; what may be paid is bounded by policies, not by them. A call over a
limit is answered 429 before anything is stored or spent, so the same call can be sent again as it is.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from outlay.core.errors import TooManyRequests
from outlay.settings import MEMORY, Limits

FALL_BACK_S = 10.0
"""How long each process counts for itself after the shared store did not answer."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a caller stands with the limit that leaves it least."""

    limit: int  #: calls in a window
    remaining: int
    reset_at: int  #: Unix seconds at which there is room again

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the contract's response headers."""
        named = (("limit", self.limit), ("remaining", self.remaining), ("reset", self.reset_at))
        return [(f"x-ratelimit-{name}".encode(), str(value).encode()) for name, value in named]


class OverLimit(TooManyRequests):
    """A call beyond a limit."""

    def __init__(self, message: str, *, retry_after_s: int, standing: Standing) -> None:
        """Keep how its caller stands."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.standing = standing


class Limiter:
    """Counts calls in sliding windows, in memory or in Redis."""

    def __init__(self, settings: Limits) -> None:
        """Prepare the store; nothing is connected yet."""
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = None if settings.storage == MEMORY else SlidingWindowCounterRateLimiter(_open(settings.storage))
        self._own_until = 0.0
        self._organization = _read(settings.organization)
        self._identity = _read(settings.identity)
        self._anonymous = _read(settings.anonymous)
        self._endpoints = [(each, parse(each.limit)) for each in settings.endpoints]

    @classmethod
    def of(cls, settings: Limits) -> "Limiter | None":
        """Return what counts for the settings' limits, or None if they set none."""
        is_any = settings.organization or settings.identity or settings.anonymous or settings.endpoints
        return cls(settings) if is_any else None

    async def hit(self, *, method: str, path: str, identity: str | None, address: str) -> Standing | None:
        """Count one call; return how its caller stands afterwards, or None if no limit is about it.

        Args:
            method: of the call.
            path: of the call, as it was sent.
            identity: who calls, from a token that is ours; None: nobody known.
            address: network address of the caller; counts where nobody is known.

        Raises:
            OverLimit: with how long to wait.
        """
        tightest: Standing | None = None
        for item, key in self._about(method, path, identity, address):
            allowed, standing = await self._hit(item, key)
            if not allowed:
                wait_s = max(1, standing.reset_at - math.floor(time.time()))
                raise OverLimit(
                    f"more than {item.amount} calls in {item.get_expiry()} s ({key[0]}): wait and send the same again",
                    retry_after_s=wait_s,
                    standing=standing,
                )
            if tightest is None or standing.remaining < tightest.remaining:
                tightest = standing
        return tightest

    def _about(
        self, method: str, path: str, identity: str | None, address: str
    ) -> list[tuple[RateLimitItem, list[str]]]:
        """Return the limits a call counts for, each with whose it is: the caller's own first, then what others share.

        So what is refused for its caller takes nothing from the others.
        """
        who = f"address {address}" if identity is None else identity
        own: list[tuple[RateLimitItem, list[str]]] = []
        shared: list[tuple[RateLimitItem, list[str]]] = []
        mine = self._anonymous if identity is None else self._identity
        if mine is not None:
            own.append((mine, ["caller", who]))
        for each, item in self._endpoints:
            if each.matches(method, path):
                key = ["endpoint", each.method, each.path]
                # Whoever holds no token cannot use up what the organization may do.
                if each.per == "identity" or identity is None:
                    own.append((item, [*key, who]))
                else:
                    shared.append((item, key))
        if self._organization is not None and identity is not None:
            shared.append((self._organization, ["organization"]))
        return own + shared

    async def _hit(self, item: RateLimitItem, key: list[str]) -> tuple[bool, Standing]:
        if self._shared is not None and time.monotonic() >= self._own_until:
            try:
                return await _hit(self._shared, item, key)
            except (StorageError, OSError) as error:
                # Limits are a courtesy between callers: without the store payouts go on, and each process counts alone.
                self._own_until = time.monotonic() + FALL_BACK_S
                log.warning("rate_limit_store_unreachable", problem=str(error)[:200], seconds=FALL_BACK_S)
        return await _hit(self._own, item, key)


async def _hit(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, key: list[str]) -> tuple[bool, Standing]:
    allowed = await limiter.hit(item, *key)
    stats = await limiter.get_window_stats(item, *key)
    reset_at = math.ceil(max(stats.reset_time, time.time()))
    remaining = stats.remaining if allowed else 0
    return allowed, Standing(limit=item.amount, remaining=remaining, reset_at=reset_at)


def _read(text: str) -> RateLimitItem | None:
    return parse(text) if text else None


def _open(url: str) -> Storage:
    options: dict[str, Any] = {"implementation": "redispy", "wrap_exceptions": True, "key_prefix": "outlay"}
    opened = storage_from_string(f"async+{url}", socket_timeout=1.0, socket_connect_timeout=1.0, **options)
    assert isinstance(opened, Storage)
    return opened
