"""When one version of a policy is proven to be as strict as another; every trick that would only look so."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from outlay.core.approval import Decision, Person, outcome
from outlay.core.policy import (
    PER_BATCH,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    Action,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
    AssetLimit,
    Block,
    CountVelocity,
    Filters,
    Group,
    NoAction,
    NominalLimit,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    required_groups,
)
from outlay.core.tighter import is_tighter
from outlay.core.velocity import Scope

A, B = "0x" + "aa" * 20, "0x" + "bb" * 20
DEFAULTS = (None, "allow", "block")


def group(*approvers: str, quorum: int = 1, **flags: Any) -> Group:
    return Group(
        name=flags.pop("name", None),
        quorum=quorum,
        approvers=None if approvers == ("anybody",) else approvers,
        initiator_can_approve=flags.pop("initiator", False),
        service_accounts_can_approve=flags.pop("machines", False),
    )


def ask(*groups: Group, timeout: int | None = None) -> RequestApproval:
    return RequestApproval(timeout, groups or (group("us-1", "us-2", quorum=1),))


def policy(rule: Rule | None = None, action: Action | None = None, **more: Any) -> Policy:
    parts = {"id": "plc-1", "version": 1, "name": "p", "filters": Filters(), **more}
    return Policy(rule=rule or AlwaysTrigger(), action=action or Block(), **parts)


def known(*addresses: str) -> RecipientWhitelist:
    return RecipientWhitelist(addresses, frozenset(addresses))


def limits(**each: int) -> NominalLimit:
    """Return limits of tokens, or with ``native`` of the coin, on one network."""
    return NominalLimit(
        tuple(AssetLimit("N", f"native:{n}" if n == "eth" else f"erc20:{n}", limit) for n, limit in each.items())
    )


def check(before: Policy, after: Policy, expected: bool) -> None:
    """Compare; what is strictly tighter must be looser the other way round, whatever the default is."""
    for default in DEFAULTS:
        assert is_tighter(before, after, default=default) is expected
        if expected:
            assert not is_tighter(after, before, default=default)


@pytest.mark.parametrize(
    "each",
    [
        policy(),
        policy(AmountLimit(5), NoAction()),
        policy(CountVelocity(5, 60, Scope.RECIPIENT), ask(group(), timeout=5)),
        policy(limits(eth=1, a=2), ask(group("anybody", quorum=2, machines=True), group("us-1", initiator=True))),
        policy(action=ask(), activity_kind=POLICIES_MODIFY, filters=Filters(policy_ids=("plc-1",))),
        policy(known(A, B), filters=Filters(wallet_ids=("wa-1",), tags_any=("a", "b"), tags_all=("c",))),
        policy(filters=Filters(tags_all=())),
    ],
)
def test_an_equal_policy_is_tighter_whatever_its_name_and_version(each: Policy) -> None:
    renamed = replace(each, name="another", version=7)
    for default in DEFAULTS:
        assert is_tighter(each, renamed, default=default) and is_tighter(renamed, each, default=default)


def test_another_lineage_or_activity_is_not_compared() -> None:
    assert not is_tighter(policy(), policy(id="plc-2"))
    for kind in (PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN, POLICIES_MODIFY):
        assert not is_tighter(policy(), policy(activity_kind=kind))
        assert not is_tighter(policy(activity_kind=kind), policy())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (AmountLimit(5), AmountLimit(4)),
        (AmountLimit(5), AlwaysTrigger()),
        (AmountVelocity(5, 60), AlwaysTrigger()),
        (limits(a=1), AlwaysTrigger()),
        (known(), AlwaysTrigger()),
        (AmountVelocity(5, 60), AmountVelocity(4, 60)),
        (AmountVelocity(5, 60), AmountVelocity(5, 61)),
        (CountVelocity(5, 60, Scope.POLICY), CountVelocity(4, 61, Scope.POLICY)),
        (known(A, B), known(A)),
        (known(A), known()),
        (limits(eth=5, a=5), limits(eth=5, a=4)),
        (limits(a=5), limits(a=5, eth=10**30)),
    ],
)
def test_a_rule_that_triggers_for_more_is_tighter(before: Rule, after: Rule) -> None:
    check(policy(before), policy(after), True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # A part of it is tighter, the rest is not.
        (AmountVelocity(5, 60), AmountVelocity(4, 59)),
        (AmountVelocity(5, 60), AmountVelocity(6, 61)),
        (CountVelocity(5, 60), CountVelocity(4, 59)),
        (limits(a=5, b=5), limits(a=4, b=6)),
        (limits(a=5), limits(b=1)),
        (known(A), known(B)),
        # Other scopes add up other payouts, even where one looks wider.
        (AmountVelocity(5, 60, Scope.POLICY), AmountVelocity(1, 600, Scope.WALLET)),
        (AmountVelocity(5, 60, Scope.ORGANIZATION), AmountVelocity(5, 60, Scope.POLICY)),
        (AmountVelocity(5, 60, Scope.WALLET), AmountVelocity(5, 60, Scope.RECIPIENT)),
        (CountVelocity(5, 60, Scope.INITIATOR), CountVelocity(5, 60, Scope.RECIPIENT)),
        # Another kind of rule is about something else, however low its limit.
        (AmountLimit(5), CountVelocity(0, 1)),
        (AmountLimit(5), AmountVelocity(5, 60)),
        (AmountVelocity(5, 60), CountVelocity(5, 60)),
        (AmountLimit(10**30), limits(eth=0)),
        (known(), AmountLimit(0)),
        (AlwaysTrigger(), AmountLimit(0)),
        (AlwaysTrigger(), known()),
    ],
)
def test_a_rule_that_lets_anything_more_through_is_looser(before: Rule, after: Rule) -> None:
    check(policy(before), policy(after), False)


def test_the_same_contract_on_another_network_is_another_asset() -> None:
    there = NominalLimit((AssetLimit("M", "erc20:a", 1),))
    check(policy(limits(a=5)), policy(there), False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NoAction(), ask(timeout=None)),
        (NoAction(), Block()),
        (ask(), Block()),
        (NoAction(), Block(wait=60)),
        (Block(wait=60), Block()),
        (Block(wait=60), Block(wait=59)),
        (ask(), ask(timeout=60)),
        (ask(timeout=60), ask(timeout=59)),
        (ask(group("us-1", "us-2")), ask(group("us-1", "us-2", quorum=2))),
        (ask(group("us-1", "us-2")), ask(group("us-2"))),
        (ask(group("anybody")), ask(group("us-1"))),
        (ask(group("us-1")), ask(group("us-1"), group("us-2"))),
        (ask(group("us-1", initiator=True)), ask(group("us-1"))),
        (ask(group("us-1", machines=True)), ask(group("us-1"))),
        # One person who is enough for both groups was enough before.
        (ask(group("us-1", "us-2"), group("us-1", "us-3")), ask(group("us-1"))),
    ],
)
def test_an_action_that_asks_for_more_is_tighter(before: Action, after: Action) -> None:
    check(policy(action=before), policy(action=after), True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Block(), ask()),
        (Block(), Block(wait=1)),
        (Block(wait=60), Block(wait=61)),
        (Block(wait=60), ask()),
        # What waits for room goes in the end, and nobody is asked any more.
        (ask(), Block(wait=1)),
        (Block(), ask(group(), timeout=1)),
        (Block(), NoAction()),
        (ask(), NoAction()),
        (ask(timeout=60), ask()),
        (ask(timeout=60), ask(timeout=61)),
        # Fewer must agree, or others.
        (ask(group("us-1", "us-2", quorum=2)), ask(group("us-1", "us-2"))),
        (ask(group("us-1", "us-2", quorum=2)), ask(group("us-1"), group("us-2", "us-1"))),
        (ask(group("us-1", "us-2")), ask(group("us-3"))),
        (ask(group("us-1", "us-2")), ask(group("us-1", "us-3", quorum=2))),
        (ask(group("us-1")), ask(group("anybody", quorum=3))),
        (ask(group("us-1"), group("us-2")), ask(group("us-1"))),
        (ask(group("us-1"), group("us-2")), ask(group("us-1", "us-2", quorum=2))),
        (ask(group("us-1", "us-2", quorum=2), group("us-3")), ask(group("us-1", quorum=1), group("us-3"))),
        # A group of nobody holds for ever; filling it lets people decide.
        (ask(group()), ask(group("us-1"))),
        (ask(group()), ask(group("anybody"))),
        # Who may decide besides.
        (ask(group("us-1", "us-2")), ask(group("us-1", initiator=True))),
        (ask(group("us-1", "us-2")), ask(group("us-1", machines=True))),
        (ask(group("anybody")), ask(group("sa-1", machines=True))),
        # Any person means no service account, whatever the flag of such a group says.
        (ask(group("anybody", machines=True)), ask(group("sa-1", machines=True))),
    ],
)
def test_an_action_that_lets_others_or_fewer_decide_is_looser(before: Action, after: Action) -> None:
    check(policy(action=before), policy(action=after), False)


def test_a_tighter_part_does_not_outweigh_a_looser_one() -> None:
    before = policy(AmountLimit(5), ask(group("us-1")))
    for looser in (
        replace(before, rule=AlwaysTrigger(), action=ask(group("us-1", "us-2"))),
        replace(before, rule=AmountLimit(6), action=Block()),
        replace(before, filters=Filters(wallet_ids=("wa-1",)), action=Block()),
        replace(before, rule=AlwaysTrigger(), action=NoAction()),
    ):
        check(before, looser, False)


def test_the_order_of_groups_addresses_and_ids_means_nothing() -> None:
    one = policy(known(A, B), ask(group("us-1", "us-2"), group("us-3", name="x")), filters=Filters(tags_any=("a", "b")))
    two = policy(known(B, A), ask(group("us-3"), group("us-2", "us-1")), filters=Filters(tags_any=("b", "a")))
    for default in DEFAULTS:
        assert is_tighter(one, two, default=default) and is_tighter(two, one, default=default)


NARROW_AND_WIDE = [
    (Filters(wallet_ids=("wa-1",)), Filters()),
    (Filters(wallet_ids=("wa-1",)), Filters(wallet_ids=("wa-2", "wa-1"))),
    (Filters(tags_any=("a",)), Filters(tags_any=("a", "b"))),
    (Filters(tags_any=("a",)), Filters()),
    (Filters(tags_all=("a", "b")), Filters(tags_all=("b",))),
    (Filters(tags_all=("a",)), Filters()),
    (Filters(tags_any=("a",), wallet_ids=("wa-1",)), Filters(tags_any=("a",))),
]


@pytest.mark.parametrize(("narrow", "wide"), NARROW_AND_WIDE)
def test_matching_fewer_wallets_is_looser_and_more_is_tighter_where_the_default_is_to_allow(
    narrow: Filters, wide: Filters
) -> None:
    small, large = policy(AmountLimit(5), filters=narrow), policy(AmountLimit(5), filters=wide)
    for default in DEFAULTS:
        assert not is_tighter(large, small, default=default)
    assert is_tighter(small, large, default="allow")


@pytest.mark.parametrize(("narrow", "wide"), NARROW_AND_WIDE)
def test_matching_more_wallets_may_open_them_where_the_default_is_to_block(narrow: Filters, wide: Filters) -> None:
    for default in (None, "block", "unheard of"):
        for rule, action in ((AmountLimit(5), Block()), (AlwaysTrigger(), ask()), (AlwaysTrigger(), NoAction())):
            small = policy(rule, action, filters=narrow)
            assert not is_tighter(small, replace(small, filters=wide), default=default)
        blocking = policy(filters=narrow)
        assert is_tighter(blocking, replace(blocking, filters=wide), default=default)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Filters(tags_any=("a",)), Filters(tags_any=("b",))),
        (Filters(tags_any=("a", "b")), Filters(tags_all=("a", "b"))),
        (Filters(tags_any=("a",)), Filters(wallet_ids=("wa-1",))),
        (Filters(wallet_ids=("wa-1", "wa-2")), Filters(wallet_ids=("wa-2", "wa-3"))),
        (Filters(tags_all=("a",)), Filters(tags_any=("b",))),
    ],
)
def test_matching_other_wallets_is_looser(before: Filters, after: Filters) -> None:
    check(policy(filters=before), policy(filters=after), False)
    check(policy(filters=after), policy(filters=before), False)


@pytest.mark.parametrize(
    ("kind", "member"),
    [(POLICIES_MODIFY, "policy_ids"), (PERMISSIONS_MODIFY, "permission_ids"), (PERMISSIONS_ASSIGN, "permission_ids")],
)
def test_governing_fewer_settings_is_looser_and_more_is_tighter_whatever_the_default(kind: str, member: str) -> None:
    def about(*ids: str) -> Policy:
        return policy(
            AlwaysTrigger(), ask(), activity_kind=kind, filters=Filters(**{member: ids}) if ids else Filters()
        )

    check(about("x-1"), about("x-1", "x-2"), True)
    check(about("x-1"), about(), True)
    check(about("x-1"), about("x-2"), False)


# Every pair of small groups and of small filters


def subsets(of: Iterable[str]) -> Iterator[tuple[str, ...]]:
    each = tuple(of)
    return itertools.chain.from_iterable(itertools.combinations(each, size) for size in range(len(each) + 1))


PEOPLE = {
    "us-1": Person(is_active=True, is_service_account=False, may_vote=True),
    "us-2": Person(is_active=True, is_service_account=False, may_vote=True),
    "sa-1": Person(is_active=True, is_service_account=True, may_vote=True),
}


BALLOTS = [(voters, initiator) for voters in subsets(PEOPLE) for initiator in PEOPLE]


def enough(each: Policy) -> frozenset[Any]:
    """Return every set of people, each with an initiator, that is enough for a policy."""
    asked = required_groups([each])
    return frozenset(
        (voters, who)
        for voters, who in BALLOTS
        if outcome(asked, [Decision(v, "Approved") for v in voters], people=PEOPLE, initiator_id=who) == "Approved"
    )


def compare_all(actions: Iterable[Action]) -> None:
    written = [policy(action=action) for action in actions]
    known = [(each, enough(each)) for each in written]
    proven = 0
    for (before, old), (after, new) in itertools.product(known, known):
        if is_tighter(before, after):
            proven += 1
            assert new <= old, (before.action, after.action)
    assert proven > len(known)


def test_whoever_is_enough_for_a_tighter_group_was_enough_before() -> None:
    each = itertools.product([("anybody",), *subsets(PEOPLE)], (1, 2), (False, True), (False, True))
    compare_all(ask(group(*who, quorum=quorum, initiator=i, machines=m)) for who, quorum, i, m in each)


def test_whoever_is_enough_for_tighter_groups_was_enough_before() -> None:
    each = [group(*who, quorum=quorum) for who in [("anybody",), *subsets(["us-1", "us-2"])] for quorum in (1, 2)]
    each += [group("sa-1", machines=True), group("us-1", initiator=True)]
    compare_all(ask(*some) for size in (1, 2) for some in itertools.combinations_with_replacement(each, size))


def test_what_a_tighter_policy_matches_is_all_that_was_matched() -> None:
    wallets = [(wallet, tags) for wallet in ("wa-1", "wa-2") for tags in subsets("ab")]
    some_tags = [None, *subsets("ab")]
    every = [
        Filters(wallet_ids=wallet_ids, tags_any=tags_any, tags_all=tags_all)
        for wallet_ids, tags_any, tags_all in itertools.product(
            [None, *subsets(["wa-1", "wa-2"])], some_tags, some_tags
        )
    ]
    matched = [frozenset(each for each in wallets if filters.match(*each)) for filters in every]
    proven = 0
    for before, after in itertools.product(range(len(every)), repeat=2):
        old, new = policy(AmountLimit(5), filters=every[before]), policy(AmountLimit(5), filters=every[after])
        if is_tighter(old, new, default="allow"):
            proven += 1
            assert matched[before] <= matched[after], (every[before], every[after])
        if is_tighter(old, new, default="block"):
            assert matched[before] == matched[after], (every[before], every[after])
    assert proven > len(every)


def test_one_decision_for_a_whole_batch_is_looser_than_one_each() -> None:
    each, at_once = ask(), RequestApproval(None, ask().groups, PER_BATCH)
    check(policy(action=at_once), policy(action=each), True)
