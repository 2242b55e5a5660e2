"""Webhooks: who is told of events, what was delivered and what was not, and sending again."""

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Controller, Response, get

from outlay.actions.act import Caller
from outlay.core.event import EVENT_KINDS, EVERY_KIND
from outlay.store import deliveries, webhooks
from outlay.store.database import Unit
from outlay.web.body import StrictRequest
from outlay.web.dashboard.desk import ROOT, Desk
from outlay.web.gate import page_arguments, query_flag, query_text

READ = "Webhooks:Read"
READ_EVENTS = "Webhooks:Events:Read"
PAGE = 50


def _kinds() -> Mapping[str, Sequence[tuple[str, str]]]:
    """Return every kind of event with what it tells, under the first word of its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, meaning in EVENT_KINDS.items():
        found.setdefault(kind.split(".")[0], []).append((kind, meaning))
    return found


def _shown(each: webhooks.Webhook) -> dict[str, Any]:
    return {**each.document(), "tells_all": EVERY_KIND in each.events, "old_secret_until": each.old_secret_until}


class WebhookPages(Controller):
    """``/dashboard/webhooks``."""

    path = f"{ROOT}/webhooks"

    @get()
    async def webhooks(self, request: StrictRequest, desk: Desk) -> Response[str]:
        """List the endpoints."""

        def load(unit: Unit, _caller: Caller) -> dict[str, Any]:
            page = page_arguments(request)
            found, token = webhooks.page(unit, limit=page["limit"] or PAGE, token=page["token"])
            return {"webhooks": [_shown(each) for each in found], "next": token, "kinds": _kinds()}

        return await desk.page(request, "webhooks.html", READ, load, title="Webhooks")

    @get("/{webhook_id:str}")
    async def webhook(self, request: StrictRequest, webhook_id: str, desk: Desk) -> Response[str]:
        """Show one endpoint and the attempts to tell it."""

        def load(unit: Unit, caller: Caller) -> dict[str, Any]:
            shown: dict[str, Any] = {
                "webhook": _shown(webhooks.get(unit, webhook_id)),
                "kinds": _kinds(),
                "attempts": None,
                "next": None,
            }
            if READ_EVENTS in caller.operations:
                page, kind = page_arguments(request), query_text(request, "kind")
                shown["attempts"], shown["next"] = deliveries.list_events(
                    unit,
                    webhook_id,
                    kind=kind,
                    delivery_failed=query_flag(request, "failed"),
                    limit=page["limit"] or PAGE,
                    token=page["token"],
                )
            return shown

        return await desk.page(request, "webhook.html", READ, load, title="Webhook")

    @get("/{webhook_id:str}/attempts/{attempt_id:str}")
    async def attempt(self, request: StrictRequest, webhook_id: str, attempt_id: str, desk: Desk) -> Response[str]:
        """Show one attempt and what was told."""

        def load(unit: Unit, _caller: Caller) -> dict[str, Any]:
            return {
                "webhook": _shown(webhooks.get(unit, webhook_id)),
                "attempt": deliveries.get_event(unit, webhook_id, attempt_id),
            }

        return await desk.page(request, "attempt.html", [READ, READ_EVENTS], load, title="Delivery")
