"""Policies: one row a lineage, the version counts its edits."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.policy import Policy
from outlay.core.policy_document import read_policy
from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import event, policy

TRIGGERS_SPAN, TRIGGERS_READ = 20_000, 200
"""How far back, counted in events, what triggered lately is looked for; and how many of them are looked at."""

_FIND = sa.select(policy).where(policy.c.id == sa.bindparam("id"))
_ACTIVE = (
    sa.select(
        policy.c.id,
        policy.c.version,
        policy.c.name,
        policy.c.activity_kind,
        sa.type_coerce(policy.c.rule, sa.Text).label("rule"),
        sa.type_coerce(policy.c.action, sa.Text).label("action"),
        sa.type_coerce(policy.c.filters, sa.Text).label("filters"),
    )
    .where(policy.c.status == "Active")
    .order_by(policy.c.id)
)
_ACTIVE_VERSIONS = sa.select(policy.c.id, policy.c.version).where(policy.c.status == "Active").order_by(policy.c.id)


def add(unit: Unit, **values: Any) -> None:
    """Insert a policy."""
    unit.execute(sa.insert(policy).values(**values))


def find(unit: Unit, policy_id: str) -> sa.Row[Any] | None:
    """Return the policy, archived ones included, or None."""
    return unit.execute(_FIND, {"id": policy_id}).one_or_none()


def update(unit: Unit, policy_id: str, **values: Any) -> None:
    """Change columns of a policy."""
    unit.execute(sa.update(policy).where(policy.c.id == policy_id).values(**values))


def active(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return id, version, name, activity kind, rule, action and filters of every active policy; the last three as text.

    As text, because whoever judges has read that very text before.
    """
    return unit.execute(_ACTIVE).all()


def active_versions(unit: Unit) -> Sequence[Any]:
    """Return id and version of every active policy."""
    return unit.execute(_ACTIVE_VERSIONS).all()


def policy_of(row: sa.Row[Any]) -> Policy:
    """Return the policy a row holds."""
    document = {
        "name": row.name,
        "activityKind": row.activity_kind,
        "rule": row.rule,
        "action": row.action,
        "filters": row.filters,
    }
    return read_policy(document, id=row.id, version=row.version)


@functools.lru_cache(maxsize=1024)
def _policy_of_text(
    id: str, version: int, name: str, activity_kind: str, rule: str, action: str, filters: str | None
) -> Policy:
    # Known by its whole content, so nothing here can be out of date; every payout asks for every policy, twice.
    document = {
        "name": name,
        "activityKind": activity_kind,
        "rule": json.loads(rule),
        "action": json.loads(action),
        "filters": None if filters is None else json.loads(filters),
    }
    return read_policy(document, id=id, version=version)


def active_policies(unit: Unit) -> list[Policy]:
    """Return every active policy."""
    return [_policy_of_text(*row) for row in active(unit)]


def list_page(
    unit: Unit, *, status: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of policies."""
    query = sa.select(policy)
    if status is not None:
        query = query.where(policy.c.status == status)
    return page(unit, query, order=policy.c.created_at, key=policy.c.id, limit=limit, token=token)


def triggered_lately(unit: Unit, policy_id: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the newest evaluations of a policy that triggered, as its events tell them, among the newest events."""
    newest = unit.execute(sa.select(sa.func.max(event.c.seq))).scalar() or 0
    query = (
        sa.select(event.c.data)
        .where(event.c.seq > newest - TRIGGERS_SPAN, event.c.kind == "policy.triggered")
        .order_by(event.c.seq.desc())
        .limit(TRIGGERS_READ)
    )
    told = (data["policyEvaluation"] for data in unit.execute(query).scalars())
    return [each for each in told if each["policy"]["id"] == policy_id][:limit]
