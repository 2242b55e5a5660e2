"""The kinds of records about people, service accounts, their keys, and what they are permitted."""

from collections.abc import Iterable, Mapping
from typing import Any

from outlay.core import ids
from outlay.core.operation import ALIASES
from outlay.core.personal_token import token_life
from outlay.core.policy_document import parse_policy, stored_document
from outlay.evidence import record as records
from outlay.evidence.assertion import FIDO2, KEY, Credential
from outlay.evidence.bundle import EvidenceBroken, verify_new_key, verify_registration
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import RecordBroken, check_instant
from outlay.evidence.shape import check_digest, check_texts, members
from outlay.evidence.state import Grant, Identity, KnownCredential, KnownPolicy, Permission, PolicyVersion
from outlay.evidence.step import Step, fresh

_KEY_MEMBERS = dict.fromkeys(("credentialUuid", "credentialId", "publicKey"), str)

# People and service accounts


def identity_of(step: Step) -> Identity:
    """Return the identity that a record is about."""
    identity = step.history.identities.get(step.subject)
    if identity is None or identity.is_deleted:
        raise RecordBroken("names nobody there is", field="record.subject")
    return identity


def key_kind(body: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the kind of a key, and of a passkey the domain it is bound to; records of other keys name neither."""
    kind, relying_party_id = body.get("kind", KEY), body.get("relyingPartyId")
    if kind == FIDO2 and not (isinstance(relying_party_id, str) and relying_party_id):
        raise RecordBroken("is of a passkey that is bound to nothing", field="record.body.relyingPartyId")
    if kind not in (KEY, FIDO2) or (kind == KEY and relying_party_id is not None):
        raise RecordBroken("is of a kind that is not known here", field="record.body.kind")
    return kind, relying_party_id


def introduce(step: Step, user_id: str, key: Mapping[str, Any], *, vouched: bool) -> KnownCredential:
    """Add a key to those that can sign."""
    history, identity = step.history, step.history.identities[user_id]
    given = members({name: key[name] for name in _KEY_MEMBERS if name in key}, "record.body", _KEY_MEMBERS)
    uuid = fresh(given["credentialUuid"], ids.CREDENTIAL, history.credentials, "record.body.credentialUuid")
    if not given["credentialId"] or given["credentialId"] in history.names:
        raise RecordBroken("is taken: another key has this name", field="record.body.credentialId")
    kind, relying_party_id = key_kind(key)
    thumbprint = fingerprint(given["publicKey"])
    if thumbprint in history.fingerprints:
        raise RecordBroken("belongs to an identity already: one key, one identity", field="record.body.publicKey")
    known = KnownCredential(
        credential=Credential(
            uuid=uuid,
            credential_id=given["credentialId"],
            user_id=user_id,
            kind=kind,
            public_key=given["publicKey"],
            relying_party_id=relying_party_id,
        ),
        record=step.digest,
        fingerprint=thumbprint,
        vouched_since=step.number if vouched else None,
        user_states=identity.states,
    )
    history.credentials[uuid] = known
    history.names.add(given["credentialId"])
    history.fingerprints.add(known.fingerprint)
    identity.keys.append(known)
    return known


def genesis(step: Step) -> None:
    """Found the organization. The root is pinned, so only what later records build upon is read."""
    history = step.history
    shape = {"admin": dict, "permission": dict, "policies": list, "preset": str, "moneySettings": dict}
    body = members(step.body, "record.body", shape)
    texts = dict.fromkeys(("userId", "username", "fingerprint"), str)
    admin = members(body["admin"], "record.body.admin", {**texts, **_KEY_MEMBERS})
    first = members(body["permission"], "record.body.permission", {"id": str, "name": str, "operations": list})
    if step.subject != history.org:
        raise RecordBroken("the first record is about the organization", field="record.subject")
    history.identities[fresh(admin["userId"], ids.USER, (), "record.body.admin.userId")] = Identity(is_machine=False)
    if introduce(step, admin["userId"], admin, vouched=True).fingerprint != admin["fingerprint"]:
        raise RecordBroken("is of another key", field="record.body.admin.fingerprint")
    permission_id = fresh(first["id"], ids.PERMISSION, (), "record.body.permission.id")
    check_texts(first["operations"], "record.body.permission.operations")
    operations = [(0, frozenset(first["operations"]))]
    history.permissions[permission_id] = Permission(first["name"], operations, is_immutable=True)
    history.give(None, Grant(permission_id, admin["userId"], since=0))
    for at, document in enumerate(body["policies"]):
        field = f"record.body.policies[{at}]"
        if not isinstance(document, dict):
            raise RecordBroken("is not a policy", field=field)
        policy_id = fresh(document.get("id"), ids.POLICY, history.policies, f"{field}.id")
        bare = {name: value for name, value in document.items() if name != "id"}
        policy = parse_policy(bare, id=policy_id, version=1, allow_empty=True)
        history.policies[policy_id] = KnownPolicy([PolicyVersion(0, step.at, 1, stored_document(policy))])
    history.note_policies(0)
    history.money_settings = body["moneySettings"]


def user_invited(step: Step) -> None:
    """A person is invited; a key that the invitation names is vouched for."""
    step.new_subject(ids.USER, step.history.identities)
    code, expires = step.made("code"), step.made("expires")
    check_digest(code, "record.body.code")
    if type(expires) is not int or expires <= step.at:
        raise RecordBroken("is not an instant to come", field="record.body.expires")
    public_key = step.payload.get("publicKey")
    if public_key is not None:
        fingerprint(step.signed("publicKey"))
    step.expect({"username": step.signed("email"), "publicKey": public_key, "code": code, "expires": expires})
    step.history.identities[step.subject] = Identity(is_machine=False)
    step.history.invitations[step.digest] = {**step.body, "userId": step.subject}


def user_registered(step: Step) -> None:
    """Take up an invitation: proved by the invitation and the new key, signed by nobody else."""
    history, body, identity = step.history, step.body, identity_of(step)
    kind, party = key_kind(body)
    preimage, attested = verify_registration(
        body.get("preimage"), body.get("attestation"), kind=kind, relying_party_id=party
    )
    public_key = attested.public_key
    check_instant(step.at, preimage.issued, preimage.expires)
    if preimage.org != history.org or preimage.user_id != step.subject or not identity.is_active:
        raise EvidenceBroken("the registration is of somebody else", field="record.body.preimage")
    invitation = history.invitations.pop(preimage.invitation, None)
    if invitation is None or invitation["userId"] != step.subject or preimage.issued >= invitation["expires"]:
        raise EvidenceBroken("there is no such open invitation", field="record.body.preimage")
    step.expect(
        {
            "username": invitation["username"],
            "credentialUuid": step.made("credentialUuid"),
            "credentialId": attested.credential_id,
            "publicKey": public_key,
            **attested.document(),
            "fingerprint": fingerprint(public_key),
            "preimage": body["preimage"],
            "attestation": body["attestation"],
        }
    )
    named = invitation["publicKey"]
    if named is not None and fingerprint(named) != fingerprint(public_key):
        raise RecordBroken("the invitation names another key", field="record.body.publicKey")
    # While changes wait for people, naming a key in an invitation would be a way around them.
    introduce(step, step.subject, body, vouched=named is not None and not history.is_governed)


def user_activated(step: Step) -> None:
    """An identity is switched on, and the keys on record are vouched for."""
    identity = identity_of(step)
    keys = [key for key in identity.keys if not key.is_deleted]
    step.expect({"fingerprints": sorted(key.fingerprint for key in keys)})
    if step.payload != {}:
        _check_compared(step, keys)
    identity.states.append((step.number, True))
    for key in keys:
        if key.vouched_since is None:
            key.vouched_since = step.number


def _check_compared(step: Step, keys: Iterable[KnownCredential]) -> None:
    """Refuse to vouch for keys that the signed call does not name.

    A call without a body names none: it vouches for what the records said to whoever keeps them.
    """
    compared = step.signed_texts("fingerprints")
    step.expect_payload({"fingerprints": compared})
    new = {key.fingerprint for key in keys if key.vouched_since is None}
    if not new <= set(compared) <= {key.fingerprint for key in keys}:
        raise EvidenceBroken("other keys than these were compared", field="evidence.payload.fingerprints")


def user_switched_off(step: Step) -> None:
    """An identity is deactivated or deleted."""
    identity = identity_of(step)
    step.expect({})
    if step.by.credential.user_id == step.subject:
        raise EvidenceBroken("nobody can switch themselves off", field="evidence.credential")
    if step.kind == records.USER_DEACTIVATED and step.payload != {}:
        force = step.payload.get("force")
        if not identity.is_machine or not isinstance(force, bool):
            raise EvidenceBroken("the call signed takes no body but force", field="evidence.payload")
        step.expect_payload({"force": force})
    identity.states.append((step.number, False))
    if step.kind == records.USER_DELETED:
        identity.is_deleted = True
        for key in identity.keys:
            if not key.is_deleted:  # another key may have its name by now
                step.history.forget(key)


def user_renamed(step: Step) -> None:
    """A service account gets another name."""
    identity_of(step)
    _expect_name(step)


def _expect_name(step: Step) -> None:
    name, external_id = step.payload.get("name"), step.payload.get("externalId")
    if name is None and external_id is None:
        raise EvidenceBroken("the call signed changes nothing", field="evidence.payload")
    step.expect({"name": name, "externalId": external_id})


def service_account_created(step: Step) -> None:
    """A machine identity is made, with one key and perhaps a permission."""
    history, body = step.history, step.body
    user_id = step.new_subject(ids.USER, history.identities)
    permission_id, assignment_id = step.payload.get("permissionId"), step.made("assignmentId")
    if history.identities[step.by.credential.user_id].is_machine:
        raise EvidenceBroken("a service account cannot create service accounts", field="evidence.credential")
    step.expect(
        {
            "name": step.signed("name"),
            "credentialUuid": step.made("credentialUuid"),
            "credentialId": step.made("credentialId"),
            "publicKey": step.signed("publicKey"),
            "permissionId": permission_id,
            "assignmentId": assignment_id,
        }
    )
    if (permission_id is None) != (assignment_id is None):
        raise RecordBroken("a permission is given by an assignment", field="record.body.assignmentId")
    states = [(step.number, False)] if history.is_governed else []
    history.identities[user_id] = Identity(is_machine=True, states=states)
    introduce(step, user_id, body, vouched=True)
    if permission_id is not None:
        step.require(["Permissions:Assign"])
        _give(step, permission_id, user_id)


# Credentials


def credential_created(step: Step) -> None:
    """Somebody adds a key of their own: signed by a key they have, and proved by the new one."""
    history, user_id = step.history, step.by.credential.user_id
    kind, party = key_kind(step.body)
    if step.payload.get("credentialKind", KEY) != kind:
        raise EvidenceBroken("a credential of another kind was signed for", field="evidence.payload.credentialKind")
    preimage, attested = verify_new_key(
        step.body.get("preimage"), step.payload.get("credentialInfo"), kind=kind, relying_party_id=party
    )
    check_instant(step.at, preimage.issued, preimage.expires)
    if preimage.org != history.org or preimage.user_id != user_id:
        raise EvidenceBroken("the new key proved itself to somebody else", field="record.body.preimage")
    if preimage.nonce in history.attested:
        raise EvidenceBroken("the challenge of the new key was used before", field="record.body.preimage")
    step.expect(
        {
            "credentialUuid": step.subject,
            "credentialId": attested.credential_id,
            "publicKey": attested.public_key,
            **attested.document(),
            "preimage": step.body["preimage"],
        }
    )
    history.attested.add(preimage.nonce)
    _start(step, introduce(step, user_id, step.body, vouched=True))


def _start(step: Step, known: KnownCredential) -> None:
    """While changes wait for people, a new key is switched off until its activation was agreed to."""
    if step.history.is_governed:
        known.key_states.append((step.number, False))


def credential_switched(step: Step) -> None:
    """Somebody activates, deactivates or deletes a key of their own, or of a personal access token of theirs."""
    named = step.history.credentials.get(step.subject)
    if named is None or named.is_deleted or named.credential.user_id != step.by.credential.user_id:
        raise RecordBroken("names no credential of the signer", field="record.subject")
    token = {} if named.token_id is None else {"tokenId": named.token_id}
    # Older records name no fingerprint, and calls need not; what is named is this key's.
    names_it = step.kind == records.CREDENTIAL_ACTIVATED and not token and "fingerprint" in {*step.body, *step.payload}
    compared = {"fingerprint": named.fingerprint} if names_it else {}
    step.expect({"credentialUuid": step.subject, **token, **compared})
    in_path = step.kind == records.CREDENTIAL_DELETED or bool(token)
    signed = compared if "fingerprint" in step.payload else {}
    step.expect_payload({} if in_path else {"credentialUuid": step.subject, **signed})
    if step.kind != records.CREDENTIAL_ACTIVATED and step.by is named:
        raise EvidenceBroken("a key does not withdraw itself", field="evidence.credential")
    if step.kind == records.CREDENTIAL_ACTIVATED and named.vouched_since is None:
        named.vouched_since = step.number  # registered with a code: another key of its holder's stands for it
    named.key_states.append((step.number, step.kind == records.CREDENTIAL_ACTIVATED))
    if step.kind == records.CREDENTIAL_DELETED:
        step.history.forget(named)


# Personal access tokens


def pat_created(step: Step) -> None:
    """A person makes a token, with a key that may do no more than they may."""
    history, user_id = step.history, step.by.credential.user_id
    token_id, permission_id = step.new_subject(ids.TOKEN, history.tokens), step.payload.get("permissionId")
    if history.identities[user_id].is_machine:
        raise EvidenceBroken("a service account has a token of its own", field="evidence.credential")
    days, seconds = (_whole(step, name) for name in ("daysValid", "secondsValid"))
    expires = step.at + token_life(days, seconds)
    step.expect(
        {
            "name": step.signed("name"),
            "credentialUuid": step.made("credentialUuid"),
            "credentialId": step.made("credentialId"),
            "publicKey": step.signed("publicKey"),
            "permissionId": permission_id,
            "expires": expires,
        }
    )
    if permission_id is not None:
        _permission(step, permission_id)
    known = introduce(step, user_id, step.body, vouched=True)
    known.token_id, known.limit, known.expires = token_id, permission_id, expires
    history.tokens[token_id] = known
    _start(step, known)


def _whole(step: Step, name: str) -> int | None:
    value = step.payload.get(name)
    if value is not None and type(value) is not int:
        raise EvidenceBroken("the signed payload holds no whole number", field=f"evidence.payload.{name}")
    return value


def pat_renamed(step: Step) -> None:
    """A token gets another name."""
    known = step.history.tokens.get(step.subject)
    if known is None or known.is_deleted or known.credential.user_id != step.by.credential.user_id:
        raise RecordBroken("names no token of the signer", field="record.subject")
    _expect_name(step)


# Permissions


def _permission(step: Step, permission_id: object) -> Permission:
    permission = step.history.permissions.get(str(permission_id))
    if permission is None or permission.is_archived:
        raise RecordBroken("names no permission there is", field="record.subject")
    return permission


def _changeable(step: Step) -> Permission:
    permission = _permission(step, step.subject)
    if permission.is_immutable:
        raise RecordBroken("names the permission that cannot be changed", field="record.subject")
    return permission


def _operations(step: Step) -> list[str]:
    return sorted({ALIASES.get(name, name) for name in step.signed_texts("operations")})


def permission_created(step: Step) -> None:
    """A set of operations is named."""
    permission_id, operations = step.new_subject(ids.PERMISSION, step.history.permissions), _operations(step)
    step.expect({"name": step.signed("name"), "operations": operations})
    step.require(operations)  # nobody can give what they do not hold
    step.history.permissions[permission_id] = Permission(step.body["name"], [(step.number, frozenset(operations))])


def permission_updated(step: Step) -> None:
    """A permission is renamed or its operations are replaced."""
    permission, name = _changeable(step), step.payload.get("name")
    held = sorted(permission.operations[-1][1])
    operations = held if step.payload.get("operations") is None else _operations(step)
    step.expect({"name": permission.name if name is None else name, "operations": operations})
    step.require(operations)
    permission.name = step.body["name"]
    permission.operations.append((step.number, frozenset(operations)))


def permission_archived(step: Step) -> None:
    """A permission is taken out of use."""
    permission = _changeable(step)
    step.expect({})
    permission.is_archived = True
    permission.operations.append((step.number, frozenset()))


def permission_assigned(step: Step) -> None:
    """A permission is given to an identity."""
    identity_id = step.signed("identityId")
    step.expect({"assignmentId": step.made("assignmentId"), "identityId": identity_id})
    _give(step, step.subject, identity_id)


def _give(step: Step, permission_id: str, identity_id: str) -> None:
    permission, history = _permission(step, permission_id), step.history
    step.require(sorted(permission.operations[-1][1]))
    assignment_id = fresh(step.body["assignmentId"], ids.ASSIGNMENT, history.grants, "record.body.assignmentId")
    identity = history.identities.get(identity_id)
    if identity is None or identity.is_deleted:
        raise RecordBroken("names nobody there is", field="record.body.identityId")
    history.give(assignment_id, Grant(permission_id, identity_id, since=step.number))


def permission_revoked(step: Step) -> None:
    """A permission is taken from an identity."""
    grant = step.history.grants.get(str(step.made("assignmentId")))
    if grant is None or grant.until is not None or grant.permission_id != step.subject:
        raise RecordBroken("names no assignment there is", field="record.body.assignmentId")
    step.expect({"assignmentId": step.body["assignmentId"], "identityId": grant.identity_id})
    grant.until = step.number
