"""Where keys are: what the signer asks of a keystore, an HSM or a key service."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["KeyMade", "Keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade:
    """One wallet key of a back-end."""

    reference: str  #: what the back-end finds it by; kept in the journal, never empty
    address: str  #: 0x and 40 hex digits, lower case
    public_key_hex: str  #: compressed secp256k1 point, 66 hex digits


class Keys(Protocol):
    """secp256k1 keys that never leave their back-end. Methods block; calls come one at a time."""

    @property
    def id(self) -> str:
        """What the journal is bound to: another keystore, token or account has another id."""
        ...

    def make(self, wallet_id: str, index: int) -> KeyMade:
        """Return the key of a wallet, made on the first call.

        Repeating gives the same key: the signer may have stopped before it noted the first answer.

        Args:
            wallet_id: printable ASCII, 1 to 128 characters.
            index: 0 to 2**31 - 1, of this wallet alone.

        Raises:
            SignerUnavailable: the back-end does not answer; ask again.
        """
        ...

    def find(self, reference: str) -> KeyMade:
        """Return the key that ``make`` gave this reference for.

        Raises:
            SignerUnavailable: the back-end does not answer.
            InvariantBroken: it has no such key.
        """
        ...

    def sign(self, reference: str, digest: bytes) -> bytes:
        """Return r, s in the lower half of the order, and y parity: 65 bytes that verify under the key.

        Args:
            reference: as ``make`` gave it.
            digest: the 32 bytes to sign, already hashed.

        Raises:
            SignerUnavailable: the back-end does not answer.
            InvariantBroken: it has no such key, or what it gave does not verify.
        """
        ...
