"""Change requests: asked for and decided by people. ``carry`` makes the change once they agree and the wait is over.

Every step is a record: the request, each decision, and what became of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from outlay.actions import govern, present_changes
from outlay.actions.act import Act, append_record
from outlay.actions.judge import may_still_vote
from outlay.actions.judge import people as everybody
from outlay.actions.work import Work
from outlay.core import ids
from outlay.core.approval import Decision, merge_groups, outcome, shortest_timeout
from outlay.core.errors import PreconditionFailed, Refused
from outlay.core.policy import required_groups
from outlay.core.seams import MINUTE, SECOND, Instant
from outlay.evidence import record as records
from outlay.evidence.canonical import canonical, digest
from outlay.evidence.governance import agreed_at, content, delay_of, groups_digest
from outlay.store import approvals, changes, organizations, webhooks
from outlay.store.database import Row, Unit

PENDING, APPLIED, FAILED, REJECTED = "Pending", "Applied", "Failed", "Rejected"


# Asked for


def request(act: Act, held: govern.NeedsApproval) -> dict[str, Any]:
    """Store a change that people have to agree to first, and ask them; return its change request."""
    change, ruling = held.change, held.ruling
    change_id, approval_id = ids.new_id(ids.CHANGE, act.entropy), ids.new_id(ids.APPROVAL, act.entropy)
    groups = list(required_groups(ruling.holding))
    timeout = shortest_timeout(ruling.holding)
    expires = None if timeout is None else act.now + timeout * MINUTE
    document = content(
        org=act.org.id,
        change_id=change_id,
        requester=act.caller.user_id,
        change=change,
        loosens=ruling.loosens,
    )
    body = {"approval": approval_id, "content": document, "groups": groups, "expires": expires}
    hash_of_record = append_record(
        act.unit,
        act.org,
        kind=records.CHANGE_REQUESTED,
        subject=change_id,
        body=body,
        evidence=act.evidence(),
        now=act.now,
    )
    changes.add(
        act.unit,
        id=change_id,
        status=PENDING,
        record_kind=change.kind,
        subject=change.subject,
        requester_id=act.caller.user_id,
        token_id=act.caller.token_id,
        credential_id=act.credential.uuid,
        approval_id=approval_id,
        method=act.call.preimage.method,
        path=act.call.preimage.path,
        payload=canonical(act.payload or {}).decode(),
        content=canonical(document).decode(),
        digest=digest(document),
        loosens=ruling.loosens,
        record=hash_of_record,
        created_at=act.now,
    )
    approvals.add(
        act.unit,
        id=approval_id,
        change_id=change_id,
        initiator_id=act.caller.user_id,
        status="Pending",
        groups=groups,
        groups_digest=groups_digest(groups),
        expires_at=expires,
        created_at=act.now,
        updated_at=act.now,
    )
    act.result_id = change_id
    for policy in ruling.holding:
        _emit(act.work, "policy.triggered", change_id, present_changes.triggered(act.work, change_id, policy.id))
    _announce(act.work, change_id, "policy.approval.pending")
    _tell(act.work, change_id, "change.requested")
    return present_changes.change(act.unit, changes.get(act.unit, change_id))


def _emit(work: Work, kind: str, subject: str, data: Mapping[str, Any]) -> None:
    webhooks.emit(work.unit, kind=kind, subject=subject, data=dict(data), now=work.now, entropy=work.entropy)


def _announce(work: Work, change_id: str, kind: str) -> None:
    row = changes.approval_of(work.unit, change_id)
    _emit(work, kind, row.id, {"approval": present_changes.approval(work.unit, row, work.config)})


def _tell(work: Work, change_id: str, kind: str) -> None:
    """Raise an event that names everybody who could have asked for such a change: they are to know of it."""
    _emit(work, kind, change_id, present_changes.notice(work.unit, changes.get(work.unit, change_id)))


# Decided


def decide(act: Act, approval: Row, *, value: str, reason: str | None) -> None:
    """Record a decision about a change; whether it may be made was checked."""
    row = changes.get(act.unit, approval.change_id)
    body = {"approval": approval.id, "value": value, "reason": reason, "groups": approval.groups}
    act.record(records.CHANGE_DECIDED, row.id, body)


def settle(work: Work, approval: Row, said: str) -> None:
    """Let a change wait for its time, or reject it, as the decisions so far say."""
    row = changes.get(work.unit, approval.change_id)
    if row.status != PENDING:
        return
    votes = votes_on(work.unit, approval, approval.groups)
    answer = outcome(
        approval.groups,
        [vote for vote, _ in votes],
        people=everybody(work.unit),
        initiator_id=approval.initiator_id,
    )
    if answer == "Denied":
        resolve(work, row, REJECTED, said)  # the record of the denial says so
        return
    try:
        due = due_of(work, row, json.loads(row.content))
    except Refused as error:
        close(work, row, FAILED, error.message)
        return
    changes.update(work.unit, row.id, due_at=due)


def votes_on(unit: Unit, approval: Row, groups: Any) -> list[tuple[Decision, Instant]]:
    """Return the decisions on an approval, oldest first; those about other groups or of withdrawn keys do not count."""
    covered = groups_digest(groups)
    return [
        (
            Decision(
                each.user_id,
                each.value,
                counts=each.groups_digest == covered and may_still_vote(unit, each),
            ),
            each.at,
        )
        for each in approvals.decisions(unit, approval.id)
    ]


def close(work: Work, row: Row, status: str, reason: str) -> None:
    """End a change request that nobody denied; the record says so, so that it cannot be carried out later."""
    body = {"change": row.id, "status": status, "reason": reason}
    org = organizations.get(work.unit)
    append_record(work.unit, org, kind=records.CHANGE_CLOSED, subject=row.id, body=body, evidence=None, now=work.now)
    resolve(work, row, status, reason)


def resolve(work: Work, row: Row, status: str, reason: str | None) -> None:
    changes.update(work.unit, row.id, status=status, reason=reason, resolved_at=work.now, due_at=None)
    approval = changes.approval_of(work.unit, row.id)
    agreed = status == APPLIED or (status == FAILED and _agreed(work.unit, approval) is not None)
    answer = "Approved" if agreed else "Denied"
    if approval.status == "Pending":
        approvals.update(work.unit, approval.id, status=answer, updated_at=work.now, resolved_at=work.now)
    _announce(work, row.id, "policy.approval.resolved")
    _tell(work, row.id, "change.resolved")


def expire(work: Work, approval: Row) -> None:
    """End a change request that nobody decided in time."""
    row = changes.get(work.unit, approval.change_id)
    approvals.update(work.unit, approval.id, status="Expired", updated_at=work.now, resolved_at=work.now)
    close(work, row, REJECTED, "Nobody decided in time.")


# Agreed on


def due_of(work: Work, row: Row, document: Mapping[str, Any]) -> Instant | None:
    """Return from when a change may be made, under the stricter of then and now; None: not enough people agree.

    Raises:
        PreconditionFailed: it is not what was asked for any more, or a policy blocks it.
    """
    approval, loosens = changes.approval_of(work.unit, row.id), row.loosens
    judged = govern.judge_record(
        work.unit,
        kind=row.record_kind,
        subject=row.subject,
        body=document["after"],
        now=work.now,
    )
    if judged is not None:
        change, ruling = judged
        if ruling.blocking:
            raise PreconditionFailed(f"the policy {ruling.blocking[0].name!r} blocks this change")
        if canonical(change.before) != canonical(document["before"]):
            raise PreconditionFailed("what it would change has changed since it was asked for: ask again")
        loosens = loosens or ruling.loosens
        groups = list(merge_groups(approval.groups, required_groups(ruling.holding)))
        if groups != approval.groups:
            reopen(work, approval, groups)
            return None
    agreed = _agreed(work.unit, approval)
    if agreed is None:
        return None
    return agreed + (delay_of(changes.money_settings(work.unit)) * SECOND if loosens else 0)


def _agreed(unit: Unit, approval: Row) -> Instant | None:
    """Return when the quorum that holds now was reached, or None."""
    return agreed_at(
        approval.groups,
        votes_on(unit, approval, approval.groups),
        people=everybody(unit),
        initiator_id=approval.initiator_id,
    )


def reopen(work: Work, approval: Row, groups: list[dict[str, Any]]) -> None:
    """Ask other groups about a change; who decided before decides again, also should the old groups come back."""
    approvals.void_decisions(work.unit, approval.id)
    digest_now = groups_digest(groups)
    approvals.update(work.unit, approval.id, groups=groups, groups_digest=digest_now, updated_at=work.now)
    changes.update(work.unit, approval.change_id, due_at=None)
    _announce(work, approval.change_id, "policy.approval.pending")
