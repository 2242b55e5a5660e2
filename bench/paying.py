"""Asking for payouts, through every door: signed requests of one or of many, and the contract's three calls."""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from bench.node import LEAST, RECIPIENTS
from bench.wire import Connection, Refused, Tally, drive
from outlay.evidence.canonical import canonical
from outlay.evidence.http_signature import sign_message
from outlay.evidence.keys import PrivateKey
from outlay.evidence.merkle import digest_of, leaf
from outlay.evidence.payout_item import BATCH_PATH, SINGLE_PATH
from outlay.evidence.sign import sign_challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """One payout that is asked for."""

    external_id: str
    recipient: str
    amount: int  #: wei; no two of a run are alike

    @property
    def asked(self) -> tuple[str, int]:
        """Who gets how much."""
        return self.recipient, self.amount


def payouts(run: str, *, first: int = 0) -> Iterator[Payout]:
    """Yield payouts without end."""
    for number in itertools.count(first):
        recipient = RECIPIENTS[number % len(RECIPIENTS)]
        yield Payout(external_id=f"{run}-{number}", recipient=recipient, amount=LEAST + number)


@dataclass(frozen=True, slots=True)
class Request:
    """A signed request, ready to be sent: signing costs the one who asks, not the server that is measured."""

    path: str
    headers: bytes
    body: bytes

    async def send(self, line: Connection) -> Any:
        """Send it and return the answer. Raises Refused, ConnectionError."""
        return await line.request("POST", self.path, self.headers, self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who asks for payouts, and from which wallet or pool."""

    url: str
    token: str
    credential_id: str
    key: PrivateKey
    public_key: str  #: PEM
    wallet_id: str
    address: str
    pool_id: str = ""  #: asked to pay instead of the wallet, if given

    def single(self, payout: Payout) -> Request:
        """Return a signed request for one payout."""
        return self._signed(SINGLE_PATH, _encode(self._item(payout)), None)

    def batch(self, wanted: Sequence[Payout]) -> Request:
        """Return one signed request for many payouts."""
        items = [self._item(each) for each in wanted]
        digest = digest_of([leaf(canonical(item)) for item in items])
        return self._signed(BATCH_PATH, _encode({"items": items}), digest)

    def _item(self, payout: Payout) -> dict[str, str]:
        source = {"poolId": self.pool_id} if self.pool_id else {"walletId": self.wallet_id}
        return {
            "externalId": payout.external_id,
            **source,
            "asset": "native",
            "recipient": payout.recipient,
            "amount": str(payout.amount),
        }

    def _signed(self, path: str, body: bytes, batch_digest: str | None) -> Request:
        headers = sign_message(
            self.key,
            self.credential_id,
            method="POST",
            target_uri=self.url + path,
            body=body,
            created=int(time.time()),
            nonce=secrets.token_hex(16),
            life_s=900,
            batch_digest=batch_digest,
        )
        return Request(path, "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode(), body)

    async def handshake(self, line: Connection, payout: Payout) -> Request:
        """Make the first two of the contract's three calls and return the third."""
        body = _encode(
            {
                "kind": "Native",
                "to": payout.recipient,
                "amount": str(payout.amount),
                "externalId": payout.external_id,
            }
        )
        bearer = f"authorization: Bearer {self.token}\r\n"
        path = f"/wallets/{self.wallet_id}/transfers"
        intended = {
            "userActionHttpMethod": "POST",
            "userActionHttpPath": path,
            "userActionPayload": body.decode(),
            "userActionServerKind": "Api",
        }
        opened = await line.request("POST", "/auth/action/init", bearer.encode(), msgspec.json.encode(intended))
        signed = {
            "challengeIdentifier": opened["challengeIdentifier"],
            "firstFactor": sign_challenge(self.key, self.credential_id, opened["challenge"]),
        }
        answer = await line.request("POST", "/auth/action", bearer.encode(), msgspec.json.encode(signed))
        return Request(path, f"{bearer}x-dfns-useraction: {answer['userAction']}\r\n".encode(), body)

    def at(self, url: str) -> "Payer":
        """Return the same payer at another server."""
        return replace(self, url=url)


def _encode(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(slots=True)
class Asked:
    """What came of asking."""

    ids: list[str] = field(default_factory=list)  #: of the payouts that were accepted, as answered
    tally: Tally = field(default_factory=Tally)


async def ask(url: str, requests: Iterable[Request], *, connections: int, seconds: float | None = None) -> Asked:
    """Send signed requests over parallel connections; stop early after ``seconds`` if given."""
    asked = Asked()

    def jobs() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for request in requests:

            async def job(line: Connection, request: Request = request) -> None:
                asked.ids += accepted(await request.send(line))

            yield job

    asked.tally = await drive(url, jobs(), connections=connections, seconds=seconds)
    return asked


async def ask_by_handshake(
    payer: Payer, wanted: Iterable[Payout], *, connections: int, seconds: float | None = None
) -> Asked:
    """Ask by the contract's three calls; stop early after ``seconds`` if given."""
    asked = Asked()

    def jobs() -> Iterator[Callable[[Connection], Awaitable[None]]]:
        for payout in wanted:

            async def job(line: Connection, payout: Payout = payout) -> None:
                asked.ids += accepted(await (await payer.handshake(line, payout)).send(line))

            yield job

    asked.tally = await drive(payer.url, jobs(), connections=connections, seconds=seconds)
    return asked


def accepted(answer: dict[str, Any]) -> list[str]:
    """Return the ids in an answer: of one payout, or of the rows of a batch.

    Raises:
        Refused: a row was refused.
    """
    if "items" not in answer:
        return [str(answer["id"])]
    refused = [row for row in answer["items"] if "error" in row]
    if refused:
        raise Refused(f"{len(refused)} rows of a batch were refused, the first: {refused[0]}")
    return [str(row["payout"]["id"]) for row in answer["items"]]


def batches(payer: Payer, wanted: Sequence[Payout], size: int) -> list[Request]:
    """Return signed requests for all of ``wanted``, ``size`` each."""
    return [payer.batch(wanted[start : start + size]) for start in range(0, len(wanted), size)]


def pay(payer: Payer, requests: Iterable[Request], *, connections: int = 1) -> Asked:
    """Send requests that were signed in advance."""
    return asyncio.run(ask(payer.url, requests, connections=connections))
