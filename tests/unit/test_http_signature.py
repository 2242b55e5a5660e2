"""HTTP message signatures: our exact profile against the RFC's own vectors and another implementation."""

import base64
import datetime
import secrets
from dataclasses import replace
from typing import Any

import http_message_signatures as library
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from http_message_signatures import algorithms
from hypothesis import given
from hypothesis import strategies as st

from outlay.core.errors import ActionSignatureInvalid, InvalidInput
from outlay.evidence import http_signature as ours
from outlay.evidence.http_signature import Message, read_headers, read_parameters, sign_message
from outlay.evidence.keys import PrivateKey, load_private_key, normal_pem

ED25519_KEY, P256_KEY = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
KEYS: dict[str, tuple[PrivateKey, Any]] = {
    "ed25519": (ED25519_KEY, algorithms.ED25519),
    "ecdsa-p256-sha256": (P256_KEY, algorithms.ECDSA_P256_SHA256),
}
TARGET = "https://pay.example/v1/payouts"
BODY = b'{"amount": "5"}'
NOW = 1_893_456_000
HELLO = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
"""Digest of ``{"hello": "world"}``, as RFC 9530 has it."""


def signed(key: PrivateKey = ED25519_KEY, **changes: Any) -> dict[str, str]:
    arguments: dict[str, Any] = {
        "method": "POST",
        "target_uri": TARGET,
        "body": BODY,
        "created": NOW,
        "nonce": secrets.token_urlsafe(18),
    }
    return sign_message(key, "key-1", **{**arguments, **changes})


def received(headers: dict[str, str], **changes: Any) -> Message:
    parameters, signature = read_headers(headers["signature-input"], headers["signature"])
    message: dict[str, Any] = {
        "method": "POST",
        "target_uri": TARGET,
        "content_digest": headers.get("content-digest"),
        "records_head": headers.get("outlay-records-head"),
        "batch_digest": headers.get("outlay-batch-digest"),
        "parameters": parameters,
        "signature": signature,
    }
    return Message(**{**message, **changes})


def public(key: PrivateKey) -> str:
    return normal_pem(key.public_key())


class Request:
    """A request as the library takes it."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers = "POST", TARGET, headers


class Keys(library.HTTPSignatureKeyResolver):
    """The library's way of finding keys."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> bytes:
        return public(self._key).encode()

    def resolve_private_key(self, key_id: str) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


# The oracle


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    "more", [{}, {"records_head": "ab" * 32}, {"records_head": "ab" * 32, "batch_digest": "0" * 64}]
)
def test_the_library_accepts_what_we_sign(kind: str, more: dict[str, str]) -> None:
    key, algorithm = KEYS[kind]
    headers = signed(key, created=int(datetime.datetime.now().timestamp()), **more)
    verifier = library.HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=Keys(key))
    (result,) = verifier.verify(
        Request(headers), require_components=("@method", "@target-uri", "content-digest", *headers_of(more)), body=BODY
    )
    assert result.label == "outlay"
    received(headers).verify(public(key))


def headers_of(more: dict[str, str]) -> list[str]:
    return [{"records_head": "outlay-records-head", "batch_digest": "outlay-batch-digest"}[name] for name in more]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("include_alg", [True, False])
def test_we_accept_what_the_library_signs(kind: str, include_alg: bool) -> None:
    key, algorithm = KEYS[kind]
    headers: dict[str, str] = {}
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    library.HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=Keys(key)).sign(
        Request(headers),
        key_id='a "quoted\\ name',
        created=now,
        expires=now + datetime.timedelta(seconds=300),
        nonce=secrets.token_hex(16),
        label="outlay",
        include_alg=include_alg,
        covered_component_ids=("@target-uri", "@method"),
        body=BODY,
    )
    headers = {name.lower(): value for name, value in headers.items()}
    message = received(headers)
    message.verify(public(key))
    ours.check_content_digest(message.content_digest or "", BODY)
    assert message.parameters.key_id == 'a "quoted\\ name'
    assert message.parameters.algorithm == (kind if include_alg else None)


def test_the_vector_of_rfc_9421_for_ed25519_has_our_base_and_verifies() -> None:
    """Appendix B.2.6, as far as the profile reaches: its key, its signature, its way to build the base."""
    spki = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
    key = f"-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"
    base = (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@method": POST\n'
        '"@path": /foo\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        '"content-length": 18\n'
        '"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    signature = base64.b64decode(
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    )
    message = received(signed())
    mine = replace(message, signature=signature)
    mine.__dict__["base"] = base.encode()  # what is computed of the components, which the profile does not have
    mine.verify(key)
    with pytest.raises(ActionSignatureInvalid):
        replace(message, signature=signature).verify(key)


def test_the_content_digests_of_rfc_9530_are_ours() -> None:
    hello = b'{"hello": "world"}'
    assert ours.content_digest(hello) == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    longer = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
    ours.check_content_digest(longer, hello)
    ours.check_content_digest(f"{ours.content_digest(hello)}, {longer}", hello)


# What is refused


def parameters(text: str) -> str:
    """Return the parameters of a signature with one of them replaced."""
    return f'("@method" "@target-uri"){text}'


GOOD = f';created={NOW};expires={NOW + 300};nonce="{"n" * 22}";keyid="k"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()" + GOOD,
        '("@method")' + GOOD,
        '("@target-uri" "content-digest")' + GOOD,
        '("@method" "@target-uri" "@authority")' + GOOD,
        '("@method" "@target-uri" "date")' + GOOD,
        '("@method" "@target-uri" "@method")' + GOOD,
        '("@method";req "@target-uri")' + GOOD,
        '("@method"  "@target-uri")' + GOOD,
        '( "@method" "@target-uri" )' + GOOD,
        '("@Method" "@target-uri")' + GOOD,
        '("@method" "@target-uri" "@signature-params")' + GOOD,
        parameters(GOOD + ';tag="x"'),
        parameters(GOOD + ";created=1"),
        parameters(GOOD + ' ;alg="ed25519"'),
        parameters(GOOD + ';alg="hmac-sha256"'),
        parameters(GOOD + ';alg="rsa-pss-sha512"'),
        parameters(GOOD + ";alg=1"),
        parameters(GOOD.replace("created=", "created=0")),
        parameters(GOOD.replace("created=", "created=-")),
        parameters(GOOD.replace(str(NOW + 300), str(NOW))),
        parameters(GOOD.replace(str(NOW + 300), str(NOW - 1))),
        parameters(GOOD.replace(str(NOW + 300), str(NOW + 901))),
        parameters(GOOD.replace(str(NOW + 300), "99999999999999999999")),
        parameters(GOOD.replace("n" * 22, "n" * 21)),
        parameters(GOOD.replace("n" * 22, "n" * 89)),
        parameters(GOOD.replace("n" * 22, "n" * 21 + " n")),
        parameters(GOOD.replace('keyid="k"', 'keyid=""')),
        parameters(GOOD.replace('keyid="k"', "keyid=7")),
        parameters(GOOD.replace('keyid="k"', 'keyid="\\k"')),
        parameters(GOOD.replace('keyid="k"', 'keyid="é"')),
        parameters(GOOD.replace(f";created={NOW}", "")),
        parameters(GOOD.replace(f";expires={NOW + 300}", "")),
        parameters(GOOD.replace(f';nonce="{"n" * 22}"', "")),
        parameters(GOOD.replace(';keyid="k"', "")),
        parameters(GOOD) + ", other=()",
        parameters(GOOD) + "\n",
        parameters(GOOD) + " " * 3000,
    ],
)
def test_parameters_outside_of_the_profile_are_refused(text: str) -> None:
    assert read_parameters(parameters(GOOD))
    with pytest.raises(ActionSignatureInvalid):
        read_parameters(text)


@pytest.mark.parametrize(
    ("given_input", "signature"),
    [
        ("sig1=" + parameters(GOOD), "sig1=:AAAA:"),
        ("outlay=" + parameters(GOOD), "sig1=:" + "A" * 86 + "==:"),
        ("outlay=" + parameters(GOOD), "outlay=:" + "A" * 84 + ":"),
        ("outlay=" + parameters(GOOD), "outlay=:" + "A" * 85 + "B==:"),
        ("outlay=" + parameters(GOOD), "outlay=" + "A" * 86 + "=="),
        ("outlay=" + parameters(GOOD), "outlay=:" + "A" * 86 + "==:, other=:AAAA:"),
        ("outlay=" + parameters(GOOD) + ", other=" + parameters(GOOD), "outlay=:" + "A" * 86 + "==:"),
        ("", ""),
    ],
)
def test_one_signature_in_one_spelling(given_input: str, signature: str) -> None:
    with pytest.raises(ActionSignatureInvalid):
        read_headers(given_input, signature)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "md5=:AAAA:",
        "sha=:AAAA:",
        "sha-256=AAAA",
        "sha-256=:AAAA:",
        "SHA-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:,unixsum=:AAAA:",
        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, md5=:AAAA:",
        f"{HELLO}, {HELLO}",
        f"{HELLO}, {HELLO.replace('256', '512')}",
    ],
)
def test_other_digests_and_other_bodies_are_refused(value: str) -> None:
    ours.check_content_digest("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", b'{"hello": "world"}')
    with pytest.raises(ActionSignatureInvalid):
        ours.check_content_digest(value, b'{"hello": "world"}')


def test_a_header_that_is_not_covered_and_one_that_is_covered_and_missing_are_refused() -> None:
    plain, full = signed(), signed(records_head="a" * 64, batch_digest="b" * 64)
    for changes in ({"records_head": "a" * 64}, {"batch_digest": "b" * 64}, {"content_digest": None}):
        with pytest.raises(ActionSignatureInvalid, match="both sent and covered"):
            received(plain, **changes)
    for name in ("records_head", "batch_digest", "content_digest"):
        with pytest.raises(ActionSignatureInvalid, match="both sent and covered"):
            received(full, **{name: None})
    for wrong in ("A" * 64, "a" * 63, "a" * 65, "g" * 64, ""):
        with pytest.raises(ActionSignatureInvalid):
            received(full, records_head=wrong)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"target_uri": TARGET + "/batch"},
        {"target_uri": TARGET.replace("https", "http")},
        {"target_uri": TARGET.replace("pay.example", "pay.example:8000")},
        {"content_digest": ours.content_digest(BODY + b" ")},
        {"records_head": "c" * 64},
        {"batch_digest": "c" * 64},
    ],
)
def test_anything_else_than_what_was_signed_does_not_verify(kind: str, change: dict[str, str]) -> None:
    key, _ = KEYS[kind]
    headers = signed(key, records_head="a" * 64, batch_digest="b" * 64)
    received(headers).verify(public(key))
    with pytest.raises(ActionSignatureInvalid, match="does not verify"):
        received(headers, **change).verify(public(key))


def test_a_parameter_that_was_changed_or_taken_away_does_not_verify() -> None:
    headers = signed()
    text = headers["signature-input"]
    for other in (
        text.replace(str(NOW), str(NOW + 1)),
        text.replace("key-1", "key-2"),
        text.replace(';alg="ed25519"', ""),
        text.replace('"@method" "@target-uri"', '"@target-uri" "@method"'),
    ):
        assert other != text
        with pytest.raises(ActionSignatureInvalid, match="does not verify"):
            received({**headers, "signature-input": other}).verify(public(ED25519_KEY))


def test_keys_of_other_kinds_and_other_people_are_refused() -> None:
    for kind, (key, _) in KEYS.items():
        message = received(signed(key))
        for other_kind, (other, _) in KEYS.items():
            if other_kind != kind:
                with pytest.raises(ActionSignatureInvalid, match="alg names another kind"):
                    message.verify(public(other))
        fresh = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
        with pytest.raises(ActionSignatureInvalid, match="does not verify"):
            message.verify(public(fresh))
    for key in (ec.generate_private_key(ec.SECP256K1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(ActionSignatureInvalid, match="only Ed25519 and P-256"):
            received(signed()).verify(public(key))
        with pytest.raises(InvalidInput):
            signed(key)


def test_the_halves_of_an_ecdsa_signature_are_checked() -> None:
    headers = signed(P256_KEY)
    for raw in (bytes(64), b"\xff" * 64):
        wrong = f"outlay=:{base64.b64encode(raw).decode()}:"
        with pytest.raises(ActionSignatureInvalid, match="does not verify"):
            received({**headers, "signature": wrong}).verify(public(P256_KEY))


@given(st.text(max_size=300))
def test_no_input_breaks_the_reader(text: str) -> None:
    for attempt in (text, "outlay=" + text, "outlay=" + parameters(GOOD) + text, "outlay=" + parameters(text)):
        try:
            read_headers(attempt, "outlay=:" + "A" * 86 + "==:")
        except ActionSignatureInvalid:
            continue


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=100))
def test_every_printable_key_id_comes_back(key_id: str) -> None:
    headers = sign_message(ED25519_KEY, key_id, method="POST", target_uri=TARGET, body=b"", created=NOW, nonce="n" * 22)
    message = received(headers, content_digest=None)
    assert message.parameters.key_id == key_id
    message.verify(public(ED25519_KEY))


def test_a_key_is_read_from_its_file(tmp_path: Any) -> None:
    pem = ED25519_KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    received(signed(load_private_key(pem))).verify(public(ED25519_KEY))
