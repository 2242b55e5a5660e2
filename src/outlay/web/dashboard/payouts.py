"""Payouts: finding one among all, and everything that is known of it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from litestar import Controller, Response, get

from outlay.actions import overview, present_payouts
from outlay.actions.act import Caller
from outlay.actions.explain import explain
from outlay.core.errors import InvalidInput, NotAuthenticated, OutlayError
from outlay.core.transfer import MISMATCH, State
from outlay.evidence.keys import fingerprint
from outlay.store import batches, deliveries, feed, lanes, organizations, transfers, users, wallets
from outlay.store.database import Row, Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.lists import instant_of, loose, pages
from outlay.web.gate import page_arguments, query_flag, query_text
from outlay.web.v1.payouts import filters_of

READ = "Wallets:Transfers:Read"
PATH = f"{ROOT}/payouts"
ID_MAX = 64
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
EVENTS_MAX = 100
"""Events of one payout that its page shows, the oldest first."""

PROOF = (
    "Auth:Users:Read",
    "Permissions:Read",
    "Policies:Evaluations:Read",
    "Policies:Read",
    "Wallets:Read",
    READ,
)
"""What one must be permitted to take the proof of a payout along."""


class PayoutPages(Controller):
    """``/dashboard/payouts``."""

    path = PATH

    @get()
    async def payouts(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List payouts, newest first."""
        gate = desk.gate

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            problem, rows, token = None, list[Row](), None
            try:
                filters = filters_of(request)
                since, until = instant_of(request, "since"), instant_of(request, "until")
                delayed, page = query_flag(request, "delayed"), page_arguments(request)
                found, token = batches.payout_page(unit, filters, since=since, until=until, delayed=delayed, **page)
                rows = list(found)
            except InvalidInput as error:
                problem = f"{error.field}: {error.message}"
            return {
                "payouts": [loose(present_payouts.payout(row, gate.config)) for row in rows],
                "names": overview.names_for(unit, caller, [row.initiator_id for row in rows]),
                "states": list(State),
                "problem": problem,
                "pages": pages(request, token),
                "missing": query_text(request, "missing"),
            }

        return await desk.page(request, "payouts.html", READ, load, title="Payouts")

    @get("/find")
    async def find(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """Lead to what a text names: a payout by one of its ids or transactions, or what was paid to an address."""
        text = request.query_params.get("q", "").strip()

        try:
            place = await desk.gate.read(request, READ, lambda unit, _caller: _place(unit, text))
        except NotAuthenticated:
            return desk.ask_to_sign_in(request)
        except OutlayError as error:
            return await desk.refuse(request, error)
        return Response("", status_code=303, headers={"Location": place}, media_type="text/html")

    @get("/{payout_id:str}")
    async def payout(self, request: StrictRequest, payout_id: str, desk: Desk) -> Response[str]:
        """Show all that is known of one payout, as far as the caller may read it."""
        gate = desk.gate

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            told = explain(unit, payout_id, gate.config, caller.operations)
            row = transfers.get(unit, payout_id)
            return {
                "told": loose(told),
                "paid": loose(told["payout"]),
                "why": why_of(told["words"]),
                "wallet": wallets.find(unit, row.wallet_id) if "Wallets:Read" in caller.operations else None,
                "names": overview.names_for(unit, caller, [row.initiator_id]),
                "events": _events(unit, caller, payout_id),
                "proof": _proof(unit, row) if all(each in caller.operations for each in PROOF) else None,
                "can": _can(row, caller, told),
            }

        return await desk.page(request, "payout.html", READ, load, title=f"Payout {payout_id}")


def why_of(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the lines of an explanation, each with those that belong to it, without what the page shows elsewhere.

    Args:
        words: as ``explain`` words them: first what is paid, last what happened.
    """
    found: list[tuple[str, list[str]]] = []
    for line in words[1:]:
        if line.startswith("  ") and found:
            found[-1][1].append(line.strip())
        else:
            found.append((line.removeprefix("- "), []))
    return found[:-1]


def _place(unit: Unit, text: str) -> str:
    """Return the page of what a text names."""
    if _ADDRESS.fullmatch(text):
        return f"{PATH}?recipient={text}"
    is_name = text.isprintable()  # PostgreSQL takes no zero byte in a text
    found = transfers.find(unit, text) if is_name and len(text) <= ID_MAX else None
    if found is None and _HASH.fullmatch(text):
        slot = lanes.find_sent(unit, text.lower())
        found = None if slot is None or slot.transfer_id is None else transfers.find(unit, slot.transfer_id)
    if found is None and is_name:
        found = transfers.find_by_external_id(unit, text)
    if found is not None:
        return f"{PATH}/{quote(found.id, safe='')}"
    return f"{PATH}?{urlencode({'missing': text[:ID_MAX]})}" if text else PATH


def _events(unit: Unit, caller: Caller, payout_id: str) -> list[dict[str, Any]] | None:
    """Return the events about a payout and whether endpoints took them; None: the caller may not read them."""
    if "Webhooks:Events:Read" not in caller.operations:
        return None
    items = feed.page(unit, limit=EVENTS_MAX, payout_id=payout_id).items
    told = deliveries.newest_of(unit, [each["id"] for each in items])
    return [{**each, "deliveries": told.get(each["id"], [])} for each in items]


def _proof(unit: Unit, row: Row) -> dict[str, Any]:
    """Return what identifies a payout beyond this server."""
    key = None if row.credential_id is None else users.find_credential(unit, row.credential_id)
    return {
        "intent": row.intent_digest,
        "policies": row.policy_set,
        "key": None if key is None else fingerprint(key.public_key),
        "root": organizations.get(unit).root,
        "is_signed": row.signed_at is not None,
    }


def _can(row: Row, caller: Caller, told: Mapping[str, Any]) -> dict[str, bool]:
    """Return what the caller may do about a payout as it stands; the server judges again."""
    state, may = State(row.state), caller.operations
    attempts = told.get("construction", {}).get("attempts", ())
    is_sent = state is State.BROADCAST and "Wallets:Transactions:Create" in may
    is_void = any(each["purpose"] == lanes.VOID for each in attempts)
    is_final = told.get("transaction", {}).get("isFinal", False)
    return {
        "cancel": row.initiator_id == caller.user_id
        and state in (State.HELD, State.READY)
        and "Wallets:Transfers:Abort" in may,
        "void": is_sent and not is_void,
        "speed_up": is_sent and not is_void,
        "resolve": row.flag == MISMATCH and state is State.MINED and is_final and "Wallets:Unfreeze" in may,
    }
