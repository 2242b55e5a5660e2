"""What a policy does, in plain words."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from outlay.core.money import format_value
from outlay.core.policy import (
    PAYING,
    PER_BATCH,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    UNFREEZE,
    WALLETS_REFILL,
    AlwaysTrigger,
    AmountLimit,
    AmountVelocity,
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
)
from outlay.core.velocity import Scope

Named = Callable[[str], str]
"""Says how a person, a wallet or anything else with an id is called."""

_CHANGES: Mapping[str, str] = {
    POLICIES_MODIFY: "policies or of what they depend on",
    PERMISSIONS_MODIFY: "permissions",
    PERMISSIONS_ASSIGN: "who holds permissions",
    UNFREEZE: "what is frozen, to let it go",
}
_SCOPES: Mapping[Scope, str] = {
    Scope.WALLET: "from one wallet",
    Scope.POLICY: "from all these wallets together",
    Scope.ORGANIZATION: "from all wallets of the organization together",
    Scope.RECIPIENT: "to one recipient",
    Scope.INITIATOR: "asked for by one person or machine",
}
_MINUTES = (("day", 1440), ("hour", 60), ("minute", 1))


def policy_words(policy: Policy, named: Named = str) -> str:
    """Return what a policy does, as one sentence."""
    what = f"{_about(policy, named)}, {_rule(policy.rule)}" if policy.activity_kind in PAYING else _about(policy, named)
    return f"{what}: {_action(policy, named)}."


def stretch(minutes: int) -> str:
    """Return a number of minutes as people say it, e.g. ``24 hours`` or ``90 minutes``."""
    if minutes == 1440:
        return "24 hours"
    unit, size = next((unit, size) for unit, size in _MINUTES if minutes % size == 0)
    count = minutes // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def dollars(value: int) -> str:
    """Return a value in 10**-8 USD, exactly, e.g. ``$10,000.50``."""
    whole, point, part = format_value(value).partition(".")
    return f"${int(whole):,}{point}{part.ljust(2, '0') if part else ''}"


def _about(policy: Policy, named: Named) -> str:
    if policy.activity_kind in PAYING:
        what = "A refill" if policy.activity_kind == WALLETS_REFILL else "A payout"
        return what + _wallets(policy.filters, named)
    listed = policy.filters.policy_ids or policy.filters.permission_ids
    which = f" {_several([named(each) for each in listed], 'or')}" if listed else ""
    return f"A change of {_CHANGES[policy.activity_kind]}{which}"


def _wallets(filters: Filters, named: Named) -> str:
    parts = []
    if filters.wallet_ids is not None:
        parts.append(f" from {_several([named(each) for each in filters.wallet_ids], 'or')}")
    if filters.tags_any is not None:
        parts.append(f" from a wallet tagged {_several(filters.tags_any, 'or')}")
    if filters.tags_all is not None:
        parts.append(f" from a wallet tagged {_several(filters.tags_all, 'and')}")
    return " and".join(parts) if parts else " from any wallet"


def _rule(rule: Rule) -> str:
    match rule:
        case AlwaysTrigger():
            return "whatever it is"
        case AmountLimit():
            return f"if it is worth more than {dollars(rule.limit)}"
        case AmountVelocity():
            return (
                f"if with it more than {dollars(rule.limit)} would leave within {stretch(rule.timeframe)}"
                f" {_SCOPES[rule.scope]}"
            )
        case CountVelocity():
            return (
                f"if it would be more than {rule.limit:,} payouts within {stretch(rule.timeframe)}"
                f" {_SCOPES[rule.scope]}"
            )
        case RecipientWhitelist():
            known = len(rule.addresses)
            return f"if its recipient is not one of the {known} listed" if known else "whoever it goes to"
        case NominalLimit():
            limits = (f"{each.limit:,} base units of {each.tid} on {each.network}" for each in rule.assets)
            return f"if it is more than {_several(list(limits), 'or')}"


def _action(policy: Policy, named: Named) -> str:
    subject = "it" if policy.activity_kind in PAYING else "the change"
    match policy.action:
        case Block(wait=None):
            return f"{subject} is refused"
        case Block():
            return f"{subject} waits for room, at most {stretch(policy.action.wait or 0)}, and is refused then"
        case NoAction():
            return f"{subject} goes on, and this is reported"
        case RequestApproval():
            return f"{subject} waits until {_asked(policy.action, named)}"


def _asked(action: RequestApproval, named: Named) -> str:
    whom = ", and ".join(_group(each, named) for each in action.groups)
    once = " (the payouts of a batch may be agreed to all at once)" if action.per == PER_BATCH else ""
    timeout = action.auto_reject_timeout
    ends = "" if timeout is None else f"; unanswered it is refused after {stretch(timeout)}"
    return f"{whom}{once}{ends}"


def _group(group: Group, named: Named) -> str:
    agree = "agrees" if group.quorum == 1 else "agree"
    also = ", who may be whoever asked" if group.initiator_can_approve else ""
    if group.approvers is None:
        people = "person" if group.quorum == 1 else "people"
        return f"{group.quorum} {people} of the organization {agree}{also}"
    if not group.approvers:
        return f"{group.quorum} of those listed {agree}, and nobody is listed yet, so it can never go"
    listed = [named(each) for each in group.approvers]
    return (
        f"{group.quorum} of {_several(listed, 'and')} {agree}{also}"
        if len(listed) > 1
        else f"{listed[0]} {agree}{also}"
    )


def _several(names: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def asked_people(policy: Policy) -> Iterator[str]:
    """Yield the id of everybody a policy names."""
    for group in policy.action.groups if isinstance(policy.action, RequestApproval) else ():
        yield from group.approvers or ()
