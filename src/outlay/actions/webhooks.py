"""Endpoints that are told what happens. Not records: they move no money and decide nothing."""

from collections.abc import Sequence
from typing import Any

from outlay.actions.act import Act
from outlay.core.errors import InvalidInput
from outlay.core.event import check_subscription
from outlay.store import webhooks

STATUSES = ("Enabled", "Disabled")
DESCRIPTION_MAX = 256


def check(*, events: Sequence[str] | None, status: str | None, description: str | None) -> None:
    """Refuse members that make no sense.

    Raises:
        InvalidInput: names the member.
    """
    if events is not None:
        check_subscription(events)
    if status is not None and status not in STATUSES:
        raise InvalidInput('is "Enabled" or "Disabled"', field="status")
    if description is not None and len(description) > DESCRIPTION_MAX:
        raise InvalidInput(f"is at most {DESCRIPTION_MAX} characters", field="description")


def create(act: Act, *, url: str, events: Sequence[str], status: str | None, description: str | None) -> dict[str, Any]:
    """Add an endpoint; the secret is in this answer and never again. The URL was checked before."""
    check(events=events, status=status, description=description)
    made = webhooks.create(
        act.unit,
        url=url,
        events=events,
        status=status or "Enabled",
        description=description or "",
        now=act.now,
        entropy=act.entropy,
    )
    act.result_id = made.id
    return {**made.document(), "secret": made.secret}


def update(
    act: Act,
    webhook_id: str,
    *,
    url: str | None,
    events: Sequence[str] | None,
    status: str | None,
    description: str | None,
) -> dict[str, Any]:
    """Change what is given. The URL was checked before."""
    check(events=events, status=status, description=description)
    act.result_id = webhook_id
    return webhooks.update(
        act.unit, webhook_id, url=url, events=events, status=status, description=description, now=act.now
    ).document()


def delete(act: Act, webhook_id: str) -> dict[str, Any]:
    """Remove an endpoint."""
    webhooks.delete(act.unit, webhook_id, now=act.now)
    act.result_id = webhook_id
    return {"deleted": True}
