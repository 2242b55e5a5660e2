"""Evidence and records from a hostile place: refused as broken, whatever they hold, and never with another exception.

The forger here has the admin's own key, so that what they made up is really signed and reaches the last check.
"""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import ActionSignatureInvalid, InvalidInput, NotAuthenticated
from outlay.evidence import challenge as challenges
from outlay.evidence.assertion import Assertion, Credential, parse_assertion, verify_assertion
from outlay.evidence.attestation import key_attestation, verify_attestation
from outlay.evidence.base64url import from_base64url, to_base64url
from outlay.evidence.bundle import EvidenceBroken, read_credential, verify_evidence, verify_registration
from outlay.evidence.history import verify_history
from outlay.evidence.keys import load_public_key, normal_pem, signature_fits
from outlay.evidence.record import RecordBroken, check_record, record_hash
from outlay.evidence.seal import SealBroken, SealingKeys
from outlay.evidence.sign import sign_challenge
from tests.fuzz.junk import bent, bent_bytes, bent_text, readable, sized, values
from tests.unit.forged import Forger, Record, told

BROKEN = (RecordBroken, EvidenceBroken)
STORY = told()
KINDS = sorted({record["kind"] for record in STORY.records})
SIGNED = [number for number, record in enumerate(STORY.records) if record["evidence"] is not None]
EVIDENCE = STORY.records[SIGNED[0]]["evidence"]
REGISTERED = STORY.records[STORY.of("user.registered")]["body"]


def json_of(value: Any) -> Any:
    """Return a value as it comes out of a stored document."""
    return json.loads(json.dumps(value))


# Records


@sized(150)
@given(st.sampled_from(STORY.records).flatmap(bent) | values)
def test_any_document_has_the_form_of_a_record_or_is_broken(document: Any) -> None:
    try:
        assert check_record(json_of(document)) == document
    except RecordBroken as error:
        assert error.field
        assert error.message


@sized(40)
@given(st.data())
def test_a_chain_with_any_change_in_it_is_broken(data: st.DataObject) -> None:
    # Of the newest record the server may still state another instant: nobody has signed over it yet.
    number = data.draw(st.integers(0, len(STORY.records) - 2))
    records: list[Record] = json_of(list(STORY.records))
    original = records[number]
    changed = data.draw(bent(original))
    records[number] = changed
    # Whoever owns the database computes every link anew, as far as there is anything left to link.
    for later in range(number + 1, len(records)):
        if isinstance(records[later - 1], dict):
            records[later]["prev"] = record_hash(records[later - 1])
    if changed == original and json.dumps(changed, sort_keys=True) == json.dumps(original, sort_keys=True):
        verify_history(records, STORY.root)
        return
    try:
        verify_history(records, STORY.root)
    except BROKEN as error:
        assert error.message
    else:
        pytest.fail(f"nobody noticed a change of record {number}: {changed}")


@pytest.mark.parametrize("kind", sorted({STORY.records[number]["kind"] for number in SIGNED}))
@sized(12)
@given(data=st.data())
def test_a_record_of_any_content_is_replayed_or_broken_although_really_signed(kind: str, data: st.DataObject) -> None:
    """What was made up is signed by the admin over the right head, so only what it says can be wrong."""
    number = data.draw(st.sampled_from([each for each in SIGNED if STORY.records[each]["kind"] == kind]))
    record = STORY.records[number]
    signed = record["evidence"]
    forger = Forger(STORY, number)
    payload = data.draw(bent(signed["payload"]))
    body = data.draw(st.just(payload) | bent({**record["body"], **(payload if isinstance(payload, dict) else {})}))
    body = data.draw(bent(record["body"])) if data.draw(st.booleans()) else body
    subject = data.draw(st.just(record["subject"]) | bent_text(record["subject"]))
    path = signed["preimage"]["path"].replace(record["subject"], subject)
    try:
        evidence = forger.evidence(STORY.admin, signed["preimage"]["method"], path, payload)
        challenges.Preimage.from_document(evidence["preimage"])
        forger.append(kind, subject, body if isinstance(body, dict) else {"it": body}, evidence)
    except InvalidInput:
        return  # there is no such call, or no such record
    try:
        history = forger.verify()
    except BROKEN as error:
        assert error.field
        assert error.message.startswith(f"record {number}: ")
    else:
        assert history.head == forger.head
        forger.records = json_of(forger.records)
        assert forger.verify() == history


@sized(60)
@given(bent(REGISTERED))
def test_a_registration_of_any_content_is_broken(body: Any) -> None:
    number = STORY.of("user.registered")
    forger = Forger(STORY, number)
    forger.append("user.registered", STORY.records[number]["subject"], body if isinstance(body, dict) else {}, None)
    try:
        forger.verify()
    except BROKEN as error:
        assert error.field
    else:
        named = {name: value for name, value in body.items() if name != "credentialUuid"}
        assert named == {name: value for name, value in REGISTERED.items() if name != "credentialUuid"}


@sized(40)
@given(bent(STORY.records[0]["body"]))
def test_a_first_record_of_any_content_is_read_or_broken(body: Any) -> None:
    genesis = {**STORY.records[0], "body": body if isinstance(body, dict) else {}}
    try:
        verify_history([json_of(genesis)], record_hash(genesis))
    except BROKEN as error:
        assert error.message


# Evidence in itself


@sized(200)
@given(bent(EVIDENCE) | values)
def test_evidence_of_any_content_is_broken_unless_it_is_what_was_signed(document: Any) -> None:
    try:
        verify_evidence(json_of(document))
    except EvidenceBroken as error:
        assert error.field
        return
    for name in ("preimage", "payload"):
        assert json.dumps(document[name], sort_keys=True) == json.dumps(EVIDENCE[name], sort_keys=True)
    assert document["assertion"]["credentialAssertion"]["clientData"].rstrip("=")  # padding is tolerated


READERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "action": (challenges.Preimage.from_document, EVIDENCE["preimage"]),
    "registration": (challenges.RegistrationPreimage.from_document, REGISTERED["preimage"]),
    "login": (
        challenges.LoginPreimage.from_document,
        {"org": "o", "identity": "u", "credentials": ["a", "b"], "nonce": "n", "issued": 1, "expires": 2},
    ),
    "assertion": (Assertion.from_document, EVIDENCE["assertion"]),
    "credential": (read_credential, EVIDENCE["credential"]),
}


@pytest.mark.parametrize("name", sorted(READERS))
@sized(150)
@given(data=st.data())
def test_any_document_is_read_whole_or_refused_by_name(name: str, data: st.DataObject) -> None:
    read, right = READERS[name]
    document = json_of(data.draw(bent(right) | values))
    try:
        found = read(document)
    except InvalidInput as error:
        assert error.field
        assert error.message
        return
    if name not in ("credential", "assertion"):  # nulls and padding of the wire are not written back
        assert found.document() == document
    elif name == "assertion":
        assert read(found.document()) == found


KEY = STORY.admin
CREDENTIAL = Credential(
    uuid=KEY.uuid, credential_id=KEY.credential_id, user_id=KEY.user_id, kind="Key", public_key=KEY.public_key
)
CHALLENGE = "c" * 43


@sized(150)
@given(st.data())
def test_an_assertion_of_any_content_verifies_only_as_it_was_made(data: st.DataObject) -> None:
    right = sign_challenge(KEY.private_key, KEY.credential_id, CHALLENGE)
    sent = data.draw(bent(right))
    if sent == right:
        fields = right["credentialAssertion"]
        member = data.draw(st.sampled_from(["clientData", "signature"]))
        raw = data.draw(bent_bytes(from_base64url(fields[member], field=member)))
        sent = {**right, "credentialAssertion": {**fields, member: to_base64url(raw)}}
    try:
        assertion = parse_assertion(json_of(sent))
        verify_assertion(assertion, CREDENTIAL, CHALLENGE, origins=())
    except (InvalidInput, ActionSignatureInvalid) as error:
        assert error.message
    else:
        assert assertion == parse_assertion(right)


PASSKEY = Credential(
    uuid="cr",
    credential_id="c",
    user_id="u",
    kind="Fido2",
    public_key=KEY.public_key,
    relying_party_id="localhost",
)
BROWSER = {
    "type": "webauthn.get",
    "challenge": CHALLENGE,
    "origin": "http://localhost",
    "crossOrigin": False,
}


@sized(200)
@given(bent(BROWSER) | values, st.binary(max_size=60), st.binary(max_size=80))
def test_a_passkey_of_any_content_is_refused(client: Any, authenticator: bytes, signature: bytes) -> None:
    assertion = Assertion(
        kind="Fido2",
        cred_id="c",
        client_data=json.dumps(client).encode(),
        signature=signature,
        authenticator_data=authenticator,
    )
    with pytest.raises(ActionSignatureInvalid):
        verify_assertion(assertion, PASSKEY, CHALLENGE, origins=["http://localhost"])


@sized(150)
@given(st.data())
def test_an_attestation_of_any_content_attests_the_key_that_made_it_or_nothing(data: st.DataObject) -> None:
    challenge = data.draw(st.sampled_from([CHALLENGE, CHALLENGE, "d" * 43]))
    right = key_attestation(KEY.private_key, challenge)
    inner = json.loads(from_base64url(right["attestationData"], field="x"))
    sent = data.draw(bent(right))
    if sent == right:
        member = data.draw(st.sampled_from(["clientData", "attestationData"]))
        raw = data.draw(
            bent(inner).map(lambda each: json.dumps(each).encode())
            if member == "attestationData"
            else bent_bytes(from_base64url(right[member], field=member))
        )
        sent = {**right, member: to_base64url(raw)}
    try:
        assert verify_attestation(json_of(sent), CHALLENGE) == KEY.public_key
        assert challenge == CHALLENGE
    except (InvalidInput, ActionSignatureInvalid) as error:
        assert error.message


@sized(100)
@given(bent(REGISTERED["preimage"]), bent(REGISTERED["attestation"]))
def test_a_proof_of_registration_of_any_content_is_broken_or_true(preimage: Any, attestation: Any) -> None:
    try:
        _, attested = verify_registration(json_of(preimage), json_of(attestation))
    except EvidenceBroken as error:
        assert error.field
    else:
        assert (preimage, attested.public_key) == (REGISTERED["preimage"], REGISTERED["publicKey"])
        assert attested.credential_id == attestation["credId"]


# Keys, texts and tokens

_PUBLIC: list[Any] = [
    ed25519.Ed25519PrivateKey.generate().public_key(),
    ec.generate_private_key(ec.SECP256R1()).public_key(),
    ec.generate_private_key(ec.SECP256K1()).public_key(),
    rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(),
]
DER = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in _PUBLIC]
DER.append(_PUBLIC[3].public_bytes(Encoding.DER, PublicFormat.PKCS1))


@st.composite
def der(draw: st.DrawFn) -> bytes:
    """A key with a few bytes changed in place, so that its lengths still fit."""
    raw = bytearray(draw(st.sampled_from(DER)))
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(
            st.sampled_from([0, 1, 2, 4, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        )
    return bytes(raw)


@sized(200)
@given(der() | der().flatmap(bent_bytes), st.binary(max_size=80), st.booleans())
def test_any_public_key_is_usable_or_refused(raw: bytes, signature: bytes, is_pkcs1: bool) -> None:
    label = "RSA PUBLIC KEY" if is_pkcs1 or raw[:1] != b"0" else "PUBLIC KEY"
    pem = f"-----BEGIN {label}-----\n{base64.encodebytes(raw).decode()}-----END {label}-----\n"
    try:
        key = load_public_key(pem, field="publicKey")
    except InvalidInput as error:
        assert error.field == "publicKey"
        return
    assert normal_pem(load_public_key(normal_pem(key), field="publicKey")) == normal_pem(key)
    for algorithm in (None, "SHA256", "SHA512", "none"):
        assert not signature_fits(key, signature, b"message", algorithm)


@sized(200)
@given(st.binary(max_size=20).map(to_base64url).flatmap(bent_text) | st.text(readable, max_size=20), st.booleans())
def test_base64url_has_one_spelling(text: str, padded: bool) -> None:
    try:
        raw = from_base64url(text, field="x", padded=padded)
    except InvalidInput as error:
        assert error.field == "x"
    else:
        assert to_base64url(raw) == (text.rstrip("=") if padded else text)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SealingKeys:
    class Zeros:
        def token(self, size: int) -> bytes:
            return bytes(size)

    return SealingKeys.create(tmp_path_factory.mktemp("keys") / "seal.json", Zeros())


@sized(150)
@given(st.data())
def test_a_token_of_any_content_opens_only_as_it_was_made(keys: SealingKeys, data: st.DataObject) -> None:
    sealed, bearer = keys.seal("purpose", {"a": 1}), keys.sign_token({"b": 2})
    texts = st.sampled_from([sealed, bearer]).flatmap(bent_text) | st.text(max_size=30)
    text = data.draw(texts)
    try:
        assert keys.open("purpose", text) == {"a": 1}
        assert text == sealed
    except SealBroken:
        assert text != sealed
    try:
        assert keys.read_token(text) == {"b": 2}
        assert text == bearer
    except NotAuthenticated:
        assert text != bearer


def test_nothing_here_changed_the_story() -> None:
    assert verify_history(copy.deepcopy(list(STORY.records)), STORY.root).head == record_hash(STORY.records[-1])
