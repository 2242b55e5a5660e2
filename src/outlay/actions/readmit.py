"""Slots of the signer's journal that the tables lack: an older copy of the database was restored, or it was lost.

What was signed may be paid, whatever the tables say. So each slot gets its transfer, what justified it, its attempts
with their bytes, its reservation, and its place in the velocity windows; then the engine sends and confirms it like
any other. Nothing is judged again: the signer did that before it signed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from outlay.actions.change import change
from outlay.actions.payouts import wire_body
from outlay.actions.under_mandate import add_payment
from outlay.actions.work import Work
from outlay.core import ids
from outlay.core.asset import NATIVE
from outlay.core.errors import InvariantBroken
from outlay.core.ledger import release, reserve, supposed
from outlay.core.money import value_of
from outlay.core.policy import required_groups
from outlay.core.policy_document import read_policy
from outlay.core.pool import Route
from outlay.core.price import Quote
from outlay.core.seams import DAY
from outlay.core.transfer import ENDS, UNSIGNED, Event, State
from outlay.core.velocity import countable
from outlay.evidence.assertion import Assertion
from outlay.evidence.batch import ROW, split
from outlay.evidence.bundle import credential_document
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.demand import Signature, open_request, open_signature, origins_of
from outlay.evidence.history import History
from outlay.evidence.http_call import is_http
from outlay.evidence.judged import find_asset
from outlay.evidence.mandated import is_mandated
from outlay.evidence.payout_item import BATCH_PATH, SINGLE_PATH, read_item
from outlay.store import (
    approvals,
    evidence,
    lanes,
    ledger,
    policies,
    recovery,
    transfers,
    velocity,
    wallets,
)
from outlay.store.database import Row
from outlay.store.velocity_move import Moves

VOIDED = "It was voided before the database was restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBefore:
    """One attempt that the journal holds."""

    purpose: str  #: payout, void
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    legacy: bool
    raw: bytes
    hash: str
    at: int  #: microseconds UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One slot that the journal holds."""

    wallet_id: str
    nonce: int
    transfer_id: str | None
    intent: Mapping[str, Any] | None
    payout: Mapping[str, Any] | None  #: the signed request
    asked: Sequence[Mapping[str, Any]]
    decisions: Sequence[Mapping[str, Any]]
    fee_cap: int
    attempts: tuple[SignedBefore, ...]


def readmit(work: Work, history: History, kept: Kept) -> bool:
    """Make the tables hold a slot of the journal; return whether anything was missing.

    Raises:
        InvariantBroken: the tables say that this transfer ended unsigned, or that something else was signed there.
    """
    slot = recovery.find_slot(work.unit, kept.wallet_id, kept.nonce)
    if slot is not None and slot.transfer_id != kept.transfer_id:
        _release(work, slot)  # bound here at the time of the copy; it was released unsigned, and the slot reused
        slot = None
    if slot is None:
        slot = _add_slot(work, history, kept)
        _add_attempts(work, slot, kept)
        return True
    changed = _add_attempts(work, slot, kept)
    if slot.state == "bound":
        lanes.change(work.unit, slot, "signed")
        changed = True
    if slot.transfer_id is not None:
        changed = _note_signed(work, slot.transfer_id, kept) or changed
    return changed


# A slot that is missing


def _add_slot(work: Work, history: History, kept: Kept) -> Row:
    wallet = wallets.find(work.unit, kept.wallet_id)
    if wallet is None:
        raise InvariantBroken(f"the signer's journal holds a slot of {kept.wallet_id}, which no record tells of")
    slot_id = ids.new_id(ids.TRANSACTION, work.entropy)
    paid = None if kept.transfer_id is None else _transfer_of(work, history, kept)
    recovery.add_slot(
        work.unit,
        id=slot_id,
        wallet_id=wallet.id,
        nonce=kept.nonce,
        transfer_id=kept.transfer_id,
        state="signed",
        fee_cap=kept.fee_cap,
        created_at=kept.attempts[0].at,
    )
    asset, amount = (NATIVE, 0) if paid is None else (paid.asset, paid.amount)
    _set_aside(work, wallet, asset, amount, kept.fee_cap, kept.transfer_id)
    if paid is not None:
        assigned = change(work, paid, Event.ASSIGNED, transaction_id=slot_id, waiting_reason=None)
        _note_signed(work, assigned.id, kept)
    slot = lanes.find_transaction(work.unit, slot_id)
    assert slot is not None
    return slot


def _set_aside(work: Work, wallet: Row, asset: str, amount: int, fee_cap: int, transfer_id: str | None) -> None:
    """Reserve what a slot can take. What the ledger lacks for it must have been there: the chain corrects it later."""
    needed = {asset: amount}
    needed[NATIVE] = needed.get(NATIVE, 0) + fee_cap
    for key, wanted in sorted(needed.items()):
        short = wanted - ledger.holdings(work.unit, wallet_id=wallet.id, asset=key).spendable
        if short > 0:
            lines = supposed(wallet=wallet.id, network=wallet.network, asset=key, amount=short)
            ledger.post(work.unit, lines, transfer_id=transfer_id, now=work.now, entropy=work.entropy)
    lines = reserve(wallet=wallet.id, network=wallet.network, asset=asset, amount=amount, fee_cap=fee_cap)
    ledger.post(work.unit, lines, transfer_id=transfer_id, now=work.now, entropy=work.entropy)


def take_back(work: Work, slot: Row) -> None:
    """Undo the binding of a payout in doubt, for which the journal holds nothing; the mark on the payout stays."""
    _release(work, slot)
    recovery.give_back(work.unit, slot.wallet_id, slot.nonce)


def _release(work: Work, slot: Row) -> None:
    """Take back a binding that was undone before anything was signed for it, after the copy was made."""
    if slot.state != "bound":
        raise InvariantBroken(
            f"nonce {slot.nonce} of {slot.wallet_id} was signed for {slot.transfer_id} here and for another in the"
            " signer's journal: one of the two is of another deployment"
        )
    wallet = wallets.find(work.unit, slot.wallet_id)
    assert wallet is not None
    paid = None if slot.transfer_id is None else transfers.get(work.unit, slot.transfer_id)
    lines = release(
        wallet=wallet.id,
        network=wallet.network,
        asset=NATIVE if paid is None else paid.asset,
        amount=0 if paid is None else paid.amount,
        fee_cap=slot.fee_cap,
    )
    ledger.post(work.unit, lines, transfer_id=slot.transfer_id, now=work.now, entropy=work.entropy)
    recovery.drop_slot(work.unit, slot.id)
    if paid is not None:
        change(work, paid, Event.RELEASED, transaction_id=None)


# Its transfer


def _transfer_of(work: Work, history: History, kept: Kept) -> Row:
    """Return the transfer of a slot, ready to be assigned: made anew, or moved on from where the copy has it."""
    assert kept.transfer_id is not None
    row = transfers.find(work.unit, kept.transfer_id)
    if row is None:
        row = (_add_under_mandate if is_mandated(kept.payout) else _add_transfer)(work, history, kept)
    state = State(row.state)
    if state in ENDS:
        raise InvariantBroken(
            f"transfer {row.id} is {state} here, and the signer's journal holds a signature that pays it:"
            " this database was altered, or is of another deployment"
        )
    if state is State.ASSIGNED:
        bound = lanes.find_transaction(work.unit, row.transaction_id)
        assert bound is not None
        _release(work, bound)
        row = transfers.get(work.unit, row.id)
    if state is State.HELD:
        if velocity.find_entry(work.unit, row.id) is None:
            _count(work, row)  # it waited for room, and took none
        if kept.asked:
            _approve(work, history, kept, row)
    if state in (State.REQUESTED, State.HELD):
        row = change(work, row, Event.ALLOWED, resolved_at=row.requested_at, ready_at=row.requested_at)
    if row.wallet_id != kept.wallet_id and row.pool_id is not None:
        row = _move(work, row, kept.wallet_id)
    if State(row.state) is not State.READY:
        raise InvariantBroken(f"transfer {row.id} is {row.state} in another slot than in the signer's journal")
    return row


def _count(work: Work, row: Row) -> None:
    """Count a payout in every window, as its admission did."""
    velocity.admit(
        work.unit,
        policies.active_policies(work.unit),
        transfer_id=row.id,
        wallet_id=row.wallet_id,
        tags=wallets.tags(work.unit, row.wallet_id),
        recipient=row.recipient,
        initiator_id=row.initiator_id,
        value=row.value,
    )


def _move(work: Work, row: Row, wallet_id: str) -> Row:
    """Have a payout of a pool count for the wallet that signed it: the router had moved it since the copy was made."""
    tags = {wallet_id: wallets.tags(work.unit, wallet_id)}
    counted = Moves(work.unit, policies.active_policies(work.unit), tags, [row.id], now=work.now)
    counted.move(row.id, wallet_id)
    counted.write()
    transfers.annotate(work.unit, row.id, wallet_id=wallet_id, route=Route.LANE)
    return transfers.get(work.unit, row.id)


def _add_transfer(work: Work, history: History, kept: Kept) -> Row:
    intent = kept.intent
    if intent is None or kept.payout is None:
        raise InvariantBroken(f"the signer's journal does not say what {kept.transfer_id} is")
    request = open_request(history, kept.payout, "payout")
    preimage, amount = request.preimage, int(intent["amount"])
    if intent["externalId"] is not None:
        _give_way(work, intent["externalId"], kept.transfer_id)
    quote = _quote(history, request.seq, intent, at=request.preimage.issued)
    decimals = None if quote is None else quote[1]
    value = None if quote is None or decimals is None else value_of(amount, decimals=decimals, price=quote[0].price)
    row = transfers.add(
        work.unit,
        id=kept.transfer_id,
        external_id=intent["externalId"],
        intent_digest=digest(dict(intent)),
        # The wallet that signed it is the one it stays with.
        **({"pool_id": intent["pool"], "pool_seq": request.seq} if "pool" in intent else {}),
        intent=dict(intent),
        wallet_id=kept.wallet_id,
        network=intent["network"],
        kind="Native" if intent["asset"] == NATIVE else "Erc20",
        asset=intent["asset"],
        recipient=intent["recipient"],
        amount=amount,
        request_body=_request_body(request, intent),
        initiator_id=request.user_id,
        token_id="",
        credential_id=request.key.credential.uuid,
        value=countable(value),
        price=None if quote is None else quote[0].document(),
        policy_set=_policy_set(history, request.seq),
        requested_at=preimage.issued,
    )
    _keep_evidence(work, history, row.id, kept.payout, request)
    if evidence.find_spent(work.unit, preimage.nonce) is None:
        evidence.spend(work.unit, nonce=preimage.nonce, result_id=row.id, keep_until=preimage.expires + DAY)
    _count(work, row)
    if kept.asked:
        _approve(work, history, kept, row)
    return transfers.get(work.unit, row.id)


def _add_under_mandate(work: Work, history: History, kept: Kept) -> Row:
    """Make the transfer of a payment under a mandate anew: it follows from its intent, for nobody asked for it."""
    intent, at = kept.intent, kept.attempts[0].at
    if intent is None or kept.transfer_id is None or kept.payout is None:
        raise InvariantBroken(f"the signer's journal does not say what {kept.transfer_id} is")
    _give_way(work, intent["externalId"], kept.transfer_id)
    newest = len(history.instants) - 1
    quote = _quote(history, newest, intent, at=at)
    row = add_payment(
        work,
        id=kept.transfer_id,
        mandate_id=kept.payout["mandateId"],
        wallet_id=kept.wallet_id,  # which signed it, whoever else of the pool could have
        **({"pool_id": intent["pool"], "pool_seq": newest} if "pool" in intent else {}),
        intent=intent,
        quote=None if quote is None else quote[0],
        decimals=None if quote is None else quote[1],
        policy_set=_policy_set(history, newest),
        requested_at=at,
    )
    _count(work, row)
    if kept.asked:
        _approve(work, history, kept, row)
    return transfers.get(work.unit, row.id)


def _request_body(request: Signature, intent: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as reads show it: what was signed, or the same in the contract's words."""
    if request.in_file is None and request.preimage.path not in (SINGLE_PATH, BATCH_PATH):
        return request.payload
    item = read_item(request.payload, "payout")
    return wire_body(
        asset=intent["asset"],
        recipient=item.recipient,
        amount=item.amount,
        external_id=item.external_id,
        priority=item.priority,
    )


def _give_way(work: Work, external_id: str, transfer_id: str | None) -> None:
    """End the transfer that holds an ``externalId`` which the journal has for another one.

    The copy is from before that one was asked for, and this one was never signed: the signer signs one transfer for an
    ``externalId``, ever.
    """
    row = transfers.find_by_external_id(work.unit, external_id)
    if row is None:
        return
    if State(row.state) not in (*UNSIGNED, *ENDS) or row.signed_at is not None:
        raise InvariantBroken(
            f"the externalId {external_id} is that of {row.id}, which was signed here, and of {transfer_id} in the"
            " signer's journal: this database is of another deployment"
        )
    if State(row.state) is State.ASSIGNED:
        bound = lanes.find_transaction(work.unit, row.transaction_id)
        assert bound is not None
        _release(work, bound)
        row = transfers.get(work.unit, row.id)
    if State(row.state) not in ENDS:
        ending = Event.NEVER_EXECUTABLE if State(row.state) is State.READY else Event.WITHDRAWN
        change(work, row, ending, reason=f"An older copy of the database was restored: {transfer_id} is this payout.")
    transfers.annotate(work.unit, row.id, external_id=None)


def _quote(history: History, seq: int, intent: Mapping[str, Any], *, at: int) -> tuple[Quote, int] | None:
    """Return the price in the settings that the requester saw signed, with the asset's decimals."""
    settings = history.settings_at(seq)
    asset = find_asset(settings, intent["network"], intent["asset"])
    prices = settings.get("prices")
    if asset is None or not isinstance(prices, dict):
        return None
    try:
        price = Decimal(prices[asset.symbol])
    except (KeyError, TypeError, InvalidOperation):
        return None
    if not price.is_finite() or price <= 0:
        return None
    return Quote(price=price, source="static", at=at), asset.decimals


def _policy_set(history: History, seq: int) -> str:
    return next((named for number, named in reversed(history.policy_sets) if number <= seq), "")


def _keep_evidence(work: Work, history: History, subject: str, call: Mapping[str, Any], signed: Signature) -> str:
    """Store a signed call of the journal as the tables hold evidence; return its id."""
    whole = {
        **call,
        "credential": credential_document(signed.key.credential, signed.key.record),
        "origins": [] if is_http(call) else origins_of(Assertion.from_document(call["assertion"])),
        "policySet": _policy_set(history, signed.seq),
    }
    evidence_id = ids.new_id(ids.EVIDENCE, work.entropy)
    text = canonical(whole).decode()
    evidence.keep(work.unit, evidence_id=evidence_id, subject=subject, document=text, now=signed.preimage.issued)
    return evidence_id


def _approve(work: Work, history: History, kept: Kept, row: Row) -> None:
    """Keep who was asked and what they decided."""
    asked = []
    for each in kept.asked:
        known = history.policies[each["policyId"]]
        version = next(found for found in known.versions if found.version == each["version"])
        asked.append(read_policy(version.document, id=each["policyId"], version=version.version))
    groups = list(required_groups(asked))
    votes = [(call, open_signature(history, split(call)[0], "decision")) for call in kept.decisions]
    resolved = max((vote.preimage.issued for _, vote in votes), default=row.requested_at)
    values = {
        "status": "Approved",
        "groups": groups,
        "groups_digest": digest(groups),
        "updated_at": resolved,
        "resolved_at": resolved,
    }
    found = approvals.find_of(work.unit, row.id)
    if found is not None:
        approval_id: str = found.id
        approvals.update(work.unit, approval_id, **values)
    else:
        # A decision about a batch, or a whole file, does not name the approval.
        alone = [vote for call, vote in votes if ROW not in call]
        named = [each.preimage.path.split("/")[3] for each in alone if each.preimage.path.startswith("/v2/")]
        approval_id = named[0] if named else ids.new_id(ids.APPROVAL, work.entropy)
        approvals.add(
            work.unit,
            id=approval_id,
            transfer_id=row.id,
            initiator_id=row.initiator_id,
            created_at=row.requested_at,
            **values,
        )
        transfers.annotate(work.unit, row.id, approval_id=approval_id)
    decided = {
        (each.user_id, each.groups_digest, each.credential_id) for each in approvals.decisions(work.unit, approval_id)
    }
    for call, vote in votes:
        key = (vote.user_id, vote.preimage.groups_digest, vote.key.credential.uuid)
        if key not in decided:
            _keep_decision(work, history, approval_id, call, vote)


def _keep_decision(work: Work, history: History, approval_id: str, call: Mapping[str, Any], vote: Signature) -> None:
    decision_id = ids.new_id(ids.DECISION, work.entropy)
    approvals.add_decision(
        work.unit,
        id=decision_id,
        approval_id=approval_id,
        user_id=vote.user_id,
        value="Approved",
        reason=vote.payload.get("reason"),
        groups_digest=vote.preimage.groups_digest,
        credential_id=vote.key.credential.uuid,
        evidence_id=_keep_evidence(work, history, decision_id, call, vote),
        at=vote.preimage.issued,
    )


# What was signed


def _note_signed(work: Work, transfer_id: str, kept: Kept) -> bool:
    """Move a transfer to signed, if it is not there yet, and name the newest payment that was signed for it."""
    row = transfers.get(work.unit, transfer_id)
    paying = [each for each in kept.attempts if each.purpose == lanes.PAYOUT]
    if State(row.state) is State.ASSIGNED:
        first = kept.attempts[0].at
        velocity.sign(work.unit, row.id, first)
        change(work, row, Event.SIGNED, tx_hash=paying[-1].hash, signed_at=first)
        return True
    if State(row.state) in (State.SIGNED, State.BROADCAST) and row.tx_hash != paying[-1].hash:
        transfers.annotate(work.unit, row.id, tx_hash=paying[-1].hash)
        return True
    return False


def _add_attempts(work: Work, slot: Row, kept: Kept) -> bool:
    """Store the bytes of every attempt that is missing; forget what was to be signed and never was."""
    if slot.state == "final":
        return False
    here = lanes.attempts(work.unit, slot.id)
    known = {each.hash for each in here if each.raw is not None}
    missing = [each for each in kept.attempts if each.hash not in known]
    if not missing:
        return False
    for unsigned in here:
        lanes.drop_attempt(work.unit, unsigned.id)
    number = max((each.number for each in here if each.raw is not None), default=0)
    for each in missing:
        number += 1
        recovery.add_attempt(
            work.unit,
            id=slot.id if number == 1 else ids.new_id(ids.TRANSACTION, work.entropy),
            transaction_id=slot.id,
            number=number,
            purpose=each.purpose,
            gas_limit=each.gas_limit,
            max_fee_per_gas=each.max_fee_per_gas,
            max_priority_fee_per_gas=each.max_priority_fee_per_gas,
            legacy=each.legacy,
            raw=each.raw.hex(),
            hash=each.hash,
            signed_at=each.at,
            created_at=each.at,
        )
    is_voided = any(each.purpose == lanes.VOID for each in missing)
    if is_voided and slot.void_reason is None and slot.transfer_id is not None:
        lanes.touch(work.unit, slot.id, void_reason=VOIDED)
    return True
