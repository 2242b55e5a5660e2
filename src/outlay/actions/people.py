"""People and service accounts: invited, registered, logged in, switched off."""

from collections.abc import Collection
from typing import Any

from outlay.actions import present
from outlay.actions.act import CHALLENGE_LIFE, Act, append_record, credential_of, issue_token
from outlay.actions.credentials import attest_new, check_new_key, forget_key, store_attested, store_key
from outlay.actions.govern import is_governed, must_ask
from outlay.actions.organization import hash_code
from outlay.actions.settle import settle_open
from outlay.core import ids
from outlay.core.audit import SESSION_CLOSED, Entry
from outlay.core.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, NotPermitted, PreconditionFailed
from outlay.core.seams import DAY, HOUR, Entropy, Instant
from outlay.evidence.assertion import FIDO2, Assertion, verify_assertion
from outlay.evidence.attestation import fingerprint
from outlay.evidence.base64url import to_base64url
from outlay.evidence.challenge import (
    LoginPreimage,
    RegistrationPreimage,
    login_challenge,
    registration_challenge,
)
from outlay.evidence.record import CLOCKS_APART
from outlay.settings import Server
from outlay.store import audit, codes, evidence, organizations, permissions, users
from outlay.store.database import Row, Unit

LOGIN_LIFE: Instant = 8 * HOUR
SERVICE_ACCOUNT_DAYS = 730
INVITATION_LIFE: Instant = 7 * DAY


# People


def invite(act: Act, *, email: str, public_key: str | None, external_id: str | None) -> dict[str, Any]:
    """Invite a person; the answer carries the one-time registration code, which is never shown again."""
    if "@" not in email or len(email) > 254 or email.strip() != email or not email.isprintable():
        raise InvalidInput("is not an e-mail address", field="email")
    if users.find_by_name(act.unit, email) is not None:
        raise Conflict("a user with this e-mail address exists already", field="email")
    if public_key is not None:
        check_new_key(act.unit, public_key, field="publicKey")
    code = to_base64url(act.entropy.token(18))
    user_id = act.new_id(ids.USER)
    record = act.record(
        "user.invited",
        user_id,
        {
            "username": email,
            "publicKey": public_key,
            "code": hash_code(code),
            "expires": act.now + INVITATION_LIFE,
        },
    )
    users.add(
        act.unit,
        id=user_id,
        username=email,
        name=email,
        is_service_account=False,
        is_active=True,
        is_registered=False,
        may_vote=False,
        external_id=external_id,
        invited_public_key=public_key,
        registration_code=hash_code(code),
        registration_expires_at=act.now + INVITATION_LIFE,
        invitation_record=record,
        created_at=act.now,
    )
    act.result_id = user_id
    return {**_user(act, user_id), "registrationCode": code}


def _user(act: Act, user_id: str) -> dict[str, Any]:
    return present.user(act.unit, _get(act.unit, user_id), act.org.id)


def _get(unit: Unit, user_id: str, *, service_account: bool = False) -> Row:
    row = users.find(unit, user_id)
    if row is None or row.is_service_account != service_account:
        raise NotFound("User not found")
    return row


def activate(
    act: Act, user_id: str, *, service_account: bool, compared: Collection[str] | None = None
) -> dict[str, Any]:
    """Switch an identity on. For a person it also vouches for the keys registered so far, so that votes count.

    Args:
        act: the call.
        user_id: whom.
        service_account: what they have to be.
        compared: the fingerprints that whoever vouches compared; None: they did not say.

    Raises:
        PreconditionFailed: other keys are on record, or none is after a recovery.
    """
    row = _get(act.unit, user_id, service_account=service_account)
    keys = users.credentials_of(act.unit, user_id)
    if compared is not None:
        own = {fingerprint(key.public_key) for key in users.own_keys_of(act.unit, user_id)}
        if not own <= set(compared) <= {fingerprint(key.public_key) for key in keys}:
            raise PreconditionFailed("the keys on record are not those that were compared: look again, then sign")
    if row.is_active and row.is_registered and not row.may_vote and not keys:
        raise PreconditionFailed(
            "this person has no key to vouch for: they register one with the code of their recovery first,"
            f" or get a new code (POST /v1/users/{user_id}/recovery)"
        )
    act.record("user.activated", user_id, {"fingerprints": sorted(fingerprint(k.public_key) for k in keys)})
    is_on = row.may_vote or (row.is_registered and bool(keys))
    if is_on and not row.may_vote:
        # Keys of nobody that was vouched for are off only because a recovery had them registered.
        for key in keys:
            users.update_credential(act.unit, key.id, is_active=True)
    users.update(act.unit, user_id, is_active=True, may_vote=is_on)
    settle_open(act.work, user_id)
    act.result_id = user_id
    return _answer(act, user_id, service_account)


def deactivate(act: Act, user_id: str, *, service_account: bool) -> dict[str, Any]:
    """Switch an identity off at once: its tokens, signatures and votes stop counting."""
    _refuse_self(act, user_id)
    _get(act.unit, user_id, service_account=service_account)
    act.record("user.deactivated", user_id, {})
    users.update(act.unit, user_id, is_active=False)
    act.result_id = user_id
    return _answer(act, user_id, service_account)


def delete(act: Act, user_id: str, *, service_account: bool) -> dict[str, Any]:
    """Remove an identity for good; what it did stays on record."""
    _refuse_self(act, user_id)
    row = _get(act.unit, user_id, service_account=service_account)
    act.record("user.deleted", user_id, {})
    users.update(act.unit, user_id, is_active=False)
    users.revoke_tokens(act.unit, user_id)
    answer = _answer(act, user_id, service_account)
    # The name becomes free again; the row stays, because decisions and records point to it.
    users.update(act.unit, user_id, deleted_at=act.now, username=f"{row.username}#{user_id}")
    for key in users.credentials_of(act.unit, user_id):
        forget_key(act.unit, key, now=act.now)
    codes.drop(act.unit, user_id)
    act.result_id = user_id
    return answer


def _refuse_self(act: Act, user_id: str) -> None:
    if user_id == act.caller.user_id:
        raise PreconditionFailed("nobody can switch themselves off: ask another admin")


def _answer(act: Act, user_id: str, service_account: bool) -> dict[str, Any]:
    row = _get(act.unit, user_id, service_account=service_account)
    if service_account:
        return present.service_account(act.unit, row, act.org.id)
    return present.user(act.unit, row, act.org.id)


# Service accounts


def create_service_account(
    act: Act,
    *,
    name: str,
    public_key: str,
    permission_id: str | None,
    days_valid: int | None,
    external_id: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Create a machine identity; return its document without the token's text, and the token's claims."""
    days = SERVICE_ACCOUNT_DAYS if days_valid is None else days_valid
    normal = _check_service_account(act, name=name, public_key=public_key, permission_id=permission_id, days=days)
    user_id, uuid, credential_id = (
        act.new_id(ids.USER),
        act.new_id(ids.CREDENTIAL),
        to_base64url(act.entropy.token(16)),
    )
    assignment_id = None if permission_id is None else act.new_id(ids.ASSIGNMENT)
    # While governed, switching it on is the change that people agree to; so the token can be in this answer.
    is_on = not is_governed(act.unit)
    record = act.record(
        "serviceAccount.created",
        user_id,
        {
            "name": name,
            "credentialUuid": uuid,
            "credentialId": credential_id,
            "publicKey": public_key,
            "permissionId": permission_id,
            "assignmentId": assignment_id,
        },
    )
    users.add(
        act.unit,
        id=user_id,
        username=name,
        name=name,
        is_service_account=True,
        is_active=is_on,
        is_registered=True,
        may_vote=True,
        external_id=external_id,
        created_at=act.now,
    )
    store_key(
        act.unit,
        uuid=uuid,
        credential_id=credential_id,
        user_id=user_id,
        name=name,
        public_key=normal,
        record=record,
        now=act.now,
    )
    if permission_id is not None:
        _give(act, permission_id, user_id, assignment_id)
    claims = issue_token(
        act.unit,
        act.entropy,
        org_id=act.org.id,
        user_id=user_id,
        credential_uuid=uuid,
        kind="ServiceAccount",
        name=name,
        now=act.now,
        life=days * DAY,
    )
    act.result_id = user_id
    return _answer(act, user_id, True), claims


def _give(act: Act, permission_id: str, user_id: str, assignment_id: str | None) -> None:
    permissions.assign(
        act.unit,
        id=assignment_id,
        permission_id=permission_id,
        identity_id=user_id,
        is_immutable=False,
        created_at=act.now,
        updated_at=act.now,
    )


def _check_service_account(act: Act, *, name: str, public_key: str, permission_id: str | None, days: int) -> str:
    """Refuse what a service account may not be, and who may not make one; return its key as it is stored."""
    if act.caller.is_service_account:
        raise NotPermitted("a service account cannot create service accounts")
    if permission_id is not None:
        act.caller.require("Permissions:Assign")
        held = permissions.find(act.unit, permission_id)
        if held is None or held.is_archived:
            raise InvalidInput("names no permission", field="permissionId")
        act.caller.require_to_give(held.operations)
        if must_ask(act.unit, permission_id):
            raise PreconditionFailed("assigning this permission needs approval: create the account without it first")
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise InvalidInput("must be 1 to 200 printable characters", field="name")
    if users.find_by_name(act.unit, name) is not None:
        raise Conflict("an identity with this name exists already", field="name")
    if not 1 <= days <= SERVICE_ACCOUNT_DAYS:
        raise InvalidInput(f"must be 1 to {SERVICE_ACCOUNT_DAYS}", field="daysValid")
    return check_new_key(act.unit, public_key, field="publicKey")


def rename_service_account(act: Act, user_id: str, *, name: str | None, external_id: str | None) -> dict[str, Any]:
    """Change the name or the correlation id of a service account."""
    _get(act.unit, user_id, service_account=True)
    changes: dict[str, Any] = {}
    if name is not None:
        other = users.find_by_name(act.unit, name)
        if other is not None and other.id != user_id:
            raise Conflict("an identity with this name exists already", field="name")
        changes |= {"name": name, "username": name}
    if external_id is not None:
        changes["external_id"] = external_id
    if changes:
        act.record("user.renamed", user_id, {"name": name, "externalId": external_id})
        users.update(act.unit, user_id, **changes)
    act.result_id = user_id
    return _answer(act, user_id, True)


# Registration


def begin_registration(
    unit: Unit, *, now: Instant, entropy: Entropy, org_id: str | None, username: str, code: str
) -> tuple[RegistrationPreimage, Row]:
    """Return the challenge of a registration for whoever holds the invitation's code.

    Raises:
        NotAuthenticated: no such invitation, or it was used or has expired. Which, is not told.
    """
    org = organizations.get(unit)
    row = users.find_by_name(unit, username)
    if (
        row is None
        or row.registration_code is None
        or row.registration_code != hash_code(code)
        or (org_id is not None and org_id != org.id)
        or row.registration_expires_at <= now
        or not row.is_active
    ):
        raise NotAuthenticated(
            "the registration code is wrong, was used, or has expired: ask an admin for a new invitation"
        )
    preimage = RegistrationPreimage(
        org=org.id,
        user_id=row.id,
        invitation=row.invitation_record,
        nonce=to_base64url(entropy.token(24)),
        issued=now,
        expires=now + CHALLENGE_LIFE,
    )
    return preimage, row


def register(
    unit: Unit,
    *,
    now: Instant,
    entropy: Entropy,
    preimage: RegistrationPreimage,
    code: str,
    server: Server,
    credential_kind: str,
    credential_info: dict[str, Any],
    credential_name: str | None,
) -> dict[str, Any]:
    """Take up an invitation with a new key: attestation verified, credential stored, record written.

    Raises:
        NotAuthenticated: the challenge has expired or the invitation was used. InvalidInput: a bad attestation.
    """
    org = organizations.lock_shared(unit)
    row = users.find(unit, preimage.user_id)
    if not preimage.issued - CLOCKS_APART <= now < preimage.expires or preimage.org != org.id:
        raise NotAuthenticated("this registration has expired: start again")
    if (
        row is None
        or not row.is_active
        or row.registration_code is None
        or row.registration_code != hash_code(code)  # a sealing key alone takes up no invitation
        or row.invitation_record != preimage.invitation
    ):
        raise NotAuthenticated("this invitation was used or withdrawn")
    found = attest_new(
        unit, registration_challenge(preimage), kind=credential_kind, info=credential_info, server=server
    )
    public_key = found.public_key
    uuid = ids.new_id(ids.CREDENTIAL, entropy)
    vouched = row.invited_public_key is not None and fingerprint(row.invited_public_key) == fingerprint(public_key)
    if row.invited_public_key is not None and not vouched:
        raise InvalidInput("this invitation names another public key", field="credentialInfo.attestationData")
    record = append_record(
        unit,
        org,
        kind="user.registered",
        subject=row.id,
        body={
            "username": row.username,
            "credentialUuid": uuid,
            "credentialId": found.credential_id,
            "publicKey": public_key,
            **found.document(),
            "fingerprint": fingerprint(public_key),
            "preimage": preimage.document(),
            "attestation": credential_info,
        },
        evidence=None,
        now=now,
        actor=row.id,
    )
    vouched = vouched and not is_governed(unit)  # then an activation vouches, which people agree to
    name = credential_name or ("first passkey" if found.kind == FIDO2 else "first key")
    store_attested(unit, found, uuid=uuid, user_id=row.id, name=name, record=record, now=now, is_active=True)
    users.update(unit, row.id, is_registered=True, registration_code=None, may_vote=vouched)
    return {
        "credential": {"uuid": uuid, "credentialId": found.credential_id, "kind": found.kind, "name": name},
        "user": {"id": row.id, "username": row.username, "orgId": org.id},
    }


# Login


def begin_login(
    unit: Unit, *, now: Instant, entropy: Entropy, username: str, org_id: str | None
) -> tuple[LoginPreimage, list[Row]]:
    """Return a login challenge and the credentials that may answer it.

    Raises:
        NotAuthenticated: nobody of that name can log in.
    """
    org = organizations.get(unit)
    row = users.find_by_name(unit, username)
    # Read in any case: how long the answer takes must not tell whether there is such a name.
    keys = list(users.own_keys_of(unit, "" if row is None else row.id, active_only=True))
    if (
        row is None
        or not row.is_active
        or not row.is_registered
        or row.is_service_account
        or not keys
        or (org_id is not None and org_id != org.id)
    ):
        raise NotAuthenticated("nobody of that name can log in here")
    preimage = LoginPreimage(
        org=org.id,
        identity=row.id,
        credentials=tuple(sorted(key.id for key in keys)),
        nonce=to_base64url(entropy.token(24)),
        issued=now,
        expires=now + CHALLENGE_LIFE,
    )
    return preimage, keys


def check_login(
    unit: Unit,
    *,
    now: Instant,
    preimage: LoginPreimage,
    assertion: Assertion,
    origins: tuple[str, ...],
) -> tuple[Row, Row]:
    """Return the user and credential that answer a login challenge rightly; changes nothing.

    Raises:
        NotAuthenticated: expired, used before, or not signed by one of the offered credentials.
    """
    org = organizations.lock_shared(unit)
    user = users.find(unit, preimage.identity)
    key = users.find_credential_by_name(unit, assertion.cred_id)
    if now >= preimage.expires or preimage.org != org.id:
        raise NotAuthenticated("this login has expired: start again")
    if evidence.find_spent(unit, preimage.nonce) is not None:
        raise NotAuthenticated("this login challenge was used: start again")
    if key is None and ids.is_id(assertion.cred_id, ids.CREDENTIAL):
        raise NotAuthenticated("that is the uuid of a credential: log in with its credentialId")
    if (
        user is None
        or not user.is_active
        or key is None
        or not key.is_active
        or key.user_id != user.id
        or key.id not in preimage.credentials
        or users.is_of_a_pat(unit, key.id)
    ):
        raise NotAuthenticated("this credential cannot log in here")
    verify_assertion(assertion, credential_of(key, origins=origins), login_challenge(preimage), origins=origins)
    return user, key


def log_in(
    unit: Unit,
    *,
    now: Instant,
    entropy: Entropy,
    preimage: LoginPreimage,
    assertion: Assertion,
    origins: tuple[str, ...],
) -> dict[str, Any]:
    """Answer a login challenge: return the claims of a bearer token that lives eight hours.

    Raises:
        NotAuthenticated: see ``check_login``.
    """
    user, key = check_login(unit, now=now, preimage=preimage, assertion=assertion, origins=origins)
    claims = issue_token(
        unit,
        entropy,
        org_id=preimage.org,
        user_id=user.id,
        credential_uuid=key.id,
        kind="Token",
        name="login",
        now=now,
        life=LOGIN_LIFE,
    )
    evidence.spend(unit, nonce=preimage.nonce, result_id=claims["jti"], keep_until=preimage.expires + DAY)
    return claims


def log_out(unit: Unit, *, now: Instant, user_id: str, token_id: str | None) -> None:
    """End one login of a user, or all of them; tokens that no login made stay as they are."""
    users.end_sessions(unit, user_id, token_id=token_id)
    audit.add(unit, Entry(user_id, SESSION_CLOSED, token_id or user_id), now=now)
