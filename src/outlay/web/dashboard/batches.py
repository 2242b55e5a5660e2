"""Batches: files of payouts, from choosing one to what became of every row."""

from collections.abc import Mapping
from typing import Any

from litestar import Controller, Request, Response, get

from outlay.actions import overview, present_batches
from outlay.actions.act import Caller
from outlay.config import Config
from outlay.core.address import checksum
from outlay.core.errors import InvalidInput, NotFound
from outlay.core.transfer import State
from outlay.store import pools, submissions, wallets
from outlay.store.database import Row, Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.lists import loose, pages
from outlay.web.gate import page_arguments, query_text

READ = "Wallets:Transfers:Read"
CREATE = "Wallets:Transfers:Create"
PAGE = 50
ROWS = 50
_PAYERS_MAX = 500
_ROW_STATES = (submissions.WAITING, submissions.REFUSED, *(str(each) for each in State))
_LAST_ROW = 999_999_999


def _payers(unit: Unit, caller: Caller) -> list[dict[str, str]]:
    """Return the wallets and pools that a file could be paid from, as far as the caller may see them."""
    found: list[dict[str, str]] = []
    if "Pools:Read" in caller.operations:
        rows, _ = pools.list_page(unit, limit=_PAYERS_MAX, token=None)
        found += [
            {"id": row.id, "member": "poolId", "network": row.network, "name": f"pool {row.name}", "whole": row.id}
            for row in rows
            if row.status == "Active"
        ]
    if "Wallets:Read" in caller.operations:
        rows, _ = wallets.list_page(unit, limit=_PAYERS_MAX, token=None)
        found += [
            {
                "id": row.id,
                "member": "walletId",
                "network": row.network,
                "name": row.name or row.address,
                "whole": checksum(row.address),
            }
            for row in rows
            if row.status == "Active"
        ]
    return found


def _assets(config: Config, *networks: str) -> Mapping[str, list[dict[str, Any]]]:
    """Return what can be paid on each network, as the reader of files needs it."""
    return {
        network: [
            {"key": each.key, "symbol": each.symbol, "decimals": each.decimals} for each in config.assets_of(network)
        ]
        for network in networks
    }


def _payer_name(unit: Unit, caller: Caller, row: Row) -> str:
    """Return who pays: by name for those who may read pools, or wallets."""
    if row.pool_id is not None:
        pool = pools.find(unit, row.pool_id) if "Pools:Read" in caller.operations else None
        return str(row.pool_id) if pool is None else f"pool {pool.name}"
    wallet = wallets.find(unit, row.wallet_id) if "Wallets:Read" in caller.operations else None
    return str(row.wallet_id) if wallet is None else str(wallet.name or wallet.address)


def _outcomes(unit: Unit, row: Row, config: Config, *, first: int, state: str | None) -> tuple[list[Any], int | None]:
    """Return one page of rows with what became of each, and where the next page begins."""
    found = submissions.outcomes(unit, row.id, first=first, limit=ROWS + 1, state=state)
    shown = []
    for each in found[:ROWS]:
        outcome = present_batches.outcome(each, row)
        asset = present_batches.find_asset(config, row.network, outcome["asset"])
        outcome["decimals"] = None if asset is None else asset.decimals
        outcome["symbol"] = None if asset is None else asset.symbol
        shown.append(outcome)
    return shown, found[ROWS].place if len(found) > ROWS else None


def _first(request: Request[Any, Any, Any]) -> int:
    text = query_text(request, "from") or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_LAST_ROW))):
        raise InvalidInput(f"is a whole number from 0 to {_LAST_ROW}", field="from")
    return int(text)


class BatchPages(Controller):
    """``/dashboard/batches``."""

    path = f"{ROOT}/batches"

    @get()
    async def batches(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List files of payouts."""
        config = desk.gate.config

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            page, state = page_arguments(request), query_text(request, "state")
            if state is not None and state not in submissions.STATES:
                raise InvalidInput("must be one of " + ", ".join(submissions.STATES), field="state")
            rows, token = submissions.listed(unit, state=state, limit=page["limit"] or PAGE, token=page["token"])
            names = overview.names_for(unit, caller, [row.initiator_id for row in rows])
            return {
                "batches": [
                    {
                        **loose(present_batches.batch(row, config)),
                        "value": present_batches.worth(row),
                        "payer": _payer_name(unit, caller, row),
                        "by": names.get(row.initiator_id, row.initiator_id),
                    }
                    for row in rows
                ],
                "states": submissions.STATES,
                "pages": pages(request, token),
            }

        return await desk.page(request, "batches.html", READ, load, title="Batches")

    @get("/new")
    async def new(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Choose a file, look at what it says, and submit it."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            payers = _payers(unit, caller)
            networks = sorted({each["network"] for each in payers})
            return {"payers": payers, "assets": _assets(desk.gate.config, *networks)}

        return await desk.page(request, "batch_new.html", [READ, CREATE], load, title="Pay a file")

    @get("/{batch_id:str}")
    async def batch(self, request: StrictRequest, batch_id: str, desk: Desk) -> Response[str]:
        """Show one file: how far it is, what became of its rows, and what the reader could decide about all of it."""
        config, now = desk.gate.config, desk.gate.clock.now()

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row, state = submissions.find(unit, batch_id), query_text(request, "state")
            if row is None:
                raise NotFound("there is no such batch")
            if state is not None and state not in _ROW_STATES:
                raise InvalidInput("must be one of " + ", ".join(_ROW_STATES), field="state")
            shown = present_batches.batch_now(unit, row, config, user_id=caller.user_id, now=now)
            rows, following = _outcomes(unit, row, config, first=_first(request), state=state)
            return {
                "batch": loose(shown),
                "value": present_batches.worth(row),
                "by": overview.names_for(unit, caller, [row.initiator_id]).get(row.initiator_id, row.initiator_id),
                "payer": _payer_name(unit, caller, row),
                "rows": loose(rows),
                "next": following,
                "assets": _assets(config, row.network),
            }

        return await desk.page(request, "batch.html", READ, load, title="Batch")
