"""The queue in front of a real server, with lost answers and a rate limit: nothing lost or doubled, limit kept."""

import bisect
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from dfns_sdk import DfnsClient, DfnsClientConfig, KeySigner

from outlay.client import ONCE, Client, Pace, PayoutQueue, Retry
from tests.client.forwarder import Forwarder
from tests.door import PAYER, RECIPIENT, Door, Who, open_door_now

PRODUCERS, EACH = 10, 6
EACH_BY_SDK = 3
"""Each of them is three requests."""
LIMIT, PER_S = 60, 3
LIMITS = f'\n[server]\npublic_url = "http://localhost:1"\n\n[limits]\nidentity = "{LIMIT} per {PER_S} second"\n'
RETRY = Retry(first_s=0.05, longest_s=0.5)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """Serve an organization whose clock runs and whose callers are limited."""
    with open_door_now(tmp_path, extra=LIMITS) as opened:
        yield opened


@contextlib.contextmanager
def lossy(door: Door) -> Iterator[Forwarder]:
    """Put something between that loses one call in eight before, and one in five after it was carried out."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with Forwarder(door.port, seed=seed, lose_before=0.12, lose_after=0.2).running() as between:
        yield between


def produce(
    queue: PayoutQueue, each_puts: int, item: Callable[[int, int], dict[str, Any]]
) -> list[tuple[str, Future[Any]]]:
    """Let ten producers put payouts at once; some forget what they did and put the same again."""
    put: list[tuple[str, Future[Any]]] = []

    def producer(number: int) -> None:
        for each in range(each_puts):
            external_id = f"invoice-{number}-{each}"
            put.append((external_id, queue.put(item(number, each), external_id=external_id)))
            if each % 3 == 0:
                put.append((external_id, queue.put(item(number, each), external_id=external_id)))

    threads = [threading.Thread(target=producer, args=(number,)) for number in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return put


def check(door: Door, between: Forwarder, put: list[tuple[str, Future[Any]]], expected: int) -> None:
    """Everything put is stored once and answered with what is stored, and no window held more than the limit.

    The server may refuse a little earlier: it estimates what is left of the window before.
    """
    assert [(external_id, ticket.exception(0)) for external_id, ticket in put if ticket.exception(0)] == []
    stored = dict(door.rows("SELECT external_id, id FROM transfer"))
    assert len(door.rows("SELECT id FROM transfer")) == expected == len(stored)
    assert {external_id: ticket.result(0)["id"] for external_id, ticket in put} == stored
    assert between.lost_after[200] > 0, "no answer was lost after success: this run shows nothing"
    assert LIMIT / 2 < max(most_in(between.arrived, PER_S)) <= LIMIT, "the limit was not kept, or never near"


def most_in(times: list[float], per_s: float) -> Iterator[int]:
    """Yield, for each arrival, how many came in the ``per_s`` seconds that ended with it."""
    ordered = sorted(times)
    for place, ends in enumerate(ordered):
        yield place + 1 - bisect.bisect_right(ordered, ends - per_s)


def test_ten_producers_behind_a_limit_lose_and_double_nothing(door: Door, tmp_path: Path) -> None:
    payer = door.service_account("payouts bot", PAYER)
    wallet = door.wallet()["id"]
    with lossy(door) as between:
        client = Client(
            between.url,
            public_url=door.gate.config.server.public_url,
            credential_id=payer.credential_id,
            private_key=payer.private,
            pace=Pace(LIMIT, PER_S),
            retry=ONCE,
        )
        with PayoutQueue(client.send, path=tmp_path / "queue.db", retry=RETRY, workers=8) as queue:
            put = produce(
                queue,
                EACH,
                lambda number, each: {
                    "wallet_id": wallet,
                    "asset": "native",
                    "recipient": RECIPIENT,
                    "amount": str(1000 * number + each + 1),
                },
            )
        check(door, between, put, PRODUCERS * EACH)


@pytest.mark.ci
def test_the_official_sdk_behind_the_queue_loses_and_doubles_nothing(door: Door, tmp_path: Path) -> None:
    payer = door.service_account("payouts bot", PAYER)
    wallet = door.wallet()["id"]
    with lossy(door) as between:
        local = threading.local()

        def send(external_id: str, item: dict[str, Any]) -> Any:
            if not hasattr(local, "sdk"):
                local.sdk = sdk(between.url, payer)
            return local.sdk.wallets.transfer_asset(wallet, {**item, "externalId": external_id})

        with PayoutQueue(
            send, path=tmp_path / "queue.db", pace=Pace(LIMIT, PER_S), requests=3, retry=RETRY, workers=8
        ) as queue:
            put = produce(
                queue,
                EACH_BY_SDK,
                lambda number, each: {"kind": "Native", "to": RECIPIENT, "amount": str(1000 * number + each + 1)},
            )
        check(door, between, put, PRODUCERS * EACH_BY_SDK)


def sdk(url: str, who: Who) -> DfnsClient:
    """Return the official client, signing with a key."""
    signer = KeySigner(credential_id=who.credential_id, private_key=who.private, app_origin=url)
    return DfnsClient(DfnsClientConfig(base_url=url, auth_token=who.token, signer=signer))
