"""Deciding once about a whole file of payouts, where the policies that ask let one decision do.

The decision is about the file that was signed, whatever of it waits for these groups. It is kept at once, and carried
out payout by payout afterwards, for there may be many.
"""

from typing import Any

from outlay.actions.act import Act
from outlay.actions.decide import check_words
from outlay.actions.held import whole_for
from outlay.actions.judge import people
from outlay.actions.present_batches import batch_now
from outlay.actions.receipts import receipt_of_batch
from outlay.actions.settle import settle
from outlay.actions.work import Work
from outlay.core import ids
from outlay.core.approval import refusal
from outlay.core.errors import ApprovalChanged, NotFound, NotPermitted, PreconditionFailed
from outlay.evidence.canonical import canonical
from outlay.store import approvals, evidence, submissions, users
from outlay.store.database import Row


def decide_whole(act: Act, batch_id: str, *, value: str, reason: str | None) -> dict[str, Any]:
    """Record one person's decision about a file.

    Raises:
        NotFound: no such file. PreconditionFailed: nothing waits that could be decided so, or rows are still being
            admitted. NotPermitted: this person may not decide so. ApprovalChanged: who is asked changed after it was
            signed.
    """
    check_words(value, reason)
    row = submissions.find(act.unit, batch_id)
    if row is None:
        raise NotFound("no such batch")
    if row.state in submissions.OPEN:
        raise PreconditionFailed("rows of this batch are still being admitted: decide when all of them are")
    whole = whole_for(act.unit, batch_id, act.caller.user_id, now=act.now)
    if whole is None:
        raise PreconditionFailed("nothing in this batch waits for a decision of yours that may be about all of it")
    signed = act.call.preimage
    if (signed.intent_digest, signed.groups_digest) != (whole.digest, whole.groups_digest):
        raise ApprovalChanged("who is asked about this batch changed after you signed: look at it again, decide anew")
    why_not = refusal(whole.groups, act.caller.user_id, value, people=people(act.unit), initiator_id=row.initiator_id)
    if why_not is not None:
        raise NotPermitted(why_not)
    submissions.add_decision(
        act.unit,
        id=act.new_id(ids.DECISION),
        submission_id=batch_id,
        user_id=act.caller.user_id,
        value=value,
        reason=reason,
        groups_digest=whole.groups_digest,
        credential_id=act.credential.uuid,
        document=canonical(act.evidence()).decode(),
        at=act.now,
    )
    receipt_of_batch(act, batch_id, row.name, waiting=whole.waiting, digest=whole.digest, value=value, reason=reason)
    act.result_id = batch_id
    return batch_now(act.unit, row, act.config, user_id=act.caller.user_id, now=act.now)


def carry_out(work: Work, made: Row, *, limit: int) -> int:
    """Carry a decision out for the next payouts it is about; return how many.

    Args:
        work: a money unit.
        made: the decision.
        limit: payouts at most.
    """
    found = submissions.to_settle(
        work.unit,
        made.submission_id,
        user_id=made.user_id,
        groups_digest=made.groups_digest,
        first=made.settled,
        now=work.now,
        limit=limit,
    )
    who = users.find(work.unit, made.user_id)
    said = f"Denied by {made.user_id if who is None else who.username}" + (f": {made.reason}" if made.reason else ".")
    for _, approval in found:
        decision_id, evidence_id = ids.new_id(ids.DECISION, work.entropy), ids.new_id(ids.EVIDENCE, work.entropy)
        evidence.keep(work.unit, evidence_id=evidence_id, subject=decision_id, document=made.document, now=made.at)
        approvals.add_decision(
            work.unit,
            id=decision_id,
            approval_id=approval.id,
            user_id=made.user_id,
            value=made.value,
            reason=made.reason,
            groups_digest=made.groups_digest,
            credential_id=made.credential_id,
            evidence_id=evidence_id,
            at=made.at,
        )
        approvals.update(work.unit, approval.id, updated_at=work.now)
        settle(work, approval, said)
    if len(found) < limit:
        submissions.update_decision(work.unit, made.id, settled_at=work.now)
    else:
        submissions.update_decision(work.unit, made.id, settled=found[-1][0] + 1)
    return len(found)
