"""What requests and answers about the audit log hold, for the published description."""

from collections.abc import Mapping

from outlay.actions.audit import REASON_MAX, SEQ_MAX
from outlay.web.v1.audit import NEWEST, OLDEST, TEXT_MAX
from outlay.web.wire import ANY_OBJECT, FLAG, TEXT, WHEN, WHOLE, Schema, exactly, list_of, members, one_of, ref

_NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": SEQ_MAX}
_NAME: Schema = {"type": "string", "maxLength": TEXT_MAX}
_OR_NULL: Schema = {"anyOf": [ANY_OBJECT, {"type": "null"}]}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "ExportAudit": {"first": {"minimum": 1, "maximum": SEQ_MAX}},
    "ContinueAudit": {"reason": {"minLength": 1, "maxLength": REASON_MAX}},
}
"""What the framework cannot know about bodies, by the name of the body."""

OBJECTS: Mapping[str, Schema] = {
    "AuditEntry": exactly(
        {
            "seq": WHOLE,
            "at": {**WHOLE, "description": "microseconds since 1970"},
            "date": WHEN,
            "actor": {**TEXT, "description": "id of an identity or mandate; engine, signer or nobody"},
            "action": TEXT,
            "subject": TEXT,
            "before": _OR_NULL,
            "after": _OR_NULL,
            "evidence": _TEXT_OR_NULL,
            "request": _TEXT_OR_NULL,
            "hash": TEXT,
        }
    ),
}
"""Objects that answers hold."""

QUERIES: Mapping[tuple[str, str], Mapping[str, Schema]] = {
    ("get", "/v1/audit"): {
        "limit": {"type": "integer", "minimum": 1, "maximum": 500},
        "paginationToken": TEXT,
        "order": one_of(OLDEST, NEWEST),
        "from": WHEN,
        "to": WHEN,
        "first": _NUMBER,
        "last": _NUMBER,
        "actor": _NAME,
        "subject": _NAME,
        "action": {**_NAME, "description": "a name, or the beginning of names with * at its end"},
    },
}
"""What the query may hold."""

ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("get", "/v1/audit"): members({"items": list_of(ref("AuditEntry"))}, {"nextPageToken": TEXT}),
    ("get", "/v1/audit/state"): members(
        {
            "entries": WHOLE,
            "hash": _TEXT_OR_NULL,
            "verifiedSeq": WHOLE,
            "anchoredSeq": WHOLE,
            "broken": _TEXT_OR_NULL,
        },
        {"dateVerified": WHEN, "dateAnchored": WHEN},
    ),
    ("post", "/v1/audit/exports"): exactly(
        {
            "orgId": TEXT,
            "root": TEXT,
            "segment": TEXT,
            "first": WHOLE,
            "prev": TEXT,
            "last": WHOLE,
            "hash": TEXT,
        }
    ),
    ("post", "/v1/audit/continue"): exactly({"continued": FLAG, "problem": TEXT}),
}
"""Operation -> what a success answers."""
