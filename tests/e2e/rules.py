"""Policies of every kind as both SDKs write them, complete, so that what is answered can be compared with them."""

from typing import Any

from tests.world import NETWORK

ALWAYS = {"kind": "AlwaysTrigger", "configuration": {}}


def every_rule(token: str) -> list[dict[str, Any]]:
    """Return a rule of each kind there is about payouts; ``token`` is the address of a configured one."""
    assets = [
        {"network": NETWORK, "tid": "native:eth", "limit": "5"},
        {"network": NETWORK, "tid": f"erc20:{token}", "limit": "2000000"},
    ]
    dollars = {"limit": 12.5, "currency": "USD"}
    return [
        ALWAYS,
        {"kind": "TransactionAmountLimit", "configuration": dollars},
        {"kind": "TransactionAmountLimitNominal", "configuration": {"assets": assets}},
        {"kind": "TransactionAmountVelocity", "configuration": {**dollars, "timeframe": 1440}},
        {"kind": "TransactionCountVelocity", "configuration": {"limit": 3, "timeframe": 60}},
        {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": ["0x" + "77" * 20]}},
    ]


def ask(*user_ids: str, quorum: int = 1, timeout: int | None = 60) -> dict[str, Any]:
    """Return an action that waits until ``quorum`` of these people agree."""
    group = {
        "name": "approvers",
        "quorum": quorum,
        "approvers": {"userId": {"in": list(user_ids)}},
        "initiatorCanApprove": False,
        "serviceAccountsCanApprove": False,
    }
    return {"kind": "RequestApproval", "autoRejectTimeout": timeout, "approvalGroups": [group]}


def payouts(name: str, rule: dict[str, Any], action: dict[str, Any], tag: str) -> dict[str, Any]:
    """Return the body of a policy about payouts of the wallets with a tag."""
    filters = {"walletTags": {"hasAny": [tag]}}
    return {"name": name, "activityKind": "Wallets:Sign", "rule": rule, "action": action, "filters": filters}


def governing(name: str, kind: str, action: dict[str, Any], **ids: list[str]) -> dict[str, Any]:
    """Return the body of a policy about changes; ``ids`` is ``policyId`` or ``permissionId`` and what it is about."""
    body = {"name": name, "activityKind": kind, "rule": ALWAYS, "action": action}
    return {**body, "filters": {key: {"in": found} for key, found in ids.items()}} if ids else body
