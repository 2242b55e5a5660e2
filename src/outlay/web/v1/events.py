"""Events read in order, sent again, and the secrets they are signed with."""

import asyncio
from collections import Counter
from typing import Any, ClassVar

from litestar import Controller, get, post

from outlay.actions import webhooks as actions
from outlay.actions.act import Caller
from outlay.core import ids
from outlay.core.errors import InvalidInput
from outlay.core.event import EVENT_KINDS, read_iso
from outlay.store import feed
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments, query_text
from outlay.web.v1.event_shapes import WAIT_MAX_S

LOOK_S = 0.25
"""Pause between looks of a call that waits."""
WAITING_MAX = 64
"""Calls that may wait at once in one process; beyond it they are answered at once."""
WAITING_OF_ONE = 4
"""Of them, those of one caller."""


class RotateSecret(Body):
    """How long the old secret signs beside the new one."""

    overlapMinutes: int = actions.OVERLAP_MINUTES


class Replay(Body):
    """Which events to send again: exactly one of the first three, or ``failed``."""

    eventId: str | None = None
    payoutId: str | None = None
    since: str | None = None
    until: str | None = None
    failed: bool | None = None
    limit: int = actions.REPLAY_MAX
    paginationToken: str | None = None


class EventController(Controller):
    """``/v1``."""

    path = "/v1"
    tags = ("Webhooks",)
    waiting: ClassVar[Counter[str]] = Counter()
    """Calls that wait now, of each caller that has one."""

    @get("/events", summary="Read events in order")
    async def events(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return events after a place, the oldest first, and the place behind them; nothing is ever left out."""
        limit = page_arguments(request)["limit"] or feed.PAGE
        after, kind = query_text(request, "after") or "", query_text(request, "kind")
        payout_id, wait_s = query_text(request, "payoutId"), _wait_s(request)
        if kind is not None and kind not in EVENT_KINDS:
            raise InvalidInput("is no kind of event", field="kind")

        def look(unit: Any, caller: Caller) -> tuple[feed.Page, str]:
            return feed.page(unit, after=after, limit=limit, kind=kind, payout_id=payout_id), caller.user_id

        found, who = await gate.read(request, "Webhooks:Events:Read", look)
        if not found.items and found.is_last and wait_s and _may_wait(who):
            EventController.waiting[who] += 1
            try:
                over = asyncio.get_running_loop().time() + wait_s
                while not found.items and asyncio.get_running_loop().time() < over:
                    await asyncio.sleep(LOOK_S)
                    found, _ = await gate.read(request, "Webhooks:Events:Read", look)
            finally:
                EventController.waiting -= Counter([who])
        return {"items": found.items, "cursor": found.cursor, "isLast": found.is_last}

    @post("/webhooks/{webhook_id:str}/secret", status_code=200, summary="Give a webhook a new secret")
    async def rotate(self, request: StrictRequest, webhook_id: str, data: RotateSecret, gate: Gate) -> dict[str, Any]:
        """Make a new secret, which is in this answer and never again; the old one signs too until the overlap ends."""
        return await gate.write(
            request,
            "Webhooks:Update",
            lambda act: actions.rotate_secret(act, webhook_id, overlap_minutes=data.overlapMinutes),
        )

    @post("/webhooks/{webhook_id:str}/replay", status_code=200, summary="Send events again")
    async def replay(self, request: StrictRequest, webhook_id: str, data: Replay, gate: Gate) -> dict[str, Any]:
        """Send a webhook again what it was told, or missed: one event, a payout's, a time's, or all given up."""
        for name, given, prefix in (("eventId", data.eventId, ids.EVENT), ("payoutId", data.payoutId, ids.TRANSFER)):
            if given is not None and not ids.is_id(given, prefix):
                raise InvalidInput(f"is no id that begins with {prefix}-", field=name)
        since = None if data.since is None else read_iso(data.since, field="since")
        until = None if data.until is None else read_iso(data.until, field="until")
        failed: list[str] | None = None
        if data.failed:
            # There may be very many to look through, and everybody who writes would wait for that.
            await gate.check(request, "Webhooks:Update")
            failed = await gate.db.read(lambda unit: actions.given_up(unit, webhook_id, limit=data.limit))
        return await gate.write(
            request,
            "Webhooks:Update",
            lambda act: actions.replay(
                act,
                webhook_id,
                event_id=data.eventId,
                payout_id=data.payoutId,
                since=since,
                until=until,
                failed=failed,
                limit=data.limit,
                token=data.paginationToken,
            ),
        )


def _may_wait(who: str) -> bool:
    """Tell whether there is a place left to wait in: a few for each, so that nobody takes those of all others."""
    waiting = EventController.waiting
    return waiting[who] < WAITING_OF_ONE and waiting.total() < WAITING_MAX


def _wait_s(request: StrictRequest) -> int:
    text = query_text(request, "wait")
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > 2 or int(text) > WAIT_MAX_S:
        raise InvalidInput(f"is a whole number of seconds from 0 to {WAIT_MAX_S}", field="wait")
    return int(text)
