"""What requests and answers of payouts look like, for the published description; with examples."""

from collections.abc import Mapping
from typing import Any

from outlay.actions.explain import NOT_KEPT, NOT_MATCHING, PASSED, TRIGGERED
from outlay.actions.payouts import BATCH_MAX
from outlay.actions.resolve import OUTCOMES
from outlay.core import ids
from outlay.core.intent import MEMO_MAX, PRIORITIES
from outlay.core.transfer import State
from outlay.web.wire import (
    ADDRESS,
    AMOUNT,
    ANY_OBJECT,
    EXTERNAL_ID,
    FLAG,
    MANDATE,
    TEXT,
    USER,
    WALLET,
    WHEN,
    WHOLE,
    Schema,
    an_id,
    list_of,
    members,
    one_of,
    page,
    ref,
)

PAYOUT, POOL, BATCH = an_id(ids.TRANSFER), an_id(ids.POOL), an_id(ids.BATCH)
_DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ASSET: Schema = {"type": "string", "description": "native, or the token's contract"}
_STATE = one_of(*State)
_PAGED: Mapping[str, Schema] = {"limit": {"type": "integer", "minimum": 1, "maximum": 500}, "paginationToken": TEXT}

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "RequestPayout": {
        "walletId": WALLET,
        "poolId": POOL,
        "recipient": ADDRESS,
        "amount": AMOUNT,
        "externalId": EXTERNAL_ID,
        "memo": {"maxLength": MEMO_MAX, "description": "shown to people beside the payout; not on the chain"},
        "priority": one_of(*PRIORITIES),
    },
    "RequestBatch": {"items": list_of(ref("RequestPayout"), least=1, most=BATCH_MAX)},
    "ResolvePayout": {"outcome": one_of(*OUTCOMES), "reason": {"minLength": 1, "maxLength": 1000}},
}
"""Body -> member -> what its type alone does not say."""

OBJECTS: Mapping[str, Schema] = {
    "Payout": members(
        {
            "id": PAYOUT,
            "state": {
                **_STATE,
                "description": "where it stands; confirmed, failed, rejected, canceled, expired end it",
            },
            "walletId": {**WALLET, "description": "who pays; of a pool's payout, the wallet it counts for now"},
            "network": TEXT,
            "asset": _ASSET,
            "recipient": ADDRESS,
            "amount": AMOUNT,
            "priority": one_of(*PRIORITIES),
            "initiatorId": {"anyOf": [USER, MANDATE]},
            "dateRequested": WHEN,
        },
        {
            "externalId": EXTERNAL_ID,
            "reason": {"type": "string", "description": "why it ended so"},
            "waitingReason": {"type": "string", "description": "why it is not on its way yet"},
            "flag": TEXT,
            "delayedSince": {**WHEN, "description": "found to be late in the state it is in"},
            "poolId": POOL,
            "batchId": BATCH,
            "symbol": TEXT,
            "decimals": WHOLE,
            "memo": TEXT,
            "valueUsd": {"type": "string", "pattern": "^[0-9]+\\.[0-9]{8}$", "description": "when it was requested"},
            "approvalId": an_id(ids.APPROVAL),
            "txHash": {"type": "string", "pattern": "^0x[0-9a-f]{64}$"},
            "fee": {"type": "string", "pattern": "^[0-9]+$", "description": "paid, base units of the network's coin"},
            **dict.fromkeys(("dateReady", "dateBroadcasted", "dateConfirmed"), WHEN),
        },
    ),
    "Explanation": members(
        {
            "words": {"type": "array", "items": TEXT, "description": "the same in plain English, line by line"},
            "payout": ref("Payout"),
            "redacted": {
                **FLAG,
                "description": "who asks may not read policies or evaluations: kinds and verdicts only",
            },
            "verdict": members(
                {"kind": one_of("allow", "hold", "wait", "block", "unknown"), "byDefault": FLAG},
                {"date": WHEN, "reasons": list_of(TEXT)},
            ),
            "policiesAreCertain": {**FLAG, "description": "the records tell which policies were in force then"},
            "policies": list_of(
                members(
                    {"rule": TEXT, "action": TEXT, "result": one_of(TRIGGERED, PASSED, NOT_MATCHING, NOT_KEPT)},
                    {
                        "policyId": an_id(ids.POLICY),
                        "name": TEXT,
                        "version": WHOLE,
                        "activityKind": TEXT,
                        "why": TEXT,
                        "policy": ANY_OBJECT,
                        "evaluations": list_of(ANY_OBJECT),
                    },
                )
            ),
            "history": list_of(
                members({"event": TEXT, "from": TEXT, "to": TEXT, "date": WHEN}, {"detail": ANY_OBJECT})
            ),
        },
        {
            "price": ANY_OBJECT,
            "policySet": _DIGEST,
            "approval": ANY_OBJECT,
            "construction": ANY_OBJECT,
            "transaction": ANY_OBJECT,
        },
    ),
    "PayoutBatch": members(
        {
            "id": BATCH,
            "digest": _DIGEST,
            "initiatorId": USER,
            "dateCreated": WHEN,
            "count": WHOLE,
            "refused": {"type": "integer", "minimum": 0, "description": "how many items were refused and not stored"},
            "items": list_of(
                members(
                    {"externalId": EXTERNAL_ID},
                    {
                        "payout": ref("Payout"),
                        "error": members({"code": TEXT, "message": TEXT, "details": ANY_OBJECT}),
                    },
                ),
                least=1,
                most=BATCH_MAX,
            ),
        }
    ),
}
"""Name -> schema of what answers are made of."""

ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("get", "/v1/payouts"): page("Payout"),
    ("post", "/v1/payouts"): ref("Payout"),
    ("get", "/v1/payouts/{payoutId}"): ref("Payout"),
    ("post", "/v1/payouts/{payoutId}/cancel"): ref("Payout"),
    ("post", "/v1/payouts/{payoutId}/resolve"): ref("Payout"),
    ("get", "/v1/payouts/{payoutId}/explanation"): ref("Explanation"),
    ("post", "/v1/payouts/batch"): ref("PayoutBatch"),
    ("get", "/v1/payouts/batch/{batchId}"): ref("PayoutBatch"),
    ("post", "/v1/payouts/batch/{batchId}/decisions"): ref("PayoutBatch"),
}

QUERIES: Mapping[tuple[str, str], Mapping[str, Schema]] = {
    ("get", "/v1/payouts"): {
        **_PAGED,
        "state": _STATE,
        "externalId": EXTERNAL_ID,
        "walletId": WALLET,
        "poolId": POOL,
        "batchId": BATCH,
        "asset": _ASSET,
        "recipient": ADDRESS,
        "initiatorId": TEXT,
        "since": {**WHEN, "description": "requested then or later"},
        "until": {**WHEN, "description": "requested before"},
        "delayed": {**FLAG, "description": "only those that are late, or only those that are not"},
    },
}

MESSAGES = frozenset(
    {("post", "/v1/payouts"), ("post", "/v1/payouts/batch"), ("post", "/v1/payouts/{payoutId}/cancel")}
)
"""Operations that may be signed as one HTTP message."""

ONLY_MESSAGES = frozenset({("post", "/v1/payouts/batch")})
"""Operations that can be signed in no other way."""

SCHEME: Schema = {
    "type": "apiKey",
    "in": "header",
    "name": "Signature",
    "description": "HTTP Message Signatures (RFC 9421): one signature labelled outlay over @method, @target-uri and"
    " content-digest (outlay-records-head and outlay-batch-digest where sent), with created, expires (at most 900 s"
    " later), nonce (128 bits or more) and keyid (your credential's id); Ed25519 or ECDSA P-256. No bearer token.",
}

_REQUEST: dict[str, Any] = {
    "externalId": "invoice-2041",
    "walletId": "wa-3vk9p-0q8ad-2m5t7c1x9e4r6y8u",
    "asset": "USDC",
    "recipient": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "amount": "25000000",
    "memo": "Invoice 2041",
}
_ANSWER: dict[str, Any] = {
    "id": "xfr-71p0c-5r2dv-k8a3w9s6f4h2n0b7",
    "externalId": "invoice-2041",
    "state": "ready",
    "walletId": "wa-3vk9p-0q8ad-2m5t7c1x9e4r6y8u",
    "network": "EthereumSepolia",
    "asset": "0x1c7d4b196cb0c7b01d743fbc6116a902379c7238",
    "symbol": "USDC",
    "decimals": 6,
    "recipient": "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
    "amount": "25000000",
    "memo": "Invoice 2041",
    "priority": "Standard",
    "valueUsd": "25.00000000",
    "initiatorId": "us-0c2mw-8d7qz-x4b6n8v0l2k4j6h8",
    "dateRequested": "2030-01-31T12:00:00.000Z",
    "dateReady": "2030-01-31T12:00:00.000Z",
}
_BATCH: dict[str, Any] = {
    "id": "bat-9s3fk-1w7ex-p5o7i9u1y3t5r7e9",
    "digest": "9f2c6d0e4b8a1735c0d4e8f2a6b1735e9c4d8f0a2b6e1735d9c0f4a8b2e6d173",
    "initiatorId": "us-0c2mw-8d7qz-x4b6n8v0l2k4j6h8",
    "dateCreated": "2030-01-31T12:00:00.000Z",
    "count": 2,
    "refused": 1,
    "items": [
        {"externalId": "invoice-2041", "payout": {**_ANSWER, "batchId": "bat-9s3fk-1w7ex-p5o7i9u1y3t5r7e9"}},
        {
            "externalId": "invoice-2042",
            "error": {"code": "not_found", "message": "no such wallet", "details": {}},
        },
    ],
}

_EXPLAINED: dict[str, Any] = {
    "words": ["Payout xfr-71p0c-5r2dv-k8a3w9s6f4h2n0b7 of 25 USDC ...", "It may go and waits for its turn."],
    "payout": _ANSWER,
    "redacted": False,
    "verdict": {"kind": "allow", "date": "2030-01-31T12:00:00.000Z", "byDefault": False, "reasons": []},
    "price": {"usd": "1", "source": "static", "date": "2030-01-31T12:00:00.000Z"},
    "policiesAreCertain": True,
    "policies": [
        {
            "policyId": "plc-4d7wn-2k9sb-q6z8x0c2v4b6n8m0",
            "name": "Large payouts",
            "version": 1,
            "activityKind": "Wallets:Sign",
            "rule": "TransactionAmountLimit",
            "action": "RequestApproval",
            "result": PASSED,
            "evaluations": [
                {
                    "moment": "admission",
                    "date": "2030-01-31T12:00:00.000Z",
                    "triggered": False,
                    "context": {"value": "25", "threshold": "10000"},
                }
            ],
        }
    ],
    "history": [{"event": "allowed", "from": "requested", "to": "ready", "date": "2030-01-31T12:00:00.000Z"}],
}

EXAMPLES: Mapping[tuple[str, str], tuple[Any, Any]] = {
    ("post", "/v1/payouts"): (_REQUEST, _ANSWER),
    ("post", "/v1/payouts/batch"): ({"items": [_REQUEST, {**_REQUEST, "externalId": "invoice-2042"}]}, _BATCH),
    ("get", "/v1/payouts"): (None, {"items": [_ANSWER]}),
    ("get", "/v1/payouts/{payoutId}"): (None, _ANSWER),
    ("post", "/v1/payouts/{payoutId}/cancel"): (
        None,
        {**_ANSWER, "state": "canceled", "reason": "Taken back by its initiator."},
    ),
    ("get", "/v1/payouts/{payoutId}/explanation"): (None, _EXPLAINED),
    ("post", "/v1/payouts/{payoutId}/resolve"): (
        {"outcome": "paid", "reason": "The token takes a fee; the recipient agreed to bear it."},
        {**_ANSWER, "state": "confirmed", "flag": "effect_mismatch"},
    ),
    ("get", "/v1/payouts/batch/{batchId}"): (None, _BATCH),
    ("post", "/v1/payouts/batch/{batchId}/decisions"): ({"value": "Approved", "reason": "salaries"}, _BATCH),
}
"""Operation -> an example of its body, if it has one, and of its answer."""
