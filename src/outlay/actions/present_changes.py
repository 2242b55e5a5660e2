"""How change requests look on the wire, and the approvals they wait for."""

import json
from typing import Any

from outlay.actions import present
from outlay.actions.work import Work
from outlay.config import Config
from outlay.core import ids
from outlay.core.event import iso
from outlay.core.policy import PERMISSIONS_ASSIGN, PERMISSIONS_MODIFY, POLICIES_MODIFY, UNFREEZE
from outlay.evidence import record as records
from outlay.store import approvals, changes, permissions, policies, users
from outlay.store.database import Row, Unit

NAMES = {
    records.POLICY_CREATED: ("Policy", "Create", POLICIES_MODIFY),
    records.POLICY_UPDATED: ("Policy", "Update", POLICIES_MODIFY),
    records.POLICY_ARCHIVED: ("Policy", "Update", POLICIES_MODIFY),
    records.PERMISSION_UPDATED: ("Permission", "Update", PERMISSIONS_MODIFY),
    records.PERMISSION_ARCHIVED: ("Permission", "Update", PERMISSIONS_MODIFY),
    records.PERMISSION_ASSIGNED: ("Assignment", "Create", PERMISSIONS_ASSIGN),
    records.PERMISSION_REVOKED: ("Assignment", "Delete", PERMISSIONS_ASSIGN),
    records.USER_ACTIVATED: ("User", "Update", POLICIES_MODIFY),
    records.CREDENTIAL_ACTIVATED: ("Credential", "Update", POLICIES_MODIFY),
    records.WALLET_CREATED: ("Wallet", "Create", POLICIES_MODIFY),
    records.WALLET_TAGS_MODIFIED: ("Wallet", "Update", POLICIES_MODIFY),
    records.CONFIG_APPLIED: ("Configuration", "Update", POLICIES_MODIFY),
    records.WALLET_UNFROZEN: ("Wallet", "Update", UNFREEZE),
    records.MANDATE_CREATED: ("Mandate", "Create", POLICIES_MODIFY),
    records.ASSET_UNFROZEN: ("Asset", "Update", UNFREEZE),
    records.NETWORK_UNFROZEN: ("Network", "Update", UNFREEZE),
    records.STOP_LIFTED: ("Freeze", "Delete", UNFREEZE),
    records.SIGNER_RESEEDED: ("Signer", "Update", POLICIES_MODIFY),
}
"""Kind of record -> the contract's kind and operation (with kinds of ours), and what activity it is."""

GOVERNING_OPERATIONS = frozenset(
    {
        "Auth:ServiceAccounts:Activate",
        "Auth:Users:Activate",
        "Config:Apply",
        "Mandates:Create",
        "Outlay:Unfreeze",
        "Permissions:Assign",
        "Permissions:Update",
        "Policies:Delete",
        "Policies:Update",
        "Signer:Reseed",
        "Wallets:Tags:Remove",
    }
)
"""Who holds one of these is an admin: told of every change that is asked for."""


def change(unit: Unit, row: Row) -> dict[str, Any]:
    """Return a change request: the contract's members, the change before and after, and why it ended."""
    kind, operation, _ = NAMES[row.record_kind]
    document = json.loads(row.content)
    return present.only_given(
        id=row.id,
        kind=kind,
        operationKind=operation,
        status=row.status,
        requester={"userId": row.requester_id, "tokenId": row.token_id},
        entityId=document["after"].get("assignmentId", row.subject),
        approvalId=row.approval_id,
        dateCreated=iso(row.created_at),
        dateResolved=None if row.resolved_at is None else iso(row.resolved_at),
        body=_body(unit, row, document),
        before=document["before"],
        after=document["after"],
        digest=row.digest,
        loosens=row.loosens,
        effectiveDate=None if row.due_at is None else iso(row.due_at),
        reason=row.reason,
    )


def _body(unit: Unit, row: Row, document: dict[str, Any]) -> dict[str, Any]:
    """Return the whole object as it would be."""
    after = document["after"]
    if row.record_kind in (records.POLICY_UPDATED, records.POLICY_ARCHIVED):
        now = policies.find(unit, row.subject)
        shown = {} if now is None else present.policy(now)
        wanted = json.loads(row.payload) if row.record_kind == records.POLICY_UPDATED else {"status": "Archived"}
        return {**shown, **wanted, "version": after["version"]}
    if row.record_kind in (records.PERMISSION_UPDATED, records.PERMISSION_ARCHIVED):
        held = permissions.find(unit, row.subject)
        shown = {} if held is None else present.permission(held)
        return {**shown, **after, "isArchived": row.record_kind == records.PERMISSION_ARCHIVED}
    if row.record_kind in (records.PERMISSION_ASSIGNED, records.PERMISSION_REVOKED):
        given = {"permissionId": row.subject, "identityId": after["identityId"]}
        return {"id": after["assignmentId"], **given, "isImmutable": False}  # nobody can ask to change one that is
    return {"id": row.subject, **after}


def activity(unit: Unit, row: Row) -> dict[str, Any]:
    """Return a change request as the activity that policies are about."""
    return {"kind": NAMES[row.record_kind][2], "changeRequest": change(unit, row)}


_ABOUT_ASSIGNMENTS = (records.PERMISSION_ASSIGNED, records.PERMISSION_REVOKED)


def pending(unit: Unit, subject: str) -> dict[str, Any]:
    """Return ``pendingChangeRequest`` of a policy or permission, or nothing."""
    waiting = [row for row in changes.pending_about(unit, subject) if row.record_kind not in _ABOUT_ASSIGNMENTS]
    return {"pendingChangeRequest": change(unit, waiting[0])} if waiting else {}


def pending_revocation(unit: Unit, assignment: Row) -> dict[str, Any]:
    """Return ``pendingChangeRequest`` of an assignment, or nothing."""
    for row in changes.pending_about(unit, assignment.permission_id):
        if json.loads(row.content)["after"].get("assignmentId") == assignment.id:
            return {"pendingChangeRequest": change(unit, row)}
    return {}


def approval(unit: Unit, row: Row, config: Config) -> dict[str, Any]:
    """Return an approval, whatever it is about."""
    if row.change_id is None:
        return present.approval(unit, row, config)
    asked = {group["policyId"]: _reason(unit, group["policyId"]) for group in row.groups}
    return present.approval_of(
        row,
        activity=activity(unit, changes.get(unit, row.change_id)),
        evaluations=[{"policyId": key, "triggered": True, "reason": why} for key, why in sorted(asked.items())],
        decisions=approvals.decisions(unit, row.id),
    )


def _reason(unit: Unit, policy_id: str) -> str:
    row = policies.find(unit, policy_id)
    return "Changes need approval." if row is None else f"The policy {row.name!r} asks people about this change."


def triggered(work: Work, change_id: str, policy_id: str) -> dict[str, Any]:
    """Return the data of a policy.triggered event about a change."""
    row = policies.find(work.unit, policy_id)
    assert row is not None
    return {
        "policyEvaluation": {
            "id": ids.new_id(ids.EVALUATION, work.entropy),
            "triggered": True,
            "reason": _reason(work.unit, policy_id),
            "date": iso(work.now),
            "policy": present.policy(row),
            "activity": activity(work.unit, changes.get(work.unit, change_id)),
            "context": {"rule": row.rule["kind"]},
        }
    }


def notice(unit: Unit, row: Row) -> dict[str, Any]:
    """Return the data of the events about a change request: what it is, and every admin who has to know of it."""
    admins = [
        {"userId": user.id, "username": user.username}
        for user in users.everyone(unit)
        if user.deleted_at is None
        and user.is_active
        and not user.is_service_account
        and GOVERNING_OPERATIONS & permissions.operations_of(unit, user.id)
    ]
    return {"changeRequest": change(unit, row), "admins": admins}
