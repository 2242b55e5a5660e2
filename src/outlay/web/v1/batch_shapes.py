"""What requests and answers about files of payouts look like, for the published description."""

from collections.abc import Mapping

from outlay.actions.check_rows import RESULTS
from outlay.actions.submissions import ROWS_MAX
from outlay.core import ids
from outlay.core.intent import MEMO_MAX
from outlay.core.transfer import State
from outlay.evidence.submission import COUNT_MAX
from outlay.store import submissions
from outlay.web.v1.batches import PAGE_DEFAULT, ROW_STATES
from outlay.web.wire import (
    ADDRESS,
    AMOUNT,
    ANY_OBJECT,
    EXTERNAL_ID,
    TEXT,
    USER,
    WALLET,
    WHEN,
    WHOLE,
    Schema,
    an_id,
    exactly,
    list_of,
    members,
    one_of,
    page,
    ref,
)

_POOL, _BATCH = an_id(ids.POOL), an_id(ids.BATCH)
_DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ASSET: Schema = {"type": "string", "description": "native, a contract, or the symbol of a listed asset"}
_MONEY: Schema = {"type": "string", "pattern": "^[0-9]+\\.[0-9]{8}$"}
_ITEM = exactly(
    {"externalId": EXTERNAL_ID, "network": TEXT, "asset": _ASSET, "recipient": ADDRESS, "amount": AMOUNT},
    {"memo": {"type": "string", "maxLength": MEMO_MAX}},
)
_TOTAL = members(
    {"asset": _ASSET, "count": WHOLE, "amount": TEXT},
    {"network": TEXT, "symbol": TEXT, "decimals": WHOLE, "valueUsd": _MONEY},
)
_ROWS = list_of(_ITEM, least=1, most=ROWS_MAX)
_CHECKED_ROWS = list_of({"anyOf": [_ITEM, ANY_OBJECT]}, least=1, most=ROWS_MAX)
"""What is wrong with a row is what the answer tells: it is no reason to refuse the call."""

BODIES: Mapping[str, Mapping[str, Schema]] = {
    "CheckRows": {"rows": _CHECKED_ROWS, "walletId": WALLET, "poolId": _POOL},
    "SubmitBatch": {
        "digest": {**_DIGEST, "description": "of the rows in their order, as the reference of batches says"},
        "count": {"minimum": 1, "maximum": COUNT_MAX},
        "walletId": WALLET,
        "poolId": _POOL,
    },
    "UploadRows": {"rows": _ROWS, "from": {"minimum": 0, "maximum": COUNT_MAX - 1}},
}
"""Body -> member -> what its type alone does not say."""

OBJECTS: Mapping[str, Schema] = {
    "Batch": members(
        {
            "id": _BATCH,
            "name": TEXT,
            "state": one_of(*submissions.STATES),
            "network": TEXT,
            "digest": _DIGEST,
            "count": WHOLE,
            "uploaded": {**WHOLE, "description": "rows that are here: where to go on"},
            "admitted": {**WHOLE, "description": "rows that were looked at"},
            "refused": {**WHOLE, "description": "rows that were refused"},
            "initiatorId": USER,
            "totals": list_of(_TOTAL),
            "dateCreated": WHEN,
        },
        {
            "walletId": WALLET,
            "poolId": _POOL,
            "reason": TEXT,
            "valueUsd": {**_MONEY, "description": "of the payouts so far; left out once the price of one is not known"},
            "dateSubmitted": WHEN,
            "dateDone": WHEN,
            "states": {"type": "object", "additionalProperties": WHOLE},
            "decision": exactly({"digest": _DIGEST, "groups": list_of(ANY_OBJECT), "waiting": WHOLE, "words": TEXT}),
            "settling": {**WHOLE, "description": "decisions that are being carried out"},
        },
    ),
    "BatchRow": exactly(
        {
            "index": WHOLE,
            "externalId": EXTERNAL_ID,
            "network": TEXT,
            "asset": _ASSET,
            "recipient": ADDRESS,
            "amount": AMOUNT,
            "state": one_of(submissions.WAITING, submissions.REFUSED, *State),
        },
        {
            "memo": TEXT,
            "payoutId": an_id(ids.TRANSFER),
            "txHash": {"type": "string", "pattern": "^0x[0-9a-f]{64}$"},
            "reason": TEXT,
            "error": members({"code": TEXT, "message": TEXT, "details": ANY_OBJECT}),
        },
    ),
    "CheckedRow": exactly(
        {"index": WHOLE, "result": one_of(*RESULTS)},
        {
            "payoutId": an_id(ids.TRANSFER),
            "state": one_of(*State),
            "valueUsd": _MONEY,
            "error": members({"code": TEXT, "message": TEXT, "details": ANY_OBJECT}),
        },
    ),
}
"""Name -> schema of what answers are made of."""

ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("post", "/v1/batches/check"): members({"rows": list_of(ref("CheckedRow")), "totals": list_of(_TOTAL)}),
    ("post", "/v1/batches"): ref("Batch"),
    ("put", "/v1/batches/{batchId}/rows"): ref("Batch"),
    ("get", "/v1/batches"): page("Batch"),
    ("get", "/v1/batches/{batchId}"): ref("Batch"),
    ("get", "/v1/batches/{batchId}/rows"): members({"items": list_of(ref("BatchRow"))}, {"next": WHOLE}),
    ("get", "/v1/batches/{batchId}/report.csv"): TEXT,
    ("post", "/v1/batches/{batchId}/cancel"): ref("Batch"),
    ("post", "/v1/batches/{batchId}/decisions"): ref("Batch"),
}

QUERIES: Mapping[tuple[str, str], Mapping[str, Schema]] = {
    ("get", "/v1/batches"): {
        "limit": {"type": "integer", "minimum": 1, "maximum": 500},
        "paginationToken": TEXT,
        "state": one_of(*submissions.STATES),
    },
    ("get", "/v1/batches/{batchId}/rows"): {
        "from": {"type": "integer", "minimum": 0, "description": "place of the first row"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": PAGE_DEFAULT},
        "state": one_of(*ROW_STATES),
    },
}

FILES: Mapping[tuple[str, str], str] = {("get", "/v1/batches/{batchId}/report.csv"): "text/csv"}
"""Operations that answer something else than JSON."""

UNSIGNED = frozenset({"/v1/batches/check", "/v1/batches/{batchId}/rows"})
"""Writes that need no user action: one reads, and the rows of the other must be those whose digest was signed."""

MESSAGES = frozenset({("post", "/v1/batches")})
"""Operations that may be signed as one HTTP message."""
