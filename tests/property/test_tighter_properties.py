"""What ``core.tighter`` calls tighter lets nothing more through, whatever else there is.

The oracle is what really judges: ``core.policy`` over windows that are added up here entry by entry, and
``core.approval`` for what people decide.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from outlay.core.approval import Decision, Person, outcome, shortest_timeout
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
    Velocity,
    Verdict,
    counts,
    evaluate,
    matches,
    required_groups,
    verdict,
)
from outlay.core.tighter import is_tighter
from outlay.core.velocity import EMPTY, Scope, Window, entry_of, scope_key
from tests import tools

ADDRESSES = ("0x" + "1" * 40, "0x" + "2" * 40)
NETWORKS, TIDS = ("Ethereum", "Base"), ("native:eth", "native:pol", "erc20:" + ADDRESSES[0])
WALLETS, TAGS, USERS = ("wa-1", "wa-2"), ("a", "b"), ("us-1", "us-2", "us-3", "sa-1")
STRICTNESS = {"allow": 0, "hold": 1, "block": 2}

small, timeframes, scopes = st.integers(0, 4), st.integers(1, 4), st.sampled_from(Scope)


def some(of: tuple[str, ...], *, least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(of), min_size=least, unique=True).map(tuple)


def whitelist(addresses: tuple[str, ...]) -> RecipientWhitelist:
    return RecipientWhitelist(addresses, frozenset(addresses))


@st.composite
def nominal_limits(draw: st.DrawFn) -> NominalLimit:
    found = []
    for network in NETWORKS:
        listed = [TIDS[2]] if draw(st.booleans()) else []
        coin = draw(st.sampled_from([None, *TIDS[:2]]))
        found += [AssetLimit(network, tid, draw(small)) for tid in [*listed, *([coin] if coin else [])]]
    return NominalLimit(tuple(found or [AssetLimit("Base", TIDS[0], draw(small))]))


rules: st.SearchStrategy[Rule] = st.one_of(
    st.just(AlwaysTrigger()),
    st.builds(AmountLimit, small),
    nominal_limits(),
    st.builds(AmountVelocity, st.integers(0, 9), timeframes, scopes),
    st.builds(CountVelocity, small, timeframes, scopes),
    some(ADDRESSES).map(whitelist),
)
groups = st.builds(
    Group,
    name=st.none(),
    quorum=st.integers(1, 3),
    approvers=st.none() | some(USERS),
    initiator_can_approve=st.booleans(),
    service_accounts_can_approve=st.booleans(),
)
timeouts = st.none() | st.integers(1, 3)
asking = st.builds(RequestApproval, timeouts, st.lists(groups, min_size=1, max_size=3).map(tuple))
actions: st.SearchStrategy[Action] = st.one_of(st.just(Block()), st.just(NoAction()), asking)
some_tags = st.none() | some(TAGS)
filters = st.builds(Filters, wallet_ids=st.none() | some(WALLETS), tags_any=some_tags, tags_all=some_tags)


def policies(ids: st.SearchStrategy[str]) -> st.SearchStrategy[Policy]:
    return st.builds(Policy, id=ids, version=st.just(1), name=st.just("p"), rule=rules, action=actions, filters=filters)


# Two policies drawn apart are hardly ever comparable: the later one is the earlier one with a little changed.


@st.composite
def edited_rule(draw: st.DrawFn, rule: Rule) -> Rule:
    step = st.integers(-1, 1)
    match rule:
        case AmountLimit():
            return AmountLimit(max(0, rule.limit + draw(step)))
        case AmountVelocity() | CountVelocity():
            moved = (max(0, rule.limit + draw(step)), max(1, rule.timeframe + draw(step)))
            scope = draw(st.sampled_from([rule.scope, rule.scope, draw(scopes)]))
            return replace(rule, limit=moved[0], timeframe=moved[1], scope=scope)
        case NominalLimit():
            assets = [replace(each, limit=max(0, each.limit + draw(step))) for each in rule.assets]
            added = [each for each in draw(nominal_limits()).assets if each.network not in {a.network for a in assets}]
            kept = assets[1:] if len(assets) > 1 and draw(st.integers(0, 4)) == 0 else assets
            return NominalLimit((*kept, *added))
        case RecipientWhitelist():
            return whitelist(draw(some(rule.listed or ADDRESSES)))
    return rule


@st.composite
def edited_group(draw: st.DrawFn, group: Group) -> Group:
    approvers = group.approvers
    return replace(
        group,
        quorum=max(1, group.quorum + draw(st.sampled_from([0, 0, 1, -1]))),
        approvers=draw(st.sampled_from([approvers, approvers, draw(some(approvers or USERS)), draw(some(USERS))])),
        initiator_can_approve=draw(st.sampled_from([group.initiator_can_approve, False, draw(st.booleans())])),
        service_accounts_can_approve=draw(
            st.sampled_from([group.service_accounts_can_approve, False, draw(st.booleans())])
        ),
    )


@st.composite
def edited_action(draw: st.DrawFn, action: Action) -> Action:
    if not isinstance(action, RequestApproval):
        return action
    changed = [draw(edited_group(each)) for each in draw(st.permutations(action.groups))]
    if len(changed) > 1 and draw(st.booleans()):
        changed.pop()
    if draw(st.booleans()):
        changed.append(draw(groups))
    timeout = draw(st.sampled_from([action.auto_reject_timeout, draw(timeouts)]))
    return RequestApproval(timeout, tuple(changed))


@st.composite
def edited_ids(draw: st.DrawFn, was: tuple[str, ...] | None, of: tuple[str, ...]) -> tuple[str, ...] | None:
    return draw(st.sampled_from([was, was, None, (*(was or of), *of), draw(some(of))]))


@st.composite
def edits(draw: st.DrawFn) -> tuple[Policy, Policy]:
    before = draw(policies(st.just("plc-5")))
    rule = draw(st.one_of(st.just(before.rule), edited_rule(before.rule), rules))
    action = draw(st.one_of(st.just(before.action), edited_action(before.action), actions))
    changed = Filters(
        wallet_ids=draw(edited_ids(before.filters.wallet_ids, WALLETS)),
        tags_any=draw(edited_ids(before.filters.tags_any, TAGS)),
        tags_all=draw(edited_ids(before.filters.tags_all, TAGS)),
    )
    wanted = draw(st.sampled_from([before.filters, before.filters, changed]))
    return before, replace(before, rule=rule, action=action, filters=wanted)


@dataclass(frozen=True)
class Entry:
    """Another payout, as velocity counts it."""

    wallet_id: str
    recipient: str
    initiator: str
    value: int | None
    age: int | None  #: minutes since its signature; None: not signed yet
    is_later: bool  #: admitted after the payout that is judged


entries = st.lists(
    st.builds(
        Entry,
        st.sampled_from(WALLETS),
        st.sampled_from(ADDRESSES),
        st.sampled_from(USERS[:2]),
        st.none() | small,
        st.none() | st.integers(0, 5),
        st.booleans(),
    ),
    max_size=4,
)


@dataclass(frozen=True)
class World:
    """Everything a judgement looks at beside the policies."""

    facts: Facts
    wallet_id: str
    initiator: str
    tags: dict[str, frozenset[str]]
    entries: list[Entry]
    at_binding: bool
    default: str

    def window(self, policy: Policy) -> Window:
        assert isinstance(policy.rule, Velocity)
        scope, found = policy.rule.scope, EMPTY
        recipient = self.facts.recipient or ""
        own = scope_key(scope, wallet_id=self.wallet_id, recipient=recipient, initiator_id=self.initiator)
        for each in self.entries:
            key = scope_key(scope, wallet_id=each.wallet_id, recipient=each.recipient, initiator_id=each.initiator)
            if key != own or not counts(policy, each.wallet_id, self.tags[each.wallet_id]):
                continue
            # Judged again, what came later is passed over; unless it has left, and the rule does not only ask.
            passed = each.is_later and (each.age is None or isinstance(policy.action, RequestApproval))
            if (self.at_binding and passed) or (each.age is not None and each.age >= policy.rule.timeframe):
                continue
            found = found.plus(entry_of(each.value))
        return found

    def judge(self, among: list[Policy]) -> Verdict:
        return verdict(
            [
                evaluate(each, self.facts, self.window(each) if isinstance(each.rule, Velocity) else None)
                for each in among
                if matches(each, self.wallet_id, self.tags[self.wallet_id])
            ],
            default=self.default,
        )


worlds = st.builds(
    World,
    facts=st.builds(
        Facts,
        value=st.none() | st.integers(1, 5),
        recipient=st.none() | st.sampled_from(ADDRESSES),
        network=st.sampled_from(NETWORKS),
        tid=st.none() | st.sampled_from(TIDS),
        amount=st.none() | st.integers(1, 5),
    ),
    wallet_id=st.sampled_from(WALLETS),
    initiator=st.sampled_from(USERS[:2]),
    tags=st.fixed_dictionaries({wallet: st.frozensets(st.sampled_from(TAGS)) for wallet in WALLETS}),
    entries=entries,
    at_binding=st.booleans(),
    default=st.sampled_from(["allow", "block"]),
)
others = st.lists(policies(st.sampled_from(["plc-1", "plc-9"])), max_size=2, unique_by=lambda policy: policy.id)
voters = st.frozensets(st.sampled_from(USERS))
PEOPLE = {
    user: Person(is_active=True, is_service_account=user.startswith("sa-"), may_vote=user != "us-3") for user in USERS
}


def enough(asked: tuple[dict[str, Any], ...], agreed: frozenset[str], initiator: str) -> bool:
    said = [Decision(user, "Approved") for user in sorted(agreed)]
    return outcome(asked, said, people=PEOPLE, initiator_id=initiator) == "Approved"


def minutes(among: list[Policy]) -> float:
    timeout = shortest_timeout(among)
    return float("inf") if timeout is None else timeout


@settings(max_examples=tools.examples(300))
@given(edits(), others, worlds, voters)
def test_a_tighter_policy_lets_nothing_more_through(
    pair: tuple[Policy, Policy], among: list[Policy], world: World, agreed: frozenset[str]
) -> None:
    before, after = pair
    tighter = is_tighter(before, after, default=world.default)
    # Without the default it may only be more careful.
    assert tighter or not is_tighter(before, after)
    event(f"tighter: {tighter}, edited: {before != after}")
    if not tighter:
        return
    old, new = world.judge([*among, before]), world.judge([*among, after])
    assert STRICTNESS[new.kind] >= STRICTNESS[old.kind]
    if old.kind == new.kind == "hold":
        asked = [each for each in [*among, before] if each.id in old.holding]
        asks = [each for each in [*among, after] if each.id in new.holding]
        if enough(required_groups(asks), agreed, world.initiator):
            assert enough(required_groups(asked), agreed, world.initiator)
        assert minutes(asks) <= minutes(asked)


@given(edits(), worlds)
def test_policies_each_tighter_than_the_other_judge_alike(pair: tuple[Policy, Policy], world: World) -> None:
    before, after = pair
    strictest = replace(before, rule=AlwaysTrigger(), action=Block())
    assert is_tighter(before, before) and is_tighter(before, strictest, default=world.default)
    if is_tighter(before, after) and is_tighter(after, before):
        assert world.judge([before]).kind == world.judge([after]).kind


# The parts one by one: every pair of a small universe, over the same worlds.


def random_world(dice: random.Random) -> World:
    def other() -> Entry:
        return Entry(
            wallet_id=dice.choice(WALLETS),
            recipient=dice.choice(ADDRESSES),
            initiator=dice.choice(USERS[:2]),
            value=dice.choice([None, 0, 1, 1, 1, 2]),
            age=dice.choice([None, 0, 1, 2]),
            is_later=dice.random() < 0.3,
        )

    return World(
        facts=Facts(
            value=dice.choice([None, 0, 1, 1, 2, 3]),
            recipient=dice.choice([None, *ADDRESSES, *ADDRESSES]),
            network=dice.choice(NETWORKS),
            tid=dice.choice([None, *TIDS]),
            amount=dice.choice([None, 1, 2, 3]),
        ),
        wallet_id=dice.choice(WALLETS),
        initiator=dice.choice(USERS[:2]),
        tags={wallet: frozenset(tag for tag in TAGS if dice.random() < 0.5) for wallet in WALLETS},
        entries=[other() for _ in range(dice.choice([0, 1, 2, 3]))],
        at_binding=dice.random() < 0.5,
        default="allow",
    )


def every_rule() -> Iterator[Rule]:
    yield AlwaysTrigger()
    yield from (AmountLimit(limit) for limit in range(3))
    yield from (whitelist(listed) for listed in ((), ADDRESSES[:1], ADDRESSES[1:], ADDRESSES))
    for limit, timeframe, scope in itertools.product(range(3), (1, 2), Scope):
        yield AmountVelocity(limit, timeframe, scope)
        yield CountVelocity(limit, timeframe, scope)
    here = [None, *(AssetLimit("Ethereum", tid, limit) for tid in TIDS[:2] for limit in (0, 2))]
    token = [None, *(AssetLimit("Ethereum", TIDS[2], limit) for limit in (0, 2))]
    there = [None, *(AssetLimit("Base", TIDS[2], limit) for limit in (0, 2))]
    for listed in itertools.product(here, token, there):
        if any(listed):
            yield NominalLimit(tuple(each for each in listed if each is not None))


@pytest.mark.parametrize("action", [Block(), RequestApproval(None, (Group(name=None, quorum=1, approvers=None),))])
def test_a_tighter_rule_triggers_whenever_the_looser_one_does(action: Action, pytestconfig: pytest.Config) -> None:
    dice = random.Random(int(pytestconfig.getoption("--hypothesis-seed")))
    seen = [random_world(dice) for _ in range(tools.examples(300))]
    known = []
    for rule in every_rule():
        policy = Policy(id="plc-5", version=1, name="p", rule=rule, action=action, filters=Filters())
        known.append((policy, {place for place, world in enumerate(seen) if world.judge([policy]).kind != "allow"}))
    proven = 0
    for (before, old), (after, new) in itertools.product(known, known):
        if is_tighter(before, after):
            proven += 1
            assert old <= new, (before.rule, after.rule, seen[min(old - new)])
    assert proven > 3 * len(known)
