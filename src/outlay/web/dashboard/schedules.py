"""Schedules: recurring payouts with what became of each date, and mandates that keep wallets filled."""

from typing import Any

from litestar import Controller, Response, get, post

from outlay.actions import mandates, recurring
from outlay.actions.act import Caller
from outlay.actions.refill import proposal
from outlay.config import Config
from outlay.core.address import checksum
from outlay.core.errors import InvalidInput
from outlay.core.recurring import RECURRING, is_recurring, parse_recurring
from outlay.core.seams import Instant
from outlay.store import mandates as rows
from outlay.store import pools, wallets
from outlay.store import recurring as run_rows
from outlay.store.database import Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.calendar_words import calendar_words
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.wallets import assets_shown
from outlay.web.gate import Gate, page_arguments, query_text

READ = "Mandates:Read"
KINDS = {"recurring": True, "refill": False, "all": None}
RUNS = (run_rows.DUE, run_rows.MADE, run_rows.MISSED)
OPTIONS_MAX = 500


def _asset(config: Config, network: str, key: str) -> dict[str, Any]:
    """Return how amounts of an asset are written; without decimals if it is not configured any more."""
    found = config.find_asset(network, key)
    return {
        "key": key,
        "symbol": key if found is None else found.symbol,
        "decimals": None if found is None else found.decimals,
    }


def _shown(config: Config, document: dict[str, Any]) -> dict[str, Any]:
    """Return a mandate as pages show it."""
    words = calendar_words(document["calendar"], document["timeZone"]) if document["kind"] == RECURRING else None
    return {**document, "words": words, "shown": _asset(config, document["network"], document["asset"])}


def _payer(unit: Unit, caller: Caller, document: dict[str, Any]) -> dict[str, Any]:
    """Return who pays under a mandate; by name for those who may read wallets, or pools."""
    if "walletId" in document:
        may, found = "Wallets:Read" in caller.operations, wallets.find(unit, document["walletId"])
    else:
        may, found = "Pools:Read" in caller.operations, pools.find(unit, document["poolId"])
    payer = document.get("walletId") or document["poolId"]
    return {"id": payer, "name": found.name if may and found is not None else None}


def _recurring(
    unit: Unit,
    config: Config,
    caller: Caller,
    document: dict[str, Any],
    *,
    now: Instant,
    status: str | None,
    page: dict[str, Any],
) -> dict[str, Any]:
    """Return what the page of a recurring payout shows."""
    if status is not None and status not in RUNS:
        raise InvalidInput("use one of " + ", ".join(RUNS), field="status")
    return {
        "schedule": _shown(config, document),
        "payer": _payer(unit, caller, document),
        "runs": recurring.runs(unit, document["id"], status=status, now=now, **page),
        "showing": status,
    }


def _refill(unit: Unit, config: Config, caller: Caller, mandate_id: str, *, now: Instant) -> dict[str, Any]:
    """Return what the page of a mandate shows that keeps wallets filled."""
    document = mandates.standing(unit, config, mandate_id, now=now)
    found, _ = rows.proposals_page(unit, mandate_id, status=None, limit=20, token=None)
    named = [each["walletId"] for each in document["balances"]] if "Wallets:Read" in caller.operations else []
    # Levels of a gas top-up may count payouts; what is held and what goes at once are always base units.
    return {
        "mandate": _shown(config, document),
        "names": {row.id: row.name for row in wallets.find_many(unit, named)},
        "proposals": [proposal(unit, row) for row in found],
    }


def _form(unit: Unit, config: Config, caller: Caller) -> dict[str, Any]:
    """Return what the form of a recurring payout offers."""
    payers, _ = (
        wallets.list_page(unit, limit=OPTIONS_MAX, token=None) if "Wallets:Read" in caller.operations else ([], None)
    )
    among, _ = pools.list_page(unit, limit=OPTIONS_MAX, token=None) if "Pools:Read" in caller.operations else ([], None)
    return {
        "assets": assets_shown(config),
        "wallets": [row for row in payers if row.status == "Active"],
        "pools": [row for row in among if row.status == pools.ACTIVE],
    }


class SchedulePages(Controller):
    """``/dashboard/schedules``."""

    path = f"{ROOT}/schedules"

    @get()
    async def list_(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List recurring payouts, or the mandates that fill wallets."""
        now, config = desk.gate.clock.now(), desk.gate.config

        def load(unit: Unit, _caller: Caller) -> dict[str, Any]:
            page, kind = page_arguments(request), query_text(request, "kind") or "all"
            status = query_text(request, "status") or "Active"
            if kind not in KINDS:
                raise InvalidInput("use one of " + ", ".join(KINDS), field="kind")
            if status not in ("Active", "Archived", "all"):
                raise InvalidInput("use one of Active, Archived, all", field="status")
            wanted = None if status == "all" else status
            found, token = rows.list_page(unit, status=wanted, recurring=KINDS[kind], **page)
            items = []
            for row in found:
                shown = _shown(config, mandates.mandate_document(row))
                if is_recurring(row.id) and row.status == rows.ACTIVE:
                    shown["next"] = recurring.next_runs(run_rows.mandate_of(row), now=now, count=1)
                items.append(shown)
            return {"items": items, "token": token, "kind": kind, "showing": status}

        return await desk.page(request, "schedules.html", READ, load, title="Schedules")

    @get("/new")
    async def new(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Show the form of a new recurring payout."""
        config = desk.gate.config
        return await desk.page(
            request,
            "schedule_new.html",
            (READ, "Mandates:Create"),
            lambda unit, caller: _form(unit, config, caller),
            title="New recurring payout",
        )

    @get("/{mandate_id:str}")
    async def read(self, request: StrictRequest, desk: Desk, mandate_id: str) -> Response[str]:
        """Show a schedule: what it says, what comes next, what became of each date; or how the wallets stand."""
        now, config = desk.gate.clock.now(), desk.gate.config
        template = "schedule.html" if is_recurring(mandate_id) else "refill.html"

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = mandates.get(unit, mandate_id)
            if not is_recurring(mandate_id):
                return _refill(unit, config, caller, mandate_id, now=now)
            page, status = page_arguments(request), query_text(request, "status")
            document = mandates.mandate_document(row)
            return _recurring(unit, config, caller, document, now=now, status=status, page=page)

        return await desk.page(request, template, READ, load, title="Schedule")

    @post("/check", status_code=200)
    async def check(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Tell what a draft of a recurring payout would do and when it would pay next; a read, whatever its method."""
        payload, now = await request.payload(), gate.clock.now()

        def read(unit: Unit, _caller: Caller) -> dict[str, Any]:
            drafted = parse_recurring(payload, id="draft")
            mandates.check_recurring(unit, gate.config, drafted)
            document = drafted.document()
            return {
                "document": document,
                "recipient": checksum(drafted.recipient),
                "words": calendar_words(document["calendar"], document["timeZone"]),
                "shown": _asset(gate.config, drafted.network, drafted.asset),
                "next": recurring.next_runs(drafted, now=now),
            }

        return await gate.read(request, READ, read)
