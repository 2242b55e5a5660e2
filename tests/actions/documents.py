"""Policies in the contract's form, as requests carry them."""

from typing import Any


def policy_document(rule: dict[str, Any], action: dict[str, Any], **filters: Any) -> dict[str, Any]:
    """Return a policy of a ``kind``; ``tags`` keeps wallets with any of these tags, ``only`` these wallets."""
    kind = filters.get("kind", "Wallets:Sign")
    document: dict[str, Any] = {"name": "a policy", "activityKind": kind, "rule": rule, "action": action}
    wanted: dict[str, Any] = {}
    if "tags" in filters:
        wanted["walletTags"] = {"hasAny": list(filters["tags"])}
    if "only" in filters:
        wanted["walletId"] = {"in": list(filters["only"])}
    return {**document, "filters": wanted} if wanted else document


BLOCK: dict[str, Any] = {"kind": "Block"}
REPORT: dict[str, Any] = {"kind": "NoAction"}
ALWAYS: dict[str, Any] = {"kind": "AlwaysTrigger", "configuration": {}}


def over(dollars: int) -> dict[str, Any]:
    return {"kind": "TransactionAmountLimit", "configuration": {"limit": dollars, "currency": "USD"}}


def cap(dollars: int, *, minutes: int = 60, scope: str = "policy") -> dict[str, Any]:
    limits = {"limit": dollars, "currency": "USD", "timeframe": minutes, "scope": scope}
    return {"kind": "TransactionAmountVelocity", "configuration": limits}


def at_most(count: int, *, minutes: int = 60, scope: str = "policy") -> dict[str, Any]:
    limits = {"limit": count, "timeframe": minutes, "scope": scope}
    return {"kind": "TransactionCountVelocity", "configuration": limits}


def known(*addresses: str) -> dict[str, Any]:
    return {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": list(addresses)}}


def group(*users: Any, quorum: int = 1, **flags: bool) -> dict[str, Any]:
    """Return a group of these users; of nobody in particular if none is given."""
    who = {"userId": {"in": [user.user_id for user in users]}} if users else {}
    return {"quorum": quorum, "approvers": who, **flags}


def ask(*groups: dict[str, Any], timeout: int | None = None) -> dict[str, Any]:
    """Return a RequestApproval; ``timeout`` in minutes."""
    action: dict[str, Any] = {"kind": "RequestApproval", "approvalGroups": list(groups)}
    return action if timeout is None else {**action, "autoRejectTimeout": timeout}
