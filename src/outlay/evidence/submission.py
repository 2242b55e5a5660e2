"""A file of payouts under one signature: what is signed about it, and how one row is proved to be in it.

The signed call is ``POST /v1/batches`` with ``{name, walletId or poolId, digest, count}``; the digest is that of
``merkle`` over the rows in their order. With each payout that call is kept with the payout's row:
``{..., row: {index, count, path, item}}``. So the proof of a row needs no other row.

A decision about the whole signs the digest of what the signed call says and by whom, in the place of one intent.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlay.core.errors import InvalidInput
from outlay.evidence.base64url import to_base64url
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.merkle import digest_by_path, leaf
from outlay.evidence.shape import check_digest, check_texts, members

SUBMISSION_PATH = "/v1/batches"
WHOLE_DECISION_PATH = re.compile(r"/v1/batches/([^/]+)/decisions")
COUNT_MAX = 100_000
"""Rows in one file."""

NAME_MAX = 200
_ROW = "row"
_CELLS: Mapping[str, type] = dict.fromkeys(("externalId", "network", "asset", "recipient", "amount"), str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What the signed call says about a file."""

    name: str
    wallet_id: str | None  #: either this
    pool_id: str | None  #: or this
    digest: str  #: of the rows
    count: int

    def subject(self, *, org: str, initiator: str) -> str:
        """Return what a decision about the whole signs in the place of one intent, hex.

        Args:
            org: the organization.
            initiator: user id of who signed the call.
        """
        return digest(self.content(org=org, initiator=initiator))

    def content(self, *, org: str, initiator: str) -> dict[str, Any]:
        """Return what ``subject`` is the digest of."""
        payer = {"wallet": self.wallet_id} if self.pool_id is None else {"pool": self.pool_id}
        content = {"v": 1, "org": org, "initiator": initiator, "name": self.name, **payer}
        return {**content, "digest": self.digest, "count": self.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class InFile:
    """Where a payout stands that was asked for as a row of a file."""

    whole: str  #: what a decision about all of it signs
    index: int
    network: str  #: that the row names


def read_submission(payload: object, field: str) -> Submission:
    """Read what the signed call says.

    Raises:
        InvalidInput: a member is missing, unknown or malformed; or not exactly one of wallet and pool is named.
    """
    given = members(payload, field, {"name": str, "digest": str, "count": int}, {"walletId": str, "poolId": str})
    check_digest(given["digest"], f"{field}.digest")
    if not 1 <= given["count"] <= COUNT_MAX:
        raise InvalidInput(f"must be 1 to {COUNT_MAX}", field=f"{field}.count")
    if ("walletId" in given) == ("poolId" in given):
        raise InvalidInput("name either walletId or poolId", field=f"{field}.walletId")
    return Submission(
        name=given["name"],
        wallet_id=given.get("walletId"),
        pool_id=given.get("poolId"),
        digest=given["digest"],
        count=given["count"],
    )


def request_of(submission: Submission, item: object, field: str) -> tuple[dict[str, Any], str]:
    """Return the payout that a row asks for, as a single one is asked for, and the network that the row names.

    Raises:
        InvalidInput: a member of the row is missing, unknown or no text.
    """
    given = members(item, field, _CELLS, {"memo": str})
    payer = {"walletId": submission.wallet_id} if submission.pool_id is None else {"poolId": submission.pool_id}
    return {**{name: value for name, value in given.items() if name != "network"}, **payer}, given["network"]


def split_request(document: Any) -> tuple[Any, Any]:
    """Return a request of a payout as it was signed, and its row where it is one of a file."""
    is_row = isinstance(document, Mapping) and _ROW in document and ("body" in document or "preimage" in document)
    if not is_row:
        return document, None
    return {name: value for name, value in document.items() if name != _ROW}, document[_ROW]


def open_row(payload: object, row: object, field: str) -> tuple[Submission, int, dict[str, Any]]:
    """Return the submission, the row's place and its item, if the row is one of the file that was signed.

    Args:
        payload: of the signed call.
        row: what was kept with it.
        field: path of the call, for errors.

    Raises:
        InvalidInput: malformed, or the row is not in the file.
    """
    submission = read_submission(payload, f"{field}.payload")
    given = members(row, f"{field}.row", {"index": int, "count": int, "path": list, "item": dict})
    check_texts(given["path"], f"{field}.row.path")
    index, count = given["index"], given["count"]
    found = digest_by_path(leaf(canonical(given["item"])), index=index, count=count, path=given["path"])
    if count != submission.count or found != submission.digest:
        raise InvalidInput("is not in the file that was signed", field=f"{field}.row")
    return submission, index, given["item"]


def challenge_of(challenge: str, index: int) -> str:
    """Return what names a signed file where it is used for one of its rows, and is good once."""
    return to_base64url(hashlib.sha256(f"outlay.file-row.v1\n{challenge}\n{index}".encode()).digest())


def row_texts(
    document: Mapping[str, Any], *, count: int, first: int, texts: Sequence[str], paths: Sequence[Sequence[str]]
) -> list[str]:
    """Return what is stored of rows that follow each other, as canonical text.

    Args:
        document: the evidence of the signed call.
        count: rows of the file.
        first: place of the first of these rows.
        texts: the canonical text of each item.
        paths: of each item, as ``merkle.Tree`` gives them.
    """
    # Most of it is the same in every row. Members are in the order of canonical text: only "v" comes after "row".
    head = canonical({name: value for name, value in document.items() if name != "v"}).decode()[:-1]
    tail = canonical(document["v"]).decode()
    return [
        f'{head},"row":{{"count":{count},"index":{first + at},"item":{text},"path":[{_quoted(path)}]}},"v":{tail}}}'
        for at, (text, path) in enumerate(zip(texts, paths, strict=True))
    ]


def _quoted(path: Sequence[str]) -> str:
    return ",".join(f'"{each}"' for each in path)
