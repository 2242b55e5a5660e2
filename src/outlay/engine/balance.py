"""Ledger against chain, block by final block: what arrived is posted, what is missing stops the wallet.

What a person looked at and let go on (unfreezing forgets the height compared last) is accepted as it is: a loss is
written off, and nonces that somebody else used are skipped.
"""

from collections.abc import Awaitable, Collection, Mapping

import structlog

from outlay.actions.alarms import difference, freeze_wallet
from outlay.chains import Chain
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable
from outlay.core.event import iso
from outlay.core.ledger import inflow, supposed, written_off
from outlay.core.seams import Clock, Entropy
from outlay.engine.guard import guarded
from outlay.store import lanes, ledger, mandates, recovery, stops, wallets, webhooks
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()


class Balance:
    """Compares what the chain shows at a final height with what the ledger says for that height."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        entropy: Entropy,
        config: Config,
        chains: Mapping[str, Chain],
        *,
        networks: Collection[str] | None = None,
        compared: dict[tuple[str, str], tuple[int, int]] | None = None,
    ) -> None:
        """Keep the parts; ``networks`` are those it compares (None: all).

        ``compared`` gets, for figures, what the chain showed and what the ledger holds then, by wallet id and asset.
        """
        self._figures = {} if compared is None else compared
        self._db, self._clock, self._entropy, self._config = db, clock, entropy, config
        self._chains = {name: chains[name] for name in sorted(chains if networks is None else networks)}

    async def step(self) -> bool:
        """Compare every wallet with the newest final block it was not compared with; tell whether anything differed."""
        found = await self._db.read(wallets.everything)
        stopped = {row.network for row in await self._db.read(stops.networks) if row.frozen_reason is not None}
        moved = False
        for name, chain in self._chains.items():
            mine = [row for row in found if row.network == name and name not in stopped]
            if not mine:
                continue
            try:
                final = await chain.final()
            except ChainUnavailable as error:
                log.warning("chain_unavailable", network=name, message=error.message)
                continue
            for wallet in mine:
                # Nodes behind one address may lag: a height is compared once and an older one never.
                if final.number > _compared(wallet):
                    looked = await self._guarded(wallet.id, self._wallet(chain, wallet, final.number))
                    moved = bool(looked) or moved
        return moved

    async def _guarded(self, wallet_id: str, doing: Awaitable[bool]) -> bool | None:
        return await guarded(self._db, self._clock, self._entropy, wallet_id, doing)

    async def _wallet(self, chain: Chain, wallet: Row, height: int) -> bool:
        if await chain.code_at(wallet.address):
            # A delegated account (EIP-7702) can be emptied by whoever its code lets.
            text = "the wallet's address has code: its key was used to delegate it"
            await self._db.write(lambda unit: self._stop(unit, wallet.id, text))
            return True
        nonce = await chain.nonce_at(wallet.address, height)
        lost = await self._db.read(lambda unit: _lost(unit, wallet.id, nonce, height))
        if lost:
            # The chain went back over what was final, and a person let the network go on: the same bytes belong there.
            log.error("final_transactions_lost", wallet=wallet.id, count=len(lost), height=height)
            await chain.send_raw(lost)
            return False
        shown = []
        for asset in self._config.assets_of(wallet.network):
            try:
                shown.append((asset, await chain.balance_at(wallet.address, asset, height)))
            except ChainUnavailable as error:
                # One token that does not answer must not hide the others.
                log.warning("balance_unread", wallet=wallet.id, asset=asset.key, message=error.message)
        return await self._db.write(lambda unit: self._compare(unit, wallet, nonce, height, shown))

    def _compare(self, unit: Unit, wallet: Row, nonce: int, height: int, shown: list[tuple[Asset, int]]) -> bool:
        """Compare ledger and chain at ``height``, if that is possible, and return whether they differed.

        It is while every nonce the chain has counted is settled here, and none beyond that height.
        """
        known = wallets.find(unit, wallet.id)
        if known is None or height <= _compared(known):
            return False
        lane = lanes.find(unit, wallet.id)
        accepted = known.compared_block is None and known.frozen_reason is None
        ours = 0 if lane is None else lane.next_nonce
        if accepted and lane is not None and nonce > ours == lane.settled_nonce:
            lanes.adopt(unit, wallet_id=wallet.id, fence=lane.fence, nonce=nonce)
            return True
        if nonce > ours:
            text = f"somebody else used this wallet's key: {ours} nonces are ours, {nonce} used"
            self._differ(unit, wallet, text, height)
            return True
        if lane is not None and (lane.settled_nonce != nonce or (lane.settled_block or 0) > height):
            return False
        is_whole = len(shown) == len(self._config.assets_of(wallet.network))
        if is_whole or known.compared_block is None:
            # What was not read is not compared: a refill that arrived there is still about to.
            wallets.update(unit, wallet.id, compared_block=height)
        changed = False
        for asset, balance in shown:
            held = ledger.holdings(unit, wallet_id=wallet.id, asset=asset.key).total
            if balance > held:
                self._post_inflow(unit, wallet, asset, balance - held, height)
                changed = True
            elif balance < held and self._accept(unit, wallet, asset, held - balance, accepted=accepted):
                changed = True
            elif balance < held:
                text = f"at block {height} the chain shows {balance} {asset.symbol} base units, the ledger {held}"
                said = {"asset": asset.key, "symbol": asset.symbol, "ledger": str(held), "chain": str(balance)}
                self._differ(unit, wallet, text, height, **said)
                changed = True
                self._figures[wallet.id, asset.key] = (balance, held)
                continue
            self._figures[wallet.id, asset.key] = (balance, balance)
        return changed

    def _stop(self, unit: Unit, wallet_id: str, reason: str) -> bool:
        """Stop a wallet; return False if it is stopped already."""
        stopped = freeze_wallet(unit, wallet_id, reason, now=self._clock.now(), entropy=self._entropy)
        if stopped:
            log.error("wallet_frozen", wallet=wallet_id, message=reason)
        return stopped

    def _differ(self, unit: Unit, wallet: Row, finding: str, height: int, **more: str) -> None:
        """Stop a wallet about which ledger and chain differ, and tell of it."""
        if difference(unit, wallet, finding, now=self._clock.now(), entropy=self._entropy, height=height, **more):
            log.error("wallet_frozen", wallet=wallet.id, message=finding)

    def _accept(self, unit: Unit, wallet: Row, asset: Asset, missing: int, *, accepted: bool) -> bool:
        """Correct the ledger where recovery supposed too much, or a person accepted a loss; tell whether it was."""
        return self._take_back(unit, wallet, asset, missing) or (
            accepted and self._write_off(unit, wallet, asset, missing)
        )

    def _take_back(self, unit: Unit, wallet: Row, asset: Asset, amount: int) -> bool:
        """Take back what recovery had to suppose beyond what the chain shows; tell whether that explains all of it."""
        spendable = ledger.holdings(unit, wallet_id=wallet.id, asset=asset.key).spendable
        if min(spendable, recovery.invented(unit, wallet.id, asset.key)) < amount:
            return False
        lines = supposed(wallet=wallet.id, network=wallet.network, asset=asset.key, amount=-amount)
        ledger.post(unit, lines, transfer_id=None, now=self._clock.now(), entropy=self._entropy)
        return True

    def _write_off(self, unit: Unit, wallet: Row, asset: Asset, amount: int) -> bool:
        """Post a loss that a person accepted; tell whether what is spendable covers it."""
        if ledger.holdings(unit, wallet_id=wallet.id, asset=asset.key).spendable < amount:
            return False
        log.warning("loss_written_off", wallet=wallet.id, asset=asset.key, amount=str(amount))
        lines = written_off(wallet=wallet.id, network=wallet.network, asset=asset.key, amount=amount)
        ledger.post(unit, lines, transfer_id=None, now=self._clock.now(), entropy=self._entropy)
        return True

    def _post_inflow(self, unit: Unit, wallet: Row, asset: Asset, amount: int, height: int) -> None:
        now = self._clock.now()
        lines = inflow(wallet=wallet.id, network=wallet.network, asset=asset.key, amount=amount)
        ledger.post(unit, lines, transfer_id=None, now=now, entropy=self._entropy)
        mandates.note_inflow(unit, wallet_id=wallet.id, asset=asset.key, amount=amount)
        data = {
            "blockchainEvent": {
                "walletId": wallet.id,
                "direction": "In",
                "network": wallet.network,
                "kind": f"{asset.kind}Transfer",
                **({"contract": asset.contract} if asset.contract else {}),
                "blockNumber": height,
                "timestamp": iso(now),
                "to": wallet.address,
                "value": str(amount),
                "status": "Confirmed",
                "metadata": {"asset": {"symbol": asset.symbol, "decimals": asset.decimals, "verified": True}},
            }
        }
        webhooks.emit(
            unit,
            kind="wallet.blockchainevent.detected",
            subject=wallet.id,
            data=data,
            now=now,
            entropy=self._entropy,
        )


def _lost(unit: Unit, wallet_id: str, nonce: int, height: int) -> list[bytes]:
    """Return the bytes of what was final and is not on the chain: it has counted fewer nonces at such a height."""
    lane = lanes.find(unit, wallet_id)
    if lane is None or nonce >= lane.settled_nonce or (lane.settled_block or 0) > height:
        return []
    return lanes.mined_bytes(unit, wallet_id, first=nonce)


def _compared(wallet: Row) -> int:
    """Return the highest final block a wallet was compared at, -1 before the first."""
    return -1 if wallet.compared_block is None else int(wallet.compared_block)
