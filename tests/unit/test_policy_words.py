"""What policies do, in words."""

from typing import Any

import pytest

from outlay.core.policy_document import parse_policy, preset_policies
from outlay.core.policy_words import dollars, policy_words, stretch

NAMES = {"us-1": "ops@example.com", "us-2": "approver@example.com", "wa-1": "wallet one"}


def words(rule: dict[str, Any], action: dict[str, Any], **more: Any) -> str:
    document = {"name": "a policy", "activityKind": "Wallets:Sign", "rule": rule, "action": action, **more}
    return policy_words(parse_policy(document, id="plc-1", version=1), lambda name: NAMES.get(name, name))


def velocity(kind: str, limit: int, minutes: int, scope: str) -> dict[str, Any]:
    currency = {"currency": "USD"} if kind == "Amount" else {}
    configuration = {"limit": limit, "timeframe": minutes, "scope": scope, **currency}
    return {"kind": f"Transaction{kind}Velocity", "configuration": configuration}


OVER = {"kind": "TransactionAmountLimit", "configuration": {"limit": 10_000, "currency": "USD"}}
ALWAYS = {"kind": "AlwaysTrigger", "configuration": {}}
BLOCK, REPORT = {"kind": "Block"}, {"kind": "NoAction"}


def asks(*groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "RequestApproval", "autoRejectTimeout": None, "approvalGroups": list(groups), **more}


def group(quorum: int, *people: str, **more: Any) -> dict[str, Any]:
    return {"quorum": quorum, "approvers": {"userId": {"in": list(people)}} if people else {}, **more}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (OVER, "if it is worth more than $10,000"),
        (ALWAYS, "whatever it is"),
        (velocity("Amount", 100_000, 1440, "policy"), "more than $100,000 would leave within 24 hours"),
        (velocity("Amount", 1, 90, "wallet"), "within 90 minutes from one wallet"),
        (velocity("Count", 1000, 60, "organization"), "more than 1,000 payouts within 1 hour from all wallets of the"),
        (velocity("Count", 1, 2880, "recipient"), "within 2 days to one recipient"),
        (velocity("Count", 1, 1, "initiator"), "within 1 minute asked for by one person or machine"),
        (
            {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": ["0x" + "1a" * 20]}},
            "if its recipient is not one of the 1 listed",
        ),
        ({"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": []}}, "whoever it goes to"),
        (
            {
                "kind": "TransactionAmountLimitNominal",
                "configuration": {
                    "assets": [{"network": "EthereumSepolia", "tid": "native:ETH", "limit": "1000000"}],
                },
            },
            "if it is more than 1,000,000 base units of native:eth on EthereumSepolia",
        ),
    ],
)
def test_the_rule_is_said_with_its_figures(rule: dict[str, Any], said: str) -> None:
    assert said in words(rule, REPORT)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (BLOCK, ": it is refused."),
        (REPORT, ": it goes on, and this is reported."),
        (asks(group(1, "us-1")), "until ops@example.com agrees."),
        (asks(group(2, "us-1", "us-2")), "until 2 of ops@example.com and approver@example.com agree."),
        (asks(group(1)), "until 1 person of the organization agrees."),
        (asks(group(2)), "until 2 people of the organization agree."),
        (asks(group(1, "us-1"), group(1, "us-2")), "until ops@example.com agrees, and approver@example.com agrees."),
        (asks(group(1, initiatorCanApprove=True)), "agrees, who may be whoever asked."),
        (asks(group(1, "us-1"), autoRejectTimeout=1440), "; unanswered it is refused after 24 hours."),
        (asks(group(1, "us-1"), per="batch"), "(the payouts of a batch may be agreed to all at once)"),
    ],
)
def test_what_comes_of_it_is_said_with_the_names_of_people(action: dict[str, Any], said: str) -> None:
    assert said in words(OVER, action)


def test_a_cap_says_that_payouts_wait_for_room() -> None:
    told = words(velocity("Amount", 5, 60, "wallet"), {"kind": "Block", "wait": 120})
    assert "it waits for room, at most 2 hours, and is refused then" in told


def test_a_group_of_nobody_is_told_as_such() -> None:
    cap, held, stranger = (
        policy_words(parse_policy(each, id="plc-1", version=1, allow_empty=True))
        for each in preset_policies("standard")
    )
    assert "nobody" not in cap
    assert all("nobody is listed yet, so it can never go" in each for each in (held, stranger))


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({}, "A payout from any wallet,"),
        ({"walletTags": {"hasAny": ["eu", "us"]}}, "A payout from a wallet tagged eu or us,"),
        ({"walletTags": {"hasAll": ["eu", "hot"]}}, "A payout from a wallet tagged eu and hot,"),
        ({"walletId": {"in": ["wa-1"]}}, "A payout from wallet one,"),
        (
            {"walletId": {"in": ["wa-1"]}, "walletTags": {"hasAny": ["eu"]}},
            "A payout from wallet one and from a wallet tagged eu,",
        ),
    ],
)
def test_what_it_is_about_is_said(filters: dict[str, Any], said: str) -> None:
    assert words(OVER, BLOCK, filters=filters).startswith(said)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Policies:Modify", "A change of policies or of what they depend on: the change waits"),
        ("Permissions:Assign", "A change of who holds permissions: the change waits"),
        ("Outlay:Unfreeze", "A change of what is frozen, to let it go: the change waits"),
    ],
)
def test_changes_are_said_as_such(kind: str, said: str) -> None:
    assert words(ALWAYS, asks(group(1, "us-1")), activityKind=kind).startswith(said)


@pytest.mark.parametrize(
    ("minutes", "said"), [(1, "1 minute"), (90, "90 minutes"), (60, "1 hour"), (1440, "24 hours"), (4320, "3 days")]
)
def test_stretches_of_time(minutes: int, said: str) -> None:
    assert stretch(minutes) == said


@pytest.mark.parametrize(("value", "said"), [(0, "$0"), (10**12, "$10,000"), (10**7, "$0.10"), (1, "$0.00000001")])
def test_dollars_are_exact(value: int, said: str) -> None:
    assert dollars(value) == said
