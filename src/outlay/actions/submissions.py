"""Files of payouts: submitted under one signature, uploaded in parts, and looked at.

The rows come without signatures of their own. They count only once all of them are here and their digest is the one
that was signed; until then nothing is admitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outlay.actions.act import Act, Caller
from outlay.actions.payouts import check_item
from outlay.actions.present_batches import batch
from outlay.config import Config
from outlay.core import ids
from outlay.core.asset import NATIVE, Asset
from outlay.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.core.seams import DAY, Instant
from outlay.evidence.canonical import canonical
from outlay.evidence.merkle import Frontier, leaf
from outlay.evidence.payout_item import Item, read_item
from outlay.evidence.submission import Submission, request_of
from outlay.store import pools, submissions, wallets
from outlay.store.database import Row, Unit

UPLOADS_MAX = 5
"""Files of one user that may be here in part."""

ABANDONED: Instant = DAY
"""A file of which nothing more comes for so long is refused."""

ROWS_MAX = 1000
"""Rows in one upload or check."""

ROW_MAX = 1024
"""Bytes of one row, as it is digested."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row as it was uploaded."""

    text: str  #: canonical
    leaf: bytes
    item: Item
    network: str


def read_row(posted: object, submission: Submission) -> FileRow:
    """Read a row of a file.

    Raises:
        InvalidInput: it is malformed, whatever the database says.
    """
    text = canonical(posted)
    if len(text) > ROW_MAX:
        raise InvalidInput(f"takes more than {ROW_MAX} bytes", field="row")
    request, network = request_of(submission, posted, "row")
    item = read_item(request, "row")
    check_item(item)
    return FileRow(text.decode(), leaf(text), item, network)


def submit(act: Act, submission: Submission) -> dict[str, Any]:
    """Begin a file, or go on with the same one: nothing is asked for before its rows are here.

    The same file is one that the same user submitted under the same name for the same payer, and that has not ended
    yet, or ended without a refusal; but not one of which payouts wait to be asked for again.

    Raises:
        NotFound: no such wallet or pool. PreconditionFailed: too many files of this user are here in part.
    """
    payer = payer_of(act.unit, submission)
    evidence = {
        "document": canonical(act.evidence()).decode(),
        "records_head": act.call.preimage.records_head,
        "credential_id": act.credential.uuid,
        "token_id": act.caller.token_id,
        "touched_at": act.now,
    }
    for row in submissions.find_same(act.unit, initiator_id=act.caller.user_id, digest=submission.digest):
        if submission_of(row) != submission:
            continue
        if row.state == submissions.UPLOADING:
            # What is signed now was signed under the records of now.
            submissions.update(act.unit, row.id, **evidence)
        is_well = row.state == submissions.DONE and not row.refused and not submissions.is_doubted(act.unit, row.id)
        if row.state in submissions.OPEN or is_well:
            act.result_id = row.id
            return batch(submissions.get(act.unit, row.id), act.config)
    if submissions.count_uploading(act.unit, act.caller.user_id) >= UPLOADS_MAX:
        raise PreconditionFailed(
            f"{UPLOADS_MAX} batches of yours wait for their rows: upload or cancel one of them first"
        )
    batch_id = act.new_id(ids.BATCH)
    submissions.add(
        act.unit,
        id=batch_id,
        name=submission.name,
        wallet_id=submission.wallet_id,
        pool_id=submission.pool_id,
        network=payer.network,
        digest=submission.digest,
        row_count=submission.count,
        initiator_id=act.caller.user_id,
        subject=submission.subject(org=act.org.id, initiator=act.caller.user_id),
        state=submissions.UPLOADING,
        created_at=act.now,
        **evidence,
    )
    act.result_id = batch_id
    return batch(submissions.get(act.unit, batch_id), act.config)


def upload(
    unit: Unit, *, now: Instant, config: Config, caller: Caller, batch_id: str, first: int, rows: Sequence[FileRow]
) -> dict[str, Any]:
    """Keep rows of a file from a place on; those that are here already are passed over.

    With the last one the digest is compared: what was signed is admitted from then on, and anything else is refused.

    Raises:
        NotFound: no such file. NotPermitted: somebody else's. Conflict: rows before these are missing.
        InvalidInput: more rows than were signed, or one of another network or of an asset that is not listed.
    """
    row = _own(unit, caller, batch_id)
    if row.state != submissions.UPLOADING:
        return batch(row, config)
    if first > row.uploaded:
        raise Conflict(f"rows before these are missing: go on from {row.uploaded}", uploaded=row.uploaded)
    fresh = rows[row.uploaded - first :]
    if row.uploaded + len(fresh) > row.row_count:
        raise InvalidInput(f"the signed file has {row.row_count} rows, these are more", field="rows")
    frontier = Frontier(row.frontier, row.uploaded)
    totals = {asset: [int(number), int(amount)] for asset, (number, amount) in row.totals.items()}
    for at, each in enumerate(fresh, start=row.uploaded - first):
        asset_of(config, row.network, each, f"rows[{at}]")
        frontier.add(each.leaf)
        total = totals.setdefault(each.item.asset, [0, 0])
        total[0] += 1
        total[1] += int(each.item.amount)
    submissions.add_rows(unit, batch_id, first=row.uploaded, rows=[(each.text, each.leaf) for each in fresh])
    values: dict[str, Any] = {
        "uploaded": frontier.count,
        "frontier": frontier.state,
        "totals": {asset: [number, str(amount)] for asset, (number, amount) in totals.items()},
        "touched_at": now,
    }
    if frontier.count == row.row_count:
        if frontier.digest() == row.digest:
            values |= {"state": submissions.ADMITTING, "submitted_at": now}
        else:
            values |= _refusal("the rows are not those that were signed; nothing was asked for", now)
    submissions.update(unit, batch_id, **values)
    return batch(submissions.get(unit, batch_id), config)


def _refusal(reason: str, now: Instant) -> dict[str, Any]:
    return {"state": submissions.REFUSED, "reason": reason, "ended_at": now}


def give_up(unit: Unit, batch_id: str, *, now: Instant) -> None:
    """Refuse a file whose rows did not come."""
    submissions.update(unit, batch_id, **_refusal("its rows were not uploaded in time; nothing was asked for", now))


def refuse_twice(unit: Unit, batch_id: str, places: tuple[int, int], *, now: Instant) -> None:
    """Refuse a file in which two rows have the same reference: they cannot be two payouts."""
    if submissions.get(unit, batch_id).state == submissions.ADMITTING:
        first, second = (place + 1 for place in places)
        reason = f"rows {first} and {second} have the same reference; nothing was asked for"
        submissions.update(unit, batch_id, **_refusal(reason, now))


def cancel(act: Act, batch_id: str) -> dict[str, Any]:
    """Ask for nothing more of a file; payouts that were asked for go on.

    Raises:
        NotFound: no such file. NotPermitted: somebody else's. PreconditionFailed: it has ended.
    """
    row = _own(act.unit, act.caller, batch_id)
    if row.state not in submissions.OPEN:
        raise PreconditionFailed(f"this batch is {row.state}: every row of it was looked at")
    submissions.update(
        act.unit, batch_id, state=submissions.CANCELED, reason="Taken back by its initiator.", ended_at=act.now
    )
    act.result_id = batch_id
    return batch(submissions.get(act.unit, batch_id), act.config)


def submission_of(row: Row) -> Submission:
    """Return what was signed about a file."""
    payer = {"wallet_id": row.wallet_id, "pool_id": row.pool_id}
    return Submission(name=row.name, digest=row.digest, count=row.row_count, **payer)


def payer_of(unit: Unit, submission: Submission) -> Row:
    """Return the wallet or pool that pays.

    Raises:
        NotFound: there is none.
    """
    by_wallet = submission.pool_id is None
    row = wallets.find(unit, submission.wallet_id or "") if by_wallet else pools.find(unit, submission.pool_id or "")
    if row is None:
        raise NotFound("no such wallet" if by_wallet else "no such pool")
    return row


def asset_of(config: Config, network: str, row: FileRow, field: str) -> Asset:
    """Return what a row pays.

    Args:
        config: lists the assets.
        network: of the wallet or pool.
        row: the row.
        field: its path, for errors.

    Raises:
        InvalidInput: the row names another network, or an asset that is not listed, or a symbol of several.
    """
    if row.network != network:
        raise InvalidInput(f"is {row.network}; the wallet or pool pays on {network}", field=f"{field}.network")
    name = row.item.asset
    key = NATIVE if name == NATIVE else name.lower()
    named = [
        each for each in config.assets_of(network) if (each.symbol == name if row.item.symbol else each.key == key)
    ]
    if len(named) != 1:
        raise InvalidInput(f"{name} is not listed for {network}, or more than once", field=f"{field}.asset")
    return named[0]


def _own(unit: Unit, caller: Caller, batch_id: str) -> Row:
    row = submissions.find(unit, batch_id)
    if row is None:
        raise NotFound("no such batch")
    if row.initiator_id != caller.user_id:
        raise NotPermitted("only who submitted a batch can do this")
    return row
