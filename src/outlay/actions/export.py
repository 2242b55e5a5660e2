"""Reading out the proof of one payout, for somebody who will check it without this server."""

from collections.abc import Sequence
from typing import Any

from outlay.actions.demand import kept
from outlay.actions.sending import PAYOUT
from outlay.core.errors import InvalidInput, InvariantBroken, NotFound, PreconditionFailed
from outlay.core.policy import required_groups
from outlay.core.seams import SECOND
from outlay.evidence.batch import split
from outlay.evidence.canonical import canonical
from outlay.evidence.demand import VOTE, head_seen, open_signature, order, portable, versions_asked
from outlay.evidence.history import History, verify_history
from outlay.evidence.http_call import is_http, read_call
from outlay.evidence.mandated import mandate_call
from outlay.evidence.payout import VERSION
from outlay.evidence.submission import split_request
from outlay.store import approvals, lanes, organizations, transfers
from outlay.store.database import Row, Unit


def export_payout(unit: Unit, transfer_id: str) -> bytes:
    """Return the proof of a payout, as ``evidence.payout.verify_payout`` takes it.

    Raises:
        NotFound: no such transfer. PreconditionFailed: nothing was signed for it, or the records do not tell who was
            asked. InvariantBroken: the stored records or signatures do not verify.
    """
    row = transfers.find(unit, transfer_id)
    if row is None:
        raise NotFound("no such transfer")
    raw = _signed_bytes(unit, row)
    if raw is None:
        raise PreconditionFailed(f"nothing was signed for this payout, which is {row.state}: there is nothing to prove")
    approval = approvals.find_of(unit, transfer_id)
    decisions = [] if approval is None else _approvals(unit, approval)
    try:
        if row.mandate_id is not None:
            request = mandate_call(row.mandate_id, row.intent)
            records, history, decisions = _until_signed(unit, row, decisions)
            first = history.mandates[row.mandate_id].since
        else:
            request = portable(kept(unit, transfer_id))
            records, history, decisions = _window(unit, request, decisions)
            first = history.numbers[head_seen(history, request, "payout")]
    except InvalidInput as error:
        raise InvariantBroken(f"what is stored about {transfer_id} does not verify: {error.message}") from error
    return canonical(
        {
            "v": VERSION,
            "records": records,
            "payout": request,
            "asked": [] if approval is None else _asked(history, approval.groups, first),
            "decisions": decisions,
            "transaction": f"0x{raw}",
        }
    )


def _signed_bytes(unit: Unit, row: Row) -> str | None:
    """Return the attempt that is in a block, or the newest that was signed to pay; hex."""
    slot = None if row.transaction_id is None else lanes.find_transaction(unit, row.transaction_id)
    if slot is None:
        return None
    paying = [each for each in lanes.attempts(unit, slot.id) if each.purpose == PAYOUT and each.raw is not None]
    mined = [each for each in paying if each.hash == slot.mined_hash]
    newest = (mined or paying)[-1:]
    return str(newest[0].raw) if newest else None


def _approvals(unit: Unit, approval: Row) -> list[dict[str, Any]]:
    """Return every approval given to the groups that were asked in the end, in the order of signing."""
    given = [
        each
        for each in approvals.decisions(unit, approval.id)
        if each.value == "Approved" and each.groups_digest == approval.groups_digest
    ]
    return sorted((portable(kept(unit, each.id)) for each in given), key=order)


def _until_signed(
    unit: Unit, row: Row, decisions: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], History, list[dict[str, Any]]]:
    """Return the records there were when a payment under a mandate was signed, and what ``_window`` returns."""
    newest = organizations.newest_at(unit, row.signed_at)
    assert newest is not None
    records = [document for document in organizations.read_records(unit) if document["seq"] <= newest.seq]
    history = verify_history(records, organizations.get(unit).root)
    return records, history, _counted(history, decisions, newest.seq)


def _window(
    unit: Unit, request: dict[str, Any], decisions: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], History, list[dict[str, Any]]]:
    """Return the records that the signatures cover, what they say, and the decisions that count by them."""
    root = organizations.get(unit).root
    while True:
        newest = max(_number(unit, each) for each in (request, *decisions))
        records = [document for document in organizations.read_records(unit) if document["seq"] <= newest]
        history = verify_history(records, root)
        counted = _counted(history, decisions, newest)
        # Without a decision that does not count, the newest record may be an earlier one.
        if len(counted) == len(decisions):
            return records, history, decisions
        decisions = counted


def _counted(history: History, decisions: Sequence[dict[str, Any]], newest: int) -> list[dict[str, Any]]:
    people: set[str] = set()
    counted = []
    for each in decisions:
        signed = open_signature(history, split(each)[0], "decision")
        may = all(history.key_may(signed.key, VOTE, seq) for seq in (signed.seq, newest))
        stays = signed.key.usable_at(newest) and may
        if stays and signed.user_id not in people:
            people.add(signed.user_id)
            counted.append(each)
    return counted


def _number(unit: Unit, call: dict[str, Any]) -> int:
    """Return the number of the newest record that the signer of a call saw."""
    call, _ = split_request(call)
    if is_http(call):
        message = read_call(call, "payout").message
        digest, issued = message.records_head, message.parameters.created * SECOND
        record = organizations.find_record(unit, digest) if digest else organizations.newest_at(unit, issued)
    else:
        record = organizations.find_record(unit, call["preimage"]["recordsHead"])
    if record is None:
        raise InvalidInput("a signature covers a record that is not stored", field="recordsHead")
    number: int = record.seq
    return number


def _asked(history: History, groups: Sequence[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    """Return the policies, and their versions, whose groups are these."""
    asked = []
    for policy_id in sorted({group["policyId"] for group in groups}):
        own = tuple(group for group in groups if group["policyId"] == policy_id)
        version = next(
            (each.version for each in versions_asked(history, policy_id, first) if required_groups([each]) == own), None
        )
        if version is None:
            raise PreconditionFailed(
                f"the records that were signed over do not show who policy {policy_id} asked: it was edited in between"
            )
        asked.append({"policyId": policy_id, "version": version})
    return asked
