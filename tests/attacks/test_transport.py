"""Attacks on the connection: framing that two servers read differently, floods, headers that claim to be a proxy's."""

import json
import re
import socket

import pytest

from outlay.cli import listener
from tests.attacks.attacker import refused, untouched
from tests.door import Door, Who, transfer

# Framing

LOGIN = b"POST /auth/login/init HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
SMUGGLED = b"GET /v1/health HTTP/1.1\r\nhost: smuggled\r\nconnection: close\r\n\r\n"

FRAMINGS = {
    "both": b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
    "both, the other way round": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    "chunked in disguise": b"content-length: 4\r\ntransfer-encoding: xchunked\r\n",
    "chunked twice": b"content-length: 4\r\ntransfer-encoding: chunked, identity\r\n",
    "a tab before chunked": b"content-length: 4\r\ntransfer-encoding:\tchunked\r\n",
    "a space before the colon": b"content-length: 4\r\ntransfer-encoding : chunked\r\n",
    "a vertical tab": b"content-length: 4\r\ntransfer-encoding: \x0bchunked\r\n",
    "a folded line": b"content-length: 4\r\nx: y\r\n transfer-encoding: chunked\r\n",
    "two lengths": b"content-length: 4\r\ncontent-length: 5\r\n",
    "two lengths in one": b"content-length: 4, 5\r\n",
    "a signed length": b"content-length: +4\r\n",
    "a negative length": b"content-length: -4\r\n",
    "a hexadecimal length": b"content-length: 0x4\r\n",
    "a length with a space": b"content-length: 4 4\r\n",
    "a length without end": b"content-length: 99999999999999999999\r\n",
    "a header name with a space": b"content length: 4\r\n",
    "a header without a name": b": 4\r\n",
    "a NUL in a header": b"x: a\x00b\r\n",
}


@pytest.mark.parametrize("how", FRAMINGS)
def test_a_second_request_is_smuggled_in_the_body_of_the_first(door: Door, how: str) -> None:
    """The attacker sends framing that a proxy and this server read differently (F128): refused, and hung up on."""
    body = b"0\r\n\r\n" + SMUGGLED
    with untouched(door):
        said = door.send_all(LOGIN + FRAMINGS[how] + b"\r\n" + body)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", said)
    assert statuses in ([b"400"], [b"413"]), said


def test_a_chunk_says_more_than_it_holds(door: Door) -> None:
    """The attacker lies about chunks (F128)."""
    head = LOGIN + b"transfer-encoding: chunked\r\n\r\n"
    for chunks in (
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}X0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n{}\r\n",
    ):
        said = door.send_all(head + chunks)
        assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"400"], (chunks, said)


def test_two_hosts_and_a_false_one_change_nothing(door: Door) -> None:
    """The attacker names another host, or two: no link, no cookie and no redirect is made from it (F127, F128)."""
    token = f"authorization: Bearer {door.admin.token}\r\n"
    plain = door.get("/wallets").raw
    for hosts in (
        "host: evil.example\r\n",
        "host: x\r\nhost: evil.example\r\n",
        "host: x\r\nx-forwarded-host: evil.example\r\n",
    ):
        answer = door.send_raw(f"GET /wallets HTTP/1.1\r\n{hosts}{token}connection: close\r\n\r\n".encode())
        assert answer.status in (200, 400)
        assert answer.status == 400 or answer.raw == plain
        assert "location" not in answer.headers and b"evil" not in answer.raw


FORWARDED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": "for=127.0.0.1;proto=https",
    "X-Forwarded-User": "admin",
    "Remote-User": "admin",
    "X-User-Id": "admin",
    "X-Dfns-Appid": "ap-0",
    "X-Dfns-Nonce": "x",
    "Cookie": "token=x; session=admin",
    "X-Forwarded-Proto": "https",
    "X-Client-Cert": "admin",
}


@pytest.mark.parametrize("name", FORWARDED)
def test_a_header_says_who_is_calling(door: Door, payer: Who, name: str) -> None:
    """The attacker claims to come from a proxy, from this machine, or to be the admin (F127)."""
    with untouched(door):
        refused(door.call("GET", "/auth/users", **{name: FORWARDED[name]}), 401, "not_authenticated")
        refused(door.call("GET", "/auth/users", token=payer.token, **{name: FORWARDED[name]}), 403, "not_permitted")


@pytest.mark.parametrize("scheme", ["Basic", "Token", "bearer:", "", "Bearer,", "Digest", "DPoP"])
def test_the_token_comes_by_another_scheme(door: Door, scheme: str) -> None:
    """The attacker found a token in a place that sends it differently; one way in is enough (F127)."""
    headers = {"authorization": f"{scheme} {door.admin.token}".strip()}
    refused(door.send("GET", "/auth/users", headers=headers), 401, "not_authenticated")
    for query in (f"?token={door.admin.token}", f"?access_token={door.admin.token}"):
        refused(door.send("GET", f"/auth/users{query}"), 401, "not_authenticated")


def test_two_tokens_mix_two_callers(door: Door, payer: Who, path: str) -> None:
    """The attacker sends the admin's token beside their own, so that one check sees each (F131)."""
    body = transfer()
    action = door.sign(payer, "POST", path, body)
    head = [("content-type", "application/json"), ("x-dfns-useraction", action)]
    answers = []
    for tokens in ((payer.token, door.admin.token), (door.admin.token, payer.token)):
        headers = [*head, *(("authorization", f"Bearer {token}") for token in tokens)]
        answers.append(door.send("POST", path, json.dumps(body).encode(), headers))
    assert sorted(answer.status for answer in answers) == [200, 403]
    made = door.rows("SELECT initiator_id FROM transfer WHERE external_id = ?", body["externalId"])
    assert made == [(payer.user_id,)]


def test_two_action_tokens_mix_two_calls(door: Door, payer: Who, path: str) -> None:
    """The attacker sends two user actions with one call: the one that is read must be signed for it (F123)."""
    body, other = transfer(), transfer(amount="9")
    right, wrong = door.sign(payer, "POST", path, body), door.sign(payer, "POST", path, other)
    head = [("content-type", "application/json"), ("authorization", f"Bearer {payer.token}")]
    statuses = []
    for actions in ((right, wrong), (wrong, right)):
        headers = [*head, *(("x-dfns-useraction", action) for action in actions)]
        statuses.append(door.send("POST", path, json.dumps(body).encode(), headers).status)
    assert sorted(statuses) == [200, 403]
    made = door.rows("SELECT amount FROM transfer WHERE external_id IN (?, ?)", body["externalId"], other["externalId"])
    assert [int(amount) for (amount,) in made] == [1000]


# Floods


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /v1/health HTTP/1.1\r\nhost: x\r\n",
        LOGIN + b"content-length: 100\r\n\r\n{",
        LOGIN + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
        b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\nPOST /auth/login HTTP/1.1\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "half a chunk", "half a second head"],
)
def test_a_request_never_ends(door: Door, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker opens connections and sends a byte now and then, to occupy them for ever (F82, F128)."""
    monkeypatch.setattr(listener, "RECEIVE_MAX_S", 0.3)
    with socket.create_connection(("127.0.0.1", door.port), 10) as connection:
        connection.sendall(sent)
        while connection.recv(65536):  # whatever it says, it hangs up
            pass
    assert door.get("/v1/health").status == 200


def test_an_empty_line_now_and_then_keeps_a_connection(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker, once answered, sends what begins no request, so that no bound on one applies (F82, F128)."""
    monkeypatch.setattr(listener, "RECEIVE_MAX_S", 0.3)
    with socket.create_connection(("127.0.0.1", door.port), 10) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        while connection.recv(65536):
            pass


def test_a_slow_but_honest_request_is_answered(door: Door) -> None:
    """The bound is on what never ends: a body that comes in pieces is read."""
    body = json.dumps({"username": "admin"}).encode()
    head = LOGIN + f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    answer = door.send_raw([head, *(body[at : at + 1] for at in range(len(body)))], method="POST")
    assert answer.status == 200
