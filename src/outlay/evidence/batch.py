"""Deciding once about the payouts of a batch that wait: what such a decision covers, and how it is proved for one.

A decision signs the digest of which batch it is about and of everything that waits in it. With each payout it is kept
with that payout's place: ``{..., row: {index, count, path}}``.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.evidence.base64url import to_base64url
from outlay.evidence.canonical import digest
from outlay.evidence.merkle import digest_by_path, digest_of, leaf, paths_of
from outlay.evidence.shape import check_texts, members

BATCH_DECISION_PATH = re.compile(r"/v1/payouts/batch/([^/]+)/decisions")
ROW = "row"


def held_digest(batch: str, intents: Sequence[str]) -> str:
    """Return what a decision about payouts of a batch signs in the place of one intent.

    Args:
        batch: digest of the batch's items.
        intents: intent digests of the payouts that wait, in the order of their ids; one or more.
    """
    return _digest(batch, digest_of(_leaves(intents)))


def held_rows(intents: Sequence[str]) -> list[dict[str, Any]]:
    """Return the place of each payout in a decision about all of them."""
    paths = paths_of(_leaves(intents))
    return [{"index": at, "count": len(intents), "path": path} for at, path in enumerate(paths)]


def split(decision: Any) -> tuple[Any, Any]:
    """Return a decision as it was signed, and the place of the payout it was kept with, if it is about several."""
    if not isinstance(decision, Mapping) or ROW not in decision:
        return decision, None
    return {name: value for name, value in decision.items() if name != ROW}, decision[ROW]


def digest_of_row(row: object, intent_digest: str, batch: str, field: str) -> str:
    """Return what was signed if this payout is where ``row`` says.

    Raises:
        InvalidInput: malformed.
    """
    given = members(row, field, {"index": int, "count": int, "path": list})
    check_texts(given["path"], f"{field}.path")
    (only,) = _leaves([intent_digest])
    return _digest(batch, digest_by_path(only, index=given["index"], count=given["count"], path=given["path"]))


def challenge_of_row(challenge: str, row: Mapping[str, Any]) -> str:
    """Return what names a decision about several payouts where it is used for one of them."""
    return to_base64url(hashlib.sha256(f"outlay.batch-decision.v1\n{challenge}\n{row['index']}".encode()).digest())


def _leaves(intents: Sequence[str]) -> list[bytes]:
    if not intents:
        raise InvalidInput("is empty", field="batch")
    return [leaf(each.encode("ascii")) for each in intents]


def _digest(batch: str, held: str) -> str:
    return digest({"batch": batch, "held": held})
