"""What recovery and reconciliation read and write beside the ordinary statements: whole tables, whole lanes."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.ledger import SUPPOSED
from outlay.core.seams import Instant
from outlay.core.transfer import RESTORED
from outlay.store import submissions
from outlay.store.database import Unit
from outlay.store.schema import (
    attempt,
    event,
    lane,
    organization,
    posting,
    record,
    token,
    transaction,
    transfer,
    user,
    wallet,
)

FILE_RESTORED = "The database was restored from an older copy: submit the same file again."
"""Why a file of payouts of which not all was asked for is refused then."""

TOLD_MAX = 100
"""Events that are looked through for what was told before."""

_SLOTS = (
    sa.select(transaction, transfer.c.asset, transfer.c.amount, transfer.c.state.label("transfer_state"))
    .join(transfer, transfer.c.id == transaction.c.transfer_id, isouter=True)
    .where(transaction.c.wallet_id == sa.bindparam("wallet_id"))
    .order_by(transaction.c.nonce)
)
_LANE = sa.select(lane).where(lane.c.wallet_id == sa.bindparam("wallet_id"))
_OPEN = (
    sa.select(transfer.c.state, sa.func.count().label("found"))
    .where(
        transfer.c.wallet_id == sa.bindparam("wallet_id"), transfer.c.state.in_(sa.bindparam("states", expanding=True))
    )
    .group_by(transfer.c.state)
    .order_by(transfer.c.state)
)


def slots(unit: Unit, wallet_id: str) -> Sequence[sa.Row[Any]]:
    """Return every slot of a wallet by nonce, with ``asset``, ``amount`` and ``transfer_state`` of its transfer."""
    return unit.execute(_SLOTS, {"wallet_id": wallet_id}).all()


def open_transfers(unit: Unit, wallet_id: str, states: Sequence[str]) -> dict[str, int]:
    """Return how many transfers of a wallet are in each of these states; states without one are left out."""
    return {row.state: row.found for row in unit.execute(_OPEN, {"wallet_id": wallet_id, "states": list(states)})}


def find_slot(unit: Unit, wallet_id: str, nonce: int) -> sa.Row[Any] | None:
    """Return the slot of a wallet with this nonce, or None."""
    mine = transaction.c.wallet_id == wallet_id, transaction.c.nonce == nonce
    return unit.execute(sa.select(transaction).where(*mine)).one_or_none()


def slots_from(unit: Unit, wallet_id: str, nonce: int) -> Sequence[sa.Row[Any]]:
    """Return the slots of a wallet from ``nonce`` on, lowest first."""
    mine = transaction.c.wallet_id == wallet_id, transaction.c.nonce >= nonce
    return unit.execute(sa.select(transaction).where(*mine).order_by(transaction.c.nonce)).all()


def add_slot(unit: Unit, **values: Any) -> None:
    """Insert a slot as the signer's journal tells it."""
    unit.execute(sa.insert(transaction).values(**values))


def drop_slot(unit: Unit, transaction_id: str) -> None:
    """Delete a slot that was bound and never signed, with what was to be signed for it."""
    unit.execute(sa.delete(attempt).where(attempt.c.transaction_id == transaction_id, attempt.c.raw.is_(None)))
    unit.execute(sa.delete(transaction).where(transaction.c.id == transaction_id, transaction.c.state == "bound"))


def add_attempt(unit: Unit, **values: Any) -> None:
    """Insert an attempt that was signed."""
    unit.execute(sa.insert(attempt).values(**values))


def advance_lane(unit: Unit, wallet_id: str, *, nonce: int) -> None:
    """Make sure that a lane never gives out ``nonce`` again: something was signed for it.

    A lane that does not exist yet begins with it: slots come in the order of their nonces.
    """
    row = unit.execute(_LANE, {"wallet_id": wallet_id}).one_or_none()
    if row is None:
        _begin_lane(unit, wallet_id, nonce=nonce, next_nonce=nonce + 1, fence=0)
    elif row.next_nonce <= nonce:
        unit.execute(sa.update(lane).where(lane.c.wallet_id == wallet_id).values(next_nonce=nonce + 1))


def begin_lane_at(unit: Unit, wallet_id: str, *, nonce: int) -> None:
    """Let a lane in which nothing is under way go on at ``nonce``, unless it is further already."""
    row = unit.execute(_LANE, {"wallet_id": wallet_id}).one_or_none()
    if row is None:
        _begin_lane(unit, wallet_id, nonce=nonce, next_nonce=nonce, fence=0)
    elif row.settled_nonce == row.next_nonce < nonce:
        values = {"settled_nonce": nonce, "next_nonce": nonce}
        unit.execute(sa.update(lane).where(lane.c.wallet_id == wallet_id).values(**values))


def raise_fence(unit: Unit, wallet_id: str, *, fence: int) -> None:
    """Make sure that a lane is leased with fences above ``fence`` from now on; nobody holds it then."""
    values = {"fence": fence, "holder": None, "leased_until": None}
    if unit.execute(_LANE, {"wallet_id": wallet_id}).one_or_none() is None:
        _begin_lane(unit, wallet_id, nonce=0, next_nonce=0, fence=fence)
    unit.execute(sa.update(lane).where(lane.c.wallet_id == wallet_id, lane.c.fence < fence).values(**values))


def _begin_lane(unit: Unit, wallet_id: str, *, nonce: int, next_nonce: int, fence: int) -> None:
    values = {"settled_nonce": nonce, "next_nonce": next_nonce, "fence": fence, "holder": None, "leased_until": None}
    unit.execute(sa.insert(lane).values(wallet_id=wallet_id, **values))


def mark_compared(unit: Unit) -> None:
    """Say of every wallet that the ledger was never compared for that it was, at the first block."""
    unit.execute(sa.update(wallet).where(wallet.c.compared_block.is_(None)).values(compared_block=0))


def all_record_texts(unit: Unit) -> list[str]:
    """Return the canonical text of every record in order."""
    return list(unit.execute(sa.select(record.c.document).order_by(record.c.seq)).scalars())


def first_unsigned(unit: Unit, wallet_id: str) -> int:
    """Return the lowest nonce of a wallet from which on nothing that was signed is stored.

    What is only bound there was never sent, because bytes are stored first; and whatever is signed for it next takes
    the same nonce, so at most one of the two can ever be mined.
    """
    mine = transaction.c.wallet_id == wallet_id, transaction.c.state != "bound"
    newest = unit.execute(sa.select(sa.func.max(transaction.c.nonce)).where(*mine)).scalar_one()
    settled = unit.execute(sa.select(lane.c.settled_nonce).where(lane.c.wallet_id == wallet_id)).scalar()
    return max(-1 if newest is None else newest + 1, settled or 0)


def machines_without_token(unit: Unit) -> list[str]:
    """Return the ids of service accounts that have no bearer token, not even one that was switched off."""
    has_one = sa.exists().where(token.c.user_id == user.c.id, token.c.kind == "ServiceAccount")
    query = sa.select(user.c.id).where(user.c.is_service_account.is_(True), user.c.deleted_at.is_(None), ~has_one)
    return list(unit.execute(query.order_by(user.c.id)).scalars())


def invented(unit: Unit, wallet_id: str, asset: str) -> int:
    """Return how much recovery posted to a wallet because it was signed away, and did not take back yet."""
    total = 0
    account_id = f"{wallet_id}/{asset}/spendable"
    mine = posting.c.account_id == account_id, posting.c.why == SUPPOSED
    for row in unit.execute(sa.select(posting.c.side, posting.c.amount).where(*mine)):
        total += row.amount if row.side == "debit" else -row.amount
    return total


def documents_about_organization(unit: Unit, kind: str) -> list[dict[str, Any]]:
    """Return the bodies of the records of one kind about the organization, oldest first, agreed ones included."""
    org = sa.select(organization.c.id).scalar_subquery()
    query = sa.select(record.c.document).where(record.c.subject == org, record.c.kind.in_((kind, "change.applied")))
    found = []
    for text in unit.execute(query.order_by(record.c.seq)).scalars():
        document = json.loads(text)
        body = document["body"]
        if document["kind"] == kind:
            found.append(body)
        elif body["kind"] == kind:
            found.append(body["body"])
    return found


def told(unit: Unit, subject: str, kind: str) -> list[dict[str, Any]]:
    """Return what the newest events of one kind told of something, newest first, not all if many."""
    mine = event.c.subject == subject, event.c.kind == kind
    query = sa.select(event.c.data).where(*mine).order_by(event.c.subject_seq.desc()).limit(TOLD_MAX)
    return list(unit.execute(query).scalars())


def doubt_unsigned(unit: Unit, *, now: Instant) -> None:
    """Mark every payout that is not signed: in the time that is lost it may have been withdrawn, and asked for anew.

    For the same reason nothing more of a file is asked for: whoever wants it still submits it again.
    """
    submissions.end_open(unit, reason=FILE_RESTORED, now=now)
    unsigned = transfer.c.state.in_(("held", "ready", "assigned")), transfer.c.flag.is_(None)
    unit.execute(sa.update(transfer).where(*unsigned).values(flag=RESTORED))


def doubted_slots(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return the slots that are bound to payouts in doubt, by wallet, highest nonce first."""
    doubted = transfer.c.id == transaction.c.transfer_id, transfer.c.flag == RESTORED
    query = sa.select(transaction).where(transaction.c.state == "bound", sa.exists().where(*doubted))
    return unit.execute(query.order_by(transaction.c.wallet_id, transaction.c.nonce.desc())).all()


def give_back(unit: Unit, wallet_id: str, nonce: int) -> None:
    """Let a lane give out ``nonce`` again, if that was the last one it gave; else the engine closes the gap."""
    last = lane.c.wallet_id == wallet_id, lane.c.next_nonce == nonce + 1, lane.c.settled_nonce <= nonce
    unit.execute(sa.update(lane).where(*last).values(next_nonce=nonce))


def trust_again(unit: Unit, transfer_id: str) -> None:
    """Take the mark off a payout that was signed: it was wanted."""
    mine = transfer.c.id == transfer_id, transfer.c.flag == RESTORED
    unit.execute(sa.update(transfer).where(*mine).values(flag=None))
