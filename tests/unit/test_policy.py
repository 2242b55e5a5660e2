"""Policies: what triggers, what all of them say together, and their JSON form (design section 6)."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from outlay.core.errors import InvalidInput
from outlay.core.policy import (
    Action,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
    Block,
    CountVelocity,
    Evaluation,
    Facts,
    Filters,
    Group,
    NoAction,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    Velocity,
    counts,
    evaluate,
    matches,
    required_groups,
    verdict,
)
from outlay.core.policy_document import (
    parse_policy,
    preset_policies,
    read_policy,
    stored_document,
    wire_document,
)
from outlay.core.velocity import Scope, Window

USD = 10**8
KNOWN = "0x" + "ab" * 20
OTHER = "0x" + "cd" * 20
ONE = RequestApproval(None, (Group(name=None, quorum=1, approvers=None),))


def policy(rule: Rule, action: Action | None = None, *, id: str = "plc-1", **filters: Any) -> Policy:
    return Policy(id=id, version=1, name="p", rule=rule, action=action or Block(), filters=Filters(**filters))


def judge(rule: Rule, *, value: int | None = USD, to: str | None = KNOWN, window: Window | None = None) -> Evaluation:
    return evaluate(policy(rule), Facts(value=value, recipient=to), window)


def document(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Large payouts",
        "activityKind": "Wallets:Sign",
        "rule": {"kind": "TransactionAmountLimit", "configuration": {"limit": 10000, "currency": "USD"}},
        "action": {
            "kind": "RequestApproval",
            "autoRejectTimeout": 1440,
            "approvalGroups": [
                {
                    "name": "Treasury",
                    "quorum": 1,
                    "approvers": {"userId": {"in": ["us-a", "us-b"]}},
                    "initiatorCanApprove": False,
                    "serviceAccountsCanApprove": False,
                }
            ],
        },
        "filters": {"walletTags": {"hasAny": ["payouts"]}},
        **changes,
    }


def parse(**changes: Any) -> Policy:
    return parse_policy(document(**changes), id="plc-1", version=1)


def velocity_rule(kind: str = "TransactionAmountVelocity", **changes: Any) -> dict[str, Any]:
    money = {"currency": "USD"} if kind == "TransactionAmountVelocity" else {}
    return {"kind": kind, "configuration": {"limit": 5, "timeframe": 60, **money, **changes}}


class Literal(float):
    """A number that remembers its literal, as the body reader makes them."""

    text: str


def literal(text: str) -> Literal:
    number = Literal(text)
    number.text = text
    return number


# --- which policies apply --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"wallet_ids": ("wa-1", "wa-2")}, True),
        ({"wallet_ids": ("wa-2",)}, False),
        ({"tags_any": ("x", "a")}, True),
        ({"tags_any": ("x", "y")}, False),
        ({"tags_all": ("a", "b")}, True),
        ({"tags_all": ("a", "x")}, False),
        ({"tags_any": ("a",), "tags_all": ("a", "x")}, False),
        ({"wallet_ids": ("wa-1",), "tags_any": ("x",)}, False),
        ({"wallet_ids": ("wa-1",), "tags_any": ("a",), "tags_all": ("b",)}, True),
    ],
)
def test_filters_all_have_to_hold(filters: dict[str, Any], expected: bool) -> None:
    assert matches(policy(AlwaysTrigger(), **filters), "wa-1", {"a", "b"}) is expected


def test_a_policy_for_another_activity_does_not_match() -> None:
    other = Policy(
        id="plc-1",
        version=1,
        name="p",
        rule=AlwaysTrigger(),
        action=Block(),
        filters=Filters(),
        activity_kind="Policies:Modify",
    )
    assert not matches(other, "wa-1", ())


def test_scope_organization_counts_wallets_the_filters_do_not_match() -> None:
    everywhere = policy(AmountVelocity(1, 60, Scope.ORGANIZATION), tags_any=("payouts",))
    shared = policy(AmountVelocity(1, 60, Scope.POLICY), tags_any=("payouts",))
    assert counts(everywhere, "wa-1", ()) and not counts(shared, "wa-1", ())
    assert counts(shared, "wa-1", ("payouts",))
    assert not counts(policy(AmountLimit(1)), "wa-1", ())


# --- rules -----------------------------------------------------------------------------------------------------


def test_always_trigger_triggers() -> None:
    assert judge(AlwaysTrigger()).triggered


@pytest.mark.parametrize(("value", "expected"), [(USD - 1, False), (USD, False), (USD + 1, True)])
def test_equal_to_an_amount_limit_does_not_trigger(value: int, expected: bool) -> None:
    assert judge(AmountLimit(USD), value=value).triggered is expected


@pytest.mark.parametrize(("before", "expected"), [(0, False), (4 * USD, False), (4 * USD + 1, True)])
def test_equal_to_a_velocity_limit_does_not_trigger(before: int, expected: bool) -> None:
    found = judge(AmountVelocity(5 * USD, 60), window=Window(before, 1, 0))
    assert found.triggered is expected


@pytest.mark.parametrize(("before", "expected"), [(0, False), (1, False), (2, True)])
def test_equal_to_a_count_limit_does_not_trigger(before: int, expected: bool) -> None:
    assert judge(CountVelocity(2, 60), window=Window(0, before, 0)).triggered is expected


def test_a_limit_is_exact_where_a_float_is_not() -> None:
    large = 2**60
    assert judge(AmountLimit(large), value=large + 1).triggered
    assert judge(AmountVelocity(large, 60), value=1, window=Window(large, 1, 0)).triggered


def test_a_count_limit_of_zero_triggers_for_the_first() -> None:
    assert judge(CountVelocity(0, 60), window=Window()).triggered


def test_unknown_price_triggers() -> None:
    assert judge(AmountLimit(10**30), value=None).triggered
    assert judge(AmountVelocity(10**30, 60), value=None, window=Window()).triggered


def test_an_entry_without_a_value_in_the_window_triggers() -> None:
    found = judge(AmountVelocity(10**30, 60), window=Window(0, 1, 1))
    assert found.triggered and found.context["unknown"] == 1


def test_an_unknown_value_does_not_trigger_a_count() -> None:
    assert not judge(CountVelocity(5, 60), value=None, window=Window(0, 1, 1)).triggered


def test_unreadable_recipient_triggers() -> None:
    assert judge(RecipientWhitelist((), frozenset({KNOWN})), to=None).triggered


def test_a_recipient_that_is_not_listed_triggers() -> None:
    rule = RecipientWhitelist((KNOWN,), frozenset({KNOWN}))
    assert not judge(rule, to=KNOWN).triggered
    assert judge(rule, to=OTHER).triggered
    assert judge(RecipientWhitelist((), frozenset())).triggered


@pytest.mark.parametrize("rule", [AmountVelocity(10**30, 60), CountVelocity(10**6, 60)])
def test_a_window_that_could_not_be_read_triggers(rule: Rule) -> None:
    assert judge(rule, window=None).triggered


def test_every_evaluation_carries_what_it_was_computed_from() -> None:
    rule = AmountVelocity(100 * USD + 50_000_000, 1440, Scope.POLICY)
    facts = Facts(value=3 * USD, recipient=KNOWN, price="1.5", price_source="static", price_at=17)
    found = evaluate(policy(rule, id="plc-7"), facts, Window(99 * USD, 4, 0))
    assert (found.policy_id, found.version, found.action, found.triggered) == ("plc-7", 1, "Block", True)
    assert found.context == {
        "rule": "TransactionAmountVelocity",
        "currency": "USD",
        "threshold": "100.5",
        "value": "3",
        "sum": "99",
        "count": 4,
        "unknown": 0,
        "timeframe": 1440,
        "scope": "policy",
        "price": "1.5",
        "priceSource": "static",
        "priceAt": 17,
    }
    assert found.reason is not None and "USD 102" in found.reason and "USD 100.5" in found.reason
    assert json.loads(json.dumps(found.context)) == found.context


def test_an_evaluation_that_does_not_trigger_has_no_reason_but_its_context() -> None:
    found = judge(AmountLimit(5 * USD))
    assert found.reason is None and found.context["threshold"] == "5" and found.context["value"] == "1"
    assert judge(CountVelocity(3, 5), window=Window(0, 1, 0)).context == {
        "rule": "TransactionCountVelocity",
        "threshold": 3,
        "timeframe": 5,
        "scope": "wallet",
        "count": 1,
    }
    listed = RecipientWhitelist((KNOWN,), frozenset({KNOWN}))
    assert judge(listed).context == {
        "rule": "TransactionRecipientWhitelist",
        "recipient": KNOWN,
        "listed": 1,
    }


# --- waiting for room -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "window", "wait"),
    [
        (AmountVelocity(5 * USD, 60), 5 * USD, Window(1, 1, 0), 30),
        (AmountVelocity(5 * USD, 60), 5 * USD + 1, Window(1, 1, 0), None),
        (AmountVelocity(5 * USD, 60), 1, Window(0, 1, 1), 30),  # what has no value leaves the window
        (AmountVelocity(5 * USD, 60), None, Window(5 * USD, 1, 0), None),
        (AmountVelocity(5 * USD, 60), USD, None, None),
        (CountVelocity(1, 60), USD, Window(0, 1, 0), 30),
        (CountVelocity(0, 60), USD, Window(0, 0, 0), None),
    ],
)
def test_only_what_fits_into_an_empty_window_may_wait_for_room(
    rule: Velocity, value: int | None, window: Window | None, wait: int | None
) -> None:
    policy = Policy(id="a", version=1, name="a", rule=rule, action=Block(wait=30), filters=Filters())
    found = evaluate(policy, Facts(value=value, recipient=None), window)
    assert (found.triggered, found.wait) == (True, wait)
    assert not evaluate(replace(policy, action=Block()), Facts(value=value, recipient=None), window).wait


def test_a_wait_is_kept_and_answered_and_left_out_where_there_is_none() -> None:
    rule = {"kind": "TransactionCountVelocity", "configuration": {"limit": 5, "timeframe": 60}}
    for action in ({"kind": "Block", "wait": 10_080}, {"kind": "Block"}):
        document = {"name": "a", "activityKind": "Wallets:Sign", "rule": rule, "action": action}
        policy = parse_policy(document, id="a", version=1)
        assert wire_document(policy)["action"] == stored_document(policy)["action"] == action
        assert read_policy(stored_document(policy), id="a", version=1) == policy


def test_whoever_waits_keeps_those_behind_from_passing() -> None:
    policy = Policy(id="a", version=1, name="a", rule=CountVelocity(5, 60), action=Block(wait=9), filters=Filters())
    facts = Facts(value=USD, recipient=None)
    assert not evaluate(policy, facts, Window()).triggered
    assert evaluate(policy, facts, Window(), queue=True).wait == 9
    assert not evaluate(replace(policy, action=Block()), facts, Window(), queue=True).triggered


def test_it_waits_only_if_every_cap_lets_it_and_for_the_shortest_time() -> None:
    full = [answer("Block", True, name, wait=minutes) for name, minutes in (("a", 30), ("b", 20))]
    found = verdict([*full, answer("RequestApproval", True, "c")], default="allow")
    assert (found.kind, found.full, found.wait, found.reasons) == ("wait", ("a", "b"), 20, ("a", "b"))
    refused = verdict([*full, answer("Block", True, "d")], default="allow")
    assert (refused.kind, refused.reasons) == ("block", ("d",))


# --- verdict ---------------------------------------------------------------------------------------------------


ACTIONS: dict[str, Any] = {
    "Block": Block(),
    "RequestApproval": ONE,
    "NoAction": NoAction(),
    "Escalate": SimpleNamespace(kind="Escalate"),  # which no version has yet
}


def answer(action: str, triggered: bool, policy_id: str, *, wait: int | None = None) -> Evaluation:
    said = policy(CountVelocity(1, 60), ACTIONS[action] if wait is None else Block(wait=wait), id=policy_id)
    return Evaluation(said, Facts(value=USD, recipient=KNOWN), Window(), policy_id if triggered else None)


def test_a_triggered_block_blocks_even_if_approval_is_asked_too() -> None:
    found = verdict([answer("RequestApproval", True, "b"), answer("Block", True, "a")], default="allow")
    assert (found.kind, found.reasons, found.holding) == ("block", ("a",), ())


def test_otherwise_every_triggered_request_approval_holds() -> None:
    answers = [
        answer("RequestApproval", True, "b"),
        answer("Block", False, "x"),
        answer("RequestApproval", True, "a"),
        answer("RequestApproval", False, "c"),
    ]
    found = verdict(answers, default="allow")
    assert (found.kind, found.reasons, found.holding) == ("hold", ("a", "b"), ("a", "b"))


def test_no_action_only_reports() -> None:
    assert verdict([answer("NoAction", True, "a")], default="block").kind == "allow"


def test_nothing_triggered_allows_whatever_the_default() -> None:
    assert verdict([answer("Block", False, "a")], default="block").kind == "allow"


@pytest.mark.parametrize(("default", "expected"), [("allow", "allow"), ("block", "block"), ("alow", "block")])
def test_the_default_applies_when_no_policy_matches(default: str, expected: str) -> None:
    found = verdict([], default=default)
    assert found.kind == expected and bool(found.reasons) is (expected == "block")


def test_an_unknown_action_blocks() -> None:
    assert verdict([answer("Escalate", True, "a")], default="allow").kind == "block"


def test_all_groups_of_all_triggered_policies_are_required() -> None:
    two = (
        Group(name="B", quorum=2, approvers=("us-2", "us-1"), initiator_can_approve=True),
        Group(name=None, quorum=1, approvers=None, service_accounts_can_approve=True),
    )
    second = policy(AlwaysTrigger(), RequestApproval(5, two), id="plc-2")
    first = policy(AlwaysTrigger(), ONE, id="plc-1")
    blocking = policy(AlwaysTrigger(), Block(), id="plc-0")
    found = required_groups([second, blocking, first])
    assert found == required_groups([first, second])
    assert [(each["policyId"], each["quorum"], each["approvers"]) for each in found] == [
        ("plc-1", 1, {}),
        ("plc-2", 2, {"userId": {"in": ["us-1", "us-2"]}}),
        ("plc-2", 1, {}),
    ]
    assert found[1]["name"] == "B" and "name" not in found[2]
    assert (found[1]["initiatorCanApprove"], found[1]["serviceAccountsCanApprove"]) == (True, False)
    assert (found[2]["initiatorCanApprove"], found[2]["serviceAccountsCanApprove"]) == (False, True)


# --- JSON ------------------------------------------------------------------------------------------------------


def test_the_contract_sample_is_read() -> None:
    found = parse()
    assert found.rule == AmountLimit(10_000 * USD)
    assert found.filters == Filters(tags_any=("payouts",))
    assert found.action == RequestApproval(1440, (Group(name="Treasury", quorum=1, approvers=("us-a", "us-b")),))
    assert wire_document(found) == document()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"kind": "AlwaysTrigger"}, AlwaysTrigger()),
        ({"kind": "AlwaysTrigger", "configuration": {}}, AlwaysTrigger()),
        (velocity_rule(), AmountVelocity(5 * USD, 60, Scope.WALLET)),
        (velocity_rule(scope="recipient"), AmountVelocity(5 * USD, 60, Scope.RECIPIENT)),
        (velocity_rule("TransactionCountVelocity", limit=0), CountVelocity(0, 60, Scope.WALLET)),
        (velocity_rule("TransactionCountVelocity", scope="initiator"), CountVelocity(5, 60, Scope.INITIATOR)),
        (
            {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": ["0x" + "AB" * 20]}},
            RecipientWhitelist(("0x" + "AB" * 20,), frozenset({KNOWN})),
        ),
        (
            {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": []}},
            RecipientWhitelist((), frozenset()),
        ),
    ],
)
def test_every_rule_is_read_kept_and_answered(rule: dict[str, Any], expected: Rule) -> None:
    found = parse(rule=rule)
    assert found.rule == expected
    assert wire_document(found)["rule"] == {"configuration": {}, **rule}
    kept = json.loads(json.dumps(stored_document(found)))
    assert read_policy(kept, id="plc-1", version=1) == found


def test_the_default_scope_is_omitted_in_answers() -> None:
    found = wire_document(parse(rule=velocity_rule(scope="wallet")))
    assert "scope" not in found["rule"]["configuration"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, 0),
        (10_000, 10_000 * USD),
        (literal("10000.50"), 1_000_050_000_000),
        (literal("0.1"), 10_000_000),
        (literal("1e-8"), 1),
        (literal("1234567.12345678"), 123_456_712_345_678),
        (0.1, 10_000_000),
    ],
)
def test_limits_are_read_from_their_text_as_decimals(limit: float, expected: int) -> None:
    rule = {"kind": "TransactionAmountLimit", "configuration": {"limit": limit, "currency": "USD"}}
    found = parse(rule=rule)
    assert found.rule == AmountLimit(expected)
    answered = wire_document(found)["rule"]["configuration"]["limit"]
    assert isinstance(answered, int | float) and answered == limit
    assert read_policy(stored_document(found), id="plc-1", version=1) == found


BAD_RULES: list[tuple[Any, str]] = [
    (None, "rule"),
    ([], "rule"),
    ({"kind": "Nope"}, "rule.kind"),
    ({"kind": "ChainalysisTransactionPrescreening", "configuration": {}}, "rule.kind"),
    ({"kind": ["AlwaysTrigger"]}, "rule.kind"),
    ({"kind": "AlwaysTrigger", "configuration": {"limit": 1}}, "rule.configuration.limit"),
    ({"kind": "AlwaysTrigger", "extra": 1}, "rule.extra"),
    ({"kind": "TransactionAmountLimit"}, "rule.configuration"),
    (velocity_rule(timeframe=0), "rule.configuration.timeframe"),
    (velocity_rule(timeframe=43_201), "rule.configuration.timeframe"),
    (velocity_rule(timeframe=True), "rule.configuration.timeframe"),
    (velocity_rule(timeframe="60"), "rule.configuration.timeframe"),
    (velocity_rule(scope="planet"), "rule.configuration.scope"),
    (velocity_rule(scope=None), "rule.configuration.scope"),
    (velocity_rule(scope=["wallet"]), "rule.configuration.scope"),
    (velocity_rule(currency="EUR"), "rule.configuration.currency"),
    (velocity_rule("TransactionCountVelocity", limit=-1), "rule.configuration.limit"),
    (velocity_rule("TransactionCountVelocity", limit=True), "rule.configuration.limit"),
    (velocity_rule("TransactionCountVelocity", limit=literal("1.5")), "rule.configuration.limit"),
    (velocity_rule("TransactionCountVelocity", currency="USD"), "rule.configuration.currency"),
    *(
        (velocity_rule(limit=limit), "rule.configuration.limit")
        for limit in (
            "5",
            None,
            True,
            -1,
            literal("-0.5"),
            literal("0.000000001"),
            literal("NaN"),
            literal("Infinity"),
            literal("1e400"),
            literal("1234567.123456789"),
            literal("12345678.12345678"),
            literal("0.1000000000000000055"),
            2**53 - 1,
        )
    ),
    *(
        ({"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": addresses}}, field)
        for addresses, field in (
            (None, "rule.configuration.addresses"),
            (KNOWN, "rule.configuration.addresses"),
            ([KNOWN, ""], "rule.configuration.addresses[1]"),
            ([KNOWN, OTHER, KNOWN, "0x12"], "rule.configuration.addresses[3]"),
            (["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"[:-1] + "D"], "rule.configuration.addresses[0]"),
            ([7], "rule.configuration.addresses[0]"),
        )
    ),
]


@pytest.mark.parametrize(("rule", "field"), BAD_RULES)
def test_a_bad_rule_is_refused_by_field(rule: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(rule=rule)
    assert caught.value.field == field and caught.value.message


def approval(**changes: Any) -> dict[str, Any]:
    group = {"quorum": 1, "approvers": {"userId": {"in": ["us-a"]}}, **changes}
    return {"kind": "RequestApproval", "approvalGroups": [group]}


BAD_ACTIONS: list[tuple[Any, str]] = [
    ({"kind": "Allow"}, "action.kind"),
    ({}, "action.kind"),
    ({"kind": "Block", "approvalGroups": []}, "action.approvalGroups"),
    ({"kind": "RequestApproval"}, "action.approvalGroups"),
    ({"kind": "RequestApproval", "approvalGroups": []}, "action.approvalGroups"),
    ({**approval(), "autoRejectTimeout": 0}, "action.autoRejectTimeout"),
    ({**approval(), "autoRejectTimeout": True}, "action.autoRejectTimeout"),
    ({**approval(), "autoRejectTimeout": 10**12}, "action.autoRejectTimeout"),
    (approval(quorum=0), "action.approvalGroups[0].quorum"),
    (approval(quorum=True), "action.approvalGroups[0].quorum"),
    (approval(quorum=2), "action.approvalGroups[0].quorum"),
    (approval(approvers=None), "action.approvalGroups[0].approvers"),
    (approval(approvers={"userId": {}}), "action.approvalGroups[0].approvers.userId.in"),
    (approval(approvers={"userId": {"in": []}}), "action.approvalGroups[0].approvers.userId.in"),
    (approval(approvers={"role": {"in": ["x"]}}), "action.approvalGroups[0].approvers.role"),
    (approval(approvers={"userId": {"in": ["us-a", "us-a"]}}), "action.approvalGroups[0].approvers.userId.in[1]"),
    (approval(approvers={"userId": {"in": [1]}}), "action.approvalGroups[0].approvers.userId.in[0]"),
    (
        approval(approvers={"userId": {"in": [f"us-{n}" for n in range(101)]}}),
        "action.approvalGroups[0].approvers.userId.in",
    ),
    (approval(initiatorCanApprove="yes"), "action.approvalGroups[0].initiatorCanApprove"),
    (approval(serviceAccountsCanApprove=1), "action.approvalGroups[0].serviceAccountsCanApprove"),
    (approval(name=""), "action.approvalGroups[0].name"),
    (approval(weight=1), "action.approvalGroups[0].weight"),
]


@pytest.mark.parametrize(("action", "field"), BAD_ACTIONS)
def test_a_bad_action_is_refused_by_field(action: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(action=action)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": None}, "name"),
        ({"activityKind": "Wallets:IncomingTransaction"}, "activityKind"),
        ({"activityKind": None}, "activityKind"),
        ({"surprise": 1}, "surprise"),
        ({"filters": []}, "filters"),
        ({"filters": {"key": {}}}, "filters.key"),
        ({"filters": {"walletId": {"in": []}}}, "filters.walletId.in"),
        ({"filters": {"walletTags": {"hasAny": []}}}, "filters.walletTags.hasAny"),
        ({"filters": {"walletTags": {"hasAll": ["a", "a"]}}}, "filters.walletTags.hasAll[1]"),
        ({"filters": {"walletTags": {"hasNone": ["a"]}}}, "filters.walletTags.hasNone"),
    ],
)
def test_a_bad_policy_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(InvalidInput):
        parse_policy(body, id="plc-1", version=1)


def test_a_status_is_ignored_and_empty_filters_match_everything() -> None:
    found = parse(status="Active", filters={"walletTags": {}})
    assert found.filters == Filters() and matches(found, "wa-1", ())
    assert "filters" not in wire_document(found)


def test_actions_and_any_person_groups_are_read_and_answered() -> None:
    assert parse(action={"kind": "Block"}).action == Block()
    assert parse(action={"kind": "NoAction"}).action == NoAction()
    found = parse(
        action={
            "kind": "RequestApproval",
            "autoRejectTimeout": None,
            "approvalGroups": [{"quorum": 3, "approvers": {}}],
        }
    )
    assert found.action == RequestApproval(None, (Group(name=None, quorum=3, approvers=None),))
    assert wire_document(found)["action"]["approvalGroups"][0]["approvers"] == {}


def test_filters_are_read_and_answered() -> None:
    filters = {"walletId": {"in": ["wa-1"]}, "walletTags": {"hasAny": ["a", "b"], "hasAll": ["c"]}}
    found = parse(filters=filters)
    assert found.filters == Filters(wallet_ids=("wa-1",), tags_any=("a", "b"), tags_all=("c",))
    assert wire_document(found)["filters"] == filters


# --- presets ---------------------------------------------------------------------------------------------------


def preset(name: str) -> list[Policy]:
    return [
        parse_policy(each, id=f"plc-{place}", version=1, allow_empty=True)
        for place, each in enumerate(preset_policies(name))
    ]


def test_preset_standard() -> None:
    cap, large, unknown = preset("standard")
    assert (cap.rule, cap.action) == (AmountVelocity(100_000 * USD, 1440, Scope.POLICY), Block())
    asked = RequestApproval(1440, (Group(name="approvers", quorum=1, approvers=()),))
    assert (large.rule, large.action) == (AmountLimit(10_000 * USD), asked)
    assert (unknown.rule, unknown.action) == (RecipientWhitelist((), frozenset()), asked)


def test_preset_high_volume() -> None:
    large, cap, many = preset("high-volume")
    asked = RequestApproval(1440, (Group(name="approvers", quorum=2, approvers=()),))
    assert (large.rule, large.action) == (AmountLimit(500_000 * USD), asked)
    assert (cap.rule, cap.action) == (AmountVelocity(2_000_000 * USD, 60, Scope.POLICY), Block())
    assert (many.rule, many.action) == (CountVelocity(1000, 60, Scope.POLICY), Block())


def test_preset_none_and_unknown() -> None:
    assert preset("none") == []
    with pytest.raises(InvalidInput, match="standard"):
        preset_policies("lax")


def test_presets_have_the_filter_tag_payouts_and_only_we_may_write_empty_groups() -> None:
    for each in [*preset("standard"), *preset("high-volume")]:
        assert each.filters == Filters(tags_any=("payouts",))
        assert read_policy(stored_document(each), id=each.id, version=1) == each
        if isinstance(each.action, RequestApproval):
            assert wire_document(each)["action"]["approvalGroups"][0]["approvers"] == {"userId": {"in": []}}
            with pytest.raises(InvalidInput):
                parse_policy(wire_document(each), id="plc-1", version=1)
