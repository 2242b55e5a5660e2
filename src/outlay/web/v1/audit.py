"""The audit log."""

from typing import Any

from litestar import Controller, get, post

from outlay.actions import audit
from outlay.actions.audit import SEQ_MAX
from outlay.core.errors import InvalidInput
from outlay.core.event import read_iso
from outlay.store.paging import LIMIT_DEFAULT
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments, query_text

OLDEST, NEWEST = "oldest", "newest"
TEXT_MAX = 160


class ExportAudit(Body):
    """From which entry on."""

    first: int = 1


class ContinueAudit(Body):
    """What a person found."""

    reason: str


class AuditController(Controller):
    """``/v1/audit``."""

    path = "/v1/audit"
    tags = ("Audit",)

    @get(summary="Read the audit log")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of entries, the newest first unless ``order`` says otherwise.

        A page may hold few entries, or none, and still name a next one: what is rare is looked for page by page.
        """
        order = query_text(request, "order") or NEWEST
        if order not in (OLDEST, NEWEST):
            raise InvalidInput(f'is "{OLDEST}" or "{NEWEST}"', field="order")
        page = page_arguments(request)
        named = {name: _name(request, name) for name in ("actor", "subject", "action")}
        since, until = (_instant(request, name) for name in ("from", "to"))
        bounds = {name: number_of(query_text(request, name), name) for name in ("first", "last")}
        token = number_of(page["token"], "paginationToken")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            return audit.page(
                unit,
                limit=page["limit"] or LIMIT_DEFAULT,
                token=token,
                is_oldest_first=order == OLDEST,
                first=bounds["first"],
                last=bounds["last"],
                since=since,
                until=until,
                **named,
            )

        return await gate.read(request, "Audit:Read", read)

    @get("/state", summary="Read how the audit log stands")
    async def read_state(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return how long the log is, how far it was checked and anchored, and what is wrong with it."""
        return await gate.read(request, "Audit:Read", lambda unit, _caller: audit.standing(unit))

    @post("/exports", status_code=200, summary="Take the audit log along")
    async def export(self, request: StrictRequest, data: ExportAudit, gate: Gate) -> dict[str, Any]:
        """Write down that the log is exported, and return where the file begins and ends; its entries are read then."""
        if not 1 <= data.first <= SEQ_MAX:
            raise InvalidInput("is a number of an entry", field="first")
        return await gate.write(request, "Audit:Read", lambda act: audit.begin_export(act, first=data.first))

    @post("/continue", status_code=200, summary="Go on with a broken audit log")
    async def go_on(self, request: StrictRequest, data: ContinueAudit, gate: Gate) -> dict[str, Any]:
        """Let payouts be admitted again although the log is broken, after a person has looked."""
        return await gate.write(request, "Outlay:Unfreeze", lambda act: audit.go_on(act, reason=data.reason))


def _name(request: StrictRequest, name: str) -> str | None:
    text = query_text(request, name)
    if text is not None and len(text) > TEXT_MAX:
        raise InvalidInput(f"is at most {TEXT_MAX} characters", field=name)
    return text


def _instant(request: StrictRequest, name: str) -> int | None:
    text = query_text(request, name)
    return None if text is None else read_iso(text, field=name)


def number_of(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    is_whole = text.isascii() and text.isdecimal() and len(text) <= 16
    if not is_whole or not 1 <= int(text) <= SEQ_MAX:
        raise InvalidInput("is the number of an entry", field=name)
    return int(text)
