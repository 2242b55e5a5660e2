"""``GET /v1/payouts/{id}/explanation`` and ``POST …/resolve`` over real HTTP."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from tests.door import PAYER, RECIPIENT, Door, Who, check_refusal, fresh_id, open_door

UNKNOWN = "xfr-00000-00000-0000000000000000"
LIMIT = {
    "name": "Large payouts",
    "activityKind": "Wallets:Sign",
    "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": 4321, "currency": "USD"}},
    "action": {"kind": "RequestApproval", "approvalGroups": [{"quorum": 1, "approvers": {}}]},
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.fixture(scope="module")
def bot(door: Door) -> Who:
    return door.service_account("payouts bot", PAYER)


@pytest.fixture(scope="module")
def paid(door: Door, bot: Who) -> dict[str, Any]:
    """Return a payout that a policy looked at and let go."""
    door.write(door.admin, "POST", "/v2/policies", LIMIT).ok()
    wallet = door.wallet("payouts")
    body = {
        "externalId": fresh_id(),
        "walletId": wallet["id"],
        "asset": "USDC",
        "recipient": RECIPIENT,
        "amount": "1000000",
    }
    return dict(door.write(bot, "POST", "/v1/payouts", body).ok())


def test_an_explanation_fits_its_schema_and_is_whole_for_who_may_read_policies(door: Door, paid: Any) -> None:
    told = door.get(f"/v1/payouts/{paid['id']}/explanation", door.admin).ok()
    components = door.get("/openapi.json").ok()["components"]
    schema = {"$ref": "#/components/schemas/Explanation", "components": components}
    jsonschema_rs.validator_for(schema).validate(told)
    (policy,) = told["policies"]
    assert (policy["name"], policy["result"], told["redacted"]) == ("Large payouts", "passed", False)
    assert policy["evaluations"][0]["context"]["threshold"] == "4321"
    assert told["payout"]["id"] == paid["id"] and any("4321" in line for line in told["words"])


def test_the_machine_that_asked_is_told_kinds_and_verdicts(door: Door, bot: Who, paid: Any) -> None:
    answer = door.get(f"/v1/payouts/{paid['id']}/explanation", bot)
    told = answer.ok()
    assert told["redacted"] and told["verdict"]["kind"] == "allow"
    assert told["policies"] == [
        {"rule": "TransactionAmountLimit", "action": "RequestApproval", "result": "passed"},
    ]
    assert b"4321" not in answer.raw and b"Large payouts" not in answer.raw


def test_who_may_not_read_payouts_is_refused(door: Door, paid: Any) -> None:
    nobody = door.service_account("watcher", ["Wallets:Read"])
    answer = door.get(f"/v1/payouts/{paid['id']}/explanation", nobody)
    check_refusal(answer)
    assert (answer.status, answer.details) == (403, {"operation": "Wallets:Transfers:Read"})
    answer = door.get(f"/v1/payouts/{UNKNOWN}/explanation", door.admin)
    assert answer.status == 404


def test_only_what_had_another_effect_is_resolved_and_only_by_who_may(door: Door, bot: Who, paid: Any) -> None:
    path = f"/v1/payouts/{paid['id']}/resolve"
    good = {"outcome": "paid", "reason": "looked at it"}
    answer = door.write(bot, "POST", path, good)
    assert (answer.status, answer.details) == (403, {"operation": "Wallets:Unfreeze"})
    answer = door.write(door.admin, "POST", path, good)
    check_refusal(answer)
    assert answer.status == 412
    answer = door.write(door.admin, "POST", path, {**good, "outcome": "lost"})
    assert (answer.status, answer.field) == (400, "outcome")
    answer = door.write(door.admin, "POST", path, {**good, "reason": ""})
    assert (answer.status, answer.field) == (400, "reason")
    assert door.write(door.admin, "POST", f"/v1/payouts/{UNKNOWN}/resolve", good).status == 404
    assert door.get(f"/v1/payouts/{paid['id']}", bot).ok()["state"] == paid["state"]


def test_late_payouts_are_listed(door: Door, bot: Who, paid: Any) -> None:
    assert door.get("/v1/payouts?delayed=true", bot).ok()["items"] == []
    door.execute("UPDATE transfer SET delayed_at = 1800000000000000 WHERE id = ?", paid["id"])
    (late,) = door.get("/v1/payouts?delayed=true", bot).ok()["items"]
    assert (late["id"], late["delayedSince"]) == (paid["id"], "2027-01-15T08:00:00.000Z")
    assert door.get("/v1/payouts?delayed=false", bot).ok()["items"] == []
    answer = door.get("/v1/payouts?delayed=perhaps", bot)
    assert (answer.status, answer.field) == (400, "delayed")
