"""Judging ready transfers once more, before a nonce is bound: each under the stricter of then and now.

Many are judged in one unit; what several of them share is read once: policies, people, keys, permissions, counters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from outlay.actions.act import key_operations
from outlay.actions.judge import ADMISSION, Judgement, decided, facts_of, people
from outlay.actions.work import Work
from outlay.core.approval import Person, merge_groups
from outlay.core.mandate import activity_of
from outlay.core.policy import (
    WALLETS_SIGN,
    Evaluation,
    Policy,
    Verdict,
    evaluate_all,
    matches,
    required_groups,
    verdict,
)
from outlay.evidence.demand import REQUEST
from outlay.store import approvals, mandates, policies, transfers, users, velocity_signing, wallets
from outlay.store.database import Row
from outlay.store.policies import active_policies, policy_of
from outlay.store.velocity_binding import BindingWindows


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudgement:
    """Whether a ready transfer may still go."""

    kind: str  #: go, hold (with the groups to ask), block or wait (with reasons)
    judgement: Judgement
    groups: tuple[dict[str, Any], ...] = ()
    asking: tuple[Policy, ...] = ()


class Rejudging:
    """The ready transfers one unit judges again."""

    def __init__(self, work: Work, rows: Sequence[Row]) -> None:
        """Read what is known of the transfers that are going to be judged."""
        unit, names = work.unit, [row.id for row in rows]
        self._work = work
        self._active = tuple(active_policies(unit))
        self._places = velocity_signing.places(unit, names)
        self.forget_windows()
        self._matched = transfers.judged_by(unit, names, moment=ADMISSION)
        self._approvals = approvals.of_many(unit, names)
        self._tags: dict[str, tuple[str, ...]] = {}
        self._people: dict[str, Person] | None = None
        self._refused: dict[tuple[str, str | None, str | None], str | None] = {}
        self.rows = sorted(rows, key=lambda row: (self._places.get(row.id, 0), row.id))  #: in the order of admission

    def judge(self, row: Row) -> Rejudgement:
        """Judge one of the transfers once more; they have to come in the order of ``rows``.

        What triggered at admission still asks, even if its policy is gone; what triggers now asks too, with its groups
        of now. Decisions count only if they covered exactly these groups and their people are still eligible.
        """
        judgement = self._judge(row)
        why_not = self._refuse_initiator(row)
        if why_not is not None:
            gone = Verdict("block", stated=why_not)
            return Rejudgement(kind="block", judgement=replace(judgement, verdict=gone))
        if judgement.verdict.kind in ("block", "wait"):
            return Rejudgement(kind=judgement.verdict.kind, judgement=judgement)
        approval = self._approvals.get(row.id)
        then_groups = approval.groups if approval is not None else []
        asking = {policy.id: policy for policy in judgement.holding}
        for policy_id in {group["policyId"] for group in then_groups} - set(asking):
            policy_row = policies.find(self._work.unit, policy_id)
            if policy_row is not None and policy_row.status == "Active":
                asking[policy_id] = policy_of(policy_row)
        groups = merge_groups(then_groups, required_groups(asking.values()))
        if not groups or (approval is not None and decided(self._work.unit, approval, groups) == "Approved"):
            return Rejudgement(kind="go", judgement=judgement)
        return Rejudgement(kind="hold", judgement=judgement, groups=groups, asking=tuple(asking.values()))

    def forget_windows(self) -> None:
        """Read the counters anew: one of the transfers was taken out of them."""
        last = max(self._places.values(), default=0)
        self._windows = BindingWindows(self._work.unit, self._work.now, last=last)

    def _judge(self, row: Row) -> Judgement:
        """Evaluate every active policy that matches now, or matched at admission."""
        activity = activity_of(row.initiator_id)
        if row.wallet_id not in self._tags:
            self._tags[row.wallet_id] = wallets.tags(self._work.unit, row.wallet_id)
        tags, also = self._tags[row.wallet_id], self._matched.get(row.id, frozenset())
        matching = [
            policy
            for policy in self._active
            if policy.id in also or matches(policy, row.wallet_id, tags, activity=activity)
        ]
        windows = self._windows.of(matching, row, self._places.get(row.id, 0))
        facts = facts_of(row, self._work.config)
        found = evaluate_all(matching, facts, [windows.get(policy.id) for policy in matching])
        # A mandate is what lets a refill go; policies only bound it.
        default = self._work.config.policies.default if activity == WALLETS_SIGN else "allow"
        said = verdict(found, default=default)
        holding = tuple(policy for policy in matching if policy.id in said.holding) if said.kind == "hold" else ()
        evaluations = tuple(Evaluation(*each) for each in found)
        return Judgement(verdict=said, evaluations=evaluations, holding=holding, active=self._active, tags=tags)

    def _refuse_initiator(self, row: Row) -> str | None:
        """Return why a payout may not go because of who asked, or None."""
        name = row.initiator_id, row.credential_id, row.mandate_id
        if name not in self._refused:
            self._refused[name] = self._why_refused(row)
        return self._refused[name]

    def _why_refused(self, row: Row) -> str | None:
        unit = self._work.unit
        if row.mandate_id is not None:
            mandate = mandates.find(unit, row.mandate_id)
            in_force = mandate is not None and mandate.status == mandates.ACTIVE
            return None if in_force else "The mandate of this payment was archived."
        if self._people is None:
            self._people = people(unit)
        initiator = self._people.get(row.initiator_id)
        if initiator is None or not initiator.is_active or not initiator.may_vote:
            return "Who asked for this payout was switched off or removed."
        key = users.find_credential(unit, row.credential_id) if users.is_in_use(unit, row.credential_id) else None
        if key is None:
            return "The key that signed the request of this payout was withdrawn."
        if REQUEST not in key_operations(unit, key):
            return "Who asked for this payout is no longer permitted to."
        return None
