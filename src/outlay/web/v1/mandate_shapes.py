"""What requests and answers about mandates hold, for the published description."""

from collections.abc import Mapping

from outlay.core import ids
from outlay.core.calendar import LEAVE_OUT_MAX, WEEKDAYS
from outlay.core.intent import MEMO_MAX
from outlay.core.mandate import BASE, COUNT_MAX, GAS_TOP_UP, NAME_MAX, PAYOUTS, REFILL, WALLETS_MAX
from outlay.core.recurring import CATCH_UP_MAX, RECURRING, RUNS_MAX
from outlay.core.transfer import State
from outlay.core.velocity import TIMEFRAME_MAX
from outlay.web.wire import (
    ADDRESS,
    FLAG,
    MANDATE,
    TEXT,
    WALLET,
    WHEN,
    WHOLE,
    Schema,
    an_id,
    exactly,
    list_of,
    members,
    one_of,
)

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
_DATE: Schema = {"type": "string", "pattern": "^2[01][0-9]{2}-[01][0-9]-[0-3][0-9]$", "description": "YYYY-MM-DD"}
_CALENDAR: Schema = {
    **exactly(
        {"every": one_of("day", "week", "month"), "at": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}},
        {
            "days": {**list_of(one_of(*WEEKDAYS), least=1, most=7, unique=True), "description": "of a week"},
            "day": {
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": 31}, {"const": "last"}],
                "description": "of a month; where a month has no such day, its last",
            },
            "adjust": {
                **one_of("none", "next", "previous"),
                "description": "where a run goes whose date is a weekend or left out; none: it stays, or is left out",
            },
            "leaveOut": list_of(_DATE, most=LEAVE_OUT_MAX, unique=True),
        },
    ),
    "description": "days goes with week, day with month",
}
_ZONE: Schema = {"type": "string", "description": "of the IANA time zones, e.g. Europe/Berlin"}
_MISSED = exactly({"catchUpMinutes": {**_COUNTED, "maximum": CATCH_UP_MAX}})
_MEMO: Schema = {"type": "string", "maxLength": MEMO_MAX}

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "CreateMandate": {
        "name": {"minLength": 1, "maxLength": NAME_MAX},
        "kind": one_of(REFILL, GAS_TOP_UP, RECURRING),
        "asset": {"description": f"native, or the contract of a token; {GAS_TOP_UP} is always native"},
        "treasury": _TREASURY,
        "wallets": _WALLETS,
        "unit": {**one_of(BASE, PAYOUTS), "description": f"{PAYOUTS} only with {GAS_TOP_UP}"},
        "min": _LEVEL,
        "target": _LEVEL,
        "max": _LEVEL,
        "perRefillMax": _AMOUNT,
        "window": _WINDOW,
        "amount": {**_AMOUNT, "description": f"base units; this and what follows is of {RECURRING}"},
        "recipient": ADDRESS,
        "memo": _MEMO,
        "walletId": {**WALLET, "description": "who pays; or poolId"},
        "poolId": an_id(ids.POOL),
        "calendar": _CALENDAR,
        "timeZone": _ZONE,
        "from": _DATE,
        "until": _DATE,
        "runsMax": {**_COUNTED, "maximum": RUNS_MAX, "description": "dates; those that were missed count"},
        "missed": _MISSED,
    },
}
"""What the framework cannot know about bodies, by the name of the body."""

_EVERY: Mapping[str, Schema] = {
    "id": MANDATE,
    "name": TEXT,
    "network": TEXT,
    "asset": TEXT,
    "status": one_of("Active", "Archived"),
    "dateCreated": WHEN,
}
_REFILL: Mapping[str, Schema] = {
    **_EVERY,
    "kind": one_of(REFILL, GAS_TOP_UP),
    "treasury": _TREASURY,
    "wallets": _WALLETS,
    "unit": one_of(BASE, PAYOUTS),
    "min": _DIGITS,
    "target": _DIGITS,
    "max": _DIGITS,
    "perRefillMax": _DIGITS,
    "window": _WINDOW,
}
_RECURRING: Mapping[str, Schema] = {
    **_EVERY,
    "kind": one_of(RECURRING),
    "amount": _DIGITS,
    "recipient": ADDRESS,
    "memo": TEXT,
    "calendar": _CALENDAR,
    "timeZone": _ZONE,
    "from": _DATE,
    "missed": _MISSED,
}
_PAYER: Mapping[str, Schema] = {"walletId": WALLET, "poolId": an_id(ids.POOL)}
_WHEN: Mapping[str, Schema] = {
    "date": _DATE,
    "local": {**TEXT, "description": "date and time as the zone's clocks show them"},
    "timeZone": _ZONE,
    "dateDue": WHEN,
}
_NEXT = list_of(members(_WHEN), most=5)

NEXT: Mapping[str, Schema] = {"next": _NEXT}
"""What a page of runs holds beside them."""

OBJECTS: Mapping[str, Schema] = {
    "Mandate": {
        "oneOf": [
            members(
                _REFILL,
                {
                    "dateArchived": WHEN,
                    "balances": list_of(
                        members(
                            {
                                "walletId": WALLET,
                                "spendable": _DIGITS,
                                "threshold": _DIGITS,
                                "coming": _DIGITS,
                                "low": FLAG,
                            },
                            {"hoursToEmpty": WHOLE, "waitingReason": TEXT},
                        )
                    ),
                },
            ),
            members(_RECURRING, {**_PAYER, "until": _DATE, "runsMax": WHOLE, "dateArchived": WHEN, "next": _NEXT}),
        ]
    },
    "MandateRun": members(
        {**_WHEN, "mandateId": an_id(ids.SCHEDULE), "status": one_of("Due", "Made", "Missed")},
        {
            "reason": {**TEXT, "description": "why it waits, or was missed"},
            "payoutId": an_id(ids.TRANSFER),
            "payoutState": one_of(*State),
            "dateResolved": WHEN,
            "name": {**TEXT, "description": "of the mandate; in events"},
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
