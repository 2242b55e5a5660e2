"""People decide about held transfers and changes. A decision is a signature over the content and the groups asked."""

from typing import Any

from outlay.actions import changes, present_changes
from outlay.actions.act import Act
from outlay.actions.carry import carry_out_if_due
from outlay.actions.judge import people
from outlay.actions.receipts import receipt_of
from outlay.actions.settle import settle
from outlay.core import ids
from outlay.core.approval import refusal
from outlay.core.errors import ApprovalChanged, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.store import approvals, transfers, users
from outlay.store import changes as change_rows
from outlay.store.database import Row

REASON_MAX = 1000


def check_words(value: str, reason: str | None) -> None:
    """Refuse a decision that says something else than Approved or Denied, and perhaps why.

    Raises:
        InvalidInput: it does.
    """
    if value not in ("Approved", "Denied"):
        raise InvalidInput('is "Approved" or "Denied"', field="value")
    if reason is not None and (len(reason) > REASON_MAX or not reason.isprintable()):
        raise InvalidInput(f"is at most {REASON_MAX} printable characters", field="reason")


def decide(act: Act, approval_id: str, *, value: str, reason: str | None) -> dict[str, Any]:
    """Record one person's decision and, where it settles the matter, act on it.

    Raises:
        NotFound: no such approval. PreconditionFailed: it is closed. NotPermitted: this person may not decide so.
        ApprovalChanged: the groups changed after the decision was signed.
    """
    check_words(value, reason)
    approval = approvals.find(act.unit, approval_id)
    if approval is None:
        raise NotFound("no such approval")
    if approval.status != "Pending":
        raise PreconditionFailed(f"this approval is {approval.status}: nothing is left to decide")
    if approval.expires_at is not None and act.now >= approval.expires_at:
        raise PreconditionFailed("the time to decide has run out")
    signed = act.call.preimage
    if signed.intent_digest != _digest(act, approval) or signed.groups_digest != approval.groups_digest:
        raise ApprovalChanged("what is asked changed after you signed: read the approval again and decide anew")
    already = {
        decision.user_id
        for decision in approvals.decisions(act.unit, approval_id)
        if decision.groups_digest == approval.groups_digest and users.is_in_use(act.unit, decision.credential_id)
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
        credential_id=act.credential.uuid,
        evidence_id=act.keep_evidence(decision_id),
        at=act.now,
    )
    approvals.update(act.unit, approval_id, updated_at=act.now)
    act.result_id = decision_id
    receipt_of(act, approval, value=value, reason=reason)
    said = f"Denied by {act.caller.username}" + (f": {reason}" if reason else ".")
    if approval.change_id is not None:
        # A record of its own: no decision about a change can be added, dropped or moved later.
        changes.decide(act, approval, value=value, reason=reason)
    settle(act.work, approval, said)
    if approval.change_id is not None:
        carry_out_if_due(act.work, approval.change_id)
    found = approvals.find(act.unit, approval_id)
    assert found is not None
    return present_changes.approval(act.unit, found, act.config)


def _digest(act: Act, approval: Row) -> str:
    """Return the digest of what an approval is about."""
    if approval.change_id is not None:
        content: str = change_rows.get(act.unit, approval.change_id).digest
        return content
    intent: str = transfers.get(act.unit, approval.transfer_id).intent_digest
    return intent
