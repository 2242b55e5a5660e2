"""Deciding once about everything of a batch that waits, where the policies that ask let one decision do."""

from typing import Any

from outlay.actions import present_payouts
from outlay.actions.act import Act
from outlay.actions.decide import check_words
from outlay.actions.held import held_for
from outlay.actions.judge import people
from outlay.actions.receipts import receipt_of_batch
from outlay.actions.settle import settle
from outlay.core import ids
from outlay.core.approval import refusal
from outlay.core.errors import ApprovalChanged, NotFound, NotPermitted, PreconditionFailed
from outlay.evidence.batch import ROW, held_rows
from outlay.evidence.canonical import canonical
from outlay.store import approvals, batches, evidence


def decide_batch(act: Act, batch_id: str, *, value: str, reason: str | None) -> dict[str, Any]:
    """Record one person's decision about what waits in a batch and, where it settles something, act on it.

    Raises:
        NotFound: no such batch. PreconditionFailed: nothing waits that could be decided so. NotPermitted: this person
            may not decide so. ApprovalChanged: what waits, or who is asked, changed after it was signed.
    """
    check_words(value, reason)
    if batches.find(act.unit, batch_id) is None:
        raise NotFound("no such batch")
    held = held_for(act.unit, batch_id, act.caller.user_id, now=act.now)
    if held is None:
        raise PreconditionFailed("nothing in this batch waits for a decision of yours that may be about all of it")
    signed = act.call.preimage
    if (signed.intent_digest, signed.groups_digest) != (held.digest, held.groups_digest):
        raise ApprovalChanged("what waits in this batch changed after you signed: look at it again and decide anew")
    first = held.approvals[0]
    why_not = refusal(
        first.groups, act.caller.user_id, value, people=people(act.unit), initiator_id=held.batch.initiator_id
    )
    if why_not is not None:
        raise NotPermitted(why_not)
    proof = act.evidence()
    said = f"Denied by {act.caller.username}" + (f": {reason}" if reason else ".")
    for approval, row in zip(held.approvals, held_rows(held.intents), strict=True):
        decision_id, evidence_id = act.new_id(ids.DECISION), act.new_id(ids.EVIDENCE)
        text = canonical({**proof, ROW: row}).decode()
        evidence.keep(act.unit, evidence_id=evidence_id, subject=decision_id, document=text, now=act.now)
        approvals.add_decision(
            act.unit,
            id=decision_id,
            approval_id=approval.id,
            user_id=act.caller.user_id,
            value=value,
            reason=reason,
            groups_digest=approval.groups_digest,
            credential_id=act.credential.uuid,
            evidence_id=evidence_id,
            at=act.now,
        )
        approvals.update(act.unit, approval.id, updated_at=act.now)
        settle(act.work, approval, said)
    receipt_of_batch(
        act, batch_id, batch_id, waiting=len(held.approvals), digest=held.digest, value=value, reason=reason
    )
    act.result_id = batch_id
    return present_payouts.batch_now(act.unit, held.batch, act.config)
