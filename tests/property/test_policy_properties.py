"""Policies and approvals: what must hold for any policies, payouts, people and decisions."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlay.core.approval import Decision, Person, merge_groups, outcome, refusal
from outlay.core.policy import (
    Action,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
    AssetLimit,
    Block,
    CountVelocity,
    Facts,
    Filters,
    Group,
    NoAction,
    NominalLimit,
    Policy,
    RecipientWhitelist,
    RequestApproval,
    Rule,
    Verdict,
    evaluate,
    matches,
    required_groups,
    verdict,
)
from outlay.core.policy_document import parse_policy, read_policy, stored_document, wire_document
from outlay.core.velocity import TIMEFRAME_MAX, Scope, Window

ADDRESSES = tuple("0x" + digit * 40 for digit in "123")
USERS = ("us-1", "us-2", "us-3", "us-4")
WALLETS = ("wa-1", "wa-2")
TAGS = ("a", "b")
NETWORKS = ("Ethereum", "Base")
TIDS = ("native:eth", "native:pol", "erc20:" + ADDRESSES[0], "erc20:" + ADDRESSES[1])
STRICTNESS = {"allow": 0, "hold": 1, "block": 2}

# Around a few round numbers, so that being equal to a limit is common.
values = st.sampled_from([10**8, 5 * 10**8]).flatmap(lambda near: st.integers(near - 2, near + 2))
timeframes = st.integers(1, TIMEFRAME_MAX)
scopes = st.sampled_from(Scope)
listed = st.lists(st.sampled_from(ADDRESSES), unique=True).map(tuple)
asset_limits = st.builds(AssetLimit, st.sampled_from(NETWORKS), st.sampled_from(TIDS), st.integers(0, 4))


def one_of_each(limit: AssetLimit) -> tuple[str, str]:
    """Return what a rule may list once: an asset; of each network one native coin."""
    return limit.network, "native" if limit.tid.startswith("native:") else limit.tid


nominal_limits = st.lists(asset_limits, min_size=1, max_size=4, unique_by=one_of_each)
rules: st.SearchStrategy[Rule] = st.one_of(
    st.just(AlwaysTrigger()),
    st.builds(AmountLimit, values),
    nominal_limits.map(lambda assets: NominalLimit(tuple(assets))),
    st.builds(AmountVelocity, values, timeframes, scopes),
    st.builds(CountVelocity, st.integers(0, 5), timeframes, scopes),
    listed.map(lambda addresses: RecipientWhitelist(addresses, frozenset(addresses))),
)


@st.composite
def groups(draw: st.DrawFn) -> Group:
    approvers = draw(st.none() | st.lists(st.sampled_from(USERS), min_size=1, unique=True).map(tuple))
    return Group(
        name=draw(st.none() | st.sampled_from(["x", "y"])),
        quorum=draw(st.integers(1, len(approvers) if approvers else 3)),
        approvers=approvers,
        initiator_can_approve=draw(st.booleans()),
        service_accounts_can_approve=draw(st.booleans()),
    )


approvals = st.builds(
    RequestApproval, st.none() | st.integers(1, 10_000), st.lists(groups(), min_size=1, max_size=3).map(tuple)
)
actions: st.SearchStrategy[Action] = st.one_of(st.just(Block()), st.just(NoAction()), approvals)
some_tags = st.none() | st.lists(st.sampled_from(TAGS), min_size=1, unique=True).map(tuple)
filters = st.builds(
    Filters,
    wallet_ids=st.none() | st.lists(st.sampled_from(WALLETS), min_size=1, unique=True).map(tuple),
    tags_any=some_tags,
    tags_all=some_tags,
)
policies = st.builds(
    Policy,
    id=st.integers(0, 10**6).map("plc-{:07}".format),
    version=st.integers(1, 3),
    name=st.sampled_from(["one", "two"]),
    rule=rules,
    action=actions,
    filters=filters,
)
policy_sets = st.lists(policies, max_size=5, unique_by=lambda policy: policy.id)
facts = st.builds(
    Facts,
    value=st.none() | values,
    recipient=st.none() | st.sampled_from(ADDRESSES),
    network=st.sampled_from(NETWORKS),
    tid=st.none() | st.sampled_from(TIDS),
    amount=st.none() | st.integers(1, 6),
)


@st.composite
def window_values(draw: st.DrawFn) -> Window:
    unknown = draw(st.sampled_from([0, 0, 0, 1]))
    return Window(draw(st.just(0) | values), draw(st.integers(0, 5)) + unknown, unknown)


wallets = st.tuples(st.sampled_from(WALLETS), st.frozensets(st.sampled_from(TAGS)))
wallet_windows = st.none() | window_values()


def judge(
    among: list[Policy],
    payout: Facts,
    window: Window | None,
    wallet: tuple[str, frozenset[str]],
    default: str = "allow",
) -> Verdict:
    return verdict([evaluate(each, payout, window) for each in among if matches(each, *wallet)], default=default)


@given(st.data(), policy_sets, facts, wallet_windows, wallets, st.sampled_from(["allow", "block"]))
def test_the_order_of_policies_is_irrelevant(
    data: st.DataObject,
    among: list[Policy],
    payout: Facts,
    window: Window | None,
    wallet: tuple[str, frozenset[str]],
    default: str,
) -> None:
    shuffled = data.draw(st.permutations(among))
    one, other = (judge(each, payout, window, wallet, default) for each in (among, shuffled))
    assert one.kind == other.kind
    assert (one.because, one.reasons, one.holding) == (other.because, other.reasons, other.holding)
    assert (one.full, one.wait) == (other.full, other.wait)
    assert required_groups(shuffled) == required_groups(among)


@given(policy_sets, policies, facts, wallet_windows, wallets)
def test_adding_a_policy_never_lets_more_through(
    among: list[Policy],
    extra: Policy,
    payout: Facts,
    window: Window | None,
    wallet: tuple[str, frozenset[str]],
) -> None:
    added = [*among, replace(extra, id="plc-extra")]
    before, after = judge(among, payout, window, wallet), judge(added, payout, window, wallet)
    assert STRICTNESS[after.kind] >= STRICTNESS[before.kind]
    if after.kind == "hold":
        assert set(before.holding) <= set(after.holding)
    if any(matches(each, *wallet) for each in among):
        strict = judge(among, payout, window, wallet, "block")
        assert STRICTNESS[judge(added, payout, window, wallet, "block").kind] >= STRICTNESS[strict.kind]


@given(policies, facts, window_values(), window_values())
def test_a_fuller_window_never_stops_a_rule_from_triggering(
    policy: Policy, payout: Facts, one: Window, more: Window
) -> None:
    if evaluate(policy, payout, one).triggered:
        assert evaluate(policy, payout, one.plus(more)).triggered


@given(policies, facts, wallet_windows)
def test_what_is_not_known_triggers_every_rule_that_asks_for_it(
    policy: Policy, payout: Facts, window: Window | None
) -> None:
    no_price = evaluate(policy, replace(payout, value=None), window)
    no_recipient = evaluate(policy, replace(payout, recipient=None), window)
    no_window = evaluate(policy, payout, None)
    for unknown in ({"network": None}, {"tid": None}, {"amount": None}):
        no_asset = evaluate(policy, replace(payout, **unknown), window)
        assert no_asset.triggered or not isinstance(policy.rule, NominalLimit)
    assert no_price.triggered or not isinstance(policy.rule, AmountLimit | AmountVelocity)
    assert no_recipient.triggered or not isinstance(policy.rule, RecipientWhitelist)
    assert no_window.triggered or not isinstance(policy.rule, AmountVelocity | CountVelocity)
    assert (no_price.reason is not None) is no_price.triggered


@given(policies)
def test_a_policy_survives_its_stored_and_its_wire_form(policy: Policy) -> None:
    assert read_policy(stored_document(policy), id=policy.id, version=policy.version) == policy
    assert parse_policy(wire_document(policy), id=policy.id, version=policy.version) == policy


@given(st.integers(0, 10**15 - 1), st.integers(0, 8))
def test_a_limit_of_15_digits_is_answered_as_the_number_that_was_sent(digits: int, places: int) -> None:
    limit = digits * 10 ** (8 - places)
    policy = Policy(id="plc-1", version=1, name="p", rule=AmountLimit(limit), action=Block(), filters=Filters())
    document = wire_document(policy)
    sent = document["rule"]["configuration"]["limit"]
    assert sent == digits / 10**places
    assert parse_policy(document, id="plc-1", version=1).rule == AmountLimit(limit)


# --- approvals -------------------------------------------------------------------------------------------------

people_sets = st.fixed_dictionaries(
    {
        user: st.builds(Person, is_active=st.booleans(), is_service_account=st.booleans(), may_vote=st.booleans())
        for user in USERS
    }
)
decisions = st.lists(
    st.builds(Decision, st.sampled_from(USERS), st.sampled_from(["Approved", "Denied"]), st.booleans()),
    unique_by=lambda decision: decision.user_id,
)
approving = st.lists(
    st.builds(Policy, id=st.uuids().map(str), version=st.just(1), name=st.just("p"), rule=st.just(AlwaysTrigger()),
              action=approvals, filters=st.just(Filters())),
    min_size=1,
    max_size=3,
)  # fmt: skip


def naive_outcome(
    documents: tuple[dict[str, Any], ...], votes: list[Decision], people: dict[str, Person], initiator: str
) -> str:
    """Restate the rules of the contract one by one, without the code under test."""
    agreed: list[set[str]] = [set() for _ in documents]
    for vote in votes:
        person = people[vote.user_id]
        if not vote.counts or not person.is_active:
            continue
        if vote.user_id == initiator and vote.value == "Denied":
            return "Denied"
        if not person.may_vote:
            continue
        for place, group in enumerate(documents):
            ids = group["approvers"].get("userId", {}).get("in")
            if person.is_service_account and (ids is None or not group["serviceAccountsCanApprove"]):
                continue
            if ids is not None and vote.user_id not in ids:
                continue
            if vote.value == "Denied":
                return "Denied"
            if vote.user_id != initiator or group["initiatorCanApprove"]:
                agreed[place].add(vote.user_id)
    reached = [len(who) >= group["quorum"] for who, group in zip(agreed, documents, strict=True)]
    return "Approved" if all(reached) else "Pending"


@given(approving, decisions, people_sets, st.sampled_from(USERS))
def test_the_outcome_is_what_the_rules_say(
    among: list[Policy], votes: list[Decision], people: dict[str, Person], initiator: str
) -> None:
    documents = required_groups(among)
    found = outcome(documents, votes, people=people, initiator_id=initiator)
    assert found == naive_outcome(documents, votes, people, initiator)


@given(approving, decisions, people_sets, st.sampled_from(USERS), st.sampled_from(USERS))
def test_removing_a_person_never_approves_anything(
    among: list[Policy], votes: list[Decision], people: dict[str, Person], initiator: str, gone: str
) -> None:
    documents = required_groups(among)
    without = {**people, gone: replace(people[gone], is_active=False)}
    before = outcome(documents, votes, people=people, initiator_id=initiator)
    after = outcome(documents, votes, people=without, initiator_id=initiator)
    # A denial that no longer counts may uncover approvals; nothing else may become approved.
    assert after != "Approved" or before in ("Approved", "Denied")
    denied_by_gone = Decision(gone, "Denied") in votes
    assert after != "Approved" or before == "Approved" or denied_by_gone


@given(approving, approving, decisions, people_sets, st.sampled_from(USERS))
def test_the_stricter_of_then_and_now_asks_for_both(
    then: list[Policy],
    now: list[Policy],
    votes: list[Decision],
    people: dict[str, Person],
    initiator: str,
) -> None:
    old, new = required_groups(then), required_groups(now)
    both = merge_groups(old, new)
    if outcome(both, votes, people=people, initiator_id=initiator) == "Approved":
        assert outcome(old, votes, people=people, initiator_id=initiator) == "Approved"
        assert outcome(new, votes, people=people, initiator_id=initiator) == "Approved"
    assert merge_groups(both, new) == both


@given(approving, people_sets, st.sampled_from(USERS), st.sampled_from(USERS), st.sampled_from(["Approved", "Denied"]))
def test_a_decision_that_is_accepted_counts_and_one_that_is_refused_does_not(
    among: list[Policy], people: dict[str, Person], initiator: str, user: str, value: str
) -> None:
    documents = required_groups(among)
    reason = refusal(documents, user, value, people=people, initiator_id=initiator)
    found = outcome(documents, [Decision(user, value)], people=people, initiator_id=initiator)
    if value == "Denied":
        assert (found == "Denied") is (reason is None)
    elif reason is not None:
        assert found == "Pending"
