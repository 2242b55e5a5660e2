"""Bad bodies over real HTTP: a 4xx that names the field and says what to do, nothing stored, never a 5xx."""

import concurrent.futures
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from outlay.core import faultpoint
from outlay.core.address import checksum
from tests.door import NETWORK, PAYER, TOKEN, Door, Who, check_refusal, open_door, transfer

MAX = 2**256 - 1


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def bot(door: Door) -> Who:
    return door.service_account("payouts bot", PAYER)


@pytest.fixture(scope="module")
def wallet(door: Door) -> Any:
    return door.wallet()


def erc20(**changes: Any) -> dict[str, Any]:
    return transfer(**{"kind": "Erc20", "contract": TOKEN, **changes})


# Amounts, addresses and the other members of a transfer

AMOUNTS = [
    "",
    "0",
    "00",
    "01",
    "-5",
    "+5",
    "5.0",
    "5.",
    ".5",
    "5e3",
    "5E3",
    " 5",
    "5 ",
    "5\n",
    "5\t",
    "5,000",
    "5_000",
    "0x10",
    "0b1",
    "five",
    "∞",
    "NaN",
    "Infinity",
    "1\u0665",
    "5\uff15",
    "\u0665",  # five in Arabic,
    "\uff15",  # full width,
    "\u09eb",  # Bengali,
    "\u00b2",  # and two as an exponent
    "5\u200b",
    "5\x00",
    str(MAX + 1),
    str(10**78),
    "9" * 5000,
    5,
    0,
    -5,
    5.5,
    True,
    None,
    ["5"],
    {"value": "5"},
]


@pytest.mark.parametrize("kind", [transfer, erc20])
@pytest.mark.parametrize("amount", AMOUNTS, ids=lambda amount: repr(amount)[:20])
def test_an_amount_is_a_plain_string_of_digits(
    door: Door, bot: Who, wallet: Any, kind: Callable[..., Any], amount: object
) -> None:
    body = {**kind(), "amount": amount}
    answer = door.refused(bot, "POST", f"/wallets/{wallet['id']}/transfers", body)
    assert (answer.status, answer.code, answer.field) == (400, "invalid_input", "amount")


@pytest.mark.parametrize("kind", [transfer, erc20])
@pytest.mark.parametrize("amount", [1, 9, 2**64, 10**40, MAX])
def test_every_amount_up_to_2_to_the_256_is_taken_exactly(
    door: Door, bot: Who, wallet: Any, kind: Callable[..., Any], amount: int
) -> None:
    body = kind(amount=str(amount))
    made = door.write(bot, "POST", f"/wallets/{wallet['id']}/transfers", body).ok()
    assert made["requestBody"]["amount"] == str(amount)
    assert int(door.rows("SELECT amount FROM transfer WHERE id = ?", made["id"])[0][0]) == amount


GOOD_CHECKSUM = checksum("0x" + "abcdef" * 6 + "abcd")
WRONG_CHECKSUM = GOOD_CHECKSUM[:2] + GOOD_CHECKSUM[2:].swapcase()
ADDRESSES = [
    "",
    "0x",
    "1a" * 20,
    "0X" + "1a" * 20,
    "0x" + "1a" * 19,
    "0x" + "1a" * 21,
    "0x" + "1g" * 20,
    "0x" + "1a" * 20 + "\n",
    " 0x" + "1a" * 20,
    "0x" + "\uff11a" * 20,  # full width
    "0x" + "1\u0430" * 20,  # Cyrillic
    WRONG_CHECKSUM,
    "vitalik.eth",
    "T" + "9" * 33,
    None,
    5,
    ["0x" + "1a" * 20],
]


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: repr(address)[:20])
def test_an_address_is_0x_and_40_hex_digits_with_a_right_checksum(
    door: Door, bot: Who, wallet: Any, address: object
) -> None:
    path = f"/wallets/{wallet['id']}/transfers"
    for body, field in (({**transfer(), "to": address}, "to"), ({**erc20(), "contract": address}, "contract")):
        answer = door.refused(bot, "POST", path, body)
        assert (answer.status, answer.field) == (400, field)


@pytest.mark.parametrize("spelled", [GOOD_CHECKSUM, GOOD_CHECKSUM.lower(), "0x" + GOOD_CHECKSUM[2:].upper()])
def test_an_address_without_mixed_case_or_with_the_right_one_is_taken(
    door: Door, bot: Who, wallet: Any, spelled: str
) -> None:
    made = door.write(bot, "POST", f"/wallets/{wallet['id']}/transfers", transfer(to=spelled)).ok()
    assert door.rows("SELECT recipient FROM transfer WHERE id = ?", made["id"]) == [(GOOD_CHECKSUM.lower(),)]


def spellings(address: str) -> list[str]:
    return [address.lower(), "0x" + address[2:].upper(), checksum(address)]


def test_recipients_that_lose_the_money_are_refused_in_every_spelling(door: Door, bot: Who, wallet: Any) -> None:
    path = f"/wallets/{wallet['id']}/transfers"
    lost = {"zero address": "0x" + "0" * 40, "token contract": TOKEN, "paying wallet": wallet["address"]}
    for why, address in lost.items():
        for kind, to in zip((transfer, erc20, erc20), spellings(address), strict=True):
            for body in (kind(to=to), transfer(to=to)):
                answer = door.refused(bot, "POST", path, body)
                assert (answer.status, answer.field) == (400, "to")
                assert why in answer.message


def test_a_token_nobody_listed_is_refused(door: Door, bot: Who, wallet: Any) -> None:
    for contract in ("0x" + "c1" * 20, "0x" + "0" * 40, wallet["address"]):
        answer = door.refused(bot, "POST", f"/wallets/{wallet['id']}/transfers", erc20(contract=contract))
        assert (answer.status, answer.field) == (400, "contract")
        assert "[[assets]]" in answer.message


@pytest.mark.parametrize("external_id", ["", " ", "a b", "a" * 51, "é", "a\n", "a\x00", 5, {}, ["a"]], ids=repr)
def test_an_external_id_is_short_and_plain(door: Door, bot: Who, wallet: Any, external_id: object) -> None:
    answer = door.refused(bot, "POST", f"/wallets/{wallet['id']}/transfers", {**transfer(), "externalId": external_id})
    assert (answer.status, answer.field) == (400, "externalId")


def test_a_payout_without_an_external_id_is_told_the_setting(door: Door, bot: Who, wallet: Any) -> None:
    answer = door.refused(bot, "POST", f"/wallets/{wallet['id']}/transfers", transfer(externalId=None))
    assert (answer.status, answer.field) == (400, "externalId")
    assert "api.require_external_id" in answer.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": None}, "kind"),
        ({"kind": "Erc721"}, "kind"),
        ({"kind": 5}, "kind"),
        ({"to": None}, "to"),
        ({"contract": TOKEN}, "contract"),
        ({"priority": "Instant"}, "priority"),
        ({"priority": 1}, "priority"),
        ({"memo": "x"}, "memo"),
        ({"status": "Confirmed"}, "status"),
        ({"state": "confirmed"}, "state"),
        ({"id": "xfr-00000-00000-0000000000000000"}, "id"),
        ({"walletId": "wa-00000-00000-0000000000000000"}, "walletId"),
        ({"initiatorId": "us-00000-00000-0000000000000000"}, "initiatorId"),
        ({"nonce": 0}, "nonce"),
        ({"__proto__": {"status": "Confirmed"}}, "__proto__"),
        ({"x" * 5000: 1}, "x" * 200),
    ],
    ids=repr,
)
def test_a_transfer_has_no_other_members(door: Door, bot: Who, wallet: Any, change: dict[str, Any], field: str) -> None:
    answer = door.refused(bot, "POST", f"/wallets/{wallet['id']}/transfers", transfer(**change))
    assert (answer.status, answer.field) == (400, field)


# Bodies that are not plain JSON

MALFORMED = {
    "not UTF-8": b'{"amount":"\xff"}',
    "cut off": b'{"amount":"5"',
    "a duplicate": b'{"amount":"5","amount":"6"}',
    "a duplicate in disguise": b'{"amount":"5","\\u0061mount":"6"}',
    "17 deep": b'{"amount":' * 17 + b"1" + b"}" * 17,
    "30,000 deep": b"[" * 30_000,
    "half a surrogate pair": b'{"amount":"\\ud800"}',
    "2^53 + 1": b'{"amount":9007199254740993}',
    "1e999": b'{"amount":1e999}',
    "NaN": b'{"amount":NaN}',
    "5000 digits": b'{"amount":' + b"5" * 5000 + b"}",
    "a list": b"[]",
    "a text": b'"amount"',
    "null": b"null",
    "XML": b"<amount>5</amount>",
    "a form": b"amount=5&to=0x0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_not_plain_json_is_refused(door: Door, bot: Who, wallet: Any, name: str) -> None:
    for method, path in (
        ("POST", f"/wallets/{wallet['id']}/transfers"),
        ("PUT", f"/wallets/{wallet['id']}"),
        ("DELETE", f"/wallets/{wallet['id']}/tags"),
        ("POST", "/auth/action/init"),
        ("POST", "/auth/login/init"),
    ):
        answer = door.refused(bot, method, path, MALFORMED[name])
        assert (answer.status, answer.field) == (400, "body")


def test_texts_that_cannot_be_told_apart_are_refused(door: Door) -> None:
    for name in ("pay\u202eout", "pay\u200bout", "pay\x00out", "cafe\u0301"):
        for body in ({"network": NETWORK, "name": name}, {"network": NETWORK, "tags": ["a", name]}):
            answer = door.refused(door.admin, "POST", "/wallets", body)
            assert (answer.status, answer.field) == (400, "name" if "name" in body else "tags[1]")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/msgpack"},
        {"content-type": "application/jsonp"},
        {"content-type": "\x7f"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=repr,
)
def test_a_body_of_another_content_type_is_refused(door: Door, bot: Who, wallet: Any, headers: dict[str, str]) -> None:
    before = door.stored()
    body = transfer()
    path = f"/wallets/{wallet['id']}/transfers"
    signed = {"authorization": f"Bearer {bot.token}", "x-dfns-useraction": door.sign(bot, "POST", path, body)}
    answer = door.send("POST", path, json.dumps(body).encode(), {**signed, **headers})
    check_refusal(answer)
    assert answer.status == 415 or (answer.status, answer.code) == (400, "malformed_request")
    assert door.stored() == before


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=UTF-8", "Application/JSON"])
def test_json_in_every_spelling_of_its_content_type_is_read(door: Door, bot: Who, wallet: Any, kind: str) -> None:
    path, body = f"/wallets/{wallet['id']}/transfers", transfer()
    signed = {"authorization": f"Bearer {bot.token}", "x-dfns-useraction": door.sign(bot, "POST", path, body)}
    door.send("POST", path, json.dumps(body).encode(), {**signed, "content-type": kind}).ok()


def test_a_call_that_takes_no_body_takes_none_an_empty_one_and_an_empty_object(door: Door) -> None:
    for body in (None, b"", b"{}", b" \n"):
        wallet = door.wallet()
        made = door.write(door.admin, "POST", f"/wallets/{wallet['id']}/transfers", transfer()).ok()
        path = f"/wallets/{wallet['id']}/transfers/{made['id']}/abort"
        assert door.write(door.admin, "PUT", path, body).ok()["status"] == "Failed"
        answer = door.refused(door.admin, "PUT", path, {"status": "Confirmed"})
        assert (answer.status, answer.field) == (400, "status")


# Neighbours


class Gathered:
    """Holds the writer until enough calls wait, so that they are all in one group."""

    def __init__(self, door: Door) -> None:
        self._door, self._go = door, threading.Event()
        self._entered = threading.Event()

    def __enter__(self) -> "Gathered":
        def hold(_unit: object) -> None:
            self._entered.set()
            self._go.wait(30)

        self._thread = threading.Thread(target=self._door.run_write, args=(hold,))
        self._thread.start()
        assert self._entered.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._thread.join(30)

    def release_when(self, waiting: int) -> None:
        """Let the writer go once ``waiting`` units are queued."""
        self._door.wait_for_units(waiting)
        self._go.set()


def test_a_bad_request_in_a_group_fails_alone(door: Door, bot: Who, wallet: Any) -> None:
    path = f"/wallets/{wallet['id']}/transfers"
    taken = transfer()
    door.write(bot, "POST", path, taken).ok()
    good = [transfer() for _ in range(20)]
    bad = [
        *[(path, transfer(amount=str(MAX + 1)), 400) for _ in range(5)],
        *[(path, transfer(to=wallet["address"]), 400) for _ in range(5)],
        *[(path, {**taken, "amount": "77"}, 409) for _ in range(5)],
        *[(path.replace("wa-", "wa-0"), transfer(), 404) for _ in range(5)],
    ]
    wanted = [(path, body, 200) for body in good]
    calls = [call for pair in zip(wanted, bad, strict=True) for call in pair]
    signed = [(target, body, status, door.sign(bot, "POST", target, body)) for target, body, status in calls]
    groups, units = door.gate.db.groups, door.gate.db.units
    with Gathered(door) as gathered, concurrent.futures.ThreadPoolExecutor(len(signed)) as pool:
        answers = [pool.submit(door.call, "POST", t, b, token=bot.token, action=a) for t, b, _, a in signed]
        gathered.release_when(len(signed))
        got = [answer.result() for answer in answers]
    assert [answer.status for answer in got] == [status for _, _, status, _ in signed]
    assert door.gate.db.units - units == len(signed) + 1
    assert door.gate.db.groups - groups <= 3
    for body in good:
        assert door.rows("SELECT count(*) FROM transfer WHERE external_id = ?", body["externalId"]) == [(1,)]


def test_a_crash_in_one_request_of_a_group_fails_it_alone(door: Door, bot: Who, wallet: Any) -> None:
    path = f"/wallets/{wallet['id']}/transfers"
    bodies = [transfer() for _ in range(12)]
    signed = [(body, door.sign(bot, "POST", path, body)) for body in bodies]
    passed = iter(range(100))

    def crash(label: str) -> None:
        # First the group as a whole, then one of those that are tried alone.
        if label == "admit.before_commit" and next(passed) in (0, 6):
            raise RuntimeError("crashed on purpose")

    faultpoint.install(crash)
    try:
        with Gathered(door) as gathered, concurrent.futures.ThreadPoolExecutor(len(signed)) as pool:
            answers = [pool.submit(door.call, "POST", path, b, token=bot.token, action=a) for b, a in signed]
            gathered.release_when(len(signed))
            got = [answer.result() for answer in answers]
    finally:
        faultpoint.install(None)
    assert sorted(answer.status for answer in got) == [200] * 11 + [500]
    for body, answer in zip(bodies, got, strict=True):
        kept = door.rows("SELECT count(*) FROM transfer WHERE external_id = ?", body["externalId"])
        assert kept == [(1 if answer.status == 200 else 0,)]
        if answer.status == 500:
            assert "RuntimeError" not in answer.raw.decode()
            assert "on purpose" not in answer.raw.decode()
