"""People and service accounts, their credentials and bearer tokens."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import credential, token, user

_FIND = sa.select(user).where(user.c.id == sa.bindparam("id"), user.c.deleted_at.is_(None))
_CREDENTIAL = sa.select(credential).where(credential.c.deleted_at.is_(None))
_FIND_CREDENTIAL = _CREDENTIAL.where(credential.c.id == sa.bindparam("id"))
_FIND_CREDENTIAL_BY_NAME = _CREDENTIAL.where(credential.c.credential_id == sa.bindparam("credential_id"))
_CREDENTIALS_OF = _CREDENTIAL.where(credential.c.user_id == sa.bindparam("user_id")).order_by(
    credential.c.created_at, credential.c.id
)
_ACTIVE_CREDENTIALS_OF = _CREDENTIALS_OF.where(credential.c.is_active.is_(True))
_FIND_TOKEN = sa.select(token).where(token.c.id == sa.bindparam("id"))


def add(unit: Unit, **values: Any) -> None:
    """Insert a user."""
    unit.execute(sa.insert(user).values(**values))


def find(unit: Unit, user_id: str) -> sa.Row[Any] | None:
    """Return the user, deleted ones excluded, or None."""
    return unit.execute(_FIND, {"id": user_id}).one_or_none()


def find_by_name(unit: Unit, username: str) -> sa.Row[Any] | None:
    """Return the user with this username, or None."""
    return unit.execute(sa.select(user).where(user.c.username == username, user.c.deleted_at.is_(None))).one_or_none()


def update(unit: Unit, user_id: str, **values: Any) -> None:
    """Change columns of a user."""
    unit.execute(sa.update(user).where(user.c.id == user_id).values(**values))


def list_page(
    unit: Unit, *, service_accounts: bool, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of people, or of service accounts."""
    query = sa.select(user).where(user.c.is_service_account.is_(service_accounts), user.c.deleted_at.is_(None))
    return page(unit, query, order=user.c.created_at, key=user.c.id, limit=limit, token=token)


def all_service_accounts(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every service account, newest first."""
    query = sa.select(user).where(user.c.is_service_account.is_(True), user.c.deleted_at.is_(None))
    return unit.execute(query.order_by(user.c.created_at.desc(), user.c.id)).all()


def everyone(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return every user, deleted ones included."""
    return unit.execute(sa.select(user)).all()


def add_credential(unit: Unit, **values: Any) -> None:
    """Insert a credential."""
    unit.execute(sa.insert(credential).values(**values))


def find_credential(unit: Unit, uuid: str) -> sa.Row[Any] | None:
    """Return the credential with this uuid, or None."""
    return unit.execute(_FIND_CREDENTIAL, {"id": uuid}).one_or_none()


def find_credential_by_name(unit: Unit, credential_id: str) -> sa.Row[Any] | None:
    """Return the credential a client calls ``credential_id``, or None."""
    return unit.execute(_FIND_CREDENTIAL_BY_NAME, {"credential_id": credential_id}).one_or_none()


def credentials_of(unit: Unit, user_id: str, *, active_only: bool = False) -> Sequence[sa.Row[Any]]:
    """Return the user's credentials, oldest first."""
    return unit.execute(_ACTIVE_CREDENTIALS_OF if active_only else _CREDENTIALS_OF, {"user_id": user_id}).all()


def update_credential(unit: Unit, uuid: str, **values: Any) -> None:
    """Change columns of a credential."""
    unit.execute(sa.update(credential).where(credential.c.id == uuid).values(**values))


def add_token(unit: Unit, **values: Any) -> None:
    """Insert a bearer token's row."""
    unit.execute(sa.insert(token).values(**values))


def find_token(unit: Unit, token_id: str) -> sa.Row[Any] | None:
    """Return the row of a bearer token, or None."""
    return unit.execute(_FIND_TOKEN, {"id": token_id}).one_or_none()


def tokens_of(unit: Unit, user_id: str, *, kind: str) -> Sequence[sa.Row[Any]]:
    """Return the user's tokens of one kind, oldest first."""
    return unit.execute(
        sa.select(token).where(token.c.user_id == user_id, token.c.kind == kind).order_by(token.c.created_at)
    ).all()


def revoke_tokens(unit: Unit, user_id: str, *, token_id: str | None = None) -> None:
    """Deactivate all tokens of a user, or one of them."""
    query = sa.update(token).where(token.c.user_id == user_id)
    if token_id is not None:
        query = query.where(token.c.id == token_id)
    unit.execute(query.values(is_active=False))
