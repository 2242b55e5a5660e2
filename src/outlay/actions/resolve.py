"""Ending a payout that is final with another effect than was asked for, at a person's word.

What really left was posted when it became final. What did not has stayed reserved until now, and is spendable again:
nothing else is posted. It stays in the windows of the policies, whatever it is called. The flag stays too.
"""

from typing import Any

from outlay.actions import present_payouts
from outlay.actions.act import Act
from outlay.actions.change import change
from outlay.actions.wallets import check_reason
from outlay.core.errors import InvalidInput, NotFound, PreconditionFailed
from outlay.core.ledger import release
from outlay.core.transfer import MISMATCH, Event, State
from outlay.store import lanes, ledger, transfers

OUTCOMES = {"paid": Event.ACCEPTED, "failed": Event.DISMISSED}
"""What a person may call it -> what happens to it."""


def resolve(act: Act, payout_id: str, *, outcome: str, reason: str) -> dict[str, Any]:
    """End a payout that had another effect than was asked for; what was signed and found is kept with it.

    Args:
        act: the signed call.
        payout_id: which.
        outcome: ``paid``: the recipient has what is owed. ``failed``: it has not, and may be paid anew.
        reason: what was found.

    Raises:
        NotFound: no such payout. PreconditionFailed: it is not one of those, or it was resolved already.
    """
    check_reason(reason)
    if outcome not in OUTCOMES:
        raise InvalidInput("must be one of " + ", ".join(OUTCOMES), field="outcome")
    row = transfers.find(act.unit, payout_id)
    if row is None:
        raise NotFound("no such payout")
    slot = None if row.transaction_id is None else lanes.find_transaction(act.unit, row.transaction_id)
    is_final = slot is not None and slot.state == "final"
    if row.flag != MISMATCH or State(row.state) is not State.MINED or slot is None or not is_final:
        raise PreconditionFailed(
            f"this payout is {row.state}: only one that is final with another effect than was asked for is resolved"
        )
    place = {"wallet": slot.wallet_id, "network": row.network, "asset": row.asset}
    rest = ledger.reserved_for(act.unit, transfer_id=payout_id, wallet_id=slot.wallet_id, asset=row.asset)
    if rest > 0:
        lines = release(**place, amount=rest, fee_cap=0)
        ledger.post(act.unit, lines, transfer_id=payout_id, now=act.now, entropy=act.entropy)
    # Of a subject of its own: what is kept for the payout itself is its request.
    evidence_id = act.keep_evidence(f"{payout_id}/resolved")
    detail = {
        "outcome": outcome,
        "reason": reason,
        "by": act.caller.user_id,
        "evidence": evidence_id,
        "block": slot.block_hash,
        "height": slot.block_number,
        "transaction": slot.mined_hash,
    }
    values: dict[str, Any] = {"reason": f"{row.reason} Called {outcome} by {act.caller.username}: {reason}"}
    if outcome == "paid":
        values["confirmed_at"] = act.now
    after = change(act.work, row, OUTCOMES[outcome], detail=detail, **values)
    act.result_id = payout_id
    return present_payouts.payout(after, act.config)
