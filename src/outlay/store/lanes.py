"""Lanes: each wallet's sequence of nonces, leased to one worker, and what was signed for each of them.

A ``transaction`` is one slot, its ``attempt`` rows are what may be mined in it. The row is the truth:
``UNIQUE(wallet_id, nonce)`` and the compare-and-set below are what keep two payouts from one slot and one payout
from two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken, Unavailable
from outlay.core.fees import Offer
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import attempt, lane, transaction

UNSETTLED = ("bound", "signed", "sent", "mined")
PAYOUT, VOID = "payout", "void"
"""What an attempt is for."""

_FIND = sa.select(lane).where(lane.c.wallet_id == sa.bindparam("wallet_id"))
_AT_FENCE = sa.update(lane).where(
    lane.c.wallet_id == sa.bindparam("of_wallet"), lane.c.fence == sa.bindparam("at_fence")
)
_TAKE_NONCE = _AT_FENCE.where(lane.c.next_nonce == sa.bindparam("read_nonce"))
_SETTLE_NONCE = _AT_FENCE.where(lane.c.settled_nonce == sa.bindparam("read_nonce"))
_ADD_TRANSACTIONS = Prepared(sa.insert(transaction))
_FIND_TRANSACTION = sa.select(transaction).where(transaction.c.id == sa.bindparam("id"))
_FIND_TRANSACTIONS = sa.select(transaction).where(transaction.c.id.in_(sa.bindparam("ids", expanding=True)))
_OF_HASH = (
    sa.select(transaction)
    .join(attempt, attempt.c.transaction_id == transaction.c.id)
    .where(attempt.c.hash == sa.bindparam("hash"))
)
_IN_STATES = sa.and_(
    transaction.c.wallet_id == sa.bindparam("wallet_id"),
    transaction.c.state.in_(sa.bindparam("states", expanding=True)),
)
_TRANSACTIONS = sa.select(transaction).where(_IN_STATES).order_by(transaction.c.nonce)
_SOME_TRANSACTIONS = _TRANSACTIONS.limit(sa.bindparam("most"))
_COUNT = sa.select(sa.func.count()).select_from(transaction).where(_IN_STATES)
# Asked for by themselves, and by expressions that no index of the transactions fits: else SQLite would rather look at
# every transaction of the wallet than at the few attempts that are left.
_OF_WALLET = (
    sa.select(attempt.c.transaction_id)
    .join(transaction, transaction.c.id == attempt.c.transaction_id)
    .where(transaction.c.wallet_id.concat("") == sa.bindparam("wallet_id"))
    .order_by(transaction.c.nonce + 0)
    .limit(sa.bindparam("most"))
)
_SLOTS_TO_SIGN = _OF_WALLET.where(attempt.c.raw.is_(None), transaction.c.state.in_(UNSETTLED))
_UNSIGNED = (
    sa.select(attempt, transaction.c.nonce, transaction.c.transfer_id, transaction.c.fee_cap)
    .join(transaction, transaction.c.id == attempt.c.transaction_id)
    .where(
        transaction.c.id.in_(sa.bindparam("ids", expanding=True)),
        transaction.c.wallet_id == sa.bindparam("wallet_id"),
        transaction.c.state.in_(UNSETTLED),
        attempt.c.raw.is_(None),
    )
    .order_by(transaction.c.nonce, attempt.c.number)
    .limit(sa.bindparam("most"))
)
_TO_SEND = sa.and_(attempt.c.raw.is_not(None), attempt.c.sent_at.is_(None))
_SLOTS_TO_SEND = _OF_WALLET.where(_TO_SEND, transaction.c.state.in_(("signed", "sent")))
_SEND_NO_MORE = sa.update(attempt).where(_TO_SEND, attempt.c.transaction_id.in_(sa.bindparam("ids", expanding=True)))
_UNSENT = sa.select(transaction).where(
    transaction.c.id.in_(sa.bindparam("ids", expanding=True)),
    transaction.c.wallet_id == sa.bindparam("wallet_id"),
    transaction.c.state.in_(("signed", "sent")),
)
_NEWER = attempt.alias("newer")
_NEWEST = ~sa.exists().where(
    _NEWER.c.transaction_id == attempt.c.transaction_id,
    _NEWER.c.number > attempt.c.number,
    _NEWER.c.raw.is_not(None),
)
_SENT = (
    sa.select(transaction)
    .join(attempt, attempt.c.transaction_id == transaction.c.id)
    .where(
        transaction.c.wallet_id == sa.bindparam("wallet_id"),
        transaction.c.state == "sent",
        attempt.c.raw.is_not(None),
        _NEWEST,
    )
    .limit(sa.bindparam("most"))
)
_LATE = _SENT.where(
    sa.or_(
        attempt.c.sent_at <= sa.bindparam("seen_before"),
        sa.and_(
            attempt.c.sent_at <= sa.bindparam("sent_before"),
            sa.func.coalesce(attempt.c.last_answer, "").not_like("accepted%"),
        ),
    )
).order_by(transaction.c.nonce)
_STANDING = _SENT.where(
    sa.or_(transaction.c.void_reason.is_not(None), attempt.c.first_sent_at <= sa.bindparam("sent_before"))
).order_by(transaction.c.void_reason.is_(None), transaction.c.nonce)
_LOWEST = sa.select(sa.func.min(transaction.c.nonce)).where(_IN_STATES)
_FROM = (
    sa.select(transaction)
    .where(transaction.c.wallet_id == sa.bindparam("wallet_id"), transaction.c.nonce >= sa.bindparam("nonce"))
    .order_by(transaction.c.nonce)
)
_ATTEMPTS = (
    sa.select(attempt, transaction.c.nonce, transaction.c.mined_hash, transaction.c.state.label("slot_state"))
    .join(transaction, transaction.c.id == attempt.c.transaction_id)
    .where(attempt.c.transaction_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(attempt.c.transaction_id, attempt.c.number)
)
_ASKED = _ATTEMPTS.add_columns(transaction.c.transfer_id).where(
    attempt.c.asked_by.is_not(None), transaction.c.transfer_id.is_not(None)
)
_FIND_ATTEMPTS = (
    sa.select(
        attempt,
        transaction.c.wallet_id,
        transaction.c.nonce,
        transaction.c.transfer_id,
        transaction.c.fee_cap,
        transaction.c.state.label("slot_state"),
    )
    .join(transaction, transaction.c.id == attempt.c.transaction_id)
    .where(attempt.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_DROP_UNSIGNED = sa.delete(attempt).where(
    attempt.c.transaction_id.in_(sa.bindparam("ids", expanding=True)), attempt.c.raw.is_(None)
)
_ADD_ATTEMPTS = Prepared(sa.insert(attempt))
_TOUCH_ATTEMPT = sa.update(attempt).where(attempt.c.id == sa.bindparam("of_id"))
_SIGN_ATTEMPT = _TOUCH_ATTEMPT.where(attempt.c.raw.is_(None))
_TOUCH_ATTEMPTS, _SIGN_ATTEMPTS = Prepared(_TOUCH_ATTEMPT), Prepared(_SIGN_ATTEMPT)
# State by state: asked for all at once, SQLite goes over every transaction there ever was as soon as ANALYZE has told
# it that nearly all of them are in one state.
_IN_FLIGHT = sa.union(*(sa.select(transaction.c.wallet_id).where(transaction.c.state == each) for each in UNSETTLED))
_TOUCH = sa.update(transaction).where(transaction.c.id == sa.bindparam("of_id"))
_CHANGES = Prepared(_TOUCH.where(transaction.c.state == sa.bindparam("read_state")))


def find(unit: Unit, wallet_id: str) -> sa.Row[Any] | None:
    """Return the lane of a wallet, or None before its first use."""
    return unit.execute(_FIND, {"wallet_id": wallet_id}).one_or_none()


def lease(unit: Unit, wallet_id: str, *, holder: str, first_nonce: int, now: int, until: int) -> int | None:
    """Take or renew the lane for ``holder``; return the fencing token, or None while somebody else holds it.

    Args:
        unit: the write unit.
        wallet_id: whose lane.
        holder: names the worker.
        first_nonce: the chain's next nonce, used when the lane is new.
        now: the current instant.
        until: when the lease runs out.
    """
    row = find(unit, wallet_id)
    if row is None:
        unit.execute(
            sa.insert(lane).values(
                wallet_id=wallet_id,
                next_nonce=first_nonce,
                settled_nonce=first_nonce,
                fence=1,
                holder=holder,
                leased_until=until,
            )
        )
        return 1
    if row.holder != holder and row.leased_until is not None and row.leased_until > now:
        return None
    fence: int = row.fence if row.holder == holder else row.fence + 1
    unit.execute(
        sa.update(lane)
        .where(lane.c.wallet_id == wallet_id, lane.c.fence == row.fence)
        .values(holder=holder, fence=fence, leased_until=until)
    )
    return fence


def renew(unit: Unit, wallet_ids: Sequence[str], *, holder: str, until: int) -> None:
    """Prolong the leases of the lanes that ``holder`` still has."""
    unit.execute(
        sa.update(lane).where(lane.c.wallet_id.in_(wallet_ids), lane.c.holder == holder).values(leased_until=until)
    )


def raise_fence(unit: Unit, wallet_id: str, *, fence: int) -> int:
    """Give the lane's holder a higher fence, so that what it asked under the old one is refused; return it.

    Raises:
        Unavailable: the lane was leased to another worker.
    """
    moved = unit.execute(_AT_FENCE, {"of_wallet": wallet_id, "at_fence": fence, "fence": fence + 1})
    if moved.rowcount != 1:
        raise Unavailable(f"the lane of {wallet_id} was leased to another worker")
    return fence + 1


def release_all(unit: Unit, *, prefix: str = "") -> None:
    """End the leases of every holder whose name begins with ``prefix``; only for who knows that all of them are dead.

    Fences move on with the next lease.
    """
    unit.execute(sa.update(lane).where(lane.c.holder.startswith(prefix, autoescape=True)).values(leased_until=None))


def hold(unit: Unit, wallet_id: str, *, fence: int) -> None:
    """Refuse to go on with a lane that was leased to somebody else meanwhile.

    Raises:
        Unavailable: the fence is stale; nothing of this unit is kept, and its new holder goes on.
    """
    held = unit.execute(_AT_FENCE, {"of_wallet": wallet_id, "at_fence": fence, "fence": fence})
    if held.rowcount != 1:
        raise Unavailable(f"the lane of {wallet_id} was leased to another worker")


def bind(unit: Unit, *, wallet_id: str, fence: int, slots: Sequence[Mapping[str, Any]]) -> int:
    """Give the lane's next nonces to slots, in their order, once and for all; return the first of them.

    Args:
        unit: the write unit.
        wallet_id: whose lane.
        fence: of the caller's lease.
        slots: columns of each slot: id, transfer_id, fee_cap, created_at.

    Raises:
        InvariantBroken: the lane moved or the fence is stale.
    """
    row = find(unit, wallet_id)
    if row is None:
        raise InvariantBroken(f"no lane for {wallet_id}")
    first: int = row.next_nonce
    guard = {"of_wallet": wallet_id, "at_fence": fence, "read_nonce": first}
    moved = unit.execute(_TAKE_NONCE, {**guard, "next_nonce": first + len(slots)})
    if moved.rowcount != 1:
        raise InvariantBroken(f"the lane of {wallet_id} was leased to another worker")
    rows = [
        {**slot, "wallet_id": wallet_id, "nonce": nonce, "state": "bound"} for nonce, slot in enumerate(slots, first)
    ]
    _ADD_TRANSACTIONS.run(unit, rows)
    return first


def fill(unit: Unit, *, wallet_id: str, fence: int, nonce: int, **values: Any) -> None:
    """Add a slot at a nonce below the lane's next that no slot has; it belongs to no transfer.

    Raises:
        Unavailable: the fence is stale. InvariantBroken: the nonce is not one the lane has passed.
    """
    hold(unit, wallet_id, fence=fence)
    row = find(unit, wallet_id)
    if row is None or not row.settled_nonce <= nonce < row.next_nonce:
        raise InvariantBroken(f"nonce {nonce} of {wallet_id} is no gap")
    _ADD_TRANSACTIONS.run(unit, [{**values, "wallet_id": wallet_id, "nonce": nonce, "state": "bound"}])


def unbind(unit: Unit, *, wallet_id: str, fence: int, nonce: int) -> None:
    """Take back every slot from ``nonce`` on: none of them was ever signed.

    Raises:
        InvariantBroken: one of them was, or the fence is stale.
    """
    row = find(unit, wallet_id)
    if row is None:
        raise InvariantBroken(f"no lane for {wallet_id}")
    mine = sa.and_(transaction.c.wallet_id == wallet_id, transaction.c.nonce >= nonce)
    slots = unit.execute(sa.select(transaction.c.id, transaction.c.state).where(mine)).all()
    unsigned = sa.and_(attempt.c.transaction_id.in_([slot.id for slot in slots]), attempt.c.raw.is_(None))
    attempts_gone = unit.execute(sa.delete(attempt).where(unsigned)).rowcount
    if any(slot.state != "bound" for slot in slots) or attempts_gone != len(slots):
        raise InvariantBroken(f"a slot of {wallet_id} from nonce {nonce} on was signed: it is not taken back")
    unit.execute(sa.delete(transaction).where(mine))
    guard = {"of_wallet": wallet_id, "at_fence": fence, "read_nonce": row.next_nonce}
    if unit.execute(_TAKE_NONCE, {**guard, "next_nonce": nonce}).rowcount != 1:
        raise InvariantBroken(f"the lane of {wallet_id} was leased to another worker")


def adopt(unit: Unit, *, wallet_id: str, fence: int, nonce: int) -> None:
    """Begin again at ``nonce``: the chain has counted further, and nothing of ours is under way.

    Raises:
        InvariantBroken: something is under way, the lane is further already, or the fence is stale.
    """
    row = find(unit, wallet_id)
    if row is None or row.next_nonce != row.settled_nonce or row.next_nonce > nonce:
        raise InvariantBroken(f"the lane of {wallet_id} cannot begin again at nonce {nonce}")
    guard = {"of_wallet": wallet_id, "at_fence": fence, "read_nonce": row.next_nonce}
    if unit.execute(_TAKE_NONCE, {**guard, "next_nonce": nonce, "settled_nonce": nonce}).rowcount != 1:
        raise InvariantBroken(f"the lane of {wallet_id} was leased to another worker")


def settle(unit: Unit, *, wallet_id: str, nonce: int, count: int = 1, block: int, fence: int) -> None:
    """Note that every nonce below ``nonce + count`` is final and posted.

    Raises:
        InvariantBroken: ``nonce`` is not the next one, or the fence is stale.
    """
    guard = {"of_wallet": wallet_id, "at_fence": fence, "read_nonce": nonce}
    moved = unit.execute(_SETTLE_NONCE, {**guard, "settled_nonce": nonce + count, "settled_block": block})
    if moved.rowcount != 1:
        raise InvariantBroken(f"nonce {nonce} of {wallet_id} is not the next to settle")


def find_transaction(unit: Unit, transaction_id: str) -> sa.Row[Any] | None:
    """Return the transaction, or None."""
    return unit.execute(_FIND_TRANSACTION, {"id": transaction_id}).one_or_none()


def find_sent(unit: Unit, hash: str) -> sa.Row[Any] | None:
    """Return the slot that a transaction was signed for, or None; ``hash`` in lower case."""
    return unit.execute(_OF_HASH, {"hash": hash}).first()


def find_transactions(unit: Unit, transaction_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Return the transactions that there are, by id."""
    return {row.id: row for row in unit.execute(_FIND_TRANSACTIONS, {"ids": list(transaction_ids)})}


def transactions(unit: Unit, wallet_id: str, *states: str, limit: int | None = None) -> Sequence[sa.Row[Any]]:
    """Return a wallet's transactions in the given states, lowest nonce first: all of them, or ``limit``."""
    if limit is None:
        return unit.execute(_TRANSACTIONS, {"wallet_id": wallet_id, "states": states}).all()
    return unit.execute(_SOME_TRANSACTIONS, {"wallet_id": wallet_id, "states": states, "most": limit}).all()


def transactions_from(unit: Unit, wallet_id: str, nonce: int) -> Sequence[sa.Row[Any]]:
    """Return a wallet's transactions from ``nonce`` on, lowest first."""
    return unit.execute(_FROM, {"wallet_id": wallet_id, "nonce": nonce}).all()


def lowest_nonce(unit: Unit, wallet_id: str, *states: str) -> int | None:
    """Return the lowest nonce of a wallet's transactions in the given states."""
    found: int | None = unit.execute(_LOWEST, {"wallet_id": wallet_id, "states": states}).scalar_one()
    return found


def unsent(unit: Unit, wallet_id: str, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return transactions with an attempt that was signed and never sent, lowest nonce first."""
    slots = unit.execute(_SLOTS_TO_SEND, {"wallet_id": wallet_id, "most": limit}).scalars().all()
    rows = unit.execute(_UNSENT, {"ids": slots, "wallet_id": wallet_id}).all() if slots else []
    return sorted(rows, key=lambda row: int(row.nonce))[:limit]


def late(unit: Unit, wallet_id: str, *, seen_before: int, sent_before: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Return sent transactions whose newest attempt may have to be sent again, lowest nonce first.

    Args:
        unit: the database unit.
        wallet_id: whose.
        seen_before: it was sent before this instant, whatever was answered,
        sent_before: or before this one, and no node took it.
        limit: how many at most.
    """
    times = {"seen_before": seen_before, "sent_before": sent_before}
    return unit.execute(_LATE, {"wallet_id": wallet_id, **times, "most": limit}).all()


def standing(unit: Unit, wallet_id: str, *, sent_before: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Return sent transactions that are to be voided, then those whose newest attempt was first sent long ago."""
    return unit.execute(_STANDING, {"wallet_id": wallet_id, "sent_before": sent_before, "most": limit}).all()


def count_transactions(unit: Unit, wallet_id: str, *states: str) -> int:
    """Return how many of a wallet's transactions are in the given states."""
    found: int = unit.execute(_COUNT, {"wallet_id": wallet_id, "states": states}).scalar_one()
    return found


def wallets_in_flight(unit: Unit) -> list[str]:
    """Return the ids of wallets with a transaction that is not final."""
    return [row.wallet_id for row in unit.execute(_IN_FLIGHT)]


def change(unit: Unit, row: sa.Row[Any], state: str, **values: Any) -> None:
    """Move a transaction from the state it was read in to ``state``.

    Raises:
        InvariantBroken: it changed underneath.
    """
    if _CHANGES.run(unit, [{"of_id": row.id, "read_state": row.state, **values, "state": state}]) != 1:
        raise InvariantBroken(f"transaction {row.id} changed underneath")


def change_many(unit: Unit, changes: Sequence[Mapping[str, Any]], *, before: str, after: str) -> None:
    """Move transactions from one state to another.

    Args:
        unit: the write unit.
        changes: ``id`` of each, and the columns that are set beside the state, the same ones of all.
        before: the state they were read in.
        after: the new one.

    Raises:
        InvariantBroken: one changed underneath.
    """
    rows = [
        {"of_id": each["id"], "read_state": before, "state": after, **{k: v for k, v in each.items() if k != "id"}}
        for each in changes
    ]
    if _CHANGES.run(unit, rows) != len(rows):
        raise InvariantBroken(f"a transaction changed underneath: one of {', '.join(row['of_id'] for row in rows)}")


def touch(unit: Unit, transaction_id: str, **values: Any) -> None:
    """Change columns of a transaction that are not its state."""
    unit.execute(_TOUCH, {"of_id": transaction_id, **values})


# Attempts


def new_attempt(
    *,
    id: str,
    transaction_id: str,
    number: int,
    purpose: str,
    offer: Offer,
    legacy: bool,
    now: int,
    asked_by: str | None = None,
) -> dict[str, Any]:
    """Return the row of what is to be signed for a slot; ``number`` is one more than that of the attempt before it."""
    return {
        "id": id,
        "transaction_id": transaction_id,
        "number": number,
        "purpose": purpose,
        "gas_limit": offer.gas_limit,
        "max_fee_per_gas": offer.max_fee_per_gas,
        "max_priority_fee_per_gas": offer.max_priority_fee_per_gas,
        "legacy": legacy,
        "asked_by": asked_by,
        "created_at": now,
    }


def add_attempts(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows that ``new_attempt`` made."""
    _ADD_ATTEMPTS.run(unit, rows)


def add_attempt(unit: Unit, **values: Any) -> None:
    """Add what is to be signed for a slot; ``values`` as ``new_attempt`` takes them."""
    add_attempts(unit, [new_attempt(**values)])


def attempts(unit: Unit, transaction_id: str) -> list[sa.Row[Any]]:
    """Return the attempts of a slot in their order, each with ``nonce``, ``slot_state`` and ``mined_hash`` of it."""
    return list(unit.execute(_ATTEMPTS, {"ids": [transaction_id]}))


def attempts_of(unit: Unit, transaction_ids: Sequence[str]) -> dict[str, list[sa.Row[Any]]]:
    """Return the attempts of each slot in their order."""
    found: dict[str, list[sa.Row[Any]]] = {each: [] for each in transaction_ids}
    for row in unit.execute(_ATTEMPTS, {"ids": list(transaction_ids)}):
        found[row.transaction_id].append(row)
    return found


def find_attempts(unit: Unit, attempt_ids: Sequence[str]) -> dict[str, sa.Row[Any]]:
    """Return the attempts that there are, by id.

    Each has ``wallet_id``, ``nonce``, ``transfer_id``, ``fee_cap`` and ``slot_state`` of its slot.
    """
    return {row.id: row for row in unit.execute(_FIND_ATTEMPTS, {"ids": list(attempt_ids)})}


def asked(unit: Unit, transaction_ids: Sequence[str]) -> Sequence[Any]:
    """Return the attempts that people asked for in slots of transfers, in order.

    Each has ``transfer_id``, ``nonce``, ``slot_state`` and ``mined_hash`` of its slot.
    """
    return unit.execute(_ASKED, {"ids": list(transaction_ids)}).all()


def unsigned(unit: Unit, wallet_id: str, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return what is to be signed for a wallet, lowest nonce first.

    Each row is an attempt, with ``nonce``, ``transfer_id`` and ``fee_cap`` of its slot.
    """
    slots = unit.execute(_SLOTS_TO_SIGN, {"wallet_id": wallet_id, "most": limit}).scalars().all()
    return unit.execute(_UNSIGNED, {"ids": slots, "wallet_id": wallet_id, "most": limit}).all() if slots else []


def keep_signed(unit: Unit, signed: Sequence[tuple[str, bytes, str]], *, now: int) -> None:
    """Store the signed bytes of attempts that have none: id, bytes and hash of each.

    Raises:
        InvariantBroken: one has bytes already.
    """
    rows = [{"of_id": id, "raw": raw.hex(), "hash": hash, "signed_at": now} for id, raw, hash in signed]
    if _SIGN_ATTEMPTS.run(unit, rows) != len(rows):
        raise InvariantBroken("signed bytes are stored once and never replaced")


def send_no_more(unit: Unit, transaction_ids: Sequence[str], *, now: int) -> None:
    """Note of slots that are final that nothing of them is left to be sent."""
    if transaction_ids:
        unit.execute(_SEND_NO_MORE, {"ids": list(transaction_ids), "sent_at": now})


def touch_attempts(unit: Unit, changes: Sequence[Mapping[str, Any]]) -> None:
    """Change columns of attempts that are not their bytes: ``of_id`` of each and the columns, the same ones of all."""
    _TOUCH_ATTEMPTS.run(unit, changes)


def touch_attempt(unit: Unit, attempt_id: str, **values: Any) -> None:
    """Change columns of one attempt that are not its bytes."""
    touch_attempts(unit, [{"of_id": attempt_id, **values}])


def drop_unsigned(unit: Unit, transaction_ids: Sequence[str]) -> None:
    """Forget what is still to be signed for slots."""
    unit.execute(_DROP_UNSIGNED, {"ids": list(transaction_ids)})


def drop_attempt(unit: Unit, attempt_id: str) -> None:
    """Forget an attempt that the signer refused; one that was signed stays."""
    unit.execute(sa.delete(attempt).where(attempt.c.id == attempt_id, attempt.c.raw.is_(None)))


def mined_bytes(unit: Unit, wallet_id: str, *, first: int) -> list[bytes]:
    """Return the signed bytes of a wallet's final slots from nonce ``first`` on, lowest nonce first."""
    query = (
        sa.select(attempt.c.raw)
        .join(transaction, transaction.c.id == attempt.c.transaction_id)
        .where(
            transaction.c.wallet_id == wallet_id,
            transaction.c.nonce >= first,
            transaction.c.state == "final",
            attempt.c.hash == transaction.c.mined_hash,
        )
        .order_by(transaction.c.nonce)
    )
    return [bytes.fromhex(row.raw) for row in unit.execute(query)]
