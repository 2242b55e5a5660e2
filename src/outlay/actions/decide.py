"""People decide about held transfers. Each decision is a signature over the transfer and the groups asked."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import Act
from outlay.actions.change import change, resolve_approval
from outlay.actions.judge import decided, people
from outlay.actions.work import Work
from outlay.core import ids
from outlay.core.approval import refusal
from outlay.core.errors import ApprovalChanged, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.core.transfer import Event, State
from outlay.store import approvals, transfers
from outlay.store.database import Row

REASON_MAX = 1000


def decide(act: Act, approval_id: str, *, value: str, reason: str | None) -> dict[str, Any]:
    """Record one person's decision and, where it settles the matter, act on it.

    Raises:
        NotFound: no such approval. PreconditionFailed: it is closed. NotPermitted: this person may not decide so.
        ApprovalChanged: the groups changed after the decision was signed.
    """
    if value not in ("Approved", "Denied"):
        raise InvalidInput('is "Approved" or "Denied"', field="value")
    if reason is not None and (len(reason) > REASON_MAX or not reason.isprintable()):
        raise InvalidInput(f"is at most {REASON_MAX} printable characters", field="reason")
    approval = approvals.find(act.unit, approval_id)
    if approval is None:
        raise NotFound("no such approval")
    if approval.status != "Pending":
        raise PreconditionFailed(f"this approval is {approval.status}: nothing is left to decide")
    if approval.expires_at is not None and act.now >= approval.expires_at:
        raise PreconditionFailed("the time to decide has run out")
    row = transfers.get(act.unit, approval.transfer_id)
    signed = act.call.preimage
    if signed.intent_digest != row.intent_digest or signed.groups_digest != approval.groups_digest:
        raise ApprovalChanged("what is asked changed after you signed: read the approval again and decide anew")
    already = {
        decision.user_id
        for decision in approvals.decisions(act.unit, approval_id)
        if decision.groups_digest == approval.groups_digest
    }
    why_not = refusal(
        approval.groups,
        act.caller.user_id,
        value,
        people=people(act.unit),
        initiator_id=approval.initiator_id,
        decided=already,
    )
    if why_not is not None:
        raise NotPermitted(why_not)
    decision_id = act.new_id(ids.DECISION)
    approvals.add_decision(
        act.unit,
        id=decision_id,
        approval_id=approval_id,
        user_id=act.caller.user_id,
        value=value,
        reason=reason,
        groups_digest=approval.groups_digest,
        evidence_id=act.keep_evidence(decision_id),
        at=act.now,
    )
    approvals.update(act.unit, approval_id, updated_at=act.now)
    act.result_id = decision_id
    said = f"Denied by {act.caller.username}" + (f": {reason}" if reason else ".")
    _settle(act.work, approval, row, said)
    found = approvals.find(act.unit, approval_id)
    assert found is not None
    return present.approval(act.unit, found, act.config)


def settle_open(work: Work, user_id: str) -> None:
    """Count again where a person has decided already: an identity that is switched on again counts again."""
    for approval in approvals.pending(work.unit):
        if any(each.user_id == user_id for each in approvals.decisions(work.unit, approval.id)):
            _settle(work, approval, transfers.get(work.unit, approval.transfer_id), "Denied.")


def _settle(work: Work, approval: Row, row: Row, denied: str) -> None:
    """Let the transfer go, or reject it, once the decisions say so."""
    answer = decided(work.unit, approval, approval.groups)
    if answer == "Pending" or State(row.state) is not State.HELD:
        return
    resolve_approval(work, approval, answer)
    if answer == "Approved":
        change(work, row, Event.ALLOWED, resolved_at=work.now, ready_at=work.now, waiting_reason=None)
    else:
        change(work, row, Event.DENIED, resolved_at=work.now, reason=denied)
