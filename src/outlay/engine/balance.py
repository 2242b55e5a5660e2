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
        self._compared: dict[str, int] = {}

    async def step(self) -> bool:
        """Compare every wallet with the newest final block it was not compared with; tell whether anything differed."""
        found = await self._db.read(wallets.everything)
        moved = False
        for name, chain in self._chains.items():
            try:
                moved = await self._network(chain, [row for row in found if row.network == name]) or moved
            except ChainUnavailable as error:
                log.warning("chain_unavailable", network=name, message=error.message)
        return moved

    async def _network(self, chain: Chain, found: list[Row]) -> bool:
        if not found:
            return False
        final = await chain.final()
        moved = False
        for wallet in found:
            if self._compared.get(wallet.id) == final.number:
                continue
            assets = self._config.assets_of(wallet.network)
            nonce = await chain.nonce_at(wallet.address, final.number)
            shown = [(asset, await chain.balance_at(wallet.address, asset, final.number)) for asset in assets]
            compared, changed = await self._db.write(
                lambda unit, wallet=wallet, nonce=nonce, shown=shown: self._compare(  # type: ignore[misc]
                    unit, wallet, nonce, final.number, shown
                )
            )
            if compared:
                self._compared[wallet.id] = final.number
            moved = moved or changed
        return moved

    def _compare(
        self, unit: Unit, wallet: Row, nonce: int, height: int, shown: list[tuple[Asset, int]]
    ) -> tuple[bool, bool]:
        """Return whether ledger and chain could be compared at ``height``, and whether they differed.

        They can be while every nonce the chain has counted is settled here, and none beyond that height.
        """
        lane = lanes.find(unit, wallet.id)
        ours = 0 if lane is None else lane.next_nonce
        if nonce > ours:
            self._stop(unit, wallet.id, f"somebody else used this wallet's key: {ours} nonces are ours, {nonce} used")
            return True, True
        if lane is not None and (lane.settled_nonce != nonce or (lane.settled_block or 0) > height):
            return False, False
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
        return True, changed

    def _stop(self, unit: Unit, wallet_id: str, reason: str) -> None:
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
