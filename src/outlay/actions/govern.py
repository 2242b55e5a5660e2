"""Governance: which changes of settings wait for people."""

from outlay.core.policy import POLICIES_MODIFY
from outlay.store import policies
from outlay.store.database import Unit


def is_governed(unit: Unit) -> bool:
    """Tell whether changes of what policies let through wait for people: a ``Policies:Modify`` policy is active."""
    return any(row.activity_kind == POLICIES_MODIFY for row in policies.active(unit))
