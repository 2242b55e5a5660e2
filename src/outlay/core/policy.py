"""Policies: what a payout must pass before it may leave.

Every active policy whose filters match is evaluated, always all of them, in any order. A triggered ``Block`` blocks,
unless all those that triggered let the payout wait for room, which it then does before anybody is asked; otherwise
every group of every triggered ``RequestApproval`` has to agree; ``NoAction`` only reports. No rule allows anything, so
adding a policy never lets a payout through, except where it is the first to match and the default is to
block. What cannot be judged triggers.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from outlay.core.asset import NATIVE_TID
from outlay.core.errors import InvariantBroken
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
    check: "Check" = field(init=False, repr=False, compare=False)
    """Tells in short why the rule triggers for a payout beside a window, or None; compiled from ``rule``."""

    def __post_init__(self) -> None:
        """Compile the rule."""
        object.__setattr__(self, "check", _check_of(self.rule))


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


Check = Callable[[Facts, Window | None], str | None]

# Why a policy triggers. Those that need no figures are the very sentence people read.
_OVER, _ALWAYS, _STRANGER, _OTHER_COIN, _UNKNOWN_SUM = "over", "always", "stranger", "other coin", "unknown sum"
_UNPRICED = "What the transfer is worth is not known: there is no fresh price."
_UNKNOWN_ASSET = "Which asset is paid, or how much of it, is not known."
_UNREAD = "What has left before could not be read."
_NO_RECIPIENT = "The recipient could not be read."
_QUEUE = "Payouts that were asked for earlier wait for room under this limit."


Finding = tuple[Policy, Facts, Window | None, str | None]
"""The members of an ``Evaluation``, which is one: the form in which ten are made in the time of one of those."""


class Evaluation(NamedTuple):
    """One policy's answer about one payout, with all it was computed from.

    It refers to what was looked at; text is made of it where it is kept or shown.
    """

    policy: Policy
    facts: Facts
    window: Window | None
    why: str | None  #: what triggered, in short; None when not triggered

    @property
    def policy_id(self) -> str:
        """Return the policy's lineage."""
        return self.policy.id

    @property
    def version(self) -> int:
        """Return the policy's version."""
        return self.policy.version

    @property
    def action(self) -> str:
        """Return Block, RequestApproval or NoAction."""
        return self.policy.action.kind

    @property
    def triggered(self) -> bool:
        """Tell whether the policy's action is due."""
        return self.why is not None

    @property
    def reason(self) -> str | None:
        """Return why, for people; None when not triggered."""
        return None if self.why is None else _reason(self, self.why)

    @property
    def context(self) -> dict[str, str | int | None]:
        """Return what was looked at.

        Rule, threshold, value, sum, count, unknown, timeframe, scope, recipient, price, network, tid, amount: those
        the rule has. ``sum`` and ``count`` are those of the window without this payout. Values are decimal text in
        USD; ``amount``, and the ``threshold`` it is compared with, are base units as digits.
        """
        return _context(self.policy.rule, self.facts, self.window)

    @property
    def wait(self) -> int | None:
        """Return minutes it may wait: only the window is full, and the policy lets what fits by itself wait."""
        return None if self.why is None else _may_wait(self.policy, self.facts, self.window)


Kind = Literal["allow", "hold", "wait", "block"]


class Verdict(NamedTuple):
    """What all policies together say."""

    kind: Kind
    found: tuple[Finding, ...] = ()  #: what decided it, in any order; empty for allow
    stated: str | None = None  #: why, where no policy decided it

    @property
    def because(self) -> tuple[Evaluation, ...]:
        """Return what decided it, ordered by policy id; empty for allow."""
        return tuple(sorted((Evaluation(*each) for each in self.found), key=lambda each: each.policy.id))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return why, for people; empty for allow."""
        if self.stated is not None:
            return (self.stated,)
        return tuple(each.reason or "" for each in self.because) if self.found else ()

    @property
    def holding(self) -> tuple[str, ...]:
        """Return the ids of the policies whose groups must agree; only for hold."""
        return tuple(each.policy_id for each in self.because) if self.kind == "hold" else ()

    @property
    def full(self) -> tuple[str, ...]:
        """Return the ids of the policies whose windows have no room now; only for wait."""
        return tuple(each.policy_id for each in self.because) if self.kind == "wait" else ()

    @property
    def wait(self) -> int | None:
        """Return minutes it may wait for room, the shortest of those policies; only for wait."""
        waits = [each.wait for each in self.because if each.wait is not None] if self.kind == "wait" else []
        return min(waits) if waits else None


_ALLOW = Verdict("allow")
_ASKS, _REPORTS = RequestApproval.kind, NoAction.kind


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
    why = policy.check(facts, window)
    if queue and why is None and _may_wait(policy, facts, window) is not None:
        why = _QUEUE
    return Evaluation(policy, facts, window, why)


def evaluate_all(policies: Sequence[Policy], facts: Facts, windows: Sequence[Window | None]) -> list[Finding]:
    """Return what each policy says beside its window, which stand in the same order; see ``evaluate``."""
    return [
        (policy, facts, window, policy.check(facts, window)) for policy, window in zip(policies, windows, strict=True)
    ]


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


# What triggers: made once for each version of a policy, called for every payout.


def _check_of(rule: Rule) -> Check:
    match rule:
        case AlwaysTrigger():
            return lambda facts, window: _ALWAYS
        case AmountLimit():
            return _amount_check(rule.limit)
        case NominalLimit():
            return _nominal_check(rule)
        case AmountVelocity():
            return _sum_check(rule.limit)
        case CountVelocity():
            return _count_check(rule.limit)
        case RecipientWhitelist():
            return _recipient_check(rule.addresses)


def _amount_check(limit: int) -> Check:
    def check(facts: Facts, window: Window | None) -> str | None:
        value = facts.value
        if value is None:
            return _UNPRICED
        return _OVER if value > limit else None

    return check


def _nominal_check(rule: NominalLimit) -> Check:
    limits = {(each.network, each.tid): each.limit for each in rule.assets}
    coined = {each.network for each in rule.assets if each.tid.startswith(NATIVE_TID)}

    def check(facts: Facts, window: Window | None) -> str | None:
        network, tid, amount = facts.network, facts.tid, facts.amount
        if network is None or tid is None or amount is None:
            return _UNKNOWN_ASSET
        limit = limits.get((network, tid))
        if limit is None:
            # A network has one coin: under another symbol it may well be the listed one, renamed in the settings since.
            return _OTHER_COIN if tid.startswith(NATIVE_TID) and network in coined else None
        return _OVER if amount > limit else None

    return check


def _sum_check(limit: int) -> Check:
    def check(facts: Facts, window: Window | None) -> str | None:
        if window is None:
            return _UNREAD
        value = facts.value
        if value is None:
            return _UNPRICED
        if window.unknown:
            return _UNKNOWN_SUM
        return _OVER if window.value + value > limit else None

    return check


def _count_check(limit: int) -> Check:
    def check(facts: Facts, window: Window | None) -> str | None:
        if window is None:
            return _UNREAD
        return _OVER if window.count + 1 > limit else None

    return check


def _recipient_check(addresses: frozenset[str]) -> Check:
    def check(facts: Facts, window: Window | None) -> str | None:
        recipient = facts.recipient
        if recipient is None:
            return _NO_RECIPIENT
        return None if recipient in addresses else _STRANGER

    return check


# What is said about it: written out only where it is kept or shown.


def _reason(said: Evaluation, why: str) -> str:
    rule, facts, window = said.policy.rule, said.facts, said.window
    if why == _ALWAYS:
        what = "change" if said.policy.activity_kind in GOVERNING else "payout"
        return f"Every {what} needs this policy's action."
    if why == _OTHER_COIN:
        return f"The limit is for another native coin of {facts.network} than {facts.tid}."
    if why == _STRANGER:
        return f"The recipient {facts.recipient} is not on the list of known addresses."
    if why == _UNKNOWN_SUM and isinstance(rule, AmountVelocity) and window is not None:
        return f"What has left within {rule.timeframe} minutes is not known: {window.unknown} payouts have no value."
    return _over(rule, facts, window) if why == _OVER else why


def _over(rule: Rule, facts: Facts, window: Window | None) -> str:
    match rule:
        case AmountLimit():
            return (
                f"The transfer is worth {CURRENCY} {_money(facts.value)},"
                f" more than the limit of {CURRENCY} {format_value(rule.limit)}."
            )
        case NominalLimit():
            return (
                f"The transfer is of {facts.amount} base units of {facts.tid} on {facts.network},"
                f" more than the limit of {_nominal_limit(rule, facts)}."
            )
        case AmountVelocity() if window is not None and facts.value is not None:
            total = window.value + facts.value
            return (
                f"With this transfer {CURRENCY} {format_value(total)} would leave within {rule.timeframe} minutes,"
                f" more than the limit of {CURRENCY} {format_value(rule.limit)}."
            )
        case CountVelocity() if window is not None:
            return (
                f"With this transfer {window.count + 1} payouts would leave within {rule.timeframe} minutes,"
                f" more than the limit of {rule.limit}."
            )
    raise InvariantBroken("a rule was exceeded that has no limit", rule=rule.kind)


def _context(rule: Rule, facts: Facts, window: Window | None) -> dict[str, str | int | None]:
    match rule:
        case AlwaysTrigger():
            return {"rule": rule.kind}
        case AmountLimit():
            return {"rule": rule.kind, **_price(facts), "threshold": format_value(rule.limit)}
        case NominalLimit():
            limit = _nominal_limit(rule, facts)
            return {
                "rule": rule.kind,
                "network": facts.network,
                "tid": facts.tid,
                "amount": None if facts.amount is None else str(facts.amount),
                "threshold": None if limit is None or facts.amount is None else str(limit),
            }
        case RecipientWhitelist():
            return {"rule": rule.kind, "recipient": facts.recipient, "listed": len(rule.addresses)}
        case AmountVelocity():
            return {
                "rule": rule.kind,
                **_price(facts),
                "threshold": format_value(rule.limit),
                "timeframe": rule.timeframe,
                "scope": rule.scope.value,
                **({} if window is None else {"sum": format_value(window.value), "count": window.count}),
                **({} if window is None else {"unknown": window.unknown}),
            }
        case CountVelocity():
            return {
                "rule": rule.kind,
                "threshold": rule.limit,
                "timeframe": rule.timeframe,
                "scope": rule.scope.value,
                **({} if window is None else {"count": window.count}),
            }


def _nominal_limit(rule: NominalLimit, facts: Facts) -> int | None:
    """Return the limit of the asset that is paid; the last one counts, as in the check."""
    found = [each.limit for each in rule.assets if (each.network, each.tid) == (facts.network, facts.tid)]
    return found[-1] if found else None


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


def verdict(evaluations: Iterable[Finding], *, default: str) -> Verdict:
    """Return what the evaluations of all matching policies say together; their order does not matter.

    Args:
        evaluations: one of each active policy that matches; empty when none does.
        default: ``allow`` or ``block``: the configured answer when no policy matches. Anything else blocks.
    """
    holding: list[Finding] = []
    full: list[Finding] = []
    blocking: list[Finding] = []
    is_covered = False
    for each in evaluations:
        is_covered = True
        policy, facts, window, why = each
        if why is None:
            continue
        kind = policy.action.kind
        if kind == _ASKS:
            holding.append(each)
        # Whatever is neither a hold nor a report blocks: an action this version does not know must not let money out.
        elif kind != _REPORTS:
            (full if _may_wait(policy, facts, window) is not None else blocking).append(each)
    if not is_covered and default != "allow":
        return Verdict("block", stated="No policy covers this wallet, and the default is to block.")
    if blocking:
        return Verdict("block", tuple(blocking))
    if full:
        return Verdict("wait", tuple(full))
    return Verdict("hold", tuple(holding)) if holding else _ALLOW


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
