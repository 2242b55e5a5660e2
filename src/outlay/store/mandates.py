"""Mandates, what was sent under them, and what somebody else was asked to send."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core import ids
from outlay.core.mandate import Mandate, parse_mandate
from outlay.core.seams import Instant
from outlay.core.transfer import ENDS, RESTORED, UNSIGNED, State
from outlay.store.database import Row, Unit
from outlay.store.paging import page
from outlay.store.schema import (
    mandate,
    mandate_low,
    refill_proposal,
    transaction,
    transfer,
    velocity_entry,
    wallet,
)

ACTIVE, ARCHIVED = "Active", "Archived"
OPEN, FULFILLED, WITHDRAWN = "Open", "Fulfilled", "Withdrawn"
OUTFLOWS_MAX = 5000
"""Payouts that an outflow is computed from: with more within the stretch of time, the newest of them."""

# Recurring payouts are paid under mandates too, but fill no wallet.
_FILLS = mandate.c.id.startswith(f"{ids.MANDATE}-", autoescape=True)
_ACTIVE = sa.select(mandate).where(mandate.c.status == ACTIVE, _FILLS).order_by(mandate.c.created_at, mandate.c.id)
_OF_MANDATES = sa.and_(
    transfer.c.mandate_id.is_not(None), transfer.c.mandate_id.startswith(f"{ids.MANDATE}-", autoescape=True)
)


def add(unit: Unit, *, id: str, document: dict[str, Any], now: Instant) -> None:
    """Insert a mandate."""
    unit.execute(sa.insert(mandate).values(id=id, document=document, status=ACTIVE, created_at=now))


def find(unit: Unit, mandate_id: str) -> Row | None:
    """Return the mandate, archived ones included, or None."""
    return unit.execute(sa.select(mandate).where(mandate.c.id == mandate_id)).one_or_none()


def archive(unit: Unit, mandate_id: str, *, now: Instant) -> None:
    """Take a mandate out of force."""
    unit.execute(sa.update(mandate).where(mandate.c.id == mandate_id).values(status=ARCHIVED, archived_at=now))
    unit.execute(sa.delete(mandate_low).where(mandate_low.c.mandate_id == mandate_id))


def mandate_of(row: Row) -> Mandate:
    """Return the mandate a row holds."""
    return parse_mandate(row.document, id=row.id)


def active(unit: Unit) -> list[Mandate]:
    """Return every mandate in force that keeps wallets filled, oldest first."""
    return [mandate_of(row) for row in unit.execute(_ACTIVE)]


def list_page(
    unit: Unit, *, status: str | None, recurring: bool | None = None, limit: int | None, token: str | None
) -> tuple[Sequence[Row], str | None]:
    """Return one page of mandates: those of recurring payouts, the others, or (None) all."""
    query = sa.select(mandate)
    if recurring is not None:
        query = query.where(sa.not_(_FILLS) if recurring else _FILLS)
    if status is not None:
        query = query.where(mandate.c.status == status)
    return page(unit, query, order=mandate.c.created_at, key=mandate.c.id, limit=limit, token=token)


# Refills


def count(unit: Unit, mandate_id: str) -> int:
    """Return how many refills there ever were under a mandate."""
    query = sa.select(sa.func.count()).select_from(transfer)
    number: int = unit.execute(query.where(transfer.c.mandate_id == mandate_id)).scalar_one()
    return number


def spent(unit: Unit, mandate_id: str, *, since: Instant) -> tuple[int, int]:
    """Return what was signed under a mandate after ``since``, or may still be: base units, and how many refills.

    What was signed counts whatever became of it, as it does at the signer.
    """
    is_open = sa.and_(transfer.c.signed_at.is_(None), transfer.c.state.in_([*UNSIGNED]))
    query = sa.select(transfer.c.amount).where(
        transfer.c.mandate_id == mandate_id, sa.or_(transfer.c.signed_at > since, is_open)
    )
    amounts = list(unit.execute(query).scalars())
    return sum(amounts), len(amounts)


def latest(unit: Unit, *, network: str, recipient: str, asset: str) -> Row | None:
    """Return the newest refill of a wallet, whatever its mandate, with the block it is in if it is final."""
    query = (
        sa.select(transfer, transaction.c.block_number)
        .outerjoin(transaction, transaction.c.id == transfer.c.transaction_id)
        .where(_OF_MANDATES, transfer.c.network == network)
        .where(transfer.c.recipient == recipient, transfer.c.asset == asset)
        .order_by(transfer.c.requested_at.desc(), transfer.c.id.desc())
        .limit(1)
    )
    return unit.execute(query).one_or_none()


def waiting_of(unit: Unit, wallet_id: str) -> Sequence[Any]:
    """Return asset, amount and mandate of what a wallet is about to pay and nothing is set aside for yet.

    Payouts that wait for people are not among them; refills that do are.
    """
    going = sa.or_(transfer.c.state == State.READY, sa.and_(_OF_MANDATES, transfer.c.state == State.HELD))
    columns = (transfer.c.id, transfer.c.asset, transfer.c.amount, transfer.c.mandate_id)
    query = sa.select(*columns).where(transfer.c.wallet_id == wallet_id, transfer.c.state.in_(_WAITING), going)
    return unit.execute(query.order_by(transfer.c.id)).all()


_WAITING = (State.READY, State.HELD)


def ready_assets(unit: Unit, wallet_id: str) -> list[str]:
    """Return the assets that a wallet's ready payouts pay."""
    query = sa.select(transfer.c.asset).where(transfer.c.wallet_id == wallet_id, transfer.c.state == State.READY)
    return sorted(unit.execute(query.distinct()).scalars())


def unsigned(unit: Unit, mandate_id: str) -> Sequence[Row]:
    """Return the payments under a mandate that wait, for people or for funds."""
    query = sa.select(transfer).where(transfer.c.mandate_id == mandate_id, transfer.c.state.in_(_WAITING))
    return unit.execute(query.order_by(transfer.c.id)).all()


def filled_by(unit: Unit, row: Row) -> Row | None:
    """Return the wallet that a refill goes to, or None."""
    place = (wallet.c.network == row.network, sa.func.lower(wallet.c.address) == row.recipient)
    return unit.execute(sa.select(wallet).where(*place)).one_or_none()


def restored(unit: Unit) -> Sequence[Row]:
    """Return the refills that waited in a copy of the database that was restored."""
    waits = (_OF_MANDATES, transfer.c.flag == RESTORED, transfer.c.state.in_(_WAITING))
    return unit.execute(sa.select(transfer).where(*waits).order_by(transfer.c.id)).all()


def under_way(row: Row) -> bool:
    """Tell whether a refill may still be paid."""
    return State(row.state) not in ENDS


def outflows(unit: Unit, *, since: Instant) -> Sequence[Any]:
    """Return wallet, asset, amount, fee and instant of what was signed after ``since``, newest first, not all if many.

    Whatever failed since is among them: it is a prediction's basis and nothing else.
    """
    query = (
        sa.select(transfer.c.wallet_id, transfer.c.asset, transfer.c.amount, transfer.c.fee, velocity_entry.c.signed_at)
        .join(transfer, transfer.c.id == velocity_entry.c.transfer_id)
        .where(velocity_entry.c.signed_at > since)
        .order_by(velocity_entry.c.signed_at.desc(), velocity_entry.c.transfer_id)
        .limit(OUTFLOWS_MAX)
    )
    return unit.execute(query).all()


# Wallets that are low


def low(unit: Unit) -> set[tuple[str, str]]:
    """Return (mandate, wallet) of every wallet that was told of as low and has not recovered."""
    return {(row.mandate_id, row.wallet_id) for row in unit.execute(sa.select(mandate_low))}


def set_low(unit: Unit, mandate_id: str, wallet_id: str, *, now: Instant) -> None:
    """Note that a wallet is low."""
    unit.execute(sa.insert(mandate_low).values(mandate_id=mandate_id, wallet_id=wallet_id, since=now))


def forget_low(unit: Unit, pairs: Iterable[tuple[str, str]]) -> None:
    """Note that wallets have recovered, or are under the mandate no more."""
    for mandate_id, wallet_id in sorted(pairs):
        mine = sa.and_(mandate_low.c.mandate_id == mandate_id, mandate_low.c.wallet_id == wallet_id)
        unit.execute(sa.delete(mandate_low).where(mine))


# Proposals


def add_proposal(unit: Unit, **values: Any) -> None:
    """Insert an open proposal."""
    unit.execute(sa.insert(refill_proposal).values(status=OPEN, seen=0, **values))


def proposal(unit: Unit, proposal_id: str) -> Row:
    """Return a proposal that there is."""
    return unit.execute(sa.select(refill_proposal).where(refill_proposal.c.id == proposal_id)).one()


def open_proposals(unit: Unit) -> Sequence[Row]:
    """Return every open proposal, oldest first."""
    query = sa.select(refill_proposal).where(refill_proposal.c.status == OPEN)
    return unit.execute(query.order_by(refill_proposal.c.opened_at, refill_proposal.c.id)).all()


def proposed(unit: Unit, mandate_id: str, *, since: Instant) -> tuple[int, int]:
    """Return what was proposed under a mandate after ``since`` and not withdrawn: base units, and how many."""
    query = sa.select(refill_proposal.c.amount).where(
        refill_proposal.c.mandate_id == mandate_id,
        refill_proposal.c.opened_at > since,
        refill_proposal.c.status != WITHDRAWN,
    )
    amounts = list(unit.execute(query).scalars())
    return sum(amounts), len(amounts)


def close_proposal(unit: Unit, proposal_id: str, *, status: str, reason: str, now: Instant) -> None:
    """End a proposal."""
    mine = refill_proposal.c.id == proposal_id
    unit.execute(sa.update(refill_proposal).where(mine).values(status=status, reason=reason, closed_at=now))


def note_inflow(unit: Unit, *, wallet_id: str, asset: str, amount: int) -> None:
    """Add what arrived at a wallet to what was seen of its open proposal, if there is one."""
    mine = (refill_proposal.c.wallet_id == wallet_id, refill_proposal.c.asset == asset)
    for row in unit.execute(sa.select(refill_proposal).where(*mine, refill_proposal.c.status == OPEN)).all():
        changed = sa.update(refill_proposal).where(refill_proposal.c.id == row.id)
        unit.execute(changed.values(seen=row.seen + amount))


def proposals_page(
    unit: Unit, mandate_id: str, *, status: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[Row], str | None]:
    """Return one page of a mandate's proposals."""
    query = sa.select(refill_proposal).where(refill_proposal.c.mandate_id == mandate_id)
    if status is not None:
        query = query.where(refill_proposal.c.status == status)
    return page(unit, query, order=refill_proposal.c.opened_at, key=refill_proposal.c.id, limit=limit, token=token)
