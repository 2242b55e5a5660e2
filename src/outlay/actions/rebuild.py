"""The tables out of the records: after a loss, the same rows that the actions wrote when the records were made.

One function a kind. The records were verified before (``evidence.history``), so nothing is judged again here; nothing
is announced either, because whoever was to hear of it was told then. What no record holds is ``NOT_ON_RECORD``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from outlay.actions import rebuild_people as people
from outlay.actions.act import issue_token
from outlay.actions.changes import votes_on
from outlay.actions.judge import people as everybody
from outlay.actions.organization import store_admin, store_full_access
from outlay.actions.people import SERVICE_ACCOUNT_DAYS
from outlay.actions.policies import insert_policy
from outlay.actions.rebuild_entry import Entry
from outlay.actions.settle import settle
from outlay.actions.work import Work
from outlay.core import ids
from outlay.core.approval import merge_groups
from outlay.core.policy import matches, required_groups
from outlay.core.seams import DAY, Entropy
from outlay.evidence import record as records
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.governance import agreed_at, groups_digest
from outlay.store import (
    approvals,
    audit,
    changes,
    evidence,
    mandates,
    organizations,
    permissions,
    policies,
    pools,
    recovery,
    stops,
    users,
    velocity,
    wallets,
)
from outlay.store.database import Row, Unit

NOT_ON_RECORD: Mapping[str, frozenset[str]] = {
    "organization": frozenset({"epoch", "admitted"}),
    "assignment": frozenset({"id"}),  # of the first admin's permission only
    "credential": frozenset({"name"}),  # of the one an invitation or a code was taken up with only
    "wallet": frozenset({"frozen_reason", "compared_block"}),
    "change_request": frozenset({"token_id", "due_at"}),
    "approval": frozenset({"groups", "groups_digest", "updated_at"}),  # asked anew since the newest decision only
    "decision": frozenset({"id", "evidence_id", "groups_digest"}),
    "evidence": frozenset({"id", "subject"}),  # of decisions
    "spent_nonce": frozenset({"result_id"}),
}
"""Table -> columns that a rebuilt row may have otherwise.

Lost with all their rows: bearer tokens, webhooks, events, and what is frozen.
"""

_EXPIRED = "Nobody decided in time."


def apply_records(work: Work, texts: Sequence[str], documents: Sequence[dict[str, Any]]) -> None:
    """Write what these records say, and count again what waits for people.

    Args:
        work: one unit for all of them: either every record is applied or none.
        texts: the canonical texts that follow the newest record here, in order; all of them where there is none.
        documents: the same, parsed; they were verified to follow and to be signed by who was entitled.
    """
    for text, document in zip(texts, documents, strict=True):
        _apply(work.unit, work.entropy, text, document)
    audit.begin_again(work.unit, now=work.now)
    _count_again(work)
    rebuild_counters(work)


def _count_again(work: Work) -> None:
    """Count the decisions about everything that waits: transfers now, changes when the engine looks at what is due."""
    for approval in approvals.pending(work.unit):
        if approval.change_id is not None:
            changes.update(work.unit, approval.change_id, due_at=work.now)
        else:
            settle(work, approval, "Denied.")


def replace_token(work: Work, user_id: str) -> dict[str, Any] | None:
    """Store a new bearer token of a service account whose own was lost; return its claims, or None without a key."""
    row, keys = users.find(work.unit, user_id), users.own_keys_of(work.unit, user_id, active_only=True)
    if row is None or not keys:
        return None
    return issue_token(
        work.unit,
        work.entropy,
        org_id=organizations.get(work.unit).id,
        user_id=user_id,
        credential_uuid=keys[0].id,
        kind="ServiceAccount",
        name=row.name,
        now=work.now,
        life=SERVICE_ACCOUNT_DAYS * DAY,
    )


def rebuild_counters(work: Work) -> None:
    """Write the counters of every velocity policy anew from the entries."""
    tags = wallets.all_tags(work.unit)
    for policy in policies.active_policies(work.unit):
        kind = policy.activity_kind
        matching = [wallet_id for wallet_id, names in tags.items() if matches(policy, wallet_id, names, activity=kind)]
        velocity.rebuild(work.unit, policy, wallets_matching_now=matching, now=work.now)


def _apply(unit: Unit, entropy: Entropy, text: str, document: dict[str, Any]) -> None:
    kind, proof = document["kind"], document["evidence"]
    entry = Entry(
        unit=unit,
        entropy=entropy,
        kind=kind,
        subject=document["subject"],
        body=document["body"],
        at=document["at"],
        hash=records.record_hash(document),
        payload={} if proof is None else proof["payload"],
        proof=proof,
    )
    if kind == records.GENESIS:
        _genesis(entry, text, document)
        return
    _WRITE[kind](entry)
    organizations.append_record(
        unit,
        seq=document["seq"],
        hash=entry.hash,
        prev=document["prev"],
        kind=kind,
        subject=entry.subject,
        document=text,
        now=entry.at,
    )
    if proof is not None:
        _spend(entry, proof["preimage"])
    if kind == records.CREDENTIAL_CREATED:
        _spend(entry, entry.body["preimage"])


def _spend(entry: Entry, preimage: Mapping[str, Any]) -> None:
    nonce = preimage["nonce"]
    if evidence.find_spent(entry.unit, nonce) is None:
        evidence.spend(entry.unit, nonce=nonce, result_id=entry.subject, keep_until=preimage["expires"] + DAY)


def _genesis(entry: Entry, text: str, document: dict[str, Any]) -> None:
    body, unit = entry.body, entry.unit
    admin, first = body["admin"], body["permission"]
    organizations.create(
        unit,
        org_id=entry.subject,
        root=entry.hash,
        genesis=text,
        money_settings=digest(body["moneySettings"]),
        now=entry.at,
    )
    store_admin(
        unit,
        user_id=admin["userId"],
        username=admin["username"],
        credential_uuid=admin["credentialUuid"],
        credential_id=admin["credentialId"],
        public_key=admin["publicKey"],
        root=entry.hash,
        now=entry.at,
    )
    store_full_access(unit, entry.entropy, permission_id=first["id"], user_id=admin["userId"], now=entry.at)
    permissions.update(unit, first["id"], name=first["name"], operations=first["operations"])
    for each in body["policies"]:
        bare = {name: value for name, value in each.items() if name != "id"}
        insert_policy(unit, each["id"], bare, now=entry.at, allow_empty=True)


# Policies


def _policy_created(entry: Entry) -> None:
    policies.add(
        entry.unit,
        id=entry.subject,
        status="Active",
        created_at=entry.at,
        updated_at=entry.at,
        **_policy_columns(entry.body),
    )


def _policy_columns(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": body["version"],
        "name": body["name"],
        "activity_kind": body["activityKind"],
        "rule": body["rule"],
        "action": body["action"],
        "filters": body.get("filters"),
    }


def _policy_updated(entry: Entry) -> None:
    policies.update(entry.unit, entry.subject, updated_at=entry.at, **_policy_columns(entry.body))
    row = policies.find(entry.unit, entry.subject)
    assert row is not None
    now = required_groups([policies.policy_of(row)])
    for approval in approvals.pending(entry.unit):
        if any(group["policyId"] == entry.subject for group in approval.groups):
            groups = list(merge_groups(approval.groups, now))
            if groups != approval.groups:
                _ask_others(entry, approval, groups)


def _ask_others(entry: Entry, approval: Row, groups: list[dict[str, Any]]) -> None:
    if approval.change_id is not None:
        approvals.void_decisions(entry.unit, approval.id)
    approvals.update(entry.unit, approval.id, groups=groups, groups_digest=groups_digest(groups), updated_at=entry.at)


def _policy_archived(entry: Entry) -> None:
    policies.update(entry.unit, entry.subject, status="Archived", updated_at=entry.at)


# Wallets, and what was stopped


def _wallet_created(entry: Entry) -> None:
    body = entry.body
    wallets.add(
        entry.unit,
        id=entry.subject,
        network=body["network"],
        chain_id=body["chainId"],
        address=body["address"],
        key_id=body["keyId"],
        public_key=body["publicKey"],
        status="Active",
        name=body["name"],
        external_id=entry.payload.get("externalId"),
        created_at=entry.at,
    )
    wallets.add_tags(entry.unit, entry.subject, body["tags"], since=_number(entry))


def _number(entry: Entry) -> int:
    """Return the number of the record that is being applied."""
    number: int = organizations.get(entry.unit).head_seq + 1
    return number


def _wallet_drained(entry: Entry) -> None:
    wallets.update(entry.unit, entry.subject, drained_reason=entry.body["reason"])


def _wallet_resumed(entry: Entry) -> None:
    wallets.update(entry.unit, entry.subject, drained_reason=None)


def _pool_created(entry: Entry) -> None:
    body = entry.body
    pools.add(
        entry.unit,
        id=entry.subject,
        name=body["name"],
        network=body["network"],
        chain_id=body["chainId"],
        tag=body["tag"],
        status=pools.ACTIVE,
        created_at=entry.at,
    )


def _pool_archived(entry: Entry) -> None:
    pools.archive(entry.unit, entry.subject)


def _wallet_renamed(entry: Entry) -> None:
    changed = {{"externalId": "external_id"}.get(name, name): value for name, value in entry.body.items()}
    if changed:
        wallets.update(entry.unit, entry.subject, **changed)


def _wallet_tagged(entry: Entry) -> None:
    wallets.add_tags(entry.unit, entry.subject, entry.body["added"], since=_number(entry))
    wallets.remove_tags(entry.unit, entry.subject, entry.body["removed"])


def _wallet_unfrozen(entry: Entry) -> None:
    wallets.update(entry.unit, entry.subject, frozen_reason=None)


def _mandate_created(entry: Entry) -> None:
    mandates.add(entry.unit, id=entry.subject, document=entry.body, now=entry.at)


def _mandate_archived(entry: Entry) -> None:
    mandates.archive(entry.unit, entry.subject, now=entry.at)


def _asset_unfrozen(entry: Entry) -> None:
    wallets.unfreeze_asset(entry.unit, network=entry.body["network"], asset=entry.body["asset"])


def _network_unfrozen(entry: Entry) -> None:
    stops.unfreeze_network(entry.unit, entry.body["network"])


def _stop_lifted(entry: Entry) -> None:
    stops.forget(entry.unit, entry.body["freezeId"])


def _config_applied(entry: Entry) -> None:
    organizations.apply_money_settings(entry.unit, digest(entry.body["moneySettings"]))


def _signer_reseeded(entry: Entry) -> None:
    for wallet_id, nonce in sorted(entry.body["minNonces"].items()):
        recovery.begin_lane_at(entry.unit, wallet_id, nonce=nonce)


# Changes that people agree to


def _change_requested(entry: Entry) -> None:
    body, proof = entry.body, entry.proof
    assert proof is not None
    content, preimage = body["content"], proof["preimage"]
    changes.add(
        entry.unit,
        id=entry.subject,
        status="Pending",
        record_kind=content["kind"],
        subject=content["subject"],
        requester_id=content["requester"],
        token_id="",
        credential_id=entry.key,
        approval_id=body["approval"],
        method=preimage["method"],
        path=preimage["path"],
        payload=canonical(entry.payload).decode(),
        content=canonical(content).decode(),
        digest=digest(content),
        loosens=content["loosens"],
        record=entry.hash,
        created_at=entry.at,
    )
    approvals.add(
        entry.unit,
        id=body["approval"],
        change_id=entry.subject,
        initiator_id=content["requester"],
        status="Pending",
        groups=body["groups"],
        groups_digest=groups_digest(body["groups"]),
        expires_at=body["expires"],
        created_at=entry.at,
        updated_at=entry.at,
    )


def _change_decided(entry: Entry) -> None:
    body, unit = entry.body, entry.unit
    approval = changes.approval_of(unit, entry.subject)
    if body["groups"] != approval.groups:
        _ask_others(entry, approval, body["groups"])
    decision_id, evidence_id = ids.new_id(ids.DECISION, entry.entropy), ids.new_id(ids.EVIDENCE, entry.entropy)
    evidence.keep(
        unit, evidence_id=evidence_id, subject=decision_id, document=canonical(entry.proof).decode(), now=entry.at
    )
    approvals.add_decision(
        unit,
        id=decision_id,
        approval_id=approval.id,
        user_id=entry.signer,
        value=body["value"],
        reason=body["reason"],
        groups_digest=groups_digest(body["groups"]),
        credential_id=entry.key,
        evidence_id=evidence_id,
        at=entry.at,
    )
    approvals.update(unit, approval.id, updated_at=entry.at)
    if body["value"] == "Denied":
        by = users.find(unit, entry.signer)
        assert by is not None
        reason = f"Denied by {by.username}" + (f": {body['reason']}" if body["reason"] else ".")
        _resolve(entry, entry.subject, "Rejected", reason, "Denied")


def _change_closed(entry: Entry) -> None:
    status, reason = entry.body["status"], entry.body["reason"]
    answer = "Denied"
    if reason == _EXPIRED:
        answer = "Expired"
    elif status == "Failed" and _is_agreed(entry):
        answer = "Approved"
    _resolve(entry, entry.subject, status, reason, answer)


def _is_agreed(entry: Entry) -> bool:
    approval = changes.approval_of(entry.unit, entry.subject)
    votes = votes_on(entry.unit, approval, approval.groups)
    people = everybody(entry.unit)
    return agreed_at(approval.groups, votes, people=people, initiator_id=approval.initiator_id) is not None


def _resolve(entry: Entry, change_id: str, status: str, reason: str | None, answer: str) -> None:
    changes.update(entry.unit, change_id, status=status, reason=reason, resolved_at=entry.at, due_at=None)
    approval = changes.approval_of(entry.unit, change_id)
    if approval.status == "Pending":
        approvals.update(entry.unit, approval.id, status=answer, updated_at=entry.at, resolved_at=entry.at)


def _change_applied(entry: Entry) -> None:
    change_id, kind = entry.body["change"], entry.body["kind"]
    row = changes.get(entry.unit, change_id)
    proof = changes.record_named(entry.unit, row.record)["evidence"]
    _WRITE[kind](replace(entry, kind=kind, body=entry.body["body"], payload=proof["payload"], proof=proof))
    _resolve(entry, change_id, "Applied", None, "Approved")


_WRITE: Mapping[str, Callable[[Entry], None]] = {
    records.USER_INVITED: people.user_invited,
    records.USER_REGISTERED: people.user_registered,
    records.USER_ACTIVATED: people.user_activated,
    records.USER_DEACTIVATED: people.user_deactivated,
    records.USER_DELETED: people.user_deleted,
    records.USER_RENAMED: people.user_renamed,
    records.USER_RECOVERED: people.user_recovered,
    records.SERVICE_ACCOUNT_CREATED: people.service_account_created,
    records.CODE_CREATED: people.code_created,
    records.CREDENTIAL_CREATED: people.credential_created,
    records.CREDENTIAL_REGISTERED: people.credential_registered,
    records.CREDENTIAL_ACTIVATED: people.credential_switched,
    records.CREDENTIAL_DEACTIVATED: people.credential_switched,
    records.CREDENTIAL_DELETED: people.credential_switched,
    records.PAT_CREATED: people.pat_created,
    records.PAT_RENAMED: people.pat_renamed,
    records.PERMISSION_CREATED: people.permission_created,
    records.PERMISSION_UPDATED: people.permission_updated,
    records.PERMISSION_ARCHIVED: people.permission_archived,
    records.PERMISSION_ASSIGNED: people.permission_assigned,
    records.PERMISSION_REVOKED: people.permission_revoked,
    records.POLICY_CREATED: _policy_created,
    records.POLICY_UPDATED: _policy_updated,
    records.POLICY_ARCHIVED: _policy_archived,
    records.WALLET_CREATED: _wallet_created,
    records.WALLET_RENAMED: _wallet_renamed,
    records.WALLET_TAGS_MODIFIED: _wallet_tagged,
    records.WALLET_UNFROZEN: _wallet_unfrozen,
    records.WALLET_DRAINED: _wallet_drained,
    records.WALLET_RESUMED: _wallet_resumed,
    records.POOL_CREATED: _pool_created,
    records.POOL_ARCHIVED: _pool_archived,
    records.MANDATE_CREATED: _mandate_created,
    records.MANDATE_ARCHIVED: _mandate_archived,
    records.ASSET_UNFROZEN: _asset_unfrozen,
    records.NETWORK_UNFROZEN: _network_unfrozen,
    records.STOP_LIFTED: _stop_lifted,
    records.SIGNER_RESEEDED: _signer_reseeded,
    records.CONFIG_APPLIED: _config_applied,
    records.CHANGE_REQUESTED: _change_requested,
    records.CHANGE_DECIDED: _change_decided,
    records.CHANGE_APPLIED: _change_applied,
    records.CHANGE_CLOSED: _change_closed,
}
"""Kind of record -> what writes its rows."""
