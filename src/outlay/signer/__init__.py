"""The signer: the only holder of keys. It builds what it signs from the intent and journals before it signs.

This module is the protocol the engine knows; it imports no key code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from outlay.core.errors import SignerRefused

__all__ = ["PublicKey", "SignRequest", "Signed", "Signer", "SignerRefused", "SignerStatus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The public side of a wallet's key."""

    key_id: str
    address: str  #: 0x and 40 hex digits, lower case
    public_key_hex: str  #: compressed secp256k1 point, 66 hex digits


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """One transfer bound to a nonce, to be signed. The transaction itself is built by the signer."""

    intent: Mapping[str, Any]  #: ``core.intent`` document; its digest is journaled
    transfer_id: str
    wallet_id: str  #: must be the intent's wallet
    nonce: int  #: 0 to 2**53 - 1
    gas_limit: int  #: gas, 21000 to 2**53 - 1
    max_fee_per_gas: int  #: wei per gas
    max_priority_fee_per_gas: int  #: wei per gas, 0 to ``max_fee_per_gas``
    fee_cap: int  #: wei; gas_limit * max_fee_per_gas may not exceed it; frozen by the first signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed transaction."""

    raw: bytes  #: as sent to a node
    hash: str  #: 0x and 64 hex digits


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerStatus:
    """What the signer says about itself."""

    root: str  #: fingerprint of the organization's genesis, pinned in the journal
    keystore_id: str
    keys: int  #: wallet keys allocated
    sequence: int  #: journal entries so far
    head: str  #: hash of the newest journal entry, 64 hex digits


class Signer(Protocol):
    """Whoever signs: in this process, or in one of its own."""

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Return the key of ``wallet_id``, allocating it on the first call. Repeating gives the same key.

        Raises:
            SignerUnavailable: the journal cannot be written; nothing happened.
        """
        ...

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        """Check, journal (one commit for all), then sign; return one answer each, in order.

        The same request again gives the same bytes. A refusal of one touches no other.

        Raises:
            SignerUnavailable: the journal cannot be written; nothing was signed.
        """
        ...

    async def journaled(self, transfer_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these transfers the journal holds, that is, which may have been signed."""
        ...

    async def status(self) -> SignerStatus:
        """Return the signer's identity and journal position."""
        ...
