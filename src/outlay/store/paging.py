"""Pages of a list, newest first. The token names the last row of the page before."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvalidInput

LIMIT_DEFAULT = 50
LIMIT_MAX = 500


def page(
    unit: sa.Connection,
    query: sa.Select[Any],
    *,
    order: sa.Column[Any],
    key: sa.Column[Any],
    limit: int | None = None,
    token: str | None = None,
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of ``query`` ordered by ``order`` and ``key`` descending, and the token of the next page.

    Raises:
        InvalidInput: a limit outside 1 to 500, or a token this server did not make.
    """
    size = LIMIT_DEFAULT if limit is None else limit
    if not 1 <= size <= LIMIT_MAX:
        raise InvalidInput(f"must be 1 to {LIMIT_MAX}", field="limit")
    if token:
        at, last = _read(token)
        query = query.where(sa.or_(order < at, sa.and_(order == at, key < last)))
    rows = unit.execute(query.order_by(order.desc(), key.desc()).limit(size + 1)).all()
    if len(rows) <= size:
        return rows, None
    rows = rows[:size]
    return rows, _write(getattr(rows[-1], order.name), getattr(rows[-1], key.name))


def _write(at: int, key: str) -> str:
    return base64.urlsafe_b64encode(f"{at}/{key}".encode()).decode().rstrip("=")


def _read(token: str) -> tuple[int, str]:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
        at, _, key = text.partition("/")
        if not at.isdecimal() or len(at) > 18 or not key or not key.isprintable():
            raise ValueError
        return int(at), key
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "is not a token of this list: pass nextPageToken of the page before, or leave it out",
            field="paginationToken",
        ) from error
