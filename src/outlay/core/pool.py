"""Pools: which wallet pays what names a pool. Pure rules; the engine supplies what it sees.

A pool is one queue in front of several lanes. Payouts are looked at in the order of the queue, and each goes to the
best wallet that can pay it: one that does not stand still and has a free slot before others, then the one with the
fewest under way, then the one that holds most of what is paid. Only as many are sent ahead as the lanes can take, so
what is asked for late never waits behind a wallet that stands still.

Why nothing starves: whatever is looked at earlier takes its wallet's funds and places first, so a large payout that
some wallet could pay is never passed by later small ones; and every payout is looked at within a number of rounds that
depends on the length of the queue alone (the engine reads its head and, beside it, one part after the other).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

AHEAD = 4
"""Payouts of a pool that may wait in the lane of a wallet without a free slot, so that it never runs dry."""


class Route(StrEnum):
    """Where a payout stands before it is bound to a nonce."""

    LANE = "lane"  #: in the lane of its wallet
    QUEUE = "queue"  #: in the queue of its pool
    PARKED = "parked"  #: in the queue; when it was looked at last, no wallet of the pool could pay it


@dataclass(slots=True, kw_only=True)
class Member:
    """A wallet of a pool. What is given to it in one round is counted in here."""

    id: str
    since: int = 0  #: number of the record that put it in
    why_out: str | None = None  #: why it gets nothing new; None: it may
    is_stuck: bool = False  #: its oldest transaction stays unmined for long
    in_flight: int  #: slots of its lane that are not settled
    slots: int  #: unsettled slots its lane may have
    waiting: int = 0  #: payouts of pools in its lane that are not bound yet
    spendable: dict[str, int] = field(default_factory=dict)  #: base units by asset

    @property
    def free(self) -> int:
        """Slots that nothing is under way for or waits for; below 0 if more waits than has room."""
        return self.slots - self.in_flight - self.waiting

    @property
    def room(self) -> int:
        """Payouts that may be sent to its lane; a full lane has a few in reserve."""
        return max(self.slots - self.in_flight, AHEAD) - self.waiting

    def lacks(self, needs: Mapping[str, int]) -> bool:
        """Tell whether it cannot pay ``needs``, base units by asset."""
        return any(self.spendable.get(asset, 0) < amount for asset, amount in needs.items())

    def take(self, needs: Mapping[str, int], *, waits: bool = True) -> None:
        """Count a payout that it is to pay; ``waits``: it takes a place in the lane."""
        self.waiting += waits
        for asset, amount in needs.items():
            self.spendable[asset] = self.spendable.get(asset, 0) - amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A payout of a pool that is ready and not bound."""

    id: str
    wallet_id: str  #: that it counts for now
    seq: int  #: number of the newest record when it was asked for; who was in the pool then may pay it
    route: Route
    needs: Mapping[str, int]  #: base units by asset, its fee cap included
    asset: str  #: what is paid
    is_held_up: bool = False  #: its lane says why it does not move: it takes up no place


@dataclass(frozen=True, slots=True)
class Move:
    """What is to become of a payout."""

    id: str
    wallet_id: str  #: that it counts for from now on
    route: Route


Fits = Callable[[str, str], bool]
"""Tells of a payout and a wallet whether it may count for that wallet; where it says yes, the payout goes there."""


def route(payouts: Sequence[Waiting], members: Mapping[str, Member], *, fits: Fits) -> list[Move]:
    """Choose a wallet for each payout; return those that change, in the same order.

    Args:
        payouts: in the order of the queue, each once.
        members: the wallets, by id; ``waiting`` counts the payouts that are in their lanes and move on.
        fits: whether a payout may count for another wallet than the one it counts for.
    """
    moves = []
    for each in payouts:
        was = members.get(each.wallet_id)
        if was is not None and each.route is Route.LANE and not each.is_held_up:
            was.waiting -= 1  # its place is given anew
        chosen, could = _choose(each, members, fits)
        if chosen is not None:
            chosen.take(each.needs, waits=not (each.is_held_up and chosen is was))
            move = Move(each.id, chosen.id, Route.LANE)
        elif could:
            move = Move(each.id, each.wallet_id, Route.QUEUE)
        else:
            move = Move(each.id, each.wallet_id, Route.PARKED)
        if (move.wallet_id, move.route) != (each.wallet_id, each.route):
            moves.append(move)
    return moves


def _choose(payout: Waiting, members: Mapping[str, Member], fits: Fits) -> tuple[Member | None, bool]:
    """Return the wallet whose lane it goes to now, and whether any wallet could pay it."""
    able = [
        each
        for each in members.values()
        if each.why_out is None and each.since <= payout.seq and not each.lacks(payout.needs)
    ]
    moving = [each for each in able if not each.is_stuck] or able
    stays, could, home = payout.route is Route.LANE, False, members.get(payout.wallet_id)
    for each in sorted(moving, key=lambda member: preference(member, payout.asset)):
        is_home = each.id == payout.wallet_id
        if each.room <= 0 and not (is_home and stays):
            could = True  # once there is room
            continue
        # What waits in a lane that goes on is left there, unless another has a slot and this has none.
        if home is not None and stays and home in moving and (home.free > 0 or each.free <= 0):
            return home, True
        if is_home or fits(payout.id, each.id):
            return each, True
    return None, could


def preference(member: Member, asset: str) -> tuple[bool, bool, int, int, str]:
    """Return what wallets are sorted by for a payout of ``asset``: the best first."""
    held = member.spendable.get(asset, 0)
    return member.is_stuck, member.free <= 0, member.in_flight + member.waiting, -held, member.id


def provisional(members: Sequence[Member], needs: Mapping[str, int], turn: int) -> Member:
    """Return the wallet that a new payout counts for until one is chosen.

    Those that could pay it now take turns: so payouts that wait spread over what each wallet may pay within its limits.

    Args:
        members: at least one.
        needs: base units by asset.
        turn: counts up with each payout.
    """
    open_ones = [each for each in members if each.why_out is None]
    able = [each for each in open_ones if not each.lacks(needs)]
    best = [each for each in able if not each.is_stuck] or able or open_ones or members
    return best[turn % len(best)]
