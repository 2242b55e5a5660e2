"""The units of sending: bind a nonce, release it unsigned, store signed bytes, bump, void, note a send."""

from collections.abc import Mapping
from dataclasses import dataclass

from outlay.actions.change import change
from outlay.actions.judge import BINDING, judge_again, keep, open_approval
from outlay.actions.organization import require_applied
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.errors import InvariantBroken
from outlay.core.fees import Offer
from outlay.core.ledger import release, reserve
from outlay.core.transfer import RESTORED, Event, State
from outlay.store import lanes, ledger, stops, transfers, velocity, wallets
from outlay.store.database import Row

PAYOUT, VOID = lanes.PAYOUT, lanes.VOID
"""What an attempt is for."""

WAITING_MAX = 500
"""Transfers whose reason to wait is written in one unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A ready transfer and what the chain says about sending it now."""

    transfer_id: str
    offer: Offer | None  #: None: it has to wait
    waiting_reason: str | None = None


def bind(work: Work, wallet_id: str, fence: int, candidates: list[Candidate], *, room: int) -> int:
    """Judge each candidate again and give those that may go a nonce and their funds; return how many.

    Args:
        work: the unit.
        wallet_id: who pays.
        fence: of the lane.
        candidates: in the order in which they should go.
        room: how many may be bound at most.

    Raises:
        Unavailable: the lane belongs to another worker now, or the settings are not the signed ones.
    """
    require_applied(work.unit, work.config)
    lanes.hold(work.unit, wallet_id, fence=fence)
    wallet = wallets.find(work.unit, wallet_id)
    if wallet is None:
        return 0
    bound = 0
    for candidate in candidates:
        row = transfers.find(work.unit, candidate.transfer_id)
        if row is None or State(row.state) is not State.READY:
            continue
        waits = _why_it_waits(work, wallet, row, candidate)
        if work.config.find_asset(row.network, row.asset) is None:
            reason = "The asset is no longer configured; nothing was signed."
            change(work, row, Event.NEVER_EXECUTABLE, reason=reason, waiting_reason=None)
        elif waits is not None:
            wait(work, row, waits)
        elif bound < room and candidate.offer is not None and _may_still_go(work, row):
            _bind_one(work, wallet, row, fence, candidate.offer)
            bound += 1
    return bound


def wait(work: Work, row: Row, reason: str) -> None:
    """Say why a ready transfer does not move."""
    if row.waiting_reason != reason:
        transfers.annotate(work.unit, row.id, waiting_reason=reason)


def wait_all(work: Work, wallet_id: str, reason: str) -> None:
    """Say of every ready transfer of a wallet that has no reason to wait yet why it does not move."""
    for row in transfers.in_state(work.unit, State.READY, limit=WAITING_MAX, wallet_id=wallet_id):
        if row.waiting_reason is None:
            wait(work, row, reason)


def _why_it_waits(work: Work, wallet: Row, row: Row, candidate: Candidate) -> str | None:
    stopped = stops.why_stopped(work.unit, network=row.network, wallet_id=wallet.id, identity_id=row.initiator_id)
    if stopped is not None:
        return stopped
    if row.flag == RESTORED:
        return "the database was restored from an older copy: its program has to ask for it once more, by the same id"
    if wallet.frozen_reason is not None:
        return f"the wallet is frozen: {wallet.frozen_reason}"
    if wallet.status != "Active":
        return f"the wallet is {wallet.status}"
    frozen = wallets.find_frozen_asset(work.unit, network=row.network, asset=row.asset)
    if frozen is not None:
        return f"the asset is frozen: {frozen.reason}"
    # What the wallet lacks is told first: a node words it as a revert.
    return _missing_funds(work, row) or candidate.waiting_reason


def _may_still_go(work: Work, row: Row) -> bool:
    """Judge again; what may no longer go is moved where it belongs."""
    network = work.config.network(row.network)
    if network is None or network.chain_id != row.intent["chainId"]:
        reason = "The network now stands for another chain; nothing was signed."
        change(work, row, Event.NEVER_EXECUTABLE, reason=reason, waiting_reason=None)
        return False
    again = judge_again(work, row)
    keep(work, again.judgement, row, moment=BINDING, announce=again.kind != "go")
    reasons = list(again.judgement.verdict.reasons)
    if again.kind == "block":
        change(work, row, Event.BLOCKED, reason=" ".join(reasons), waiting_reason=None)
        return False
    if again.kind == "hold":
        held = change(work, row, Event.HELD, detail={"reasons": reasons}, waiting_reason=None)
        open_approval(work, held, again.groups, again.asking)
        return False
    return True


def _bind_one(work: Work, wallet: Row, row: Row, fence: int, offer: Offer) -> None:
    fee_cap = work.config.fee_cap(row.network, row.asset)
    transaction_id = ids.new_id(ids.TRANSACTION, work.entropy)
    lanes.bind(
        work.unit,
        wallet_id=wallet.id,
        fence=fence,
        id=transaction_id,
        transfer_id=row.id,
        fee_cap=fee_cap,
        created_at=work.now,
    )
    lanes.add_attempt(
        work.unit,
        id=transaction_id,
        transaction_id=transaction_id,
        number=1,
        purpose=PAYOUT,
        offer=offer,
        legacy=is_legacy(work.config, row.network),
        now=work.now,
    )
    ledger.post(
        work.unit,
        reserve(wallet=wallet.id, network=row.network, asset=row.asset, amount=row.amount, fee_cap=fee_cap),
        transfer_id=row.id,
        now=work.now,
        entropy=work.entropy,
    )
    change(work, row, Event.ASSIGNED, transaction_id=transaction_id, waiting_reason=None)


def is_legacy(config: Config, network: str) -> bool:
    """Tell whether transactions of a network name one gas price."""
    found = config.network(network)
    return found is not None and found.fee_model == "legacy"


def release_tail(work: Work, wallet_id: str, fence: int, nonce: int, reasons: Mapping[str, str]) -> None:
    """Take back every slot from ``nonce`` on: the signer's journal proves that nothing was signed for them.

    Args:
        work: the unit.
        wallet_id: whose lane.
        fence: of the lane.
        nonce: the first slot that goes.
        reasons: by transfer id, why it waits now.

    Raises:
        InvariantBroken: one of them was signed. Unavailable: the lane belongs to another worker now.
    """
    lanes.hold(work.unit, wallet_id, fence=fence)
    slots = [row for row in lanes.transactions(work.unit, wallet_id, *lanes.UNSETTLED) if row.nonce >= nonce]
    if any(row.state != "bound" for row in slots):
        raise InvariantBroken(f"a slot of {wallet_id} from nonce {nonce} on was signed: it is not taken back")
    for slot in slots:
        _post_release(work, slot)
    lanes.unbind(work.unit, wallet_id=wallet_id, fence=fence, nonce=nonce)
    for slot in slots:
        if slot.transfer_id is not None:
            paid = transfers.get(work.unit, slot.transfer_id)
            reason = reasons.get(paid.id)
            change(work, paid, Event.RELEASED, transaction_id=None, waiting_reason=reason)


def _post_release(work: Work, slot: Row) -> None:
    paid = None if slot.transfer_id is None else transfers.get(work.unit, slot.transfer_id)
    wallet = wallets.find(work.unit, slot.wallet_id)
    assert wallet is not None
    lines = release(
        wallet=wallet.id,
        network=wallet.network,
        asset=NATIVE if paid is None else paid.asset,
        amount=0 if paid is None else paid.amount,
        fee_cap=slot.fee_cap,
    )
    ledger.post(
        work.unit,
        lines,
        transfer_id=slot.transfer_id,
        now=work.now,
        entropy=work.entropy,
    )


def add_attempt(
    work: Work, slot: Row, *, purpose: str, offer: Offer, legacy: bool, asked_by: str | None = None
) -> str | None:
    """Add a bump or a void to a slot that was signed for; return its id.

    Nothing is added, and None returned, if something is to be signed for it already or it was mined meanwhile.
    Once a slot is to be voided, nothing that pays is added to it any more.

    Raises:
        InvariantBroken: there is no such slot any more, or it is to be voided.
    """
    row = lanes.find_transaction(work.unit, slot.id)
    if row is None:
        raise InvariantBroken(f"slot {slot.id} is gone: nothing is added to it")
    if row.state not in ("signed", "sent"):
        return None
    known = lanes.attempts(work.unit, slot.id)
    if any(each.raw is None for each in known):
        return None
    if purpose == PAYOUT and (row.void_reason is not None or any(each.purpose == VOID for each in known)):
        raise InvariantBroken(f"slot {slot.id} is to be voided: it pays nobody any more")
    attempt_id = ids.new_id(ids.TRANSACTION, work.entropy)
    lanes.add_attempt(
        work.unit,
        id=attempt_id,
        transaction_id=slot.id,
        number=known[-1].number + 1,
        purpose=purpose,
        offer=offer,
        legacy=legacy,
        now=work.now,
        asked_by=asked_by,
    )
    return attempt_id


def begin_void(work: Work, slot: Row, *, offer: Offer, legacy: bool, reason: str, asked_by: str | None) -> str | None:
    """Say that a slot is to be voided, and add the void; see ``add_attempt``."""
    attempt_id = add_attempt(work, slot, purpose=VOID, offer=offer, legacy=legacy, asked_by=asked_by)
    if attempt_id is not None and slot.void_reason is None:
        lanes.touch(work.unit, slot.id, void_reason=reason)
    return attempt_id


def drop_refused(work: Work, wallet_id: str, fence: int, attempt_ids: list[str]) -> None:
    """Forget bumps and voids that the signer refused; what was signed before them stays under way."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    for attempt_id in attempt_ids:
        lanes.drop_attempt(work.unit, attempt_id)


def fill_gap(work: Work, wallet: Row, fence: int, nonce: int, *, offer: Offer, legacy: bool, fee_cap: int) -> str:
    """Add a void for a nonce of the lane that no slot has, so that those behind it can be mined; return the slot's id.

    Raises:
        Unavailable: the lane belongs to another worker now. IntegrityError: the wallet cannot pay for it.
    """
    slot_id = ids.new_id(ids.TRANSACTION, work.entropy)
    lanes.fill(
        work.unit, wallet_id=wallet.id, fence=fence, nonce=nonce, id=slot_id, fee_cap=fee_cap, created_at=work.now
    )
    lanes.add_attempt(
        work.unit,
        id=slot_id,
        transaction_id=slot_id,
        number=1,
        purpose=VOID,
        offer=offer,
        legacy=legacy,
        now=work.now,
    )
    lines = reserve(wallet=wallet.id, network=wallet.network, asset=NATIVE, amount=0, fee_cap=fee_cap)
    ledger.post(work.unit, lines, transfer_id=None, now=work.now, entropy=work.entropy)
    return slot_id


def needs(config: Config, row: Row) -> dict[str, int]:
    """Return what a payout takes out of the spendable funds, base units by asset: its amount and its fee cap."""
    needed = {NATIVE: config.fee_cap(row.network, row.asset)}
    needed[row.asset] = needed.get(row.asset, 0) + row.amount
    return needed


def _missing_funds(work: Work, row: Row) -> str | None:
    """Return what the wallet lacks for this payout, or None."""
    for asset, amount in needs(work.config, row).items():
        held = ledger.holdings(work.unit, wallet_id=row.wallet_id, asset=asset)
        if held.spendable < amount:
            what = work.config.find_asset(row.network, asset)
            name = what.symbol if what is not None else asset
            return f"the wallet needs {amount} base units of {name} and has {held.spendable} spendable"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBytes:
    """What came back from the signer for one attempt."""

    attempt_id: str
    raw: bytes
    hash: str
    sequence: int  #: number of the journal entry that holds it


def store_signed(work: Work, wallet_id: str, fence: int, signed: list[SignedBytes], *, journal_id: str) -> None:
    """Store signed bytes, before anything is sent."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    for each in signed:
        attempt = lanes.find_attempt(work.unit, each.attempt_id)
        slot = None if attempt is None else lanes.find_transaction(work.unit, attempt.transaction_id)
        if attempt is None or slot is None:
            raise InvariantBroken(f"attempt {each.attempt_id} of {wallet_id} was signed, and is not stored any more")
        if not lanes.keep_signed(work.unit, attempt.id, raw=each.raw, hash=each.hash, now=work.now):
            continue
        if slot.state == "bound":
            lanes.change(work.unit, slot, "signed")
        if attempt.purpose == PAYOUT and slot.transfer_id is not None:
            _note_signed(work, slot.transfer_id, each.hash)
    if signed:
        stops.set_mark(work.unit, journal_id=journal_id, sequence=max(each.sequence for each in signed))


def _note_signed(work: Work, transfer_id: str, tx_hash: str) -> None:
    paid = transfers.get(work.unit, transfer_id)
    if State(paid.state) is State.ASSIGNED:
        velocity.sign(work.unit, paid.id, work.now)
        change(work, paid, Event.SIGNED, tx_hash=tx_hash, signed_at=work.now)
    else:
        transfers.annotate(work.unit, paid.id, tx_hash=tx_hash)


def note_sent(work: Work, wallet_id: str, fence: int, answers: list[tuple[str, str]]) -> None:
    """Record that a send was attempted, whatever the answer: (attempt id, answer) each."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    for attempt_id, text in answers:
        attempt = lanes.find_attempt(work.unit, attempt_id)
        slot = None if attempt is None else lanes.find_transaction(work.unit, attempt.transaction_id)
        if attempt is None or slot is None or slot.state == "final":
            continue
        first = work.now if attempt.first_sent_at is None else attempt.first_sent_at
        lanes.touch_attempt(work.unit, attempt_id, sent_at=work.now, first_sent_at=first, last_answer=text)
        if slot.state == "signed":
            lanes.change(work.unit, slot, "sent")
            if slot.transfer_id is not None:
                paid = transfers.get(work.unit, slot.transfer_id)
                change(work, paid, Event.SENT, broadcast_at=work.now)
