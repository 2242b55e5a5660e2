"""Evidence documents, kept for ever, and spent nonces, kept a day beyond their life."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import evidence, spent_nonce

_KEEP = Prepared(sa.insert(evidence))
_OF_MANY = (
    sa.select(evidence.c.subject, evidence.c.document)
    .where(evidence.c.subject.in_(sa.bindparam("subjects", expanding=True)))
    .order_by(evidence.c.at)
)
_FIND_SPENT = sa.select(spent_nonce).where(spent_nonce.c.nonce == sa.bindparam("nonce"))
_SPEND = Prepared(sa.insert(spent_nonce))


def keep(unit: Unit, *, evidence_id: str, subject: str, document: str, now: int) -> None:
    """Store what was signed for ``subject``, as canonical text."""
    _KEEP.run(unit, [{"id": evidence_id, "subject": subject, "document": document, "at": now}])


def keep_many(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store evidence: rows of id, subject, document and at."""
    _KEEP.run(unit, rows)


def of(unit: Unit, subject: str) -> list[dict[str, Any]]:
    """Return the evidence documents of ``subject``, oldest first."""
    rows = unit.execute(sa.select(evidence.c.document).where(evidence.c.subject == subject).order_by(evidence.c.at))
    return [json.loads(row.document) for row in rows]


def of_many(unit: Unit, subjects: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the evidence documents of each subject that has one, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in unit.execute(_OF_MANY, {"subjects": list(subjects)}) if subjects else ():
        found.setdefault(row.subject, []).append(json.loads(row.document))
    return found


def find_spent(unit: Unit, nonce: str) -> sa.Row[Any] | None:
    """Return the row of a spent nonce, or None when it is still good."""
    return unit.execute(_FIND_SPENT, {"nonce": nonce}).one_or_none()


def spend(unit: Unit, *, nonce: str, result_id: str | None, keep_until: int) -> None:
    """Mark ``nonce`` as spent; a second time violates the key and fails the unit."""
    _SPEND.run(unit, [{"nonce": nonce, "result_id": result_id, "keep_until": keep_until}])


def spend_many(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mark nonces as spent: rows of nonce, result_id and keep_until."""
    _SPEND.run(unit, rows)


def forget_spent(unit: Unit, *, now: int) -> int:
    """Drop nonces whose challenges ran out long ago; return how many."""
    return unit.execute(sa.delete(spent_nonce).where(spent_nonce.c.keep_until < now)).rowcount
