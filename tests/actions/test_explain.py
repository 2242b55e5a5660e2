"""Explanations: every policy that was there, what it saw and why it had nothing to say; redacted where it has to be."""

import json
from typing import Any
from unittest.mock import Mock

import pytest

from outlay.actions import present_payouts
from outlay.actions.act import digest_of_set
from outlay.actions.explain import explain
from outlay.core.errors import NotFound
from outlay.core.operation import OPERATIONS
from outlay.core.seams import HOUR
from outlay.store import policy_history, transfers
from tests.actions.documents import ALWAYS, BLOCK, REPORT, ask, at_most, cap, group, known, over
from tests.actions.world import ALICE, BOB, Actor, World

ALL = frozenset(OPERATIONS)
PAYER = frozenset({"Wallets:Transfers:Read", "Wallets:Transfers:Create", "Policies:Read"})


def told(world: World, transfer_id: str, operations: frozenset[str] = ALL) -> dict[str, Any]:
    with world.unit() as unit:
        return explain(unit, transfer_id, world.config, operations)


def results(explained: dict[str, Any]) -> dict[str, str]:
    return {each["policyId"]: each["result"] for each in explained["policies"]}


def by_id(explained: dict[str, Any], policy_id: str) -> dict[str, Any]:
    (found,) = [each for each in explained["policies"] if each["policyId"] == policy_id]
    return dict(found)


def test_every_policy_is_told_also_those_that_were_about_something_else(world: World, bot: Actor, one: Actor) -> None:
    wallet, other = world.wallet("payouts"), world.wallet("elsewhere")
    small = world.policy(over(1000), ask(group(one)), tags=["payouts"])
    day = world.policy(cap(100), BLOCK)
    tagged = world.policy(ALWAYS, BLOCK, tags=["elsewhere", "nowhere"])
    only = world.policy(ALWAYS, BLOCK, only=[other])
    governing = world.policy(ALWAYS, ask(group()), kind="Policies:Modify")
    world.pay(bot, wallet, 30)
    paid = world.pay(bot, wallet, 20, to=BOB)["id"]

    explained = told(world, paid)
    assert results(explained) == {
        small: "passed",
        day: "passed",
        tagged: "not_matching",
        only: "not_matching",
        governing: "not_matching",
    }
    assert explained["verdict"]["kind"] == "allow" and explained["policiesAreCertain"]
    (seen,) = by_id(explained, day)["evaluations"]
    assert (seen["context"]["sum"], seen["context"]["count"], seen["context"]["value"]) == ("30", 1, "20")
    assert (seen["context"]["threshold"], seen["context"]["price"]) == ("100", "1")
    assert by_id(explained, tagged)["why"] == (
        "It is about wallets with one of the tags elsewhere, nowhere; this wallet's tags were: payouts."
    )
    assert by_id(explained, only)["why"] == f"It is about other wallets than {wallet}."
    assert by_id(explained, governing)["why"] == "It is about Policies:Modify, and this is Wallets:Sign."
    text = "\n".join(explained["words"])
    assert f"of 20 USDC to {BOB}" in text and "the policies let it go" in text
    assert "USD 20, beside USD 30 of 1 payouts within 60 minutes (policy), is no more than USD 100." in text
    assert "this wallet's tags were: payouts" in text and "Nobody was asked." in text


def test_what_was_in_force_then_is_told_not_what_is_now(world: World, bot: Actor) -> None:
    wallet = world.wallet("payouts")
    gone = world.policy(over(1000), BLOCK, tags=["other"])
    edited = world.policy(over(1000), BLOCK, tags=["other"])
    world.clock.step(micros=HOUR)
    paid = world.pay(bot, wallet, 20)["id"]
    world.clock.step(micros=HOUR)
    world.archive_policy(gone)
    world.replace_policy(edited, over(1), BLOCK)
    world.policy(ALWAYS, BLOCK)
    world.tag(wallet, "other")

    explained = told(world, paid)
    assert results(explained) == {gone: "not_matching", edited: "not_matching"}
    assert by_id(explained, edited)["version"] == 1
    assert "this wallet's tags were: payouts." in by_id(explained, gone)["why"]


def test_policies_of_one_instant_are_told_apart_by_the_digest(world: World, bot: Actor) -> None:
    wallet = world.wallet("payouts")
    before = world.policy(over(1000), BLOCK, tags=["other"])
    paid = world.pay(bot, wallet, 20)["id"]
    world.policy(ALWAYS, BLOCK)  # within the same microsecond of the still clock
    assert results(told(world, paid)) == {before: "not_matching"}


def test_who_decided_and_what_does_not_count(world: World, bot: Actor, one: Actor, two: Actor) -> None:
    wallet = world.wallet()
    held_by = world.policy(over(10), ask(group(one, quorum=1), group(two, quorum=1), timeout=60))
    paid = world.pay(bot, wallet, 20)["id"]
    world.decide(one, paid, reason="as agreed")

    waiting = told(world, paid)
    assert waiting["verdict"]["kind"] == "hold"
    assert [each["agreed"] for each in waiting["approval"]["groups"]] == [[one.user_id], []]
    text = "\n".join(waiting["words"])
    assert "It is held." in text and "waits for an answer" in text and "It runs out at" in text
    assert f"approver.one@example.com ({one.user_id}) approved at" in text and 'saying "as agreed"' in text
    assert f"A group of policy {held_by} ({two.user_id}): 0 of 1 needed." in text

    world.deactivate(one)
    (voided,) = told(world, paid)["approval"]["decisions"]
    assert (voided["counts"], voided["whyNot"]) == (False, "this user is not active")
    assert [each["agreed"] for each in told(world, paid)["approval"]["groups"]] == [[], []]


def test_the_whole_way_of_a_payout_is_told(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(at_most(5), BLOCK)
    paid = world.pay(bot, wallet, 20)["id"]
    world.leave(paid)
    world.mine(paid)
    assert world.settle(paid) == "confirmed"

    explained = told(world, paid)
    (policy,) = explained["policies"]
    assert [each["moment"] for each in policy["evaluations"]] == ["admission", "binding"]
    assert [each["event"] for each in explained["history"]] == [
        "allowed",
        "assigned",
        "signed",
        "sent",
        "mined",
        "paid",
    ]
    assert explained["transaction"] == {
        "hash": f"0x{paid}",
        "blockNumber": 7,
        "blockHash": "0x07",
        "isFinal": True,
    }
    assert [each["purpose"] for each in explained["construction"]["attempts"]] == ["payout"]
    text = "\n".join(explained["words"])
    assert "It is paid." in text and f"Transaction 0x{paid} is in block 7, finally" in text
    assert json.loads(json.dumps(explained)) == explained


def test_blocked_waiting_and_nothing_at_all(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    free = told(world, world.pay(bot, wallet, 1)["id"])
    assert (free["verdict"]["byDefault"], free["policies"]) == (True, [])
    assert "no policy was about it, and the default decided" in "\n".join(free["words"])

    world.policy(cap(100), {"kind": "Block", "wait": 60})
    world.pay(bot, wallet, 90)
    waits = told(world, world.pay(bot, wallet, 20)["id"])
    assert waits["verdict"]["kind"] == "wait" and "It waits for room under a cap." in waits["words"]

    listed = world.policy(known(ALICE), BLOCK)
    world.policy(ALWAYS, REPORT)
    refused = told(world, world.pay(bot, wallet, 1, to=BOB)["id"])
    assert refused["verdict"]["kind"] == "block" and by_id(refused, listed)["result"] == "triggered"
    why = by_id(refused, listed)["why"]
    assert any(line.startswith("  When asked for, ") and line.endswith(f": {why}") for line in refused["words"])


def test_who_may_not_read_policies_is_told_kinds_and_verdicts(world: World, bot: Actor, one: Actor) -> None:
    wallet = world.wallet("payouts")
    world.policy(cap(123_456), BLOCK)
    world.policy(over(77), ask(group(one)))
    world.policy(ALWAYS, BLOCK, tags=["secret-tag"])
    world.pay(bot, wallet, 54_321, to=BOB)  # held, and counted
    paid = world.pay(bot, wallet, 80)["id"]
    world.decide(one, paid, "Denied", reason="not today")

    whole, part = json.dumps(told(world, paid)), told(world, paid, PAYER)
    hidden = ("123456", "54321", "77", one.user_id, "secret-tag", "a policy")
    for each in hidden:
        assert each in whole, each
        assert each not in json.dumps(part), each
    reason = f"Denied by {one.username}: not today"
    assert part["payout"]["reason"] == reason and f"  {reason}" in part["words"]
    assert part["redacted"] and part["verdict"]["kind"] == "hold"
    assert [(each["rule"], each["result"]) for each in part["policies"]] == sorted(
        [
            ("TransactionAmountVelocity", "passed"),
            ("TransactionAmountLimit", "triggered"),
            ("AlwaysTrigger", "not_matching"),
        ],
        key=lambda pair: [each["rule"] for each in part["policies"]].index(pair[0]),
    )
    assert part["approval"]["status"] == "Denied"
    for missing in ("Policies:Read", "Policies:Evaluations:Read"):
        assert told(world, paid, ALL - {missing})["redacted"]


def test_the_reason_of_a_payout_is_told_to_whoever_may_read_it_and_no_other_limit(world: World, bot: Actor) -> None:
    wallet = world.wallet()
    world.policy(over(777), BLOCK)
    world.policy(over(88_888), BLOCK)
    paid = world.pay(bot, wallet, 1000)["id"]
    with world.unit() as unit:
        reason = present_payouts.payout(transfers.get(unit, paid), world.config)["reason"]
    assert "the limit of USD 777" in reason
    part = told(world, paid, PAYER)
    assert part["payout"]["reason"] == reason
    hidden = {key: value for key, value in part.items() if key not in ("payout", "words")}
    assert "777" not in json.dumps(hidden) and "88888" not in json.dumps(part)


def test_an_explanation_reads_one_record_a_policy_however_often_it_was_changed(
    world: World, bot: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = world.wallet("payouts")
    edited = [world.policy(over(1000), BLOCK, tags=["other"]) for _ in range(2)]
    gone = world.policy(over(1000), BLOCK, tags=["other"])
    for number in range(15):
        world.replace_policy(edited[number % 2], over(1000 + number), BLOCK, tags=["other"])
    world.archive_policy(gone)
    world.clock.step(micros=HOUR)
    paid = world.pay(bot, wallet, 20)["id"]
    digests, records = Mock(side_effect=digest_of_set), Mock(side_effect=policy_history._written)
    monkeypatch.setattr("outlay.actions.explain.digest_of_set", digests)
    monkeypatch.setattr(policy_history, "_written", records)
    explained = told(world, paid)
    assert results(explained) == dict.fromkeys(edited, "not_matching") and explained["policiesAreCertain"]
    assert {by_id(explained, each)["version"] for each in edited} == {8, 9}
    assert digests.call_count == 1
    assert records.call_count <= 4  # genesis and three policies


@pytest.mark.parametrize("later", [0, 3, -3])
def test_the_digest_decides_where_the_clock_misleads(world: World, bot: Actor, later: int) -> None:
    wallet = world.wallet("payouts")
    for number in range(5):
        world.policy(over(1000 + number), BLOCK, tags=["other"])
        world.clock.step(micros=HOUR)
    paid = world.pay(bot, wallet, 20)["id"]
    for number in range(5):
        world.clock.step(micros=HOUR)
        world.policy(over(2000 + number), BLOCK, tags=["other"])
    with world.unit() as unit:  # as if the clock had been wrong by hours when it was asked for
        at = transfers.get(unit, paid).requested_at + later * HOUR
        unit.exec_driver_sql(f"UPDATE transfer SET requested_at = {at} WHERE id = '{paid}'")
    explained = told(world, paid)
    assert explained["policiesAreCertain"] and len(explained["policies"]) == 5


def test_there_is_nothing_to_tell_of_what_is_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        told(world, "xfr-00000-00000-0000000000000000")
