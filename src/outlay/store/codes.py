"""One-time codes by which people register a credential on another device."""

from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.schema_codes import credential_code


def put(unit: Unit, *, user_id: str, code: str, expires_at: int, record: str) -> None:
    """Store the one open code of a person, in the place of the one before.

    Args:
        unit: the unit of its record.
        user_id: whose it is.
        code: SHA-256 of the code, in hex.
        expires_at: microseconds UTC.
        record: hash of the record that gave it.
    """
    drop(unit, user_id)
    values = {"user_id": user_id, "code": code, "expires_at": expires_at, "record": record}
    unit.execute(sa.insert(credential_code).values(**values))


def find(unit: Unit, code: str) -> sa.Row[Any] | None:
    """Return the open code with this digest, or None."""
    return unit.execute(sa.select(credential_code).where(credential_code.c.code == code)).one_or_none()


def drop(unit: Unit, user_id: str) -> None:
    """End a person's open code, if there is one."""
    unit.execute(sa.delete(credential_code).where(credential_code.c.user_id == user_id))


def open_until(unit: Unit, user_id: str, *, now: int) -> int | None:
    """Return until when a person's open code is good; None: they have none."""
    query = sa.select(credential_code.c.expires_at).where(
        credential_code.c.user_id == user_id, credential_code.c.expires_at > now
    )
    found = unit.execute(query).scalar()
    return None if found is None else int(found)
