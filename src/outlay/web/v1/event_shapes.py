"""What requests and answers about events and secrets of webhooks hold, for the published description."""

from collections.abc import Mapping

from outlay.actions import webhooks as actions
from outlay.core import ids
from outlay.core.event import EVENT_KINDS
from outlay.store import feed
from outlay.web.wire import ANY_OBJECT, FLAG, TEXT, WHEN, WHOLE, Schema, an_id, exactly, list_of, members, one_of, ref

WAIT_MAX_S = 30

_PLACE: Schema = {**TEXT, "description": "the `cursor` of the page before; leave it out to begin at the first event"}

QUERIES: Mapping[tuple[str, str], Mapping[str, Schema]] = {
    ("get", "/v1/events"): {
        "after": _PLACE,
        "limit": {"type": "integer", "minimum": 1, "maximum": feed.PAGE_MAX},
        "kind": one_of(*EVENT_KINDS),
        "payoutId": an_id(ids.TRANSFER),
        "wait": {
            "type": "integer",
            "minimum": 0,
            "maximum": WAIT_MAX_S,
            "description": "seconds to wait for an event if there is none now",
        },
    },
}
BODIES: Mapping[str, Mapping[str, Schema]] = {
    "RotateSecret": {"overlapMinutes": {"minimum": 0, "maximum": actions.OVERLAP_MINUTES_MAX}},
    "Replay": {
        "eventId": an_id(ids.EVENT),
        "payoutId": an_id(ids.TRANSFER),
        "since": {**WHEN, "description": "events of then and later"},
        "until": {**WHEN, "description": "with since: events before then"},
        "failed": {"const": True, "description": "all that was given up"},
        "limit": {"minimum": 1, "maximum": actions.REPLAY_MAX},
        "paginationToken": {"description": "the `nextPageToken` of the call before"},
    },
}
OBJECTS: Mapping[str, Schema] = {
    "Event": exactly(
        {
            "id": {**an_id(ids.EVENT), "description": "as `webhook-id` says it"},
            "kind": TEXT,
            "date": WHEN,
            "subject": {**TEXT, "description": "id of what it is about"},
            "sequence": {**WHOLE, "description": "its number among the events of its subject"},
            "data": ANY_OBJECT,
        }
    ),
}
ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("get", "/v1/events"): members({"items": list_of(ref("Event")), "cursor": TEXT, "isLast": FLAG}),
    ("post", "/v1/webhooks/{webhookId}/secret"): ref("Webhook"),
    ("post", "/v1/webhooks/{webhookId}/replay"): members({"count": WHOLE}, {"nextPageToken": TEXT}),
}
