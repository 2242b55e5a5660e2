"""One batch of requests: each is checked against the journal as those before it leave it, signed, and written."""

from dataclasses import replace

from outlay.codec.evm import Eip1559, Legacy, tx_hash
from outlay.core.errors import InvalidInput, SignerRefused
from outlay.core.recurring import Recurring
from outlay.core.seams import Clock, Instant
from outlay.evidence.mandated import is_mandated
from outlay.evidence.state import History
from outlay.settings import SignerSettings
from outlay.signer import Demand, Purpose, Scope, Signed, SignedAttempt, SignRequest, Why
from outlay.signer.backend import Keys
from outlay.signer.checks import (
    Payout,
    check_age,
    check_payout,
    check_raise,
    check_shape,
    check_wallet,
    payment,
    signed_fee_cap,
    void,
)
from outlay.signer.journal_rows import ATTEMPT, KeyRow, Rows, SlotRow
from outlay.signer.mandates import UnderMandate, check_room, check_run, check_under_mandate
from outlay.signer.memory import State, check_clock, follow_fence, moment, spend_of, unseeded

GAP_MAX = 16
"""Nonces that may stay open below one that is signed: each could be voided, and a void burns up to a fee cap."""


class Batch:
    """Requests that are answered together, within one unit of the journal."""

    def __init__(
        self,
        rows: Rows,
        state: State,
        history: History | None,
        *,
        keys: Keys,
        settings: SignerSettings,
        clock: Clock,
    ) -> None:
        """Work within an open unit; ``state`` follows what is written."""
        self._rows, self._state, self._history = rows, state, history
        self._keys, self._settings, self._clock = keys, settings, clock
        self._now = moment(state, clock)
        self._refused: set[str] = set()
        self._nonces: dict[str, int] = {}
        self.has_signed = False  #: whether anything new is about to be written

    def answer(self, request: SignRequest) -> Signed | SignerRefused:
        """Return the signed transaction, or why there is none."""
        try:
            if isinstance(request.wallet_id, str) and request.wallet_id in self._refused:
                message = "a lower nonce of this wallet was refused: this one was not looked at"
                return SignerRefused(message, why=Why.AFTER_REFUSAL)
            return self._answer(request)
        except (SignerRefused, InvalidInput) as problem:
            if isinstance(request.wallet_id, str):
                self._refused.add(request.wallet_id)
            if isinstance(problem, SignerRefused):
                return problem
            return SignerRefused(problem.message, field=problem.field, why=Why.INVALID)

    def _answer(self, request: SignRequest) -> Signed:
        check_shape(request)
        key = self._state.keys.get(request.wallet_id)
        if key is None and not self._state.is_seeded:
            raise unseeded()
        if key is None:
            raise SignerRefused(f"wallet {request.wallet_id} has no key here", field="wallet_id")
        if request.nonce < self._nonces.get(request.wallet_id, 0):
            raise SignerRefused("a batch holds the requests of a wallet in the order of nonces", field="nonce")
        self._nonces[request.wallet_id] = request.nonce
        slot, attempts = self._slot(request)
        known = _find(request, slot, attempts)
        if known is not None:
            return Signed(raw=known.raw, hash=known.hash, sequence=known.sequence)
        key = follow_fence(self._rows, self._state, key, request.fence)
        self._check_stopped(Scope.ALL, "")
        self._check_stopped(Scope.WALLET, request.wallet_id)
        if not self._state.is_seeded:
            raise unseeded()
        check_clock(self._state, self._clock)
        if slot is not None:
            return self._again(request, key, slot, attempts)
        if request.purpose is Purpose.VOID:
            return self._void_gap(request, key)
        self._check_first_nonce(request)
        return self._pay(request, key)

    def _slot(self, request: SignRequest) -> tuple[SlotRow | None, list[SignedAttempt]]:
        slot = self._rows.slot(request.wallet_id, request.nonce)
        if slot is None:
            return None, []
        entries = self._rows.entries_of(request.wallet_id, request.nonce)
        return slot, [entry.attempt() for entry in entries]

    def _check_stopped(self, scope: Scope, subject: str) -> None:
        for each in self._state.freezes:
            if (each.scope, each.subject) == (scope, subject):
                about = "everything" if scope is Scope.ALL else f"{scope} {subject}"
                message = f"{about} is stopped by freeze {each.id}: {each.reason}"
                raise SignerRefused(message, field="freeze", why=Why.FROZEN)

    def _least(self, request: SignRequest) -> int:
        """Return the lowest nonce of a wallet that a lost journal cannot have held; 0 where none was lost."""
        reseeding = self._state.reseeding
        return 0 if reseeding is None else reseeding.min_nonces.get(request.wallet_id, 0)

    def _check_first_nonce(self, request: SignRequest) -> None:
        """Refuse a nonce that a lost journal may have held, and one that leaves many open below it."""
        least, highest = self._least(request), self._rows.highest_nonce(request.wallet_id)
        if request.nonce < least:
            message = f"the journal was lost: nonces of this wallet below {least} may have been signed already"
            raise SignerRefused(message, field="nonce", why=Why.UNSEEDED)
        if 0 <= highest < request.nonce - GAP_MAX:
            message = f"the newest nonce of this wallet is {highest}: {request.nonce} would leave too many open"
            raise SignerRefused(message, field="nonce", why=Why.CONFLICT)

    def _check_gap(self, request: SignRequest) -> None:
        """Refuse a void that closes no gap: each burns fees, and only a nonce between two that are used has to go.

        What a lost journal may have held can be voided too, a few nonces back: a void never pays.
        """
        lowest, highest = self._rows.lowest_nonce(request.wallet_id), self._rows.highest_nonce(request.wallet_id)
        least = self._least(request)
        if not lowest < request.nonce < highest and not least - GAP_MAX <= request.nonce < least:
            message = "this nonce is not between two that were signed: there is no gap to close"
            raise SignerRefused(message, field="nonce", why=Why.CONFLICT)

    # --- further attempts of a slot -------------------------------------------------------------------------------

    def _again(self, request: SignRequest, key: KeyRow, slot: SlotRow, attempts: list[SignedAttempt]) -> Signed:
        """Sign another attempt of a slot: other fees, or its void."""
        self._check_stopped(Scope.NETWORK, slot.network)
        if request.transfer_id != slot.transfer_id and (request.purpose is Purpose.PAYOUT or request.transfer_id):
            owner = "a void" if slot.transfer_id is None else f"transfer {slot.transfer_id}"
            raise SignerRefused(f"this slot was signed for {owner}", field="nonce", why=Why.CONFLICT)
        check_raise(request, attempts, slot.fee_cap)
        if request.purpose is Purpose.VOID:
            assert key.chain_id is not None
            return self._write(request, key, slot, void(request, chain_id=key.chain_id, payer=key.address))
        assert slot.intent is not None
        self._check_stopped(Scope.IDENTITY, slot.intent["initiator"])
        return self._write(request, key, slot, payment(request, slot.intent, payer=key.address))

    # --- the first attempt of a slot ------------------------------------------------------------------------------

    def _pay(self, request: SignRequest, key: KeyRow) -> Signed:
        """Sign the first attempt of a payout, if it is justified."""
        if request.demand is None:
            raise SignerRefused("the first attempt of a payout needs what justifies it", field="demand")
        history = self._records()
        known = history.wallets.get(request.wallet_id)
        if known is not None:
            self._check_stopped(Scope.NETWORK, known.network)
        if is_mandated(request.demand.payout):
            return self._pay_under_mandate(request, key, request.demand)
        payout = check_payout(history, request.demand, request.wallet_id)
        intent, wallet = payout.intent, payout.checked.wallet
        self._check_stopped(Scope.IDENTITY, intent["initiator"])
        check_wallet(history, wallet, key)
        reseeded = None if self._state.reseeding is None else self._state.reseeding.number
        check_age(payout, self._now, max_age_s=self._settings.request_max_age_s, reseeded=reseeded)
        self._check_fee_cap(request, history, wallet.network, intent["asset"])
        self._check_unused(request, payout)
        slot = SlotRow(
            wallet_id=request.wallet_id,
            nonce=request.nonce,
            network=wallet.network,
            fee_cap=request.fee_cap,
            transfer_id=request.transfer_id,
            external_id=intent["externalId"],
            intent=intent,
            demand=payout.demand,
        )
        transaction = payment(request, intent, payer=key.address)
        return self._write(request, key, slot, transaction, challenges=payout.challenges)

    def _pay_under_mandate(self, request: SignRequest, key: KeyRow, demand: Demand) -> Signed:
        """Sign the first attempt of what a mandate allows: a refill, or the run of a recurring payout."""
        history = self._records()
        under = check_under_mandate(history, demand, request.wallet_id)
        self._check_stopped(Scope.IDENTITY, under.mandate.id)
        check_wallet(history, under.wallet, key)
        if under.filled is not None:
            self._check_filled(history, under.filled)
        self._check_fee_cap(request, history, under.wallet.network, under.intent["asset"])
        self._check_unused(request, under)
        reseeding = self._state.reseeding
        if reseeding is not None and under.votes_since < reseeding.number:
            message = "an approval was signed before the signer's journal was lost: it may have been used; ask again"
            raise SignerRefused(message, field="decisions", why=Why.EVIDENCE)
        self._check_bounds(under, full_from=None if reseeding is None else reseeding.at)
        slot = SlotRow(
            wallet_id=request.wallet_id,
            nonce=request.nonce,
            network=under.wallet.network,
            fee_cap=request.fee_cap,
            transfer_id=request.transfer_id,
            external_id=under.intent["externalId"],
            intent=under.intent,
            demand=under.demand,
        )
        transaction = payment(request, under.intent, payer=key.address)
        return self._write(request, key, slot, transaction, challenges=under.challenges)

    def _check_filled(self, history: History, wallet_id: str) -> None:
        """Refuse a refill of a wallet that is stopped, or whose key is not ours."""
        self._check_stopped(Scope.WALLET, wallet_id)
        filled = self._state.keys.get(wallet_id)
        if filled is None:
            raise SignerRefused("there is no key of the wallet to be filled", field="demand", why=Why.EVIDENCE)
        # Whoever answered when it was created wrote its address: only the key says that it is ours.
        check_wallet(history, history.wallets[wallet_id], filled)

    def _check_bounds(self, under: UnderMandate, *, full_from: Instant | None) -> None:
        """Hold the server to what a mandate says about time."""
        mandate = under.mandate
        if isinstance(mandate, Recurring):
            assert under.run is not None
            check_run(mandate, under.run, now=self._now, full_from=full_from)
            return
        earlier = self._rows.slots_named(mandate.external_prefix, after=self._now - mandate.window)
        check_room(mandate, int(under.intent["amount"]), earlier, now=self._now, full_from=full_from)

    def _void_gap(self, request: SignRequest, key: KeyRow) -> Signed:
        """Sign a void of a slot that nothing was signed for, below one that something was signed for."""
        history = self._records()
        wallet = history.wallets.get(request.wallet_id)
        if wallet is None:
            raise SignerRefused("the records know no such wallet", field="wallet_id", why=Why.BEHIND)
        self._check_stopped(Scope.NETWORK, wallet.network)
        self._check_gap(request)
        check_wallet(history, wallet, key)
        self._check_fee_cap(request, history, wallet.network, None)
        slot = SlotRow(
            wallet_id=request.wallet_id, nonce=request.nonce, network=wallet.network, fee_cap=request.fee_cap
        )
        return self._write(request, key, slot, void(request, chain_id=wallet.chain_id, payer=key.address))

    def _records(self) -> History:
        if self._history is None:
            raise SignerRefused("the signer has no records yet", field="demand", why=Why.BEHIND)
        return self._history

    def _check_fee_cap(self, request: SignRequest, history: History, network: str, asset: str | None) -> None:
        signed = signed_fee_cap(history.money_settings, network, asset)
        if request.fee_cap > signed:
            message = f"the signed settings cap the fees of a transaction on {network} at {signed}"
            raise SignerRefused(message, field="fee_cap", why=Why.NOT_AGREED)

    def _check_unused(self, request: SignRequest, payout: Payout | UnderMandate) -> None:
        """Refuse a second payment of what the journal holds: transfer, ``externalId`` or signed call."""
        at = self._rows.slot_of_transfer(str(request.transfer_id))
        if at is not None:
            message = f"transfer {request.transfer_id} was signed at nonce {at[1]} of wallet {at[0]}"
            raise SignerRefused(message, field="transfer_id", why=Why.CONFLICT)
        external_id = payout.intent["externalId"]
        owner = None if external_id is None else self._rows.transfer_of(external_id)
        if owner is not None:
            message = f"externalId {external_id} was signed for transfer {owner}"
            raise SignerRefused(message, field="externalId", why=Why.CONFLICT)
        for place, challenge in enumerate(payout.challenges):
            if self._rows.is_used(challenge):
                what = "the signed request" if place == 0 else "a signed approval"
                raise SignerRefused(f"{what} has paid already: each is good once", field="demand", why=Why.CONFLICT)

    # --- writing --------------------------------------------------------------------------------------------------

    def _write(
        self,
        request: SignRequest,
        key: KeyRow,
        slot: SlotRow,
        transaction: Eip1559 | Legacy,
        *,
        challenges: tuple[str, ...] = (),
    ) -> Signed:
        """Sign, and write what was signed; nothing of it leaves before the unit is on disk."""
        is_first = slot.first_seq == 0
        if is_first:
            slot = replace(slot, first_seq=self._state.newest.seq + 1, first_at=self._now)
            over = self._state.windows.refusal(spend_of(slot))
            if over is not None:
                raise SignerRefused(over, field="caps", why=Why.CAP)
        signing_hash = transaction.signing_hash()
        raw = transaction.encode(self._keys.sign(key.reference, signing_hash))
        body = {
            "walletId": request.wallet_id,
            "nonce": request.nonce,
            "purpose": request.purpose.value,
            "transferId": slot.transfer_id,
            "gasLimit": request.gas_limit,
            "maxFeePerGas": str(request.max_fee_per_gas),
            "maxPriorityFeePerGas": str(request.max_priority_fee_per_gas),
            "legacy": request.legacy,
            "raw": raw.hex(),
            "hash": tx_hash(raw),
        }
        if is_first:
            body["slot"] = slot.document()
            self._rows.add_slot(slot, challenges)
            self._state.windows.add(spend_of(slot))
        if key.chain_id is None:
            self._rows.bind_chain(key.wallet_id, transaction.chain_id)
            self._state.keys[key.wallet_id] = replace(key, chain_id=transaction.chain_id)
        entry = self._state.newest = self._rows.add_entry(
            self._state.newest,
            ATTEMPT,
            body,
            at=self._now,
            slot=(request.wallet_id, request.nonce),
            purpose=request.purpose.value,
            signing_hash=signing_hash.hex(),
        )
        self.has_signed = True
        return Signed(raw=raw, hash=str(body["hash"]), sequence=entry.seq)


def _find(request: SignRequest, slot: SlotRow | None, attempts: list[SignedAttempt]) -> SignedAttempt | None:
    """Return the attempt that was signed for exactly this request, if it was."""
    if slot is None or (request.purpose is Purpose.PAYOUT and request.transfer_id != slot.transfer_id):
        return None
    wanted = (
        request.purpose,
        request.gas_limit,
        request.max_fee_per_gas,
        request.max_priority_fee_per_gas,
        request.legacy,
    )
    for each in attempts:
        offered = (each.purpose, each.gas_limit, each.max_fee_per_gas, each.max_priority_fee_per_gas, each.legacy)
        if offered == wanted:
            return each
    return None
