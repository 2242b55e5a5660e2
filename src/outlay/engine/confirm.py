"""From broadcast to the end: receipts, reorganisations, finality, the exact effect."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from outlay.actions import sending
from outlay.actions.work import Work, open_work
from outlay.chains import Chain, Receipt, fee_paid
from outlay.codec.evm import parse_transfer_log
from outlay.config import Config
from outlay.core.asset import NATIVE
from outlay.core.effect import Effect, Movement, native_effect, token_effect
from outlay.core.errors import InvariantBroken
from outlay.core.faultpoint import fault
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.engine.guard import guarded
from outlay.store import lanes, transfers, wallets
from outlay.store.database import Database, Row, Unit


@dataclass(frozen=True, slots=True)
class _Watched:
    """A transaction that may be on the chain, with the transfer it pays."""

    row: Row
    paid: Row


_Seen = tuple[_Watched, Receipt | None]
UNIT_MAX = 32
"""Payouts settled in one unit: requests wait for their turn behind it."""


class Confirm:
    """Follows sent transactions until they are final."""

    def __init__(
        self, db: Database, clock: Clock, entropy: Entropy, config: Config, chains: Mapping[str, Chain]
    ) -> None:
        """Keep the parts."""
        self._db, self._clock, self._entropy, self._config, self._chains = db, clock, entropy, config, chains
        self._unseen_since: dict[str, Instant] = {}  # by wallet

    async def step(self) -> bool:
        """Look once at every wallet with transactions in flight; tell whether any moved."""
        found = await self._db.read(self._in_flight)
        moved = await asyncio.gather(*(guarded(self._db, each[0].id, self._follow(*each)) for each in found))
        return any(moved)

    def _in_flight(self, unit: Unit) -> list[tuple[Row, int, list[_Watched]]]:
        answer = []
        for wallet_id in lanes.wallets_in_flight(unit):
            wallet, lane = wallets.find(unit, wallet_id), lanes.find(unit, wallet_id)
            rows = lanes.transactions(unit, wallet_id, "sent", "mined")
            if wallet is None or lane is None or not rows or wallet.network not in self._chains:
                continue
            watched = [_Watched(row, transfers.get(unit, row.transfer_id)) for row in rows]
            answer.append((wallet, lane.fence, watched))
        return answer

    async def _follow(self, wallet: Row, fence: int, watched: list[_Watched]) -> bool:
        chain = self._chains[wallet.network]
        # The final head is read before the receipts: what it covers, they must show.
        final = await chain.final()
        used = await chain.nonce_at(wallet.address, final.number)
        receipts = await chain.receipts([each.row.hash for each in watched])
        if any(receipts):
            fault("confirm.after_receipt")
        self._check_slot(wallet.id, watched[0].row, used, receipts[0])
        heights = {r.block_number for r in receipts if r is not None and r.block_number <= final.number}
        hashes = {number: await chain.block_hash_at(number) for number in heights}
        seen = list(zip(watched, receipts, strict=True))
        moved = False
        for start in range(0, len(seen), UNIT_MAX):
            part = seen[start : start + UNIT_MAX]

            def run(unit: Unit, part: list[_Seen] = part) -> bool:
                return self._settle(unit, wallet, fence, part, hashes)

            if await self._db.write(run):
                fault("confirm.after_commit")
                moved = True
        return moved

    def _settle(self, unit: Unit, wallet: Row, fence: int, seen: list[_Seen], hashes: Mapping[int, str | None]) -> bool:
        """Note what was mined and end what is final, lowest nonce first; tell whether anything moved."""
        work = open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config)
        lanes.hold(unit, wallet.id, fence=fence)
        moved = self._note(work, seen)
        lane = lanes.find(unit, wallet.id)
        next_nonce = -1 if lane is None else lane.settled_nonce
        for each, receipt in seen:
            if receipt is None or hashes.get(receipt.block_number) != receipt.block_hash:
                break  # nonces settle in order: behind the first that is not final nothing is
            if each.row.nonce != next_nonce:
                break  # a lower nonce has not been noted as sent, or was not settled
            next_nonce += 1
            effect = effect_of(each.paid, wallet.address, receipt)
            sending.settle_final(work, fence, each.row.id, effect, fee=fee_paid(receipt))
            moved = True
        if moved:
            fault("confirm.before_commit")
        return moved

    def _check_slot(self, wallet_id: str, lowest: Row, used: int, receipt: Receipt | None) -> None:
        """The lowest nonce is finally used: then by our transaction, or by somebody else with this wallet's key.

        Raises:
            InvariantBroken: it stays without a receipt of ours. Nothing is concluded about the payout.
        """
        if receipt is not None or used <= lowest.nonce:
            self._unseen_since.pop(wallet_id, None)
            return
        now = self._clock.now()
        since = self._unseen_since.setdefault(wallet_id, now)
        # Nodes behind one address may disagree for a while.
        if now - since >= self._config.sending.unseen_max_s * SECOND:
            del self._unseen_since[wallet_id]
            raise InvariantBroken(f"somebody else used this wallet's key: nonce {lowest.nonce} is not our transaction")

    def _note(self, work: Work, seen: list[_Seen]) -> bool:
        """Note which were mined, and which are in no block any more."""
        moved = False
        for each, receipt in seen:
            gone = receipt is None or receipt.block_hash != each.row.block_hash
            if each.row.state == "mined" and gone:
                sending.note_reorged(work, each.row.id)
                moved = True
            if receipt is not None and (each.row.state == "sent" or gone):
                sending.note_mined(work, each.row.id, block_number=receipt.block_number, block_hash=receipt.block_hash)
                moved = True
        return moved


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
