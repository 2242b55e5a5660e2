"""People and service accounts, their credentials and bearer tokens."""

from collections.abc import Collection, Sequence
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
_OF_A_PAT = (
    sa.select(token.c.id)
    .where(token.c.user_id == credential.c.user_id, token.c.credential_id == credential.c.id, token.c.kind == "Pat")
    .exists()
)
_OWN_KEYS_OF = _CREDENTIALS_OF.where(sa.not_(_OF_A_PAT))
_ACTIVE_OWN_KEYS_OF = _ACTIVE_CREDENTIALS_OF.where(sa.not_(_OF_A_PAT))
_IS_OF_A_PAT = sa.select(credential.c.id).where(credential.c.id == sa.bindparam("id"), _OF_A_PAT)
_IS_IN_USE = sa.select(credential.c.id).where(
    credential.c.id == sa.bindparam("id"), credential.c.is_active.is_(True), credential.c.deleted_at.is_(None)
)
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


def is_in_use(unit: Unit, uuid: str | None) -> bool:
    """Tell whether what a key signed still counts; None, of rows older than the column, does."""
    return uuid is None or unit.execute(_IS_IN_USE, {"id": uuid}).first() is not None


def find_credential_by_name(unit: Unit, credential_id: str) -> sa.Row[Any] | None:
    """Return the credential a client calls ``credential_id``, or None."""
    return unit.execute(_FIND_CREDENTIAL_BY_NAME, {"credential_id": credential_id}).one_or_none()


def has_name(unit: Unit, credential_id: str) -> bool:
    """Tell whether a credential, also a deleted one, holds this name."""
    query = sa.select(credential.c.id).where(credential.c.credential_id == credential_id)
    return unit.execute(query).first() is not None


def credentials_of(unit: Unit, user_id: str, *, active_only: bool = False) -> Sequence[sa.Row[Any]]:
    """Return the user's credentials, oldest first."""
    return unit.execute(_ACTIVE_CREDENTIALS_OF if active_only else _CREDENTIALS_OF, {"user_id": user_id}).all()


def own_keys_of(unit: Unit, user_id: str, *, active_only: bool = False) -> Sequence[sa.Row[Any]]:
    """Return the user's credentials without those of personal access tokens, oldest first."""
    return unit.execute(_ACTIVE_OWN_KEYS_OF if active_only else _OWN_KEYS_OF, {"user_id": user_id}).all()


def is_of_a_pat(unit: Unit, uuid: str) -> bool:
    """Tell whether a credential belongs to a personal access token, also to one that was deleted."""
    return unit.execute(_IS_OF_A_PAT, {"id": uuid}).first() is not None


def is_key_taken(unit: Unit, public_key: str) -> bool:
    """Tell whether a key, in the one form in which keys are stored, is somebody's or was withdrawn by a recovery."""
    stays = sa.or_(credential.c.deleted_at.is_(None), credential.c.withdrawn_at.is_not(None))
    query = sa.select(credential.c.id).where(credential.c.public_key == public_key, stays)
    return unit.execute(query).first() is not None


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
    """Return the user's tokens of one kind, deleted ones excluded, oldest first."""
    query = sa.select(token).where(token.c.user_id == user_id, token.c.kind == kind, token.c.deleted_at.is_(None))
    return unit.execute(query.order_by(token.c.created_at, token.c.id)).all()


def last_sessions(unit: Unit, user_ids: Collection[str]) -> dict[str, int]:
    """Return when each of these people last signed in; who never did is not in it."""
    query = sa.select(token.c.user_id, sa.func.max(token.c.created_at)).where(
        token.c.kind == "Token", token.c.user_id.in_(sorted(user_ids))
    )
    return {str(user_id): int(at) for user_id, at in unit.execute(query.group_by(token.c.user_id))}


def update_token(unit: Unit, token_id: str, **values: Any) -> None:
    """Change columns of a token."""
    unit.execute(sa.update(token).where(token.c.id == token_id).values(**values))


def token_of_key(unit: Unit, credential_uuid: str) -> sa.Row[Any] | None:
    """Return the personal access token that a key belongs to, or None."""
    query = sa.select(token).where(token.c.credential_id == credential_uuid, token.c.kind == "Pat")
    return unit.execute(query.where(token.c.deleted_at.is_(None))).one_or_none()


def move_tokens(unit: Unit, *, from_key: str, to_key: str, user_id: str) -> None:
    """Let a service account's tokens go on with another of its keys."""
    mine = token.c.user_id == user_id, token.c.credential_id == from_key, token.c.kind == "ServiceAccount"
    unit.execute(sa.update(token).where(*mine).values(credential_id=to_key))


def revoke_tokens(unit: Unit, user_id: str) -> None:
    """Deactivate all tokens of a user."""
    unit.execute(sa.update(token).where(token.c.user_id == user_id).values(is_active=False))


def withdraw_tokens(unit: Unit, user_id: str, *, now: int) -> None:
    """End all tokens of a user for good."""
    query = sa.update(token).where(token.c.user_id == user_id, token.c.deleted_at.is_(None))
    unit.execute(query.values(is_active=False, deleted_at=now))


def end_sessions(unit: Unit, user_id: str, *, token_id: str | None = None) -> None:
    """End all logins of a user, or one; the tokens of service accounts and programs are no logins."""
    query = sa.update(token).where(token.c.user_id == user_id, token.c.kind == "Token")
    if token_id is not None:
        query = query.where(token.c.id == token_id)
    unit.execute(query.values(is_active=False))
