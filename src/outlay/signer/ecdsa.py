"""Signatures that an HSM or a key service made, in the one form a chain takes."""

from typing import Final

from coincurve import PublicKey

from outlay.codec.evm import address_of
from outlay.core.errors import InvariantBroken
from outlay.signer.backend import KeyMade

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1's base point. Source: SEC 2, section 2.4.1."""


def recoverable(r: int, s: int, digest: bytes, public_key: bytes) -> bytes:
    """Return r, s in the lower half of the order, and y parity: 65 bytes.

    About every second signature of a device has s in the upper half, which EIP-2 forbids; its negative is as valid.
    Devices do not tell the parity: both are tried, and the one that gives the key back is taken, which also proves
    the signature.

    Args:
        r: as signed.
        s: as signed.
        digest: the 32 bytes that were signed.
        public_key: compressed point, 33 bytes.

    Raises:
        InvariantBroken: the signature is not one of this key over this digest.
    """
    if 0 < r < ORDER and 0 < s < ORDER:
        head = r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")
        for parity in (b"\0", b"\1"):
            if _recovered(head + parity, digest) == public_key:
                return head + parity
    raise InvariantBroken(f"the key's keeper gave a signature that is not of {address_of_point(public_key)}")


def _recovered(signature: bytes, digest: bytes) -> bytes | None:
    try:
        found: bytes = PublicKey.from_signature_and_message(signature, digest, hasher=None).format(compressed=True)
    except Exception:  # coincurve raises a bare Exception where no point belongs to r
        return None
    return found


def address_of_point(public_key: bytes) -> str:
    """Return the address of a secp256k1 point in any encoding."""
    return address_of(PublicKey(public_key).format(compressed=False))


def key_made(reference: str, point: bytes) -> KeyMade:
    """Return the public side of a key from its point in any encoding.

    Raises:
        InvariantBroken: the bytes are not a point of secp256k1.
    """
    try:
        public_key = PublicKey(point).format(compressed=True)
    except ValueError:
        raise InvariantBroken(f"the key {reference} is not one of secp256k1") from None
    return KeyMade(reference=reference, address=address_of_point(point), public_key_hex=public_key.hex())
