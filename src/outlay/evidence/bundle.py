"""Evidence: everything needed to check later, with no server, what a person or machine signed.

Stored with every transfer, decision and record: the preimage, the payload, the assertion, the credential and its
record, the origins allowed then, and the policy set in force. A registration is proved by its preimage and the
attestation, which its record holds. Whose key it was is answered by the chain of records (``history``).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence.assertion import KEY, Assertion, Credential, verify_assertion
from outlay.evidence.attestation import Attested, attest
from outlay.evidence.canonical import payload_digest, payload_object
from outlay.evidence.challenge import (
    CredentialPreimage,
    Preimage,
    RegistrationPreimage,
    action_challenge,
    credential_challenge,
    registration_challenge,
)
from outlay.evidence.shape import check_digest, check_texts, members

VERSION = 1

P = TypeVar("P")


class EvidenceBroken(InvalidInput):
    """The evidence does not prove what it says."""

    code = "evidence_broken"


def evidence_document(
    *,
    preimage: Preimage,
    assertion: Assertion,
    credential: Credential,
    credential_record: str | None,
    payload: object,
    policy_set: str,
    origins: Collection[str],
) -> dict[str, Any]:
    """Return what is stored with a transfer, a decision or a record.

    Args:
        preimage: what the challenge was derived from.
        assertion: as received.
        credential: the one that verified it.
        credential_record: hex hash of the record that introduced it.
        payload: the parsed request body; absent is ``{}``.
        policy_set: hex digest of the policies in force; empty where no policy was asked.
        origins: origins that were allowed.
    """
    return {
        "v": VERSION,
        "preimage": preimage.document(),
        "payload": payload_object(payload),
        "assertion": assertion.document(),
        "credential": credential_document(credential, credential_record),
        "origins": sorted(origins),
        "policySet": policy_set,
    }


def credential_document(credential: Credential, record: str | None) -> dict[str, Any]:
    """Return the credential as evidence holds it, without members that are absent."""
    document: dict[str, Any] = {
        "uuid": credential.uuid,
        "credentialId": credential.credential_id,
        "userId": credential.user_id,
        "kind": credential.kind,
        "publicKey": credential.public_key,
        "record": record,
    }
    if credential.relying_party_id is not None:
        document["relyingPartyId"] = credential.relying_party_id
    return document


def read_credential(document: object, field: str = "evidence.credential") -> tuple[Credential, str | None]:
    """Read what ``credential_document`` wrote: the credential, and the hash of its record.

    Raises:
        InvalidInput: a member is missing, unknown or malformed.
    """
    texts: dict[str, type] = dict.fromkeys(("uuid", "credentialId", "userId", "kind", "publicKey"), str)
    given = members(document, field, {**texts, "record": object}, {"relyingPartyId": str})
    if given["record"] is not None:
        check_digest(given["record"], f"{field}.record")
    credential = Credential(
        uuid=given["uuid"],
        credential_id=given["credentialId"],
        user_id=given["userId"],
        kind=given["kind"],
        public_key=given["publicKey"],
        relying_party_id=given.get("relyingPartyId"),
    )
    return credential, given["record"]


def verify_evidence(document: object) -> Preimage:
    """Check action evidence in itself: payload, challenge and signature belong together.

    It does not answer whose key it was; ``history.verify_history`` does.

    Returns:
        The preimage, for the caller to compare with what it expects (organization, path, intent digest).

    Raises:
        EvidenceBroken: anything does not fit; ``field`` names the first defect.
    """
    try:
        given = members(
            document,
            "evidence",
            {
                "v": int,
                "preimage": dict,
                "payload": object,
                "assertion": dict,
                "credential": dict,
                "origins": list,
                "policySet": str,
            },
        )
        _check_version(given)
        check_texts(given["origins"], "evidence.origins")
        if given["policySet"]:
            check_digest(given["policySet"], "evidence.policySet")
        preimage = Preimage.from_document(given["preimage"])
        credential, _ = read_credential(given["credential"])
        assertion = Assertion.from_document(given["assertion"])
        if payload_digest(given["payload"]) != preimage.payload_digest:
            raise EvidenceBroken("the payload is not the one signed", field="evidence.payload")
        if credential.uuid not in preimage.credentials or credential.user_id != preimage.identity:
            raise EvidenceBroken("the challenge was not made for this credential", field="evidence.credential")
        verify_assertion(assertion, credential, action_challenge(preimage), origins=given["origins"])
    except ActionSignatureInvalid as error:
        raise EvidenceBroken(error.message, field="evidence.assertion") from error
    except EvidenceBroken:
        raise
    except InvalidInput as error:
        raise EvidenceBroken(error.message, field=error.field or "evidence") from error
    return preimage


def verify_registration(
    preimage: object, credential_info: object, *, kind: str = KEY, relying_party_id: str | None = None
) -> tuple[RegistrationPreimage, Attested]:
    """Check the proof of a registration in itself.

    Args:
        preimage: what ``RegistrationPreimage.document`` wrote.
        credential_info: the attestation as received.
        kind: ``Key`` or ``Fido2``.
        relying_party_id: of a passkey, the domain it must be bound to.

    Returns:
        The preimage, and the credential that answered its challenge.

    Raises:
        EvidenceBroken: anything does not fit; ``field`` names the first defect.
    """
    return _verify_attested(
        preimage,
        credential_info,
        (kind, relying_party_id),
        read=RegistrationPreimage.from_document,
        challenge_of=registration_challenge,
    )


def verify_new_key(
    preimage: object, credential_info: object, *, kind: str = KEY, relying_party_id: str | None = None
) -> tuple[CredentialPreimage, Attested]:
    """Check the proof of a credential that somebody adds to their own, in itself.

    Args:
        preimage: what ``CredentialPreimage.document`` wrote.
        credential_info: the attestation as received.
        kind: as ``verify_registration``.
        relying_party_id: as ``verify_registration``.

    Returns:
        As ``verify_registration``.

    Raises:
        EvidenceBroken: as ``verify_registration``.
    """
    return _verify_attested(
        preimage,
        credential_info,
        (kind, relying_party_id),
        read=CredentialPreimage.from_document,
        challenge_of=credential_challenge,
    )


def _verify_attested(
    preimage: object,
    credential_info: object,
    kind: tuple[str, str | None],
    *,
    read: Callable[[object], P],
    challenge_of: Callable[[P], str],
) -> tuple[P, Attested]:
    try:
        found = read(preimage)
        return found, attest(credential_info, challenge_of(found), kind=kind[0], relying_party_id=kind[1])
    except ActionSignatureInvalid as error:
        raise EvidenceBroken(error.message, field="credentialInfo") from error
    except InvalidInput as error:
        raise EvidenceBroken(error.message, field=error.field or "preimage") from error


def _check_version(given: Mapping[str, Any]) -> None:
    if given["v"] != VERSION:
        raise EvidenceBroken(f"version {given['v']} of evidence is not known here", field="evidence.v")
