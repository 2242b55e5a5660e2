"""The client's side: answer a challenge with a key credential, as the official SDKs do."""

import json
from typing import Any

from outlay.evidence.assertion import KEY, Assertion
from outlay.evidence.keys import PrivateKey, load_private_key, sign_bytes


def sign_challenge(private_key: str | PrivateKey, cred_id: str, challenge: str) -> dict[str, Any]:
    """Return the ``firstFactor`` that answers ``challenge``.

    Args:
        private_key: PEM text, or a key already loaded with ``load_private_key`` (faster when signing often).
        cred_id: the credential's id as the server lists it.
        challenge: the server's text, signed as it is.

    Raises:
        InvalidInput: the key is not one that a credential may have.

    Source: dfns-api.md 2.7.
    """
    key = load_private_key(private_key) if isinstance(private_key, str) else private_key
    client_data = json.dumps({"type": "key.get", "challenge": challenge}, separators=(",", ":")).encode("ascii")
    assertion = Assertion(kind=KEY, cred_id=cred_id, client_data=client_data, signature=sign_bytes(key, client_data))
    return assertion.document()
