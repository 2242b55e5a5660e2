"""Keys: the one way they are stored, and the calls by which people and service accounts manage their own."""

from typing import Any

from outlay.actions import present
from outlay.actions.act import CHALLENGE_LIFE, Act, Caller
from outlay.actions.govern import is_governed
from outlay.actions.settle import settle_open
from outlay.core import ids
from outlay.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.core.seams import DAY, Entropy, Instant
from outlay.evidence import record as records
from outlay.evidence.attestation import verify_attestation
from outlay.evidence.base64url import to_base64url
from outlay.evidence.challenge import CredentialPreimage, credential_challenge
from outlay.evidence.keys import load_public_key, normal_pem
from outlay.evidence.record import CLOCKS_APART
from outlay.store import evidence, organizations, users
from outlay.store.database import Row, Unit

NAME_MAX = 200

# Storing keys


def check_new_key(unit: Unit, public_key: str, *, field: str) -> str:
    """Return a key in the one form in which keys are stored, if nobody has it yet.

    Raises:
        InvalidInput: not a usable key. Conflict: somebody has it: one key belongs to one identity, so that nobody
            counts for two.
    """
    normal = normal_pem(load_public_key(public_key, field=field))
    if users.find_credential_by_key(unit, normal) is not None:
        raise Conflict("another credential has this key already: make a new key for each", field=field)
    return normal


def check_new_name(unit: Unit, credential_id: str) -> None:
    """Refuse a name that another key has.

    Raises:
        InvalidInput: taken, or not 1 to 200 characters.
    """
    if not 1 <= len(credential_id) <= NAME_MAX or users.find_credential_by_name(unit, credential_id) is not None:
        raise InvalidInput("is taken or not 1 to 200 characters: choose another", field="credentialInfo.credId")


def store_key(
    unit: Unit,
    *,
    uuid: str,
    credential_id: str,
    user_id: str,
    name: str,
    public_key: str,
    record: str,
    now: Instant,
    is_active: bool = True,
    permission_id: str | None = None,
) -> None:
    """Store a key.

    Args:
        unit: the unit of its record.
        uuid: our identifier.
        credential_id: what the client names in an assertion.
        user_id: whose it is.
        name: for people to read.
        public_key: as ``check_new_key`` returned it.
        record: hash of the record that introduced it.
        now: the current instant.
        is_active: whether it may sign at once.
        permission_id: limit of a personal access token's key.
    """
    users.add_credential(
        unit,
        id=uuid,
        credential_id=credential_id,
        user_id=user_id,
        kind="Key",
        name=name,
        public_key=public_key,
        is_active=is_active,
        record=record,
        permission_id=permission_id,
        created_at=now,
    )


def forget_key(unit: Unit, key: Row, *, now: Instant) -> None:
    """Delete a key for good; its name is free again, the row stays, because evidence and decisions point to it."""
    freed = f"{key.credential_id}#{key.id}"
    users.update_credential(unit, key.id, is_active=False, deleted_at=now, credential_id=freed)


# The caller's own


def begin(unit: Unit, *, now: Instant, entropy: Entropy, caller: Caller) -> tuple[CredentialPreimage, Row]:
    """Return what a new key of the caller proves itself over, and the caller's row.

    Raises:
        NotPermitted: the caller is a personal access token.
    """
    if caller.pat_key is not None:
        raise NotPermitted("a personal access token manages no keys and no tokens: log in")
    user = users.find(unit, caller.user_id)
    assert user is not None, "a caller is a user"
    preimage = CredentialPreimage(
        org=organizations.get(unit).id,
        user_id=user.id,
        nonce=to_base64url(entropy.token(24)),
        issued=now,
        expires=now + CHALLENGE_LIFE,
    )
    return preimage, user


def create(
    act: Act, *, preimage: CredentialPreimage, kind: str, info: dict[str, Any], name: str | None
) -> dict[str, Any]:
    """Add a key of the caller's own; while changes wait for people, it is switched off until they agree.

    Raises:
        InvalidInput, ActionSignatureInvalid: a bad attestation. PreconditionFailed: the challenge is too old, was
            used, or was made for somebody else. Conflict: somebody has the key.
    """
    if kind != "Key":
        raise InvalidInput('only credentials of kind "Key" are offered', field="credentialKind")
    if preimage.org != act.org.id or preimage.user_id != act.caller.user_id:
        raise PreconditionFailed("this challenge was made for somebody else: begin again")
    if not preimage.issued - CLOCKS_APART <= act.now < preimage.expires:
        raise PreconditionFailed("this challenge has expired: begin again")
    if evidence.find_spent(act.unit, preimage.nonce) is not None:
        raise PreconditionFailed("this challenge was used: begin again")
    attested = verify_attestation(info, credential_challenge(preimage))
    public_key = check_new_key(act.unit, attested, field="credentialInfo.attestationData")
    credential_id = str(info["credId"])
    check_new_name(act.unit, credential_id)
    uuid, is_active = act.new_id(ids.CREDENTIAL), not is_governed(act.unit)
    body = {
        "credentialUuid": uuid,
        "credentialId": credential_id,
        "publicKey": public_key,
        "preimage": preimage.document(),
    }
    record = act.record(records.CREDENTIAL_CREATED, uuid, body)
    store_key(
        act.unit,
        uuid=uuid,
        credential_id=credential_id,
        user_id=act.caller.user_id,
        name=name or "key",
        public_key=public_key,
        record=record,
        now=act.now,
        is_active=is_active,
    )
    evidence.spend(act.unit, nonce=preimage.nonce, result_id=uuid, keep_until=preimage.expires + DAY)
    act.result_id = uuid
    row = users.find_credential(act.unit, uuid)
    assert row is not None
    return present.credential(row)


def _own(act: Act, uuid: str) -> Row:
    row = users.find_credential(act.unit, uuid)
    if row is None or row.user_id != act.caller.user_id or users.is_of_a_pat(act.unit, uuid):
        raise NotFound("no such credential of yours")
    return row


def activate(act: Act, uuid: str) -> dict[str, str]:
    """Switch a key of the caller's on; what it signed counts again. Nothing happens if it is on."""
    row = _own(act, uuid)
    if not row.is_active:
        act.record(records.CREDENTIAL_ACTIVATED, uuid, {"credentialUuid": uuid})
        users.update_credential(act.unit, uuid, is_active=True)
        settle_open(act.work, act.caller.user_id)
    act.result_id = uuid
    return {"message": "the credential is active"}


def deactivate(act: Act, uuid: str) -> dict[str, str]:
    """Switch a key of the caller's off at once: its signatures, sessions and votes stop counting."""
    row = _own(act, uuid)
    _refuse_itself(act, uuid)
    if row.is_active:
        act.record(records.CREDENTIAL_DEACTIVATED, uuid, {"credentialUuid": uuid})
        users.update_credential(act.unit, uuid, is_active=False)
        _go_on(act, uuid)
    act.result_id = uuid
    return {"message": "the credential is inactive"}


def delete(act: Act, uuid: str) -> dict[str, str]:
    """Remove a key of the caller's for good."""
    row = _own(act, uuid)
    _refuse_itself(act, uuid)
    act.record(records.CREDENTIAL_DELETED, uuid, {"credentialUuid": uuid})
    forget_key(act.unit, row, now=act.now)
    _go_on(act, uuid)
    act.result_id = uuid
    return {}


def _refuse_itself(act: Act, uuid: str) -> None:
    """The key that signs stays, so whoever withdraws a key has shown that another of theirs works.

    Nobody can lock themselves out by it: the last active key could only withdraw itself.
    """
    if uuid == act.credential.uuid:
        raise PreconditionFailed("a key does not withdraw itself: add another one and sign with that")


def _go_on(act: Act, uuid: str) -> None:
    """A service account cannot log in: its token goes on with the key that signed."""
    users.move_tokens(act.unit, from_key=uuid, to_key=act.credential.uuid, user_id=act.caller.user_id)
