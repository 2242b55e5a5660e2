"""Bad calls over real HTTP: sizes, paths, methods, queries, and what holds for every operation there is."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from outlay.web.openapi import operations
from tests.door import NETWORK, PAYER, RECIPIENT, TOKEN, Door, Who, check_refusal, open_door, transfer

UNKNOWN = {
    "walletId": "wa",
    "payoutId": "xfr",
    "batchId": "bat",
    "transferId": "xfr",
    "userId": "us",
    "permissionId": "pm",
    "assignmentId": "as",
    "policyId": "plc",
    "approvalId": "ap",
    "webhookId": "wh",
    "eventId": "whe",
    "changeId": "cr",
    "credentialUuid": "cr",
    "tokenId": "to",
    "freezeId": "frz",
    "mandateId": "md",
    "poolId": "pool",
}


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


# Sizes


def test_a_body_beyond_64_kib_is_refused_whether_its_length_is_told_or_not(door: Door, bot: Who, wallet: Any) -> None:
    before = door.stored()
    path = f"/wallets/{wallet['id']}/transfers"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {bot.token}\r\n"
    # The length alone suffices: the body is never sent.
    told = door.send_raw(f"{head}content-length: {10**12}\r\n\r\n".encode(), method="POST")
    told_less = door.send_raw(f"{head}content-length: {64 * 1024 + 1}\r\n\r\n".encode(), method="POST")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    untold = door.send_raw([f"{head}transfer-encoding: chunked\r\n\r\n".encode(), *[chunk] * 8], method="POST")
    at_the_limit = json.dumps(transfer()).encode().ljust(64 * 1024)
    beyond = door.call("POST", path, at_the_limit + b" ", token=bot.token)
    for answer in (told, told_less, untold, beyond):
        check_refusal(answer)
        assert (answer.status, answer.code, answer.field) == (413, "body_too_large", "body")
        assert answer.headers["connection"] == "close"
    assert door.call("POST", path, at_the_limit, token=bot.token).status == 403  # read, and not signed
    assert door.stored() == before


def test_a_challenge_may_be_asked_for_64_kib_however_they_are_escaped(door: Door, bot: Who, wallet: Any) -> None:
    path = f"/wallets/{wallet['id']}/transfers"
    body = json.dumps(transfer(memo="é" * 100), ensure_ascii=False)
    fits = body + " " * (64 * 1024 - len(body.encode()))
    assert door.open(bot, "POST", path, fits).status == 200
    answer = door.open(bot, "POST", path, fits + " ")
    assert (answer.status, answer.field) == (413, "userActionPayload")
    escaped = json.dumps({"a": "x" * 8}).replace("x" * 8, "\\u0078" * 10_000)
    assert len(json.dumps(escaped)) > 64 * 1024
    assert door.open(bot, "POST", path, escaped).status == 200
    assert door.open(bot, "POST", path, "x" * 600 * 1024).status == 413


def test_endless_heads_are_cut_off(door: Door) -> None:
    for pieces in (
        [b"GET /v1/health HTTP/1.1\r\nhost: x\r\n", *[b"a: " + b"x" * 8000 + b"\r\n"] * 40],
        [b"GET /v1/health HTTP/1.1\r\nhost: x\r\na: ", *[b"x" * 8192] * 80],
        [b"GET /", *[b"x" * 8192] * 80],
        [b"GET /v1/health HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n"],
    ):
        answer = door.send_raw(pieces)
        check_refusal(answer)
        assert (answer.status, answer.code) == (431, "head_too_large")
    assert door.send("GET", "/v1/health", headers={"a": "x" * 32_000}).status == 200


def test_calls_that_come_in_one_packet_are_answered_one_by_one(door: Door) -> None:
    """What bounds the head of a call must not count its neighbours."""
    body = b'{"registrationCode":"x","username":"' + b"x" * 50_000 + b'"}'
    head = "POST /auth/registration/init HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}"
    last = b"GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answers = door.send_all((head.encode() + b"\r\n\r\n" + body) * 5 + last)
    assert answers.count(b"HTTP/1.1 401 ") == 5
    assert answers.count(b"HTTP/1.1 200 ") == 1


def test_what_is_not_http_is_refused_in_json(door: Door) -> None:
    for raw in (
        b"\x16\x03\x01 hello\r\n\r\n",
        b"BREW /wallets HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /wallets HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /wallets HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /wallets HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST /wallets HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /wallets HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ):
        answer = door.send_raw(raw, method=raw[:4].decode("latin-1").strip())
        check_refusal(answer)
        assert (answer.status, answer.code) in ((400, "malformed_request"), (400, "invalid_input"))
    host = door.send_raw(b"GET /v1/health HTTP/1.1\r\nhost: a b\r\n\r\n")
    check_refusal(host)


# Paths, methods, queries


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path", ["/nope", "/wallets/x/y/z", "/v1", "/v2", "/auth", "/v2/wallets", "/.env", "/wallets.json", "/docs"]
)
def test_an_unknown_path_is_not_offered(door: Door, method: str, path: str) -> None:
    answer = door.call(method, path, None if method == "GET" else {}, token=door.admin.token)
    check_refusal(answer)
    assert (answer.status, answer.code) == (404, "not_offered")
    assert f"{method} {path} is not offered" in answer.message


def test_a_tidied_path_is_another_path(door: Door, bot: Who, wallet: Any) -> None:
    """The router would find the route; what is signed would be another text."""
    known = wallet["id"]
    for target in (
        "/wallets/",
        "//wallets",
        f"/wallets//{known}",
        f"/wallets/{known}/",
        f"/wallets%2f{known}",
        f"/wallets%2F{known}",
        f"/permissions/../wallets/{known}",
        f"/permissions/%2e%2e/wallets/{known}",
        f"/./wallets/{known}",
        f"/wallets/{known}%00",
        f"/wallets/{known}%3Fx",
        f"/wallets/{known}%25",
        f"/wallets/{known}%",
        f"/wallets/%ff{known}",
        f"/wallets\\{known}",
    ):
        answer = door.get(target, bot)
        check_refusal(answer)
        assert (answer.status, answer.code) == (404, "not_offered"), target
    assert door.get(f"/wallets/{known}", bot).status == 200
    escaped = "".join(f"%{ord(character):02x}" for character in known)
    assert door.get(f"/wallets/{escaped}", bot).ok()["id"] == known


def test_a_signature_for_a_tidied_path_pays_nothing(door: Door, bot: Who, wallet: Any) -> None:
    before = door.stored()
    path, body = f"/wallets/{wallet['id']}/transfers", transfer()
    for target in (f"{path}/", path.replace("/transfers", "//transfers"), path.replace("/transfers", "%2ftransfers")):
        answer = door.call("POST", target, body, token=bot.token, action=door.sign(bot, "POST", path, body))
        assert (answer.status, answer.code) == (404, "not_offered")
        opened = door.open(bot, "POST", target, body)
        assert opened.status == 200 or opened.field == "userActionHttpPath"
    assert door.stored() == before


def test_methods_a_path_does_not_have_are_told_which_it_has(door: Door) -> None:
    for method, path, allowed in (
        ("PATCH", "/wallets", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/wallets", "GET, HEAD, OPTIONS, POST"),
        ("TRACE", "/wallets", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/auth/action/init", "OPTIONS, POST"),
        ("HEAD", "/auth/action/init", "OPTIONS, POST"),
        ("POST", "/wallets/x/tags", "DELETE, OPTIONS, PUT"),
        ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
    ):
        answer = door.send(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allowed), (method, path)
        if method != "HEAD":
            check_refusal(answer)
            assert answer.code == "method_not_allowed"


def test_head_is_get_without_the_body_and_options_tells_the_methods(door: Door) -> None:
    for path, token in (("/v1/health", ""), ("/wallets", door.admin.token)):
        read, head = door.call("GET", path, token=token), door.call("HEAD", path, token=token)
        assert (head.status, head.raw) == (200, b"")
        assert head.headers["content-length"] == str(len(read.raw))
    assert door.call("HEAD", "/wallets").status == 401
    options = door.send("OPTIONS", "/wallets")
    assert (options.status, options.raw, options.headers["allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
    assert door.send("OPTIONS", "/nope").status == 404


def test_a_websocket_is_not_offered(door: Door) -> None:
    upgrade = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
    assert door.send("GET", "/wallets", headers={**upgrade, "sec-websocket-key": "x" * 24}).status == 401


def test_a_query_changes_no_write(door: Door, bot: Who, wallet: Any) -> None:
    path, body = f"/wallets/{wallet['id']}/transfers", transfer()
    query = "?amount=999&to=0x0&priority=Fast&externalId=other&kind=Erc20&status=Confirmed&walletId=x&force=true"
    made = door.call("POST", path + query, body, token=bot.token, action=door.sign(bot, "POST", path, body)).ok()
    assert made["requestBody"] == body
    # Signed with a query, as the delegated JavaScript client does, it is the same call.
    again = door.call("POST", path, body, token=bot.token, action=door.sign(bot, "POST", path + query, body)).ok()
    assert again["id"] == made["id"]


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/wallets?limit=0", "limit"),
        ("/wallets?limit=-1", "limit"),
        ("/wallets?limit=501", "limit"),
        ("/wallets?limit=1.5", "limit"),
        ("/wallets?limit=%D9%A5", "limit"),
        ("/wallets?limit=" + "9" * 5000, "limit"),
        ("/wallets?limit=", "limit"),
        ("/wallets?paginationToken=x", "paginationToken"),
        ("/wallets?paginationToken=%00%ff", "paginationToken"),
        ("/wallets?pagination_token=%F0%9F%92%A9", "paginationToken"),
        ("/webhooks?limit=0", "limit"),
        ("/webhooks?paginationToken=x", "paginationToken"),
        ("/v2/policies?status=Foo", "status"),
        ("/v2/policies?status=%5B%27Active%27%5D", "status"),
        ("/v2/policy-approvals?status=active", "status"),
        ("/webhooks/wh-00000-00000-0000000000000000/events?deliveryFailed=maybe", "deliveryFailed"),
    ],
)
def test_a_wrong_query_parameter_is_named(door: Door, target: str, field: str) -> None:
    answer = door.get(target)
    check_refusal(answer)
    assert (answer.status, answer.field) == (400, field)


def test_a_control_character_in_a_query_is_refused_before_any_database_sees_it(door: Door) -> None:
    """PostgreSQL takes no NUL; so nothing is asked for that no value holds."""
    place = base64.urlsafe_b64encode(b"5/a\x00").decode().rstrip("=")
    for path, names in (
        ("/v1/audit", ("subject", "actor", "action", "order", "from", "to", "first", "last", "paginationToken")),
        ("/v1/events", ("payoutId", "kind", "after", "wait")),
        (
            "/v1/payouts",
            ("state", "asset", "recipient", "walletId", "poolId", "batchId", "externalId", "initiatorId"),
        ),
        ("/v1/mandates", ("status", "kind", "paginationToken")),
        ("/v1/mandates/sc-00000-00000-0000000000000000/runs", ("status", "paginationToken")),
        ("/v1/changes", ("status",)),
        ("/v2/policies", ("status",)),
        ("/v2/policy-approvals", ("status", "initiatorId", "approver_id")),
        ("/webhooks/wh-00000-00000-0000000000000000/events", ("kind", "deliveryFailed", "pagination_token")),
    ):
        for name in names:
            for bad in ("%00", "a%00b", "%1F", "%0D%0Ax", "%7F", "%C2%85"):
                answer = door.get(f"{path}?{name}={bad}")
                check_refusal(answer)
                assert (answer.status, answer.field) == (400, name), (path, name, bad, answer.raw)
                assert "control character" in answer.message
    for target in ("/v1/events?after=", "/v1/payouts?paginationToken=", "/wallets?paginationToken="):
        answer = door.get(target + place)
        check_refusal(answer)
        assert answer.status == 400, "nor one inside of a place to go on from"


# Every operation


def described(door: Door) -> list[tuple[str, str, Any]]:
    return list(operations(door.get("/openapi.json").ok()))


FILE_ROW = {"externalId": "x", "network": NETWORK, "asset": "USDC", "recipient": RECIPIENT, "amount": "1"}
BODIES: dict[str, Any] = {
    "ContinueAudit": {"reason": "looked"},
    "ExportAudit": {},
    "ActionInit": {"userActionHttpMethod": "POST", "userActionHttpPath": "/wallets"},
    "ActionSign": {"challengeIdentifier": "x", "firstFactor": {"kind": "Key", "credentialAssertion": {}}},
    "ApplyConfig": {"moneySettings": {}},
    "ArchivePermission": {"isArchived": True},
    "CreateAssignment": {"identityId": "us-00000-00000-0000000000000000"},
    "CheckRows": {"walletId": "wa-00000-00000-0000000000000000", "rows": [FILE_ROW]},
    "SubmitBatch": {"name": "x", "walletId": "wa-00000-00000-0000000000000000", "digest": "0" * 64, "count": 1},
    "UploadRows": {"rows": [FILE_ROW]},
    "CodeInit": {"credentialKind": "Key", "code": "x"},
    "CreateCode": {"expiration": 1},
    "CreateCredential": {"credentialKind": "Key", "credentialInfo": {}, "challengeIdentifier": "x"},
    "CreateMandate": {
        "name": "x",
        "kind": "GasTopUp",
        "network": NETWORK,
        "treasury": {"external": RECIPIENT},
        "wallets": {"tag": "payouts"},
        "min": "1",
        "target": "1",
        "max": "1",
        "perRefillMax": "1",
        "window": {"amount": "1", "count": 1, "minutes": 1},
    },
    "CreatePat": {"name": "x", "publicKey": "x"},
    "CreatePool": {"name": "x", "network": NETWORK, "tag": "hot"},
    "DrainWallet": {"reason": "x"},
    "CreatePermission": {"name": "x", "operations": ["Wallets:Read"]},
    "CreateServiceAccount": {"name": "x", "publicKey": "x"},
    "CreateUser": {"email": "ops@example.com", "kind": "CustomerEmployee"},
    "CreateWallet": {"network": NETWORK},
    "CreateWebhook": {"url": "https://example.com", "events": ["*"]},
    "CredentialInit": {"kind": "Key"},
    "CredentialName": {"credentialUuid": "cr-00000-00000-0000000000000000"},
    "ActivateCredential": {"credentialUuid": "cr-00000-00000-0000000000000000"},
    "DecisionBody": {"value": "Approved"},
    "Login": {"challengeIdentifier": "x", "firstFactor": {}},
    "LoginInit": {"username": "x"},
    "Logout": {},
    "NativeTransfer": {"kind": "Native", "to": RECIPIENT, "amount": "5", "externalId": "x"},
    "RequestBatch": {"items": [{"externalId": "x", "asset": "native", "recipient": RECIPIENT, "amount": "5"}]},
    "RequestPayout": {
        "walletId": "wa-00000-00000-0000000000000000",
        "asset": "native",
        "recipient": RECIPIENT,
        "amount": "5",
        "externalId": "x",
    },
    "PolicyBody": {
        "name": "x",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "AlwaysTrigger"},
        "action": {"kind": "Block"},
    },
    "Registration": {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": {}}},
    "RegistrationInit": {"username": "x", "registrationCode": "x"},
    "Tags": {"tags": ["a"]},
    "LiftFreeze": {"scope": "all", "subject": "", "reason": "a wrong alarm"},
    "ResolvePayout": {"outcome": "paid", "reason": "x"},
    "ReseedSigner": {"journalId": "journal", "minNonces": {}, "reason": "the disk was lost"},
    "UnfreezeNetwork": {"network": NETWORK, "reason": "a wrong alarm"},
    "Unfreeze": {"reason": "x"},
    "UnfreezeAsset": {"network": NETWORK, "asset": TOKEN, "reason": "x"},
    "UpdatePat": {"name": "y"},
    "RotateSecret": {},
    "Replay": {"failed": True},
    "UpdatePermission": {"name": "y"},
    "UpdateServiceAccount": {"name": "y"},
    "UpdateWallet": {"name": "y"},
    "UpdateWebhook": {"description": "y"},
}


def a_body(operation: Any) -> Any:
    """Return a good body for an operation, or None where it takes none."""
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    schema = schema["oneOf"][0] if "oneOf" in schema else schema
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    assert not name or name in BODIES, f"give a good {name} above, so that its routes are tried too"
    return BODIES.get(name, {})


GARBAGE = ["x", "0", "-1", "null", "*", "'%20OR%201=1--", "%F0%9F%92%A9", "%00", "..", "%2e%2e", "a%2Fb", "x" * 1900]


def test_an_id_that_names_nothing_is_a_404_everywhere(door: Door) -> None:
    checked = 0
    before = door.stored()
    for method, path, operation in described(door):
        names = re.findall(r"\{(\w+)\}", path)
        if not names:
            continue
        body = a_body(operation)
        unknown = {name: f"{UNKNOWN[name]}-00000-00000-0000000000000000" for name in names}
        for garbage in [unknown[names[-1]], *(GARBAGE if method == "get" else GARBAGE[::3])]:
            target = path.format_map({**unknown, names[-1]: garbage})
            action = ""
            if method != "get":
                opened = door.open(door.admin, method.upper(), target, body)
                if opened.status == 200:
                    signed = opened.body
                    answered = door.answer(door.admin, signed["challengeIdentifier"], signed["challenge"])
                    action = answered.ok()["userAction"]
                else:
                    assert (opened.status, opened.field) == (400, "userActionHttpPath")
            answer = door.call(method.upper(), target, body, token=door.admin.token, action=action)
            assert answer.status == 404, (method, target, answer.raw)
            check_refusal(answer)
            checked += 1
    assert checked > 250
    assert door.stored() == before


def test_no_body_sets_what_only_the_server_decides(door: Door) -> None:
    """Mass assignment: members of the answers are not members of the bodies."""
    checked = 0
    before = door.stored()
    for method, path, operation in described(door):
        body = a_body(operation)
        if body is None and method == "get":
            continue
        target = re.sub(r"\{(\w+)\}", lambda match: f"{UNKNOWN[match[1]]}-00000-00000-0000000000000000", path)
        for name in ("id", "status", "state", "orgId2", "isImmutable", "version", "mayVote", "permissions"):
            if name == "status" and ("webhooks" in path or "policies" in path):
                continue  # a webhook's is the caller's to set; a policy's is ignored, see below
            answer = door.call(method.upper(), target, {**(body or {}), name: "x"}, token=door.admin.token)
            assert (answer.status, answer.field) == (400, name), (method, path, answer.raw)
            checked += 1
    assert checked > 200
    assert door.stored() == before


def test_a_policy_cannot_be_created_archived(door: Door) -> None:
    body = {**BODIES["PolicyBody"], "action": {"kind": "NoAction"}, "status": "Archived"}
    assert door.write(door.admin, "POST", "/v2/policies", body).ok()["status"] == "Active"


def test_every_write_without_a_signature_or_a_token_is_refused(door: Door) -> None:
    before = door.stored()
    for method, path, operation in described(door):
        target = re.sub(r"\{(\w+)\}", lambda match: f"{UNKNOWN[match[1]]}-00000-00000-0000000000000000", path)
        body = a_body(operation)
        security = operation["security"]
        if security:
            for token in ("", "x", "a.b.c", "é", door.admin.token[:-2], "x" * 9000):
                answer = door.call(method.upper(), target, body, token=token)
                check_refusal(answer)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path)
        if security and "userAction" in security[0]:
            for action in ("", "x", "a.b", "é", "x" * 9000):
                answer = door.call(method.upper(), target, body, token=door.admin.token, action=action)
                check_refusal(answer)
                assert (answer.status, answer.code) == (403, "action_signature_invalid"), (method, path)
    assert door.stored() == before


def test_a_url_is_looked_at_only_for_who_may_set_it(door: Door, bot: Who) -> None:
    seen = len(door.courier.checked)
    body = {"url": "https://inside.example", "events": ["*"]}
    answer = door.write(bot, "POST", "/webhooks", body)
    assert (answer.status, answer.code) == (403, "not_permitted")
    assert len(door.courier.checked) == seen
    answer = door.refused(door.admin, "POST", "/webhooks", {**body, "url": "https://refused.example"})
    assert (answer.status, answer.field) == (400, "url")
