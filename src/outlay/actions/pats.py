"""Personal access tokens: a person's programs act for them, with a key of their own and at most their permissions."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import PAT, Act, issue_token
from outlay.actions.credentials import check_new_key, forget_key, store_key
from outlay.actions.govern import is_governed
from outlay.core import ids
from outlay.core.errors import InvalidInput, NotFound, NotPermitted
from outlay.core.personal_token import token_life
from outlay.evidence import record as records
from outlay.evidence.base64url import to_base64url
from outlay.store import permissions, users
from outlay.store.database import Row, Unit


def create(
    act: Act,
    *,
    name: str,
    public_key: str,
    permission_id: str | None,
    days_valid: int | None,
    seconds_valid: int | None,
    external_id: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a token with its key; return its document without the token's text, and the token's claims.

    While changes wait for people it is switched off until they agree to its activation.

    Args:
        act: the signed call of a person.
        name: for people to read.
        public_key: PEM; only this key signs the token's calls, and it signs no others.
        permission_id: what the token may do at most; None: whatever its holder may.
        days_valid: 1 to 730; by default 730.
        seconds_valid: instead of days.
        external_id: a correlation id of the caller's.
    """
    if act.caller.is_service_account:
        raise NotPermitted("a service account has a token of its own and makes no others")
    life = token_life(days_valid, seconds_valid)
    _check_name(name)
    normal = check_new_key(act.unit, public_key, field="publicKey")
    _check_limit(act, permission_id)
    token_id, uuid, is_active = act.new_id(ids.TOKEN), act.new_id(ids.CREDENTIAL), not is_governed(act.unit)
    credential_id = to_base64url(act.entropy.token(16))
    body = {
        "name": name,
        "credentialUuid": uuid,
        "credentialId": credential_id,
        "publicKey": public_key,
        "permissionId": permission_id,
        "expires": act.now + life,
    }
    record = act.record(records.PAT_CREATED, token_id, body)
    store_key(
        act.unit,
        uuid=uuid,
        credential_id=credential_id,
        user_id=act.caller.user_id,
        name=name,
        public_key=normal,
        record=record,
        now=act.now,
        is_active=is_active,
        permission_id=permission_id,
    )
    claims = issue_token(
        act.unit,
        act.entropy,
        org_id=act.org.id,
        user_id=act.caller.user_id,
        credential_uuid=uuid,
        kind=PAT,
        name=name,
        now=act.now,
        life=life,
        token_id=token_id,
        is_active=is_active,
        external_id=external_id,
    )
    act.result_id = token_id
    return _answer(act, token_id), claims


def _check_limit(act: Act, permission_id: str | None) -> None:
    limit = None if permission_id is None else permissions.find(act.unit, permission_id)
    if permission_id is not None and (limit is None or limit.is_archived):
        raise InvalidInput("names no permission", field="permissionId")


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidInput("must be 1 to 200 printable characters", field="name")


def get(unit: Unit, user_id: str, token_id: str) -> Row:
    """Return a token of this person's.

    Raises:
        NotFound: there is none.
    """
    row = users.find_token(unit, token_id)
    if row is None or row.kind != PAT or row.user_id != user_id or row.deleted_at is not None:
        raise NotFound("no such personal access token of yours")
    return row


def _answer(act: Act, token_id: str) -> dict[str, Any]:
    return present.personal_token(act.unit, get(act.unit, act.caller.user_id, token_id), act.org.id)


def rename(act: Act, token_id: str, *, name: str | None, external_id: str | None) -> dict[str, Any]:
    """Change the name or the correlation id of a token."""
    row = get(act.unit, act.caller.user_id, token_id)
    changes: dict[str, Any] = {}
    if name is not None:
        _check_name(name)
        changes["name"] = name
    if external_id is not None:
        changes["external_id"] = external_id
    if changes:
        act.record(records.PAT_RENAMED, row.id, {"name": name, "externalId": external_id})
        users.update_token(act.unit, row.id, **changes)
    act.result_id = row.id
    return _answer(act, row.id)


def activate(act: Act, token_id: str) -> dict[str, Any]:
    """Switch a token and its key on. Nothing happens if they are."""
    return _switch(act, token_id, records.CREDENTIAL_ACTIVATED, is_active=True)


def deactivate(act: Act, token_id: str) -> dict[str, Any]:
    """Switch a token and its key off at once."""
    return _switch(act, token_id, records.CREDENTIAL_DEACTIVATED, is_active=False)


def _switch(act: Act, token_id: str, kind: str, *, is_active: bool) -> dict[str, Any]:
    row = get(act.unit, act.caller.user_id, token_id)
    if row.is_active != is_active:
        act.record(kind, row.credential_id, {"credentialUuid": row.credential_id, "tokenId": row.id})
        users.update_credential(act.unit, row.credential_id, is_active=is_active)
        users.update_token(act.unit, row.id, is_active=is_active)
    act.result_id = row.id
    return _answer(act, row.id)


def delete(act: Act, token_id: str) -> dict[str, Any]:
    """Remove a token and its key for good."""
    row, answer = get(act.unit, act.caller.user_id, token_id), _answer(act, token_id)
    key = users.find_credential(act.unit, row.credential_id)
    assert key is not None, "a token that is not deleted has its key"
    act.record(records.CREDENTIAL_DELETED, key.id, {"credentialUuid": key.id, "tokenId": row.id})
    forget_key(act.unit, key, now=act.now)
    users.update_token(act.unit, row.id, is_active=False, deleted_at=act.now)
    act.result_id = row.id
    return {**answer, "isActive": False}
