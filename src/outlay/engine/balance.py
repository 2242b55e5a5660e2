"""Ledger against chain, block by final block: what arrived is posted, what is missing stops the wallet."""

from collections.abc import Mapping

import structlog

from outlay.chains import Chain
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import ChainUnavailable
from outlay.core.event import iso
from outlay.core.ledger import inflow
from outlay.core.seams import Clock, Entropy
from outlay.engine.guard import guarded
from outlay.store import lanes, ledger, organizations, wallets, webhooks
from outlay.store.database import Database, Row, Unit

log = structlog.get_logger()


class Balance:
    """Compares what the chain shows at a final height with what the ledger says for that height."""

    def __init__(
        self, db: Database, clock: Clock, entropy: Entropy, config: Config, chains: Mapping[str, Chain]
    ) -> None:
        """Keep the parts."""
        self._db, self._clock, self._entropy, self._config, self._chains = db, clock, entropy, config, chains

    async def step(self) -> bool:
        """Compare every wallet with the newest final block it was not compared with; tell whether anything differed."""
        found = await self._db.read(wallets.everything)
        moved = False
        for name, chain in self._chains.items():
            mine = [row for row in found if row.network == name]
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
                    looked = await guarded(self._db, wallet.id, self._wallet(chain, wallet, final.number))
                    moved = bool(looked) or moved
        return moved

    async def _wallet(self, chain: Chain, wallet: Row, height: int) -> bool:
        nonce = await chain.nonce_at(wallet.address, height)
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
        ours = 0 if lane is None else lane.next_nonce
        if nonce > ours:
            self._stop(unit, wallet.id, f"somebody else used this wallet's key: {ours} nonces are ours, {nonce} used")
            return True
        if lane is not None and (lane.settled_nonce != nonce or (lane.settled_block or 0) > height):
            return False
        wallets.update(unit, wallet.id, compared_block=height)
        changed = False
        for asset, balance in shown:
            held = ledger.holdings(unit, wallet_id=wallet.id, asset=asset.key).total
            if balance > held:
                self._post_inflow(unit, wallet, asset, balance - held, height)
                changed = True
            elif balance < held:
                text = f"at block {height} the chain shows {balance} {asset.symbol} base units, the ledger {held}"
                self._stop(unit, wallet.id, text)
                changed = True
        return changed

    def _stop(self, unit: Unit, wallet_id: str, reason: str) -> None:
        known = wallets.find(unit, wallet_id)
        if known is not None and known.frozen_reason is None:
            log.error("wallet_frozen", wallet=wallet_id, message=reason)
            wallets.freeze(unit, wallet_id, reason)
            organizations.bump_epoch(unit)

    def _post_inflow(self, unit: Unit, wallet: Row, asset: Asset, amount: int, height: int) -> None:
        now = self._clock.now()
        lines = inflow(wallet=wallet.id, network=wallet.network, asset=asset.key, amount=amount)
        ledger.post(unit, lines, transfer_id=None, now=now, entropy=self._entropy)
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


def _compared(wallet: Row) -> int:
    """Return the highest final block a wallet was compared at, -1 before the first."""
    return -1 if wallet.compared_block is None else int(wallet.compared_block)
