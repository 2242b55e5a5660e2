"""Policies: what a payout must pass before it may leave.

Every active policy whose filters match is evaluated, always all of them, in any order. A triggered ``Block`` blocks,
unless all those that triggered let the payout wait for room, which it then does before anybody is asked; otherwise
every group of every triggered ``RequestApproval`` has to agree; ``NoAction`` only reports. No rule allows anything, so
adding a policy never lets a payout through, except where it is the first to match and the default is to
block. What cannot be judged triggers.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from outlay.core.asset import NATIVE_TID
from outlay.core.money import format_value
from outlay.core.seams import Instant
from outlay.core.velocity import Scope, Window

WALLETS_SIGN, WALLETS_REFILL = "Wallets:Sign", "Wallets:Refill"
PAYING = (WALLETS_SIGN, WALLETS_REFILL)
"""The kinds of policies that are about money that leaves a wallet: payouts, and refills under a mandate."""
POLICIES_MODIFY, PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN = "Policies:Modify", "Permissions:Modify", "Permissions:Assign"
UNFREEZE = "Outlay:Unfreeze"
GOVERNING = (POLICIES_MODIFY, PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN, UNFREEZE)
"""The kinds of policies that are about changes of settings."""
CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class AlwaysTrigger:
    """Triggers for everything the filters match; the only rule about changes."""

    kind = "AlwaysTrigger"


@dataclass(frozen=True, slots=True)
class AmountLimit:
    """Triggers when one payout is worth more than the limit."""

    limit: int  #: 10**-8 USD, 0 or more
    kind = "TransactionAmountLimit"


@dataclass(frozen=True, slots=True)
class AmountVelocity:
    """Triggers when the payouts of a stretch of time, this one included, are worth more than the limit."""

    limit: int  #: 10**-8 USD, 0 or more
    timeframe: int  #: minutes, 1 to 43,200
    scope: Scope = Scope.WALLET
    kind = "TransactionAmountVelocity"


@dataclass(frozen=True, slots=True)
class CountVelocity:
    """Triggers when a stretch of time holds more payouts than the limit, this one included."""

    limit: int  #: payouts, 0 or more
    timeframe: int  #: minutes, 1 to 43,200
    scope: Scope = Scope.WALLET
    kind = "TransactionCountVelocity"


@dataclass(frozen=True, slots=True)
class RecipientWhitelist:
    """Triggers when the recipient is not listed."""

    listed: tuple[str, ...]  #: as they were written, for the answer
    addresses: frozenset[str]  #: in canonical form, for the comparison
    kind = "TransactionRecipientWhitelist"


@dataclass(frozen=True, slots=True)
class AssetLimit:
    """How much of one asset one payout may be without triggering."""

    network: str
    tid: str  #: ``native:<symbol>`` or ``erc20:<contract>``, lower case; see ``core.asset.Asset.tid``
    limit: int  #: base units, 0 or more


@dataclass(frozen=True, slots=True)
class NominalLimit:
    """Triggers when one payout is more of a listed asset than its limit; an asset that is not listed passes."""

    assets: tuple[AssetLimit, ...]  #: at least one; of each network at most one native coin
    kind = "TransactionAmountLimitNominal"


Rule = AlwaysTrigger | AmountLimit | NominalLimit | AmountVelocity | CountVelocity | RecipientWhitelist
Velocity = AmountVelocity | CountVelocity


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """People of whom a number must agree."""

    name: str | None
    quorum: int  #: 1 or more
    approvers: tuple[str, ...] | None  #: user ids; None: any person of the organization; (): nobody yet
    initiator_can_approve: bool = False
    service_accounts_can_approve: bool = False

    def document(self) -> dict[str, Any]:
        """Return the group as it stands in a policy's ``approvalGroups``."""
        approvers = {} if self.approvers is None else {"userId": {"in": list(self.approvers)}}
        return {
            **({} if self.name is None else {"name": self.name}),
            "quorum": self.quorum,
            "approvers": approvers,
            "initiatorCanApprove": self.initiator_can_approve,
            "serviceAccountsCanApprove": self.service_accounts_can_approve,
        }


@dataclass(frozen=True, slots=True)
class Block:
    """Refuses the payout, or has it wait for room under the limit."""

    wait: int | None = None  #: minutes it may wait, 1 to 10,080; only velocity rules have it; None: refused at once
    kind = "Block"


PER_ROW, PER_BATCH = "row", "batch"


@dataclass(frozen=True, slots=True)
class RequestApproval:
    """Holds the payout until every group agrees."""

    auto_reject_timeout: int | None  #: minutes, 1 or more; None: waits for ever
    groups: tuple[Group, ...]  #: at least one
    per: str = PER_ROW  #: whether the payouts of a batch are decided one by one, or may be all at once
    kind = "RequestApproval"


@dataclass(frozen=True, slots=True)
class NoAction:
    """Reports and changes nothing."""

    kind = "NoAction"


Action = Block | RequestApproval | NoAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a policy is about. Everything given must hold; nothing given matches everything of its activity kind."""

    wallet_ids: tuple[str, ...] | None = None  #: one of these
    tags_any: tuple[str, ...] | None = None  #: at least one of these tags
    tags_all: tuple[str, ...] | None = None  #: every one of these tags
    policy_ids: tuple[str, ...] | None = None  #: one of these; only ``Policies:Modify``
    permission_ids: tuple[str, ...] | None = None  #: one of these; only ``Permissions:Modify``, ``Permissions:Assign``

    def match(self, wallet_id: str, tags: Collection[str]) -> bool:
        """Tell whether a wallet with ``tags`` passes."""
        return (
            (self.wallet_ids is None or wallet_id in self.wallet_ids)
            and (self.tags_any is None or any(tag in tags for tag in self.tags_any))
            and (self.tags_all is None or all(tag in tags for tag in self.tags_all))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One version of one policy. ``id`` is the lineage: it stays over every edit; ``version`` does not."""

    id: str
    version: int
    name: str
    rule: Rule
    action: Action
    filters: Filters
    activity_kind: str = WALLETS_SIGN


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the payout that is judged."""

    value: int | None  #: 10**-8 USD, fixed when it was requested; None: no fresh price
    recipient: str | None  #: canonical address; None: it could not be read
    price: str | None = None  #: USD for one whole unit, decimal text
    price_source: str | None = None
    price_at: Instant | None = None
    network: str | None = None
    tid: str | None = None  #: the asset, as ``core.asset.Asset.tid`` writes it; None: not known
    amount: int | None = None  #: base units of that asset; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One policy's answer about one payout, with all it was computed from."""

    policy_id: str
    version: int
    action: str  #: Block, RequestApproval or NoAction
    triggered: bool
    reason: str | None  #: for people; None when not triggered
    context: dict[str, str | int | None]
    """What was looked at: rule, threshold, value, sum, count, unknown, timeframe, scope, recipient, price, network,
    tid, amount. ``sum`` and ``count`` are those of the window without this payout. Values are decimal text in USD;
    ``amount``, and the ``threshold`` it is compared with, are base units as digits."""
    wait: int | None = None
    """Minutes it may wait: only the window is full, and the policy lets what fits by itself wait for room."""


Kind = Literal["allow", "hold", "wait", "block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all policies together say."""

    kind: Kind
    reasons: tuple[str, ...]  #: of the policies that decided it, ordered by policy id; empty for allow
    holding: tuple[str, ...] = ()  #: ids of the policies whose groups must agree; only for hold
    full: tuple[str, ...] = ()  #: ids of the policies whose windows have no room now; only for wait
    wait: int | None = None  #: minutes it may wait for room, the shortest of those policies; only for wait


def matches(policy: Policy, wallet_id: str, tags: Collection[str], *, activity: str = WALLETS_SIGN) -> bool:
    """Tell whether ``policy`` is about payouts of this wallet, or about refills it pays for."""
    return policy.activity_kind == activity and policy.filters.match(wallet_id, tags)


def governs(policy: Policy, *, policy_id: str | None = None, permission_id: str | None = None) -> bool:
    """Tell whether ``policy`` is about changes of this policy, or of this permission and its assignments.

    Whether a change of a permission is of kind ``Permissions:Modify`` or ``Permissions:Assign`` is not looked at.
    """
    if policy.activity_kind == POLICIES_MODIFY:
        among = policy.filters.policy_ids
        return policy_id is not None and (among is None or policy_id in among)
    if policy.activity_kind in (PERMISSIONS_MODIFY, PERMISSIONS_ASSIGN):
        among = policy.filters.permission_ids
        return permission_id is not None and (among is None or permission_id in among)
    return False  # letting go what was stopped is about neither


def counts(policy: Policy, wallet_id: str, tags: Collection[str], *, activity: str = WALLETS_SIGN) -> bool:
    """Tell whether a payout of this wallet, or a refill it pays for, is an entry of one of the policy's counters.

    With scope ``organization`` every wallet's payouts are, also of those the policy does not judge.
    """
    if not isinstance(policy.rule, Velocity) or policy.activity_kind != activity:
        return False
    return policy.rule.scope is Scope.ORGANIZATION or matches(policy, wallet_id, tags, activity=activity)


def evaluate(policy: Policy, facts: Facts, window: Window | None = None, *, queue: bool = False) -> Evaluation:
    """Return what ``policy``, which must match the payout, says about it.

    Being equal to a limit does not trigger. An unknown value, asset or amount, an unknown value within the window, an
    unreadable recipient and a velocity rule without its ``window`` all trigger.

    Args:
        policy: the policy.
        facts: the payout.
        window: for velocity rules, what counts beside this payout.
        queue: others wait for room in this window already, and whoever comes later waits behind them.
    """
    context: dict[str, str | int | None] = {"rule": policy.rule.kind}
    match policy.rule:
        case AlwaysTrigger():
            what = "change" if policy.activity_kind in GOVERNING else "payout"
            reason: str | None = f"Every {what} needs this policy's action."
        case AmountLimit():
            reason = _judge_amount(policy.rule, facts, context)
        case NominalLimit():
            reason = _judge_nominal(policy.rule, facts, context)
        case AmountVelocity():
            reason = _judge_sum(policy.rule, facts, window, context)
        case CountVelocity():
            reason = _judge_count(policy.rule, window, context)
        case RecipientWhitelist():
            reason = _judge_recipient(policy.rule, facts, context)
    wait = _may_wait(policy, facts, window)
    if wait is not None and queue and reason is None:
        reason = "Payouts that were asked for earlier wait for room under this limit."
    return Evaluation(
        policy_id=policy.id,
        version=policy.version,
        action=policy.action.kind,
        triggered=reason is not None,
        reason=reason,
        context=context,
        wait=None if reason is None else wait,
    )


def _may_wait(policy: Policy, facts: Facts, window: Window | None) -> int | None:
    """Return for how many minutes a payout may wait for room, or None: it would not fit into an empty window either."""
    if window is None or not isinstance(policy.action, Block) or policy.action.wait is None:
        return None
    match policy.rule:
        case AmountVelocity(limit=limit):
            return policy.action.wait if facts.value is not None and facts.value <= limit else None
        case CountVelocity(limit=limit):
            return policy.action.wait if limit >= 1 else None
    return None


def _money(value: int | None) -> str | None:
    return None if value is None else format_value(value)


def _price(facts: Facts) -> dict[str, str | int | None]:
    return {
        "currency": CURRENCY,
        "value": _money(facts.value),
        "price": facts.price,
        "priceSource": facts.price_source,
        "priceAt": facts.price_at,
    }


def _judge_amount(rule: AmountLimit, facts: Facts, context: dict[str, str | int | None]) -> str | None:
    context.update(_price(facts), threshold=_money(rule.limit))
    if facts.value is None:
        return "What the transfer is worth is not known: there is no fresh price."
    if facts.value > rule.limit:
        return (
            f"The transfer is worth {CURRENCY} {format_value(facts.value)},"
            f" more than the limit of {CURRENCY} {format_value(rule.limit)}."
        )
    return None


def _judge_nominal(rule: NominalLimit, facts: Facts, context: dict[str, str | int | None]) -> str | None:
    network, tid, amount = facts.network, facts.tid, facts.amount
    context.update(network=network, tid=tid, amount=None if amount is None else str(amount), threshold=None)
    if network is None or tid is None or amount is None:
        return "Which asset is paid, or how much of it, is not known."
    here = {each.tid: each.limit for each in rule.assets if each.network == network}
    limit = here.get(tid)
    if limit is None:
        # A network has one coin: under another symbol it may well be the listed one, renamed in the settings since.
        if tid.startswith(NATIVE_TID) and any(each.startswith(NATIVE_TID) for each in here):
            return f"The limit is for another native coin of {network} than {tid}."
        return None
    context.update(threshold=str(limit))
    if amount > limit:
        return f"The transfer is of {amount} base units of {tid} on {network}, more than the limit of {limit}."
    return None


def _judge_sum(
    rule: AmountVelocity, facts: Facts, window: Window | None, context: dict[str, str | int | None]
) -> str | None:
    context.update(_price(facts), threshold=_money(rule.limit), timeframe=rule.timeframe, scope=rule.scope.value)
    if window is None:
        return "What has left before could not be read."
    context.update(sum=format_value(window.value), count=window.count, unknown=window.unknown)
    if facts.value is None:
        return "What the transfer is worth is not known: there is no fresh price."
    if window.unknown:
        return f"What has left within {rule.timeframe} minutes is not known: {window.unknown} payouts have no value."
    total = window.value + facts.value
    if total > rule.limit:
        return (
            f"With this transfer {CURRENCY} {format_value(total)} would leave within {rule.timeframe} minutes,"
            f" more than the limit of {CURRENCY} {format_value(rule.limit)}."
        )
    return None


def _judge_count(rule: CountVelocity, window: Window | None, context: dict[str, str | int | None]) -> str | None:
    context.update(threshold=rule.limit, timeframe=rule.timeframe, scope=rule.scope.value)
    if window is None:
        return "What has left before could not be read."
    context.update(count=window.count)
    if window.count + 1 > rule.limit:
        return (
            f"With this transfer {window.count + 1} payouts would leave within {rule.timeframe} minutes,"
            f" more than the limit of {rule.limit}."
        )
    return None


def _judge_recipient(rule: RecipientWhitelist, facts: Facts, context: dict[str, str | int | None]) -> str | None:
    context.update(recipient=facts.recipient, listed=len(rule.addresses))
    if facts.recipient is None:
        return "The recipient could not be read."
    if facts.recipient not in rule.addresses:
        return f"The recipient {facts.recipient} is not on the list of known addresses."
    return None


def verdict(evaluations: Iterable[Evaluation], *, default: str) -> Verdict:
    """Return what the evaluations of all matching policies say together; their order does not matter.

    Args:
        evaluations: one of each active policy that matches; empty when none does.
        default: ``allow`` or ``block``: the configured answer when no policy matches. Anything else blocks.
    """
    answers = sorted(evaluations, key=lambda each: each.policy_id)
    if not answers:
        if default == "allow":
            return Verdict(kind="allow", reasons=())
        return Verdict(kind="block", reasons=("No policy covers this wallet, and the default is to block.",))
    triggered = [each for each in answers if each.triggered and each.action != NoAction.kind]
    holding = [each for each in triggered if each.action == RequestApproval.kind]
    # Whatever is neither a hold nor a report blocks: an action this version does not know must not let money out.
    full = [each for each in triggered if each.action != RequestApproval.kind]
    blocking = [each for each in full if each.wait is None]
    if blocking:
        return Verdict(kind="block", reasons=tuple(each.reason or "" for each in blocking))
    if full:
        return Verdict(
            kind="wait",
            reasons=tuple(each.reason or "" for each in full),
            full=tuple(each.policy_id for each in full),
            wait=min(each.wait for each in full if each.wait is not None),
        )
    if holding:
        return Verdict(
            kind="hold",
            reasons=tuple(each.reason or "" for each in holding),
            holding=tuple(each.policy_id for each in holding),
        )
    return Verdict(kind="allow", reasons=())


def required_groups(policies: Iterable[Policy]) -> tuple[dict[str, Any], ...]:
    """Return every group that must agree, of the triggered policies, each with its ``policyId``.

    The order is fixed (policy id, then place within the policy) and approvers are sorted, so that the same policies
    always give the same documents, whose digest decisions sign.
    """
    documents = []
    for policy in sorted(policies, key=lambda each: each.id):
        if not isinstance(policy.action, RequestApproval):
            continue
        for group in policy.action.groups:
            document = {"policyId": policy.id, **group.document()}
            if policy.action.per == PER_BATCH:
                document["per"] = PER_BATCH
            if group.approvers is not None:
                document["approvers"] = {"userId": {"in": sorted(group.approvers)}}
            documents.append(document)
    return tuple(documents)
