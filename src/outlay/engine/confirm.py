"""From broadcast to the end: receipts, reorganisations, finality, the exact effect."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from outlay.actions import finality
from outlay.actions.finality import Final, Mined
from outlay.actions.sending import VOID
from outlay.actions.work import Work, open_work
from outlay.chains import Chain, Consumed, Head, Receipt, fee_paid
from outlay.codec.evm import parse_transfer_log
from outlay.config import Config
from outlay.core.asset import NATIVE
from outlay.core.effect import Effect, Movement, native_effect, token_effect
from outlay.core.errors import ChainUnavailable, InvariantBroken
from outlay.core.faultpoint import fault
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.engine.guard import guarded
from outlay.store import lanes, organizations, stops, transfers, wallets
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()

UNIT_MAX = 128
"""Payouts settled in one unit: requests wait for their turn behind it."""
STEP_MAX = 1000
"""Transactions of one wallet that are looked at in one step: so many known to be in a block, and so many not."""
ANYWAY = 16
"""Of those that by the newest nonce are not mined yet, how many are asked about all the same: nodes lag."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A slot of which something may be on the chain."""

    slot: Row
    attempts: list[Row]  #: those that were signed
    paid: Row | None  #: its transfer


@dataclass(frozen=True, slots=True)
class _Seen:
    """A slot, and the attempt of it that is in a block."""

    watched: _Watched
    attempt: Row | None = None
    receipt: Receipt | None = None


class Confirm:
    """Follows sent transactions until they are final."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        chains: Mapping[str, Chain],
        *,
        networks: Collection[str] | None = None,
    ) -> None:
        """Keep the parts; ``networks`` are those it follows (None: all)."""
        self._db, self._clock, self._entropy, self._config, self._chains = db, clock, entropy, config, chains
        self._networks = sorted(chains if networks is None else networks)
        self._unseen_since: dict[str, Instant] = {}  # by wallet
        self._behind_since: dict[str, Instant] = {}  # by network

    async def step(self) -> bool:
        """Look once at every wallet with transactions in flight; tell whether any moved."""
        moved = await asyncio.gather(*(self._network(name) for name in self._networks))
        return any(moved)

    async def _network(self, name: str) -> bool:
        chain = self._chains[name]
        try:
            # The final head is read before the receipts: what it covers, they must show.
            final = await chain.final()
            if not await self._stays_final(name, chain, final):
                return False
        except ChainUnavailable as error:
            log.warning("chain_unavailable", network=name, message=error.message)
            return False
        found = await self._db.read(lambda unit: self._in_flight(unit, name))
        follow = (self._guarded(each[0].id, self._follow(chain, final, *each)) for each in found)
        return any(await asyncio.gather(*follow))

    async def _guarded(self, wallet_id: str, doing: Awaitable[bool]) -> bool | None:
        return await guarded(self._db, self._clock, self._entropy, wallet_id, doing)

    async def _stays_final(self, name: str, chain: Chain, final: Head) -> bool:
        """Tell whether nothing of what was called final has been taken back; if something has, stop the network.

        Raises:
            ChainUnavailable: the network does not tell.
        """
        known = await self._db.read(lambda unit: stops.find_network(unit, name))
        if known is not None and known.frozen_reason is not None:
            return False
        if known is not None and known.final_number is not None:
            if final.number < known.final_number:
                return await self._is_behind(name, final, known)
            found = await chain.block_hash_at(known.final_number)
            if found is None:
                return False
            if found != known.final_hash:
                reason = (
                    f"block {known.final_number} was final as {known.final_hash} and is {found} now: the chain went"
                    " back further than the finality rule allows"
                )
                await self._stop_network(name, reason)
                return False
        self._behind_since.pop(name, None)
        if known is None or known.final_number != final.number:
            await self._db.write(lambda unit: stops.note_final(unit, name, number=final.number, hash=final.hash))
        return True

    async def _is_behind(self, name: str, final: Head, known: Row) -> bool:
        """Wait for nodes that lag behind what was seen already; stop the network if they never get there."""
        now = self._clock.now()
        since = self._behind_since.setdefault(name, now)
        if now - since >= self._config.sending.unseen_max_s * SECOND:
            del self._behind_since[name]
            await self._stop_network(
                name,
                f"block {known.final_number} was final, and for {self._config.sending.unseen_max_s} seconds no node has"
                f" shown more than {final.number}: one told of blocks that there are not, or the chain was reset",
            )
        return False

    async def _stop_network(self, name: str, reason: str) -> None:
        log.error("network_frozen", network=name, message=reason)

        def run(unit: Unit) -> None:
            stops.freeze_network(unit, name, reason=reason, now=self._clock.now())
            organizations.bump_epoch(unit)

        await self._db.write(run)

    def _in_flight(self, unit: Unit, network: str) -> list[tuple[Row, int, list[_Watched]]]:
        answer = []
        for wallet_id in lanes.wallets_in_flight(unit):
            wallet, lane = wallets.find(unit, wallet_id), lanes.find(unit, wallet_id)
            if wallet is None or lane is None or wallet.network != network:
                continue
            found = [lanes.transactions(unit, wallet_id, state, limit=STEP_MAX) for state in ("sent", "mined")]
            slots = sorted((slot for rows in found for slot in rows), key=lambda slot: int(slot.nonce))
            if slots:
                answer.append((wallet, int(lane.fence), _watch(unit, slots)))
        return answer

    async def _follow(self, chain: Chain, final: Head, wallet: Row, fence: int, watched: list[_Watched]) -> bool:
        used = await chain.nonce_at(wallet.address, final.number)
        watched = await self._mined_perhaps(chain, wallet, watched)
        hashes = [attempt.hash for each in watched for attempt in each.attempts]
        receipts = dict(zip(hashes, await chain.receipts(hashes), strict=True))
        seen = [_see(each, receipts) for each in watched]
        if any(each.receipt for each in seen):
            fault("confirm.after_receipt")
        foreign = await self._find_foreign(chain, final, wallet, used, seen[0])
        if foreign is not None:
            return await self._settle_foreign(wallet, fence, seen[0], foreign)
        heights = {each.receipt.block_number for each in seen if each.receipt is not None}
        canonical = {number: await chain.block_hash_at(number) for number in sorted(heights) if number <= final.number}
        # A receipt that is not told any more proves nothing while its block stands. Not to be mixed with those above,
        # which are final.
        lost = {each.watched.slot.block_number for each in seen if each.receipt is None} - {None}
        standing = {number: await chain.block_hash_at(number) for number in sorted(lost)}
        moved = False
        for start in range(0, len(seen), UNIT_MAX):
            part = seen[start : start + UNIT_MAX]

            def run(unit: Unit, part: list[_Seen] = part) -> bool:
                return self._settle(unit, wallet, fence, part, canonical, standing)

            if await self._db.write(run):
                fault("confirm.after_commit")
                moved = True
        return moved

    async def _mined_perhaps(self, chain: Chain, wallet: Row, watched: list[_Watched]) -> list[_Watched]:
        """Leave out what by the newest nonce is in no block yet, but for the lowest few."""
        newest = await chain.nonce_at(wallet.address)
        above = [each for each in watched if each.slot.state == "sent" and each.slot.nonce >= newest]
        left_out = {each.slot.id for each in above[ANYWAY:]}
        return [each for each in watched if each.slot.id not in left_out]

    def _settle(
        self,
        unit: Unit,
        wallet: Row,
        fence: int,
        seen: list[_Seen],
        canonical: Mapping[int, str | None],
        standing: Mapping[int, str | None],
    ) -> bool:
        """Note what was mined and end what is final, lowest nonce first; tell whether anything moved."""
        work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
        lanes.hold(unit, wallet.id, fence=fence)
        moved = self._note(work, seen, standing)
        lane = lanes.find(unit, wallet.id)
        next_nonce = -1 if lane is None else lane.settled_nonce
        finals: list[Final] = []  # payouts that follow each other
        for each in seen:
            slot, attempt, receipt = each.watched.slot, each.attempt, each.receipt
            if attempt is None or receipt is None or canonical.get(receipt.block_number) != receipt.block_hash:
                break  # nonces settle in order: behind the first that is not final nothing is
            if slot.nonce != next_nonce:
                break  # a lower nonce has not been noted as sent, or was not settled
            next_nonce += 1
            if attempt.purpose == VOID:
                if not _settle_payouts(work, fence, finals):
                    break
                finality.settle_void(work, fence, slot.id, fee=fee_paid(receipt))
            elif each.watched.paid is not None:
                effect = effect_of(each.watched.paid, wallet.address, receipt)
                finals.append(Final(slot_id=slot.id, effect=effect, fee=fee_paid(receipt)))
            moved = True
        _settle_payouts(work, fence, finals)
        if moved:
            fault("confirm.before_commit")
        return moved

    def _note(self, work: Work, seen: list[_Seen], standing: Mapping[int, str | None]) -> bool:
        """Note which were mined, and which are in no block any more."""
        mined: list[Mined] = []
        moved = False
        for each in seen:
            slot, receipt = each.watched.slot, each.receipt
            if receipt is None:
                gone = standing.get(slot.block_number) != slot.block_hash
            else:
                gone = (receipt.block_hash, receipt.tx_hash) != (slot.block_hash, slot.mined_hash)
            if slot.state == "mined" and gone:
                finality.note_reorged(work, slot.id)
                moved = True
            if each.attempt is not None and receipt is not None and (slot.state == "sent" or gone):
                mined.append(
                    Mined(attempt_id=each.attempt.id, block_number=receipt.block_number, block_hash=receipt.block_hash)
                )
        finality.note_mined(work, mined)
        return moved or bool(mined)

    # Somebody else with the wallet's key

    async def _find_foreign(self, chain: Chain, final: Head, wallet: Row, used: int, lowest: _Seen) -> Consumed | None:
        """Return the transaction that is not ours and took the lowest nonce, finally; None: there is none.

        Raises:
            InvariantBroken: the nonce stays used without a receipt of ours, and no node tells by what. Nothing is
                concluded about the payout.
        """
        slot = lowest.watched.slot
        if lowest.receipt is not None or used <= slot.nonce:
            self._unseen_since.pop(wallet.id, None)
            return None
        now = self._clock.now()
        since = self._unseen_since.setdefault(wallet.id, now)
        # Nodes behind one address may disagree for a while.
        if now - since < self._config.sending.unseen_max_s * SECOND:
            return None
        try:
            taken = await chain.transaction_at(wallet.address, slot.nonce, final.number)
        except ChainUnavailable:
            taken = None
        if taken is not None and taken.hash in {each.hash for each in lowest.watched.attempts}:
            return None  # it is ours: the receipt will come
        del self._unseen_since[wallet.id]
        if taken is None:
            raise InvariantBroken(f"somebody else used this wallet's key: nonce {slot.nonce} is not our transaction")
        paid = lowest.watched.paid
        if paid is not None:
            (receipt,) = await chain.receipts([taken.hash])
            if receipt is None or _may_have_paid(paid, wallet.address, receipt):
                raise InvariantBroken(
                    f"somebody else used this wallet's key: transaction {taken.hash} took nonce {slot.nonce} and may"
                    f" have paid what {paid.id} was to pay"
                )
        return taken

    async def _settle_foreign(self, wallet: Row, fence: int, lowest: _Seen, taken: Consumed) -> bool:
        log.error("foreign_transaction", wallet=wallet.id, transaction=taken.hash)

        def run(unit: Unit) -> None:
            work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
            lanes.hold(unit, wallet.id, fence=fence)
            self._note(work, [lowest], {})
            finality.settle_foreign(work, fence, lowest.watched.slot.id, tx_hash=taken.hash, block=taken.block_number)

        await self._db.write(run)
        return True


def _watch(unit: Unit, slots: Sequence[Row]) -> list[_Watched]:
    known = lanes.attempts_of(unit, [slot.id for slot in slots])
    paid = transfers.find_many(unit, [slot.transfer_id for slot in slots if slot.transfer_id is not None])
    return [
        _Watched(slot, [each for each in known[slot.id] if each.raw is not None], paid.get(slot.transfer_id))
        for slot in slots
    ]


def _settle_payouts(work: Work, fence: int, finals: list[Final]) -> bool:
    """Settle a run of payouts and begin the next one; tell whether all of them were."""
    whole = finality.settle_payouts(work, fence, finals) == len(finals)
    finals.clear()
    return whole


def _see(watched: _Watched, receipts: Mapping[str, Receipt | None]) -> _Seen:
    """Return which attempt of a slot is in a block; two never are, on one chain."""
    for attempt in watched.attempts:
        receipt = receipts.get(attempt.hash)
        if receipt is not None:
            return _Seen(watched, attempt, receipt)
    return _Seen(watched)


def _may_have_paid(paid: Row, wallet_address: str, receipt: Receipt) -> bool:
    """Tell whether a transaction that is not ours may have had the effect of a transfer."""
    if paid.asset == NATIVE:
        return receipt.status == 1  # its value and recipient are not in the receipt
    moved = [found for found in map(parse_transfer_log, receipt.logs) if found is not None]
    return any(
        (each.contract, each.sender, each.recipient) == (paid.asset, wallet_address, paid.recipient) for each in moved
    )


def effect_of(paid: Row, wallet_address: str, receipt: Receipt) -> Effect:
    """Return what a final transaction did, compared with its transfer."""
    if paid.asset == NATIVE:
        return native_effect(status=receipt.status, amount=paid.amount)
    movements = [
        Movement(contract=found[0], sender=found[1], recipient=found[2], amount=found[3])
        for found in map(parse_transfer_log, receipt.logs)
        if found is not None
    ]
    return token_effect(
        movements,
        status=receipt.status,
        contract=paid.asset,
        wallet=wallet_address,
        recipient=paid.recipient,
        amount=paid.amount,
    )
