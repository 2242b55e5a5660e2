"""Files of payouts, and what became of their rows, in our own words."""

import json
from typing import Any

from outlay.actions.held import Whole, whole_for
from outlay.actions.judge import people
from outlay.actions.present import only_given, when
from outlay.actions.present_payouts import dollars
from outlay.config import Config
from outlay.core.approval import refusal
from outlay.core.asset import NATIVE, Asset
from outlay.core.batch_report import report_line
from outlay.core.seams import Instant
from outlay.evidence.words import words
from outlay.store import submissions
from outlay.store.database import Row, Unit


def find_asset(config: Config, network: str, name: str) -> Asset | None:
    """Return the asset that a row calls so: by symbol, contract or ``native``."""
    key = name if name == NATIVE else name.lower()
    return next((each for each in config.assets_of(network) if name == each.symbol or key == each.key), None)


def total(config: Config, network: str, asset: str, *, count: int, amount: int, value: int | None) -> dict[str, Any]:
    """Return how many rows pay an asset, and how much."""
    known = find_asset(config, network, asset)
    return only_given(
        asset=asset,
        symbol=known.symbol if known else None,
        decimals=known.decimals if known else None,
        count=count,
        amount=str(amount),
        valueUsd=None if value is None else dollars(value),
    )


def worth(row: Row) -> int | None:
    """Return what the payouts of a file are worth, in 10**-8 USD; None: of one of them no price was known."""
    return None if row.value == submissions.UNPRICED else int(row.value)


def batch(row: Row, config: Config) -> dict[str, Any]:
    """Return a file as it stands, without what became of its payouts since."""
    value = worth(row)
    return only_given(
        id=row.id,
        name=row.name,
        state=row.state,
        reason=row.reason,
        walletId=row.wallet_id,
        poolId=row.pool_id,
        network=row.network,
        digest=row.digest,
        count=row.row_count,
        uploaded=row.uploaded,
        admitted=row.admitted,
        refused=row.refused,
        initiatorId=row.initiator_id,
        totals=[
            total(config, row.network, asset, count=int(number), amount=int(sum_), value=None)
            for asset, (number, sum_) in sorted(row.totals.items())
        ],
        valueUsd=dollars(value) if row.admitted and value is not None else None,
        dateCreated=when(row.created_at),
        dateSubmitted=when(row.submitted_at),
        dateDone=when(row.ended_at),
    )


def batch_now(unit: Unit, row: Row, config: Config, *, user_id: str, now: Instant) -> dict[str, Any]:
    """Return a file with what became of its payouts, and what a user could decide about all of it."""
    states = submissions.states(unit, row.id)
    if row.refused:
        states[submissions.REFUSED] = row.refused
    rest = "canceled" if row.state == submissions.CANCELED else submissions.WAITING
    if row.state != submissions.REFUSED and row.admitted < row.row_count:
        states[rest] = states.get(rest, 0) + row.row_count - row.admitted
    whole = whole_for(unit, row.id, user_id, now=now)
    if whole is not None and not _may_decide(unit, whole, user_id):
        whole = None
    return {
        **batch(row, config),
        "states": states,
        **only_given(
            decision=None if whole is None else _decision(whole),
            settling=len(submissions.unsettled(unit, row.id)) or None,
        ),
    }


def _may_decide(unit: Unit, whole: Whole, user_id: str) -> bool:
    initiator, known = whole.submission.initiator_id, people(unit)
    why_not = [
        refusal(whole.groups, user_id, each, people=known, initiator_id=initiator) for each in ("Approved", "Denied")
    ]
    return None in why_not


def _decision(whole: Whole) -> dict[str, Any]:
    return {
        "digest": whole.digest,
        "groups": list(whole.groups),
        "waiting": whole.waiting,
        "words": words(whole.digest),
    }


def outcome(row: Row, of: Row) -> dict[str, Any]:
    """Return a row of a file and what became of it."""
    error = row.error or {}
    return only_given(
        index=row.place,
        **json.loads(row.item),
        state=_state(row, of),
        payoutId=row.payout_id,
        txHash=row.tx_hash,
        reason=error.get("message") or row.reason,
        error=row.error,
    )


def _state(row: Row, of: Row) -> str:
    if row.error is not None:
        return submissions.REFUSED
    if row.payout_id is None:
        return submissions.CANCELED if of.state == submissions.CANCELED else submissions.WAITING
    return str(row.state)


def report_cells(row: Row, of: Row, config: Config) -> list[str]:
    """Return a row of a file as a line of its report."""
    found = outcome(row, of)
    asset = find_asset(config, of.network, found["asset"])
    symbol, decimals = (None, None) if asset is None else (asset.symbol, asset.decimals)
    return report_line(found, symbol=symbol, decimals=decimals)
