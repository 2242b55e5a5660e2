"""Webhooks and their delivery attempts."""

from typing import Any, Protocol

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from outlay.actions import webhooks as actions
from outlay.store import deliveries, webhooks
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate, page_arguments, query_flag, query_text


class Courier(Protocol):
    """What delivers events, as far as the routes need it."""

    async def check_url(self, url: str) -> None:
        """Refuse a URL that must not be called. Raises InvalidInput."""
        ...

    async def ping(self, webhook: webhooks.Webhook) -> dict[str, str]:
        """Send a made-up event and say how it went."""
        ...


AnyCourier = NamedDependency[SkipValidation[Courier]]


class CreateWebhook(Body):
    """An endpoint to be told."""

    url: str
    events: list[str]
    status: str | None = None
    description: str | None = None


class UpdateWebhook(Body):
    """What may change of an endpoint."""

    url: str | None = None
    events: list[str] | None = None
    status: str | None = None
    description: str | None = None


def _page(request: StrictRequest) -> dict[str, Any]:
    page = page_arguments(request)
    return {name: value for name, value in page.items() if value is not None}


class WebhookController(Controller):
    """``/webhooks``."""

    path = "/webhooks"
    tags = ("Webhooks",)

    @get(summary="List webhooks")
    async def list_(self, request: StrictRequest, gate: Gate) -> dict[str, Any]:
        """Return one page of endpoints, without secrets."""
        page = _page(request)

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            found, token = webhooks.page(unit, **page)
            return {"items": [each.document() for each in found], **({"nextPageToken": token} if token else {})}

        return await gate.read(request, "Webhooks:Read", read)

    @post(status_code=200, summary="Create a webhook")
    async def create(
        self, request: StrictRequest, data: CreateWebhook, gate: Gate, courier: AnyCourier
    ) -> dict[str, Any]:
        """Add an endpoint; its secret is in this answer and never again."""
        await gate.check(request, "Webhooks:Create")
        await courier.check_url(data.url)
        return await gate.write(
            request,
            "Webhooks:Create",
            lambda act: actions.create(
                act, url=data.url, events=data.events, status=data.status, description=data.description
            ),
        )

    @get("/{webhook_id:str}", summary="Read a webhook")
    async def read(self, request: StrictRequest, webhook_id: str, gate: Gate) -> dict[str, Any]:
        """Return one endpoint, without its secret."""
        return await gate.read(request, "Webhooks:Read", lambda unit, _: webhooks.get(unit, webhook_id).document())

    @put("/{webhook_id:str}", summary="Change a webhook")
    async def update(
        self, request: StrictRequest, webhook_id: str, data: UpdateWebhook, gate: Gate, courier: AnyCourier
    ) -> dict[str, Any]:
        """Change what is given and leave the rest."""
        if data.url is not None:
            await gate.check(request, "Webhooks:Update")
            await courier.check_url(data.url)
        return await gate.write(
            request,
            "Webhooks:Update",
            lambda act: actions.update(
                act,
                webhook_id,
                url=data.url,
                events=data.events,
                status=data.status,
                description=data.description,
            ),
        )

    @delete("/{webhook_id:str}", status_code=200, summary="Delete a webhook")
    async def remove(self, request: StrictRequest, webhook_id: str, gate: Gate) -> dict[str, Any]:
        """Remove an endpoint."""
        await request.expect_empty()
        return await gate.write(request, "Webhooks:Delete", lambda act: actions.delete(act, webhook_id))

    @post("/{webhook_id:str}/ping", status_code=200, summary="Ping a webhook")
    async def ping(self, request: StrictRequest, webhook_id: str, gate: Gate, courier: AnyCourier) -> dict[str, Any]:
        """Send a made-up event and say how it went."""
        await request.expect_empty()

        def found(act: Any) -> webhooks.Webhook:
            act.result_id = webhook_id
            return webhooks.get(act.unit, webhook_id)

        return await courier.ping(await gate.write(request, "Webhooks:Ping", found))

    @get("/{webhook_id:str}/events", summary="List delivery attempts")
    async def events(self, request: StrictRequest, webhook_id: str, gate: Gate) -> dict[str, Any]:
        """Return one page of the attempts that were made, newest first."""
        page, kind = _page(request), query_text(request, "kind")
        failed = query_flag(request, "deliveryFailed", "delivery_failed")

        def read(unit: Any, _caller: Any) -> dict[str, Any]:
            found, token = deliveries.list_events(unit, webhook_id, kind=kind, delivery_failed=failed, **page)
            return {"items": [each.document() for each in found], **({"nextPageToken": token} if token else {})}

        return await gate.read(request, "Webhooks:Events:Read", read)

    @get("/{webhook_id:str}/events/{event_id:str}", summary="Read a delivery attempt")
    async def event(self, request: StrictRequest, webhook_id: str, event_id: str, gate: Gate) -> dict[str, Any]:
        """Return one attempt."""
        return await gate.read(
            request,
            "Webhooks:Events:Read",
            lambda unit, _: deliveries.get_event(unit, webhook_id, event_id).document(),
        )
