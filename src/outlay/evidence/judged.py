"""What can be said offline about one payout under the policies on record.

A rule that looks at one payout alone (always, its value, its amount, its recipient) is judged again; one that looks at
other payouts too cannot be, and neither can a value whose price is not in the signed settings. Those are listed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from outlay.core.asset import NATIVE, Asset
from outlay.core.intent import Intent
from outlay.core.money import value_of
from outlay.core.policy import (
    WALLETS_SIGN,
    AmountLimit,
    Facts,
    NoAction,
    NominalLimit,
    Policy,
    RequestApproval,
    Velocity,
    evaluate,
    matches,
)
from outlay.core.policy_document import read_policy
from outlay.core.seams import MINUTE, Instant
from outlay.evidence.bundle import EvidenceBroken
from outlay.evidence.record import CLOCKS_APART
from outlay.evidence.state import History, KnownWallet, PolicyVersion


class NotAgreed(EvidenceBroken):
    """Every signature is good, but by the records of now the payout may not go: judge it again, or ask people."""


SIGNED_FOR: Instant = 20 * MINUTE
"""How long after its challenge was made a call may be carried out: the challenge's life and the token's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the policies on record say about one payout, as far as it can be told."""

    value: int | None  #: 10**-8 USD by the signed prices; None: not known
    asking: Mapping[str, str]  #: policies that ask for approval: name by id
    said: tuple[tuple[str, int, str], ...]  #: name, version and answer of each policy that was judged
    unproven: tuple[str, ...]  #: what each policy that could not be judged would have needed


def judge_offline(
    history: History,
    wallet_id: str,
    intent: Intent,
    *,
    first: int,
    newest: int,
    issued: Instant,
    unknown_triggers: bool = False,
    activity: str = WALLETS_SIGN,
) -> Judged:
    """Judge a payout as of the record that its request saw, and as of the newest.

    Then every wallet of the pool that was named could have paid it, so all are looked at; now it is one.

    Args:
        history: the records up to ``newest``.
        wallet_id: who pays.
        intent: what is paid.
        first: number of the newest record that the request saw.
        newest: number of the newest record that any signature saw.
        issued: when the request was about to be signed.
        unknown_triggers: what looks at the payout alone and cannot be judged counts as triggered, as at admission;
            else it is only listed.
        activity: what policies look at it as. Under a mandate no policy has to be about it: people signed the mandate.

    Raises:
        NotAgreed: a policy blocks it, or no policy is about it and the default is to block.
    """
    facts = _facts(history, intent, first, issued)
    asking: dict[str, str] = {}
    said: dict[tuple[str, int], tuple[str, int, str]] = {}
    unproven: dict[str, None] = {}
    earlier: set[str] = set()
    payer = {wallet_id: history.wallets[wallet_id]}
    then = payer if intent.pool is None else history.members_at(intent.pool, first)
    for seq, payers in ((first, then), (newest, payer)):
        about = _about(history, seq, payers, earlier, activity)
        for policy in about:
            why = _unknown(policy, facts)
            if why is not None and (isinstance(policy.rule, Velocity) or not unknown_triggers):
                unproven[f"what policy {policy.name!r} (version {policy.version}) said: {why}"] = None
                continue
            evaluation = evaluate(policy, facts)
            answer = "does not apply" if not evaluation.triggered else _ANSWERS.get(policy.action.kind, "blocks")
            said[policy.id, policy.version] = (policy.name, policy.version, answer)
            if answer == "blocks":
                raise NotAgreed(f"the policy {policy.name!r} blocks this payout: {evaluation.reason}", field="payout")
            if answer == "asks for approval":
                asking[policy.id] = policy.name
        earlier = {each.id for each in about}
    return Judged(value=facts.value, asking=asking, said=tuple(said.values()), unproven=tuple(unproven))


def _about(
    history: History, seq: int, payers: Mapping[str, KnownWallet], earlier: Collection[str], activity: str
) -> list[Policy]:
    """Return the policies that judge a payout right after record ``seq``.

    Args:
        history: the records.
        seq: number of the record.
        payers: who may pay, by id.
        earlier: ids of those that judged it when it was requested: they do so whatever happens to tags and filters.
        activity: what policies look at it as.

    Raises:
        NotAgreed: no policy is about one of the payers, and the default is to block.
    """
    found = [policy_of(policy_id, each) for policy_id, each in sorted(history.policies_at(seq).items())]
    about: set[str] = set()
    for wallet_id, wallet in payers.items():
        tags = wallet.tags_at(seq)
        mine = {
            each.id
            for each in found
            if matches(each, wallet_id, tags, activity=activity)
            or (each.id in earlier and each.activity_kind == activity)
        }
        if not mine and activity == WALLETS_SIGN and history.settings_at(seq).get("default") != "allow":
            raise NotAgreed("no policy is about this wallet, and then the signed settings block", field="payout")
        about |= mine
    return [each for each in found if each.id in about]


def policy_of(policy_id: str, version: PolicyVersion) -> Policy:
    """Return what a version of a policy says; each is read once, for every payout asks for all of them.

    Raises:
        InvalidInput: it is malformed.
    """
    known = _READ.get(id(version))
    if known is None or known[0] is not version or known[1].id != policy_id:
        if len(_READ) >= _READ_MAX:
            _READ.clear()
        # With the version itself, so that its identity is nobody else's while it is here.
        known = _READ[id(version)] = (version, read_policy(version.document, id=policy_id, version=version.version))
    return known[1]


_READ: dict[int, tuple[PolicyVersion, Policy]] = {}
_READ_MAX: Final = 4096
_ANSWERS = {NoAction.kind: "reports only", RequestApproval.kind: "asks for approval"}


def _unknown(policy: Policy, facts: Facts) -> str | None:
    """Return why a policy cannot be judged from one payout alone, or None."""
    if isinstance(policy.rule, Velocity):
        return "it depends on what else was paid in its window"
    if isinstance(policy.rule, AmountLimit) and facts.value is None:
        return "the signed settings give no single price for what was paid"
    if isinstance(policy.rule, NominalLimit) and facts.tid is None:
        return "the signed settings give the asset no single name"
    return None


def _facts(history: History, intent: Intent, first: int, issued: Instant) -> Facts:
    """Return what policies look at, as it was fixed when the payout was requested.

    What the settings that were in force within the life of the request's signature disagree about is not known.
    """
    amount = int(intent.amount)
    values: set[int | None] = set()
    tids: set[str | None] = set()
    for settings in history.settings_while(first, issued + SIGNED_FOR + CLOCKS_APART):
        asset = find_asset(settings, intent.network, intent.asset)
        price = None if asset is None else _price(settings, asset.symbol)
        if asset is None or price is None:
            values.add(None)
        else:
            values.add(value_of(amount, decimals=asset.decimals, price=price))
        tids.add(None if asset is None else asset.tid)
    return Facts(
        value=values.pop() if len(values) == 1 else None,
        recipient=intent.recipient,
        network=intent.network,
        tid=tids.pop() if len(tids) == 1 else None,
        amount=amount,
    )


def find_asset(settings: Mapping[str, Any], network: str, key: str) -> Asset | None:
    """Return an asset as money settings list it.

    Args:
        settings: what was signed; whatever is malformed there is not listed.
        network: name of its network.
        key: ``native`` or the contract in lower case.
    """
    networks, tokens = settings.get("networks"), settings.get("assets")
    chain = networks.get(network) if isinstance(networks, dict) else None
    if not isinstance(chain, dict) or not isinstance(tokens, list):
        return None
    if key == NATIVE:
        found = [chain.get("native")]
    else:
        listed = [each for each in tokens if isinstance(each, dict)]
        found = [each for each in listed if (each.get("network"), each.get("contract")) == (network, key)]
    if len(found) != 1 or not isinstance(found[0], dict):
        return None
    symbol, decimals = found[0].get("symbol"), found[0].get("decimals")
    if not isinstance(symbol, str) or type(decimals) is not int or not 0 <= decimals <= 77:
        return None
    kind, contract = ("Native", None) if key == NATIVE else ("Erc20", key)
    return Asset(network=network, kind=kind, contract=contract, symbol=symbol, decimals=decimals)


def find_symbol(settings: Mapping[str, Any], network: str, symbol: str) -> str | None:
    """Return ``native`` or the contract that money settings call ``symbol`` on a network; None: nothing, or several."""
    tokens = settings.get("assets")
    keys = [each.get("contract") for each in tokens if isinstance(each, dict)] if isinstance(tokens, list) else []
    listed = [find_asset(settings, network, key) for key in {NATIVE, *keys} if isinstance(key, str)]
    found = [each.key for each in listed if each is not None and each.symbol == symbol]
    return found[0] if len(found) == 1 else None


def _price(settings: Mapping[str, Any], symbol: str) -> Decimal | None:
    prices = settings.get("prices")
    text = prices.get(symbol) if isinstance(prices, dict) else None
    try:
        price = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        return None
    return price if price is not None and price.is_finite() and price > 0 else None
