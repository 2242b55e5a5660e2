"""What was paid to a recipient before, and to whom else that looks like it."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.transfer import State
from outlay.store.database import Unit
from outlay.store.schema import transfer

SEEN_MAX = 1000
"""Payouts to one recipient that are looked at, the newest."""

_ALIKE = 4
"""Characters at each end that people compare."""

_REACHED = sa.func.coalesce(transfer.c.state, "") == State.CONFIRMED
"""Written so that the index of states is no choice: nearly all payouts are confirmed."""


def paid_to(unit: Unit, *, network: str, asset: str, recipient: str) -> Sequence[sa.Row[Any]]:
    """Return ``amount`` and ``confirmed_at`` of payouts that reached a recipient, the newest ``SEEN_MAX`` first."""
    query: sa.Select[Any] = sa.select(transfer.c.amount, transfer.c.confirmed_at).where(
        transfer.c.recipient == recipient,
        transfer.c.network == network,
        transfer.c.asset == asset,
        _REACHED,
    )
    return unit.execute(query.order_by(transfer.c.confirmed_at.desc(), transfer.c.id).limit(SEEN_MAX)).all()


def alike(unit: Unit, recipient: str) -> list[str]:
    """Return other recipients of payouts that reached them whose address begins and ends as this one does."""
    first, last = recipient[: 2 + _ALIKE], recipient[-_ALIKE:]
    query = (
        sa.select(transfer.c.recipient)
        .where(
            transfer.c.recipient >= first,  # a range, which the index answers: after it nothing but hex digits follows
            transfer.c.recipient < first + "g",
            transfer.c.recipient.endswith(last, autoescape=True),
            transfer.c.recipient != recipient,
            _REACHED,
        )
        .distinct()
    )
    return list(unit.execute(query.order_by(transfer.c.recipient).limit(10)).scalars())
