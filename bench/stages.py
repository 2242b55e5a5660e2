"""How long payouts took from stage to stage, from what the product wrote down about them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bench.rows import percentiles
from outlay.core.transfer import State
from outlay.store import ledger
from outlay.store.database import Unit
from outlay.store.schema import delivery, event, transfer, wallet

SECOND = 1_000_000
STAGES = ("decide", "sign", "broadcast", "confirm", "notify")
"""From requested to allowed; to signed; to sent; to final; from the event to the answer of the endpoint."""
INSTANT_S = 0.001
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Told:
    """What the database says about one payout; instants are microseconds."""

    id: str
    external_id: str
    wallet_id: str
    state: str
    recipient: str
    amount: int
    tx_hash: str | None
    fee: int
    requested_at: int
    ready_at: int | None
    signed_at: int | None
    broadcast_at: int | None
    confirmed_at: int | None


def told(unit: Unit, run: str) -> list[Told]:
    """Return every payout whose external id begins with ``run`` and a hyphen."""
    found = unit.execute(
        sa.select(
            transfer.c.id,
            transfer.c.external_id,
            transfer.c.wallet_id,
            transfer.c.state,
            transfer.c.recipient,
            transfer.c.amount,
            transfer.c.tx_hash,
            transfer.c.fee,
            transfer.c.requested_at,
            transfer.c.ready_at,
            transfer.c.signed_at,
            transfer.c.broadcast_at,
            transfer.c.confirmed_at,
        ).where(transfer.c.external_id >= f"{run}-", transfer.c.external_id < f"{run}.")
    )
    return [Told(**{**row._mapping, "fee": row.fee or 0}) for row in found]


def counted(unit: Unit, run: str) -> dict[str, int]:
    """Return how many payouts of a run are in which state."""
    found = unit.execute(
        sa.select(transfer.c.state, sa.func.count())
        .where(transfer.c.external_id >= f"{run}-", transfer.c.external_id < f"{run}.")
        .group_by(transfer.c.state)
    )
    return {row[0]: row[1] for row in found}


def delivered(unit: Unit, ids: Sequence[str]) -> list[tuple[int, int]]:
    """Return, for each delivered ``confirmed`` event of these payouts, when it was raised and when it was sent."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(ids), _CHUNK):
        query = (
            sa.select(event.c.at, delivery.c.sent_at)
            .join(delivery, delivery.c.event_id == event.c.id)
            .where(
                event.c.subject.in_(ids[start : start + _CHUNK]),
                event.c.kind == "wallet.transfer.confirmed",
                delivery.c.state == "delivered",
            )
        )
        found += [(row[0], row[1]) for row in unit.execute(query)]
    return found


def measure(rows: Sequence[Told], notified: Sequence[tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Return p50, p95, p99 (milliseconds) and throughput (payouts a second) of each stage."""
    pairs: Mapping[str, list[tuple[int | None, int | None]]] = {
        "decide": [(row.requested_at, row.ready_at) for row in rows],
        "sign": [(row.ready_at, row.signed_at) for row in rows],
        "broadcast": [(row.signed_at, row.broadcast_at) for row in rows],
        "confirm": [(row.broadcast_at, row.confirmed_at) for row in rows],
        "notify": list(notified),
    }
    return {stage: stage_figures([pair for pair in pairs[stage] if None not in pair]) for stage in STAGES}  # type: ignore[misc]


def stage_figures(pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return percentiles and throughput of one stage, from when each began and ended."""
    if len(pairs) < 2:
        return {}
    ends = [end for _, end in pairs]
    begins = min(begin for begin, _ in pairs)
    elapsed = (max(ends) - begins) / SECOND
    # What happens in the instant of the call has no throughput of its own.
    throughput = {"per_s": round(len(pairs) / elapsed, 1)} if elapsed > INSTANT_S else {}
    return {**percentiles([(end - begin) / SECOND for begin, end in pairs]), **throughput}


def check_rows(rows: Sequence[Told], wanted: Mapping[str, tuple[str, int]]) -> list[str]:
    """Return what is wrong with what was stored: each payout once, as asked for, confirmed.

    Args:
        rows: of the run.
        wanted: recipient and wei by external id.
    """
    faults = []
    stored = {row.external_id: (row.recipient, row.amount) for row in rows}
    if len(rows) != len(wanted) or stored != dict(wanted):
        faults.append(f"{len(wanted)} payouts were asked for, {len(rows)} are stored, not all as asked for")
    unpaid = [row.state for row in rows if row.state != State.CONFIRMED]
    if unpaid:
        faults.append(f"{len(unpaid)} payouts were not confirmed: {sorted(set(unpaid))}")
    hashes = [row.tx_hash for row in rows if row.tx_hash]
    if len(set(hashes)) != len(hashes):
        faults.append("two payouts name one transaction")
    return faults


def check_ledger(unit: Unit, wallets: Collection[tuple[str, int]]) -> list[str]:
    """Return what is wrong with the ledger: it balances, reserves nothing, and holds what the chain shows.

    Args:
        unit: a snapshot.
        wallets: id of each wallet and its balance on the chain.
    """
    faults = []
    ledger.check(unit)
    for wallet_id, shown in wallets:
        held = ledger.holdings(unit, wallet_id=wallet_id, asset="native")
        if (held.spendable, held.reserved) != (shown, 0):
            faults.append(f"the ledger holds {held.spendable} and reserves {held.reserved}; the chain shows {shown}")
    return faults


def wallets(unit: Unit) -> list[Any]:
    """Return id and address of every wallet."""
    return list(unit.execute(sa.select(wallet.c.id, wallet.c.address)))


def spendable(unit: Unit) -> dict[str, int]:
    """Return what the ledger says each wallet may spend, wei by wallet id."""
    return {row.id: ledger.holdings(unit, wallet_id=row.id, asset="native").spendable for row in wallets(unit)}


def with_accept(
    figures: Mapping[str, dict[str, float]], answers_s: Sequence[float], rate: float
) -> dict[str, dict[str, float]]:
    """Return the stages with the first of them: from a call to its answer, as the client saw it."""
    return {
        "accept": {**percentiles(answers_s), "per_s": round(rate, 1)},
        **{name: dict(of) for name, of in figures.items()},
    }
