"""A signature covers one call by one identity, once, for a short time. Anything else is refused and spends nothing.

The server's clock stands still here, so that expiry is reached by moving it.
"""

import base64
import concurrent.futures
import json
from collections.abc import Iterator
from typing import Any

import pytest

from outlay.core.seams import DAY, MINUTE, SECOND
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.sign import sign_challenge
from outlay.web.gate import ACTION_TOKEN, CHALLENGE
from tests.door import PAYER, Answer, Door, Who, fresh_id, open_door, transfer


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def bot(door: Door) -> Who:
    return door.service_account("payouts bot", PAYER)


@pytest.fixture(scope="module")
def other(door: Door) -> Who:
    return door.service_account("refunds bot", PAYER)


@pytest.fixture(scope="module")
def path(door: Door) -> str:
    return f"/wallets/{door.wallet()['id']}/transfers"


def post(door: Door, who: Who, path: str, body: Any, action: str) -> Answer:
    return door.call("POST", path, body, token=who.token, action=action)


class Untouched:
    """Checks that a block stored nothing and spent no challenge."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def __enter__(self) -> None:
        self._before, self._spent = self._door.stored(), self._door.spent

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            assert self._door.stored() == self._before
            assert self._door.spent == self._spent


def challenged(door: Door, who: Who, path: str, body: Any, method: str = "POST") -> tuple[str, str]:
    opened = door.open(who, method, path, body).ok()
    return opened["challengeIdentifier"], opened["challenge"]


# What is signed


def test_a_signed_call_is_made_once_with_its_evidence(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    made = post(door, bot, path, body, door.sign(bot, "POST", path, body)).ok()
    kept = door.rows("SELECT document FROM evidence WHERE subject = ?", made["id"])
    evidence = json.loads(kept[0][0])
    assert len(kept) == 1
    assert evidence["payload"] == body
    assert (evidence["preimage"]["method"], evidence["preimage"]["path"]) == ("POST", path)


@pytest.mark.parametrize("change", [{"amount": "1001"}, {"to": "0x" + "1b" * 20}, {"externalId": "another"}, {}])
def test_another_body_than_the_signed_one_is_refused(door: Door, bot: Who, path: str, change: dict[str, str]) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    with Untouched(door):
        other = {**body, **change} if change else {**body, "priority": "Fast"}
        answer = post(door, bot, path, other, action)
        assert (answer.status, answer.code) == (403, "action_signature_invalid")
    post(door, bot, path, body, action).ok()


def test_the_same_body_in_another_spelling_is_the_same(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, json.dumps(body, indent=2))
    text = json.dumps(dict(reversed(body.items()))).replace("Native", "\\u004eative")
    post(door, bot, path, text.encode(), action).ok()


def test_another_path_or_method_than_the_signed_one_is_refused(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    wallet = door.wallet()["id"]
    with Untouched(door):
        elsewhere = f"/wallets/{wallet}/transfers"
        for method, target, sent in (("POST", elsewhere, body), ("PUT", path, body), ("POST", path + "/", body)):
            answer = post(door, bot, path, body, door.sign(bot, method, target, sent))
            assert (answer.status, answer.code) == (403, "action_signature_invalid")
    tags, tagged = f"/wallets/{wallet}/tags", {"tags": ["a"]}
    with Untouched(door):
        answer = door.call(
            "DELETE", tags, tagged, token=door.admin.token, action=door.sign(door.admin, "PUT", tags, tagged)
        )
        assert (answer.status, answer.code) == (403, "action_signature_invalid")


# Who signed


def test_a_challenge_is_answered_by_whom_it_was_issued_to(door: Door, bot: Who, other: Who, path: str) -> None:
    identifier, challenge = challenged(door, bot, path, transfer())
    with Untouched(door):
        # somebody else's bearer, somebody else's key, both, and a key under the right name
        for who, signer in ((other, bot), (bot, other), (other, other)):
            answer = door.answer(who, identifier, challenge, signer=signer)
            assert (answer.status, answer.code) == (403, "action_signature_invalid")
        factor = sign_challenge(other.key, bot.credential_id, challenge)
        body = {"challengeIdentifier": identifier, "firstFactor": factor}
        answer = door.call("POST", "/auth/action", body, token=bot.token)
        assert (answer.status, answer.code) == (403, "action_signature_invalid")
    assert door.answer(bot, identifier, challenge).status == 200


def test_a_token_is_used_by_whom_it_was_made_for(door: Door, bot: Who, other: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    with Untouched(door):
        for who in (other, door.admin):
            answer = post(door, who, path, body, action)
            assert (answer.status, answer.code) == (403, "action_signature_invalid")
        for token in ("", bot.token[:-1], bot.token + "x", "x.y.z"):
            assert door.call("POST", path, body, token=token, action=action).status == 401
    post(door, bot, path, body, action).ok()


def test_a_token_of_another_organization_means_nothing(
    door: Door, bot: Who, path: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = transfer()
    with open_door(tmp_path_factory.mktemp("elsewhere")) as elsewhere, Untouched(door):
        foreign = elsewhere.sign(elsewhere.admin, "POST", path, body)
        assert door.call("POST", path, body, token=bot.token, action=foreign).code == "action_signature_invalid"
        assert door.call("GET", "/wallets", token=elsewhere.admin.token).status == 401
        identifier, challenge = challenged(elsewhere, elsewhere.admin, path, body)
        assert door.answer(bot, identifier, challenge).code == "action_signature_invalid"


# How long


def test_a_challenge_lives_fifteen_minutes(door: Door, bot: Who, path: str) -> None:
    first, second = challenged(door, bot, path, transfer()), challenged(door, bot, path, transfer())
    door.clock.instant += 15 * MINUTE - 1
    assert door.answer(bot, *first).status == 200
    door.clock.instant += 1
    answer = door.answer(bot, *second)
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    assert "expired" in answer.message


def test_a_token_lives_five_minutes(door: Door, bot: Who, path: str) -> None:
    bodies = [transfer(), transfer()]
    first, second = [door.sign(bot, "POST", path, body) for body in bodies]
    door.clock.instant += 5 * MINUTE - 1
    post(door, bot, path, bodies[0], first).ok()
    door.clock.instant += 1
    with Untouched(door):
        answer = post(door, bot, path, bodies[1], second)
        assert (answer.status, answer.code) == (403, "action_signature_invalid")
        assert "expired" in answer.message


def test_a_challenge_answered_late_does_not_prolong_its_token(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    identifier, challenge = challenged(door, bot, path, body)
    door.clock.instant += 14 * MINUTE
    tokens = [door.answer(bot, identifier, challenge).ok()["userAction"] for _ in range(2)]
    assert tokens[0] != tokens[1]
    door.clock.instant += 5 * MINUTE
    with Untouched(door):
        assert post(door, bot, path, body, tokens[1]).status == 403


def test_bearer_tokens_end(door: Door, path: str) -> None:
    person = door.person("temp@example.com")
    brief = door.write(
        door.admin, "POST", "/auth/service-accounts", {"name": "brief", "publicKey": new_key_pair()[1], "daysValid": 1}
    ).ok()
    token = brief["accessTokens"][0]["accessToken"]
    for who_token, life in ((person.token, 8 * 60 * MINUTE), (token, DAY)):
        started = door.clock.instant
        door.clock.instant = started + life - 1
        assert door.call("GET", "/v1/config", token=who_token).status == 200
        door.clock.instant = started + life
        answer = door.call("GET", "/v1/config", token=who_token)
        assert (answer.status, answer.code) == (401, "not_authenticated")
        door.clock.instant = started


# Once


def test_a_used_token_is_told_what_it_did(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    made = post(door, bot, path, body, action).ok()
    with Untouched(door):
        for _ in range(2):
            answer = post(door, bot, path, body, action)
            assert (answer.status, answer.code) == (403, "action_replayed")
            assert answer.details["resultId"] == made["id"]


def test_two_tokens_of_one_challenge_are_one(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    identifier, challenge = challenged(door, bot, path, body)
    first, second = [door.answer(bot, identifier, challenge).ok()["userAction"] for _ in range(2)]
    made = post(door, bot, path, body, first).ok()
    answer = post(door, bot, path, body, second)
    assert (answer.code, answer.details["resultId"]) == ("action_replayed", made["id"])


def test_a_replay_is_recognized_until_the_token_has_long_expired(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    post(door, bot, path, body, action).ok()
    nonce = door.gate.seals.open(ACTION_TOKEN, action)["preimage"]["nonce"]
    kept = door.rows("SELECT keep_until FROM spent_nonce WHERE nonce = ?", nonce)[0][0]
    assert kept >= door.clock.instant + 15 * MINUTE + DAY - SECOND


def test_a_token_spent_at_the_same_instant_by_many_calls_pays_once(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(door, bot, path, body, action), range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [403] * 19
    assert {answer.code for answer in answers if answer.status == 403} == {"action_replayed"}
    assert door.rows("SELECT count(*) FROM transfer WHERE external_id = ?", body["externalId"]) == [(1,)]


def test_a_refusal_by_the_action_spends_the_challenge(door: Door, bot: Who, path: str) -> None:
    """404, 409, 412 and a 400 that the action itself finds are answers: the same signature gets no other."""
    taken = transfer()
    made = post(door, bot, path, taken, door.sign(bot, "POST", path, taken)).ok()
    abort = f"{path}/{made['id']}/abort"
    door.write(bot, "PUT", abort).ok()
    nowhere = "/wallets/wa-00000-00000-0000000000000000/transfers"
    for status, method, target, body in (
        (404, "POST", nowhere, transfer()),
        (409, "POST", path, {**taken, "amount": "2"}),
        (412, "PUT", abort, None),
        (400, "POST", path, transfer(amount="0")),
    ):
        action = door.sign(bot, method, target, body)
        before, spent = door.stored(), door.spent
        assert door.call(method, target, body, token=bot.token, action=action).status == status
        answer = door.call(method, target, body, token=bot.token, action=action)
        assert (answer.status, answer.code) == (403, "action_replayed")
        assert "resultId" not in answer.details
        assert (door.stored(), door.spent) == (before, spent + 1)


def test_a_refusal_before_the_action_spends_nothing(door: Door, bot: Who, other: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    signed = {"authorization": f"Bearer {bot.token}", "x-dfns-useraction": action}
    raw = json.dumps(body).encode()
    with Untouched(door):
        for status, answer in (
            (400, post(door, bot, path, raw[:-1], action)),
            (400, post(door, bot, path, {**body, "status": "Confirmed"}, action)),
            (401, post(door, Who(**{**vars(bot), "token": "x"}), path, body, action)),
            (403, post(door, other, path, body, action)),
            (403, post(door, bot, path, {**body, "amount": "2"}, action)),
            (404, post(door, bot, path + "/", body, action)),
            (405, door.call("PATCH", path, body, token=bot.token, action=action)),
            (413, post(door, bot, path, raw + b" " * 70_000, action)),
            (415, door.send("POST", path, raw, {**signed, "content-type": "text/plain"})),
        ):
            assert answer.status == status
    post(door, bot, path, body, action).ok()


# Revocation


def test_a_revoked_permission_stops_what_was_signed_before(door: Door, path: str) -> None:
    leaver = door.service_account("leaver", PAYER)
    body = transfer()
    action = door.sign(leaver, "POST", path, body)
    held = door.get(f"/auth/service-accounts/{leaver.user_id}").ok()["userInfo"]["permissionAssignments"][0]
    assignments = f"/permissions/{held['permissionId']}/assignments"
    door.write(door.admin, "DELETE", f"{assignments}/{held['assignmentId']}").ok()
    with Untouched(door):
        answer = post(door, leaver, path, body, action)
        assert (answer.status, answer.code) == (403, "not_permitted")
        assert answer.details["operation"] == "Wallets:Transfers:Create"
    door.write(door.admin, "POST", assignments, {"identityId": leaver.user_id}).ok()
    post(door, leaver, path, body, action).ok()  # it was never spent


def test_a_changed_or_archived_permission_takes_hold_at_once(door: Door, path: str) -> None:
    clerk = door.service_account("clerk", PAYER)
    held = door.get(f"/auth/service-accounts/{clerk.user_id}").ok()["userInfo"]["permissionAssignments"][0]
    permission = f"/permissions/{held['permissionId']}"
    body = transfer()
    action = door.sign(clerk, "POST", path, body)
    door.write(door.admin, "PUT", permission, {"operations": ["Wallets:Read"]}).ok()
    assert post(door, clerk, path, body, action).code == "not_permitted"
    assert door.get(path, clerk).code == "not_permitted"
    assert door.get("/wallets", clerk).status == 200
    door.write(door.admin, "DELETE", permission).ok()
    assert door.get("/wallets", clerk).code == "not_permitted"


def test_a_deactivated_identity_is_out_at_once(door: Door, path: str) -> None:
    leaver = door.service_account("deactivated", PAYER)
    accounts = f"/auth/service-accounts/{leaver.user_id}"
    body = transfer()
    identifier, challenge = challenged(door, leaver, path, body)
    action = door.sign(leaver, "POST", path, body)
    door.write(door.admin, "PUT", f"{accounts}/deactivate").ok()
    with Untouched(door):
        for answer in (
            door.get("/wallets", leaver),
            post(door, leaver, path, body, action),
            door.open(leaver, "POST", path, body),
            door.answer(leaver, identifier, challenge),
        ):
            assert (answer.status, answer.code) == (401, "not_authenticated")
    door.write(door.admin, "PUT", f"{accounts}/activate").ok()
    post(door, leaver, path, body, action).ok()
    door.write(door.admin, "DELETE", accounts).ok()
    assert door.get("/wallets", leaver).status == 401


def test_a_deactivated_credential_is_out_at_once(door: Door, path: str) -> None:
    """No call deactivates a credential yet; the row does, as one will."""
    leaver = door.service_account("lost key", PAYER)
    body = transfer()
    identifier, challenge = challenged(door, leaver, path, body)
    action = door.sign(leaver, "POST", path, body)
    _set_credential(door, leaver, is_active=False)
    for answer in (
        door.get("/wallets", leaver),
        post(door, leaver, path, body, action),
        door.answer(leaver, identifier, challenge),
    ):
        assert answer.status == 401
    _set_credential(door, leaver, is_active=True)
    post(door, leaver, path, body, action).ok()


def test_one_of_two_keys_deactivated_after_signing(door: Door, path: str) -> None:
    """The bearer may belong to another key of the same identity: the key that signed is looked at by itself."""
    person = door.person("two-keys@example.com", PAYER)
    spare = door.person("spare-key@example.com")
    _give_credential(door, spare, to=person)
    body = transfer()
    identifier, challenge = challenged(door, person, path, body)
    action = door.answer(person, identifier, challenge, signer=spare).ok()["userAction"]
    _set_credential(door, spare, is_active=False)
    answer = post(door, person, path, body, action)
    assert (answer.status, answer.code) == (403, "action_signature_invalid")
    answer = door.answer(person, identifier, challenge, signer=spare)
    assert (answer.status, answer.code) == (403, "action_signature_invalid")


def test_a_key_added_after_the_challenge_cannot_answer_it(door: Door, path: str) -> None:
    person = door.person("grows@example.com", PAYER)
    added = door.person("added-key@example.com")
    identifier, challenge = challenged(door, person, path, transfer())
    _give_credential(door, added, to=person)
    answer = door.answer(person, identifier, challenge, signer=added)
    assert (answer.status, answer.code) == (403, "action_signature_invalid")


def _set_credential(door: Door, who: Who, *, is_active: bool) -> None:
    door.execute("UPDATE credential SET is_active = ? WHERE credential_id = ?", is_active, who.credential_id)


def _give_credential(door: Door, who: Who, *, to: Who) -> None:
    door.execute("UPDATE credential SET user_id = ? WHERE credential_id = ?", to.user_id, who.credential_id)


def test_a_logged_out_token_is_out_at_once(door: Door) -> None:
    person = door.person("logs-out@example.com")
    again = door.log_in(person)
    assert door.call("PUT", "/auth/logout", {}, token=person.token).status == 200
    assert door.get("/v1/config", person).status == 401
    assert door.get("/v1/config", again).status == 200
    assert door.call("PUT", "/auth/logout", {"allSessions": True}, token=door.log_in(person).token).status == 200
    assert door.get("/v1/config", again).status == 401


# One kind of token for another


def test_no_token_stands_in_for_another(door: Door, bot: Who, path: str) -> None:
    person = door.person("stands-in@example.com", PAYER)
    body = transfer()
    identifier, challenge = challenged(door, person, path, body)
    action = door.answer(person, identifier, challenge).ok()["userAction"]
    begun = door.call("POST", "/auth/login/init", {"username": person.username}).ok()
    login = begun["challengeIdentifier"]
    with Untouched(door):
        for wrong in (identifier, login, person.token, bot.token, challenge):
            assert post(door, person, path, body, wrong).code == "action_signature_invalid"
        for wrong in (action, login, person.token, challenge):
            assert door.answer(person, wrong, challenge).code == "action_signature_invalid"
        for wrong in (action, identifier, person.token):
            factor = sign_challenge(person.key, person.credential_id, begun["challenge"])
            answer = door.call("POST", "/auth/login", {"challengeIdentifier": wrong, "firstFactor": factor})
            assert answer.status in (401, 403)
        for wrong in (action, identifier, login):
            assert door.call("GET", "/wallets", token=wrong).status == 401
            registration = {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": {}}}
            assert door.call("POST", "/auth/registration", registration, token=wrong).status == 401
    post(door, person, path, body, action).ok()


def test_a_login_and_an_action_do_not_answer_each_other(door: Door, path: str) -> None:
    person = door.person("crosses@example.com", PAYER)
    identifier, challenge = challenged(door, person, path, transfer())
    begun = door.call("POST", "/auth/login/init", {"username": person.username}).ok()
    with Untouched(door):
        answer = door.answer(person, identifier, begun["challenge"])
        assert (answer.status, answer.code) == (403, "action_signature_invalid")
        factor = sign_challenge(person.key, person.credential_id, challenge)
        body = {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": factor}
        answer = door.call("POST", "/auth/login", body)
        assert answer.status in (401, 403)


def test_a_login_is_answered_once(door: Door) -> None:
    person = door.person("logs-in@example.com")
    begun = door.call("POST", "/auth/login/init", {"username": person.username}).ok()
    factor = sign_challenge(person.key, person.credential_id, begun["challenge"])
    body = {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": factor}
    assert door.call("POST", "/auth/login", body).status == 200
    with Untouched(door):
        answer = door.call("POST", "/auth/login", body)
        assert (answer.status, answer.code) == (401, "not_authenticated")


def flips(text: str, step: int) -> Iterator[str]:
    """Yield the token with one bit of its sealed bytes changed, at every ``step``-th byte."""
    kid, _, body = text.partition(".")
    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    for at in range(0, len(raw), step):
        changed = raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]
        yield f"{kid}.{base64.urlsafe_b64encode(changed).decode().rstrip('=')}"


def test_a_sealed_token_with_one_bit_changed_is_nothing(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    identifier, challenge = challenged(door, bot, path, body)
    action = door.answer(bot, identifier, challenge).ok()["userAction"]
    with Untouched(door):
        for changed in flips(action, 37):
            assert post(door, bot, path, body, changed).code == "action_signature_invalid"
        for changed in flips(identifier, 37):
            assert door.answer(bot, changed, challenge).code == "action_signature_invalid"
        kid, _, sealed = action.partition(".")
        for changed in ("", ".", kid, f"{kid}.", f".{sealed}", f"x{action}", f"{action}=", f"{action}A", action[:-4]):
            assert post(door, bot, path, body, changed).status == 403
    post(door, bot, path, body, action).ok()


def test_a_leaked_sealing_key_forges_nothing(door: Door, bot: Who, other: Who, path: str) -> None:
    """Whoever can seal still has no signature: the assertion is verified again at use."""
    body = transfer()
    sealed = door.gate.seals.open(ACTION_TOKEN, door.sign(bot, "POST", path, body))
    instead = transfer(amount="999999")
    signed_for_it = door.gate.seals.open(ACTION_TOKEN, door.sign(bot, "POST", path, instead))
    by_another = door.gate.seals.open(ACTION_TOKEN, door.sign(other, "POST", path, body))
    preimage = Preimage.from_document(sealed["preimage"]).document()
    with Untouched(door):
        for forged in (
            {**sealed, "preimage": {**preimage, "payloadDigest": signed_for_it["preimage"]["payloadDigest"]}},
            {**signed_for_it, "assertion": sealed["assertion"]},
            {**sealed, "preimage": {**preimage, "nonce": "x" * 32}},
            {**sealed, "preimage": {**preimage, "issued": preimage["issued"] + 1}},
            {**sealed, "credential": by_another["credential"], "assertion": by_another["assertion"]},
            {**by_another, "preimage": {**by_another["preimage"], "identity": bot.user_id}},
        ):
            for sent in (body, instead):
                answer = post(door, bot, path, sent, door.gate.seals.seal(ACTION_TOKEN, forged))
                assert (answer.status, answer.code) == (403, "action_signature_invalid")
        other_purpose = door.gate.seals.seal(CHALLENGE, sealed)
        assert post(door, bot, path, body, other_purpose).code == "action_signature_invalid"


# The records


def test_a_change_signed_before_another_change_is_signed_again(door: Door) -> None:
    """A record names the head it was signed on; two changes signed on the same head cannot both be the next."""
    first, second = [{"name": f"p-{fresh_id()}", "operations": ["Wallets:Read"]} for _ in range(2)]
    actions = [door.sign(door.admin, "POST", "/permissions", body) for body in (first, second)]
    assert post(door, door.admin, "/permissions", first, actions[0]).status == 200
    before = door.stored()
    answer = post(door, door.admin, "/permissions", second, actions[1])
    assert (answer.status, answer.code) == (409, "head_moved")
    assert door.stored() == before
    assert post(door, door.admin, "/permissions", second, actions[1]).code == "action_replayed"
    assert door.write(door.admin, "POST", "/permissions", second).status == 200


def test_a_payout_signed_before_a_change_still_works(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    action = door.sign(bot, "POST", path, body)
    for _ in range(3):
        permission = {"name": f"p-{fresh_id()}", "operations": ["Wallets:Read"]}
        door.clock.instant += MINUTE
        door.write(door.admin, "POST", "/permissions", permission).ok()
    post(door, bot, path, body, action).ok()


def test_a_head_that_never_was_or_is_older_than_the_challenge_is_refused(door: Door, bot: Who, path: str) -> None:
    """Only who holds both the sealing key and the client's key can try this; it is refused all the same."""
    old = door.rows("SELECT hash FROM record ORDER BY seq LIMIT 1")[0][0]
    for head in ("0" * 64, old):
        body = transfer()
        opened = door.open(bot, "POST", path, body).ok()
        document = door.gate.seals.open(CHALLENGE, opened["challengeIdentifier"])["preimage"]
        forged = Preimage.from_document({**document, "recordsHead": head})
        identifier = door.gate.seals.seal(CHALLENGE, {"preimage": forged.document()})
        action = door.answer(bot, identifier, action_challenge(forged)).ok()["userAction"]
        door.clock.instant += 2 * SECOND
        with Untouched(door):
            answer = post(door, bot, path, body, action)
            assert (answer.status, answer.code) == (403, "action_signature_invalid")


# Many at once


def test_a_hundred_posts_of_one_external_id_make_one_transfer(door: Door, bot: Who, path: str) -> None:
    body = transfer()
    actions = [door.sign(bot, "POST", path, body) for _ in range(100)]
    assert len(set(actions)) == 100
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda action: post(door, bot, path, body, action), actions))
    made = {answer.ok()["id"] for answer in answers}
    assert len(made) == 1
    assert door.rows("SELECT id FROM transfer WHERE external_id = ?", body["externalId"]) == [(made.pop(),)]
    events = "SELECT count(*) FROM event WHERE kind = 'wallet.transfer.requested' AND subject = ?"
    assert door.rows(events, answers[0].body["id"]) == [(1,)]


def test_of_different_payouts_under_one_external_id_one_is_made(door: Door, bot: Who, path: str) -> None:
    shared = fresh_id()
    bodies = [transfer(externalId=shared, amount=str(1000 + n)) for n in range(20)]
    signed = [(body, door.sign(bot, "POST", path, body)) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda each: post(door, bot, path, *each), signed))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 19
    made = next(answer.body for answer in answers if answer.status == 200)
    assert {answer.details["duplicate"]["id"] for answer in answers if answer.status == 409} == {made["id"]}
    assert door.rows("SELECT count(*) FROM transfer WHERE external_id = ?", shared) == [(1,)]


def test_somebody_elses_external_id_is_a_conflict_that_tells_nothing(
    door: Door, bot: Who, other: Who, path: str
) -> None:
    body = transfer()
    door.write(bot, "POST", path, body).ok()
    answer = door.write(other, "POST", path, body)
    assert (answer.status, answer.code) == (409, "conflict")
    assert answer.details["duplicate"] == {"externalId": body["externalId"]}
