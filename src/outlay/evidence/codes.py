"""The kinds of records about one-time codes: a credential made on another device, and recovery.

A code proves nothing: whoever owns the database can put a credential of their own in the place of the one that was
made with it. So what is registered with a code counts only once somebody who has seen its fingerprint signed for it:
its holder with another key of theirs or, where a recovery withdrew all of those, whoever vouches for the person anew.
"""

from outlay.core import ids
from outlay.core.errors import InvalidInput
from outlay.core.event import read_iso
from outlay.core.seams import DAY, SECOND, Instant
from outlay.evidence.bundle import EvidenceBroken, verify_registration
from outlay.evidence.identities import identity_of, introduce, key_kind
from outlay.evidence.keys import fingerprint
from outlay.evidence.record import RecordBroken, check_instant
from outlay.evidence.shape import check_digest
from outlay.evidence.state import OpenCode
from outlay.evidence.step import Step, fresh

CODE_LIFE_MAX: Instant = 7 * DAY
"""A code is good for at most this long."""


def read_expiration(value: object) -> Instant:
    """Return until when a code shall be good, as a signed request says it: a date, or seconds since 1970.

    Raises:
        InvalidInput: neither.
    """
    if isinstance(value, str):
        return read_iso(value, field="expiration")
    if type(value) is not int or not 0 < value < 2**40:
        raise InvalidInput("is a date and time with its zone, or whole seconds since 1970", field="expiration")
    return value * SECOND


def code_created(step: Step) -> None:
    """Somebody asks for a code, to register a credential of theirs on another device."""
    if step.subject != step.by.credential.user_id:
        raise EvidenceBroken("nobody gets a code for somebody else", field="record.subject")
    expires = read_expiration(step.payload.get("expiration"))
    _open(step, is_recovery=False)
    step.expect({"code": step.body["code"], "expires": expires})


def user_recovered(step: Step) -> None:
    """All keys of a person are withdrawn for good, and a code is given by which they register a new one."""
    identity, history = identity_of(step), step.history
    if not identity.keys or step.by.credential.user_id == step.subject:
        raise EvidenceBroken("recovers somebody without keys, or the signer", field="record.subject")
    # Deactivating and inviting again comes to the same, and a new key gets whatever its holder may do.
    step.require(["Auth:Users:Create", *history.held_by(step.subject, step.number - 1)])
    reason = step.payload.get("reason")
    step.expect_payload({} if reason is None else {"reason": step.signed("reason")})
    _open(step, is_recovery=True)
    step.expect({"code": step.body["code"], "expires": step.body["expires"], "reason": reason})
    for key in identity.keys:
        if not key.is_deleted:
            key.key_states.append((step.number, False))
            history.withdraw(key)


def _open(step: Step, *, is_recovery: bool) -> None:
    code, expires = step.made("code"), step.made("expires")
    check_digest(code, "record.body.code")
    if type(expires) is not int or not step.at < expires <= step.at + CODE_LIFE_MAX:
        raise RecordBroken("is not an instant of the next seven days", field="record.body.expires")
    step.history.codes[step.subject] = OpenCode(step.digest, expires, is_recovery)


def credential_registered(step: Step) -> None:
    """A code is taken up: proved by the record that gave it and by the new credential, signed by nobody else."""
    history, body = step.history, step.body
    kind, party = key_kind(body)
    preimage, attested = verify_registration(
        body.get("preimage"), body.get("attestation"), kind=kind, relying_party_id=party
    )
    check_instant(step.at, preimage.issued, preimage.expires)
    identity = history.identities.get(preimage.user_id)
    if preimage.org != history.org or identity is None or not identity.is_active:
        raise EvidenceBroken("the registration is of somebody else", field="record.body.preimage")
    opened = history.codes.get(preimage.user_id)
    if opened is None or opened.record != preimage.invitation or preimage.issued >= opened.expires:
        raise EvidenceBroken("there is no such open code", field="record.body.preimage")
    step.expect(
        {
            "credentialUuid": fresh(step.subject, ids.CREDENTIAL, history.credentials, "record.subject"),
            "credentialId": attested.credential_id,
            "publicKey": attested.public_key,
            **attested.document(),
            "fingerprint": fingerprint(attested.public_key),
            "preimage": body["preimage"],
            "attestation": body["attestation"],
        }
    )
    known = introduce(step, preimage.user_id, body, vouched=False)
    if not opened.is_recovery:
        known.key_states.append((step.number, False))
    del history.codes[preimage.user_id]
