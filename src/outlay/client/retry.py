"""When a call is made again, and after how long: jittered back-off that honours what the server asks for.

It wraps calls of any client: what Outlay's own raises, what the official Dfns SDK raises, and broken connections.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from outlay.client.calls import ApiError
from outlay.core.errors import OutcomeUnknown

T = TypeVar("T")

NOT_NOW: Final = frozenset({408, 425, 429, 503})
"""Statuses that say: nothing was done, ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A call may be made again."""

    after_s: float | None = None  #: what the server asks for, if it does
    is_unknown: bool = False  #: it may have happened: only what cannot happen twice may be repeated


def may_repeat(error: BaseException) -> Again | None:
    """Return whether a call that ended so may be made again; None: the answer is final."""
    if isinstance(error, OutcomeUnknown):
        return Again(is_unknown=True)
    status = error.status if isinstance(error, ApiError) else getattr(error, "status_code", None)
    if isinstance(status, int) and not isinstance(status, bool):
        if status in NOT_NOW:
            return Again(
                after_s=_asked_for(error), is_unknown=getattr(error, "error_code", None) == OutcomeUnknown.code
            )
        return Again(is_unknown=True) if status >= 500 else None
    if isinstance(error, OSError | TimeoutError) or _is_transport_error(error):
        return Again(is_unknown=True)
    return None


def _asked_for(error: BaseException) -> float | None:
    asked = getattr(error, "retry_after_s", None)
    if asked is None:
        details = getattr(error, "details", None)
        asked = details.get("retryAfter") if isinstance(details, dict) else None
    if isinstance(asked, bool) or not isinstance(asked, int | float) or asked < 0:
        return None
    return float(asked)


def _is_transport_error(error: BaseException) -> bool:
    """Tell httpx's broken connections and time-outs, which the Dfns SDK lets through, without needing httpx."""
    return any(
        kind.__name__ == "TransportError" and kind.__module__.startswith("httpx") for kind in type(error).__mro__
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often and how long to try."""

    attempts: int = 6  #: calls at most, the first one counted
    first_s: float = 0.25  #: the longest wait before the second
    longest_s: float = 30.0  #: no wait of ours is longer; what the server asks for may be
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def wait_s(self, attempt: int, asked_s: float | None) -> float:
        """Return how long to wait after attempt number ``attempt``, 1 for the first, seconds.

        Anywhere between nothing and a time that doubles, so that many callers do not come back together; never
        before the server asked for.
        """
        most = min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))
        return (asked_s or 0.0) + most * self.chance()

    def __call__(self, call: Callable[[], T], *, is_repeatable: bool = True) -> T:
        """Make a call until it is answered for good, and return its answer.

        Args:
            call: what is done.
            is_repeatable: whether doing it twice is the same as once (it has an ``externalId``, or only reads).

        Raises:
            OutcomeUnknown: an earlier attempt may have done it, and no later one was answered well: a refusal of the
                second (a token that ran out meanwhile) says nothing of the first.
            Exception: what the last call raised, otherwise.
        """
        attempt, was_unknown = 1, False
        while True:
            try:
                return call()
            except Exception as error:
                again = may_repeat(error)
                if again is None or attempt >= self.attempts or (again.is_unknown and not is_repeatable):
                    if was_unknown and not isinstance(error, OutcomeUnknown):
                        raise unknown_before(error) from error
                    raise
                was_unknown = was_unknown or again.is_unknown
                self.sleep(self.wait_s(attempt, again.after_s))
                attempt += 1


def unknown_before(error: BaseException) -> OutcomeUnknown:
    """Return what is known when a call is refused after an attempt whose outcome nobody told."""
    return OutcomeUnknown(f"an earlier attempt may have done it, and the last one was refused: {error}")


ONCE: Final = Retry(attempts=1)
"""Never again."""


def describe(error: BaseException) -> dict[str, Any]:
    """Return what an error says, as JSON: to be kept beside what it ended."""
    status = error.status if isinstance(error, ApiError) else getattr(error, "status_code", None)
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "status": status if isinstance(status, int) else None,
        "code": getattr(error, "code", None) or getattr(error, "error_code", None),
    }
