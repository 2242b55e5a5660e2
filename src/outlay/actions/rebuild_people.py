"""The tables of people, service accounts, their keys and permissions, out of the records; see ``rebuild``."""

from collections.abc import Mapping
from typing import Any

from outlay.actions.credentials import forget_key, store_attested, store_key, withdraw_key
from outlay.actions.govern import is_governed
from outlay.actions.rebuild_entry import Entry
from outlay.evidence import record as records
from outlay.evidence.assertion import FIDO2, KEY
from outlay.evidence.attestation import Attested, fingerprint
from outlay.evidence.bundle import verify_new_key, verify_registration
from outlay.evidence.keys import load_public_key, normal_pem
from outlay.store import codes, permissions, users
from outlay.store.database import Row

_NO_SECRET = ""  # the hash of no secret: the token's text is lost


# People and service accounts


def user_invited(entry: Entry) -> None:
    """A person who has not registered yet."""
    body = entry.body
    users.add(
        entry.unit,
        id=entry.subject,
        username=body["username"],
        name=body["username"],
        is_service_account=False,
        is_active=True,
        is_registered=False,
        may_vote=False,
        external_id=entry.payload.get("externalId"),
        invited_public_key=body["publicKey"],
        registration_code=body["code"],
        registration_expires_at=body["expires"],
        invitation_record=entry.hash,
        created_at=entry.at,
    )


def user_registered(entry: Entry) -> None:
    """The person took up the invitation."""
    body, row = entry.body, _user(entry)
    named = row.invited_public_key
    vouched = named is not None and fingerprint(named) == body["fingerprint"] and not is_governed(entry.unit)
    _, found = verify_registration(body["preimage"], body["attestation"], **_kind(body))
    name = "first passkey" if found.kind == FIDO2 else "first key"
    _store_attested(entry, found, user_id=entry.subject, name=name, is_active=True)
    users.update(entry.unit, entry.subject, is_registered=True, registration_code=None, may_vote=vouched)


def _user(entry: Entry) -> Row:
    row = users.find(entry.unit, entry.subject)
    assert row is not None, "verified records name only who is there"
    return row


def _kind(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": body.get("kind", KEY), "relying_party_id": body.get("relyingPartyId")}


def _store_attested(entry: Entry, found: Attested, *, user_id: str, name: str | None, is_active: bool) -> None:
    store_attested(
        entry.unit,
        found,
        uuid=entry.body["credentialUuid"],
        user_id=user_id,
        name=name,
        record=entry.hash,
        now=entry.at,
        is_active=is_active,
    )


def _store_key(entry: Entry, *, user_id: str, name: str, public_key: str, **more: Any) -> None:
    store_key(
        entry.unit,
        uuid=entry.body["credentialUuid"],
        credential_id=entry.body["credentialId"],
        user_id=user_id,
        name=name,
        public_key=public_key,
        record=entry.hash,
        now=entry.at,
        **more,
    )


def user_activated(entry: Entry) -> None:
    """Switched on, and vouched for once registered."""
    row, keys = _user(entry), users.credentials_of(entry.unit, entry.subject)
    is_on = row.may_vote or (row.is_registered and bool(keys))
    for key in keys if is_on and not row.may_vote else ():
        users.update_credential(entry.unit, key.id, is_active=True)
    users.update(entry.unit, entry.subject, is_active=True, may_vote=is_on)


def user_deactivated(entry: Entry) -> None:
    """Switched off."""
    users.update(entry.unit, entry.subject, is_active=False)


def user_deleted(entry: Entry) -> None:
    """Gone; the name and the keys' names are free again."""
    unit, row = entry.unit, _user(entry)
    users.revoke_tokens(unit, row.id)
    keys = users.credentials_of(unit, row.id)
    users.update(unit, row.id, is_active=False, deleted_at=entry.at, username=f"{row.username}#{row.id}")
    for key in keys:
        forget_key(unit, key, now=entry.at)
    codes.drop(unit, row.id)


def user_renamed(entry: Entry) -> None:
    """Another name or correlation id."""
    name, external_id = entry.body["name"], entry.body["externalId"]
    changed = {} if name is None else {"name": name, "username": name}
    users.update(entry.unit, entry.subject, **changed, **({} if external_id is None else {"external_id": external_id}))


def user_recovered(entry: Entry) -> None:
    """All keys withdrawn, and a code for a new one."""
    for key in users.credentials_of(entry.unit, entry.subject):
        withdraw_key(entry.unit, key, now=entry.at)
    users.withdraw_tokens(entry.unit, entry.subject, now=entry.at)
    users.update(entry.unit, entry.subject, may_vote=False)
    code_created(entry)


def code_created(entry: Entry) -> None:
    """A code for another device."""
    body = entry.body
    codes.put(entry.unit, user_id=entry.subject, code=body["code"], expires_at=body["expires"], record=entry.hash)


def service_account_created(entry: Entry) -> None:
    """A machine and its key; its bearer token is lost."""
    body = entry.body
    users.add(
        entry.unit,
        id=entry.subject,
        username=body["name"],
        name=body["name"],
        is_service_account=True,
        is_active=not is_governed(entry.unit),
        is_registered=True,
        may_vote=True,
        external_id=entry.payload.get("externalId"),
        created_at=entry.at,
    )
    _store_key(entry, user_id=entry.subject, name=body["name"], public_key=_normal(body["publicKey"]))
    if body["permissionId"] is not None:
        _assign(entry, body["permissionId"], entry.subject)


def _normal(public_key: str) -> str:
    return normal_pem(load_public_key(public_key, field="publicKey"))


# Keys and tokens


def credential_created(entry: Entry) -> None:
    """A further key."""
    body, payload = entry.body, entry.payload
    _, found = verify_new_key(body["preimage"], payload["credentialInfo"], **_kind(body))
    is_active = not is_governed(entry.unit)
    _store_attested(entry, found, user_id=entry.signer, name=payload.get("credentialName"), is_active=is_active)


def credential_registered(entry: Entry) -> None:
    """A credential made with a code: off until somebody stands for it."""
    preimage, found = verify_registration(entry.body["preimage"], entry.body["attestation"], **_kind(entry.body))
    _store_attested(entry, found, user_id=preimage.user_id, name=None, is_active=False)
    codes.drop(entry.unit, preimage.user_id)


def credential_switched(entry: Entry) -> None:
    """A key switched on or off, or deleted."""
    unit, is_active = entry.unit, entry.kind == records.CREDENTIAL_ACTIVATED
    if entry.kind == records.CREDENTIAL_DELETED:
        row = users.find_credential(unit, entry.subject)
        assert row is not None, "verified records name only keys there are"
        forget_key(unit, row, now=entry.at)
    else:
        users.update_credential(unit, entry.subject, is_active=is_active)
    gone = {"deleted_at": entry.at} if entry.kind == records.CREDENTIAL_DELETED else {}
    if "tokenId" in entry.body:
        users.update_token(unit, entry.body["tokenId"], is_active=is_active, **gone)
    elif not is_active:
        # A service account cannot log in: its token goes on with the key that signed.
        users.move_tokens(unit, from_key=entry.subject, to_key=entry.key, user_id=entry.signer)


def pat_created(entry: Entry) -> None:
    """A personal access token and its key; nothing opens it any more, its key stays."""
    body, is_active = entry.body, not is_governed(entry.unit)
    _store_key(
        entry,
        user_id=entry.signer,
        name=body["name"],
        public_key=_normal(body["publicKey"]),
        is_active=is_active,
        permission_id=body["permissionId"],
    )
    users.add_token(
        entry.unit,
        id=entry.subject,
        user_id=entry.signer,
        credential_id=body["credentialUuid"],
        secret_hash=_NO_SECRET,
        kind="Pat",
        name=body["name"],
        external_id=entry.payload.get("externalId"),
        is_active=is_active,
        created_at=entry.at,
        expires_at=body["expires"],
    )


def pat_renamed(entry: Entry) -> None:
    """Another name or correlation id of a token."""
    given = {"name": entry.body["name"], "external_id": entry.body["externalId"]}
    users.update_token(entry.unit, entry.subject, **{name: value for name, value in given.items() if value is not None})


# Permissions


def permission_created(entry: Entry) -> None:
    """A named set of operations."""
    permissions.add(
        entry.unit,
        id=entry.subject,
        name=entry.body["name"],
        operations=entry.body["operations"],
        is_immutable=False,
        is_archived=False,
        created_at=entry.at,
        updated_at=entry.at,
    )


def permission_updated(entry: Entry) -> None:
    """Another name or other operations."""
    permissions.update(entry.unit, entry.subject, **entry.body, updated_at=entry.at)


def permission_archived(entry: Entry) -> None:
    """Out of use."""
    permissions.update(entry.unit, entry.subject, is_archived=True, updated_at=entry.at)


def permission_assigned(entry: Entry) -> None:
    """Given to somebody."""
    _assign(entry, entry.subject, entry.body["identityId"])


def _assign(entry: Entry, permission_id: str, identity_id: str) -> None:
    permissions.assign(
        entry.unit,
        id=entry.body["assignmentId"],
        permission_id=permission_id,
        identity_id=identity_id,
        is_immutable=False,
        created_at=entry.at,
        updated_at=entry.at,
    )


def permission_revoked(entry: Entry) -> None:
    """Taken back."""
    permissions.revoke(entry.unit, entry.body["assignmentId"])
