"""What records say about policies over time, without checking the records: for explaining, not for deciding."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.schema import record

_GENESIS, _APPLIED = "genesis", "change.applied"
_KINDS = ("policy.created", "policy.updated", "policy.archived")
_WRITTEN = (
    sa.select(record.c.seq, record.c.at, record.c.document)
    .where(record.c.kind.in_((_GENESIS, _APPLIED, *_KINDS)))
    .order_by(record.c.seq)
)
_OF_WALLET = (
    sa.select(record.c.seq, record.c.document)
    .where(record.c.subject == sa.bindparam("wallet_id"))
    .order_by(record.c.seq)
)
_NEWEST = sa.select(sa.func.max(record.c.seq)).where(record.c.at <= sa.bindparam("at"))


@dataclass(frozen=True, slots=True)
class Written:
    """What a record did to a policy."""

    seq: int
    at: int
    policy_id: str
    version: int
    document: dict[str, Any] | None  #: None: it was archived


def written(unit: Unit) -> Iterator[Written]:
    """Yield what records did to policies, in order."""
    for row in unit.execute(_WRITTEN):
        document = json.loads(row.document)
        kind, body = document["kind"], document["body"]
        if kind == _GENESIS:
            for each in body["policies"]:
                yield Written(row.seq, row.at, each["id"], 1, {key: each[key] for key in each if key != "id"})
            continue
        if kind == _APPLIED:
            kind, body = body["kind"], body["body"]
        if kind in _KINDS:
            rest = {key: value for key, value in body.items() if key != "version"}
            is_archived = kind == "policy.archived"
            yield Written(row.seq, row.at, document["subject"], body["version"], None if is_archived else rest)


def newest_before(unit: Unit, instant: int) -> int:
    """Return the number of the newest record of that instant or before; 0 if there is none."""
    newest = unit.execute(_NEWEST, {"at": instant}).scalar()
    return 0 if newest is None else int(newest)


def tags_at(unit: Unit, wallet_id: str, seq: int) -> tuple[str, ...]:
    """Return the tags of a wallet right after record ``seq``, sorted."""
    tags: set[str] = set()
    for row in unit.execute(_OF_WALLET, {"wallet_id": wallet_id}):
        if row.seq > seq:
            break
        document = json.loads(row.document)
        kind, body = document["kind"], document["body"]
        if kind == _APPLIED:
            kind, body = body["kind"], body["body"]
        if kind == "wallet.created":
            tags = set(body["tags"])
        elif kind == "wallet.tags.modified":
            tags = (tags | set(body["added"])) - set(body["removed"])
    return tuple(sorted(tags))
