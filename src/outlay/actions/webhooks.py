"""Endpoints that are told what happens. Not records: they move no money and decide nothing."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from outlay.actions.act import Act
from outlay.core.audit import WEBHOOK_CHANGED
from outlay.core.errors import InvalidInput, NotFound, PreconditionFailed
from outlay.core.event import check_subscription, iso
from outlay.core.seams import Instant
from outlay.store import deliveries, feed, webhooks
from outlay.store.database import Unit

STATUSES = ("Enabled", "Disabled")
DESCRIPTION_MAX = 256
WEBHOOKS_MAX = 100
"""Endpoints there may be at a time: every event goes over all of them."""
OVERLAP_MINUTES, OVERLAP_MINUTES_MAX = 1440, 43_200
"""How long an old secret signs beside the new one unless the caller says otherwise, and at most."""
REPLAY_MAX = 1000
"""Events that one call sends again."""


def check(*, events: Sequence[str] | None, status: str | None, description: str | None) -> list[str] | None:
    """Refuse members that make no sense, and return the events, each once.

    Raises:
        InvalidInput: names the member.
    """
    chosen = None if events is None else check_subscription(events)
    if status is not None and status not in STATUSES:
        raise InvalidInput('is "Enabled" or "Disabled"', field="status")
    if description is not None and len(description) > DESCRIPTION_MAX:
        raise InvalidInput(f"is at most {DESCRIPTION_MAX} characters", field="description")
    return chosen


def _standing(made: webhooks.Webhook) -> dict[str, Any]:
    """Return an endpoint for the audit log; its URL, which may carry a secret, by its digest."""
    events = list(dict.fromkeys(made.events))  # earlier versions stored repetitions
    return {"events": events, "status": made.status, "url": sha256(made.url.encode()).hexdigest()}


def create(act: Act, *, url: str, events: Sequence[str], status: str | None, description: str | None) -> dict[str, Any]:
    """Add an endpoint; the secret is in this answer and never again. The URL was checked before.

    Raises:
        InvalidInput: see ``check``. PreconditionFailed: there are as many as there may be.
    """
    chosen = check(events=events, status=status, description=description) or []
    if len(webhooks.page(act.unit, limit=WEBHOOKS_MAX)[0]) >= WEBHOOKS_MAX:
        raise PreconditionFailed(f"there are at most {WEBHOOKS_MAX} webhooks: delete one that nobody reads")
    made = webhooks.create(
        act.unit,
        url=url,
        events=chosen,
        status=status or "Enabled",
        description=description or "",
        now=act.now,
        entropy=act.entropy,
    )
    act.result_id = made.id
    act.log(WEBHOOK_CHANGED, made.id, before=None, after=_standing(made))
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
    chosen = check(events=events, status=status, description=description)
    act.result_id = webhook_id
    before = webhooks.get(act.unit, webhook_id)
    changed = webhooks.update(
        act.unit, webhook_id, url=url, events=chosen, status=status, description=description, now=act.now
    )
    act.log(WEBHOOK_CHANGED, webhook_id, before=_standing(before), after=_standing(changed))
    return changed.document()


def rotate_secret(act: Act, webhook_id: str, *, overlap_minutes: int) -> dict[str, Any]:
    """Give an endpoint a new secret, which is in this answer and never again; the old one signs too for a while."""
    if not 0 <= overlap_minutes <= OVERLAP_MINUTES_MAX:
        raise InvalidInput(f"is 0 to {OVERLAP_MINUTES_MAX}", field="overlapMinutes")
    made = webhooks.rotate_secret(
        act.unit, webhook_id, overlap_minutes=overlap_minutes, now=act.now, entropy=act.entropy
    )
    act.result_id = webhook_id
    act.log(WEBHOOK_CHANGED, webhook_id, before=_standing(made), after={**_standing(made), "secret": "new"})
    until = {} if made.old_secret_until is None else {"oldSecretUntil": iso(made.old_secret_until)}
    return {**made.document(), "secret": made.secret, **until}


def replay(
    act: Act,
    webhook_id: str,
    *,
    event_id: str | None = None,
    payout_id: str | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    failed: Sequence[str] | None = None,
    limit: int = REPLAY_MAX,
    token: str | None = None,
) -> dict[str, Any]:
    """Send an endpoint again what it subscribes to of one event, one payout, a time, or what was given up.

    Args:
        act: the signed call.
        webhook_id: whom to tell.
        event_id: this event.
        payout_id: those about this payout.
        since: those that happened then or later.
        until: with ``since``: those that happened before.
        failed: those of these ids that are given up, as ``given_up`` found them a moment ago.
        limit: how many at most.
        token: where to go on.

    Raises:
        InvalidInput: not exactly one of them. NotFound: no such endpoint or event.
        PreconditionFailed: the endpoint is disabled.
    """
    if [event_id, payout_id, since, failed].count(None) != 3 or (until is not None and since is None):
        raise InvalidInput("name exactly one of eventId, payoutId, since (and until), failed", field="eventId")
    _check_limit(limit)
    target = webhooks.get(act.unit, webhook_id)
    more: str | None = None
    if failed is not None:
        events = deliveries.parked_events(act.unit, webhook_id, limit=limit, among=failed)
    else:
        which = {"event_id": event_id, "payout_id": payout_id, "since": since, "until": until}
        events, more = feed.chosen(act.unit, **which, after=token or "", limit=limit)  # type: ignore[arg-type]
    if event_id is not None and not events:
        raise NotFound(f"no event {event_id}")
    count = deliveries.replay(act.unit, target, events, now=act.now, entropy=act.entropy)
    act.result_id = webhook_id
    return {"count": count, **({"nextPageToken": more} if more else {})}


def given_up(unit: Unit, webhook_id: str, *, limit: int) -> list[str]:
    """Return the ids of the oldest events that an endpoint was told of in vain. A read: nobody waits for it.

    Raises:
        InvalidInput: a limit outside 1 to ``REPLAY_MAX``.
    """
    _check_limit(limit)
    return [event_id for event_id, _ in deliveries.parked_events(unit, webhook_id, limit=limit)]


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= REPLAY_MAX:
        raise InvalidInput(f"is 1 to {REPLAY_MAX}", field="limit")


def delete(act: Act, webhook_id: str) -> dict[str, Any]:
    """Remove an endpoint."""
    before = webhooks.get(act.unit, webhook_id)
    webhooks.delete(act.unit, webhook_id, now=act.now)
    act.result_id = webhook_id
    act.log(WEBHOOK_CHANGED, webhook_id, before=_standing(before), after=None)
    return {"deleted": True}
