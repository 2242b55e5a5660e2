"""Payouts that wait for room under their caps: judged again, in the order in which they were asked for.

Nobody overtakes within one counter: a payout goes on only when it is the first in the queue of every counter that
would count it, and what is asked for later stands behind it there. So a large one gets its turn, however many small
ones come after it.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outlay.actions.admission import Admissions
from outlay.actions.change import change_many
from outlay.actions.judge import ADMISSION, Judgement, facts_of, keep, open_approval
from outlay.actions.work import Work
from outlay.core.policy import required_groups
from outlay.core.transfer import Event
from outlay.store import transfers, waiting, wallets
from outlay.store.counters import Opening
from outlay.store.database import Row
from outlay.store.transfers import Change
from outlay.store.velocity import key_of

COUNTERS_MAX, ROUND_MAX = 100, 100
"""Queues looked at, and payouts judged, in one unit."""

LATE = "No room came free under its caps in time."

_EVENTS = {"allow": Event.ALLOWED, "hold": Event.HELD, "block": Event.BLOCKED}
_Key = tuple[str, str]


def end_overdue(work: Work, *, limit: int) -> int:
    """End payouts whose time to wait is over; return how many."""
    rows = waiting.overdue(work.unit, now=work.now, limit=limit)
    ended = {"reason": LATE, "resolved_at": work.now}
    change_many(work, [Change(row=row, event=Event.TIMED_OUT, values=ended) for row in rows])
    return len(rows)


@dataclass(slots=True)
class _Round:
    """What one unit has found out so far."""

    admissions: Admissions
    queues: dict[_Key, list[tuple[int, str]]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  #: transfers that wait no more
    answers: list[tuple[Row, str, Judgement]] = field(default_factory=list)  #: and the wallet it counts for


def admit_waiting(work: Work, *, after: int) -> tuple[int, int]:
    """Let payouts go on for which there is room now.

    Args:
        work: a money unit.
        after: the place behind which to look for queues; 0 for the first ones.

    Returns:
        How many went on, and the place to go on behind with the next unit; 0 when all queues were looked at.
    """
    found = _Round(Admissions(work))
    waiting.set_free(work.unit, found.admissions.active)
    heads = waiting.heads(work.unit, after=after, limit=COUNTERS_MAX)
    ready: list[tuple[int, _Key]] = []
    for row in heads:
        key = (row.policy_id, row.scope_key)
        found.queues[key] = waiting.queue(work.unit, *key, limit=ROUND_MAX)
        heapq.heappush(ready, (row.head, key))
    judged = 0
    while ready and judged < ROUND_MAX:
        _, key = heapq.heappop(ready)
        transfer_id = found.queues[key].pop(0)[1]
        if transfer_id not in found.gone:
            judged += 1
            if not _goes_on(work, found, transfer_id):
                continue  # and so nobody behind it does
        if found.queues[key]:
            heapq.heappush(ready, (found.queues[key][0][0], key))
    _carry_out(work, found)
    if ready:
        return len(found.answers), after
    return len(found.answers), heads[-1].head if len(heads) == COUNTERS_MAX else 0


def _goes_on(work: Work, found: _Round, transfer_id: str) -> bool:
    """Judge a payout; tell whether it waits no more."""
    row = transfers.get(work.unit, transfer_id)
    stands_in = waiting.counters_of(work.unit, transfer_id)
    payers = _payers(work, found, row)
    opening = Opening(
        transfer_id=row.id,
        wallet_id=payers[0].id,
        recipient=row.recipient,
        initiator_id=row.initiator_id,
        value=row.value,
    )
    found.admissions.expect_counters([(payers, opening)])
    judgement = found.admissions.judge(
        payers,
        facts_of(row, work.config),
        opening,
        has_queue=lambda policy, there: _is_behind(work, found, (policy.id, key_of(policy, there)), row.wait_place),
    )
    said = judgement.verdict
    if said.kind == "wait":
        waiting.join(work.unit, judgement.full - stands_in, place=row.wait_place, transfer_id=row.id)
        return False
    found.gone.add(row.id)
    found.answers.append((row, opening.wallet_id, judgement))
    found.admissions.count(judgement, opening)
    return True


def _is_behind(work: Work, found: _Round, key: _Key, place: int) -> bool:
    """Tell whether another payout waits in a queue before ``place``."""
    first = waiting.queue(work.unit, *key, limit=len(found.gone) + 1)
    return any(at < place and transfer_id not in found.gone for at, transfer_id in first)


def _payers(work: Work, found: _Round, row: Row) -> Sequence[Row]:
    """Return the wallets that may pay, first the one the payout counts for."""
    wallet = wallets.find(work.unit, row.wallet_id)
    assert wallet is not None
    if row.pool_id is None:
        return [wallet]
    found.admissions.payers.pool(row.pool_id)
    members = found.admissions.payers.of(row.pool_id, asset=row.asset, amount=row.amount)
    # It goes on counting for the wallet it was given, unless that one has left the pool and cannot pay it any more.
    return sorted(members, key=lambda each: each.id != wallet.id) or [wallet]


def _carry_out(work: Work, found: _Round) -> None:
    if not found.answers:
        return
    found.admissions.write_counters()
    changes = []
    for row, wallet_id, judgement in found.answers:
        said = judgement.verdict
        values: dict[str, Any] = {"policy_set": found.admissions.policy_set, "wallet_id": wallet_id}
        if said.kind == "allow":
            values |= {"resolved_at": work.now, "ready_at": work.now}
        elif said.kind == "block":
            values |= {"resolved_at": work.now, "reason": " ".join(said.reasons)}
        detail = {"reasons": list(said.reasons)} if said.reasons else None
        changes.append(Change(row=row, event=_EVENTS[said.kind], detail=detail, values=values))
    for row, _, judgement in found.answers:
        keep(work, judgement, row, moment=ADMISSION)
    rows = change_many(work, changes)
    for row, (_, _, judgement) in zip(rows, found.answers, strict=True):
        if judgement.verdict.kind == "hold":
            open_approval(work, row, required_groups(judgement.holding), judgement.holding)
