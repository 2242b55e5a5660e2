"""How a delivery proves where it comes from: Dfns's header and the Standard Webhooks headers (1.0).

``X-DFNS-WEBHOOK-SIGNATURE`` is an HMAC over the body alone. ``webhook-signature`` also covers the id and the time:
``v1`` is an HMAC with the endpoint's secret, ``v1a`` an Ed25519 signature that anybody can check with our public
key, so a receiver that leaks its secret still cannot be lied to.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.core.errors import InvalidInput

DFNS_HEADER = "X-DFNS-WEBHOOK-SIGNATURE"
_SECRET = "whsec_"  # noqa: S105 - the form of a secret, not one
_PUBLIC = "whpk_"


def dfns_signature(secret: str, body: bytes) -> str:
    """Return the value of ``X-DFNS-WEBHOOK-SIGNATURE``; the key is the secret's whole text."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


def signed_content(webhook_id: str, timestamp: int, body: bytes) -> bytes:
    """Return what ``v1`` and ``v1a`` cover: id, Unix seconds and the exact body, joined by full stops."""
    return f"{webhook_id}.{timestamp}.".encode() + body


def standard_signature(secrets: Sequence[str], key: Ed25519PrivateKey, content: bytes) -> str:
    """Return the value of ``webhook-signature``: a ``v1,<base64>`` for each secret, then ``v1a,<base64>``.

    Raises:
        InvalidInput: a secret is not ``whsec_`` and base64.
    """
    symmetric = [f"v1,{_base64(hmac.digest(_secret_bytes(each), content, 'sha256'))}" for each in secrets]
    return f"{' '.join(symmetric)} v1a,{_base64(key.sign(content))}"


def headers(
    *, secrets: Sequence[str], key: Ed25519PrivateKey, webhook_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return every header of one delivery.

    Args:
        secrets: the endpoint's, ``whsec_…``, the newest first. The contract's header has room for one: it is made
            with the oldest, which every receiver knows while they change over.
        key: the deployment's webhook signing key.
        webhook_id: the event's id, the same in every attempt: receivers drop what they have seen.
        timestamp: when this attempt is sent, Unix seconds.
        body: exactly what is sent.
    """
    return {
        "Content-Type": "application/json",
        DFNS_HEADER: dfns_signature(secrets[-1], body),
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": standard_signature(secrets, key, signed_content(webhook_id, timestamp, body)),
    }


def public_key_text(key: Ed25519PrivateKey) -> str:
    """Return the public key that receivers check ``v1a`` with, as Standard Webhooks writes it: ``whpk_…``."""
    return _PUBLIC + _base64(key.public_key().public_bytes_raw())


@lru_cache(maxsize=1024)
def _secret_bytes(secret: str) -> bytes:
    try:
        if not secret.startswith(_SECRET):
            raise ValueError(_SECRET)
        return base64.b64decode(secret.removeprefix(_SECRET), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidInput("a webhook secret is whsec_ and base64", field="secret") from None


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
