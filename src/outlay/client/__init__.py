"""A small client of the API: reads, signed writes, payouts, registration, login.

Standard library and cryptography only.
"""

import http.client
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from outlay.core.errors import InvalidInput, OutcomeUnknown, OutlayError
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.canonical import canonical
from outlay.evidence.http_signature import sign_message
from outlay.evidence.keys import fingerprint, load_private_key, normal_pem
from outlay.evidence.merkle import digest_of, leaf
from outlay.evidence.sign import sign_challenge

TIMEOUT_S = 30.0
_ATTEMPTS = 3


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the bearer token to wherever it points, and turn a write into a read."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        """Follow nothing: the answer is an error like any other."""


_OPENER = urllib.request.build_opener(_NoRedirect)


class ApiError(OutlayError):
    """The server refused; ``status``, ``code`` and ``details`` are its own."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        error = body.get("error") or {}
        super().__init__(str(error.get("message") or body.get("message") or f"HTTP {status}"))
        self.status = status
        self.code = str(error.get("code") or "api_error")
        self.details = dict(error.get("details") or {})


def call(
    url: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str = "",
    user_action: str = "",
    signed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make one HTTP call and return the JSON object it answers.

    Args:
        url: base URL of the server.
        method: in capitals.
        path: begins with a slash.
        body: what is sent as JSON; bytes go as they are.
        token: bearer token.
        user_action: what signs the call, by the handshake.
        signed: headers that sign the call, as one message.

    Raises:
        ApiError: an error answer. OutcomeUnknown: no answer; a write may have happened.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInput("is an http or https URL", field="url")
    headers = {"content-type": "application/json", "user-agent": "outlay-client"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    if user_action:
        headers["x-dfns-useraction"] = user_action
    headers.update(signed or {})
    data = body if body is None or isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers, method=method)  # noqa: S310  checked
    try:
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise _error_of(error.code, _object(error.read()), is_write=method != "GET") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise OutcomeUnknown(f"no usable answer from {url}: {error}") from error


def _error_of(status: int, body: dict[str, Any], *, is_write: bool) -> OutlayError:
    """Return what an error answer means: one that is not the server's own says nothing of what became of a write."""
    said = body.get("error")
    code = said.get("code") if isinstance(said, dict) else None
    if is_write and (code == OutcomeUnknown.code or (status >= 500 and code is None)):
        return OutcomeUnknown(f"the answer {status} does not say whether it happened: look before you repeat it")
    return ApiError(status, body)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


class Client:
    """One identity at one server. Every write is signed with its key."""

    def __init__(
        self, url: str, *, credential_id: str, private_key: str, token: str = "", public_url: str | None = None
    ) -> None:
        """Keep who calls.

        Args:
            url: base URL of the server.
            credential_id: id of the credential that signs.
            private_key: PEM of its key.
            token: bearer token; payouts can be requested without one.
            public_url: what the server calls itself (``[server] public_url``), if that is not ``url``.
        """
        self._url, self._token, self._credential_id, self._key = url, token, credential_id, private_key
        self._public_url = (public_url or url).rstrip("/")
        self._records_head: str | None = None

    def read(self, path: str) -> dict[str, Any]:
        """Return the answer of a GET."""
        return call(self._url, "GET", path, token=self._token)

    def write(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sign a call and make it: challenge, signature, token, call.

        Raises:
            ApiError: refused. OutcomeUnknown: look before repeating.
        """
        payload = "" if body is None else json.dumps(body, separators=(",", ":"))
        opened = call(
            self._url,
            "POST",
            "/auth/action/init",
            {
                "userActionHttpMethod": method,
                "userActionHttpPath": path,
                "userActionPayload": payload,
                "userActionServerKind": "Api",
            },
            token=self._token,
        )
        signed = {
            "challengeIdentifier": opened["challengeIdentifier"],
            "firstFactor": sign_challenge(self._key, self._credential_id, opened["challenge"]),
        }
        action = call(self._url, "POST", "/auth/action", signed, token=self._token)["userAction"]
        return call(self._url, method, path, body, token=self._token, user_action=action)

    def pay(
        self,
        *,
        external_id: str,
        asset: str,
        recipient: str,
        amount: str,
        wallet_id: str | None = None,
        pool_id: str | None = None,
        memo: str | None = None,
        priority: str | None = None,
    ) -> dict[str, Any]:
        """Request one payout with one signed call; the same ``external_id`` never pays twice, so repeat it at will.

        Args:
            external_id: your own id of this payout.
            asset: ``native``, a contract, or the symbol of a listed asset.
            recipient: address.
            amount: base units as digits.
            wallet_id: who pays; or
            pool_id: a pool, one of whose wallets pays.
            memo: what people should read beside it.
            priority: Slow, Standard or Fast.

        Raises:
            ApiError: refused. OutcomeUnknown: repeat the same call.
        """
        given = {
            "externalId": external_id,
            "walletId": wallet_id,
            "poolId": pool_id,
            "asset": asset,
            "recipient": recipient,
            "amount": amount,
            "memo": memo,
            "priority": priority,
        }
        return self._post("/v1/payouts", {name: value for name, value in given.items() if value is not None})

    def pay_batch(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Request up to 1,000 payouts under one signature; each is answered by itself.

        Args:
            items: as ``POST /v1/payouts`` takes them, each with its own ``externalId``.

        Raises:
            ApiError: refused as a whole, and nothing was stored. OutcomeUnknown: repeat the same call.
        """
        listed = [dict(each) for each in items]
        digest = digest_of([leaf(canonical(each)) for each in listed]) if listed else None
        return self._post("/v1/payouts/batch", {"items": listed}, batch_digest=digest)

    def _post(self, path: str, body: dict[str, Any], *, batch_digest: str | None = None) -> dict[str, Any]:
        """Sign a call as one HTTP message and make it; anew where the organization's records have moved on."""
        key, raw = load_private_key(self._key), json.dumps(body, separators=(",", ":")).encode()
        for attempts_left in range(_ATTEMPTS - 1, -1, -1):
            if self._records_head is None and self._token:
                self._records_head = str(self.read("/v1/records")["head"])
            headers = sign_message(
                key,
                self._credential_id,
                method="POST",
                target_uri=self._public_url + path,
                body=raw,
                created=int(time.time()),
                nonce=secrets.token_urlsafe(24),
                records_head=self._records_head,
                batch_digest=batch_digest,
            )
            try:
                return call(self._url, "POST", path, raw, signed=headers)
            except ApiError as error:
                if error.code != "head_moved" or not attempts_left:
                    raise
                if self._records_head is None:
                    time.sleep(1)  # without a token, what is signed is told from records by its second
                self._records_head = None
        raise AssertionError("the last attempt returns or raises")


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
