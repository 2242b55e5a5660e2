"""``/v1/payouts`` over real HTTP: one signed message a call, batches, reads, and how messages are refused."""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outlay.core.seams import MINUTE, SECOND
from outlay.evidence import merkle
from outlay.evidence.canonical import canonical
from outlay.evidence.http_call import row_document, row_texts
from outlay.evidence.http_signature import Message, content_digest, read_headers, sign_message
from outlay.evidence.keys import normal_pem
from tests.door import PAYER, RECIPIENT, TOKEN, Answer, Door, Who, check_refusal, fresh_id, open_door

SERVER = "http://localhost:8000"
SINGLE, BATCH = "/v1/payouts", "/v1/payouts/batch"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def bot(door: Door) -> Who:
    return door.service_account("payouts bot", PAYER)


@pytest.fixture(scope="module")
def wallet(door: Door, bot: Who) -> str:
    made = door.wallet("payouts")
    door.clock.instant += 2 * SECOND
    return str(made["id"])


def item(wallet_id: str, **changes: Any) -> dict[str, Any]:
    given = {
        "externalId": fresh_id(),
        "walletId": wallet_id,
        "asset": "USDC",
        "recipient": RECIPIENT,
        "amount": "1000",
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def digest_of(items: Sequence[Any]) -> str:
    return merkle.digest_of([merkle.leaf(canonical(each)) for each in items])


def signed(door: Door, who: Who, path: str, raw: bytes, **changes: Any) -> dict[str, str]:
    """Return the headers that sign a call."""
    return sign_message(
        who.key,
        who.credential_id,
        **{
            "method": "POST",
            "target_uri": SERVER + path,
            "body": raw,
            "created": door.clock.now() // SECOND,
            "nonce": secrets.token_urlsafe(18),
            **changes,
        },
    )


def post(door: Door, who: Who, path: str, body: Any, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
    """Sign a call as one message and make it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = signed(door, who, path, raw, **changes) if headers is None else headers
    return door.send("POST", path, raw, {"content-type": "application/json", **given})


def post_batch(door: Door, who: Who, items: Sequence[Any], **changes: Any) -> Answer:
    return post(door, who, BATCH, {"items": list(items)}, **{"batch_digest": digest_of(items), **changes})


# One payout


def test_one_signed_call_makes_a_payout_and_the_same_again_the_same(door: Door, bot: Who, wallet: str) -> None:
    body = item(wallet, memo="Rechnung für März", priority="Fast")
    made = post(door, bot, SINGLE, body).ok()
    assert (made["state"], made["asset"], made["symbol"], made["amount"]) == ("ready", TOKEN, "USDC", "1000")
    assert (made["memo"], made["priority"], made["initiatorId"]) == (body["memo"], "Fast", bot.user_id)
    assert made["valueUsd"] == "0.00100000"
    assert post(door, bot, SINGLE, body).ok() == made
    assert post(door, bot, SINGLE, {**body, "asset": TOKEN}).ok() == made
    conflict = post(door, bot, SINGLE, {**body, "amount": "1001"})
    assert (conflict.status, conflict.details["duplicate"]["id"]) == (409, made["id"])
    assert door.get(f"{SINGLE}/{made['id']}", bot).ok() == made
    wire = door.get(f"/wallets/{wallet}/transfers/{made['id']}", bot).ok()
    assert wire["requestBody"] == {
        "kind": "Erc20",
        "contract": TOKEN,
        "to": RECIPIENT,
        "amount": "1000",
        "externalId": body["externalId"],
        "priority": "Fast",
    }
    assert wire["requester"] == {"userId": bot.user_id}


def test_an_external_id_is_one_whichever_door_it_comes_by(door: Door, bot: Who, wallet: str) -> None:
    body = item(wallet, asset="native")
    made = post(door, bot, SINGLE, body).ok()
    same = {"kind": "Native", "to": RECIPIENT, "amount": "1000", "externalId": body["externalId"]}
    again = door.write(bot, "POST", f"/wallets/{wallet}/transfers", same).ok()
    assert again["id"] == made["id"]
    # The handshake signs our own words too.
    assert door.write(bot, "POST", SINGLE, body).ok()["id"] == made["id"]
    assert post_batch(door, bot, [body]).ok()["items"][0]["payout"]["id"] == made["id"]


def test_what_is_wrong_is_named_in_our_words(door: Door, bot: Who, wallet: str) -> None:
    for change, field in (
        ({"recipient": "0x12"}, "recipient"),
        ({"recipient": "0x" + "0" * 40}, "recipient"),
        ({"recipient": TOKEN}, "recipient"),
        ({"asset": "0x" + "d" * 40}, "asset"),
        ({"asset": "0x12"}, "asset"),
        ({"asset": "DOGE"}, "asset"),
        ({"asset": None}, "asset"),
        ({"amount": "1.5"}, "amount"),
        ({"amount": 5}, "amount"),
        ({"memo": "x" * 201}, "memo"),
        ({"memo": "a\nb"}, "memo"),
        ({"externalId": None}, "externalId"),
        ({"externalId": "a b"}, "externalId"),
        ({"priority": "Now"}, "priority"),
        ({"walletId": None}, "walletId"),
        ({"poolId": "pool-00000-00000-0000000000000000"}, "walletId"),
        ({"kind": "Native"}, "kind"),
    ):
        before = door.stored()
        answer = post(door, bot, SINGLE, item(wallet, **change))
        check_refusal(answer)
        assert (answer.status, answer.field) == (400, field), (change, answer.raw)
        assert door.stored() == before
    assert post(door, bot, SINGLE, item("wa-00000-00000-0000000000000000")).status == 404
    assert post(door, bot, SINGLE, item("x", asset=TOKEN)).status == 404


# Signatures


def test_a_message_is_good_once(door: Door, bot: Who, wallet: str) -> None:
    raw = json.dumps(item(wallet)).encode()
    headers = signed(door, bot, SINGLE, raw)
    made = post(door, bot, SINGLE, raw, headers).ok()
    spent = door.spent
    again = post(door, bot, SINGLE, raw, headers)
    assert (again.status, again.code, again.details) == (403, "action_replayed", {"resultId": made["id"]})
    assert door.spent == spent
    # The nonce is spent, not only the message; by another key it is another nonce.
    nonce = secrets.token_urlsafe(18)
    post(door, bot, SINGLE, item(wallet), nonce=nonce).ok()
    assert post(door, bot, SINGLE, item(wallet), nonce=nonce).code == "action_replayed"
    other = door.service_account(f"bot {fresh_id()}", PAYER)
    door.clock.instant += SECOND
    assert post(door, other, SINGLE, item(wallet), nonce=nonce).status == 200


def test_a_refusal_of_the_action_spends_the_message_and_one_before_it_does_not(
    door: Door, bot: Who, wallet: str
) -> None:
    raw = json.dumps(item("wa-00000-00000-0000000000000000")).encode()
    headers = signed(door, bot, SINGLE, raw)
    assert [post(door, bot, SINGLE, raw, headers).status for _ in range(2)] == [404, 403]
    malformed = json.dumps(item(wallet, amount="x")).encode()
    headers = signed(door, bot, SINGLE, malformed)
    assert [post(door, bot, SINGLE, malformed, headers).status for _ in range(2)] == [400, 400]


def test_a_message_of_the_handshake_and_of_http_are_no_replays_of_each_other(door: Door, bot: Who, wallet: str) -> None:
    """Who could choose an HTTP nonce equal to that of a pending challenge gains and spoils nothing."""
    body = item(wallet)
    opened = door.open(bot, "POST", SINGLE, body).ok()
    action = door.answer(bot, opened["challengeIdentifier"], opened["challenge"]).ok()["userAction"]
    sealed = door.gate.seals.open("user-action", action)
    post(door, bot, SINGLE, item(wallet), nonce=sealed["preimage"]["nonce"]).ok()
    assert door.call("POST", SINGLE, body, token=bot.token, action=action).status == 200


@pytest.mark.parametrize(
    ("age_s", "life_s", "status"),
    [
        (0, 300, 200),
        (299, 300, 200),
        (300, 300, 403),
        (899, 900, 200),
        (900, 900, 403),
        (-1, 300, 403),
        (-61, 900, 403),
    ],
)
def test_a_message_is_good_from_now_until_it_expires(
    door: Door, bot: Who, wallet: str, age_s: int, life_s: int, status: int
) -> None:
    door.clock.instant += 20 * MINUTE
    created = door.clock.now() // SECOND - age_s
    assert post(door, bot, SINGLE, item(wallet), created=created, life_s=life_s).status == status


def test_a_clock_that_is_a_little_ahead_does_where_the_records_are_named(door: Door, bot: Who, wallet: str) -> None:
    head = door.get("/v1/records", bot).ok()["head"]
    ahead = door.clock.now() // SECOND + 30
    assert post(door, bot, SINGLE, item(wallet), created=ahead).status == 403
    assert post(door, bot, SINGLE, item(wallet), created=ahead, records_head=head).status == 200
    assert post(door, bot, SINGLE, item(wallet), created=ahead + 60, records_head=head).status == 403


def test_records_that_moved_on_are_told_and_spend_nothing(door: Door, bot: Who, wallet: str) -> None:
    head = door.get("/v1/records", bot).ok()["head"]
    raw = json.dumps(item(wallet)).encode()
    named = signed(door, bot, SINGLE, raw, records_head=head)
    unnamed = signed(door, bot, SINGLE, raw)
    door.clock.instant += 10
    door.service_account(f"bot {fresh_id()}", PAYER)
    before = door.stored(), door.spent
    for headers in (named, unnamed):
        answer = post(door, bot, SINGLE, raw, headers)
        assert (answer.status, answer.code) == (409, "head_moved")
    assert post(door, bot, SINGLE, item(wallet), records_head="0" * 64).status == 403
    assert (door.stored(), door.spent) == before
    door.clock.instant += SECOND
    assert post(door, bot, SINGLE, raw).status == 200


def test_a_changed_message_is_refused_and_leaves_nothing(door: Door, bot: Who, wallet: str) -> None:
    raw, other = json.dumps(item(wallet)).encode(), json.dumps(item(wallet)).encode()
    good = signed(door, bot, SINGLE, raw)
    text = good["signature-input"]
    before = door.stored(), door.spent
    wrong: list[tuple[bytes, dict[str, str]]] = [
        (other, good),
        (other, {**good, "content-digest": content_digest(other)}),
        (raw, {**good, "content-digest": content_digest(other)}),
        (raw, {name: value for name, value in good.items() if name != "content-digest"}),
        (raw, {name: value for name, value in good.items() if name != "signature"}),
        (raw, {**good, "signature-input": text.replace(' "content-digest"', "")}),
        (raw, {**good, "signature-input": text.replace('"@method" ', "")}),
        (
            raw,
            {**good, "signature-input": text.replace("outlay=", "sig1="), "signature": "sig1=" + good["signature"][7:]},
        ),
        (raw, {**good, "signature-input": text + ", second=" + text[7:]}),
        (raw, {**good, "signature-input": text.replace("keyid", "tag")}),
        (raw, {**good, "signature-input": text.replace("ed25519", "hmac-sha256")}),
        (raw, {**good, "signature-input": text.replace(bot.credential_id, "nobody")}),
        (raw, {**good, "signature-input": text.replace(bot.credential_id, door.admin.credential_id)}),
        (raw, {**good, "outlay-records-head": door.get("/v1/records", bot).ok()["head"]}),
        (raw, {**good, "outlay-batch-digest": "0" * 64}),
        (raw, {**good, "signature": good["signature"][:9] + "AAAA" + good["signature"][13:]}),
        (raw, {**good, "signature-input": "x"}),
        (raw, {**good, "signature-input": ""}),
        (raw, {**good, "signature-input": "é"}),
        (raw, {**good, "signature": "x" * 9000}),
    ]
    for body, headers in wrong:
        answer = post(door, bot, SINGLE, body, headers)
        check_refusal(answer)
        assert (answer.status, answer.code) == (403, "action_signature_invalid"), (headers, answer.raw)
    assert (door.stored(), door.spent) == before
    assert post(door, bot, SINGLE, raw, good).status == 200


def test_a_header_that_comes_twice_is_refused(door: Door, bot: Who, wallet: str) -> None:
    raw = json.dumps(item(wallet)).encode()
    good = signed(door, bot, SINGLE, raw)
    for name in good:
        headers = [("content-type", "application/json"), *good.items(), (name, good[name])]
        answer = door.send("POST", SINGLE, raw, headers)
        assert (answer.status, answer.code) == (403, "action_signature_invalid"), name


def test_a_message_is_for_one_target_and_method(door: Door, bot: Who, wallet: str) -> None:
    raw = json.dumps(item(wallet)).encode()
    for target in (
        SERVER + BATCH,
        SERVER + SINGLE + "/",
        SERVER + SINGLE + "?x=1",
        "https://localhost:8000" + SINGLE,
        "http://localhost" + SINGLE,
        f"http://127.0.0.1:{door.port}" + SINGLE,
        "http://pay.example" + SINGLE,
        SINGLE,
    ):
        answer = post(door, bot, SINGLE, raw, signed(door, bot, SINGLE, raw, target_uri=target))
        assert (answer.status, answer.code) == (403, "action_signature_invalid"), target
    assert post(door, bot, SINGLE, raw, signed(door, bot, SINGLE, raw, method="PUT")).status == 403
    good = signed(door, bot, SINGLE, raw)
    assert door.send("POST", SINGLE + "?x=1", raw, {"content-type": "application/json", **good}).status == 403
    assert post(door, bot, SINGLE, raw, good).status == 200


def test_a_message_signs_payouts_and_nothing_else(door: Door, bot: Who, wallet: str) -> None:
    """Other writes take a challenge and a bearer token; a signature beside them changes nothing."""
    for method, path, body in (
        ("POST", f"/wallets/{wallet}/transfers", {"kind": "Native", "to": RECIPIENT, "amount": "1", "externalId": "z"}),
        ("POST", "/v2/policy-approvals/ap-00000-00000-0000000000000000/decisions", {"value": "Approved"}),
        ("PUT", f"/wallets/{wallet}/tags", {"tags": ["a"]}),
        ("POST", "/v2/policies", {"name": "x"}),
    ):
        raw = json.dumps(body).encode()
        headers = {"content-type": "application/json", **signed(door, door.admin, path, raw, method=method)}
        assert door.send(method, path, raw, headers).status in (400, 401), path
        bearer = {**headers, "authorization": f"Bearer {door.admin.token}"}
        assert door.send(method, path, raw, bearer).status in (400, 403), path


def test_who_may_not_pay_or_is_switched_off_is_refused_at_once(door: Door, wallet: str) -> None:
    reader = door.service_account(f"reader {fresh_id()}", ["Wallets:Read"])
    payer = door.service_account(f"payer {fresh_id()}", PAYER)
    door.clock.instant += SECOND
    answer = post(door, reader, SINGLE, item(wallet))
    assert (answer.status, answer.code, answer.details["operation"]) == (
        403,
        "not_permitted",
        "Wallets:Transfers:Create",
    )
    post(door, payer, SINGLE, item(wallet)).ok()
    # The key is remembered; that it was switched off is not missed for it.
    door.write(door.admin, "PUT", f"/auth/service-accounts/{payer.user_id}/deactivate", {}).ok()
    door.clock.instant += SECOND
    assert post(door, payer, SINGLE, item(wallet)).status == 401
    door.write(door.admin, "PUT", f"/auth/service-accounts/{payer.user_id}/activate", {}).ok()
    door.clock.instant += SECOND
    assert post(door, payer, SINGLE, item(wallet)).status == 200


def test_a_personal_access_tokens_key_signs_within_its_limit_while_the_token_lives(door: Door, wallet: str) -> None:
    person = door.person(f"{fresh_id()}@example.com", ["Auth:Pats:Create", *PAYER])
    keys = {}
    for name, operations in (("payer", PAYER), ("reader", ["Wallets:Read"])):
        limit = door.write(
            door.admin, "POST", "/permissions", {"name": f"{name} {fresh_id()}", "operations": list(operations)}
        ).ok()
        key = ec.generate_private_key(ec.SECP256R1())
        body = {
            "name": name,
            "publicKey": normal_pem(key.public_key()),
            "permissionId": limit["id"],
            "secondsValid": 600,
        }
        made = door.write(person, "POST", "/auth/pats", body).ok()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        keys[name] = Who(
            user_id=person.user_id,
            username=name,
            credential_id=made["credId"],
            key=key,
            private=private.decode(),
            token="",
        )
    door.clock.instant += SECOND
    assert post(door, keys["payer"], SINGLE, item(wallet)).status == 200
    assert post(door, keys["reader"], SINGLE, item(wallet)).code == "not_permitted"
    door.clock.instant += 10 * MINUTE
    assert post(door, keys["payer"], SINGLE, item(wallet)).status == 401
    assert post(door, person, SINGLE, item(wallet)).status == 200


def test_a_remembered_key_is_read_again_after_a_while(door: Door, wallet: str) -> None:
    """A name that another key got meanwhile."""
    payer = door.service_account(f"payer {fresh_id()}", PAYER)
    heir = door.service_account(f"heir {fresh_id()}", PAYER)
    door.clock.instant += SECOND
    post(door, payer, SINGLE, item(wallet)).ok()
    for name, who in (("old-" + fresh_id(), payer), (payer.credential_id, heir)):
        door.execute("UPDATE credential SET credential_id = ? WHERE credential_id = ?", name, who.credential_id)
    renamed = replace(heir, credential_id=payer.credential_id)
    assert post(door, payer, SINGLE, item(wallet)).status == 403
    assert post(door, renamed, SINGLE, item(wallet)).status == 403
    door.clock.instant += MINUTE
    assert post(door, renamed, SINGLE, item(wallet)).status == 200
    assert post(door, payer, SINGLE, item(wallet)).status == 403


def test_a_key_that_was_exchanged_behind_its_name_is_not_missed(door: Door, wallet: str) -> None:
    """The remembered key made the signature; the stored one, which alone counts, did not."""
    payer, other = (door.service_account(f"{name} {fresh_id()}", PAYER) for name in ("payer", "other"))
    door.clock.instant += SECOND
    post(door, payer, SINGLE, item(wallet)).ok()
    ((public,),) = door.rows("SELECT public_key FROM credential WHERE credential_id = ?", other.credential_id)
    door.execute("UPDATE credential SET public_key = ? WHERE credential_id = ?", public, payer.credential_id)
    answer = post(door, payer, SINGLE, item(wallet))
    assert (answer.status, answer.code) == (403, "action_signature_invalid")


# Batches


def test_a_batch_answers_each_item_by_itself_and_again_the_same(door: Door, bot: Who, wallet: str) -> None:
    items = [item(wallet, amount=str(1000 + number)) for number in range(7)]
    items[2]["walletId"] = "wa-00000-00000-0000000000000000"
    items[4]["asset"] = "0x" + "d" * 40
    answer = post_batch(door, bot, items).ok()
    assert (answer["count"], answer["refused"], answer["digest"]) == (7, 2, digest_of(items))
    assert [each["externalId"] for each in answer["items"]] == [each["externalId"] for each in items]
    assert [each["payout"]["amount"] if "payout" in each else None for each in answer["items"]] == [
        "1000", "1001", None, "1003", None, "1005", "1006",
    ]  # fmt: skip
    assert answer["items"][2]["error"]["code"] == "not_found"
    assert answer["items"][4]["error"]["details"]["field"] == "asset"
    assert all(each["payout"]["batchId"] == answer["id"] for each in answer["items"] if "payout" in each)
    assert post_batch(door, bot, items).ok() == answer
    assert door.get(f"{BATCH}/{answer['id']}", bot).ok() == answer
    listed = door.get(f"{SINGLE}?batchId={answer['id']}", bot).ok()["items"]
    assert {each["externalId"] for each in listed} == {e["externalId"] for e in answer["items"] if "payout" in e}


def test_what_was_refused_is_tried_again(door: Door, bot: Who) -> None:
    own = door.wallet()["id"]
    door.clock.instant += SECOND
    items = [item(own), item(own, asset="native")]
    door.execute("UPDATE wallet SET frozen_reason = 'looked at' WHERE id = ?", own)
    first = post_batch(door, bot, items).ok()
    assert [each["error"]["code"] for each in first["items"]] == ["precondition_failed"] * 2
    door.execute("UPDATE wallet SET frozen_reason = NULL WHERE id = ?", own)
    second = post_batch(door, bot, items).ok()
    assert (second["id"], second["refused"]) == (first["id"], 0)


def test_malformed_items_refuse_the_whole_batch_and_are_all_named(door: Door, bot: Who, wallet: str) -> None:
    items = [item(wallet) for _ in range(6)]
    items[1]["amount"], items[2]["extra"], items[3]["recipient"] = "x", 1, "0x12"
    items[4]["externalId"] = items[0]["externalId"]
    del items[5]["externalId"]
    before = door.stored()
    answer = post_batch(door, bot, items)
    check_refusal(answer)
    assert [each["field"] for each in answer.details["items"]] == [
        "items[1].amount",
        "items[2].extra",
        "items[3].recipient",
        "items[4].externalId",
        "items[5].externalId",
    ]
    assert "5 of 6" in answer.message
    assert door.stored() == before


def test_the_number_of_items_and_the_size_of_a_batch_are_limited(door: Door, bot: Who, wallet: str) -> None:
    for items in ([], [item(wallet)] * 1001):
        answer = post(door, bot, BATCH, {"items": items}, batch_digest="0" * 64)
        assert (answer.status, answer.field) == (400, "items")
    for body, field in (({}, "items"), ({"items": {}}, "items"), ({"items": [1]}, "items[0]"), ({"x": 1}, "x")):
        answer = post(door, bot, BATCH, body, batch_digest="0" * 64)
        assert (answer.status, answer.field) == (400, field), body
    large = json.dumps({"items": [item(wallet)]}).encode().ljust(2 * 1024 * 1024)
    assert post(door, bot, BATCH, large, batch_digest="0" * 64).status == 403
    assert post(door, bot, BATCH, large + b" ", batch_digest="0" * 64).status == 413
    assert post(door, bot, SINGLE, json.dumps(item(wallet)).encode().ljust(64 * 1024 + 1)).status == 413


def test_a_batch_needs_the_digest_of_its_items(door: Door, bot: Who, wallet: str) -> None:
    items = [item(wallet), item(wallet)]
    before = door.stored()
    for wrong in (None, "0" * 64, digest_of(items[:1]), digest_of([*reversed(items)])):
        answer = post_batch(door, bot, items, batch_digest=wrong)
        assert (answer.status, answer.code) == (403, "action_signature_invalid"), wrong
    answer = post(door, bot, SINGLE, items[0], batch_digest=digest_of(items[:1]))
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    handshake = door.write(bot, "POST", BATCH, {"items": items})
    assert (handshake.status, handshake.code) == (403, "action_signature_invalid")
    assert door.stored() == before
    assert post_batch(door, bot, items).status == 200


def test_the_evidence_of_a_row_is_canonical(door: Door, bot: Who, wallet: str) -> None:
    items = [item(wallet, memo="für März"), item(wallet, memo='"\\'), item(wallet)]
    answer = post_batch(door, bot, items).ok()
    for each in answer["items"]:
        ((text,),) = door.rows("SELECT document FROM evidence WHERE subject = ?", each["payout"]["id"])
        assert canonical(json.loads(text)).decode() == text
    leaves = [merkle.leaf(canonical(each)) for each in items]
    headers = signed(door, bot, BATCH, b"{}", batch_digest=digest_of(items))
    parameters, signature = read_headers(headers["signature-input"], headers["signature"])
    message = Message(
        method="POST",
        target_uri=SERVER + BATCH,
        content_digest=headers["content-digest"],
        batch_digest=headers["outlay-batch-digest"],
        parameters=parameters,
        signature=signature,
    )
    paths = merkle.paths_of(leaves)
    beside = {"credential": {"uuid": "x"}, "policySet": "y"}
    texts = row_texts(message, texts=[canonical(each) for each in items], paths=paths, beside=beside)
    for at, text in enumerate(texts):
        document = row_document(message, index=at, count=3, path=paths[at], item=items[at])
        assert canonical({**document, **beside}).decode() == text


def test_one_signed_decision_lets_a_batch_go(door: Door, bot: Who) -> None:
    """The challenge covers what waits then; a message is not taken for it."""
    person = door.person(f"{fresh_id()}@example.com", ["Policies:Evaluations:Vote"])
    tag = fresh_id()
    own = door.wallet(tag)["id"]
    asks = {"quorum": 1, "approvers": {"userId": {"in": [person.user_id]}}}
    policy = {
        "name": "salaries",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "AlwaysTrigger"},
        "action": {"kind": "RequestApproval", "approvalGroups": [asks], "per": "batch"},
        "filters": {"walletTags": {"hasAny": [tag]}},
    }
    made = door.write(door.admin, "POST", "/v2/policies", policy).ok()
    assert made["action"]["per"] == "batch"
    door.clock.instant += SECOND
    answer = post_batch(door, bot, [item(own) for _ in range(3)]).ok()
    assert [each["payout"]["state"] for each in answer["items"]] == ["held"] * 3
    path, body = f"{BATCH}/{answer['id']}/decisions", {"value": "Approved", "reason": "salaries"}
    for refused in (post(door, person, path, body), door.write(bot, "POST", path, body)):
        assert refused.status in (401, 403)
    signed_early = door.sign(person, "POST", path, body)
    alone = door.get(f"/v2/policy-approvals/{answer['items'][0]['payout']['approvalId']}").ok()
    assert alone["approvalGroups"][0]["per"] == "batch"
    door.write(person, "POST", f"/v2/policy-approvals/{alone['id']}/decisions", {"value": "Denied"}).ok()
    late = door.call("POST", path, body, token=person.token, action=signed_early)
    assert (late.status, late.code) == (409, "approval_changed")
    said = door.write(person, "POST", path, body).ok()
    assert [each["payout"]["state"] for each in said["items"]] == ["rejected", "ready", "ready"]
    again = door.write(person, "POST", path, body)
    assert (again.status, again.code) == (412, "precondition_failed")
    assert door.write(person, "POST", f"{BATCH}/bat-00000-00000-0000000000000000/decisions", body).status == 404


# Reads and taking back


def test_payouts_are_listed_newest_first_with_filters(door: Door, bot: Who) -> None:
    own = door.wallet()["id"]
    instants, made = [], []
    for number in range(5):
        door.clock.instant += 2 * SECOND
        instants.append(door.clock.now())
        made.append(post(door, bot, SINGLE, item(own, asset="native" if number % 2 else "USDC")).ok())
    mine = f"{SINGLE}?walletId={own}"

    def listed(query: str) -> list[str]:
        return [each["id"] for each in door.get(mine + query, bot).ok()["items"]]

    ids = [each["id"] for each in reversed(made)]
    assert listed("") == ids
    assert listed("&asset=native") == [ids[1], ids[3]]
    assert listed(f"&asset={TOKEN.upper().replace('0X', '0x')}") == [ids[0], ids[2], ids[4]]
    assert listed(f"&externalId={made[2]['externalId']}") == [ids[2]]
    assert listed(f"&recipient={RECIPIENT}&initiatorId={bot.user_id}&state=ready") == ids
    assert listed("&state=confirmed") == listed("&initiatorId=us-x") == listed("&poolId=x") == []
    assert listed(f"&since={made[3]['dateRequested']}") == ids[:2]
    assert listed(f"&since={made[1]['dateRequested']}&until={made[3]['dateRequested']}") == [ids[2], ids[3]]
    first = door.get(mine + "&limit=2", bot).ok()
    second = door.get(mine + f"&limit=2&paginationToken={first['nextPageToken']}", bot).ok()
    assert [each["id"] for each in first["items"] + second["items"]] == ids[:4]
    for query, field in (
        ("state=Ready", "state"),
        ("asset=USDC", "asset"),
        ("recipient=x", "recipient"),
        ("since=yesterday", "since"),
        ("until=2030-01-31", "until"),
        ("until=2030-01-31T12:00:00", "until"),
        ("since=0001-01-01T00:00:00Z", "since"),
        ("limit=0", "limit"),
    ):
        answer = door.get(f"{SINGLE}?{query}", bot)
        assert (answer.status, answer.field) == (400, field), query


def test_reads_need_a_token_and_the_permission(door: Door, bot: Who, wallet: str) -> None:
    stranger = door.service_account(f"stranger {fresh_id()}", ["Wallets:Read"])
    for path in (SINGLE, f"{SINGLE}/xfr-x", f"{BATCH}/bat-x"):
        assert door.call("GET", path).status == 401
        assert door.get(path, stranger).code == "not_permitted"
    assert door.get(f"{SINGLE}/xfr-x", bot).status == door.get(f"{BATCH}/bat-x", bot).status == 404


def test_a_payout_is_taken_back_with_a_message_without_a_body(door: Door, bot: Who, wallet: str) -> None:
    door.clock.instant += SECOND
    made = post(door, bot, SINGLE, item(wallet)).ok()
    path = f"{SINGLE}/{made['id']}/cancel"
    headers = signed(door, bot, path, b"")
    assert "content-digest" not in headers["signature-input"]
    answer = door.send("POST", path, None, headers).ok()
    assert (answer["state"], answer["id"]) == ("canceled", made["id"])
    assert post(door, bot, path, b"{}").status == 412
    other = post(door, bot, SINGLE, item(wallet)).ok()["id"]
    # A signature over no body does not go with one.
    assert (
        post(door, bot, f"{SINGLE}/{other}/cancel", b"{}", signed(door, bot, f"{SINGLE}/{other}/cancel", b"")).status
        == 403
    )
    assert door.write(bot, "POST", f"{SINGLE}/{other}/cancel").ok()["state"] == "canceled"
    assert post(door, bot, f"{SINGLE}/xfr-00000-00000-0000000000000000/cancel", b"{}").status == 404
