"""The lane's steps: bind nonces, have them signed, store the bytes, send them, raise the fees of what is stuck."""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from outlay.actions import sending
from outlay.actions.demand import demands_of
from outlay.actions.sending import PAYOUT, VOID, Candidate, SignedBytes
from outlay.actions.work import Work, open_work
from outlay.chains import Chain, SendKind
from outlay.codec.evm import tx_hash
from outlay.config import Config
from outlay.core.errors import ChainUnavailable, InvariantBroken, SignerRefused, SignerUnavailable, Unavailable
from outlay.core.faultpoint import fault
from outlay.core.fees import Offer, void_offer
from outlay.core.lane import Pace, Replacement, Slot, find_gap, is_due, replacement
from outlay.core.seams import MINUTE, SECOND, Clock, Entropy, Instant
from outlay.engine.choosing import STEP_MAX, Choosing
from outlay.engine.guard import guarded
from outlay.engine.offers import NO_ANSWER, data_fee_of, make_candidates
from outlay.engine.watch import Watch
from outlay.signer import Demand, Purpose, Signed, Signer, SignRequest, Why
from outlay.store import lanes, stops, transfers, wallets
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()
T = TypeVar("T")

LEASE: Instant = 6 * SECOND
"""How long a lane is leased; renewed while it is served, so that a dead worker's lanes are soon another's."""
RESEND: Instant = 10 * SECOND
"""How long a sent transaction may stay unseen before the same bytes are sent again."""
RETRY: Instant = 2 * SECOND
"""The same, after an answer that does not say that the transaction arrived."""
ARRIVED = (SendKind.ACCEPTED, SendKind.KNOWN, SendKind.NONCE_TOO_LOW)
UNIT_MAX = 128
"""Payouts bound in one unit: requests wait for their turn behind it."""
LATE_MAX = 1000
"""Sent transactions of one wallet that are looked at in one step because nothing has been heard of them."""
REFUSED_FIRST: Instant = 5 * SECOND
REFUSED_MAX: Instant = 10 * MINUTE
"""How long a payout that the signer refused is left alone: doubled with each refusal."""
_EXPECTED = frozenset({Why.CAP, Why.FROZEN, Why.NOT_AGREED, Why.BEHIND, Why.AFTER_REFUSAL, Why.UNSEEDED})
"""Refusals that are no sign of an attack or a fault."""


class _FenceMoved(Exception):
    """The lane's fence was raised: what was read under the old one is not gone on with."""


@dataclass(frozen=True, slots=True)
class _ToSign:
    """An attempt that is to be signed."""

    attempt: Row  #: with nonce, transfer_id and fee_cap of its slot
    request: SignRequest


class Send:
    """Moves ready transfers onto the chain, wallet by wallet."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        chains: Mapping[str, Chain],
        signer: Signer,
        watch: Watch,
        *,
        holder: str,
        networks: Collection[str] | None = None,
    ) -> None:
        """Keep the parts; ``holder`` names this worker in leases, ``networks`` are those it serves (None: all)."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._chains, self._signer, self._watch, self._holder = chains, signer, watch, holder
        self._networks = frozenset(chains if networks is None else networks)
        self.serving: set[str] = set()  #: wallets whose lanes are at work now, perhaps waiting for a node
        self._poll: Instant = int(config.sending.poll_s * SECOND)
        pace = config.sending
        self._pace = Pace(
            bump_after_s=pace.bump_after_s, bump_every_s=pace.bump_every_s, void_after_s=pace.void_after_s
        )
        self._late_at: dict[str, Instant] = {}  # when its sent transactions are looked at again
        self._fees_at: dict[str, Instant] = {}  # when the fees of a wallet's stuck transactions are
        self._rest_until: dict[str, Instant] = {}  # after a failure
        self._refused: dict[str, tuple[Instant, Instant]] = {}  # by transfer: patience, until when
        self._choosing = Choosing(config, clock, refused=self._refused)
        self._stuck_at: dict[str, int] = {}  # by attempt: block at which it was found stuck

    async def step(self) -> bool:
        """Serve every wallet that has something to bind, sign or send; tell whether any moved."""
        found = await self._db.read(self._wallets_with_work)
        moved = await asyncio.gather(*(self._serve_guarded(wallet) for wallet in found))
        return any(moved)

    def _wallets_with_work(self, unit: Unit) -> list[Row]:
        now = self._clock.now()
        ready = transfers.wallets_with_ready(unit)
        names = {wallet_id for wallet_id, fresh in ready.items() if fresh or self._choosing.looks(wallet_id, now)}
        stopped = {row.network for row in stops.networks(unit) if row.frozen_reason is not None}
        serving = self._networks - stopped
        found = {row.id: row for row in wallets.everything(unit) if row.network in serving}
        for wallet_id in lanes.wallets_in_flight(unit):
            if wallet_id in found and wallet_id not in names and self._has_work(unit, found[wallet_id]):
                names.add(wallet_id)
        return [found[name] for name in sorted(names & found.keys()) if self._rest_until.get(name, 0) <= now]

    def _has_work(self, unit: Unit, wallet: Row) -> bool:
        if self._due(unit, wallet.id, look=False):
            return True
        if wallet.frozen_reason is not None:
            return False
        if lanes.unsigned(unit, wallet.id, limit=1):
            return True
        return self._fees_at.get(wallet.id, 0) <= self._clock.now() and bool(self._standing(unit, wallet.id))

    def _to_send(self, attempts: Sequence[Row]) -> list[Row]:
        """Return the attempts of a slot that are to be sent: those never sent, and the newest from time to time."""
        signed = [each for each in attempts if each.raw is not None]
        fresh = [each for each in signed if each.sent_at is None]
        if fresh or not signed:
            return fresh
        newest = signed[-1]
        arrived = (newest.last_answer or "").partition(" ")[0] in ARRIVED
        is_late = newest.sent_at + (RESEND if arrived else RETRY) <= self._clock.now()
        return [newest] if is_late else []

    async def _write(self, function: Callable[[Work], T]) -> T:
        def run(unit: Unit) -> T:
            return function(open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config))

        return await self._db.write(run)

    async def _serve_guarded(self, wallet: Row) -> bool:
        self.serving.add(wallet.id)
        try:
            moved = await guarded(self._db, self._clock, self._entropy, wallet.id, self._serve(wallet))
        finally:
            self.serving.discard(wallet.id)
        if moved is None:
            self._rest_until[wallet.id] = self._clock.now() + max(self._poll, SECOND)
        return bool(moved)

    async def _serve(self, wallet: Row) -> bool:
        chain = self._chains[wallet.network]
        try:
            fence = await self._lease(wallet, chain)
        except ChainUnavailable:
            await self._write(lambda work: sending.wait_all(work, wallet.id, NO_ANSWER))
            raise
        if fence is None:
            return False
        moved, trouble = False, None
        try:
            moved = await self._bind(wallet, chain, fence) > 0
        except Unavailable as error:
            # What is bound already is signed and sent all the same.
            trouble = error
        try:
            moved = await self._sign(wallet, fence) or moved
        except _FenceMoved:
            return True  # the next step goes on with the new fence
        except SignerUnavailable as error:
            # What is signed already is sent all the same.
            trouble = error
        moved = await self._send(wallet, chain, fence) or moved
        if isinstance(trouble, ChainUnavailable):
            await self._write(lambda work: sending.wait_all(work, wallet.id, NO_ANSWER))
        if trouble is not None:
            raise trouble
        return await self._replace(wallet, chain, fence) or moved

    async def _lease(self, wallet: Row, chain: Chain) -> int | None:
        known = await self._db.read(lambda unit: lanes.find(unit, wallet.id))
        fresh_until = self._clock.now() + LEASE * 2 // 3
        if known is not None and known.holder == self._holder and (known.leased_until or 0) > fresh_until:
            return int(known.fence)
        first = 0
        if known is None:
            # At a final height, so that endpoints have to agree: a lane that began too high would never be mined.
            first = await chain.nonce_at(wallet.address, (await chain.final()).number)

        def run(unit: Unit) -> int | None:
            now = self._clock.now()
            return lanes.lease(unit, wallet.id, holder=self._holder, first_nonce=first, now=now, until=now + LEASE)

        return await self._db.write(run)

    # Step 1: bind

    async def _bind(self, wallet: Row, chain: Chain, fence: int) -> int:
        room, going, waiting = await self._db.read(lambda unit: self._choosing.choose(unit, wallet))
        candidates = await make_candidates(self._config, wallet, chain, going) if going else []
        candidates += [Candidate(transfer_id=row.id, offer=None) for row in waiting]
        bound = 0
        for start in range(0, len(candidates), UNIT_MAX):
            part, left = candidates[start : start + UNIT_MAX], room - bound

            def run(work: Work, part: list[Candidate] = part, left: int = left) -> int:
                return sending.bind(work, wallet.id, fence, part, room=left)

            bound_now = await self._write(run)
            if bound_now:
                fault("bind.after_commit")
            bound += bound_now
        return bound

    # Steps 2 and 3: sign, store

    async def _sign(self, wallet: Row, fence: int) -> bool:
        replacing, firsts, blocked = await self._db.read(lambda unit: self._unsigned(unit, wallet, fence))
        moved = False
        if replacing:
            moved = await self._sign_some(wallet, fence, replacing) or moved
        if firsts:
            moved = await self._sign_some(wallet, fence, firsts) or moved
        if blocked is not None:
            await self._release(wallet, fence, blocked, "the asset is frozen")
        return moved

    def _unsigned(self, unit: Unit, wallet: Row, fence: int) -> tuple[list[_ToSign], list[_ToSign], Row | None]:
        """Return the replacements to be signed, the first attempts, and the attempt that is behind a frozen asset."""
        known = wallets.find(unit, wallet.id)
        if known is None or known.frozen_reason is not None:
            return [], [], None
        frozen = {(each.network, each.asset) for each in wallets.frozen_assets(unit)}
        rows = lanes.unsigned(unit, wallet.id, limit=STEP_MAX)
        paid = transfers.find_many(unit, [row.transfer_id for row in rows if row.number == 1 and row.transfer_id])
        demands = demands_of(unit, list(paid.values()))
        replacing: list[_ToSign] = []
        firsts: list[_ToSign] = []
        for row in rows:
            if row.number > 1:
                replacing.append(_ToSign(row, _request(row, wallet.id, fence, None)))
                continue
            first = paid.get(row.transfer_id)
            if first is not None and (first.network, first.asset) in frozen:
                return replacing, firsts, row
            demand = None if first is None else Demand(**demands[first.id])
            firsts.append(_ToSign(row, _request(row, wallet.id, fence, demand)))
        return replacing, firsts, None

    async def _sign_some(self, wallet: Row, fence: int, asked: list[_ToSign]) -> bool:
        if not self._watch.journal_id:
            await self._watch.push()
        requests = [each.request for each in asked]
        answers = await self._signer.sign(requests)
        if any(isinstance(answer, SignerRefused) and answer.why == Why.BEHIND for answer in answers):
            await self._watch.push()
            answers = await self._signer.sign(requests)
        signed = [
            SignedBytes(attempt_id=each.attempt.id, raw=answer.raw, hash=answer.hash, sequence=answer.sequence)
            for each, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Signed)
        ]

        def store(work: Work) -> None:
            sending.store_signed(work, wallet.id, fence, signed, journal_id=self._watch.journal_id)
            fault("store.before_commit")

        if signed:
            await self._write(store)
            fault("store.after_commit")
        for each, answer in zip(asked, answers, strict=True):
            if isinstance(answer, SignerRefused) and answer.why != Why.AFTER_REFUSAL:
                await self._refuse(wallet, fence, each, answer)
                break
        return bool(signed)

    async def _refuse(self, wallet: Row, fence: int, refused: _ToSign, answer: SignerRefused) -> None:
        """The signer said no, definitely: nothing new was signed from this attempt on."""
        if answer.why == Why.FENCED:
            raise Unavailable(f"the lane of {wallet.id} was leased to another worker")
        tell = log.warning if answer.why in _EXPECTED else log.error
        about = {"wallet": wallet.id, "payout": refused.attempt.transfer_id, "why": str(answer.why)}
        tell("signer_refused", **about, message=answer.message)
        if refused.attempt.number > 1:
            self._fees_at[wallet.id] = self._clock.now() + REFUSED_FIRST
            await self._drop(wallet, fence, refused)
            return
        if refused.attempt.transfer_id is None:
            # Others were signed above a gap: it stays, and is asked about again.
            raise Unavailable(f"the signer refuses to close a gap: {answer.message}")
        self._back_off(refused.attempt.transfer_id)
        reason, conflict = f"the signer refuses: {answer.message}", answer.why == Why.CONFLICT
        await self._release(wallet, fence, refused.attempt, reason, conflict=conflict)

    def _back_off(self, transfer_id: str) -> None:
        patience = min(2 * self._refused.get(transfer_id, (REFUSED_FIRST // 2, 0))[0], REFUSED_MAX)
        self._refused[transfer_id] = (patience, self._clock.now() + patience)

    async def _release(self, wallet: Row, fence: int, first: Row, reason: str, *, conflict: bool = False) -> None:
        """Give back the end of the lane from the slot of ``first`` on, once the journal proves that none was signed.

        Raises:
            InvariantBroken: the journal contradicts these slots. _FenceMoved: the step ends here.
        """
        slots = await self._db.read(lambda unit: lanes.transactions_from(unit, wallet.id, first.nonce))
        names = [each.transfer_id for each in slots if each.transfer_id is not None]
        raised, held = await self._outrun(wallet, fence, names)
        if held and conflict:
            raise InvariantBroken(f"the signer's journal holds {', '.join(sorted(held))} in another slot")
        if held:
            await self._take_bytes(wallet, raised, held)
            raise _FenceMoved
        reasons = {} if first.transfer_id is None else {first.transfer_id: reason}
        await self._write(lambda work: sending.release_tail(work, wallet.id, raised, first.nonce, reasons))
        fault("release.after_commit")
        raise _FenceMoved

    async def _take_bytes(self, wallet: Row, fence: int, held: Collection[str]) -> None:
        """Store the bytes of transfers that were signed after all: the signer gives them again, whatever is frozen."""

        def read(unit: Unit) -> list[_ToSign]:
            rows = lanes.unsigned(unit, wallet.id, limit=STEP_MAX)
            mine = [row for row in rows if row.number == 1 and row.transfer_id in held]
            demands = demands_of(unit, list(transfers.find_many(unit, [row.transfer_id for row in mine]).values()))
            return [_ToSign(row, _request(row, wallet.id, fence, Demand(**demands[row.transfer_id]))) for row in mine]

        asked = await self._db.read(read)
        answers = await self._signer.sign([each.request for each in asked]) if asked else []
        signed = [
            SignedBytes(attempt_id=each.attempt.id, raw=answer.raw, hash=answer.hash, sequence=answer.sequence)
            for each, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Signed)
        ]
        if signed:
            journal_id = self._watch.journal_id
            await self._write(lambda work: sending.store_signed(work, wallet.id, fence, signed, journal_id=journal_id))

    async def _drop(self, wallet: Row, fence: int, refused: _ToSign) -> None:
        """Forget a replacement that the signer refused, unless it was signed after all.

        Raises:
            _FenceMoved: the step ends here.
        """
        raised, _ = await self._outrun(wallet, fence, [])
        (answer,) = await self._signer.sign([dataclasses.replace(refused.request, fence=raised)])
        if isinstance(answer, SignerRefused):
            gone = [refused.attempt.id]
            await self._write(lambda work: sending.drop_refused(work, wallet.id, raised, gone))
        raise _FenceMoved

    async def _outrun(self, wallet: Row, fence: int, transfer_ids: list[str]) -> tuple[int, frozenset[str]]:
        """Raise the lane's fence, tell the signer, and return it with the transfers that the journal holds.

        A request of ours that was given up on may still be on its way: it carries the old fence, and is refused.

        Raises:
            Unavailable: the lane belongs to another worker, or the signer does not answer.
        """
        raised = await self._db.write(lambda unit: lanes.raise_fence(unit, wallet.id, fence=fence))
        fault("fence.after_commit")
        try:
            return raised, await self._signer.journaled(wallet.id, raised, transfer_ids)
        except SignerRefused as refused:
            why = "was leased to another worker" if refused.why == Why.FENCED else f"waits: {refused.message}"
            raise Unavailable(f"the lane of {wallet.id} {why}") from refused

    # Step 4: send

    async def _send(self, wallet: Row, chain: Chain, fence: int) -> bool:
        due = await self._db.read(lambda unit: self._due(unit, wallet.id, look=True))
        if not due:
            return False
        answers = await chain.send_raw([_checked(row) for row in due])
        fault("send.after_send")
        notes = [(row.id, f"{answer.kind} {answer.text}".strip()) for row, answer in zip(due, answers, strict=True)]
        await self._write(lambda work: sending.note_sent(work, wallet.id, fence, notes))
        fault("mark_sent.after_commit")
        return True

    def _due(self, unit: Unit, wallet_id: str, *, look: bool) -> list[Row]:
        """Return the attempts that are to be sent now.

        Args:
            unit: the database unit.
            wallet_id: whose.
            look: they are going to be sent, so what was sent before is not looked at again for a while.
        """
        now = self._clock.now()
        slots = list(lanes.unsent(unit, wallet_id, limit=STEP_MAX))
        if self._late_at.get(wallet_id, 0) <= now:
            if look:
                self._late_at[wallet_id] = now + SECOND
            known = {slot.id for slot in slots}
            late = lanes.late(unit, wallet_id, seen_before=now - RESEND, sent_before=now - RETRY, limit=LATE_MAX)
            slots += [slot for slot in late if slot.id not in known]
        slots.sort(key=lambda slot: slot.nonce)
        attempts = lanes.attempts_of(unit, [slot.id for slot in slots])
        return [each for slot in slots for each in self._to_send(attempts[slot.id])]

    # What is stuck

    async def _replace(self, wallet: Row, chain: Chain, fence: int) -> bool:
        """Raise fees and add voids where that is due; they are signed and sent by the next step."""
        now = self._clock.now()
        if self._fees_at.get(wallet.id, 0) > now:
            return False
        slots, gap = await self._db.read(lambda unit: self._stuck(unit, wallet))
        if not slots and gap is None:
            self._fees_at[wallet.id] = now + min(self._poll, SECOND)
            return False
        self._fees_at[wallet.id] = now + self._poll
        fees, data_fee = await chain.fees(), await data_fee_of(chain)
        legacy = sending.is_legacy(self._config, wallet.network)
        moved = False
        if gap is not None:
            fee_cap = self._config.networks[wallet.network].fee_cap
            offer = void_offer((), base_fee=fees.base_fee, tip=fees.tip_fast, fee_cap=max(0, fee_cap - data_fee))
            moved = offer is not None and await self._fill(wallet, fence, gap, offer, legacy, fee_cap)
        for row, slot, priority in slots:
            newest = f"{row.id}/{len(slot.offers)}"
            # Where no block came, nothing could be mined: dearer would not help.
            if not slot.to_void and self._stuck_at.setdefault(newest, fees.block_number) >= fees.block_number:
                continue
            tip = fees.tips()[priority]
            next_one = replacement(slot, fees=fees, tip=tip, data_fee=data_fee, now=now, pace=self._pace)
            if next_one is None:
                continue
            self._stuck_at.pop(newest, None)

            def run(work: Work, row: Row = row, chosen: Replacement = next_one) -> bool:
                lanes.hold(work.unit, wallet.id, fence=fence)
                if chosen.purpose == PAYOUT:
                    added = sending.add_attempt(work, row, purpose=PAYOUT, offer=chosen.offer, legacy=legacy)
                else:
                    reason = chosen.reason or "It was voided"
                    added = sending.begin_void(
                        work, row, offer=chosen.offer, legacy=legacy, reason=reason, asked_by=None
                    )
                return added is not None

            moved = await self._write(run) or moved
            fault("replace.after_commit")
        return moved

    async def _fill(self, wallet: Row, fence: int, gap: int, offer: Offer, legacy: bool, fee_cap: int) -> bool:
        def run(work: Work) -> str:
            return sending.fill_gap(work, wallet, fence, gap, offer=offer, legacy=legacy, fee_cap=fee_cap)

        log.warning("gap_filled", wallet=wallet.id, nonce=gap)
        await self._write(run)
        return True

    def _stuck(self, unit: Unit, wallet: Row) -> tuple[list[tuple[Row, Slot, str]], int | None]:
        """Return the slots whose fees are to be looked at, each with its priority, and a nonce that no slot has."""
        known, lane = wallets.find(unit, wallet.id), lanes.find(unit, wallet.id)
        if known is None or known.frozen_reason is not None or lane is None:
            return [], None
        gap = None
        if lanes.count_transactions(unit, wallet.id, *lanes.UNSETTLED) < lane.next_nonce - lane.settled_nonce:
            nonces = [row.nonce for row in lanes.transactions(unit, wallet.id, *lanes.UNSETTLED)]
            gap = find_gap(nonces, first=lane.settled_nonce, end=lane.next_nonce)
        found = []
        for row, slot in self._standing(unit, wallet.id):
            paid = None if row.transfer_id is None else transfers.get(unit, row.transfer_id)
            found.append((row, slot, "Fast" if paid is None else str(paid.intent["priority"])))
        return found, gap

    def _standing(self, unit: Unit, wallet_id: str) -> list[tuple[Row, Slot]]:
        """Return the slots whose fees are to be looked at again, lowest nonce first."""
        now = self._clock.now()
        patience = min(self._pace.bump_after_s, self._pace.bump_every_s) * SECOND
        rows = lanes.standing(unit, wallet_id, sent_before=now - patience, limit=STEP_MAX)
        if not rows:
            return []
        head = lanes.lowest_nonce(unit, wallet_id, "signed", "sent")
        known = lanes.attempts_of(unit, [row.id for row in rows])
        found = _standing(sorted(rows, key=lambda row: row.nonce), known, head)
        return [(row, slot) for row, slot in found if is_due(slot, now=now, pace=self._pace)]


def _standing(rows: Sequence[Row], known: Mapping[str, list[Row]], head: int | None) -> list[tuple[Row, Slot]]:
    """Return what stands in each slot that was sent, without those about to be signed again; ``head`` is the lowest."""
    found = []
    for row in rows:
        attempts = known[row.id]
        if row.state != "sent" or not attempts or any(each.raw is None for each in attempts):
            continue
        if attempts[-1].first_sent_at is None:
            continue
        offers = tuple(
            Offer(
                gas_limit=each.gas_limit,
                max_fee_per_gas=each.max_fee_per_gas,
                max_priority_fee_per_gas=each.max_priority_fee_per_gas,
            )
            for each in attempts
        )
        slot = Slot(
            offers=offers,
            voided=attempts[-1].purpose == VOID,
            to_void=row.void_reason is not None,
            sent_at=attempts[-1].first_sent_at,
            is_head=row.nonce == head,
            fee_cap=row.fee_cap,
        )
        found.append((row, slot))
    return found


def _request(row: Row, wallet_id: str, fence: int, demand: Demand | None) -> SignRequest:
    purpose = Purpose(row.purpose)
    return SignRequest(
        wallet_id=wallet_id,
        nonce=row.nonce,
        fence=fence,
        purpose=purpose,
        transfer_id=row.transfer_id if purpose is Purpose.PAYOUT else None,
        demand=demand,
        gas_limit=row.gas_limit,
        max_fee_per_gas=row.max_fee_per_gas,
        max_priority_fee_per_gas=row.max_priority_fee_per_gas,
        fee_cap=row.fee_cap,
        legacy=row.legacy,
    )


def _checked(row: Row) -> bytes:
    """Return the stored bytes of an attempt, if they still are what was signed.

    Raises:
        InvariantBroken: a bit has changed since.
    """
    raw = bytes.fromhex(row.raw)
    if tx_hash(raw) != row.hash:
        raise InvariantBroken(f"the stored bytes of attempt {row.id} are not those that were signed")
    return raw
