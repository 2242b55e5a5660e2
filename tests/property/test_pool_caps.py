"""Payouts that move between the wallets of a pool, under anything that can happen, against a list added up by hand.

The machine is that of ``test_velocity_properties``: it requests, holds, binds, signs and fails payouts, tags wallets,
edits policies and steps the clock. Here payouts that are ready also come to count for other wallets, one or several at
a time. Every window stays what the list adds up to, and no cap is passed by what was judged under it.
"""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from outlay.core.policy import Block, Facts, NoAction, Policy, Velocity, counts, evaluate
from outlay.store.velocity_move import Moves
from tests import tools
from tests.property.test_velocity_properties import WALLETS, ChangingMachine, Payout, VelocityMachine, wallets


class MovingMachine(ChangingMachine):
    """The product on one side, a list on the other; ready payouts move."""

    @rule(first=VelocityMachine.ready, second=VelocityMachine.ready, to=st.lists(wallets, min_size=4, max_size=4))
    def move(self, first: Payout, second: Payout, to: list[str]) -> None:
        """Move two payouts, perhaps twice each, in one round."""
        tags = {wallet: self.tags(wallet) for wallet in WALLETS}
        moves = Moves(self.unit, self.policies.values(), tags, {first.id, second.id}, now=self.now)
        for payout, wallet in zip((first, second, first, second), to, strict=True):
            fits = moves.fits(payout.id, wallet, asked=payout.approved)
            assert fits == self.fits(payout, wallet), (payout, wallet)
            if fits:
                moves.move(payout.id, wallet)
                payout.wallet = wallet
                payout.counted = {each.id for each in self.policies.values() if counts(each, wallet, tags[wallet])}
        moves.write()

    def fits(self, payout: Payout, wallet: str) -> bool:
        """Tell whether a payout fits beside all that is open or was signed, wherever it is not counted yet."""
        if payout.state != "open":
            return False
        there = replace(payout, wallet=wallet)
        return not any(self.is_against(each, payout, there) for each in self.policies.values())

    def is_against(self, policy: Policy, payout: Payout, there: Payout) -> bool:
        if not isinstance(policy.rule, Velocity) or isinstance(policy.action, NoAction):
            return False
        if payout.approved and not isinstance(policy.action, Block):
            return False
        key = self.key(policy, there)
        if not counts(policy, there.wallet, self.tags(there.wallet)):
            return False
        if policy.id in payout.counted and key == self.key(policy, payout):
            return False
        facts = Facts(value=payout.value, recipient=payout.recipient)
        return evaluate(policy, facts, self.expected(policy, key)).triggered


MovingMachine.TestCase.settings = settings(max_examples=tools.examples(10), stateful_step_count=50, deadline=None)
TestMoving = MovingMachine.TestCase
