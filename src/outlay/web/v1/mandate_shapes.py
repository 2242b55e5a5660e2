"""What requests and answers about mandates hold, for the published description."""

from collections.abc import Mapping

from outlay.core import ids
from outlay.core.mandate import BASE, COUNT_MAX, GAS_TOP_UP, NAME_MAX, PAYOUTS, REFILL, WALLETS_MAX
from outlay.core.velocity import TIMEFRAME_MAX
from outlay.web.wire import ADDRESS, FLAG, TEXT, WALLET, WHEN, WHOLE, Schema, an_id, exactly, list_of, members, one_of

_DIGITS: Schema = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,77})$"}
_AMOUNT: Schema = {"pattern": "^[1-9][0-9]{0,77}$", "description": "base units"}
_LEVEL: Schema = {**_AMOUNT, "description": f"base units, or payouts where the unit is {PAYOUTS}"}
_COUNTED: Schema = {"type": "integer", "minimum": 1}
_TREASURY: Schema = {"oneOf": [exactly({"walletId": WALLET}), exactly({"external": ADDRESS})]}
_WALLETS: Schema = {
    "oneOf": [
        exactly({"walletIds": list_of(WALLET, least=1, most=WALLETS_MAX, unique=True)}),
        exactly({"tag": {"type": "string", "minLength": 1, "maxLength": 64}}),
        exactly({"poolId": an_id(ids.POOL)}),
    ]
}
_WINDOW = exactly(
    {
        "amount": {"type": "string", **_AMOUNT},
        "count": {**_COUNTED, "maximum": COUNT_MAX},
        "minutes": {**_COUNTED, "maximum": TIMEFRAME_MAX},
    }
)

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "CreateMandate": {
        "name": {"minLength": 1, "maxLength": NAME_MAX},
        "kind": one_of(REFILL, GAS_TOP_UP),
        "asset": {"description": f"native, or the contract of a token; {GAS_TOP_UP} is always native"},
        "treasury": _TREASURY,
        "wallets": _WALLETS,
        "unit": {**one_of(BASE, PAYOUTS), "description": f"{PAYOUTS} only with {GAS_TOP_UP}"},
        "min": _LEVEL,
        "target": _LEVEL,
        "max": _LEVEL,
        "perRefillMax": _AMOUNT,
        "window": _WINDOW,
    },
}
"""What the framework cannot know about bodies, by the name of the body."""

_MANDATE: Mapping[str, Schema] = {
    "id": an_id(ids.MANDATE),
    "name": TEXT,
    "kind": one_of(REFILL, GAS_TOP_UP),
    "network": TEXT,
    "asset": TEXT,
    "treasury": _TREASURY,
    "wallets": _WALLETS,
    "unit": one_of(BASE, PAYOUTS),
    "min": _DIGITS,
    "target": _DIGITS,
    "max": _DIGITS,
    "perRefillMax": _DIGITS,
    "window": _WINDOW,
    "status": one_of("Active", "Archived"),
    "dateCreated": WHEN,
}

OBJECTS: Mapping[str, Schema] = {
    "Mandate": members(
        _MANDATE,
        {
            "dateArchived": WHEN,
            "balances": list_of(
                members(
                    {"walletId": WALLET, "spendable": _DIGITS, "threshold": _DIGITS, "coming": _DIGITS, "low": FLAG},
                    {"hoursToEmpty": WHOLE, "waitingReason": TEXT},
                )
            ),
        },
    ),
    "RefillProposal": members(
        {
            "id": an_id(ids.PROPOSAL),
            "mandateId": an_id(ids.MANDATE),
            "walletId": WALLET,
            "network": TEXT,
            "to": ADDRESS,
            "asset": TEXT,
            "amount": _DIGITS,
            "seen": _DIGITS,
            "status": one_of("Open", "Fulfilled", "Withdrawn"),
            "reason": TEXT,
            "transaction": members({"to": ADDRESS, "value": _DIGITS, "data": TEXT}),
            "dateOpened": WHEN,
        },
        {"treasury": ADDRESS, "dateClosed": WHEN},
    ),
}
"""What answers hold, by name."""
