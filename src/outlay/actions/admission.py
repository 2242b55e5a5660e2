"""Many payouts judged together: read with few statements, judged in order in memory, written with one a table.

However requests fall into groups, each is answered as if it had come alone: it is judged beside everything that was
admitted before it, in this group too, and a refusal leaves nothing behind.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

from outlay.actions import present
from outlay.actions.act import Act, digest_of_set
from outlay.actions.judge import ADMISSION, Judgement, approval_values
from outlay.actions.organization import require_applied
from outlay.actions.payers import Payers
from outlay.actions.work import Work
from outlay.core import ids
from outlay.core.asset import Asset
from outlay.core.intent import Intent
from outlay.core.money import value_of
from outlay.core.policy import (
    Block,
    Evaluation,
    Facts,
    Policy,
    Velocity,
    counts,
    evaluate,
    matches,
    required_groups,
    verdict,
)
from outlay.core.price import Quote
from outlay.core.seams import MINUTE
from outlay.core.transfer import ENDS, Event, State, next_state
from outlay.core.velocity import countable
from outlay.evidence.canonical import canonical
from outlay.store import approvals, evidence, policies, transfers, wallets, webhooks
from outlay.store.counters import Counters, Opening
from outlay.store.database import Row
from outlay.store.policies import active_policies
from outlay.store.stops import Stops
from outlay.store.velocity import key_of

CAP = "cap"
"""Why a payout waits that fits under none of its caps now."""

HasQueue = Callable[[Policy, Opening], bool]
_EVENTS = {"block": Event.BLOCKED, "allow": Event.ALLOWED, "hold": Event.HELD, "wait": Event.HELD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One payout as it was read: who asks for it, what it is and who may pay it."""

    act: Act
    intent: Intent
    intent_digest: str
    payers: Sequence[Row]  #: wallets; the first is the one it counts for
    kind: str
    body: Any = None
    proof: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)  #: further columns of the transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """A wallet's tags, and the active policies that judge and that count its payouts."""

    tags: tuple[str, ...]
    matching: tuple[Policy, ...]
    counting: tuple[Policy, ...]


@dataclass(slots=True, kw_only=True)
class _Admitted:
    """A payout that was judged: its row as it will be, and all that is stored with it."""

    row: Any
    judgement: Judgement
    transition: dict[str, Any]
    evaluations: list[dict[str, Any]]
    evidence: dict[str, Any]
    raised: list[webhooks.Raised]
    approval: Any = None


class Admissions:
    """The payouts one unit admits."""

    def __init__(self, work: Work) -> None:
        """Keep the unit; what it needs is read once, when it is needed first."""
        self._work = work
        self._wallets: dict[str, Row | None] = {}
        self._tags: dict[str, tuple[str, ...]] = {}
        self._known: dict[str, _About] = {}
        self._tokens: dict[str, frozenset[str | None]] = {}
        self._by_external_id: dict[str, Any] = {}
        self._policy_rows: dict[str, Row] = {}
        self._counters = Counters(work.unit, work.now)
        self.active = tuple(active_policies(work.unit))
        self.policy_set = digest_of_set((policy.id, policy.version) for policy in self.active)
        self.stops = Stops(work.unit)
        self.frozen_assets = {(row.network, row.asset): row.reason for row in wallets.frozen_assets(work.unit)}
        self._admitted: list[_Admitted] = []
        self._are_settings_applied = False
        self.payers = Payers(work)

    # what is read

    def expect(self, wallet_ids: Collection[str], external_ids: Collection[str]) -> None:
        """Read wallets, their tags, and which transfers hold external ids, before they are asked for one by one."""
        names = set(wallet_ids) - self._wallets.keys()
        found = {row.id: row for row in wallets.find_many(self._work.unit, names)}
        self._wallets.update({name: found.get(name) for name in names})
        self._tags.update(wallets.tags_of(self._work.unit, names))
        unknown = set(external_ids) - self._by_external_id.keys()
        held = {row.external_id: row for row in transfers.find_by_external_ids(self._work.unit, unknown)}
        self._by_external_id.update({name: held.get(name) for name in unknown})

    def wallet(self, wallet_id: str) -> Row | None:
        """Return a wallet, or None."""
        if wallet_id not in self._wallets:
            self.expect([wallet_id], ())
        return self._wallets[wallet_id]

    def transfer_of(self, external_id: str) -> Any:
        """Return the transfer that holds an external id, in this unit or from before, or None."""
        if external_id not in self._by_external_id:
            self.expect((), [external_id])
        return self._by_external_id[external_id]

    def remember(self, row: Any) -> None:
        """Know a transfer by its external id from now on."""
        self._by_external_id[row.external_id] = row

    def require_settings(self) -> None:
        """Admit nothing under money settings that are not the signed ones; raises as ``require_applied``."""
        if not self._are_settings_applied:
            require_applied(self._work.unit, self._work.config)
            self._are_settings_applied = True

    def expect_judging(self, asked: Iterable[Asked]) -> None:
        """Read and lock the counters these payouts are judged and counted by."""
        # A pool may have no wallets.
        self.expect_counters((each.payers, _opening(each, None)) for each in asked if each.payers)

    def expect_counters(self, openings: Iterable[tuple[Sequence[Row], Opening]]) -> None:
        """Read and lock counters: of each payout, the wallets that may pay and where it would count."""
        keys: dict[str, set[str]] = {policy.id: set() for policy in self.active}
        for payers, opening in openings:
            for wallet in payers:
                there = _paid_by(wallet, opening)
                for policy in self._about(wallet.id).counting:
                    keys[policy.id].add(key_of(policy, there))
        self._counters.expect(self.active, keys)

    def _about(self, wallet_id: str) -> "_About":
        """Return a wallet's tags and the policies that are about it."""
        known = self._known.get(wallet_id)
        if known is None:
            if wallet_id not in self._tags:
                self._tags.update(wallets.tags_of(self._work.unit, [wallet_id]))
            tags = self._tags[wallet_id]
            known = self._known[wallet_id] = _About(
                tags=tags,
                matching=tuple(policy for policy in self.active if matches(policy, wallet_id, tags)),
                # The organization's counters count every wallet.
                counting=tuple(policy for policy in self.active if counts(policy, wallet_id, tags)),
            )
        return known

    def tokens_of(self, network: str) -> frozenset[str | None]:
        """Return the contracts of a network's assets."""
        if network not in self._tokens:
            self._tokens[network] = frozenset(each.contract for each in self._work.config.assets_of(network))
        return self._tokens[network]

    # judging

    def admit(self, asked: Asked, asset: Asset, quote: Quote | None) -> Any:
        """Judge a payout beside all that was admitted before it; return its row, as it is going to be."""
        work, now = self._work, self._work.now
        facts = _facts(asked, asset, quote)
        row = self._requested(asked, facts, quote)
        document = present.transfer(row, work.config)
        raised = [_raised("wallet.transfer.requested", row.id, document)]
        opening = _opening(asked, row.value, row.id)
        judgement = self.judge(asked.payers, facts, opening)
        kept = [self._evaluation(each, row.id) for each in judgement.evaluations]
        raised += [self._triggered(each, row) for each in kept if each["triggered"]]
        kept_evidence = self._evidence(asked, row.id)
        said = judgement.verdict
        event = _EVENTS[said.kind]
        state = next_state(State.REQUESTED, event, transfer_id=row.id)
        detail = {"reasons": list(said.reasons)} if said.reasons else None
        transition = _transition(row.id, event, state, detail, now)
        vars(row).update(state=state.value, version=2, **_columns_after(said.kind, said.reasons, said.wait, now))
        if state in ENDS:
            row.ended_from = State.REQUESTED.value
            raised.append(_raised("wallet.transfer.rejected", row.id, present.transfer(row, work.config)))
        admitted = _Admitted(
            row=row,
            judgement=judgement,
            transition=transition,
            evaluations=kept,
            evidence=kept_evidence,
            raised=raised,
        )
        if said.kind == "hold":
            admitted.approval = self._ask_people(admitted)
        self.count(judgement, opening)
        self._admitted.append(admitted)
        if row.external_id is not None:
            self.remember(row)
        return row

    def _requested(self, asked: Asked, facts: Facts, quote: Quote | None) -> Any:
        act, intent = asked.act, asked.intent
        return SimpleNamespace(
            **{
                **transfers.NEW,
                "id": act.new_id(ids.TRANSFER),
                "external_id": intent.external_id,
                "intent_digest": asked.intent_digest,
                "intent": intent.document(),
                "wallet_id": asked.payers[0].id,
                "network": intent.network,
                "kind": asked.kind,
                "asset": intent.asset,
                "recipient": intent.recipient,
                "amount": facts.amount,
                "request_body": act.payload if asked.body is None else asked.body,
                "initiator_id": act.caller.user_id,
                "token_id": act.caller.token_id,
                "credential_id": act.credential.uuid,
                # What no counter could add up has no column either; it is above any limit a rule may have.
                "value": countable(facts.value),
                "price": None if quote is None else quote.document(),
                "policy_set": self.policy_set,
                "requested_at": act.now,
                "state": State.REQUESTED.value,
                "version": 1,
                **asked.columns,
            },
        )

    def judge(
        self, payers: Sequence[Row], facts: Facts, opening: Opening, *, has_queue: HasQueue | None = None
    ) -> Judgement:
        """Evaluate every policy that matches beside all that was counted before; of several wallets the strictest wins.

        Args:
            payers: wallets that may pay; the first is the one the payout counts for.
            facts: what policies look at.
            opening: where it would count; the counters have to be expected.
            has_queue: tells whether others wait before it in a counter; usually it comes last.
        """
        found: dict[str, Evaluation] = {}
        full: set[tuple[str, str]] = set()
        are_covered = True
        for wallet in payers:
            there, matching = _paid_by(wallet, opening), self._about(wallet.id).matching
            are_covered = are_covered and bool(matching)
            for policy in matching:
                known = found.get(policy.id)
                if known is None or not known.triggered or known.wait is not None:
                    answer = self._evaluate(policy, facts, there, has_queue or self._counters.has_queue)
                    if answer.wait is not None:
                        # It waits for room in each of them, whichever wallet pays.
                        full.add((policy.id, key_of(policy, there)))
                    if known is None or (answer.triggered and not known.triggered):
                        found[policy.id] = answer
        evaluations = tuple(found[policy.id] for policy in self.active if policy.id in found)
        # The default is for each wallet: one that no policy is about must not pay by way of a pool.
        default = self._work.config.policies.default
        said = verdict(evaluations if are_covered or default == "allow" else (), default=default)
        return Judgement(
            verdict=said,
            evaluations=evaluations,
            holding=tuple(policy for policy in self.active if policy.id in said.holding),
            active=self.active,
            tags=self._about(payers[0].id).tags,
            full=frozenset(each for each in full if each[0] in said.full),
        )

    def _evaluate(self, policy: Policy, facts: Facts, opening: Opening, has_queue: HasQueue) -> Evaluation:
        if not isinstance(policy.rule, Velocity):
            return evaluate(policy, facts)
        waits = isinstance(policy.action, Block) and policy.action.wait is not None
        queue = waits and has_queue(policy, opening)
        return evaluate(policy, facts, self._counters.beside(policy, opening), queue=queue)

    def count(self, judgement: Judgement, opening: Opening) -> None:
        """Count a payout that was judged, or have it wait for room."""
        said = judgement.verdict
        if said.kind == "wait":
            self._counters.queue(judgement.full, opening.transfer_id)
        elif said.kind != "block":
            self._counters.open(self._about(opening.wallet_id).counting, opening)

    # what is kept with it

    def _evaluation(self, evaluation: Evaluation, transfer_id: str) -> dict[str, Any]:
        return {
            "id": ids.new_id(ids.EVALUATION, self._work.entropy),
            "transfer_id": transfer_id,
            "moment": ADMISSION,
            "policy_id": evaluation.policy_id,
            "policy_version": evaluation.version,
            "action": evaluation.action,
            "triggered": evaluation.triggered,
            "reason": evaluation.reason,
            "context": evaluation.context,
            "at": self._work.now,
        }

    def _triggered(self, kept: dict[str, Any], row: Any) -> webhooks.Raised:
        if kept["policy_id"] not in self._policy_rows:
            found = policies.find(self._work.unit, kept["policy_id"])
            assert found is not None
            self._policy_rows[kept["policy_id"]] = found
        data = present.policy_triggered(kept, self._policy_rows[kept["policy_id"]], row, self._work.config)
        return webhooks.Raised(kind="policy.triggered", subject=row.id, data=data)

    def _evidence(self, asked: Asked, transfer_id: str) -> dict[str, Any]:
        act = asked.act
        document = asked.proof or canonical(act.evidence(policy_set=self.policy_set)).decode()
        return {"id": act.new_id(ids.EVIDENCE), "subject": transfer_id, "document": document, "at": act.now}

    def _ask_people(self, admitted: _Admitted) -> Any:
        row, holding = admitted.row, admitted.judgement.holding
        approval = SimpleNamespace(
            id=ids.new_id(ids.APPROVAL, self._work.entropy),
            transfer_id=row.id,
            change_id=None,
            initiator_id=row.initiator_id,
            created_at=self._work.now,
            **approval_values(self._work, required_groups(holding), holding),
        )
        row.approval_id = approval.id
        data = present.approval_of(
            approval,  # type: ignore[arg-type]  # a row that is not stored yet
            activity={"kind": "Wallets:Sign", "transferRequest": present.transfer(row, self._work.config)},
            evaluations=present.evaluations_of(admitted.evaluations),
            decisions=(),
        )
        admitted.raised.append(
            webhooks.Raised(kind="policy.approval.pending", subject=approval.id, data={"approval": data})
        )
        return approval

    # writing

    def write_counters(self) -> None:
        """Store what was counted; once, where nothing was admitted anew."""
        self._counters.write()

    def write(self) -> None:
        """Store everything that was admitted; once, as the last thing."""
        unit, admitted = self._work.unit, self._admitted
        if not admitted:
            return
        transfers.add_many(
            unit,
            [vars(each.row) for each in admitted],
            [each.transition for each in admitted],
            [sha256(each.evidence["document"].encode()).hexdigest() for each in admitted],
            now=self._work.now,
        )
        evidence.keep_many(unit, [each.evidence for each in admitted])
        transfers.add_evaluations(unit, [kept for each in admitted for kept in each.evaluations])
        approvals.add_many(unit, [vars(each.approval) for each in admitted if each.approval is not None])
        self._counters.write()
        raised = [one for each in admitted for one in each.raised]
        # Each is about a payout or an approval that was made here.
        webhooks.emit_many(unit, raised, now=self._work.now, entropy=self._work.entropy, are_new=True)


def _paid_by(wallet: Row, opening: Opening) -> Opening:
    return opening if opening.wallet_id == wallet.id else replace(opening, wallet_id=wallet.id)


def _opening(asked: Asked, value: int | None, transfer_id: str = "") -> Opening:
    return Opening(
        transfer_id=transfer_id,
        wallet_id=asked.payers[0].id,
        recipient=asked.intent.recipient,
        initiator_id=asked.act.caller.user_id,
        value=value,
    )


def _facts(asked: Asked, asset: Asset, quote: Quote | None) -> Facts:
    intent, amount = asked.intent, int(asked.intent.amount)
    return Facts(
        value=None if quote is None else value_of(amount, decimals=asset.decimals, price=quote.price),
        recipient=intent.recipient,
        price=None if quote is None else format(quote.price, "f"),
        price_source=None if quote is None else quote.source,
        price_at=None if quote is None else quote.at,
        network=intent.network,
        tid=asset.tid,
        amount=amount,
    )


def _columns_after(kind: str, reasons: Sequence[str], wait: int | None, now: int) -> dict[str, Any]:
    """Return the columns a verdict sets beside the state."""
    if kind == "block":
        return {"reason": " ".join(reasons), "resolved_at": now}
    if kind == "allow":
        return {"resolved_at": now, "ready_at": now}
    if kind == "wait":
        assert wait is not None
        return {"waiting_reason": CAP, "wait_until": now + wait * MINUTE}
    return {}


def _transition(transfer_id: str, event: Event, state: State, detail: Any, now: int) -> dict[str, Any]:
    return {
        "transfer_id": transfer_id,
        "seq": 1,
        "event": event.value,
        "from_state": State.REQUESTED.value,
        "to_state": state.value,
        "detail": detail,
        "at": now,
    }


def _raised(kind: str, subject: str, document: dict[str, Any]) -> webhooks.Raised:
    return webhooks.Raised(kind=kind, subject=subject, data={"transferRequest": document})
