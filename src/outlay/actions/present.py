"""How stored things look on the wire: the contract's objects, with our documented additions.

Used for answers and for the snapshots inside events, so that both always agree.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from outlay.config import Config
from outlay.core.event import iso
from outlay.core.policy_document import read_policy, wire_document
from outlay.core.transfer import State, wire_status
from outlay.store import approvals, permissions, transfers, users, wallets
from outlay.store.database import Row, Unit


def _present(**members: Any) -> dict[str, Any]:
    """Drop members that are None: the contract leaves absent ones out."""
    return {name: value for name, value in members.items() if value is not None}


def _when(instant: int | None) -> str | None:
    return None if instant is None else iso(instant)


def transfer(row: Row, config: Config) -> dict[str, Any]:
    """Return a transfer request."""
    asset = config.find_asset(row.network, row.asset)
    quotes = {"USD": float(Decimal(row.price["price"]))} if row.price else None
    meta = _present(
        symbol=asset.symbol if asset else None,
        decimals=asset.decimals if asset else None,
        verified=True if asset else None,
        quotes=quotes,
    )
    ended_from = State(row.ended_from) if row.ended_from else None
    return _present(
        id=row.id,
        walletId=row.wallet_id,
        network=row.network,
        requester={"userId": row.initiator_id, "tokenId": row.token_id},
        requestBody=row.request_body,
        metadata={"asset": meta},
        status=wire_status(State(row.state), ended_from=ended_from),
        reason=row.reason,
        waitingReason=row.waiting_reason,
        flag=row.flag,
        txHash=row.tx_hash,
        fee=None if row.fee is None else str(row.fee),
        dateRequested=iso(row.requested_at),
        datePolicyResolved=_when(row.resolved_at),
        dateBroadcasted=_when(row.broadcast_at),
        dateConfirmed=_when(row.confirmed_at),
        approvalId=row.approval_id,
        externalId=row.external_id,
    )


def wallet(unit: Unit, row: Row) -> dict[str, Any]:
    """Return a wallet."""
    return _present(
        id=row.id,
        network=row.network,
        address=row.address,
        signingKey={"id": row.key_id, "scheme": "ECDSA", "curve": "secp256k1", "publicKey": row.public_key},
        status=row.status,
        dateCreated=iso(row.created_at),
        name=row.name,
        custodial=True,
        externalId=row.external_id,
        tags=list(wallets.tags(unit, row.id)),
        frozenReason=row.frozen_reason,
    )


def policy(row: Row) -> dict[str, Any]:
    """Return a policy as its author wrote it."""
    stored = {
        "name": row.name,
        "activityKind": row.activity_kind,
        "rule": row.rule,
        "action": row.action,
        "filters": row.filters,
    }
    return _present(
        **wire_document(read_policy(stored, id=row.id, version=row.version)),
        id=row.id,
        status=row.status,
        version=row.version,
        dateCreated=iso(row.created_at),
        dateUpdated=iso(row.updated_at),
    )


def approval(unit: Unit, row: Row, config: Config) -> dict[str, Any]:
    """Return an approval with what it is about and what people said so far."""
    paid = transfers.get(unit, row.transfer_id)
    return _present(
        id=row.id,
        initiatorId=row.initiator_id,
        activity={"kind": "Wallets:Sign", "transferRequest": transfer(paid, config)},
        status=row.status,
        expirationDate=_when(row.expires_at),
        dateCreated=iso(row.created_at),
        dateUpdated=iso(row.updated_at),
        dateResolved=_when(row.resolved_at),
        policyEvaluations=_evaluations(unit, row.transfer_id),
        decisions=[
            {"userId": d.user_id, "value": d.value, "reason": d.reason, "date": iso(d.at)}
            for d in approvals.decisions(unit, row.id)
            if d.groups_digest == row.groups_digest
        ],
        approvalGroups=row.groups,
    )


def _evaluations(unit: Unit, transfer_id: str) -> list[dict[str, Any]]:
    """Return each policy's answer once: the first that triggered, at the request or later, else that of the request."""
    answers: dict[str, Row] = {}
    for each in transfers.evaluations(unit, transfer_id):
        known = answers.get(each.policy_id)
        if known is None or (each.triggered and not known.triggered):
            answers[each.policy_id] = each
    return [_present(policyId=e.policy_id, triggered=e.triggered, reason=e.reason) for e in answers.values()]


def policy_triggered(evaluation: dict[str, Any], policy_row: Row, paid: Row, config: Config) -> dict[str, Any]:
    """Return the data of a policy.triggered event."""
    return {
        "policyEvaluation": _present(
            id=evaluation["id"],
            triggered=True,
            reason=evaluation["reason"],
            date=iso(evaluation["at"]),
            policy=policy(policy_row),
            activity={"kind": "Wallets:Sign", "transferRequest": transfer(paid, config)},
            context=evaluation["context"],
        )
    }


def _assignments(unit: Unit, user_id: str) -> list[dict[str, Any]]:
    return [
        {
            "permissionName": row.name,
            "permissionId": row.permission_id,
            "assignmentId": row.assignment_id,
            "operations": row.operations,
        }
        for row in permissions.held_by(unit, user_id)
    ]


def user(unit: Unit, row: Row, org_id: str) -> dict[str, Any]:
    """Return a person or service account."""
    held = users.credentials_of(unit, row.id)
    assignments = _assignments(unit, row.id)
    operations = sorted({operation for a in assignments for operation in a["operations"]})
    return _present(
        username=row.username,
        name=row.name,
        userId=row.id,
        kind="CustomerEmployee",
        credentialUuid=held[0].id if held else "",
        credentialId=held[0].credential_id if held else None,
        orgId=org_id,
        permissions=operations,
        isActive=row.is_active,
        isServiceAccount=row.is_service_account,
        isRegistered=row.is_registered,
        isSSORequired=False,
        mayVote=row.may_vote,
        externalId=row.external_id,
        permissionAssignments=assignments,
    )


def service_account(unit: Unit, row: Row, org_id: str, *, access_token: str | None = None) -> dict[str, Any]:
    """Return a service account with its token; the token's text only when it was just made."""
    tokens = []
    for held in users.tokens_of(unit, row.id, kind="ServiceAccount"):
        key = users.find_credential(unit, held.credential_id)
        tokens.append(
            _present(
                accessToken=access_token,
                dateCreated=iso(held.created_at),
                credId=key.credential_id if key is not None else "",
                isActive=held.is_active,
                kind=held.kind,
                linkedUserId=row.id,
                linkedAppId="",
                name=held.name,
                orgId=org_id,
                permissionAssignments=_assignments(unit, row.id),
                publicKey=key.public_key if key is not None else "",
                tokenId=held.id,
            )
        )
    return {"userInfo": user(unit, row, org_id), "accessTokens": tokens}


def credential(row: Row) -> dict[str, Any]:
    """Return a credential."""
    return {
        "kind": row.kind,
        "credentialId": row.credential_id,
        "credentialUuid": row.id,
        "dateCreated": iso(row.created_at),
        "isActive": row.is_active,
        "name": row.name,
        "publicKey": row.public_key,
        "relyingPartyId": row.relying_party_id or "",
        "origin": row.origin or "",
    }


def permission(row: Row) -> dict[str, Any]:
    """Return a permission."""
    return {
        "id": row.id,
        "name": row.name,
        "operations": row.operations,
        "status": "Active",
        "isImmutable": row.is_immutable,
        "isArchived": row.is_archived,
        "dateCreated": iso(row.created_at),
        "dateUpdated": iso(row.updated_at),
    }


def assignment(row: Row) -> dict[str, Any]:
    """Return an assignment of a permission."""
    return {
        "id": row.id,
        "permissionId": row.permission_id,
        "identityId": row.identity_id,
        "isImmutable": row.is_immutable,
        "dateCreated": iso(row.created_at),
        "dateUpdated": iso(row.updated_at),
    }


def page(items: Sequence[dict[str, Any]], token: str | None) -> dict[str, Any]:
    """Return one page of a list; the token is absent on the last."""
    return _present(items=list(items), nextPageToken=token)
