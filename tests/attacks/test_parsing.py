"""Attacks on reading: one text that two readers take for two things, values of the wrong type, look-alikes."""

import json
from typing import Any

import pytest

from outlay.evidence.attestation import new_key_pair
from tests.attacks.attacker import calls, refused, untouched
from tests.door import NETWORK, TOKEN, Door, Who, transfer

# What was signed and what is sent

PAYOUT = '"kind":"Native","to":"0x1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a"'

SWAPS = {
    "a number for a text": ('"amount":"5"', '"amount":5'),
    "a longer text": ('"amount":"5"', '"amount":"50"'),
    "the first of two": ('"amount":"5"', '"amount":"9","amount":"5"'),
    "the last of two": ('"amount":"5"', '"amount":"5","amount":"9"'),
    "two spelled differently": ('"amount":"5"', '"amount":"5","\\u0061mount":"9"'),
    "another case": ('"amount":"5"', '"amount":"5","Amount":"9"'),
    "a prototype": ('"amount":"5"', '"amount":"5","__proto__":{"amount":"9"}'),
    "a digit of another script": ('"amount":"5"', '"amount":"\\u0665"'),
    "a full-width digit": ('"amount":"5"', '"amount":"\\uff15"'),
    "a hidden character": ('"amount":"5"', '"amount":"5\\u200b"'),
    "a NUL": ('"amount":"5"', '"amount":"5\\u00009"'),
    "a trailing space": ('"amount":"5"', '"amount":"5 "'),
    "a leading zero": ('"amount":"5"', '"amount":"05"'),
    "null": ('"amount":"5"', '"amount":"5","priority":null'),
    "an exponent": ('"amount":"5"', '"amount":"5e0"'),
    "a point": ('"amount":"5"', '"amount":"5.0"'),
    "a comment": ('"amount":"5"', '"amount":"9" /* "amount":"5" */'),
    "text after the object": ('"amount":"5"', '"amount":"5"}{"amount":"9"'),
}


@pytest.mark.parametrize("how", SWAPS)
def test_the_body_sent_is_read_as_the_body_signed(door: Door, payer: Who, path: str, how: str) -> None:
    """The attacker, in the middle, sends a body that some reader takes for the signed one (F68, F69, F73)."""
    signed, sent = (f'{{{PAYOUT},"externalId":"swap",{part}}}' for part in SWAPS[how])
    action = door.sign(payer, "POST", path, signed)
    with untouched(door):
        answer = door.call("POST", path, sent.encode(), token=payer.token, action=action)
        assert (answer.status, answer.code) in ((400, "invalid_input"), (403, "action_signature_invalid"))


AMBIGUOUS = {
    "a member twice": '{"amount":"5","amount":"9"}',
    "a byte order mark": '\ufeff{"amount":"5"}',
    "two objects": '{"amount":"5"}{"amount":"9"}',
    "half a surrogate pair": '{"amount":"\\ud800"}',
    "an integer that doubles cannot tell apart": '{"amount":9007199254740993}',
    "the same with a point": '{"amount":9007199254740993.0}',
    "an infinite number": '{"amount":1e400}',
    "NaN": '{"amount":NaN}',
    "Infinity": '{"amount":-Infinity}',
    "5,000 digits": '{"amount":' + "9" * 5000 + "}",
    "100,000 lists": "[" * 60_000,
    "17 objects": '{"a":' * 17 + "1" + "}" * 17,
    "a list": '[{"amount":"5"}]',
    "a text in a text": '"{\\"amount\\":\\"5\\"}"',
    "a control character": '{"amount":"5\n"}',
    "direction of writing": '{"amount":"\u202e5"}',
    "decomposed letters": '{"name":"cafe\u0301"}',
    "single quotes": "{'amount':'5'}",
    "a form": "amount=5",
}


@pytest.mark.parametrize("how", AMBIGUOUS)
def test_a_challenge_is_asked_for_a_text_that_has_two_readings(door: Door, payer: Who, path: str, how: str) -> None:
    """The attacker has something signed that the signer's screen and the server read differently (F68, F70, F73)."""
    with untouched(door):
        answer = door.open(payer, "POST", path, AMBIGUOUS[how])
        refused(answer, 400, "invalid_input")


SPELLINGS = {
    "an integral float": ('"quorum":1', '"quorum":1.0'),
    "an exponent": ('"quorum":1', '"quorum":10e-1'),
    "an escaped name": ('"quorum":1', '"\\u0071uorum":1'),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_two_spellings_of_one_value_have_two_effects(door: Door, how: str) -> None:
    """The attacker signs one spelling and sends another: it passes only because it is the same policy (F68)."""
    form = (
        '{"name":"same","activityKind":"Wallets:Sign","rule":{"kind":"AlwaysTrigger"},'
        '"action":{"kind":"RequestApproval","approvalGroups":[{"approvers":{},%s}]},'
        '"filters":{"walletTags":{"hasAny":["nobody"]}}}'
    )
    signed, sent = (form % part for part in SPELLINGS[how])
    action = door.sign(door.admin, "POST", "/v2/policies", signed)
    made = door.call("POST", "/v2/policies", sent.encode(), token=door.admin.token, action=action).ok()
    quorum = made["action"]["approvalGroups"][0]["quorum"]
    assert (quorum, type(quorum)) == (1, int)


# Types


def wrong_types(schema: dict[str, Any]) -> list[Any]:
    """Return values that a lenient reader would coerce into what the schema asks for."""
    kinds = {schema.get("type"), *(each.get("type") for each in schema.get("oneOf", []))}
    kinds |= set(schema["type"]) if isinstance(schema.get("type"), list) else set()
    if "boolean" in kinds:
        return [1, 0, "true", "false", "", [], 1.0]
    if {"integer", "string"} <= kinds:
        return [True, 1.5, ["x"], {"x": "x"}]
    if "integer" in kinds:
        return [True, False, "1", 1.5, [1]]
    if "string" in kinds or "const" in schema or "enum" in schema:
        return [True, 1, 1.5, ["x"], {"x": "x"}]
    if "array" in kinds:
        return ["x", {"0": "x"}, True, 1]
    if "object" in kinds:
        return ["x", [], True, 1]
    return []


def test_a_member_of_another_type_is_coerced(door: Door) -> None:
    """The attacker sends ``true`` for 1, ``"1"`` for 1, a list for a text, to every member of every body (F67)."""
    schemas = door.get("/openapi.json").ok()["components"]["schemas"]
    tried = 0
    before = door.stored()
    for method, target, body, operation in calls(door):
        if body is None:
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        schema = schema["oneOf"][0] if "oneOf" in schema else schema
        schema = schemas[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
        for name, member in schema.get("properties", {}).items():
            for value in wrong_types(member):
                answer = door.call(method, target, {**body, name: value}, token=door.admin.token)
                assert answer.status in (400, 401), (method, target, name, value, answer.raw)
                assert answer.status == 401 or (answer.field or "").startswith(name), (name, value, answer.raw)
                tried += 1
    assert door.stored() == before
    assert tried > 150


NUMBERS: list[Any] = [True, "1", 1.5, -1, 2**53, [1], None]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
@pytest.mark.parametrize("member", ["quorum", "limit", "timeframe", "autoRejectTimeout", "daysValid"])
def test_a_number_deep_in_a_body_is_coerced(door: Door, member: str, value: Any) -> None:
    """The attacker writes a quorum of ``true`` or a limit of ``"1"`` where only a whole number will do (F67)."""
    if (member, value) in (("limit", 2**53), ("autoRejectTimeout", None), ("daysValid", None)):
        return  # too large to be a JSON integer is tried below; null is "not given"
    if member == "daysValid":
        body: dict[str, Any] = {"name": "x", "publicKey": new_key_pair()[1], "daysValid": value}
        answer = door.refused(door.admin, "POST", "/auth/service-accounts", body)
    else:
        configuration = {"limit": 5, "timeframe": 60}
        action = {"kind": "RequestApproval", "approvalGroups": [{"quorum": 1, "approvers": {}}]}
        body = {
            "name": "x",
            "activityKind": "Wallets:Sign",
            "rule": {"kind": "TransactionCountVelocity", "configuration": configuration},
            "action": action,
        }
        if member in configuration:
            configuration[member] = value
        elif member == "quorum":
            action["approvalGroups"][0]["quorum"] = value  # type: ignore[index]
        else:
            action[member] = value
        answer = door.refused(door.admin, "POST", "/v2/policies", body)
    assert answer.status == 400
    assert (answer.field or "").endswith(member) or answer.field == "body"


# Look-alikes


@pytest.mark.parametrize(
    "address",
    [
        "0x" + "1\u0430" * 20,  # Cyrillic a
        "0x" + "1\uff41" * 20,  # full width a
        "\u0030\u200dx" + "1a" * 20,
        "0\u0445" + "1a" * 20,  # Cyrillic x
        "0x" + "1a" * 19 + "1\u0251",
        "0x" + "Ia" * 20,
        "0x" + "lA" * 20,
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD".replace("5aAe", "5AAe"),  # one letter in the other case
        "ethereum:0x" + "1a" * 20,
        "0x" + "1a" * 20 + "@1",
        "0x" + "1a" * 32,
    ],
)
def test_an_address_looks_like_another(door: Door, payer: Who, path: str, address: str) -> None:
    """The attacker changes an address so that a person does not see it (F54, F73)."""
    for body, field in ((transfer(to=address), "to"), (transfer(kind="Erc20", contract=address), "contract")):
        answer = door.refused(payer, "POST", path, body)
        assert (answer.status, answer.field) == (400, field)


@pytest.mark.parametrize(
    ("target", "body", "field"),
    [
        ("/wallets", {"network": "EthereumSep\u043elia"}, "network"),
        ("/wallets", {"network": NETWORK.lower()}, "network"),
        ("/wallets", {"network": NETWORK + " "}, "network"),
        ("/wallets", {"network": NETWORK, "tags": ["p\u0430youts"]}, "tags[0]"),
        ("/wallets", {"network": NETWORK, "tags": ["payouts "]}, "tags[0]"),
        ("/wallets", {"network": NETWORK, "tags": [" payouts"]}, "tags[0]"),
        ("/wallets", {"network": NETWORK, "tags": ["payouts\n"]}, "tags[0]"),
        ("/wallets", {"network": NETWORK, "name": "pay\u00adouts"}, "name"),
        ("/auth/users", {"email": "ops@example.com\n", "kind": "CustomerEmployee"}, "email"),
        ("/auth/users", {"email": " ops@example.com", "kind": "CustomerEmployee"}, "email"),
        ("/auth/users", {"email": "ops\u200b@example.com", "kind": "CustomerEmployee"}, "email"),
        ("/auth/users", {"email": "ops\u0000@example.com", "kind": "CustomerEmployee"}, "email"),
        ("/auth/users", {"email": "cafe\u0301@example.com", "kind": "CustomerEmployee"}, "email"),
        ("/auth/users", {"email": "ops@example.com", "kind": "CustomerEmploye\u0435"}, "kind"),
        ("/permissions", {"name": "admin\u2066", "operations": ["Wallets:Read"]}, "name"),
    ],
)
def test_a_name_looks_like_another(door: Door, target: str, body: dict[str, Any], field: str) -> None:
    """The attacker brings in a name, a tag or a network that people take for the real one (F73)."""
    answer = door.refused(door.admin, "POST", target, body)
    assert (answer.status, answer.field) == (400, field)


def test_a_tag_differs_from_the_filters_tag_only_in_case(door: Door) -> None:
    """The attacker tags a wallet ``Payouts`` where the policy says ``payouts``: two tags, shown as two (F73)."""
    wallet = door.wallet("Payouts")["id"]
    assert door.get(f"/wallets/{wallet}").ok()["tags"] == ["Payouts"]
    door.write(door.admin, "PUT", f"/wallets/{wallet}/tags", {"tags": ["payouts"]}).ok()
    assert door.get(f"/wallets/{wallet}").ok()["tags"] == ["Payouts", "payouts"]


@pytest.mark.parametrize("spelled", [TOKEN.upper().replace("0X", "0x"), TOKEN])
def test_a_listed_recipient_is_spelled_in_another_case(door: Door, payer: Who, spelled: str) -> None:
    """The attacker writes the listed address in another case, or lists it so, to pass or to miss the list (F69)."""
    wallet = door.wallet(f"listed-{spelled[2:6]}")["id"]
    listed = "0x" + "AB" * 20
    policy = {
        "name": "only known",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": [listed]}},
        "action": {"kind": "Block"},
        "filters": {"walletTags": {"hasAny": [f"listed-{spelled[2:6]}"]}},
    }
    door.write(door.admin, "POST", "/v2/policies", policy).ok()
    for to, status in ((listed, "Executing"), (listed.lower(), "Executing"), ("0x" + "AC" * 20, "Rejected")):
        body = transfer(kind="Erc20", contract=spelled, to=to)
        assert door.write(payer, "POST", f"/wallets/{wallet}/transfers", body).ok()["status"] == status


def test_the_payload_is_hidden_behind_another_content_type(door: Door, payer: Who, path: str) -> None:
    """The attacker sends the signed payload as text for the signature and another as a form for the route (F67)."""
    body = transfer()
    action = door.sign(payer, "POST", path, body)
    boundary = "x"
    form = f'--{boundary}\r\ncontent-disposition: form-data; name="amount"\r\n\r\n9\r\n--{boundary}--\r\n'
    headers = {"authorization": f"Bearer {payer.token}", "x-dfns-useraction": action}
    with untouched(door):
        for kind, raw in (
            (f"multipart/form-data; boundary={boundary}", form.encode()),
            ("application/x-www-form-urlencoded", b"amount=9"),
            ("text/json", json.dumps(body).encode()),
            ("application/json, text/plain", json.dumps(body).encode()),
            ("application/json; charset=utf-7", json.dumps(body).encode()),
            ("application/vnd.api+json", json.dumps(body).encode()),
        ):
            answer = door.send("POST", path, raw, {**headers, "content-type": kind})
            assert answer.status == 415, kind
