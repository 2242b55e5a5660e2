"""Wallet keys on secp256k1, all derived from one master secret: BIP-32 along m/44'/60'/0'/0/index.

A ``SigningKey`` shows its address and nothing else: not in text, not in an error, not in a pickle. Python
cannot wipe memory, so a key lives as long as its object and no longer than the process.
"""

import hmac
from hashlib import sha512
from typing import Final, NoReturn, final

from coincurve import PrivateKey, PublicKey

from outlay.codec.evm import address_of
from outlay.core.errors import InvalidInput, InvariantBroken

MASTER_SIZE: Final = 64
"""Bytes of a master secret, as long as a BIP-39 seed."""

INDEX_MAX: Final = 2**31 - 1
"""The highest wallet index: beyond it BIP-32 means hardened keys."""

_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HARDENED: Final = 2**31
_ACCOUNT: Final = (44 + _HARDENED, 60 + _HARDENED, 0 + _HARDENED, 0)


@final
class SigningKey:
    """The private key of one wallet."""

    __slots__ = ("_key", "address", "public_key")

    def __init__(self, secret: bytes) -> None:
        """Take the 32-byte secret; ``address`` and ``public_key`` (compressed, 33 bytes) follow from it."""
        self._key = PrivateKey(secret)
        self.public_key: bytes = self._key.public_key.format(compressed=True)
        self.address = address_of(self._key.public_key.format(compressed=False))

    def __repr__(self) -> str:
        """Show the address only."""
        return f"SigningKey({self.address})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("a private key does not leave the signer")

    def sign(self, digest: bytes) -> bytes:
        """Return the signature of a 32-byte digest: r, s in the lower half, y parity. 65 bytes.

        The same digest always gives the same bytes (RFC 6979). The signature is verified before it is
        returned, so a fault of memory or processor cannot leak the key through a wrong one.

        Raises:
            InvariantBroken: the signature does not verify.
        """
        signature: bytes = self._key.sign_recoverable(digest, hasher=None)
        signer = PublicKey.from_signature_and_message(signature, digest, hasher=None)
        if signer.format(compressed=True) != self.public_key:
            raise InvariantBroken(f"a signature of {self.address} does not verify: check this machine's memory")
        return signature


@final
class MasterKey:
    """The node m/44'/60'/0'/0 of a master secret, from which every wallet key is one step away."""

    __slots__ = ("_chain_code", "_secret")

    def __init__(self, master_secret: bytes) -> None:
        """Walk from the master secret to the account node.

        Args:
            master_secret: 64 unpredictable bytes.

        Raises:
            InvalidInput: another length.

        Source: BIP-32, BIP-44 (coin type 60).
        """
        if len(master_secret) != MASTER_SIZE:
            raise InvalidInput(f"a master secret is {MASTER_SIZE} bytes", field="master_secret")
        node = hmac.digest(b"Bitcoin seed", master_secret, sha512)
        secret, chain_code = node[:32], node[32:]
        for index in _ACCOUNT:
            secret, chain_code = _child(secret, chain_code, index)
        self._secret, self._chain_code = secret, chain_code

    def __repr__(self) -> str:
        """Show nothing."""
        return "MasterKey()"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("a private key does not leave the signer")

    def wallet(self, index: int) -> SigningKey:
        """Return the key of wallet ``index``, 0 to ``INDEX_MAX``.

        Raises:
            InvalidInput: the index is out of range.
        """
        if not 0 <= index <= INDEX_MAX:
            raise InvalidInput(f"a wallet index is 0 to {INDEX_MAX}", field="index")
        return SigningKey(_child(self._secret, self._chain_code, index)[0])


def _child(secret: bytes, chain_code: bytes, index: int) -> tuple[bytes, bytes]:
    """Return secret and chain code of child ``index``. Source: BIP-32, private parent key to private child key."""
    hardened = index >= _HARDENED
    parent = b"\0" + secret if hardened else PublicKey.from_secret(secret).format(compressed=True)
    node = hmac.digest(chain_code, parent + index.to_bytes(4, "big"), sha512)
    tweak = int.from_bytes(node[:32], "big")
    number = (tweak + int.from_bytes(secret, "big")) % _ORDER
    if tweak >= _ORDER or number == 0:  # about once in 2^127 keys; BIP-32 says to take another index
        raise InvariantBroken(f"BIP-32 has no key at index {index} of this secret")
    return number.to_bytes(32, "big"), node[32:]
