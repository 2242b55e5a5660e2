"""Keys: the one way they are stored, and the calls by which people and service accounts manage their own."""

from dataclasses import replace
from typing import Any

from outlay.actions import present
from outlay.actions.act import CHALLENGE_LIFE, Act, Caller
from outlay.actions.govern import is_governed
from outlay.actions.settle import settle_open
from outlay.core import ids
from outlay.core.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from outlay.core.seams import DAY, Entropy, Instant
from outlay.evidence import record as records
from outlay.evidence.assertion import FIDO2, KEY
from outlay.evidence.attestation import Attested, attest
from outlay.evidence.base64url import to_base64url
from outlay.evidence.challenge import CredentialPreimage, credential_challenge
from outlay.evidence.keys import fingerprint, load_public_key, normal_pem
from outlay.evidence.passkey import NAME_MAX as PASSKEY_NAME_MAX
from outlay.evidence.record import CLOCKS_APART
from outlay.settings import Server
from outlay.store import evidence, organizations, users
from outlay.store.database import Row, Unit

KINDS = (KEY, FIDO2)
"""Kinds of credentials that people can have; service accounts and tokens have keys."""

NAME_MAX = 200

FREED = "#"
"""Stands in the names of deleted keys, and of those alone."""

# Storing keys


def check_new_key(unit: Unit, public_key: str, *, field: str) -> str:
    """Return a key in the one form in which keys are stored, if nobody has it yet.

    Raises:
        InvalidInput: not a usable key. Conflict: somebody has it: one key belongs to one identity, so that nobody
            counts for two; or it was withdrawn by a recovery.
    """
    normal = normal_pem(load_public_key(public_key, field=field))
    if users.is_key_taken(unit, normal):
        raise Conflict("another credential has this key already: make a new key for each", field=field)
    return normal


def check_new_name(unit: Unit, credential_id: str, *, longest: int = NAME_MAX) -> None:
    """Refuse a name that another key has, or that ``forget_key`` could give one.

    Raises:
        InvalidInput: taken, with a ``#``, or not 1 to ``longest`` characters.
    """
    if FREED in credential_id:
        raise InvalidInput(f"has no {FREED} in it: choose another", field="credentialInfo.credId")
    if not 1 <= len(credential_id) <= longest or users.find_credential_by_name(unit, credential_id) is not None:
        raise InvalidInput(f"is taken or not 1 to {longest} characters: choose another", field="credentialInfo.credId")


def attest_new(unit: Unit, challenge: str, *, kind: str, info: dict[str, Any], server: Server) -> Attested:
    """Return a new credential that proved itself over ``challenge``, if nobody has its key or its name.

    Raises:
        InvalidInput, ActionSignatureInvalid: a bad attestation, another kind, or a name that is taken. Conflict:
            somebody has the key.
    """
    party = server.relying_party if kind == FIDO2 else None
    found = attest(info, challenge, kind=kind, relying_party_id=party, origins=server.origins)
    public_key = check_new_key(unit, found.public_key, field="credentialInfo.attestationData")
    # A passkey's name is chosen by its authenticator, which nobody can ask for a shorter one.
    check_new_name(unit, found.credential_id, longest=PASSKEY_NAME_MAX if kind == FIDO2 else NAME_MAX)
    return replace(found, public_key=public_key)


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
    kind: str = KEY,
    relying_party_id: str | None = None,
    origin: str | None = None,
    sign_count: int | None = None,
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
        kind: ``Key`` or ``Fido2``.
        relying_party_id: of a passkey: the domain it is bound to.
        origin: of a passkey: the page it was made on.
        sign_count: of a passkey: its counter when it was made.
    """
    users.add_credential(
        unit,
        id=uuid,
        credential_id=credential_id,
        user_id=user_id,
        kind=kind,
        name=name,
        public_key=public_key,
        is_active=is_active,
        record=record,
        relying_party_id=relying_party_id,
        origin=origin,
        sign_count=sign_count,
        permission_id=permission_id,
        created_at=now,
    )


def store_attested(
    unit: Unit,
    found: Attested,
    *,
    uuid: str,
    user_id: str,
    name: str | None,
    record: str,
    now: Instant,
    is_active: bool,
) -> None:
    """Store a credential that proved itself; the arguments are those of ``store_key``."""
    store_key(
        unit,
        uuid=uuid,
        credential_id=found.credential_id,
        user_id=user_id,
        name=name or ("passkey" if found.kind == FIDO2 else "key"),
        public_key=found.public_key,
        record=record,
        now=now,
        is_active=is_active,
        kind=found.kind,
        relying_party_id=found.relying_party_id,
        origin=found.origin,
        sign_count=found.sign_count,
    )


def forget_key(unit: Unit, key: Row, *, now: Instant) -> None:
    """Delete a key for good; its name is free again, the row stays, because evidence and decisions point to it."""
    freed = f"{key.credential_id}{FREED}{key.id}"
    while users.has_name(unit, freed):  # of a key that got its name before such names were refused
        freed += FREED
    users.update_credential(unit, key.id, is_active=False, deleted_at=now, credential_id=freed)


def withdraw_key(unit: Unit, key: Row, *, now: Instant) -> None:
    """Delete a key whose holder is recovered: as ``forget_key``, but nobody can register it again."""
    forget_key(unit, key, now=now)
    users.update_credential(unit, key.id, withdrawn_at=now)


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
    if preimage.org != act.org.id or preimage.user_id != act.caller.user_id:
        raise PreconditionFailed("this challenge was made for somebody else: begin again")
    if not preimage.issued - CLOCKS_APART <= act.now < preimage.expires:
        raise PreconditionFailed("this challenge has expired: begin again")
    if evidence.find_spent(act.unit, preimage.nonce) is not None:
        raise PreconditionFailed("this challenge was used: begin again")
    if act.caller.is_service_account and kind != KEY:
        raise InvalidInput("service accounts have keys, no passkeys", field="credentialKind")
    found = attest_new(act.unit, credential_challenge(preimage), kind=kind, info=info, server=act.config.server)
    uuid, is_active = act.new_id(ids.CREDENTIAL), not is_governed(act.unit)
    body = {
        "credentialUuid": uuid,
        "credentialId": found.credential_id,
        "publicKey": found.public_key,
        **found.document(),
        "preimage": preimage.document(),
    }
    record = act.record(records.CREDENTIAL_CREATED, uuid, body)
    store_attested(
        act.unit,
        found,
        uuid=uuid,
        user_id=act.caller.user_id,
        name=name,
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


def activate(act: Act, uuid: str, *, compared: str | None = None) -> dict[str, str]:
    """Switch a key of the caller's on; what it signed counts again. Nothing happens if it is on.

    Raises:
        PreconditionFailed: the fingerprint that was ``compared``, if one was, is another key's.
    """
    row = _own(act, uuid)
    on_record = fingerprint(row.public_key)
    if compared is not None and compared != on_record:
        raise PreconditionFailed("the key on record has another fingerprint than was compared: look again, then sign")
    if not row.is_active:
        act.record(records.CREDENTIAL_ACTIVATED, uuid, {"credentialUuid": uuid, "fingerprint": on_record})
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
