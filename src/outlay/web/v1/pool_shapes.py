"""What requests and answers about pools hold, for the published description."""

from collections.abc import Mapping

from outlay.actions.pools import NAME_MAX
from outlay.core import ids
from outlay.store.pools import ACTIVE, ARCHIVED
from outlay.web.wire import FLAG, TEXT, WALLET, WHEN, WHOLE, Schema, an_id, exactly, list_of, one_of

_REASON: Mapping[str, Schema] = {"reason": {"minLength": 1, "maxLength": 1000}}
_DIGITS: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,77}$"}

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "CreatePool": {
        "name": {"minLength": 1, "maxLength": NAME_MAX},
        "network": {"description": "a configured network"},
        "tag": {"minLength": 1, "maxLength": 64, "description": "wallets that carry it are in the pool"},
    },
    "DrainWallet": _REASON,
}
"""What the framework cannot know about bodies, by the name of the body."""

_POOL: Mapping[str, Schema] = {
    "id": an_id(ids.POOL),
    "name": TEXT,
    "network": TEXT,
    "tag": TEXT,
    "status": one_of(ACTIVE, ARCHIVED),
    "dateCreated": WHEN,
}
_MEMBER = exactly(
    {
        "walletId": WALLET,
        "takesWork": FLAG,
        "isStuck": {**FLAG, "description": "its oldest transaction is not mined for long"},
        "pending": {**WHOLE, "description": "payouts in its lane that are not bound to a nonce"},
        "inFlight": {**WHOLE, "description": "nonces that are bound and not final"},
        "spendable": list_of(exactly({"asset": TEXT, "amount": _DIGITS})),
    },
    {
        "reason": {**TEXT, "description": "why it gets no new work"},
        "oldestSeconds": {**WHOLE, "description": "age of the oldest payout it has to do with"},
        "feeHeadroom": {**WHOLE, "description": "payouts whose fee cap its coins still cover"},
    },
)
_QUEUE = exactly(
    {
        "waiting": {**WHOLE, "description": "payouts that no wallet was chosen for"},
        "unpayable": {**WHOLE, "description": "those of them that no wallet could pay when they were looked at last"},
    },
    {"oldestSeconds": {**WHOLE, "description": "since when the oldest of them may go"}},
)

OBJECTS: Mapping[str, Schema] = {
    "Pool": exactly(_POOL),
    "PoolHealth": exactly({**_POOL, "queue": _QUEUE, "wallets": list_of(_MEMBER)}),
}
"""Answers by name."""
