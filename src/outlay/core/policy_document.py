"""Policies as JSON: reading what a request describes, writing what we keep and what we answer, the presets."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from outlay.core.address import parse_address
from outlay.core.asset import ERC20_TID, NATIVE_TID
from outlay.core.errors import InvalidInput
from outlay.core.money import AMOUNT_MAX, format_value, limit_value
from outlay.core.policy import (
    CURRENCY,
    GOVERNING,
    PAYING,
    PER_BATCH,
    PER_ROW,
    PERMISSIONS_ASSIGN,
    PERMISSIONS_MODIFY,
    POLICIES_MODIFY,
    UNFREEZE,
    WALLETS_REFILL,
    WALLETS_SIGN,
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
    Velocity,
)
from outlay.core.velocity import TIMEFRAME_MAX, Scope

LIMIT_DIGITS = 15
"""Significant decimal digits a limit may have: so many always survive an IEEE double."""

TIMEOUT_MAX = 5_256_000
"""The longest ``autoRejectTimeout`` in minutes: ten years."""

GOVERNING_TIMEOUT_MIN = 60
"""The shortest ``autoRejectTimeout`` of a policy about changes: with less, nobody could agree to lengthen it again."""

WAIT_MAX, WAIT_MARGIN = 10_080, 60
"""The longest ``wait`` of a ``Block`` in minutes, a week; and how much shorter than a request's life a new one is."""

ADDRESSES_MAX = 1000
"""Addresses one whitelist may hold; a request body has no room for many more."""

ASSETS_MAX, TID_MAX = 100, 200
"""Assets one rule may limit, and characters the name of one may have."""

TID_PATTERN = r"[a-z0-9_]+:[^\s](?:[ ]?[^\s])*"
LIMIT_PATTERN = "0|[1-9][0-9]{0,77}"
_TID, _NOMINAL_LIMIT = re.compile(TID_PATTERN), re.compile(LIMIT_PATTERN)

ACTIONS: Mapping[str, tuple[str, ...]] = {
    WALLETS_SIGN: (Block.kind, NoAction.kind, RequestApproval.kind),
    WALLETS_REFILL: (Block.kind, NoAction.kind, RequestApproval.kind),
    # If changes of policies could be blocked, the policy that blocks them could never be changed either.
    POLICIES_MODIFY: (RequestApproval.kind,),
    PERMISSIONS_MODIFY: (Block.kind, RequestApproval.kind),
    PERMISSIONS_ASSIGN: (Block.kind, RequestApproval.kind),
    UNFREEZE: (Block.kind, RequestApproval.kind),
}
"""Activity kind -> the actions its policies may have."""

_FILTERS: Mapping[str, Mapping[str, str]] = {
    WALLETS_SIGN: {"walletId": "wallet_ids"},
    WALLETS_REFILL: {"walletId": "wallet_ids"},
    POLICIES_MODIFY: {"policyId": "policy_ids"},
    PERMISSIONS_MODIFY: {"permissionId": "permission_ids"},
    PERMISSIONS_ASSIGN: {"permissionId": "permission_ids"},
    UNFREEZE: {},
}
"""Activity kind -> filter that lists ids -> member of ``Filters``."""


def parse_policy(document: object, *, id: str, version: int, allow_empty: bool = False) -> Policy:
    """Return the policy a request body describes.

    Args:
        document: ``name``, ``activityKind``, ``rule``, ``action`` and, where wanted, ``filters``, as parsed JSON.
            A number may carry the literal it was read from as ``.text``. A ``status`` is ignored.
        id: the lineage.
        version: 1 for a new policy, one more for each edit.
        allow_empty: accept a group without approvers; only presets have such groups, and nobody satisfies them.

    Raises:
        InvalidInput: names the field, for example ``rule.configuration.limit``, and says what to do.

    Source: reference/dfns-api.md 7.
    """
    fields = _members(document, "", {"name", "activityKind", "rule", "action", "filters", "status"})
    kind = _text(fields.get("activityKind"), "activityKind", 64)
    if kind not in ACTIONS:
        raise InvalidInput("use one of " + ", ".join(ACTIONS), field="activityKind")
    policy = Policy(
        id=id,
        version=version,
        name=_text(fields.get("name"), "name", 200),
        activity_kind=kind,
        rule=_rule(fields.get("rule")),
        action=_action(fields.get("action"), kind, allow_empty=allow_empty),
        filters=_filters(fields.get("filters"), kind),
    )
    if kind in GOVERNING and not isinstance(policy.rule, AlwaysTrigger):
        raise InvalidInput(f"a policy about {kind} has the rule {AlwaysTrigger.kind}", field="rule.kind")
    if isinstance(policy.action, Block) and policy.action.wait is not None:
        _check_wait(policy)
    if policy.action.kind not in ACTIONS[kind]:
        raise InvalidInput(f"a policy about {kind} has the action " + " or ".join(ACTIONS[kind]), field="action.kind")
    return policy


def _check_wait(policy: Policy) -> None:
    """Refuse a wait where nothing would come of it: only a window gets room by itself."""
    if policy.activity_kind != WALLETS_SIGN or not isinstance(policy.rule, Velocity):
        raise InvalidInput(
            f"only {AmountVelocity.kind} and {CountVelocity.kind} of {WALLETS_SIGN} let payouts wait for room",
            field="action.wait",
        )


def read_policy(document: dict[str, Any], *, id: str, version: int) -> Policy:
    """Return the policy that ``stored_document`` wrote."""
    rule = document["rule"]
    limit = rule.get("configuration", {}).get("limit")
    if isinstance(limit, str):
        rule = {**rule, "configuration": {**rule["configuration"], "limit": _Literal(limit)}}
    return parse_policy({**document, "rule": rule}, id=id, version=version, allow_empty=True)


def stored_document(policy: Policy) -> dict[str, Any]:
    """Return the policy as we keep it: the contract's form, but a limit in dollars is its decimal text."""
    return _document(policy, limit=format_value)


def wire_document(policy: Policy) -> dict[str, Any]:
    """Return the policy as the contract answers it: limits are numbers, a default scope is left out.

    A limit has at most 15 significant digits, so the number is exactly the one that was sent.
    """
    return _document(policy, limit=_number)


class _Literal(float):
    """A number with the literal it was written as."""

    text: str

    def __new__(cls, text: str) -> "_Literal":
        number = super().__new__(cls, text)
        number.text = text
        return number


def _number(value: int) -> int | float:
    text = format_value(value)
    return float(text) if "." in text else int(text)


def _document(policy: Policy, *, limit: Callable[[int], str | int | float]) -> dict[str, Any]:
    action: dict[str, Any] = {"kind": policy.action.kind}
    if isinstance(policy.action, RequestApproval):
        action["autoRejectTimeout"] = policy.action.auto_reject_timeout
        action["approvalGroups"] = [group.document() for group in policy.action.groups]
        if policy.action.per != PER_ROW:
            action["per"] = policy.action.per
    if isinstance(policy.action, Block) and policy.action.wait is not None:
        action["wait"] = policy.action.wait
    tags = {
        **({} if policy.filters.tags_any is None else {"hasAny": list(policy.filters.tags_any)}),
        **({} if policy.filters.tags_all is None else {"hasAll": list(policy.filters.tags_all)}),
    }
    listed = {name: getattr(policy.filters, member) for name, member in _FILTERS[policy.activity_kind].items()}
    filters: dict[str, Any] = {
        **{name: {"in": list(values)} for name, values in listed.items() if values is not None},
        **({"walletTags": tags} if tags else {}),
    }
    return {
        "name": policy.name,
        "activityKind": policy.activity_kind,
        "rule": {"kind": policy.rule.kind, "configuration": _configuration(policy.rule, limit)},
        "action": action,
        **({"filters": filters} if filters else {}),
    }


def _configuration(rule: Rule, limit: Callable[[int], str | int | float]) -> dict[str, Any]:
    if isinstance(rule, RecipientWhitelist):
        return {"addresses": list(rule.listed)}
    if isinstance(rule, NominalLimit):
        return {
            "assets": [{"network": each.network, "tid": each.tid, "limit": str(each.limit)} for each in rule.assets]
        }
    if isinstance(rule, AlwaysTrigger):
        return {}
    answer: dict[str, Any] = {"limit": rule.limit if isinstance(rule, CountVelocity) else limit(rule.limit)}
    if not isinstance(rule, CountVelocity):
        answer["currency"] = CURRENCY
    if isinstance(rule, Velocity):
        answer["timeframe"] = rule.timeframe
        if rule.scope is not Scope.WALLET:
            answer["scope"] = rule.scope.value
    return answer


def _members(value: object, field: str, allowed: set[str]) -> dict[str, Any]:
    """Return ``value`` if it is an object whose members are all ``allowed``."""
    if not isinstance(value, dict):
        raise InvalidInput("must be a JSON object", field=field or "body")
    for name in value:
        if name not in allowed:
            offered = ", ".join(sorted(allowed)) or "no members"
            raise InvalidInput(
                f"is not known here: use {offered}", field=f"{field}.{name}" if field else name or "body"
            )
    return value


def _text(value: object, field: str, length_max: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > length_max:
        raise InvalidInput(f"must be a text of 1 to {length_max} characters", field=field)
    return value


def _whole(value: object, field: str, *, least: int, most: int) -> int:
    """Return ``value`` if it is an integer; booleans are not."""
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"must be a whole number from {least} to {most}", field=field)
    return value


def _flag(value: object, field: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidInput("must be true or false", field=field)
    return value


def _list(value: object, field: str, *, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise InvalidInput(f"must be a list of {least} to {most} entries", field=field)
    return value


def _unique(value: object, field: str, *, least: int, most: int, length_max: int = 64) -> tuple[str, ...]:
    """Return ``value`` if it is a list of different texts."""
    found: list[str] = []
    for place, each in enumerate(_list(value, field, least=least, most=most)):
        text = _text(each, f"{field}[{place}]", length_max)
        if text in found:
            raise InvalidInput("is listed twice: remove one", field=f"{field}[{place}]")
        found.append(text)
    return tuple(found)


def _dollars(value: object, field: str) -> int:
    """Return a limit in 10**-8 USD, read from its literal where the number carries one.

    More than 15 significant digits are refused: beyond that two limits can be one IEEE double, and what people sign
    is canonical JSON, whose numbers are doubles.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput("a limit is a number of dollars, not a text", field=field)
    text = str(getattr(value, "text", None) or repr(value))
    limit = limit_value(text, field=field)
    if len(format_value(limit).replace(".", "").strip("0")) > LIMIT_DIGITS:
        raise InvalidInput(f"a limit has at most {LIMIT_DIGITS} significant digits: round it", field=field)
    return limit


def _rule(value: object) -> Rule:
    fields = _members(value, "rule", {"kind", "configuration"})
    kind, place = fields.get("kind"), "rule.configuration"
    given = fields.get("configuration")
    if kind == AlwaysTrigger.kind:
        _members({} if given is None else given, place, set())
        return AlwaysTrigger()
    if kind == AmountLimit.kind:
        given = _members(given, place, {"limit", "currency"})
        _currency(given, place)
        return AmountLimit(_dollars(given.get("limit"), f"{place}.limit"))
    if kind == NominalLimit.kind:
        return NominalLimit(_assets(_members(given, place, {"assets"}).get("assets"), f"{place}.assets"))
    if kind == RecipientWhitelist.kind:
        given = _members(given, place, {"addresses"})
        listed = _list(given.get("addresses"), f"{place}.addresses", least=0, most=ADDRESSES_MAX)
        known = [parse_address(each, field=f"{place}.addresses[{at}]") for at, each in enumerate(listed)]
        return RecipientWhitelist(tuple(listed), frozenset(known))
    if kind == AmountVelocity.kind:
        given = _members(given, place, {"limit", "currency", "timeframe", "scope"})
        _currency(given, place)
        return AmountVelocity(_dollars(given.get("limit"), f"{place}.limit"), *_stretch(given, place))
    if kind == CountVelocity.kind:
        given = _members(given, place, {"limit", "timeframe", "scope"})
        limit = _whole(given.get("limit"), f"{place}.limit", least=0, most=2**53 - 1)
        return CountVelocity(limit, *_stretch(given, place))
    offered = (AlwaysTrigger, AmountLimit, NominalLimit, AmountVelocity, CountVelocity, RecipientWhitelist)
    raise InvalidInput("use one of " + ", ".join(each.kind for each in offered), field="rule.kind")


def _assets(value: object, field: str) -> tuple[AssetLimit, ...]:
    found: list[AssetLimit] = []
    for at, each in enumerate(_list(value, field, least=1, most=ASSETS_MAX)):
        place = f"{field}[{at}]"
        given = _members(each, place, {"network", "tid", "limit"})
        network = _text(given.get("network"), f"{place}.network", 64)
        tid = _tid(given.get("tid"), f"{place}.tid")
        for other in found:
            if other.network != network:
                continue
            if other.tid == tid:
                raise InvalidInput("is listed twice: remove one", field=f"{place}.tid")
            if other.tid.startswith(NATIVE_TID) and tid.startswith(NATIVE_TID):
                raise InvalidInput(f"{network} has one native coin, and {other.tid} is listed", field=f"{place}.tid")
        found.append(AssetLimit(network, tid, _nominal(given.get("limit"), f"{place}.limit")))
    return tuple(found)


def _tid(value: object, field: str) -> str:
    """Return the name of an asset in lower case."""
    text = _text(value, field, TID_MAX)
    if _TID.fullmatch(text) is None:
        raise InvalidInput(f"an asset is written as {NATIVE_TID}eth or {ERC20_TID}0x and 40 digits", field=field)
    if text.startswith(NATIVE_TID):
        return _text(text.lower(), field, TID_MAX)  # the lower case of a few letters is longer
    if text.startswith(ERC20_TID):
        return ERC20_TID + parse_address(text.removeprefix(ERC20_TID), field=field)
    raise InvalidInput(
        f"only {NATIVE_TID} and {ERC20_TID} assets are paid from here: a limit for another kind would never apply",
        field=field,
    )


def _nominal(value: object, field: str) -> int:
    """Return a limit in base units, 0 to 2**256 - 1."""
    if not isinstance(value, str) or _NOMINAL_LIMIT.fullmatch(value) is None or int(value) > AMOUNT_MAX:
        raise InvalidInput(
            "a limit is a string of digits in the asset's smallest unit, without leading zero, at most 2^256 - 1",
            field=field,
        )
    return int(value)


def _currency(given: dict[str, Any], place: str) -> None:
    if given.get("currency") != CURRENCY:
        raise InvalidInput(f'limits are in dollars: write "{CURRENCY}"', field=f"{place}.currency")


def _stretch(given: dict[str, Any], place: str) -> tuple[int, Scope]:
    timeframe = _whole(given.get("timeframe"), f"{place}.timeframe", least=1, most=TIMEFRAME_MAX)
    scope = given.get("scope", Scope.WALLET.value)
    if scope not in [each.value for each in Scope]:
        raise InvalidInput("use one of " + ", ".join(Scope), field=f"{place}.scope")
    return timeframe, Scope(scope)


def _action(value: object, activity_kind: str, *, allow_empty: bool) -> Action:
    fields = _members(value, "action", {"kind", "autoRejectTimeout", "approvalGroups", "per", "wait"})
    kind = fields.get("kind")
    if kind == Block.kind:
        wait = _members(fields, "action", {"kind", "wait"}).get("wait")
        return Block(None if wait is None else _whole(wait, "action.wait", least=1, most=WAIT_MAX))
    if kind == RequestApproval.kind:
        _members(fields, "action", {"kind", "autoRejectTimeout", "approvalGroups", "per"})
        timeout = fields.get("autoRejectTimeout")
        if timeout is not None:
            least = 1 if activity_kind in PAYING else GOVERNING_TIMEOUT_MIN
            timeout = _whole(timeout, "action.autoRejectTimeout", least=least, most=TIMEOUT_MAX)
        groups = _list(fields.get("approvalGroups"), "action.approvalGroups", least=1, most=100)
        read = [
            _group(each, f"action.approvalGroups[{place}]", allow_empty=allow_empty)
            for place, each in enumerate(groups)
        ]
        per = fields.get("per", PER_ROW)
        if per not in ((PER_ROW, PER_BATCH) if activity_kind == WALLETS_SIGN else (PER_ROW,)):
            raise InvalidInput(f"is row, or batch where the policy is about {WALLETS_SIGN}", field="action.per")
        return RequestApproval(timeout, tuple(read), per)
    if kind != NoAction.kind:
        raise InvalidInput("use one of Block, NoAction, RequestApproval", field="action.kind")
    _members(fields, "action", {"kind"})
    return NoAction()


def _group(value: object, place: str, *, allow_empty: bool) -> Group:
    known = {"name", "quorum", "approvers", "initiatorCanApprove", "serviceAccountsCanApprove"}
    fields = _members(value, place, known)
    quorum = _whole(fields.get("quorum"), f"{place}.quorum", least=1, most=100)
    who = _members(fields.get("approvers"), f"{place}.approvers", {"userId"})
    approvers: tuple[str, ...] | None = None
    if who:
        listed = _members(who["userId"], f"{place}.approvers.userId", {"in"}).get("in")
        least = 0 if allow_empty else 1
        approvers = _unique(listed, f"{place}.approvers.userId.in", least=least, most=100)
        if approvers and quorum > len(approvers):
            raise InvalidInput(
                f"{quorum} must agree but only {len(approvers)} are listed: list more people or lower the quorum",
                field=f"{place}.quorum",
            )
    name = fields.get("name")
    return Group(
        name=None if name is None else _text(name, f"{place}.name", 200),
        quorum=quorum,
        approvers=approvers,
        initiator_can_approve=_flag(fields.get("initiatorCanApprove"), f"{place}.initiatorCanApprove"),
        service_accounts_can_approve=_flag(
            fields.get("serviceAccountsCanApprove"), f"{place}.serviceAccountsCanApprove"
        ),
    )


def _filters(value: object, kind: str) -> Filters:
    by_id = _FILTERS[kind]
    fields = {} if value is None else _members(value, "filters", {*by_id, *(["walletTags"] if kind in PAYING else [])})
    found: dict[str, tuple[str, ...]] = {}
    for name, member in by_id.items():
        if fields.get(name) is not None:
            listed = _members(fields[name], f"filters.{name}", {"in"}).get("in")
            found[member] = _unique(listed, f"filters.{name}.in", least=1, most=1000)
    tags = fields.get("walletTags")
    if tags is not None:
        for name in _members(tags, "filters.walletTags", {"hasAny", "hasAll"}):
            listed = _unique(tags[name], f"filters.walletTags.{name}", least=1, most=100)
            found["tags_any" if name == "hasAny" else "tags_all"] = listed
    return Filters(**found)


# --- presets ---------------------------------------------------------------------------------------------------


def preset_policies(name: str) -> list[dict[str, Any]]:
    """Return the policies ``outlay init`` writes for a preset, in the contract's form.

    Groups list nobody yet: what they hold waits until an administrator fills them.

    Args:
        name: ``standard``, ``high-volume`` or ``none``.

    Raises:
        InvalidInput: no preset has this name.
    """
    if name == "none":
        return []
    if name == "standard":
        unknown = {"kind": RecipientWhitelist.kind, "configuration": {"addresses": []}}
        return [
            _preset("At most $100,000 in 24 hours", _cap(100_000, 1440), {"kind": Block.kind}),
            _preset("Over $10,000: one approver", _over(10_000), _approval(1)),
            _preset("Unknown recipient: one approver", unknown, _approval(1)),
        ]
    if name == "high-volume":
        count = {"limit": 1000, "timeframe": 60, "scope": Scope.POLICY.value}
        many = {"kind": CountVelocity.kind, "configuration": count}
        return [
            _preset("Over $500,000: two approvers", _over(500_000), _approval(2)),
            _preset("At most $2,000,000 in 1 hour", _cap(2_000_000, 60), {"kind": Block.kind}),
            _preset("At most 1,000 payouts in 1 hour", many, {"kind": Block.kind}),
        ]
    raise InvalidInput("presets are standard, high-volume and none", field="preset")


def _preset(name: str, rule: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
    filters = {"walletTags": {"hasAny": ["payouts"]}}
    return {"name": name, "activityKind": WALLETS_SIGN, "rule": rule, "action": action, "filters": filters}


def _over(limit: int) -> dict[str, Any]:
    return {"kind": AmountLimit.kind, "configuration": {"limit": limit, "currency": CURRENCY}}


def _cap(limit: int, timeframe: int) -> dict[str, Any]:
    configuration = {
        "limit": limit,
        "currency": CURRENCY,
        "timeframe": timeframe,
        "scope": Scope.POLICY.value,
    }
    return {"kind": AmountVelocity.kind, "configuration": configuration}


def _approval(quorum: int) -> dict[str, Any]:
    group = {"name": "approvers", "quorum": quorum, "approvers": {"userId": {"in": []}}}
    return {"kind": RequestApproval.kind, "autoRejectTimeout": 1440, "approvalGroups": [group]}
