"""Signatures, checked by code that is not ours: the standardwebhooks package, cryptography, and receivers' recipes."""

import base64
import hashlib
import hmac
import json
import time

import pytest
import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from outlay.core.errors import InvalidInput
from outlay.engine.webhook_signature import DFNS_HEADER, dfns_signature, headers, public_key_text

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = b'{"id":"whe-1","data":{"note":"\\u00e9"},"timestampSent":1}'
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


def signed(timestamp: int, body: bytes = BODY) -> dict[str, str]:
    return headers(secrets=[SECRET], key=KEY, webhook_id="evt-1", timestamp=timestamp, body=body)


def test_worked_vector_of_the_contract() -> None:
    body = (
        b'{"id":"whe-3qkbm-9a1fp-8j7q6m8vloghg1p5","kind":"wallet.transfer.confirmed",'
        b'"date":"2026-01-02T03:04:05.678Z","data":{"transferRequest":{"id":"xfr-1vs8g-c1ub1-9m2q6m8vloghg1p5",'
        b'"status":"Confirmed"}},"timestampSent":1767323046,"deliveryAttempt":1}'
    )
    expected = "sha256=08c7153ac440a30a161b20f05b71831e33fabe0faee75bc21402cf4915f494e2"
    assert dfns_signature("whsec-test", body) == expected


def test_raw_and_reserialising_receivers_agree() -> None:
    again = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    for message in (BODY, again):
        mac = hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
        assert signed(1)[DFNS_HEADER] == f"sha256={mac}"


def test_the_standard_library_accepts_v1_and_refuses_a_changed_body() -> None:
    receiver = standardwebhooks.Webhook(SECRET)
    good = signed(int(time.time()))
    assert receiver.verify(BODY, good) == json.loads(BODY)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.verify(BODY.replace(b"whe-1", b"whe-2"), good)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.verify(BODY, {**good, "webhook-id": "evt-2"})


def test_v1a_is_an_ed25519_signature_over_id_time_and_body() -> None:
    text = public_key_text(KEY)
    assert text.startswith("whpk_")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix("whpk_")))
    versions = dict(part.split(",") for part in signed(1767323046)["webhook-signature"].split(" "))
    assert list(versions) == ["v1", "v1a"]
    public.verify(base64.b64decode(versions["v1a"]), b"evt-1.1767323046." + BODY)
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(versions["v1a"]), b"evt-1.1767323047." + BODY)


@pytest.mark.parametrize("secret", ["", "whsec-test", "whsec_%%%", "whsk_AAAA"])
def test_a_secret_of_another_form_signs_nothing(secret: str) -> None:
    with pytest.raises(InvalidInput):
        headers(secrets=[secret], key=KEY, webhook_id="evt-1", timestamp=1, body=BODY)
