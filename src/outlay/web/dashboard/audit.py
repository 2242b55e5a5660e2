"""The audit log: who did what, when, to what; and whether any of it was changed since."""

from typing import Any

from litestar import Controller, Response, get

from outlay.actions import audit, overview
from outlay.actions.act import Caller
from outlay.core.audit import ACTIONS, CALL, RECORD
from outlay.core.errors import InvalidInput, NotFound
from outlay.core.event import EVENT_KINDS
from outlay.store import audit as entries
from outlay.store import organizations
from outlay.store.database import Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.dashboard.lists import NEXT, instant_of, loose, pages
from outlay.web.gate import page_arguments, query_text
from outlay.web.v1.audit import TEXT_MAX, number_of

READ = "Audit:Read"
PAGE = 50
GOING: tuple[str, ...] = (f"{RECORD}*", "payout.*", "session.*", "event.*", "log.*", CALL)
"""Beginnings of names that the filter offers beside the names themselves."""

_PAGES = {
    "xfr": "payouts",
    "wa": "wallets",
    "plc": "policies",
    "ap": "approvals",
    "wh": "webhooks",
    "us": "people",
    "bat": "batches",
    "pool": "pools",
    "sc": "schedules",
}


class AuditPages(Controller):
    """``/dashboard/audit``."""

    path = f"{ROOT}/audit"

    @get()
    async def entries(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List entries, the newest first."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            problem, found = None, dict[str, Any](items=[])
            try:
                found = _page(unit, request)
            except InvalidInput as error:
                problem = f"{error.field}: {error.message}"
            items = found["items"]
            return {
                "log": items,
                "names": overview.names_for(unit, caller, [each["actor"] for each in items]),
                "pages": pages(request, found.get("nextPageToken")),
                "standing": loose(audit.standing(unit)),
                "root": organizations.get(unit).root,
                "problem": problem,
                "actions": [*GOING, *(name for name in ACTIONS if not name.endswith("*"))],
                "meanings": ACTIONS,
            }

        return await desk.page(request, "audit.html", READ, load, title="Audit log")

    @get("/{seq:int}")
    async def entry(self, request: StrictRequest, seq: int, desk: Desk) -> Response[str]:
        """Show one entry: before and after, and what it is chained to."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            row = entries.find(unit, seq) if 0 < seq <= audit.SEQ_MAX else None
            if row is None:
                raise NotFound("there is no such entry")
            before = entries.find(unit, seq - 1) if seq > 1 else None
            newest = entries.head(unit)
            return {
                "entry": loose(audit.document(row)),
                "names": overview.names_for(unit, caller, [row.actor]),
                "meaning": meaning_of(row.action),
                "place": place_of(row.subject),
                "before_hash": None if before is None else before.hash,
                "is_newest": newest is not None and newest.seq == seq,
            }

        return await desk.page(request, "audit_entry.html", READ, load, title=f"Entry {seq}")


def _page(unit: Unit, request: StrictRequest) -> dict[str, Any]:
    named = {name: query_text(request, name) for name in ("actor", "subject", "action")}
    for name, text in named.items():
        if text is not None and len(text) > TEXT_MAX:
            raise InvalidInput(f"is at most {TEXT_MAX} characters", field=name)
    asked = page_arguments(request)
    return audit.page(
        unit,
        limit=asked["limit"] or PAGE,
        token=number_of(asked["token"], NEXT),
        since=instant_of(request, "from"),
        until=instant_of(request, "to"),
        actor=named["actor"],
        subject=named["subject"],
        action=named["action"],
    )


def meaning_of(action: str) -> str:
    """Return what an entry of this name says."""
    found = ACTIONS.get(action)
    if found is None and action.startswith(RECORD):
        found = ACTIONS[f"{RECORD}*"]
    return found or EVENT_KINDS.get(action.partition(".")[2], "")


def place_of(subject: str) -> str | None:
    """Return the page of the dashboard that shows a subject, below its root, or None."""
    kind = subject.partition("-")[0]
    return f"{_PAGES[kind]}/{subject}" if kind in _PAGES and "/" not in subject else None
