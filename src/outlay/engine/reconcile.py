"""Reconciliation: what the ledger, the signer's journal and the chain say about each wallet, side by side.

The balance step compares ledger and chain block by block and stops a wallet that lacks something. This compares the
journal too, slot by slot: a slot that only one of the two knows means that one of them was lost or altered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from outlay.actions.alarms import difference
from outlay.chains import Chain
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable, SignerUnavailable, Unavailable
from outlay.core.seams import MINUTE, Clock, Entropy, Instant
from outlay.core.transfer import State
from outlay.evidence import record as records
from outlay.signer import JournalSlot, Purpose, Signer
from outlay.store import lanes, ledger, recovery, wallets
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()

EVERY: Instant = 10 * MINUTE
PAGE = 100
"""Slots of the journal that are asked for at once."""
LISTED = 20
"""Nonces that one finding names at most."""
_OPEN = tuple(
    each.value for each in (State.HELD, State.READY, State.ASSIGNED, State.SIGNED, State.BROADCAST, State.MINED)
)


@dataclass(slots=True, kw_only=True)
class Line:
    """One asset of one wallet, base units."""

    asset: Asset
    ledger: int
    chain: int | None  #: None: the chain did not answer about it
    signed_here: int  #: what the payouts that were signed come to, by the database
    signed_journal: int  #: the same, by the journal
    verdict: str = "equal"  #: equal, settling, arriving, surplus, missing, unread


@dataclass(slots=True, kw_only=True)
class Compared:
    """One wallet."""

    wallet: Row
    height: int  #: of the final block it was compared at
    lane_next: int
    lane_settled: int
    chain_final: int  #: nonces used up to that block
    chain_newest: int  #: nonces used up to the newest block
    journal_next: int  #: one more than the highest nonce the journal holds, 0 if none
    open: Mapping[str, int]  #: transfers by state
    lines: list[Line] = field(default_factory=list)
    unmapped: list[int] = field(default_factory=list)  #: nonces the chain has final and nobody here signed
    findings: list[str] = field(default_factory=list)  #: what differs, for people; empty: nothing

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "walletId": self.wallet.id,
            "network": self.wallet.network,
            "address": self.wallet.address,
            "frozenReason": self.wallet.frozen_reason,
            "height": self.height,
            "nonces": {
                "lane": self.lane_next,
                "settled": self.lane_settled,
                "chainFinal": self.chain_final,
                "chainNewest": self.chain_newest,
                "journal": self.journal_next,
            },
            "assets": [
                {
                    "asset": line.asset.key,
                    "symbol": line.asset.symbol,
                    "decimals": line.asset.decimals,
                    "ledger": str(line.ledger),
                    "chain": None if line.chain is None else str(line.chain),
                    "signedHere": str(line.signed_here),
                    "signedJournal": str(line.signed_journal),
                    "verdict": line.verdict,
                }
                for line in self.lines
            ],
            "open": dict(self.open),
            "unmapped": self.unmapped,
            "findings": self.findings,
        }


@dataclass(frozen=True, slots=True)
class _Held:
    """What the database says about a wallet."""

    wallet: Row
    lane: Row | None
    slots: Mapping[int, Row]
    totals: Mapping[str, int]
    open: Mapping[str, int]


class Reconcile:
    """Compares all wallets, when asked and every ten minutes."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        chains: Mapping[str, Chain],
        signer: Signer,
    ) -> None:
        """Keep the parts."""
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._chains, self._signer = chains, signer
        self._next: Instant = 0

    async def step(self) -> bool:
        """Compare, if it is time, and stop wallets whose slots differ; return whether any did."""
        now = self._clock.now()
        if now < self._next:
            return False
        self._next = now + EVERY
        found = False
        try:
            journal, _ = await self._journal()
            for held in await self._db.read(self._read):
                known = journal.get(held.wallet.id, {})
                # Slots appear here before the journal holds them, and the journal was read first.
                missing = [nonce for nonce, slot in known.items() if not _is_known(slot, held.slots.get(nonce))]
                if missing:
                    reason = f"the signer's journal holds nonces of this wallet otherwise: {_list(missing)}"
                    if await self._db.write(partial(self._differ, wallet=held.wallet, finding=reason)):
                        log.error("journal_differs", wallet=held.wallet.id, message=reason)
                        found = True
        except SignerUnavailable as error:
            log.warning("not_reconciled", message=error.message)
        return found

    def _differ(self, unit: Unit, *, wallet: Row, finding: str) -> bool:
        """Stop a wallet about which journal and database differ, and tell of it; return whether that was news."""
        return difference(unit, wallet, finding, now=self._clock.now(), entropy=self._entropy)

    async def reconcile(self) -> dict[str, Any]:
        """Return everything, as JSON values.

        Raises:
            Unavailable: the signer or a network does not answer.
        """
        before = {each.wallet.id: each for each in await self._db.read(self._read)}
        journal, minimums = await self._journal()
        compared = []
        for held in await self._db.read(self._read):
            chain = self._chains.get(held.wallet.network)
            if chain is None:
                raise Unavailable(f"network {held.wallet.network} is not configured on this server")
            slots = journal.get(held.wallet.id, {})
            line = await self._compare(chain, held, slots)
            earlier = before.get(held.wallet.id)
            _compare_slots(line, held, slots, earlier, minimums.get(held.wallet.id, 0))
            compared.append(line)
        return {
            "agrees": not any(line.findings for line in compared),
            "wallets": [line.document() for line in compared],
        }

    async def signer_state(self) -> dict[str, Any]:
        """Return what the signer says of itself, and the lowest nonces a re-seed of its journal could name now.

        Raises:
            Unavailable: the signer or a network does not answer.
        """
        status = await self._signer.status()
        least = {}
        for held in await self._db.read(self._read):
            chain = self._chains.get(held.wallet.network)
            if chain is None:
                raise Unavailable(f"network {held.wallet.network} is not configured on this server")
            used = await chain.nonce_at(held.wallet.address)
            ours = [nonce + 1 for nonce, row in held.slots.items() if row.state != "bound"]
            least[held.wallet.id] = max([used, 0 if held.lane is None else held.lane.settled_nonce, *ours])
        return {
            "journalId": status.journal_id,
            "seeded": status.seeded,
            "keystoreId": status.keystore_id,
            "entries": status.sequence,
            "head": status.head,
            "records": status.record_seq + 1,
            "recordsHead": status.record_head,
            "freezes": [{"id": each.id, "scope": each.scope, "subject": each.subject} for each in status.freezes],
            "minNonces": least,
        }

    async def _journal(self) -> tuple[dict[str, dict[int, JournalSlot]], Mapping[str, int]]:
        """Return the journal's slots by wallet and nonce, and where each wallet begins in this journal."""
        found: dict[str, dict[int, JournalSlot]] = {}
        after = 0
        while slots := await self._signer.slots(after=after, limit=PAGE):
            for slot in slots:
                found.setdefault(slot.wallet_id, {})[slot.nonce] = slot
            after = slots[-1].attempts[0].sequence
        status = await self._signer.status()
        reseeds = await self._db.read(lambda unit: recovery.documents_about_organization(unit, records.SIGNER_RESEEDED))
        minimums = [each["minNonces"] for each in reseeds if each["journalId"] == status.journal_id]
        return found, minimums[-1] if minimums else {}

    def _read(self, unit: Unit) -> list[_Held]:
        found = []
        for wallet in wallets.everything(unit):
            slots = {row.nonce: row for row in recovery.slots(unit, wallet.id)}
            totals = {
                asset.key: ledger.holdings(unit, wallet_id=wallet.id, asset=asset.key).total
                for asset in self._config.assets_of(wallet.network)
            }
            states = recovery.open_transfers(unit, wallet.id, _OPEN)
            found.append(_Held(wallet, lanes.find(unit, wallet.id), slots, totals, states))
        return found

    async def _compare(self, chain: Chain, held: _Held, journal: Mapping[int, JournalSlot]) -> Compared:
        wallet, lane = held.wallet, held.lane
        final = await chain.final()
        compared = Compared(
            wallet=wallet,
            height=final.number,
            lane_next=0 if lane is None else lane.next_nonce,
            lane_settled=0 if lane is None else lane.settled_nonce,
            chain_final=await chain.nonce_at(wallet.address, final.number),
            chain_newest=await chain.nonce_at(wallet.address),
            journal_next=max(journal, default=-1) + 1,
            open=held.open,
        )
        settled = compared.chain_final == compared.lane_settled and (
            lane is None or (lane.settled_block or 0) <= final.number
        )
        if (
            compared.chain_final < compared.lane_settled
            and lane is not None
            and (lane.settled_block or 0) <= final.number
        ):
            compared.findings.append(
                f"nonces: {compared.lane_settled} were final here, the chain has {compared.chain_final} at block"
                f" {final.number}: it went back, and what was mined is sent again"
            )
        for asset in self._config.assets_of(wallet.network):
            compared.lines.append(await _line(chain, held, journal, asset, final.number, settled=settled))
        for line in compared.lines:
            if line.verdict in ("missing", "surplus"):
                difference = abs((line.chain or 0) - line.ledger)
                compared.findings.append(
                    f"{line.asset.symbol}: the chain shows {line.chain}, the ledger {line.ledger}:"
                    f" {difference} base units {line.verdict}"
                )
        known = held.slots.keys() | journal.keys()
        compared.unmapped = [
            nonce for nonce in range(compared.lane_settled, compared.chain_final) if nonce not in known
        ][:LISTED]
        if compared.unmapped:
            compared.findings.append(
                f"nonces {_list(compared.unmapped)} are final on the chain and were not signed here: somebody else"
                " has the key"
            )
        if compared.chain_newest > max(compared.lane_next, compared.journal_next):
            compared.findings.append(
                f"the chain has counted {compared.chain_newest} transactions, {compared.lane_next} are ours"
            )
        return compared


async def _line(
    chain: Chain, held: _Held, journal: Mapping[int, JournalSlot], asset: Asset, height: int, *, settled: bool
) -> Line:
    line = Line(
        asset=asset,
        ledger=held.totals[asset.key],
        chain=None,
        signed_here=sum(row.amount for row in held.slots.values() if row.state != "bound" and row.asset == asset.key),
        signed_journal=sum(
            int(slot.intent["amount"])
            for slot in journal.values()
            if slot.intent is not None and slot.intent["asset"] == asset.key
        ),
    )
    try:
        line.chain = await chain.balance_at(held.wallet.address, asset, height)
    except ChainUnavailable:
        line.verdict = "unread"
        return line
    if not settled:
        line.verdict = "settling"
    elif line.chain < line.ledger:
        line.verdict = "missing"
    elif line.chain > line.ledger:
        line.verdict = "surplus" if (held.wallet.compared_block or -1) >= height else "arriving"
    return line


def _compare_slots(
    compared: Compared, held: _Held, journal: Mapping[int, JournalSlot], before: _Held | None, least: int
) -> None:
    """Add what the journal and the database do not both know.

    A slot is in the database before the journal holds it, and signed there only afterwards. So what is compared with
    the journal is the database after it was read, and what the journal must hold is the database before.
    """
    only_journal = [nonce for nonce, slot in journal.items() if not _is_known(slot, held.slots.get(nonce))]
    earlier = {} if before is None else before.slots
    only_here = [
        nonce for nonce, row in earlier.items() if row.state != "bound" and nonce >= least and nonce not in journal
    ]
    if only_journal:
        compared.findings.append(f"the journal holds nonces {_list(only_journal)} otherwise: restart to recover")
    if only_here:
        compared.findings.append(f"the journal lacks nonces {_list(only_here)}, which were signed: it was lost or cut")


def _is_known(slot: JournalSlot, row: Row | None) -> bool:
    """Tell whether the database has a slot of the journal as the journal has it."""
    if row is None or row.transfer_id != slot.transfer_id:
        return False
    if slot.intent is None or row.transfer_id is None:
        return slot.attempts[0].purpose is Purpose.VOID
    return (row.asset, row.amount) == (slot.intent["asset"], int(slot.intent["amount"]))


def _list(nonces: Sequence[int]) -> str:
    shown = ", ".join(str(nonce) for nonce in sorted(nonces)[:LISTED])
    return shown if len(nonces) <= LISTED else f"{shown} and {len(nonces) - LISTED} more"
