"""Who calls: tokens, people, keys and permissions as one unit reads them, one call at a time or many at once."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import sqlalchemy as sa

from outlay.store import evidence, organizations, permissions, users
from outlay.store.database import Row, Unit
from outlay.store.schema import assignment, credential, permission, spent_nonce, token, user

T = TypeVar("T")


def _among(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return column.in_(sa.bindparam("names", expanding=True))


_TOKENS = sa.select(token).where(_among(token.c.id))
_USERS = sa.select(user).where(_among(user.c.id), user.c.deleted_at.is_(None))
_CREDENTIALS = sa.select(credential).where(_among(credential.c.id), credential.c.deleted_at.is_(None))
_PAT_KEYS = sa.select(token.c.credential_id, token.c.user_id).where(_among(token.c.user_id), token.c.kind == "Pat")
_HELD = (
    sa.select(assignment.c.identity_id, permission.c.operations)
    .join_from(assignment, permission, assignment.c.permission_id == permission.c.id)
    .where(_among(assignment.c.identity_id), permission.c.is_archived.is_(False))
)
_SPENT = sa.select(spent_nonce).where(_among(spent_nonce.c.nonce))


class Identities:
    """Rows read in one unit that changes none of them, each of them once."""

    def __init__(self, unit: Unit) -> None:
        """Keep the unit."""
        self._unit = unit
        self._tokens: dict[str, Row | None] = {}
        self._users: dict[str, Row | None] = {}
        self._credentials: dict[str, Row | None] = {}
        self._of_a_pat: dict[str, bool] = {}
        self._operations: dict[str, frozenset[str]] = {}
        self._spent: dict[str, Row | None] = {}
        self._records: dict[str, Row | None] = {}

    def expect(self, *, tokens: Collection[str], keys: Collection[str], nonces: Collection[str]) -> None:
        """Read at once what is going to be asked for: tokens, keys, their people, and whether nonces are spent."""
        self._read(self._tokens, tokens, _TOKENS, lambda row: row.id)
        found = [row for row in map(self._tokens.get, tokens) if row is not None]
        keys = {*keys, *(row.credential_id for row in found if row.credential_id is not None)}
        self._read(self._credentials, keys, _CREDENTIALS, lambda row: row.id)
        held = [row for row in map(self._credentials.get, keys) if row is not None]
        people = {row.user_id for row in (*found, *held)}
        self._read(self._users, people, _USERS, lambda row: row.id)
        self._read(self._spent, nonces, _SPENT, lambda row: row.nonce)
        if people:
            pats = {(row.credential_id, row.user_id) for row in self._among(_PAT_KEYS, people)}
            self._of_a_pat.update({row.id: (row.id, row.user_id) in pats for row in held})
            operations: dict[str, set[str]] = {each: set() for each in people}
            for row in self._among(_HELD, people):
                operations[row.identity_id].update(row.operations)
            self._operations.update({each: frozenset(names) for each, names in operations.items()})

    def _read(
        self, into: dict[str, Row | None], names: Collection[str], query: Any, name: Callable[[Any], str]
    ) -> None:
        if names:
            into.update(dict.fromkeys(names))
            into.update({name(row): row for row in self._among(query, names)})

    def _among(self, query: Any, names: Collection[str]) -> Any:
        return self._unit.execute(query, {"names": sorted(names)})

    def token(self, token_id: str) -> Row | None:
        """Return the row of a bearer token, or None."""
        return _once(self._tokens, token_id, lambda: users.find_token(self._unit, token_id))

    def user(self, user_id: str) -> Row | None:
        """Return the user, deleted ones excluded, or None."""
        return _once(self._users, user_id, lambda: users.find(self._unit, user_id))

    def credential(self, uuid: str) -> Row | None:
        """Return the credential, deleted ones excluded, or None."""
        return _once(self._credentials, uuid, lambda: users.find_credential(self._unit, uuid))

    def is_of_a_pat(self, uuid: str) -> bool:
        """Tell whether a credential belongs to a personal access token, also to one that was deleted."""
        return _once(self._of_a_pat, uuid, lambda: users.is_of_a_pat(self._unit, uuid))

    def operations_of(self, identity_id: str) -> frozenset[str]:
        """Return every operation an identity may call."""
        return _once(self._operations, identity_id, lambda: permissions.operations_of(self._unit, identity_id))

    def record(self, hash: str) -> Row | None:
        """Return the organization's record with ``hash``, or None."""
        return _once(self._records, hash, lambda: organizations.find_record(self._unit, hash))

    def spent(self, nonce: str) -> Row | None:
        """Return the row of a spent nonce, or None when it is still good."""
        return _once(self._spent, nonce, lambda: evidence.find_spent(self._unit, nonce))


def _once(known: dict[str, T], name: str, read: Callable[[], T]) -> T:
    if name not in known:
        known[name] = read()
    return known[name]
