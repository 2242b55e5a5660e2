"""What was signed to be paid, added up by the hour: for charts, while limits have counters of their own."""

from typing import Any, NamedTuple

import sqlalchemy as sa

from outlay.core.seams import HOUR, Instant
from outlay.store.database import Unit
from outlay.store.schema import velocity_entry, wallet

LOOK_MAX = 500_000
"""Payouts that one look adds up: the newest of its time."""

_DIGITS, _PIECE = 78, 12
"""SQLite holds values as so many digits, and adds them up exactly in pieces of so many."""

_AT = velocity_entry.c.signed_at
# What goes from one wallet of ours to another has not left.
_LEFT = (
    velocity_entry.c.state == "signed",
    velocity_entry.c.recipient.not_in(sa.select(sa.func.lower(wallet.c.address))),
)


class Hour(NamedTuple):
    """What was signed within an hour, refills of our own wallets left out."""

    payouts: int
    value: int  #: 10**-8 USD, of the payouts whose value is known
    unknown: int  #: payouts whose value is not known


NOTHING = Hour(0, 0, 0)


def by_hour(unit: Unit, *, since: Instant, until: Instant) -> tuple[dict[Instant, Hour], Instant]:
    """Return what was signed in each hour that has something, by the hour's first instant, and where that begins.

    Of more payouts than ``LOOK_MAX`` the newest are added up: what is earlier than the instant returned is not told.

    Args:
        unit: the database unit.
        since: a whole hour.
        until: what was signed then or later is left out.
    """
    within = sa.and_(since <= _AT, until > _AT)
    cut = unit.execute(sa.select(_AT).where(within).order_by(_AT.desc()).limit(1).offset(LOOK_MAX)).scalar()
    # Where it is cut, the hour of the cut is told in part only: it is left out, unless it is all there is.
    begins = since if cut is None else min(cut // HOUR * HOUR + HOUR, (until - 1) // HOUR * HOUR)
    hour = (_AT // HOUR).label("hour")
    query = sa.select(hour, sa.func.count().label("payouts"), sa.func.count(velocity_entry.c.value).label("known"))
    query = query.add_columns(*_sums(unit)).where(begins <= _AT, until > _AT, *_LEFT).group_by(hour)
    found = {
        int(row.hour) * HOUR: Hour(row.payouts, _whole(row), row.payouts - row.known) for row in unit.execute(query)
    }
    return found, begins


def _sums(unit: Unit) -> list[sa.ColumnElement[Any]]:
    """Return columns that add values up without losing a digit."""
    value = velocity_entry.c.value
    if unit.dialect.name != "sqlite":
        return [sa.type_coerce(sa.func.sum(value), sa.Numeric(asdecimal=True)).label("sum0")]
    text = sa.type_coerce(value, sa.Text)
    return [
        sa.func.sum(sa.cast(sa.func.substr(text, at + 1, _PIECE), sa.BigInteger)).label(f"sum{number}")
        for number, at in enumerate(range(0, _DIGITS, _PIECE))
    ]


def _whole(row: Any) -> int:
    pieces = [value for name, value in row._mapping.items() if name.startswith("sum")]
    if len(pieces) == 1:
        return int(pieces[0] or 0)
    total = 0
    for number, piece in enumerate(pieces):
        width = min(_PIECE, _DIGITS - number * _PIECE)
        total = total * 10**width + int(piece or 0)
    return total
