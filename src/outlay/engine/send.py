"""The lane's four steps: bind nonces, have them signed, store the bytes, send them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from outlay.actions import sending
from outlay.actions.sending import Candidate
from outlay.actions.work import Work, open_work
from outlay.chains import CallReverted, Chain, Fees, SendKind
from outlay.codec.evm import erc20_transfer, tx_hash
from outlay.config import Config
from outlay.core.asset import NATIVE
from outlay.core.errors import ChainUnavailable, InvariantBroken, SignerRefused, Unavailable
from outlay.core.faultpoint import fault
from outlay.core.fees import NATIVE_GAS, first_offer
from outlay.core.seams import SECOND, Clock, Entropy, Instant
from outlay.engine.guard import freeze, guarded
from outlay.signer import Signed, Signer, SignRequest
from outlay.store import lanes, ledger, transfers, wallets
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()
T = TypeVar("T")

LEASE: Instant = 30 * SECOND
RESEND: Instant = 10 * SECOND
"""How long a sent transaction may stay unseen before the same bytes are sent again."""
RETRY: Instant = 2 * SECOND
"""The same, after an answer that does not say that the transaction arrived."""
ARRIVED = (SendKind.ACCEPTED, SendKind.KNOWN, SendKind.NONCE_TOO_LOW)
UNIT_MAX = 32
"""Payouts bound in one unit: requests wait for their turn behind it."""
LOOK_AHEAD = 500
"""Ready transfers of one wallet that are looked at in one step; those behind them wait for their turn."""
GAS_MAX = 5_000_000
"""The most gas one payout may be given: far more than any token needs, less than any chain's block holds."""
NO_ANSWER = "the network does not answer at present"
GAS_MARGIN_PERCENT = 150
"""Room over the node's estimate: what is not used is not paid."""


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
        *,
        holder: str,
    ) -> None:
        """Keep the parts; ``holder`` names this worker in leases."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._chains, self._signer, self._holder = chains, signer, holder
        self._poll: Instant = int(config.sending.poll_s * SECOND)
        self._look_at: dict[str, Instant] = {}  # when waiting transfers of a wallet are looked at again
        self._rest_until: dict[str, Instant] = {}  # after a failure

    async def step(self) -> bool:
        """Serve every wallet that has something to bind, sign or send; tell whether any moved."""
        found = await self._db.read(self._wallets_with_work)
        moved = await asyncio.gather(*(self._serve_guarded(wallet) for wallet in found))
        return any(moved)

    def _wallets_with_work(self, unit: Unit) -> list[Row]:
        now = self._clock.now()
        ready = transfers.wallets_with_ready(unit)
        names = {wallet_id for wallet_id, fresh in ready.items() if fresh or self._look_at.get(wallet_id, 0) <= now}
        found = {row.id: row for row in wallets.everything(unit) if row.network in self._chains}
        for wallet_id in lanes.wallets_in_flight(unit):
            rows = lanes.transactions(unit, wallet_id, "bound", "signed", "sent")
            frozen = wallet_id in found and found[wallet_id].frozen_reason is not None
            if any(self._is_due(row) for row in rows if not (frozen and row.state == "bound")):
                names.add(wallet_id)
        return [found[name] for name in names & found.keys() if self._rest_until.get(name, 0) <= now]

    def _is_due(self, row: Row) -> bool:
        if row.state != "sent" or row.sent_at is None:
            return True
        arrived = (row.last_answer or "").partition(" ")[0] in ARRIVED
        return bool(row.sent_at + (RESEND if arrived else RETRY) <= self._clock.now())

    async def _write(self, function: Callable[[Work], T]) -> T:
        def run(unit: Unit) -> T:
            return function(open_work(unit, now=self._clock.now(), entropy=self._entropy, config=self._config))

        return await self._db.write(run)

    async def _serve_guarded(self, wallet: Row) -> bool:
        moved = await guarded(self._db, wallet.id, self._serve(wallet))
        if moved is None:
            self._rest_until[wallet.id] = self._clock.now() + self._poll
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
        moved = await self._sign(wallet, fence) or moved
        moved = await self._send(wallet, chain, fence) or moved
        if isinstance(trouble, ChainUnavailable):
            await self._write(lambda work: sending.wait_all(work, wallet.id, NO_ANSWER))
        if trouble is not None:
            raise trouble
        return moved

    async def _lease(self, wallet: Row, chain: Chain) -> int | None:
        known = await self._db.read(lambda unit: lanes.find(unit, wallet.id))
        fresh_until = self._clock.now() + LEASE // 2
        if known is not None and known.holder == self._holder and (known.leased_until or 0) > fresh_until:
            return int(known.fence)
        first = 0 if known is not None else await chain.nonce_at(wallet.address)

        def run(unit: Unit) -> int | None:
            now = self._clock.now()
            return lanes.lease(unit, wallet.id, holder=self._holder, first_nonce=first, now=now, until=now + LEASE)

        return await self._db.write(run)

    # Step 1: bind

    async def _bind(self, wallet: Row, chain: Chain, fence: int) -> int:
        room, going, waiting = await self._db.read(lambda unit: self._choose(unit, wallet))
        candidates = await self._candidates(wallet, chain, going) if going else []
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

    def _choose(self, unit: Unit, wallet: Row) -> tuple[int, list[Row], list[Row]]:
        """Return how many may be bound now, the transfers the node is asked about, and those that have to wait.

        Longest ready first, but what the wallet cannot pay lets others pass; so do those the node refused before,
        which are asked about again once a poll.
        """
        now = self._clock.now()
        look = self._look_at.get(wallet.id, 0) <= now
        if look:
            self._look_at[wallet.id] = now + self._poll
        room = self._config.sending.in_flight_max - len(lanes.transactions(unit, wallet.id, *lanes.UNSETTLED))
        if room <= 0 and not look:
            return 0, [], []  # a full lane is looked at often, and what waits behind it may be long
        left: dict[str, int] = {}
        going: list[Row] = []
        waiting: list[Row] = []
        slots = {True: room, False: room if look else 0}
        for row in transfers.ready_of(unit, wallet.id, limit=LOOK_AHEAD):
            needed = sending.needs(self._config, row)
            for asset in needed.keys() - left.keys():
                left[asset] = ledger.holdings(unit, wallet_id=wallet.id, asset=asset).spendable
            short = any(left[asset] < amount for asset, amount in needed.items())
            if short or wallet.frozen_reason is not None or wallet.status != "Active":
                if look or row.waiting_reason is None:
                    waiting.append(row)
            elif slots[row.waiting_reason is None] > 0:
                slots[row.waiting_reason is None] -= 1
                left.update({asset: left[asset] - amount for asset, amount in needed.items()})
                going.append(row)
        return room, going, waiting

    async def _candidates(self, wallet: Row, chain: Chain, ready: list[Row]) -> list[Candidate]:
        fees = await chain.fees()
        plain = await self._plain_accounts(chain, ready)
        return list(await asyncio.gather(*(self._candidate(wallet, chain, fees, plain, row) for row in ready)))

    async def _plain_accounts(self, chain: Chain, ready: list[Row]) -> set[str]:
        """Return which recipients of the native coin have no code."""
        addresses = sorted({row.recipient for row in ready if row.asset == NATIVE})
        try:
            codes = await chain.codes_at(addresses)
        except ChainUnavailable:
            return set()  # it may be about one of them: each is asked about by itself
        return {address for address, code in zip(addresses, codes, strict=True) if not code}

    async def _candidate(self, wallet: Row, chain: Chain, fees: Fees, plain: set[str], row: Row) -> Candidate:
        try:
            gas_limit = await self._gas_limit(wallet, chain, plain, row)
        except CallReverted as error:
            reason = f"it would not go through at present: {error.message}"
            return Candidate(transfer_id=row.id, offer=None, waiting_reason=reason)
        except ChainUnavailable:
            # One recipient's contract may be what the node stumbles over: it must not stop the others.
            return Candidate(transfer_id=row.id, offer=None, waiting_reason=NO_ANSWER)
        offer = first_offer(
            base_fee=fees.base_fee,
            tip=fees.tips()[row.intent["priority"]],
            gas_limit=gas_limit,
            fee_cap=self._config.fee_cap(row.network, row.asset),
        )
        too_dear = "the network asks more for gas than the fee cap allows" if offer is None else None
        return Candidate(transfer_id=row.id, offer=offer, waiting_reason=too_dear)

    async def _gas_limit(self, wallet: Row, chain: Chain, plain: set[str], row: Row) -> int:
        if row.asset == NATIVE:
            if row.recipient in plain or not await chain.code_at(row.recipient):
                return NATIVE_GAS
            estimate = await chain.estimate_gas(wallet.address, row.recipient, row.amount, b"")
        else:
            data = erc20_transfer(row.recipient, row.amount)
            estimate = await chain.estimate_gas(wallet.address, row.asset, 0, data)
        limit = estimate * GAS_MARGIN_PERCENT // 100
        if limit > GAS_MAX:
            # Signed once, such a transaction could never be mined and would stop everything behind its nonce.
            raise CallReverted(f"it needs {estimate} gas, more than a payout should")
        return limit

    # Steps 2 and 3: sign, store

    async def _sign(self, wallet: Row, fence: int) -> bool:
        bound = await self._db.read(lambda unit: self._unsigned(unit, wallet.id))
        if not bound:
            return False
        answers = await self._signer.sign([request for _, request in bound])
        signed = [
            (transaction_id, answer.raw, answer.hash)
            for (transaction_id, _), answer in zip(bound, answers, strict=True)
            if isinstance(answer, Signed)
        ]

        def store(work: Work) -> None:
            sending.store_signed(work, wallet.id, fence, signed)
            fault("store.before_commit")

        await self._write(store)
        fault("store.after_commit")
        for answer in answers:
            if isinstance(answer, SignerRefused):
                log.error("signer_refused", wallet=wallet.id, message=answer.message)
                await freeze(self._db, wallet.id, f"the signer refused: {answer.message}")
        return bool(signed)

    def _unsigned(self, unit: Unit, wallet_id: str) -> list[tuple[str, SignRequest]]:
        wallet = wallets.find(unit, wallet_id)
        if wallet is None or wallet.frozen_reason is not None:
            return []
        bound = [(row, transfers.get(unit, row.transfer_id)) for row in lanes.transactions(unit, wallet_id, "bound")]
        frozen = {(each.network, each.asset) for each in wallets.frozen_assets(unit)}
        return [(row.id, _request(row, paid)) for row, paid in bound if (paid.network, paid.asset) not in frozen]

    # Step 4: send

    async def _send(self, wallet: Row, chain: Chain, fence: int) -> bool:
        rows = await self._db.read(lambda unit: lanes.transactions(unit, wallet.id, "signed", "sent"))
        due = [row for row in rows if self._is_due(row)]
        if not due:
            return False
        raws = [_checked(row) for row in due]
        answers = await chain.send_raw(raws)
        fault("send.after_send")
        notes = [(row.id, f"{answer.kind} {answer.text}".strip()) for row, answer in zip(due, answers, strict=True)]
        await self._write(lambda work: sending.note_sent(work, wallet.id, fence, notes))
        fault("mark_sent.after_commit")
        return True


def _request(row: Row, paid: Row) -> SignRequest:
    return SignRequest(
        intent=paid.intent,
        transfer_id=paid.id,
        wallet_id=row.wallet_id,
        nonce=row.nonce,
        gas_limit=row.gas_limit,
        max_fee_per_gas=row.max_fee_per_gas,
        max_priority_fee_per_gas=row.max_priority_fee_per_gas,
        fee_cap=row.fee_cap,
    )


def _checked(row: Row) -> bytes:
    """Return the stored bytes, if they still are what was signed.

    Raises:
        InvariantBroken: a bit has changed since.
    """
    raw = bytes.fromhex(row.raw)
    if tx_hash(raw) != row.hash:
        raise InvariantBroken(f"the stored bytes of transaction {row.id} are not those that were signed")
    return raw
