"""The client: reads, signed writes, payouts."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from outlay.client.answers import Payout, PayoutBatch
from outlay.client.calls import ApiError, call
from outlay.client.pace import Pace
from outlay.client.retry import Retry
from outlay.core.errors import OutcomeUnknown
from outlay.evidence.canonical import canonical
from outlay.evidence.http_signature import sign_message
from outlay.evidence.keys import load_private_key
from outlay.evidence.merkle import digest_of, leaf
from outlay.evidence.sign import sign_challenge

T = TypeVar("T")
_HEADS_TRIED = 3
"""How often a call is signed anew because the organization's records moved on meanwhile."""
_PAGE = 100
_AHEAD_S = 0.5
"""How far this clock may be ahead of the server's: without a record head, nothing may be signed in the future."""


class Client:
    """One identity at one server. Every write is signed with its key. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        *,
        credential_id: str,
        private_key: str,
        token: str = "",
        public_url: str | None = None,
        retry: Retry | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Keep who calls.

        Args:
            url: base URL of the server.
            credential_id: id of the credential that signs.
            private_key: PEM of its key.
            token: bearer token; payouts can be requested without one.
            public_url: what the server calls itself (``[server] public_url``), if that is not ``url``.
            retry: when what may be repeated is: reads, and payouts, which have an ``externalId``.
            pace: the rate limit it keeps within; every request counts.
        """
        self._url, self._token, self._credential_id, self._key = url, token, credential_id, private_key
        self._public_url = (public_url or url).rstrip("/")
        self._retry, self._pace = retry or Retry(), pace
        self._records_head: str | None = None
        self._head_lock = threading.Lock()

    def read(self, path: str) -> dict[str, Any]:
        """Return the answer of a GET."""
        return self._retry(lambda: self._call("GET", path, token=self._token))

    def write(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sign a call and make it: challenge, signature, token, call. It is never repeated by itself.

        Raises:
            ApiError: refused. OutcomeUnknown: look before repeating.
        """
        payload = "" if body is None else json.dumps(body, separators=(",", ":"))
        opened = self._call(
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
        action = self._call("POST", "/auth/action", signed, token=self._token)["userAction"]
        return self._call(method, path, body, token=self._token, user_action=action)

    def ask(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a call that needs no signature and may be made as often as one likes, e.g. an upload of rows."""
        return self._retry(lambda: self._call(method, path, body, token=self._token))

    def items(self, path: str, **query: str | int | None) -> Iterator[dict[str, Any]]:
        """Yield what a list has, page by page, e.g. ``items("/v1/payouts", state="held")``.

        Args:
            path: of a list whose answers hold ``items`` and, unless it was the last, ``nextPageToken``.
            query: what is asked for; None is left out.
        """
        given = {"limit": _PAGE, **{name: value for name, value in query.items() if value is not None}}
        while True:
            answer = self.read(f"{path}?{urlencode(given)}")
            yield from answer["items"]
            following = answer.get("nextPageToken")
            if following is None:
                return
            given["paginationToken"] = following

    def payouts(self, **query: str | int | None) -> Iterator[Payout]:
        """Yield payouts, the newest first; ``query`` as ``GET /v1/payouts`` takes it, e.g. ``state="confirmed"``."""
        return cast(Iterator[Payout], self.items("/v1/payouts", **query))

    def pay(
        self,
        *,
        asset: str,
        recipient: str,
        amount: str,
        external_id: str | None = None,
        wallet_id: str | None = None,
        pool_id: str | None = None,
        memo: str | None = None,
        priority: str | None = None,
    ) -> Payout:
        """Request one payout with one signed call; the same ``external_id`` never pays twice, so repeat it at will.

        Args:
            asset: ``native``, a contract, or the symbol of a listed asset.
            recipient: address.
            amount: base units as digits.
            external_id: your own id of this payout. Without it one is made up for this call: it is in the answer, and
                in ``details`` of an error that leaves the outcome unknown. Store your own before you call, and a crash
                of your program cannot pay twice either.
            wallet_id: who pays; or
            pool_id: a pool, one of whose wallets pays.
            memo: what people should read beside it.
            priority: Slow, Standard or Fast.

        Raises:
            ApiError: refused. OutcomeUnknown: repeat the same call with the same ``external_id``.
        """
        external_id = external_id or new_external_id()
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
        body = {name: value for name, value in given.items() if value is not None}
        return cast(Payout, self._repeated([external_id], lambda: self._post("/v1/payouts", body)))

    def send(self, external_id: str, item: Mapping[str, Any]) -> Payout:
        """Request one payout as a ``PayoutQueue`` does: ``item`` holds what ``pay`` takes besides."""
        return self.pay(external_id=external_id, **item)

    def pay_batch(self, items: Sequence[Mapping[str, Any]]) -> PayoutBatch:
        """Request up to 1,000 payouts under one signature; each is answered by itself.

        Args:
            items: as ``POST /v1/payouts`` takes them; one without ``externalId`` gets one, which the answer names.

        Raises:
            ApiError: refused as a whole, and nothing was stored. OutcomeUnknown: repeat the same call.
        """
        listed = [{"externalId": new_external_id(), **each} for each in items]
        digest = digest_of([leaf(canonical(each)) for each in listed]) if listed else None
        answer = self._repeated(
            [str(each["externalId"]) for each in listed],
            lambda: self._post("/v1/payouts/batch", {"items": listed}, batch_digest=digest),
        )
        return cast(PayoutBatch, answer)

    def _repeated(self, external_ids: list[str], request: Callable[[], T]) -> T:
        try:
            return self._retry(request)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(error.message, externalIds=external_ids) from error

    def _call(self, method: str, path: str, body: Any = None, **named: Any) -> dict[str, Any]:
        with self._pace.taking() if self._pace is not None else nullcontext():
            return call(self._url, method, path, body, **named)

    def _post(self, path: str, body: dict[str, Any], *, batch_digest: str | None = None) -> dict[str, Any]:
        """Sign a call as one HTTP message and make it; anew where the organization's records have moved on."""
        key, raw = load_private_key(self._key), json.dumps(body, separators=(",", ":")).encode()
        for attempts_left in range(_HEADS_TRIED - 1, -1, -1):
            head = self._head()
            headers = sign_message(
                key,
                self._credential_id,
                method="POST",
                target_uri=self._public_url + path,
                body=raw,
                created=int(time.time() - (_AHEAD_S if head is None else 0)),
                nonce=secrets.token_urlsafe(24),
                records_head=head,
                batch_digest=batch_digest,
            )
            try:
                return self._call("POST", path, raw, signed=headers)
            except ApiError as error:
                if error.code != "head_moved" or not attempts_left:
                    raise
                if head is None:
                    time.sleep(1)  # without a token, what is signed is told from records by its second
                self._forget(head)
        raise AssertionError("the last attempt returns or raises")

    def _head(self) -> str | None:
        """Return the newest record that is known, reading it once if a token allows."""
        with self._head_lock:
            if self._records_head is None and self._token:
                self._records_head = str(self._call("GET", "/v1/records", token=self._token)["head"])
            return self._records_head

    def _forget(self, head: str | None) -> None:
        with self._head_lock:
            if self._records_head == head:
                self._records_head = None


def new_external_id() -> str:
    """Return an id that nobody else makes up."""
    return f"auto-{secrets.token_hex(16)}"
