"""What records say about policies over time, without checking the records: for explaining, not for deciding."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.schema import policy, record

_GENESIS, _APPLIED = "genesis", "change.applied"
_KINDS = ("policy.created", "policy.updated", "policy.archived")
_ABOUT_POLICIES = record.c.subject.in_(sa.select(policy.c.id))
_ROW = sa.select(record.c.seq, record.c.document)
_STANDING = _ROW.where(
    sa.or_(
        record.c.seq.in_(
            sa.select(sa.func.max(record.c.seq))
            .where(_ABOUT_POLICIES, record.c.seq <= sa.bindparam("seq"))
            .group_by(record.c.subject)
        ),
        sa.and_(record.c.kind == _GENESIS, record.c.seq <= sa.bindparam("seq")),
    )
).order_by(record.c.seq)
_LATER = (
    _ROW.where(sa.or_(_ABOUT_POLICIES, record.c.kind == _GENESIS), record.c.seq > sa.bindparam("seq"))
    .order_by(record.c.seq)
    .limit(sa.bindparam("most"))
)
_EARLIER = (
    sa.select(record.c.seq)
    .where(_ABOUT_POLICIES, record.c.seq <= sa.bindparam("seq"))
    .order_by(record.c.seq.desc())
    .limit(sa.bindparam("most"))
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
    policy_id: str
    version: int
    document: dict[str, Any] | None  #: None: it was archived


def standing(unit: Unit, seq: int) -> Mapping[str, Written]:
    """Return what was written last about each policy right after record ``seq``, by its id; not those archived.

    Of each policy one record is read, however often it was changed.
    """
    found = {
        each.policy_id: each
        for row in unit.execute(_STANDING, {"seq": seq})
        for each in _written(row.seq, row.document)
    }
    return {policy_id: each for policy_id, each in found.items() if each.document is not None}


def later(unit: Unit, seq: int, most: int) -> Iterator[Written]:
    """Yield what the next records after ``seq`` did to policies, up to ``most`` of them, in order."""
    for row in unit.execute(_LATER, {"seq": seq, "most": most}):
        yield from _written(row.seq, row.document)


def earlier(unit: Unit, seq: int, most: int) -> list[int]:
    """Return the numbers of the newest records about policies up to ``seq``, at most ``most``, the newest first."""
    return [int(each) for each in unit.execute(_EARLIER, {"seq": seq, "most": most}).scalars()]


def _written(seq: int, text: str) -> Iterator[Written]:
    document = json.loads(text)
    kind, body = document["kind"], document["body"]
    if kind == _GENESIS:
        for each in body["policies"]:
            yield Written(seq, each["id"], 1, {key: each[key] for key in each if key != "id"})
        return
    if kind == _APPLIED:
        kind, body = body["kind"], body["body"]
    if kind in _KINDS:
        rest = {key: value for key, value in body.items() if key != "version"}
        yield Written(seq, document["subject"], body["version"], None if kind == "policy.archived" else rest)


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
