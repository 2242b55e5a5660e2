"""The units of finality: note what is in a block, take it back after a reorganisation, end what is final."""

from dataclasses import dataclass

from outlay.actions.change import change
from outlay.actions.sending import PAYOUT
from outlay.actions.work import Work
from outlay.core.asset import NATIVE
from outlay.core.effect import Effect
from outlay.core.ledger import overrun, release, settle, settle_mismatch
from outlay.core.transfer import Event, State
from outlay.store import lanes, ledger, organizations, transfers, velocity, wallets
from outlay.store.database import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """One attempt of a slot, seen in a block."""

    attempt_id: str
    block_number: int
    block_hash: str


def note_mined(work: Work, slot_id: str, seen: Mined) -> None:
    """A receipt was seen in a block that may still be reorganised away."""
    slot, attempt = lanes.find_transaction(work.unit, slot_id), lanes.find_attempt(work.unit, seen.attempt_id)
    if slot is None or attempt is None or slot.state != "sent":
        return
    values = {"mined_hash": attempt.hash, "block_number": seen.block_number, "block_hash": seen.block_hash}
    lanes.change(work.unit, slot, "mined", **values)
    if attempt.purpose == PAYOUT and slot.transfer_id is not None:
        paid = transfers.get(work.unit, slot.transfer_id)
        change(work, paid, Event.MINED, detail={"block": seen.block_hash}, tx_hash=attempt.hash)


def note_reorged(work: Work, slot_id: str) -> None:
    """The block is gone: the same bytes will be sent again."""
    slot = lanes.find_transaction(work.unit, slot_id)
    if slot is None or slot.state != "mined":
        return
    lanes.change(work.unit, slot, "sent", mined_hash=None, block_number=None, block_hash=None)
    for attempt in lanes.attempts(work.unit, slot_id):
        lanes.touch_attempt(work.unit, attempt.id, sent_at=None)
    paid = None if slot.transfer_id is None else transfers.get(work.unit, slot.transfer_id)
    if paid is not None and State(paid.state) is State.MINED:
        change(work, paid, Event.REORGED)


def settle_payout(work: Work, fence: int, slot_id: str, effect: Effect, *, fee: int) -> None:
    """A payout is final: post what left, end the transfer, free the lane's slot.

    Args:
        work: the unit.
        fence: of the lane.
        slot_id: in state mined, by an attempt that pays.
        effect: what it did.
        fee: native base units the chain took.
    """
    slot = lanes.find_transaction(work.unit, slot_id)
    if slot is None or slot.state != "mined" or slot.transfer_id is None:
        return
    paid = transfers.get(work.unit, slot.transfer_id)
    _close(work, fence, slot, block=slot.block_number)
    within = min(fee, slot.fee_cap)
    place = {
        "wallet": slot.wallet_id,
        "network": paid.network,
        "asset": paid.asset,
        "fee": within,
        "fee_cap": slot.fee_cap,
    }
    proof = {
        "block": slot.block_hash,
        "height": slot.block_number,
        "transaction": slot.mined_hash,
        "effect": effect.kind,
        "outflow": str(effect.outflow),
    }
    # In the order of locks: counters, ledger accounts, transfers.
    if effect.kind == "nothing":
        velocity.correct(work.unit, paid.id)
    if effect.kind == "mismatch":
        # More than was set aside cannot be posted; the balance step will find the rest missing and stop the wallet.
        lines = settle_mismatch(**place, paid=min(effect.outflow, paid.amount))
    else:
        lines = settle(**place, reserved=paid.amount, paid=effect.outflow)
    ledger.post(work.unit, lines, transfer_id=paid.id, now=work.now, entropy=work.entropy)
    if fee > within:
        _post_overrun(work, slot.wallet_id, paid.network, paid.id, fee - within)
    if effect.kind == "exact":
        change(work, paid, Event.PAID, detail=proof, fee=fee, confirmed_at=work.now)
    elif effect.kind == "nothing":
        reason = "The transaction was executed and reverted, finally: nothing was paid."
        change(work, paid, Event.REVERTED, detail=proof, fee=fee, reason=reason)
    else:
        _flag_mismatch(work, paid, effect, fee)


def settle_void(work: Work, fence: int, slot_id: str, *, fee: int) -> None:
    """A void is final: nothing else of its slot can ever be mined, so its transfer ends as canceled."""
    slot = lanes.find_transaction(work.unit, slot_id)
    if slot is None or slot.state != "mined":
        return
    wallet = wallets.find(work.unit, slot.wallet_id)
    assert wallet is not None
    paid = None if slot.transfer_id is None else transfers.get(work.unit, slot.transfer_id)
    _close(work, fence, slot, block=slot.block_number)
    within = min(fee, slot.fee_cap)
    if paid is not None:
        velocity.correct(work.unit, paid.id)
    lines = settle(
        wallet=wallet.id,
        network=wallet.network,
        asset=NATIVE if paid is None else paid.asset,
        reserved=0 if paid is None else paid.amount,
        paid=0,
        fee=within,
        fee_cap=slot.fee_cap,
    )
    ledger.post(work.unit, lines, transfer_id=slot.transfer_id, now=work.now, entropy=work.entropy)
    if fee > within:
        _post_overrun(work, wallet.id, wallet.network, slot.transfer_id, fee - within)
    if paid is not None:
        proof = {"block": slot.block_hash, "height": slot.block_number, "transaction": slot.mined_hash}
        reason = (
            f"{slot.void_reason or 'It was voided'}: an empty transaction took its place, finally; nothing was paid."
        )
        change(work, paid, Event.VOIDED, detail=proof, fee=fee, reason=reason)


def settle_foreign(work: Work, fence: int, slot_id: str, *, tx_hash: str, block: int) -> None:
    """Something that is not ours took the slot, finally, without this transfer's effect: it can never be paid by it.

    What the other transaction did is for the balance step to find; the wallet is stopped until a person has looked.
    """
    slot = lanes.find_transaction(work.unit, slot_id)
    if slot is None or slot.state != "sent":
        return
    wallet = wallets.find(work.unit, slot.wallet_id)
    assert wallet is not None
    paid = None if slot.transfer_id is None else transfers.get(work.unit, slot.transfer_id)
    _close(work, fence, slot, block=block)
    if paid is not None:
        velocity.correct(work.unit, paid.id)
    lines = release(
        wallet=wallet.id,
        network=wallet.network,
        asset=NATIVE if paid is None else paid.asset,
        amount=0 if paid is None else paid.amount,
        fee_cap=slot.fee_cap,
    )
    ledger.post(work.unit, lines, transfer_id=slot.transfer_id, now=work.now, entropy=work.entropy)
    if paid is not None:
        proof = {"height": block, "transaction": tx_hash}
        reason = f"Transaction {tx_hash}, which is not ours, took its place, finally; nothing was paid."
        change(work, paid, Event.SUPERSEDED, detail=proof, reason=reason)
    wallets.freeze(work.unit, wallet.id, f"somebody else used this wallet's key: transaction {tx_hash} is not ours")
    organizations.bump_epoch(work.unit)


def _close(work: Work, fence: int, slot: Row, *, block: int) -> None:
    lanes.settle(work.unit, wallet_id=slot.wallet_id, nonce=slot.nonce, block=block, fence=fence)
    lanes.change(work.unit, slot, "final")
    # What was about to be signed for it is of no use any more.
    for attempt in lanes.attempts(work.unit, slot.id):
        lanes.drop_attempt(work.unit, attempt.id)


def _post_overrun(work: Work, wallet_id: str, network: str, transfer_id: str | None, excess: int) -> None:
    """A rollup's data fee came on top of the cap: it has left, so it is posted from what is spendable.

    What does not fit stays unposted; the balance step then finds the chain below the ledger and stops the wallet.
    """
    held = ledger.holdings(work.unit, wallet_id=wallet_id, asset=NATIVE)
    lines = overrun(wallet=wallet_id, network=network, fee=min(excess, held.spendable))
    ledger.post(work.unit, lines, transfer_id=transfer_id, now=work.now, entropy=work.entropy)


def _flag_mismatch(work: Work, paid: Row, effect: Effect, fee: int) -> None:
    """Neither paid nor not paid: stop the asset and the wallet until a person has looked."""
    reason = f"transfer {paid.id} had another effect than asked. {effect.why}"
    transfers.annotate(work.unit, paid.id, flag="effect_mismatch", reason=effect.why, fee=fee)
    wallets.freeze(work.unit, paid.wallet_id, reason)
    if paid.asset != NATIVE:
        wallets.freeze_asset(work.unit, network=paid.network, asset=paid.asset, reason=reason, now=work.now)
    organizations.bump_epoch(work.unit)
