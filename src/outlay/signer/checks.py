"""What the signer checks about a request, without its journal: shape, evidence, settings, fees; and what it builds.

Nothing that is signed comes from the caller as bytes: chain, token, recipient and amount follow from the signed
request and the signer's own copy of the records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from outlay.codec.evm import Eip1559, Legacy, erc20_transfer
from outlay.core.address import ZERO, parse_address
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput
from outlay.core.fees import BUMP_DENOMINATOR, BUMP_NUMERATOR, VOID_GAS
from outlay.core.money import parse_amount
from outlay.core.seams import MINUTE, SECOND, Instant
from outlay.evidence.canonical import canonical
from outlay.evidence.demand import Checked, check_demand, head_seen, is_its_chain
from outlay.evidence.http_call import is_http
from outlay.evidence.judged import NotAgreed
from outlay.evidence.report import ProofBroken, Trail
from outlay.evidence.state import History, KnownWallet
from outlay.signer import Demand, Purpose, SignedAttempt, SignerRefused, SignRequest, Why
from outlay.signer.journal_rows import KeyRow

AHEAD_MAX: Final[Instant] = 10 * MINUTE
"""How far in the future a request may have been signed."""

_NUMBER_MAX: Final = 2**53 - 1
_ID_MAX: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """A payout that is justified."""

    checked: Checked
    intent: dict[str, Any]
    demand: str  #: canonical text
    challenges: tuple[str, ...]  #: that the signatures behind it answered: each good once


def check_id(text: object, field: str) -> None:
    """Refuse anything but 1 to 128 printable ASCII characters.

    Raises:
        SignerRefused: it is something else.
    """
    if not isinstance(text, str) or not 1 <= len(text) <= _ID_MAX or not (text.isascii() and text.isprintable()):
        raise SignerRefused(f"{field} must be 1 to {_ID_MAX} printable ASCII characters", field=field)


def check_shape(request: SignRequest) -> None:
    """Check everything about a request that can be checked by itself.

    Raises:
        SignerRefused: a member is of another type or out of range, or one contradicts another.
    """
    check_id(request.wallet_id, "wallet_id")
    if not isinstance(request.purpose, Purpose) or type(request.legacy) is not bool:
        raise SignerRefused("purpose or kind of transaction is not known here", field="purpose")
    limits = {
        "nonce": (0, _NUMBER_MAX),
        "fence": (0, _NUMBER_MAX),
        "gas_limit": (VOID_GAS, _NUMBER_MAX),
        "max_fee_per_gas": (1, 2**256 - 1),
        "max_priority_fee_per_gas": (0, 2**256 - 1),
        "fee_cap": (1, 2**256 - 1),
    }
    for name, (low, high) in limits.items():
        number = getattr(request, name)
        if type(number) is not int or not low <= number <= high:
            raise SignerRefused(f"{name} must be an integer from {low} to {high}", field=name)
    if request.max_priority_fee_per_gas > request.max_fee_per_gas:
        raise SignerRefused("the tip is above the fee", field="max_priority_fee_per_gas")
    if request.legacy and request.max_priority_fee_per_gas != request.max_fee_per_gas:
        raise SignerRefused("a legacy transaction has one price: fee and tip are the same", field="legacy")
    if request.gas_limit * request.max_fee_per_gas > request.fee_cap:
        raise SignerRefused("gas limit times fee is above the fee cap", field="fee_cap")
    if request.purpose is Purpose.PAYOUT:
        check_id(request.transfer_id, "transfer_id")
    elif request.gas_limit != VOID_GAS or request.demand is not None:
        raise SignerRefused(f"a void pays nobody and takes {VOID_GAS} gas", field="gas_limit")


# Evidence


def check_payout(history: History, demand: Demand, payer: str) -> Payout:
    """Return the payout that signed calls ask for and agree to, if the wallet ``payer`` is to pay it.

    Raises:
        SignerRefused: they do not; ``why`` says whether records are missing here, the evidence is bad, or the payout
            may not go by the records of now.
    """
    payout, asked, decisions = demand.payout, list(demand.asked), list(demand.decisions)
    for call in (payout, *decisions):
        if records_head(history, call) not in history.numbers:
            raise SignerRefused("signed over records that the signer has not seen", field="demand", why=Why.BEHIND)
    try:
        checked = check_demand(
            history,
            payout=payout,
            asked=asked,
            decisions=decisions,
            payer=payer,
            trail=Trail(),
            unknown_triggers=True,
        )
    except ProofBroken as broken:
        why = Why.NOT_AGREED if isinstance(broken.__cause__, NotAgreed) else Why.EVIDENCE
        raise SignerRefused(f"{broken.step}: {broken.message}", field=broken.field, why=why) from broken
    if checked.wallet_id != payer:
        raise SignerRefused("the signed request is about another wallet", field="wallet_id", why=Why.EVIDENCE)
    calls = (checked.request, *checked.decisions)
    return Payout(
        checked=checked,
        intent=checked.intent.document(),
        demand=canonical({"payout": payout, "asked": asked, "decisions": decisions}).decode("ascii"),
        challenges=tuple(each.challenge for each in calls),
    )


def records_head(history: History, call: object) -> str:
    """Return the head of the records that a call names; nothing of it is believed.

    Raises:
        SignerRefused: it names none.
    """
    if is_http(call):
        try:
            return head_seen(history, call, "payout")
        except InvalidInput as error:
            raise SignerRefused(error.message, field="demand", why=Why.EVIDENCE) from error
    preimage = call.get("preimage") if isinstance(call, Mapping) else None
    head = preimage.get("recordsHead") if isinstance(preimage, Mapping) else None
    if not isinstance(head, str):
        raise SignerRefused("a signed call lacks its preimage", field="demand", why=Why.EVIDENCE)
    return head


def check_age(payout: Payout, now: Instant, *, max_age_s: int, reseeded: int | None) -> None:
    """Refuse a request that was signed too long ago, in the future, or before the journal was put in place again.

    Args:
        payout: the payout.
        now: the signer's time.
        max_age_s: seconds a request is good for.
        reseeded: number of the record that put a new journal in place; None: none did.

    Raises:
        SignerRefused: it is.
    """
    request = payout.checked.request
    issued = request.preimage.issued
    if now - issued > max_age_s * SECOND:
        message = f"the request was signed more than {max_age_s} seconds ago: ask again"
        raise SignerRefused(message, field="payout", why=Why.EVIDENCE)
    if issued - now > AHEAD_MAX:
        message = "the request was signed in the future: check the clocks of server and signer"
        raise SignerRefused(message, field="payout", why=Why.EVIDENCE)
    if reseeded is not None and min(each.seq for each in (request, *payout.checked.decisions)) < reseeded:
        message = "the request was signed before the signer's journal was lost: it may have been paid; ask again"
        raise SignerRefused(message, field="payout", why=Why.EVIDENCE)


# Settings


def check_wallet(history: History, wallet: KnownWallet, key: KeyRow) -> None:
    """Refuse a wallet whose record is not about this key, or whose network means another chain now.

    Raises:
        SignerRefused: so it is.
    """
    if (wallet.address.lower(), wallet.public_key) != (key.address, key.public_key):
        raise SignerRefused("the wallet's record names another key", field="wallet_id", why=Why.EVIDENCE)
    if not is_its_chain(history, wallet):
        message = f"the signed settings do not mean by {wallet.network} the chain this wallet is for"
        raise SignerRefused(message, field="network", why=Why.NOT_AGREED)
    if key.chain_id not in (None, wallet.chain_id):
        message = f"the wallet has signed for chain {key.chain_id}: it pays on no other"
        raise SignerRefused(message, field="network", why=Why.CONFLICT)


def signed_fee_cap(settings: Mapping[str, Any], network: str, asset: str | None) -> int:
    """Return the most a transaction may cost in fees by the signed settings, native base units.

    Args:
        settings: the newest signed money settings.
        network: name of the network.
        asset: what is paid, ``native`` or a contract; None: nothing.

    Raises:
        SignerRefused: they do not say.
    """
    tokens, networks = settings.get("assets"), settings.get("networks")
    listed = [each for each in tokens if isinstance(each, dict)] if isinstance(tokens, list) else []
    own = [each for each in listed if (each.get("network"), each.get("contract")) == (network, asset)]
    chain = networks.get(network) if isinstance(networks, dict) else None
    found = own[0].get("feeCap") if own and own[0].get("feeCap") is not None else None
    if found is None and isinstance(chain, dict):
        found = chain.get("feeCap")
    try:
        return parse_amount(found, field="feeCap") if isinstance(found, str) else _no_fee_cap(network)
    except InvalidInput:
        return _no_fee_cap(network)


def _no_fee_cap(network: str) -> int:
    raise SignerRefused(f"the signed settings have no fee cap of {network}", field="fee_cap", why=Why.NOT_AGREED)


# Fees of what was signed before


def check_raise(request: SignRequest, attempts: Sequence[SignedAttempt], fee_cap: int) -> None:
    """Refuse a further attempt of a slot that would not replace every earlier one, or that goes beyond what was frozen.

    Args:
        request: what is asked for.
        attempts: what was signed for the slot.
        fee_cap: frozen by the first of them, wei.

    Raises:
        SignerRefused: so it is.
    """
    if request.fee_cap > fee_cap:
        raise SignerRefused(f"the fee cap was frozen at {fee_cap}", field="fee_cap", why=Why.CONFLICT)
    for before in attempts:
        if request.purpose is Purpose.PAYOUT and before.purpose is Purpose.VOID:
            raise SignerRefused("this slot was voided: nothing is paid from it", field="nonce", why=Why.CONFLICT)
        if request.purpose is before.purpose and request.gas_limit != before.gas_limit:
            raise SignerRefused("a fee bump keeps the gas limit", field="gas_limit", why=Why.CONFLICT)
        raised = (
            _is_raised(request.max_fee_per_gas, before.max_fee_per_gas),
            _is_raised(request.max_priority_fee_per_gas, before.max_priority_fee_per_gas),
        )
        if not all(raised):
            message = "a fee bump raises fee and tip by 12.5 % above every earlier attempt"
            raise SignerRefused(message, field="max_fee_per_gas", why=Why.CONFLICT)


def _is_raised(new: int, old: int) -> bool:
    return new > old and new * BUMP_DENOMINATOR >= old * BUMP_NUMERATOR


# The transaction


def payment(request: SignRequest, intent: Mapping[str, Any], *, payer: str) -> Eip1559 | Legacy:
    """Return the one transaction that pays what the intent says.

    Raises:
        SignerRefused: the recipient is nobody, the token or the payer.
        InvalidInput: an amount or address is malformed.
    """
    amount, recipient = parse_amount(intent["amount"]), parse_address(intent["recipient"], field="recipient")
    native = intent["asset"] == NATIVE
    target = recipient if native else parse_address(intent["asset"], field="asset")
    if recipient in (ZERO, payer) or (not native and recipient == target):
        message = "the recipient is the zero address, the token or the payer"
        raise SignerRefused(message, field="recipient", why=Why.INVALID)
    data = b"" if native else erc20_transfer(recipient, amount)
    return _transaction(request, intent["chainId"], target, amount if native else 0, data)


def void(request: SignRequest, *, chain_id: int, payer: str) -> Eip1559 | Legacy:
    """Return the transaction that pays nothing to the wallet itself."""
    return _transaction(request, chain_id, payer, 0, b"")


def _transaction(request: SignRequest, chain_id: int, to: str, value: int, data: bytes) -> Eip1559 | Legacy:
    if request.legacy:
        return Legacy(
            chain_id=chain_id,
            nonce=request.nonce,
            gas_price=request.max_fee_per_gas,
            gas_limit=request.gas_limit,
            to=to,
            value=value,
            data=data,
        )
    return Eip1559(
        chain_id=chain_id,
        nonce=request.nonce,
        max_priority_fee_per_gas=request.max_priority_fee_per_gas,
        max_fee_per_gas=request.max_fee_per_gas,
        gas_limit=request.gas_limit,
        to=to,
        value=value,
        data=data,
    )
