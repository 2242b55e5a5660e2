"""Becoming somebody: a key, an invitation taken up, a login."""

import os
from pathlib import Path
from typing import Any

from outlay.client.calls import call
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.keys import fingerprint, load_private_key, normal_pem
from outlay.evidence.sign import sign_challenge


def register(
    url: str, *, username: str, code: str, private_key: str, credential_id: str | None = None
) -> dict[str, Any]:
    """Take up an invitation with a key and return the new credential and user, and the key's fingerprint."""
    begun = call(url, "POST", "/auth/registration/init", {"username": username, "registrationCode": code})
    info = key_attestation(private_key, begun["challenge"], cred_id=credential_id)
    body = {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": info, "credentialName": "key"}}
    answer = call(url, "POST", "/auth/registration", body, token=begun["temporaryAuthenticationToken"])
    public_key = normal_pem(load_private_key(private_key).public_key())
    return {**answer, "credentialId": info["credId"], "fingerprint": fingerprint(public_key)}


def log_in(url: str, *, username: str, credential_id: str, private_key: str) -> str:
    """Log in with a key and return a bearer token."""
    begun = call(url, "POST", "/auth/login/init", {"username": username})
    factor = sign_challenge(private_key, credential_id, begun["challenge"])
    body = {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": factor}
    return str(call(url, "POST", "/auth/login", body)["token"])


def write_new_key(path: Path) -> str:
    """Make an Ed25519 key, write it to a new file of mode 0600, and return its public PEM."""
    private, public = new_key_pair()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(private)
    return public
