"""How clients word what they do not take, and the few ways in which their pools differ.

The wording is what ``chains.answers`` reads on real networks; the fake nodes speak it so that everything above them
is tested with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Refusal(StrEnum):
    """Why a pool does not take a transaction."""

    KNOWN = "known"
    NONCE_TOO_LOW = "nonce_too_low"
    NONCE_GAP = "nonce_gap"
    REPLACEMENT = "replacement"  #: less than the floor above the transaction it would replace
    UNDERPRICED = "underpriced"
    BELOW_BASE_FEE = "below_base_fee"
    FUNDS = "funds"
    BLOCK_GAS = "block_gas"
    INTRINSIC_GAS = "intrinsic_gas"
    FEE_CAP = "fee_cap"  #: above what this node lets a caller spend on fees
    CHAIN_ID = "chain_id"
    TYPE = "type"
    HAS_CODE = "has_code"
    POOL_FULL = "pool_full"
    MALFORMED = "malformed"


class Refused(Exception):
    """A node does not take a transaction. Stays inside ``chains.fake``."""

    def __init__(self, refusal: Refusal, **numbers: int) -> None:
        super().__init__(refusal)
        self.refusal = refusal
        self.numbers = numbers  #: filled into the wording


Wording = tuple[int, str]
"""Code and message of an error object; the message may name ``next``, ``nonce``, ``balance``, ``cost``, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client's wording and manners."""

    name: str
    words: Mapping[Refusal, Wording]
    takes_gaps: bool = True  #: keeps a transaction whose nonce leaves a gap, queued
    keeps_cheap: bool = True  #: keeps a transaction whose fee is below the base fee of now
    floor_percent: int = 10  #: how much more both fees of a replacement must be

    def word(self, refused: Refused) -> Wording:
        """Return what this client says; geth's words where it has none of its own here."""
        code, text = self.words.get(refused.refusal) or GETH.words[refused.refusal]
        return code, text.format_map(_Numbers(refused.numbers))


class _Numbers(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


_R = Refusal

GETH = Client(
    name="geth",
    words={
        _R.KNOWN: (-32000, "already known"),
        _R.NONCE_TOO_LOW: (-32000, "nonce too low: next nonce {next}, tx nonce {nonce}"),
        _R.NONCE_GAP: (-32000, "nonce too high"),
        _R.REPLACEMENT: (-32000, "replacement transaction underpriced"),
        _R.UNDERPRICED: (-32000, "transaction underpriced: gas tip cap {tip}, minimum needed {needed}"),
        _R.BELOW_BASE_FEE: (-32000, "max fee per gas less than block base fee"),
        _R.FUNDS: (-32000, "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}"),
        _R.BLOCK_GAS: (-32000, "exceeds block gas limit"),
        _R.INTRINSIC_GAS: (-32000, "intrinsic gas too low: gas {gas}, minimum needed {needed}"),
        _R.FEE_CAP: (-32000, "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)"),
        _R.CHAIN_ID: (-32000, "invalid sender: invalid chain id for signer: have {have} want {want}"),
        _R.TYPE: (-32000, "transaction type not supported"),
        _R.HAS_CODE: (-32000, "sender not an eoa"),
        _R.POOL_FULL: (-32000, "txpool is full"),
        _R.MALFORMED: (-32602, "invalid argument 0: rlp: element is larger than containing list"),
    },
)
_NETHERMIND = Client(
    name="nethermind",
    takes_gaps=False,
    words={
        _R.KNOWN: (-32010, "AlreadyKnown"),
        _R.NONCE_TOO_LOW: (-32010, "OldNonce, Current nonce: {next}, nonce of rejected tx: {nonce}"),
        _R.NONCE_GAP: (-32010, "NonceGap, Future nonce. Expected nonce: {next}"),
        _R.REPLACEMENT: (-32010, "ReplacementNotAllowed"),
        _R.UNDERPRICED: (-32010, "FeeTooLow, EffectivePriorityFeePerGas too low {tip} < {needed}"),
        _R.FUNDS: (-32010, "InsufficientFunds, Account balance: {balance}, cumulative cost: {cost}"),
        _R.BLOCK_GAS: (-32010, "GasLimitExceeded, Gas limit: {needed}, gas limit of rejected tx: {gas}"),
    },
)
_BESU = Client(
    name="besu",
    words={
        _R.KNOWN: (-32000, "Known transaction"),
        _R.NONCE_TOO_LOW: (-32001, "Nonce too low"),
        _R.REPLACEMENT: (-32000, "Replacement transaction underpriced"),
        _R.UNDERPRICED: (-32009, "Gas price below configured minimum gas price"),
        _R.FUNDS: (-32004, "Upfront cost exceeds account balance"),
        _R.BLOCK_GAS: (-32005, "Transaction gas limit exceeds block gas limit"),
        _R.INTRINSIC_GAS: (-32003, "Intrinsic gas exceeds gas limit"),
        _R.FEE_CAP: (-32000, "Transaction fee cap exceeded"),
        _R.CHAIN_ID: (-32000, "Wrong chainId"),
    },
)
_ERIGON = Client(
    name="erigon",
    words={
        _R.KNOWN: (-32000, "existing tx with same hash"),
        _R.NONCE_TOO_LOW: (-32000, "nonce too low"),
        _R.REPLACEMENT: (-32000, "could not replace existing tx"),
        _R.UNDERPRICED: (-32000, "transaction underpriced"),
        _R.FUNDS: (-32000, "insufficient funds"),
    },
)
_RETH = Client(
    name="reth",
    words={
        _R.NONCE_TOO_LOW: (-32000, "nonce too low: next nonce {next}, tx nonce {nonce}"),
        _R.UNDERPRICED: (-32000, "transaction underpriced"),
        _R.FUNDS: (-32003, "insufficient funds for gas * price + value: have {balance} want {cost}"),
        _R.BLOCK_GAS: (-32000, "exceeds block gas limit"),
        _R.INTRINSIC_GAS: (-32000, "intrinsic gas too low"),
    },
)
_ANVIL = Client(
    name="anvil",
    keeps_cheap=False,
    words={
        _R.KNOWN: (-32003, "transaction already imported"),
        _R.NONCE_TOO_LOW: (-32003, "nonce too low"),
        _R.BELOW_BASE_FEE: (-32003, "max fee per gas less than block base fee"),
        _R.FUNDS: (-32003, "Insufficient funds for gas * price + value"),
        _R.INTRINSIC_GAS: (-32003, "intrinsic gas too low"),
    },
)
_OPENETHEREUM = Client(
    name="openethereum",
    floor_percent=13,  # an eighth
    words={
        _R.KNOWN: (-32010, "Transaction with the same hash was already imported."),
        _R.NONCE_TOO_LOW: (-32010, "Transaction nonce is too low. Try incrementing the nonce."),
        _R.REPLACEMENT: (
            -32010,
            "Transaction gas price supplied is too low. There is another transaction with same nonce in the queue.",
        ),
        _R.UNDERPRICED: (
            -32010,
            "Transaction gas price is too low. It does not satisfy your node's minimal gas price.",
        ),
        _R.FUNDS: (-32010, "Insufficient funds. The account does not have enough funds."),
    },
)

CLIENTS: Mapping[str, Client] = {
    each.name: each for each in (GETH, _NETHERMIND, _BESU, _ERIGON, _RETH, _ANVIL, _OPENETHEREUM)
}
"""Every client, by name."""
