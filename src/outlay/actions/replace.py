"""Replacing what was sent for a transfer and is in no block yet: by nothing at all, or by more haste.

Either is one more attempt for the same nonce, so that at most one of them is ever mined. Which one, the chain
decides: a canceled transfer may turn out to be paid.
"""

from collections.abc import Sequence
from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.replacements import tell_replacements
from outlay.actions.sending import PAYOUT, add_attempt, begin_void, is_legacy
from outlay.core.errors import Conflict, NotFound, PreconditionFailed
from outlay.core.fees import Fees, Offer, ceiling_per_gas, next_offer, void_offer
from outlay.core.transfer import ENDS, State
from outlay.store import lanes, stops, transfers, wallets
from outlay.store.database import Row


def cancel(act: Act, wallet_id: str, transfer_id: str, fees: Fees | None, data_fee: int) -> dict[str, Any]:
    """Ask for a void in the place of a transfer that was sent; return it as a transaction. Repeating gives the same.

    Args:
        act: the signed call.
        wallet_id: who pays.
        transfer_id: what is not to be paid.
        fees: of the network, now; None: it is not configured any more.
        data_fee: wei that a transaction costs there beside its gas.

    Raises:
        NotFound: no such transfer of this wallet. Conflict: another attempt is just being signed.
        PreconditionFailed: it was not sent, is in a block already, nothing may be signed, or the fee cap is reached.
    """
    paid, known = _find(act, wallet_id, transfer_id)
    void = present.void_of(known)
    if void is not None:
        act.result_id = void.id
        return present.transaction(act.unit, paid, known, void)
    slot, fees = _check(act, paid, fees)
    cap = max(0, slot.fee_cap - data_fee)
    offer = void_offer(_offers(known), base_fee=fees.base_fee, tip=fees.tip_fast, fee_cap=cap)
    if offer is None:
        raise _too_dear("cancel it")
    added = begin_void(
        act.work,
        slot,
        offer=offer,
        legacy=is_legacy(act.config, paid.network),
        reason=f"Canceled by {act.caller.username}",
        asked_by=act.caller.user_id,
    )
    return _answer(act, paid, added)


def speed_up(act: Act, wallet_id: str, transfer_id: str, fees: Fees | None, data_fee: int) -> dict[str, Any]:
    """Ask for a transfer that was sent to be offered with higher fees; return the new attempt as a transaction.

    Args:
        act: the signed call.
        wallet_id: who pays.
        transfer_id: what is to be paid sooner.
        fees: of the network, now; None: it is not configured any more.
        data_fee: wei that a transaction costs there beside its gas.

    Raises:
        NotFound, Conflict, PreconditionFailed: as ``cancel``; or it is to be canceled.
    """
    paid, known = _find(act, wallet_id, transfer_id)
    slot, fees = _check(act, paid, fees)
    if slot.void_reason is not None:
        raise PreconditionFailed("this transfer is being canceled: it is not paid any sooner")
    frozen = wallets.find_frozen_asset(act.unit, network=paid.network, asset=paid.asset)
    if frozen is not None:
        raise PreconditionFailed(f"the asset is frozen: {frozen.reason}")
    gas_limit = known[-1].gas_limit
    ceiling = ceiling_per_gas(fee_cap=max(0, slot.fee_cap - data_fee), gas_limit=gas_limit)
    offer = next_offer(_offers(known), base_fee=fees.base_fee, tip=fees.tip_fast, gas_limit=gas_limit, ceiling=ceiling)
    if offer is None:
        raise _too_dear("speed it up")
    legacy = is_legacy(act.config, paid.network)
    added = add_attempt(act.work, slot, purpose=PAYOUT, offer=offer, legacy=legacy, asked_by=act.caller.user_id)
    return _answer(act, paid, added)


def _find(act: Act, wallet_id: str, transfer_id: str) -> tuple[Row, list[Row]]:
    """Return a transfer and the attempts of its slot."""
    paid = transfers.find(act.unit, transfer_id)
    if paid is None or paid.wallet_id != wallet_id:
        raise NotFound("no such transfer")
    return paid, [] if paid.transaction_id is None else lanes.attempts(act.unit, paid.transaction_id)


def _check(act: Act, paid: Row, fees: Fees | None) -> tuple[Row, Fees]:
    """Check that one more attempt may be made; return the slot it is for, and the fees of now."""
    state = State(paid.state)
    if state in (State.REQUESTED, State.HELD, State.READY):
        raise PreconditionFailed(f"this transfer is {state}: nothing was sent for it; abort takes it back")
    if state in ENDS:
        raise PreconditionFailed(f"this transfer has ended: it is {state}")
    slot = lanes.find_transaction(act.unit, paid.transaction_id)
    if state is State.MINED or (slot is not None and slot.state == "mined"):
        raise PreconditionFailed("this transfer is already in a block: nothing takes its place any more")
    if state is not State.BROADCAST or slot is None:
        raise PreconditionFailed(f"this transfer is {state}: it is about to be sent; repeat the call in a moment")
    if fees is None:
        raise PreconditionFailed(f"the network {paid.network} is not configured any more")
    stopped = _why_stopped(act, paid)
    if stopped is not None:
        raise PreconditionFailed(f"nothing new is signed at present: {stopped}")
    return slot, fees


def _why_stopped(act: Act, paid: Row) -> str | None:
    wallet = wallets.find(act.unit, paid.wallet_id)
    if wallet is not None and wallet.frozen_reason is not None:
        return f"the wallet is frozen: {wallet.frozen_reason}"
    return stops.why_stopped(act.unit, network=paid.network, wallet_id=paid.wallet_id, identity_id=act.caller.user_id)


def _offers(known: Sequence[Row]) -> list[Offer]:
    """Return what was offered so far.

    Raises:
        Conflict: one of them is not signed yet.
    """
    if any(each.raw is None for each in known):
        raise Conflict("another transaction in its place is just being signed: repeat the call in a moment")
    return [
        Offer(
            gas_limit=each.gas_limit,
            max_fee_per_gas=each.max_fee_per_gas,
            max_priority_fee_per_gas=each.max_priority_fee_per_gas,
        )
        for each in known
    ]


def _too_dear(what: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"to {what}, fees have to rise by 12.5 % over what was offered already, and its fee cap does not allow that"
    )


def _answer(act: Act, paid: Row, attempt_id: str | None) -> dict[str, Any]:
    """Keep what was signed by who asked, and return the new attempt as a transaction."""
    assert attempt_id is not None, "nothing else of the slot is to be signed: it was just looked at"
    act.keep_evidence(attempt_id)
    act.result_id = attempt_id
    tell_replacements(act.work, [paid.transaction_id], "wallet.transaction.requested", only=[attempt_id])
    known = lanes.attempts(act.unit, paid.transaction_id)
    return present.transaction(act.unit, paid, known, known[-1])
