"""Payouts that name a pool get a wallet: the unit that looks at a pool's queue, and what it sees of the wallets.

The queue is read from its head, and beside it one part after the other (``Cursor``), so that what could not be paid
when it was looked at last is looked at again however much of it there is. A payout moves by compare-and-set: only
while it is ready, unbound, and where it was read. So two workers may look at once, and nothing has to be undone if one
dies: the row says all there is to know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions.sending import needs
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core.errors import InvariantBroken
from outlay.core.policy import matches
from outlay.core.pool import Fits, Member, Move, Route, Waiting, route
from outlay.core.seams import SECOND, Instant
from outlay.core.transfer import RESTORED
from outlay.core.turns import Turns, page_size
from outlay.store import pools, stops, wallets
from outlay.store.database import Row, Unit
from outlay.store.policies import active_policies
from outlay.store.velocity_move import Moves

PART = 100
"""Payouts looked at again from the head of those that nobody could pay, and as many from the part whose turn it is."""
FLOWS_MAX = 64
"""Flows of a pool's queue that are looked at in one round."""
IN_LANES_MAX = 500
"""Payouts of a pool in lanes that are looked at in one round."""
ROUND_MAX = 500
"""Fresh payouts that are looked at in one round."""
NOBODY = "no wallet of the pool could pay it: each is stopped, lacks funds for it, or has no room within its limits"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one worker has looked into a pool's queue; forgetting it does no harm."""

    parked: tuple[int, str] | None = None
    in_lanes: tuple[int, str] | None = None
    flow: pools.Flow = pools.FIRST


def members_of(unit: Unit, config: Config, pool: Row, *, now: Instant) -> dict[str, Member]:
    """Return the wallets of a pool as the router sees them, by id."""
    rows = pools.members(unit, pool)
    names = [row.id for row in rows]
    if not names:
        return {}
    in_flight, sent_at = pools.in_flight(unit, names), pools.oldest_sent(unit, names)
    in_lanes, spendable = pools.in_lanes(unit, pool.network), pools.spendable(unit, names)
    late = now - config.sending.bump_after_s * SECOND
    out = why_out(unit, config, pool, rows)
    return {
        row.id: Member(
            id=row.id,
            since=row.since or 0,
            why_out=out[row.id],
            is_stuck=sent_at.get(row.id, now) <= late,
            in_flight=in_flight.get(row.id, 0),
            slots=config.sending.in_flight_max,
            waiting=in_lanes.get(row.id, 0),
            spendable=spendable[row.id],
        )
        for row in rows
    }


def why_out(unit: Unit, config: Config, pool: Row, rows: Sequence[Row]) -> dict[str, str | None]:
    """Return of each wallet of a pool why it gets nothing new; None: it may."""
    network = config.network(pool.network)
    if network is None or network.chain_id != pool.chain_id:
        return dict.fromkeys((row.id for row in rows), f"{pool.network} is not the chain of this pool on this server")
    stopped = {(row.scope, row.subject): row.reason for row in stops.everything(unit)}
    everything = next((stopped[each] for each in (("all", ""), ("network", pool.network)) if each in stopped), None)
    state = stops.find_network(unit, pool.network)
    if everything is None and state is not None:
        everything = state.frozen_reason
    policies, tags = active_policies(unit), wallets.all_tags(unit)
    found: dict[str, str | None] = {}
    for row in rows:
        frozen = everything or stopped.get(("wallet", row.id)) or row.frozen_reason
        judged = config.policies.default == "allow" or any(matches(each, row.id, tags[row.id]) for each in policies)
        if frozen is not None:
            found[row.id] = f"frozen: {frozen}"
        elif row.drained_reason is not None:
            found[row.id] = f"drained: {row.drained_reason}"
        elif row.status != "Active":
            found[row.id] = row.status
        else:
            found[row.id] = None if judged else "no policy is about it, and then payouts are blocked"
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one round looks at."""

    members: dict[str, Member]
    rows: dict[str, Row]  #: payouts in the order in which they are looked at, by id
    after: Cursor  #: where the next round goes on

    def moves(self, config: Config, fits: Fits) -> list[Move]:
        """Return what is to become of what was looked at. Changes ``members``: to be asked once."""
        return route([_waiting(config, row) for row in self.rows.values()], self.members, fits=fits)


def look(unit: Unit, config: Config, pool: Row, cursor: Cursor, turns: Turns, *, now: Instant) -> Look:
    """Read a part of a pool's queue, what waits in the lanes, and the wallets.

    What is in a lane already is looked at first; the others in the order of their turns.
    """
    members = members_of(unit, config, pool, now=now)
    room = sum(max(0, each.room) for each in members.values() if each.why_out is None)
    in_lanes, lanes_after = _part(unit, pool.id, Route.LANE, cursor.in_lanes, IN_LANES_MAX)
    parked, parked_after = _part(unit, pool.id, Route.PARKED, cursor.parked, PART)
    if cursor.parked is not None:
        parked = [*pools.queued(unit, pool.id, Route.PARKED, limit=PART), *parked]
    fresh, flow_after = _fresh(unit, pool.id, cursor.flow, min(ROUND_MAX, room)) if room else ([], cursor.flow)
    waiting = turns.order({row.id: row for row in (*parked, *fresh)}.values(), now)
    return Look(
        members=members,
        rows={row.id: row for row in (*in_lanes, *waiting) if row.flag != RESTORED},
        after=Cursor(parked_after, lanes_after, flow_after),
    )


def _fresh(unit: Unit, pool_id: str, after: pools.Flow, limit: int) -> tuple[list[Row], pools.Flow]:
    """Return the heads of the flows whose turn it is to be looked at, and the flow to go on behind."""
    flows = pools.flows(unit, pool_id, after=after, limit=FLOWS_MAX)
    end = pools.FIRST if len(flows) < FLOWS_MAX else flows[-1]
    if end == pools.FIRST and after != pools.FIRST:
        flows += [each for each in pools.flows(unit, pool_id, limit=FLOWS_MAX - len(flows)) if each not in flows]
    size = page_size(flows, least=1, all_of_them=limit)
    return [row for each in flows for row in pools.of_flow(unit, pool_id, each, limit=size)], end


def _part(
    unit: Unit, pool_id: str, route: Route, after: tuple[int, str] | None, limit: int
) -> tuple[list[Row], tuple[int, str] | None]:
    """Return the next part of a queue, and where the one behind it begins; None: at its head."""
    rows = list(pools.queued(unit, pool_id, route, limit=limit, after=after))
    return rows, (rows[-1].ready_at, rows[-1].id) if len(rows) == limit else None


def _waiting(config: Config, row: Row) -> Waiting:
    return Waiting(
        id=row.id,
        wallet_id=row.wallet_id,
        seq=row.pool_seq or 0,
        route=Route(row.route),
        needs=needs(config, row),
        asset=row.asset,
        is_held_up=row.waiting_reason is not None,
    )


def peek(unit: Unit, config: Config, pool: Row, cursor: Cursor, turns: Turns, *, now: Instant) -> tuple[bool, Cursor]:
    """Tell, without changing anything, whether a round would move a payout, as far as it can be told; and what is next.

    Limits of the wallets' own are looked at by ``run_round`` only.
    """
    seen = look(unit, config, pool, cursor, turns, now=now)
    return bool(seen.moves(config, lambda _payout, _wallet: True)), seen.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round did."""

    moves: list[Move]
    took: list[Row]  #: the payouts that were sent to lanes, in the order of their turns
    after: Cursor  #: where the next round goes on


def run_round(work: Work, pool: Row, cursor: Cursor, turns: Turns) -> Round:
    """Give payouts of a pool their wallets.

    Raises:
        InvariantBroken: a payout moved while this unit looked at it.
    """
    unit = work.unit
    seen = look(unit, work.config, pool, cursor, turns, now=work.now)
    tags = {wallet_id: wallets.tags(unit, wallet_id) for wallet_id in seen.members}
    counted = Moves(unit, active_policies(unit), tags, seen.rows.keys(), now=work.now)

    def fits(transfer_id: str, wallet_id: str) -> bool:
        asked = seen.rows[transfer_id].approval_id is not None
        if not counted.fits(transfer_id, wallet_id, asked=asked):
            return False
        counted.move(transfer_id, wallet_id)
        return True

    moves = seen.moves(work.config, fits)
    counted.write()  # first: counters are locked before transfers
    written = [_columns(seen.rows[each.id], each) for each in sorted(moves, key=lambda each: each.id)]
    if not pools.move(unit, written):
        raise InvariantBroken(f"a payout of {pool.id} moved while it was looked at")
    took = [seen.rows[each.id] for each in moves if each.route is Route.LANE and seen.rows[each.id].route != Route.LANE]
    return Round(moves=moves, took=took, after=seen.after)


def _columns(row: Row, move: Move) -> dict[str, Any]:
    return {
        "of_id": row.id,
        "of_wallet": row.wallet_id,
        "of_route": row.route,
        "wallet_id": move.wallet_id,
        "route": move.route,
        "waiting_reason": NOBODY if move.route is Route.PARKED else None,
    }
