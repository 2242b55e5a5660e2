"""Wallets: what each holds by the ledger and by the chain, what is under way, and why one stands still."""

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Controller, Response, get

from outlay.actions import present, refill
from outlay.actions import wallets as actions
from outlay.actions.act import Caller
from outlay.config import Config
from outlay.core.asset import NATIVE
from outlay.core.seams import Instant
from outlay.store import holdings, lanes, mandates, pools, stops, wallets
from outlay.store.database import Row, Unit
from outlay.store.ledger import Holdings
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.gate import page_arguments

READ = "Wallets:Read"
SLOTS_SHOWN = 50


def standings(unit: Unit, config: Config, rows: Sequence[Row], *, now: Instant) -> list[dict[str, Any]]:
    """Return wallets as the API answers them, with what they hold, what is under way and why they stand still."""
    names = [row.id for row in rows]
    held, sequences = holdings.held(unit, names), holdings.lanes(unit, names)
    waiting, flow, stopped = pools.ready_in_lanes(unit, names), refill.flow(unit, now=now), stops.Stops(unit)
    frozen = {(each.network, each.asset): each.reason for each in wallets.frozen_assets(unit)}
    return [
        {
            **dict.fromkeys(("name", "frozenReason", "drainedReason")),
            **present.wallet(unit, row),
            "balances": _balances(config, row, held[row.id], flow, frozen),
            "comparedBlock": row.compared_block,
            "lane": sequences.get(row.id),
            "waiting": waiting.get(row.id, (0, None))[0],
            "oldestWaiting": waiting.get(row.id, (0, None))[1],
            "stopped": stopped.why(network=row.network, wallet_id=row.id),
        }
        for row in rows
    ]


def _balances(
    config: Config,
    row: Row,
    held: Mapping[str, Holdings],
    flow: refill.Flow,
    frozen: Mapping[tuple[str, str], str],
) -> list[dict[str, Any]]:
    """Return what a wallet holds of every configured asset, the coin first, and of others that it still holds."""
    listed = {asset.key: asset for asset in config.assets_of(row.network)}
    keys = [NATIVE, *sorted({*listed, *held} - {NATIVE})]
    found = []
    for key in keys:
        asset, has = listed.get(key), held.get(key, Holdings(0, 0))
        if asset is None and not has.total:
            continue
        found.append(
            {
                "asset": key,
                "symbol": key if asset is None else asset.symbol,
                "decimals": None if asset is None else asset.decimals,
                "spendable": has.spendable,
                "reserved": has.reserved,
                "hours": flow.hours(row.id, key, has.spendable),
                "frozen": frozen.get((row.network, key)),
            }
        )
    return found


def assets_shown(config: Config) -> list[dict[str, Any]]:
    """Return every configured asset, for forms: network, key, symbol, decimals."""
    return [
        {"network": network, "asset": asset.key, "symbol": asset.symbol, "decimals": asset.decimals}
        for network in config.networks
        for asset in config.assets_of(network)
    ]


class WalletPages(Controller):
    """``/dashboard/wallets``."""

    path = f"{ROOT}/wallets"

    @get()
    async def list_(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List wallets with what they hold."""
        now, config = desk.gate.clock.now(), desk.gate.config

        def load(unit: Unit, _caller: Caller) -> dict[str, Any]:
            page = page_arguments(request)
            rows, token = wallets.list_page(unit, limit=page["limit"] or 20, token=page["token"])
            return {
                "wallets": standings(unit, config, rows, now=now),
                "token": token,
                "networks": sorted(config.networks),
                "heights": {row.network: row.final_number for row in stops.networks(unit)},
            }

        return await desk.page(request, "wallets.html", READ, load, title="Wallets")

    @get("/{wallet_id:str}")
    async def read(self, request: StrictRequest, desk: Desk, wallet_id: str) -> Response[str]:
        """Show one wallet: balances, its lane, what fills it."""
        now, config = desk.gate.clock.now(), desk.gate.config

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = actions.get(unit, wallet_id)
            state = stops.find_network(unit, row.network)
            may_see = "Mandates:Read" in caller.operations
            filled = refill.filled(unit, mandates.active(unit)) if may_see else []
            return {
                "wallet": standings(unit, config, [row], now=now)[0],
                "slots": lanes.transactions(unit, wallet_id, *lanes.UNSETTLED, limit=SLOTS_SHOWN),
                "height": None if state is None else state.final_number,
                "mandates": [mandate for mandate, each in filled if each.id == wallet_id],
                "pools": _pools_of(unit, row) if "Pools:Read" in caller.operations else [],
                "stops": [
                    {"id": each.id, "scope": each.scope, "subject": each.subject, "reason": each.reason}
                    for each in stops.everything(unit)
                    if (each.scope, each.subject) in (("all", ""), ("network", row.network), ("wallet", row.id))
                ],
            }

        return await desk.page(request, "wallet.html", READ, load, title="Wallet")


def _pools_of(unit: Unit, row: Row) -> list[Row]:
    """Return the pools in use that a wallet is in."""
    tags, (rows, _) = wallets.tags(unit, row.id), pools.list_page(unit, limit=500, token=None)
    return [
        each
        for each in rows
        if each.status == pools.ACTIVE
        and each.tag in tags
        and (each.network, each.chain_id) == (row.network, row.chain_id)
    ]
