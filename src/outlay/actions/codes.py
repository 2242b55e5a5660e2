"""One-time codes: a credential made on another device, and the recovery of somebody who lost all of theirs.

A code has 144 bits of chance, so nobody finds one by trying, however many tries there are; only its hash is stored.
"""

from typing import Any

from outlay.actions import present
from outlay.actions.act import CHALLENGE_LIFE, Act, append_record
from outlay.actions.credentials import attest_new, store_attested, withdraw_key
from outlay.actions.organization import hash_code
from outlay.actions.wallets import check_reason
from outlay.core import ids
from outlay.core.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, PreconditionFailed
from outlay.core.event import iso
from outlay.core.seams import DAY, Entropy, Instant
from outlay.evidence import record as records
from outlay.evidence.base64url import to_base64url
from outlay.evidence.challenge import RegistrationPreimage, registration_challenge
from outlay.evidence.codes import CODE_LIFE_MAX, read_expiration
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import CLOCKS_APART
from outlay.settings import Server
from outlay.store import codes, organizations, permissions, users
from outlay.store.database import Row, Unit

RECOVERY_LIFE: Instant = DAY
"""How long the code of a recovery is good."""

_CODE_SIZE = 18
_REFUSED = "the code is wrong, was used, or has expired: ask for a new one"


def create(act: Act, *, expiration: object) -> dict[str, str]:
    """Give the caller a code by which they register a credential on another device; a code before it ends.

    Raises:
        InvalidInput: the expiration is no instant of the next seven days. NotPermitted: a service account or a
            personal access token asks.
    """
    if act.caller.is_service_account or act.caller.pat_key is not None:
        raise NotPermitted("codes are for people: log in")
    expires = read_expiration(expiration)
    if not act.now < expires <= act.now + CODE_LIFE_MAX:
        raise InvalidInput("must lie in the future, and within seven days", field="expiration")
    code = _open(act, records.CODE_CREATED, act.caller.user_id, expires)
    return {"code": code, "expiration": iso(expires)}


def recover(act: Act, user_id: str, *, reason: str | None) -> dict[str, Any]:
    """Withdraw all keys of somebody who lost them, for good, end their sessions, and give a code for a new one.

    ``reason`` says for the record how the caller knows that it is them.

    Raises:
        InvalidInput: the reason is empty or too long. NotFound: no such person. PreconditionFailed: the caller, or
            somebody who never registered, or too few who can decide would be left. NotPermitted: the person may do
            what the caller may not.
    """
    row = users.find(act.unit, user_id)
    if row is None or row.is_service_account:
        raise NotFound("User not found")
    if reason is not None:
        check_reason(reason)
    if user_id == act.caller.user_id:
        raise PreconditionFailed("nobody recovers themselves: ask another admin")
    if not row.is_registered:
        raise PreconditionFailed("this person has not registered yet: remove and invite them again")
    # Whoever gives a key to an identity gives what the identity may do.
    act.caller.require_to_give(permissions.operations_of(act.unit, user_id))
    expires = act.now + RECOVERY_LIFE
    code = _open(act, records.USER_RECOVERED, user_id, expires, reason=reason)
    for key in users.credentials_of(act.unit, user_id):
        withdraw_key(act.unit, key, now=act.now)
    users.withdraw_tokens(act.unit, user_id, now=act.now)
    users.update(act.unit, user_id, may_vote=False)
    row = users.find(act.unit, user_id)
    assert row is not None
    return {"user": present.user(act.unit, row, act.org.id), "code": code, "expiration": iso(expires)}


def _open(act: Act, kind: str, user_id: str, expires: Instant, **more: str | None) -> str:
    code = to_base64url(act.entropy.token(_CODE_SIZE))
    record = act.record(kind, user_id, {"code": hash_code(code), "expires": expires, **more})
    codes.put(act.unit, user_id=user_id, code=hash_code(code), expires_at=expires, record=record)
    act.result_id = user_id
    return code


def begin(unit: Unit, *, now: Instant, entropy: Entropy, code: str) -> tuple[RegistrationPreimage, Row]:
    """Return what a new credential proves itself over for whoever holds a code, and whose it will be.

    Raises:
        NotAuthenticated: no such open code. Why, is not told.
    """
    opened = codes.find(unit, hash_code(code))
    user = None if opened is None else users.find(unit, opened.user_id)
    if opened is None or user is None or not user.is_active or opened.expires_at <= now:
        raise NotAuthenticated(_REFUSED)
    preimage = RegistrationPreimage(
        org=organizations.get(unit).id,
        user_id=user.id,
        invitation=opened.record,
        nonce=to_base64url(entropy.token(24)),
        issued=now,
        expires=now + CHALLENGE_LIFE,
    )
    return preimage, user


def take_up(
    unit: Unit,
    *,
    now: Instant,
    entropy: Entropy,
    preimage: RegistrationPreimage,
    code: str,
    server: Server,
    kind: str,
    info: dict[str, Any],
    name: str | None,
) -> dict[str, Any]:
    """Register a credential with a code; it is switched off until somebody stands for it.

    Raises:
        NotAuthenticated: the challenge has expired, or the code was used or replaced. InvalidInput,
            ActionSignatureInvalid: a bad attestation. Conflict: somebody has the key.
    """
    org = organizations.lock_shared(unit)
    opened = codes.find(unit, hash_code(code))  # a sealing key alone takes up no code
    user = users.find(unit, preimage.user_id)
    if not preimage.issued - CLOCKS_APART <= now < preimage.expires or preimage.org != org.id:
        raise NotAuthenticated("this challenge has expired: begin again")
    if (
        opened is None
        or user is None
        or not user.is_active
        or (opened.user_id, opened.record) != (user.id, preimage.invitation)
        or opened.expires_at <= preimage.issued
    ):
        raise NotAuthenticated(_REFUSED)
    found = attest_new(unit, registration_challenge(preimage), kind=kind, info=info, server=server)
    uuid = ids.new_id(ids.CREDENTIAL, entropy)
    record = append_record(
        unit,
        org,
        kind=records.CREDENTIAL_REGISTERED,
        subject=uuid,
        body={
            "credentialUuid": uuid,
            "credentialId": found.credential_id,
            "publicKey": found.public_key,
            **found.document(),
            "fingerprint": fingerprint(found.public_key),
            "preimage": preimage.document(),
            "attestation": info,
        },
        evidence=None,
        now=now,
        actor=user.id,
    )
    store_attested(unit, found, uuid=uuid, user_id=user.id, name=name, record=record, now=now, is_active=False)
    codes.drop(unit, user.id)
    row = users.find_credential(unit, uuid)
    assert row is not None
    return present.credential(row)
