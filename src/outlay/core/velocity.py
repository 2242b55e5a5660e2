"""Velocity: how much leaves within a stretch of time.

Each payout is one *entry*. It is open from admission until its first signature and always counts; from then on
it carries the instant of that signature and counts for as long as a window reaches back to it. A held payout can
therefore not age out of a window and leave later together with others.

A counter (one for each policy lineage and scope key) keeps the open entries and a running total of what was
signed. What was signed within a window is the difference of two running totals, less what was corrected since:
however long the history is, two rows answer.

Why a ``Block`` cap holds at every instant: take any window and, of the entries signed within it, the one that was
admitted last. When that one was judged before binding, each of the others was either open and admitted earlier, or
signed after that window's start; both were counted. So the whole window fitted. It holds for what was judged under
the cap as it is: what was bound before a cap was lowered keeps its place.
"""

from dataclasses import dataclass
from enum import StrEnum

from outlay.core.errors import InvariantBroken
from outlay.core.seams import DAY, MINUTE, Instant

TIMEFRAME_MAX = 43_200
"""The longest window a rule may ask for, in minutes: 30 days."""

VALUE_MAX = 10**60
"""The largest value a counter adds up, in 10**-8 USD. It is far above any limit a rule may have; a larger value is
kept as unknown, which triggers every value rule, so that 10**18 entries still fit the column of a running total."""

CLOCK_STEPS: Instant = DAY
"""How much further back than its window, in microseconds, a counter is rebuilt from entries."""


class Scope(StrEnum):
    """What shares one limit."""

    WALLET = "wallet"  #: each wallet by itself, as in the contract
    POLICY = "policy"  #: all wallets the policy's filters match, together
    ORGANIZATION = "organization"  #: every wallet, whether the filters match it or not
    RECIPIENT = "recipient"  #: each recipient address by itself
    INITIATOR = "initiator"  #: each person or machine that asks, by itself


# To look a member up in its class costs more than all else about a key, of which each payout needs several.
_WALLET, _RECIPIENT = Scope.WALLET, Scope.RECIPIENT
_SHARED = {each: each.value for each in (Scope.POLICY, Scope.ORGANIZATION)}


@dataclass(frozen=True, slots=True)
class Window:
    """What a set of entries adds up to."""

    value: int = 0  #: 10**-8 USD, of the entries whose value is known
    count: int = 0  #: entries, those of unknown value included
    unknown: int = 0  #: entries whose value is not known

    def plus(self, other: "Window") -> "Window":
        """Return both sets together."""
        return Window(self.value + other.value, self.count + other.count, self.unknown + other.unknown)

    def minus(self, other: "Window") -> "Window":
        """Return this set without ``other``, which must be a part of it.

        Raises:
            InvariantBroken: more would be taken out than is in.
        """
        rest = Window(self.value - other.value, self.count - other.count, self.unknown - other.unknown)
        if min(rest.value, rest.count, rest.unknown) < 0 or rest.unknown > rest.count:
            raise InvariantBroken("a velocity window would hold less than nothing", held=str(self), out=str(other))
        return rest


EMPTY = Window()


def entry_of(value: int | None) -> Window:
    """Return the window that holds one entry of ``value`` (10**-8 USD, or None where it is not known)."""
    known = countable(value)
    return Window(0, 1, 1) if known is None else Window(known, 1, 0)


def countable(value: int | None) -> int | None:
    """Return ``value`` if a counter can add it up, else None: it then counts as unknown.

    Raises:
        InvariantBroken: a negative value.
    """
    if value is None or value > VALUE_MAX:
        return None
    if value < 0:
        raise InvariantBroken("a payout cannot be worth less than nothing", value=str(value))
    return value


def scope_key(scope: Scope, *, wallet_id: str, recipient: str, initiator_id: str) -> str:
    """Return which counter of a policy a payout belongs to.

    A recipient is its address without the network: on chains of one family the same address is the same payee,
    and a limit for each recipient must not multiply with the networks it is reachable on.

    Args:
        scope: what the policy's limit is shared by.
        wallet_id: the wallet that pays.
        recipient: its canonical address (lower case where the chain ignores case).
        initiator_id: the user who asked.
    """
    if scope in _SHARED:
        return _SHARED[scope]
    if scope is _WALLET:
        return f"wallet:{wallet_id}"
    return f"recipient:{recipient}" if scope is _RECIPIENT else f"initiator:{initiator_id}"


def window_start(now: Instant, timeframe: int) -> Instant:
    """Return where a window of ``timeframe`` minutes begins; what was signed later than that is inside.

    There is no end: a signature that carries a later instant than ``now``, because the clock has stepped back since,
    counts too. So a clock that was ahead for a while makes windows hold more, never less.
    """
    return now - timeframe * MINUTE


def next_instant(now: Instant, last_at: Instant) -> Instant:
    """Return the instant of the next signature: now, but always later than the last one, whatever the clock does."""
    return max(now, last_at + 1)
