"""The units of finality: note what is in a block, take it back after a reorganisation, end what is final."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from outlay.actions.alarms import about_payout, freeze_wallet
from outlay.actions.change import change, change_many
from outlay.actions.replacements import tell_replacements
from outlay.actions.sending import PAYOUT
from outlay.actions.work import Work
from outlay.core.asset import NATIVE
from outlay.core.effect import Effect
from outlay.core.errors import InvariantBroken
from outlay.core.ledger import overrun, release, settle, settle_mismatch
from outlay.core.transfer import MISMATCH, Event, State
from outlay.store import lanes, ledger, organizations, transfers, velocity, wallets, webhooks
from outlay.store.database import Row
from outlay.store.transfers import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """One attempt of a slot, seen in a block."""

    attempt_id: str
    block_number: int
    block_hash: str


def note_mined(work: Work, seen: Sequence[Mined]) -> None:
    """Receipts were seen in blocks that may still be reorganised away."""
    known = lanes.find_attempts(work.unit, [each.attempt_id for each in seen])
    sent = [(known[each.attempt_id], each) for each in seen if each.attempt_id in known]
    sent = [(attempt, each) for attempt, each in sent if attempt.slot_state == "sent"]
    moved = [
        {
            "id": attempt.transaction_id,
            "mined_hash": attempt.hash,
            "block_number": each.block_number,
            "block_hash": each.block_hash,
        }
        for attempt, each in sent
    ]
    lanes.change_many(work.unit, moved, before="sent", after="mined")
    paying = {a.transfer_id: (a, each) for a, each in sent if a.purpose == PAYOUT and a.transfer_id is not None}
    changes = [
        Change(
            row=row,
            event=Event.MINED,
            detail={"block": paying[row.id][1].block_hash},
            values={"tx_hash": paying[row.id][0].hash},
        )
        for row in transfers.get_many(work.unit, list(paying))
    ]
    change_many(work, changes)


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
        change(work, paid, Event.REORGED, detail={"blockNumber": slot.block_number, "blockHash": slot.block_hash})


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A slot whose payout is final."""

    slot_id: str  #: in state mined, by an attempt that pays
    effect: Effect  #: what it did
    fee: int  #: native base units the chain took


def settle_payouts(work: Work, fence: int, finals: Sequence[Final]) -> int:
    """Payouts are final: post what left, end the transfers, free the lane's slots; return how many.

    It ends before the first slot that is not in a block any more, as somebody else noted meanwhile.

    Args:
        work: the unit.
        fence: of the lane.
        finals: slots of one wallet that follow each other, lowest nonce first.

    Raises:
        InvariantBroken: the first is not the lane's next to settle, or they do not follow each other.
    """
    found = lanes.find_transactions(work.unit, [each.slot_id for each in finals])
    known = (found.get(each.slot_id) for each in finals)
    slots = [slot for slot in takewhile(_is_payout, known) if slot is not None]
    finals = finals[: len(slots)]
    if not finals:
        return 0
    paid = transfers.get_many(work.unit, [slot.transfer_id for slot in slots])
    _close(work, fence, slots, block=slots[-1].block_number)
    # In the order of locks: counters, ledger accounts, transfers.
    for row, each in zip(paid, finals, strict=True):
        if each.effect.kind == "nothing":
            velocity.correct(work.unit, row.id)
    book = ledger.Book(work.unit, now=work.now, entropy=work.entropy)
    for slot, row, each in zip(slots, paid, finals, strict=True):
        _post(book, slot, row, each)
    book.write()
    ended = [
        _ending(slot, row, each, work.now)
        for slot, row, each in zip(slots, paid, finals, strict=True)
        if each.effect.kind != "mismatch"
    ]
    change_many(work, ended)
    for row, each in zip(paid, finals, strict=True):
        if each.effect.kind == "mismatch":
            _flag_mismatch(work, row, each.effect, each.fee)
    tell_replacements(work, [slot.id for slot in slots], None)
    return len(finals)


def _is_payout(slot: Row | None) -> bool:
    return slot is not None and slot.state == "mined" and slot.transfer_id is not None


def _post(book: ledger.Book, slot: Row, paid: Row, final: Final) -> None:
    """Post what left a wallet by a payout, and give back the rest of what was set aside for it."""
    within = min(final.fee, slot.fee_cap)
    place = {
        "wallet": slot.wallet_id,
        "network": paid.network,
        "asset": paid.asset,
        "fee": within,
        "fee_cap": slot.fee_cap,
    }
    if final.effect.kind == "mismatch":
        # More than was set aside cannot be posted; the balance step will find the rest missing and stop the wallet.
        lines = settle_mismatch(**place, paid=min(final.effect.outflow, paid.amount))
    else:
        lines = settle(**place, reserved=paid.amount, paid=final.effect.outflow)
    book.post(lines, transfer_id=paid.id)
    if final.fee > within:
        _post_overrun(book, slot.wallet_id, paid.network, paid.id, final.fee - within)


def _ending(slot: Row, paid: Row, final: Final, now: int) -> Change:
    proof = {
        "block": slot.block_hash,
        "height": slot.block_number,
        "transaction": slot.mined_hash,
        "effect": final.effect.kind,
        "outflow": str(final.effect.outflow),
    }
    if final.effect.kind == "exact":
        return Change(row=paid, event=Event.PAID, detail=proof, values={"fee": final.fee, "confirmed_at": now})
    reason = "The transaction was executed and reverted, finally: nothing was paid."
    return Change(row=paid, event=Event.REVERTED, detail=proof, values={"fee": final.fee, "reason": reason})


def settle_void(work: Work, fence: int, slot_id: str, *, fee: int) -> None:
    """A void is final: nothing else of its slot can ever be mined, so its transfer ends as canceled."""
    slot = lanes.find_transaction(work.unit, slot_id)
    if slot is None or slot.state != "mined":
        return
    wallet = wallets.find(work.unit, slot.wallet_id)
    assert wallet is not None
    paid = None if slot.transfer_id is None else transfers.get(work.unit, slot.transfer_id)
    _close(work, fence, [slot], block=slot.block_number)
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
    book = ledger.Book(work.unit, now=work.now, entropy=work.entropy)
    book.post(lines, transfer_id=slot.transfer_id)
    if fee > within:
        _post_overrun(book, wallet.id, wallet.network, slot.transfer_id, fee - within)
    book.write()
    if paid is not None:
        proof = {"block": slot.block_hash, "height": slot.block_number, "transaction": slot.mined_hash}
        reason = (
            f"{slot.void_reason or 'It was voided'}: an empty transaction took its place, finally; nothing was paid."
        )
        change(work, paid, Event.VOIDED, detail=proof, fee=fee, reason=reason)
        tell_replacements(work, [slot.id], None)


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
    _close(work, fence, [slot], block=block)
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
        tell_replacements(work, [slot.id], None)
    reason = f"somebody else used this wallet's key: transaction {tx_hash} is not ours"
    freeze_wallet(work.unit, wallet.id, reason, now=work.now, entropy=work.entropy)


def _close(work: Work, fence: int, slots: Sequence[Row], *, block: int) -> None:
    """Free slots that follow each other, lowest nonce first; ``block`` is that of the last."""
    first = slots[0]
    if [slot.nonce for slot in slots] != list(range(first.nonce, first.nonce + len(slots))):
        raise InvariantBroken(f"slots of {first.wallet_id} are settled out of order")
    lanes.settle(work.unit, wallet_id=first.wallet_id, nonce=first.nonce, count=len(slots), block=block, fence=fence)
    for state in sorted({slot.state for slot in slots}):
        final = [{"id": slot.id} for slot in slots if slot.state == state]
        lanes.change_many(work.unit, final, before=state, after="final")
    # What was about to be signed for them is of no use any more.
    lanes.drop_unsigned(work.unit, [slot.id for slot in slots])
    lanes.send_no_more(work.unit, [slot.id for slot in slots], now=work.now)


def _post_overrun(book: ledger.Book, wallet_id: str, network: str, transfer_id: str | None, excess: int) -> None:
    """A rollup's data fee came on top of the cap: it has left, so it is posted from what is spendable.

    What does not fit stays unposted; the balance step then finds the chain below the ledger and stops the wallet.
    """
    held = book.holdings(wallet_id=wallet_id, asset=NATIVE)
    book.post(overrun(wallet=wallet_id, network=network, fee=min(excess, held.spendable)), transfer_id=transfer_id)


def _flag_mismatch(work: Work, paid: Row, effect: Effect, fee: int) -> None:
    """Neither paid nor not paid: stop the asset and the wallet until a person has looked."""
    reason = f"transfer {paid.id} had another effect than asked. {effect.why}"
    transfers.annotate(work.unit, paid.id, flag=MISMATCH, reason=effect.why, fee=fee)
    found = transfers.get(work.unit, paid.id)
    raised = about_payout(work, "payout.effect_mismatch", found, why=effect.why, outflow=str(effect.outflow))
    webhooks.emit_many(work.unit, [raised], now=work.now, entropy=work.entropy)
    freeze_wallet(work.unit, paid.wallet_id, reason, now=work.now, entropy=work.entropy)
    if paid.asset != NATIVE:
        wallets.freeze_asset(work.unit, network=paid.network, asset=paid.asset, reason=reason, now=work.now)
    organizations.bump_epoch(work.unit)
