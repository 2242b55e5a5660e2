"""Velocity under anything that can happen, against a list that is added up by hand.

A machine admits, holds, approves, denies, binds, signs and fails payouts, retags wallets, edits policies and steps
the clock, forwards and backwards, as the engine does it: judge with ``core.policy`` on windows of
``store.velocity``. After each step every window is compared with the list. What must never happen is that the
payouts signed within any window pass a cap they were judged under.
"""

from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from outlay.core.policy import (
    AlwaysTrigger,
    AmountVelocity,
    Block,
    CountVelocity,
    Facts,
    Filters,
    Group,
    Policy,
    RequestApproval,
    Velocity,
    counts,
    evaluate,
    matches,
    verdict,
)
from outlay.core.seams import DAY, HOUR, MINUTE
from outlay.core.velocity import Scope, Window, scope_key
from outlay.store import velocity
from outlay.store.schema import counter_entry, metadata, organization, velocity_counter
from tests import tools

START = 1_800_000_000_000_000
TAG = "payouts"
HOLD = RequestApproval(None, (Group(name=None, quorum=1, approvers=None),))
TIMEFRAMES = (1, 60, 1440)
WALLETS = ("w1", "w2", "w3")
wallets = st.sampled_from(WALLETS)
recipients = st.sampled_from(["r1", "r2"])
initiators = st.sampled_from(["i1", "i2"])
values = st.integers(1, 12) | st.integers(1, 6)
seldom = st.integers(0, 9).map(lambda dice: dice == 0)


@dataclass
class Payout:
    """What the list knows about one payout."""

    id: str
    admitted: int
    wallet: str
    recipient: str
    initiator: str
    value: int | None
    then: frozenset[str]  #: policies that matched at admission
    counted: set[str] = field(default_factory=set)  #: policies that count it
    fits: dict[str, int] = field(default_factory=dict)  #: policy -> generation it was last judged under, and bound
    approved: bool = False
    state: str = "open"  #: open, signed, returned, corrected
    at: int = 0


def total(payouts: list[Payout]) -> Window:
    return Window(
        sum(each.value for each in payouts if each.value is not None),
        len(payouts),
        sum(each.value is None for each in payouts),
    )


class VelocityMachine(RuleBasedStateMachine):
    """The product on one side, a list on the other."""

    held = Bundle("held")
    ready = Bundle("ready")
    bound = Bundle("bound")
    signed = Bundle("signed")

    def __init__(self) -> None:
        super().__init__()
        engine = sa.create_engine("sqlite://")
        metadata.create_all(engine)
        self.unit = engine.connect()
        self.unit.execute(
            sa.insert(organization).values(
                id="or-1", epoch=0, root="", head="", head_seq=0, money_settings="", admitted=0, created_at=0
            )
        )
        self.now = START
        self.highest = START
        self.newest = 0
        self.payouts: list[Payout] = []
        self.tagged = {"w1", "w2"}
        self.generation: dict[str, int] = {}
        self.policies: dict[str, Policy] = {}
        for policy in (
            self.make("plc-a", AmountVelocity(24, 60, Scope.POLICY)),
            self.make("plc-b", AmountVelocity(60, 1440, Scope.RECIPIENT), tag=None),
            self.make("plc-c", CountVelocity(6, 60, Scope.ORGANIZATION)),
            self.make("plc-d", AmountVelocity(5, 60, Scope.WALLET), hold=True),
        ):
            self.policies[policy.id] = policy
            self.generation[policy.id] = 0

    def teardown(self) -> None:
        self.unit.close()

    @staticmethod
    def make(id: str, rule: Velocity | AlwaysTrigger, *, tag: str | None = TAG, hold: bool = False) -> Policy:
        filters = Filters(tags_any=None if tag is None else (tag,))
        return Policy(id=id, version=1, name=id, rule=rule, action=HOLD if hold else Block(), filters=filters)

    # --- the list ----------------------------------------------------------------------------------------------

    def tags(self, wallet: str) -> tuple[str, ...]:
        return (TAG,) if wallet in self.tagged else ()

    def key(self, policy: Policy, payout: Payout) -> str:
        assert isinstance(policy.rule, Velocity)
        return scope_key(
            policy.rule.scope,
            wallet_id=payout.wallet,
            recipient=payout.recipient,
            initiator_id=payout.initiator,
        )

    def counted_in(self, policy: Policy, key: str) -> list[Payout]:
        return [each for each in self.payouts if policy.id in each.counted and self.key(policy, each) == key]

    def expected(self, policy: Policy, key: str, before: int | None = None) -> Window:
        assert isinstance(policy.rule, Velocity)
        start = self.now - policy.rule.timeframe * MINUTE
        found = []
        for each in self.counted_in(policy, key):
            earlier = before is None or each.admitted < before
            late_matters = before is None or isinstance(policy.action, Block)
            if (each.state == "open" and earlier) or (
                each.state == "signed" and each.at > start and (earlier or late_matters)
            ):
                found.append(each)
        return total(found)

    def judge(self, payout: Payout, among: list[Policy], before: int | None) -> str:
        windows = velocity.windows(
            self.unit,
            among,
            wallet_id=payout.wallet,
            recipient=payout.recipient,
            initiator_id=payout.initiator,
            now=self.now,
            before_admitted=before,
        )
        for policy in among:
            if isinstance(policy.rule, Velocity):
                assert windows[policy.id] == self.expected(policy, self.key(policy, payout), before)
        facts = Facts(value=payout.value, recipient=payout.recipient)
        answers = [evaluate(policy, facts, windows.get(policy.id)) for policy in among]
        return verdict(answers, default="allow").kind

    # --- requests ----------------------------------------------------------------------------------------------

    def admit(self, wallet: str, recipient: str, initiator: str, value: int | None) -> tuple[Payout, str]:
        tags = self.tags(wallet)
        among = [each for each in self.policies.values() if matches(each, wallet, tags)]
        then = frozenset(each.id for each in among)
        payout = Payout(f"t{len(self.payouts)}", 0, wallet, recipient, initiator, value, then)
        kind = self.judge(payout, among, None)
        if kind == "block":
            return payout, kind
        entry = velocity.admit(
            self.unit,
            self.policies.values(),
            transfer_id=payout.id,
            wallet_id=wallet,
            tags=tags,
            recipient=recipient,
            initiator_id=initiator,
            value=value,
        )
        assert entry.admitted == len(self.payouts) + 1
        payout.admitted = entry.admitted
        payout.counted = {each.id for each in self.policies.values() if counts(each, wallet, tags)}
        self.payouts.append(payout)
        return payout, kind

    @rule(target=ready, wallet=wallets, recipient=recipients, initiator=initiators, value=values, unknown=seldom)
    def request(self, wallet: str, recipient: str, initiator: str, value: int, unknown: bool) -> object:
        payout, kind = self.admit(wallet, recipient, initiator, None if unknown else value)
        if kind == "hold":
            # Asked for where it flows; people agree at once.
            payout.approved = True
        return multiple() if kind == "block" else payout

    @rule(target=held, wallet=wallets, recipient=recipients, initiator=initiators, value=values, unknown=seldom)
    def request_and_hold(self, wallet: str, recipient: str, initiator: str, value: int, unknown: bool) -> object:
        payout, kind = self.admit(wallet, recipient, initiator, None if unknown else value)
        return multiple() if kind == "block" else payout

    @rule(target=ready, payout=consumes(held))
    def approve(self, payout: Payout) -> Payout:
        payout.approved = True
        return payout

    @rule(payout=consumes(held), again=st.booleans())
    def deny(self, payout: Payout, again: bool) -> None:
        self.give_back(payout, again)

    @rule(payout=consumes(ready), again=st.booleans())
    def withdraw(self, payout: Payout, again: bool) -> None:
        self.give_back(payout, again)

    def give_back(self, payout: Payout, again: bool = False) -> None:
        assert velocity.give_back(self.unit, payout.id)
        payout.state = "returned"
        if again:
            assert not velocity.give_back(self.unit, payout.id)

    # --- sending -----------------------------------------------------------------------------------------------

    def judge_again(self, payout: Payout) -> str:
        """Judge as before binding: by the policies that match now and those that matched at admission."""
        among = [
            each
            for each in self.policies.values()
            if matches(each, payout.wallet, self.tags(payout.wallet)) or each.id in payout.then
        ]
        kind = self.judge(payout, among, payout.admitted)
        if kind == "block":
            self.give_back(payout)
        else:
            payout.fits = {each.id: self.generation[each.id] for each in among}
        return kind

    @rule(target=bound, payout=consumes(ready))
    def bind(self, payout: Payout) -> object:
        kind = self.judge_again(payout)
        if kind == "hold":
            payout.approved = True
        return multiple() if kind == "block" else payout

    @rule(target=ready, payout=consumes(bound))
    def release(self, payout: Payout) -> Payout:
        payout.fits = {}
        return payout

    @rule(target=signed, payout=consumes(bound), again=st.booleans())
    def sign(self, payout: Payout, again: bool) -> Payout:
        self.sign_now(payout, again=again, at_once=False)
        return payout

    def sign_now(self, payout: Payout, *, again: bool, at_once: bool) -> None:
        at = velocity.sign(self.unit, payout.id, self.now)
        assert at >= self.now and at > self.newest
        self.newest = payout.at = at
        payout.state = "signed"
        if again:
            assert velocity.sign(self.unit, payout.id, self.now + HOUR) == at
        self.check_caps(payout, at_once)

    @rule(target=signed, payout=consumes(ready))
    def bind_and_sign(self, payout: Payout) -> object:
        if self.judge_again(payout) == "block":
            return multiple()
        self.sign_now(payout, again=False, at_once=True)
        return payout

    @rule(payout=consumes(signed), again=st.booleans())
    def fail(self, payout: Payout, again: bool) -> None:
        assert velocity.correct(self.unit, payout.id)
        payout.state = "corrected"
        if again:
            assert not velocity.correct(self.unit, payout.id)

    def check_caps(self, payout: Payout, at_once: bool) -> None:
        """Check each capped window that ends with this signature: the largest there can be.

        What is judged and signed ``at_once`` fits with all that was signed before it, whatever was changed since;
        otherwise the cap is promised to what was judged under it.
        """
        for policy in self.policies.values():
            if not isinstance(policy.rule, Velocity) or not isinstance(policy.action, Block):
                continue
            if policy.id not in payout.fits:
                continue
            start = payout.at - policy.rule.timeframe * MINUTE
            inside = [
                each
                for each in self.counted_in(policy, self.key(policy, payout))
                if each.state == "signed" and start < each.at <= payout.at
            ]
            if at_once or all(each.fits.get(policy.id) == self.generation[policy.id] for each in inside):
                found = total(inside)
                amount = isinstance(policy.rule, AmountVelocity)
                assert not amount or found.unknown == 0
                assert (found.value if amount else found.count) <= policy.rule.limit

    # --- time --------------------------------------------------------------------------------------------------

    @rule(step=st.sampled_from([1, MINUTE, HOUR // 2, HOUR, HOUR, DAY, 40 * DAY, -1, -HOUR, -HOUR]))
    def step_clock(self, step: int) -> None:
        # Back by a day at most: a clock that is further off is an alarm, not a state to plan for.
        self.now = max(self.now + step, self.highest - DAY)
        self.highest = max(self.highest, self.now)

    # --- what holds at every instant ---------------------------------------------------------------------------

    @invariant()
    def every_window_is_what_the_list_adds_up_to(self) -> None:
        for policy in self.policies.values():
            if not isinstance(policy.rule, Velocity):
                continue
            for key in {self.key(policy, each) for each in self.payouts}:
                for before in (None, len(self.payouts) // 2 + 1):
                    found = velocity.window(self.unit, policy, key, now=self.now, before_admitted=before)
                    assert found == self.expected(policy, key, before)

    @invariant()
    def running_totals_only_grow(self) -> None:
        rows = self.unit.execute(
            sa.select(counter_entry)
            .where(counter_entry.c.signed_at.is_not(None))
            .order_by(counter_entry.c.policy_id, counter_entry.c.scope_key, counter_entry.c.signed_at)
        )
        last: tuple[str, str] | None = None
        so_far = Window()
        for row in rows:
            if last != (row.policy_id, row.scope_key):
                last, so_far = (row.policy_id, row.scope_key), Window()
            so_far = so_far.plus(Window(row.value or 0, 1, int(row.value is None)))
            assert Window(row.total_value, row.total_count, row.total_unknown) == so_far

    @invariant()
    def a_counter_never_lies_before_its_signatures(self) -> None:
        newest = sa.func.max(counter_entry.c.signed_at)
        same = sa.and_(
            velocity_counter.c.policy_id == counter_entry.c.policy_id,
            velocity_counter.c.scope_key == counter_entry.c.scope_key,
        )
        query = sa.select(velocity_counter.c.last_at, newest).join(counter_entry, same)
        for last_at, signed_at in self.unit.execute(
            query.group_by(velocity_counter.c.policy_id, velocity_counter.c.scope_key)
        ):
            assert last_at >= (signed_at or 0)


class ChangingMachine(VelocityMachine):
    """The same while people edit policies and tag wallets."""

    def rebuild(self, policy: Policy) -> None:
        matching = {wallet for wallet in WALLETS if matches(policy, wallet, self.tags(wallet))}
        velocity.rebuild(self.unit, policy, wallets_matching_now=matching, now=self.now)
        self.generation[policy.id] += 1
        for payout in self.payouts:
            if not isinstance(policy.rule, Velocity):
                payout.counted.discard(policy.id)
            elif payout.state != "returned" and (payout.wallet in matching or policy.rule.scope is Scope.ORGANIZATION):
                payout.counted.add(policy.id)

    @rule(wallet=st.sampled_from(WALLETS))
    def retag(self, wallet: str) -> None:
        self.tagged ^= {wallet}
        for policy in self.policies.values():
            self.rebuild(policy)

    @rule(
        id=st.sampled_from(["plc-a", "plc-b", "plc-c", "plc-d"]),
        limit=st.integers(0, 60),
        timeframe=st.sampled_from(TIMEFRAMES),
        scope=st.sampled_from(Scope),
        kind=st.sampled_from(["amount", "amount", "count", "none"]),
        tag=st.sampled_from([TAG, None]),
        hold=st.booleans(),
    )
    def edit(self, id: str, limit: int, timeframe: int, scope: Scope, kind: str, tag: str | None, hold: bool) -> None:
        shape: Velocity | AlwaysTrigger = AlwaysTrigger()
        if kind == "amount":
            shape = AmountVelocity(limit, timeframe, scope)
        elif kind == "count":
            shape = CountVelocity(limit, timeframe, scope)
        edited = self.make(id, shape, tag=tag, hold=hold or kind == "none")
        self.policies[id] = replace(edited, version=self.policies[id].version + 1)
        self.rebuild(self.policies[id])


VelocityMachine.TestCase.settings = settings(max_examples=tools.examples(30), stateful_step_count=50, deadline=None)
ChangingMachine.TestCase.settings = settings(max_examples=tools.examples(30), stateful_step_count=50, deadline=None)
TestVelocity = VelocityMachine.TestCase
TestVelocityUnderChanges = ChangingMachine.TestCase
