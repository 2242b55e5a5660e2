"""Policies about changes of settings, and limits in base units of single assets (design section 6)."""

import json
from typing import Any

import pytest

from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput
from outlay.core.policy import (
    GOVERNING,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    UNFREEZE,
    WALLETS_SIGN,
    AlwaysTrigger,
    AssetLimit,
    Block,
    Evaluation,
    Facts,
    Filters,
    NominalLimit,
    Policy,
    evaluate,
    governs,
    matches,
)
from outlay.core.policy_document import parse_policy, read_policy, stored_document, wire_document

TOKEN = "0x" + "ab" * 20
MIXED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
ASK = {"kind": "RequestApproval", "approvalGroups": [{"quorum": 1, "approvers": {"userId": {"in": ["us-a"]}}}]}
BLOCK = {"kind": "Block"}
ALWAYS = {"kind": "AlwaysTrigger", "configuration": {}}
OWN_FILTER = {POLICIES_MODIFY: "policyId", PERMISSIONS_MODIFY: "permissionId", PERMISSIONS_ASSIGN: "permissionId"}
"""Of the governing kinds that have one: ``Outlay:Unfreeze`` is about all that is stopped."""


def parse(
    *, kind: str = WALLETS_SIGN, rule: Any = ALWAYS, action: Any = ASK, filters: Any = None, **more: Any
) -> Policy:
    document = {"name": "p", "activityKind": kind, "rule": rule, "action": action, **more}
    return parse_policy(document | ({} if filters is None else {"filters": filters}), id="plc-1", version=1)


def refused(**parts: Any) -> str | None:
    with pytest.raises(InvalidInput) as caught:
        parse(**parts)
    assert caught.value.message
    return caught.value.field


# Kinds


@pytest.mark.parametrize("kind", OWN_FILTER)
def test_a_governing_policy_is_read_kept_and_answered(kind: str) -> None:
    filters = {OWN_FILTER[kind]: {"in": ["x-1", "x-2"]}}
    found = parse(kind=kind, filters=filters)
    assert found.activity_kind == kind and found.rule == AlwaysTrigger()
    member = found.filters.policy_ids if kind == POLICIES_MODIFY else found.filters.permission_ids
    assert member == ("x-1", "x-2")
    assert wire_document(found)["filters"] == filters and wire_document(found)["activityKind"] == kind
    assert read_policy(json.loads(json.dumps(stored_document(found))), id="plc-1", version=1) == found
    assert parse(kind=kind).filters == parse(kind=kind, filters={}).filters == Filters()


@pytest.mark.parametrize("kind", GOVERNING)
def test_a_governing_policy_judges_no_payout(kind: str) -> None:
    assert not matches(parse(kind=kind), "wa-1", {"a"})


@pytest.mark.parametrize("kind", GOVERNING)
@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "TransactionAmountLimit", "configuration": {"limit": 1, "currency": "USD"}},
        {"kind": "TransactionCountVelocity", "configuration": {"limit": 1, "timeframe": 1}},
        {"kind": "TransactionRecipientWhitelist", "configuration": {"addresses": []}},
    ],
)
def test_a_governing_policy_has_the_rule_always_trigger(kind: str, rule: dict[str, Any]) -> None:
    assert refused(kind=kind, rule=rule) == "rule.kind"


def test_what_a_governing_policy_may_do() -> None:
    assert parse(kind=PERMISSIONS_MODIFY, action=BLOCK).action == Block()
    assert parse(kind=PERMISSIONS_ASSIGN, action=BLOCK).action == Block()
    assert parse(kind=UNFREEZE, action=BLOCK).action == Block()
    assert refused(kind=POLICIES_MODIFY, action=BLOCK) == "action.kind"
    for kind in GOVERNING:
        assert refused(kind=kind, action={"kind": "NoAction"}) == "action.kind"


@pytest.mark.parametrize("kind", [WALLETS_SIGN, *GOVERNING])
@pytest.mark.parametrize("name", ["walletId", "walletTags", "policyId", "permissionId"])
def test_each_kind_has_its_own_filters(kind: str, name: str) -> None:
    filters = {name: {"hasAny": ["a"]} if name == "walletTags" else {"in": ["x-1"]}}
    own = ("walletId", "walletTags") if kind == WALLETS_SIGN else (OWN_FILTER.get(kind),)
    if name in own:
        assert wire_document(parse(kind=kind, filters=filters))["filters"] == filters
    else:
        assert refused(kind=kind, filters=filters) == f"filters.{name}"


@pytest.mark.parametrize("kind", OWN_FILTER)
@pytest.mark.parametrize("ids", [[], ["x-1", "x-1"], [1], None, "x-1"])
def test_a_filter_lists_different_ids(kind: str, ids: Any) -> None:
    name = OWN_FILTER[kind]
    field = refused(kind=kind, filters={name: {"in": ids}})
    assert field is not None and field.startswith(f"filters.{name}.in")


@pytest.mark.parametrize("kind", GOVERNING)
def test_a_governing_group_lists_somebody(kind: str) -> None:
    nobody = {"kind": "RequestApproval", "approvalGroups": [{"quorum": 1, "approvers": {"userId": {"in": []}}}]}
    assert refused(kind=kind, action=nobody) == "action.approvalGroups[0].approvers.userId.in"


@pytest.mark.parametrize("kind", ["Wallets:IncomingTransaction", "Registry:Addresses:Modify", "policies:modify", ""])
def test_another_kind_is_refused(kind: str) -> None:
    assert refused(kind=kind) == "activityKind"


def test_what_a_governing_policy_is_about() -> None:
    all_policies, one_policy = parse(kind=POLICIES_MODIFY), parse(kind=POLICIES_MODIFY, filters={"policyId": ids("p")})
    assert governs(all_policies, policy_id="p") and governs(one_policy, policy_id="p")
    assert governs(all_policies, policy_id="q") and not governs(one_policy, policy_id="q")
    assert not governs(all_policies, permission_id="p") and not governs(one_policy, permission_id="p")
    for kind in (PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN):
        every, one = parse(kind=kind), parse(kind=kind, filters={"permissionId": ids("p")})
        assert governs(every, permission_id="q") and governs(one, permission_id="p")
        assert not governs(one, permission_id="q") and not governs(every, policy_id="q")
    assert not governs(parse(), policy_id="p", permission_id="p")
    assert not governs(parse(kind=UNFREEZE), policy_id="p", permission_id="p")


def ids(*those: str) -> dict[str, list[str]]:
    return {"in": list(those)}


def test_the_reason_says_what_waits() -> None:
    facts = Facts(value=1, recipient=TOKEN)
    assert "change" in (evaluate(parse(kind=POLICIES_MODIFY), facts).reason or "")
    assert "payout" in (evaluate(parse(), facts).reason or "")


# TransactionAmountLimitNominal


def asset(tid: Any = "native:eth", limit: Any = "5", network: Any = "Ethereum", **more: Any) -> dict[str, Any]:
    return {"network": network, "tid": tid, "limit": limit, **more}


def nominal(*assets: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "TransactionAmountLimitNominal", "configuration": {"assets": list(assets), **more}}


def judge(
    *limits: AssetLimit, amount: int | None = 5, tid: str | None = "native:eth", on: str | None = "Ethereum"
) -> Evaluation:
    rule = NominalLimit(limits or (AssetLimit("Ethereum", "native:eth", 5),))
    policy = Policy(id="plc-1", version=1, name="p", rule=rule, action=Block(), filters=Filters())
    return evaluate(policy, Facts(value=None, recipient=None, network=on, tid=tid, amount=amount))


def test_more_than_the_limit_of_its_asset_triggers() -> None:
    assert not judge(amount=5).triggered
    over = judge(amount=6)
    assert over.triggered and over.reason == (
        "The transfer is of 6 base units of native:eth on Ethereum, more than the limit of 5."
    )
    assert over.context == {
        "rule": "TransactionAmountLimitNominal",
        "network": "Ethereum",
        "tid": "native:eth",
        "amount": "6",
        "threshold": "5",
    }


def test_an_amount_is_compared_exactly() -> None:
    assert judge(AssetLimit("Ethereum", "native:eth", 2**60), amount=2**60 + 1).triggered


def test_each_asset_has_its_own_limit() -> None:
    limits = (
        AssetLimit("Ethereum", "native:eth", 5),
        AssetLimit("Ethereum", f"erc20:{TOKEN}", 10**30),
        AssetLimit("Base", "native:eth", 7),
        AssetLimit("Base", f"erc20:{TOKEN}", 0),
    )
    assert not judge(*limits, amount=10**30, tid=f"erc20:{TOKEN}").triggered
    assert judge(*limits, amount=10**30 + 1, tid=f"erc20:{TOKEN}").triggered
    assert not judge(*limits, amount=7, on="Base").triggered
    assert judge(*limits, amount=7).triggered
    assert judge(*limits, amount=1, tid=f"erc20:{TOKEN}", on="Base").triggered


def test_an_asset_that_is_not_listed_passes() -> None:
    unlisted = judge(amount=10**40, tid=f"erc20:{TOKEN}")
    assert not unlisted.triggered and unlisted.context["threshold"] is None
    assert not judge(amount=10**40, on="Base").triggered
    assert not judge(amount=10**40, on="ethereum").triggered


@pytest.mark.parametrize("unknown", [{"amount": None}, {"tid": None}, {"on": None}])
def test_an_unknown_asset_or_amount_triggers(unknown: dict[str, Any]) -> None:
    assert judge(**unknown).triggered and judge(**unknown).reason


def test_a_native_coin_under_another_symbol_triggers() -> None:
    assert judge(amount=1, tid="native:weth").triggered
    assert not judge(AssetLimit("Ethereum", f"erc20:{TOKEN}", 5), amount=9, tid="native:weth").triggered


def test_an_asset_is_named_as_in_the_contract() -> None:
    coin = Asset(network="Polygon", kind="Native", contract=None, symbol="POL", decimals=18)
    token = Asset(network="Polygon", kind="Erc20", contract=TOKEN, symbol="USDC", decimals=6)
    assert (coin.tid, token.tid) == ("native:pol", f"erc20:{TOKEN}")


def test_limits_are_read_kept_and_answered_in_lower_case() -> None:
    most = 2**256 - 1
    rule = nominal(asset("native:ETH", "0"), asset(f"erc20:{MIXED}", str(most)), asset(network="Base"))
    found = parse(rule=rule, action=BLOCK)
    assert found.rule == NominalLimit(
        (
            AssetLimit("Ethereum", "native:eth", 0),
            AssetLimit("Ethereum", f"erc20:{MIXED.lower()}", most),
            AssetLimit("Base", "native:eth", 5),
        )
    )
    assert wire_document(found)["rule"] == nominal(
        asset(limit="0"), asset(f"erc20:{MIXED.lower()}", str(most)), asset(network="Base")
    )
    assert parse_policy(wire_document(found), id="plc-1", version=1) == found
    assert read_policy(json.loads(json.dumps(stored_document(found))), id="plc-1", version=1) == found


def test_a_hundred_assets_and_no_more() -> None:
    many = [asset(f"erc20:0x{n:040x}") for n in range(101)]
    found = parse(rule=nominal(*many[:100]))
    assert isinstance(found.rule, NominalLimit) and len(found.rule.assets) == 100
    assert refused(rule=nominal(*many)) == "rule.configuration.assets"


FIRST = "rule.configuration.assets[0]"
BAD_NOMINAL: list[tuple[Any, str]] = [
    ({"kind": "TransactionAmountLimitNominal"}, "rule.configuration"),
    (nominal(), "rule.configuration.assets"),
    (nominal(asset(), currency="USD"), "rule.configuration.currency"),
    (nominal("native:eth"), FIRST),
    (nominal(asset(decimals=18)), f"{FIRST}.decimals"),
    (nominal({"tid": "native:eth", "limit": "5"}), f"{FIRST}.network"),
    (nominal(asset(network="")), f"{FIRST}.network"),
    (nominal(asset(network=1)), f"{FIRST}.network"),
    *(
        (nominal(asset(limit=limit)), f"{FIRST}.limit")
        for limit in (5, None, True, "", "-1", "+1", "05", "1.0", "1e3", "0x5", " 5", "\u0665", str(2**256), "9" * 5000)
    ),
    *(
        (nominal(asset(tid)), f"{FIRST}.tid")
        for tid in (
            None,
            7,
            "",
            "eth",
            "native:",
            "native: eth",
            "native:eth ",
            "native:a  b",
            "NATIVE:eth",
            "erc20:usdc",
            "erc20:0x12",
            f"erc20:{TOKEN}0",
            f"erc20:{TOKEN.upper()}",
            "erc20:" + MIXED[:-1] + "D",
            "erc721:" + TOKEN + ":1",
            "spl:So11111111111111111111111111111111111111112",
            "native:" + "e" * 194,
            "native:" + "İ" * 193,
        )
    ),
    (nominal(asset(), asset(limit="6")), "rule.configuration.assets[1].tid"),
    (nominal(asset(), asset("native:ETH")), "rule.configuration.assets[1].tid"),
    (nominal(asset(), asset("native:pol")), "rule.configuration.assets[1].tid"),
    (nominal(asset(f"erc20:{MIXED}"), asset(f"erc20:{MIXED.lower()}")), "rule.configuration.assets[1].tid"),
]


@pytest.mark.parametrize(("rule", "field"), BAD_NOMINAL)
def test_a_bad_limit_of_an_asset_is_refused_by_field(rule: Any, field: str) -> None:
    assert refused(rule=rule) == field


def test_the_refusal_of_an_asset_says_why_it_could_never_match() -> None:
    with pytest.raises(InvalidInput, match="never apply"):
        parse(rule=nominal(asset("erc721:0x1:2")))
    with pytest.raises(InvalidInput, match="one native coin"):
        parse(rule=nominal(asset(), asset("native:pol")))
