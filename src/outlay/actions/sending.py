"""The units of sending: bind a nonce, store signed bytes, note a send, settle what is final."""

from dataclasses import dataclass

from outlay.actions.change import change
from outlay.actions.judge import BINDING, judge_again, keep, open_approval
from outlay.actions.organization import require_applied
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.effect import Effect
from outlay.core.fees import Offer
from outlay.core.ledger import overrun, reserve, settle, settle_mismatch
from outlay.core.transfer import Event, State
from outlay.store import lanes, ledger, organizations, transfers, velocity, wallets
from outlay.store.database import Row

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
        gas_limit=offer.gas_limit,
        fee_cap=fee_cap,
        max_fee_per_gas=offer.max_fee_per_gas,
        max_priority_fee_per_gas=offer.max_priority_fee_per_gas,
        created_at=work.now,
    )
    ledger.post(
        work.unit,
        reserve(wallet=wallet.id, network=row.network, asset=row.asset, amount=row.amount, fee_cap=fee_cap),
        transfer_id=row.id,
        now=work.now,
        entropy=work.entropy,
    )
    change(work, row, Event.ASSIGNED, transaction_id=transaction_id, waiting_reason=None)


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


def store_signed(work: Work, wallet_id: str, fence: int, signed: list[tuple[str, bytes, str]]) -> None:
    """Store signed bytes, before anything is sent: (transaction id, raw, hash) each."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    for transaction_id, raw, tx_hash in signed:
        row = lanes.find_transaction(work.unit, transaction_id)
        if row is None or row.state != "bound":
            continue
        lanes.change(work.unit, row, "signed", raw=raw.hex(), hash=tx_hash)
        paid = transfers.get(work.unit, row.transfer_id)
        velocity.sign(work.unit, paid.id, work.now)
        change(work, paid, Event.SIGNED, tx_hash=tx_hash, signed_at=work.now)


def note_sent(work: Work, wallet_id: str, fence: int, answers: list[tuple[str, str]]) -> None:
    """Record that a send was attempted, whatever the answer: (transaction id, answer) each."""
    lanes.hold(work.unit, wallet_id, fence=fence)
    for transaction_id, text in answers:
        row = lanes.find_transaction(work.unit, transaction_id)
        if row is None:
            continue
        if row.state == "signed":
            lanes.change(work.unit, row, "sent", sent_at=work.now, last_answer=text)
            change(work, transfers.get(work.unit, row.transfer_id), Event.SENT, broadcast_at=work.now)
        elif row.state == "sent":
            lanes.touch(work.unit, transaction_id, sent_at=work.now, last_answer=text)


def note_mined(work: Work, transaction_id: str, *, block_number: int, block_hash: str) -> None:
    """A receipt was seen in a block that may still be reorganised away."""
    row = lanes.find_transaction(work.unit, transaction_id)
    if row is None or row.state != "sent":
        return
    lanes.change(work.unit, row, "mined", block_number=block_number, block_hash=block_hash)
    change(work, transfers.get(work.unit, row.transfer_id), Event.MINED, detail={"block": block_hash})


def note_reorged(work: Work, transaction_id: str) -> None:
    """The block is gone: the same bytes will be sent again."""
    row = lanes.find_transaction(work.unit, transaction_id)
    if row is None or row.state != "mined":
        return
    lanes.change(work.unit, row, "sent", block_number=None, block_hash=None, sent_at=None)
    change(work, transfers.get(work.unit, row.transfer_id), Event.REORGED)


def settle_final(work: Work, fence: int, transaction_id: str, effect: Effect, *, fee: int) -> None:
    """A transaction is final: post what left, end the transfer, free the lane's slot.

    Args:
        work: the unit.
        fence: of the lane.
        transaction_id: in state mined.
        effect: what it did.
        fee: native base units the chain took.
    """
    row = lanes.find_transaction(work.unit, transaction_id)
    if row is None or row.state != "mined":
        return
    paid = transfers.get(work.unit, row.transfer_id)
    lanes.settle(work.unit, wallet_id=row.wallet_id, nonce=row.nonce, block=row.block_number, fence=fence)
    lanes.change(work.unit, row, "final")
    within = min(fee, row.fee_cap)
    place = {
        "wallet": row.wallet_id,
        "network": paid.network,
        "asset": paid.asset,
        "fee": within,
        "fee_cap": row.fee_cap,
    }
    proof = {"block": row.block_hash, "height": row.block_number, "effect": effect.kind, "outflow": str(effect.outflow)}
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
        _post_overrun(work, paid, fee - within)
    if effect.kind == "exact":
        change(work, paid, Event.PAID, detail=proof, fee=fee, confirmed_at=work.now)
    elif effect.kind == "nothing":
        reason = "The transaction was executed and reverted, finally: nothing was paid."
        change(work, paid, Event.REVERTED, detail=proof, fee=fee, reason=reason)
    else:
        _flag_mismatch(work, paid, effect, fee)


def _post_overrun(work: Work, paid: Row, excess: int) -> None:
    """A rollup's data fee came on top of the cap: it has left, so it is posted from what is spendable.

    What does not fit stays unposted; the balance step then finds the chain below the ledger and stops the wallet.
    """
    held = ledger.holdings(work.unit, wallet_id=paid.wallet_id, asset=NATIVE)
    lines = overrun(wallet=paid.wallet_id, network=paid.network, fee=min(excess, held.spendable))
    ledger.post(work.unit, lines, transfer_id=paid.id, now=work.now, entropy=work.entropy)


def _flag_mismatch(work: Work, paid: Row, effect: Effect, fee: int) -> None:
    """Neither paid nor not paid: stop the asset and the wallet until a person has looked."""
    reason = f"transfer {paid.id} had another effect than asked. {effect.why}"
    transfers.annotate(work.unit, paid.id, flag="effect_mismatch", reason=effect.why, fee=fee)
    wallets.freeze(work.unit, paid.wallet_id, reason)
    if paid.asset != NATIVE:
        wallets.freeze_asset(work.unit, network=paid.network, asset=paid.asset, reason=reason, now=work.now)
    organizations.bump_epoch(work.unit)
