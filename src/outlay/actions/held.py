"""What waits in a batch, or in a whole file of payouts, and may be decided about at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outlay.core.policy import PER_BATCH
from outlay.core.seams import Instant
from outlay.evidence.batch import held_digest
from outlay.store import approvals, batches, submissions
from outlay.store.database import Row, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one person can decide about at once: payouts of one batch that wait for the same groups."""

    batch: Row
    approvals: Sequence[Row]  #: in the order of their transfers' ids
    intents: Sequence[str]  #: intent digest of each
    groups_digest: str

    @property
    def digest(self) -> str:
        """What a decision signs in the place of one intent."""
        return held_digest(self.batch.digest, self.intents)


def held_for(unit: Unit, batch_id: str, user_id: str, *, now: Instant) -> Held | None:
    """Return what a person can decide about in a batch, or None.

    Left out is what they have decided about already, what one decision may not do for, and what waits for other groups
    than the first: that comes next.
    """
    batch = batches.find(unit, batch_id)
    if batch is None:
        return None
    rows = [
        (approval, intent_digest)
        for approval, intent_digest in batches.waiting(unit, batch_id, not_decided_by=user_id)
        if all(group.get("per") == PER_BATCH for group in approval.groups)
        and (approval.expires_at is None or now < approval.expires_at)
    ]
    if not rows:
        return None
    same = [each for each in rows if each[0].groups_digest == rows[0][0].groups_digest]
    return Held(
        batch=batch,
        approvals=[approval for approval, _ in same],
        intents=[intent_digest for _, intent_digest in same],
        groups_digest=same[0][0].groups_digest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What one person can decide about at once: a whole file, as far as its payouts wait for these groups."""

    submission: Row
    groups: Sequence[dict[str, Any]]
    groups_digest: str
    waiting: int  #: payouts

    @property
    def digest(self) -> str:
        """What a decision signs in the place of one intent."""
        return str(self.submission.subject)


def whole_for(unit: Unit, submission_id: str, user_id: str, *, now: Instant) -> Whole | None:
    """Return what a person can decide about in a file of payouts, or None.

    Nothing can be decided while rows are still being admitted. What waits for other groups than the first comes next.
    """
    submission = submissions.find(unit, submission_id)
    if submission is None or submission.state in submissions.OPEN:
        return None
    for asked in submissions.asked(unit, submission_id, user_id=user_id, now=now):
        if submissions.has_decided(unit, submission_id, user_id=user_id, groups_digest=asked.groups_digest):
            continue
        one = approvals.find(unit, asked.approval_id)
        assert one is not None
        if all(group.get("per") == PER_BATCH for group in one.groups):
            return Whole(
                submission=submission, groups=one.groups, groups_digest=asked.groups_digest, waiting=asked.number
            )
    return None
