"""A signer in this process: it checks a request, journals it, then builds and signs the transaction itself.

Nothing that is signed comes from the caller as bytes. What the caller cannot change without a refusal: chain,
wallet, asset, recipient and amount of an intent once signed, its nonce, and the largest fee.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from outlay.codec.evm import Eip1559, erc20_transfer, tx_hash
from outlay.core.address import ZERO, parse_address
from outlay.core.asset import NATIVE
from outlay.core.errors import InvalidInput, InvariantBroken, SignerRefused
from outlay.core.faultpoint import fault
from outlay.core.ids import KEY, new_id
from outlay.core.intent import VERSION
from outlay.core.money import parse_amount
from outlay.core.seams import Clock
from outlay.evidence.canonical import digest
from outlay.signer import PublicKey, Signed, SignerStatus, SignRequest
from outlay.signer.journal import Attempt, Journal, KeyRow
from outlay.signer.keys import SigningKey
from outlay.signer.keystore import Keystore

GAS_MIN: Final = 21_000
"""What the plainest transaction costs. Source: Ethereum yellow paper, appendix G."""

_NUMBER_MAX: Final = 2**53 - 1
_ID_MAX: Final = 128
_INTENT_TEXTS: Final = (
    "org",
    "initiator",
    "wallet",
    "network",
    "asset",
    "recipient",
    "amount",
    "memo",
    "priority",
)
_INTENT_MEMBERS: Final = frozenset((*_INTENT_TEXTS, "v", "chainId", "externalId"))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that passed the checks."""

    key: SigningKey
    transaction: Eip1559
    digest: bytes  #: what will be signed
    attempt: Attempt


class LocalSigner:
    """Implements ``Signer`` with a keystore and a journal in this process; blocking work runs in a thread."""

    def __init__(self, keystore: Keystore, journal: Journal, *, networks: Mapping[str, int], clock: Clock) -> None:
        """Take the unlocked keystore and its journal.

        Args:
            keystore: where the keys come from.
            journal: the one journal of this keystore.
            networks: chain id by network name; other networks and chains are refused.
            clock: the time written into journal entries.

        Raises:
            InvariantBroken: the journal belongs to another keystore.
        """
        if journal.keystore_id != keystore.id:
            raise InvariantBroken("the journal belongs to another keystore")
        self._keystore = keystore
        self._journal = journal
        self._networks = dict(networks)
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}

    def __repr__(self) -> str:
        """Name the keystore."""
        return f"LocalSigner({self._keystore!r})"

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Return the key of ``wallet_id``, allocating it on the first call; see ``Signer``.

        Raises:
            SignerRefused: the wallet id is empty, longer than 128 characters or not printable ASCII.
        """
        _check_id(wallet_id, "wallet_id")
        return await asyncio.to_thread(self._create_key, wallet_id)

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Check, journal in one commit, sign; see ``Signer``."""
        return await asyncio.to_thread(self._sign, list(requests))

    async def journaled(self, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these transfers may have been signed; see ``Signer``."""
        return await asyncio.to_thread(self._journal.holds, list(transfer_ids))

    async def status(self) -> SignerStatus:
        """Return the signer's identity and journal position."""
        return await asyncio.to_thread(self._status)

    def _status(self) -> SignerStatus:
        sequence, head = self._journal.position()
        return SignerStatus(
            root=self._journal.root,
            keystore_id=self._keystore.id,
            keys=self._journal.key_count(),
            sequence=sequence,
            head=head,
        )

    def _create_key(self, wallet_id: str) -> PublicKey:
        row = self._journal.allocate(wallet_id, self._derive)
        self._check_key(row)
        return PublicKey(key_id=key_id(row.public_key), address=row.address, public_key_hex=row.public_key)

    def _derive(self, index: int) -> tuple[str, str]:
        key = self._keystore.key(index)
        return key.address, key.public_key.hex()

    def _check_key(self, row: KeyRow) -> SigningKey:
        """Return the wallet's key, after comparing it with what the journal says about it."""
        key = self._keystore.key(row.index)
        if (key.address, key.public_key.hex()) != (row.address, row.public_key):
            raise InvariantBroken(f"the journal's address of wallet {row.wallet_id} is not this keystore's")
        return key

    def _load_keys(self, wallet_ids: set[str]) -> None:
        missing = wallet_ids - self._keys.keys()
        for wallet_id, row in self._journal.keys(sorted(missing)).items() if missing else ():
            self._keys[wallet_id] = self._check_key(row)

    def _sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        self._load_keys({request.wallet_id for request in requests})
        checked = [self._checked(request) for request in requests]
        ready = [item for item in checked if isinstance(item, _Prepared)]
        refusals: list[SignerRefused | None] = []
        if ready:
            fault("signer.before_journal")
            refusals = self._journal.append([item.attempt for item in ready], self._clock.now())
            fault("signer.after_journal")
        verdicts = iter(refusals)
        answers: list[Signed | SignerRefused] = []
        for item in checked:
            if isinstance(item, SignerRefused):
                answers.append(item)
            else:
                refusal = next(verdicts)
                answers.append(_signed(item) if refusal is None else refusal)
        return answers

    def _checked(self, request: SignRequest) -> _Prepared | SignerRefused:
        try:
            return self._prepare(request)
        except SignerRefused as refusal:
            return refusal
        except InvalidInput as problem:
            return SignerRefused(problem.message, field=problem.field)

    def _prepare(self, request: SignRequest) -> _Prepared:
        """Check the request by itself and build its transaction.

        Raises:
            SignerRefused: the signer's rules forbid it.
            InvalidInput: an amount or address is malformed, or the intent has no canonical form.
        """
        intent = dict(request.intent)
        _check_intent(intent)
        _check_id(request.transfer_id, "transfer_id")
        _check_fees(request)
        if self._networks.get(intent["network"]) != intent["chainId"]:
            raise SignerRefused("network and chain id are not a pair of this configuration", field="chainId")
        key = self._keys.get(request.wallet_id)
        if key is None:
            raise SignerRefused(f"wallet {request.wallet_id} has no key here", field="wallet_id")
        if intent["wallet"] != request.wallet_id:
            raise SignerRefused("the intent names another wallet", field="wallet")
        transaction = _transaction(intent, request, payer=key.address)
        signing_hash = transaction.signing_hash()
        attempt = Attempt(
            transfer_id=request.transfer_id,
            wallet_id=request.wallet_id,
            chain_id=transaction.chain_id,
            nonce=request.nonce,
            external_id=intent["externalId"],
            intent_digest=digest(intent),
            gas_limit=request.gas_limit,
            max_fee_per_gas=request.max_fee_per_gas,
            max_priority_fee_per_gas=request.max_priority_fee_per_gas,
            fee_cap=request.fee_cap,
            signing_hash=signing_hash.hex(),
            fields={
                "intent": intent,
                "gasLimit": str(request.gas_limit),
                "maxFeePerGas": str(request.max_fee_per_gas),
                "maxPriorityFeePerGas": str(request.max_priority_fee_per_gas),
                "feeCap": str(request.fee_cap),
            },
        )
        return _Prepared(key, transaction, signing_hash, attempt)


def key_id(public_key_hex: str) -> str:
    """Return the identifier of a key, which follows from its public point."""
    return new_id(KEY, _Fixed(hashlib.sha256(b"outlay.key.v1\n" + public_key_hex.encode()).digest()))


class _Fixed:
    """Stands in for entropy where an identifier must follow from its content."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def token(self, size: int) -> bytes:
        """Return the first ``size`` of the given bytes."""
        return self._octets[:size]


def _signed(item: _Prepared) -> Signed:
    raw = item.transaction.encode(item.key.sign(item.digest))
    return Signed(raw=raw, hash=tx_hash(raw))


def _check_id(text: object, field: str) -> None:
    if not isinstance(text, str) or not 1 <= len(text) <= _ID_MAX or not (text.isascii() and text.isprintable()):
        raise SignerRefused(f"{field} must be 1 to {_ID_MAX} printable ASCII characters", field=field)


def _check_intent(intent: Mapping[str, Any]) -> None:
    """Check the exact shape of an intent document.

    Raises:
        SignerRefused: members are missing, unknown or of another type.
    """
    if intent.keys() != _INTENT_MEMBERS:
        raise SignerRefused("the intent does not have exactly the members of version 1", field="intent")
    if type(intent["v"]) is not int or intent["v"] != VERSION:
        raise SignerRefused("the intent is of another version", field="v")
    if type(intent["chainId"]) is not int or not 1 <= intent["chainId"] <= _NUMBER_MAX:
        raise SignerRefused("chainId must be a positive integer", field="chainId")
    for name in _INTENT_TEXTS:
        if type(intent[name]) is not str:
            raise SignerRefused(f"{name} must be text", field=name)
    if intent["externalId"] is not None:
        _check_external_id(intent["externalId"])


def _check_external_id(external_id: object) -> None:
    # Unicode is allowed here; an empty one would make every transfer without a name the same.
    if type(external_id) is not str or not external_id:
        raise SignerRefused("externalId must be text that is not empty, or null", field="externalId")


def _check_fees(request: SignRequest) -> None:
    """Check nonce, gas and fees of a request.

    Raises:
        SignerRefused: a number is out of range, the tip exceeds the fee, or the fee exceeds the cap.
    """
    limits = {
        "nonce": (0, _NUMBER_MAX),
        "gas_limit": (GAS_MIN, _NUMBER_MAX),
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
    if request.gas_limit * request.max_fee_per_gas > request.fee_cap:
        raise SignerRefused("gas limit times fee is above the fee cap", field="fee_cap")


def _transaction(intent: Mapping[str, Any], request: SignRequest, *, payer: str) -> Eip1559:
    """Build the one transaction that pays what the intent says.

    Raises:
        SignerRefused: an address is not in lower case, or the recipient is nobody, the token or the payer.
        InvalidInput: an amount or address is malformed.
    """
    amount = parse_amount(intent["amount"])
    recipient = _lower_address(intent["recipient"], "recipient")
    native = intent["asset"] == NATIVE
    target = recipient if native else _lower_address(intent["asset"], "asset")
    if recipient in (ZERO, payer) or (not native and recipient == target):
        raise SignerRefused("the recipient is the zero address, the token or the payer", field="recipient")
    if target == ZERO:
        raise SignerRefused("the token is the zero address", field="asset")
    return Eip1559(
        chain_id=intent["chainId"],
        nonce=request.nonce,
        max_priority_fee_per_gas=request.max_priority_fee_per_gas,
        max_fee_per_gas=request.max_fee_per_gas,
        gas_limit=request.gas_limit,
        to=target,
        value=amount if native else 0,
        data=b"" if native else erc20_transfer(recipient, amount),
    )


def _lower_address(text: str, field: str) -> str:
    address = parse_address(text, field=field)
    # One spelling only: two spellings would be two intents that pay the same person.
    if address != text:
        raise SignerRefused(f"the intent writes {field} in lower case", field=field)
    return address
