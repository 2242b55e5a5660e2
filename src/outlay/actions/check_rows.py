"""What would become of rows of a file, were they asked for now; nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outlay.actions.act import Caller
from outlay.actions.admit import QuoteOf
from outlay.actions.payouts import error_document, in_our_words
from outlay.actions.present import only_given
from outlay.actions.present_batches import total
from outlay.actions.present_payouts import dollars
from outlay.actions.submissions import FileRow, asset_of, payer_of, read_row
from outlay.config import Config
from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput, Refused
from outlay.core.intent import read_intent
from outlay.core.money import value_of
from outlay.evidence.canonical import digest
from outlay.evidence.submission import Submission
from outlay.store import batches, organizations
from outlay.store.database import Row, Unit

NEW, SAME, CONFLICT = "new", "same", "conflict"
RESULTS = (NEW, SAME, CONFLICT, "refused")


@dataclass(slots=True)
class _Total:
    count: int = 0
    amount: int = 0
    value: int | None = 0  #: None: of a part of it the price is not known


@dataclass(slots=True)
class _Totals:
    by_asset: dict[str, _Total] = field(default_factory=dict)

    def add(self, asset: str, amount: int, value: int | None) -> None:
        mine = self.by_asset.setdefault(asset, _Total())
        mine.count += 1
        mine.amount += amount
        mine.value = None if mine.value is None or value is None else mine.value + value


def check_rows(
    unit: Unit, *, config: Config, caller: Caller, submission: Submission, posted: Sequence[Any], quote_of: QuoteOf
) -> dict[str, Any]:
    """Return of each row whether it is new, was asked for before, or would be refused; with the totals of what is new.

    Policies are not asked.

    Raises:
        NotFound: no such wallet or pool.
    """
    payer, org = payer_of(unit, submission), str(organizations.get(unit).id)
    rows = [_read(each, submission) for each in posted]
    names = [each.item.external_id for each in rows if isinstance(each, FileRow) and each.item.external_id]
    known = batches.called(unit, names)
    totals = _Totals()
    answers: list[dict[str, Any]] = []
    for at, each in enumerate(rows):
        try:
            if isinstance(each, Refused):
                raise each
            asset = asset_of(config, payer.network, each, "row")
            price, amount = quote_of(asset), int(each.item.amount)
            value = None if price is None else value_of(amount, decimals=asset.decimals, price=price.price)
            held = known.get(each.item.external_id or "")
            is_same = held is not None and held.intent_digest == _intent_digest(org, caller, payer, each, asset)
            if held is None:
                totals.add(each.item.asset, amount, value)
            answers.append(
                only_given(
                    index=at,
                    result=NEW if held is None else SAME if is_same else CONFLICT,
                    payoutId=held.id if held is not None and is_same else None,
                    state=held.state if held is not None and is_same else None,
                    valueUsd=None if value is None else dollars(value),
                )
            )
        except Refused as refused:
            answers.append({"index": at, "result": "refused", "error": error_document(_of_the_row(refused))})
    return {
        "rows": answers,
        "totals": [
            {
                "network": payer.network,
                **total(config, payer.network, name, count=each.count, amount=each.amount, value=each.value),
            }
            for name, each in sorted(totals.by_asset.items())
        ],
    }


def _read(posted: object, submission: Submission) -> FileRow | Refused:
    try:
        return read_row(posted, submission)
    except Refused as refused:
        return refused


def _of_the_row(refused: Refused) -> Refused:
    """Return a refusal that names the member of the row alone."""
    if isinstance(refused, InvalidInput) and refused.field is not None:
        return in_our_words(InvalidInput(refused.message, field=refused.field.removeprefix("row.")))
    return refused


def _intent_digest(org: str, caller: Caller, payer: Row, row: FileRow, asset: Asset) -> str:
    item = row.item
    intent = read_intent(
        org=org,
        initiator=caller.user_id,
        wallet=item.wallet_id,
        pool=item.pool_id,
        network=payer.network,
        chain_id=payer.chain_id,
        contract=asset.contract,
        to=item.recipient,
        amount=item.amount,
        priority=item.priority,
        external_id=item.external_id,
        memo=item.memo,
    )
    return digest(intent.document())
