"""Wallet keys in a PKCS#11 token, one key pair a wallet, made there and never taken out.

Needs the extra ``outlay[pkcs11]`` and the token's library.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from typing import Any, Final, final

from outlay.core.errors import InvariantBroken, SignerUnavailable
from outlay.signer.backend import KeyMade
from outlay.signer.ecdsa import key_made, recoverable

_ID_SIZE: Final = 16


@final
class Pkcs11Keys:
    """The keys of one token. A key's label is its wallet's id; it is referred to by its own random id."""

    def __init__(self, module: str, token_label: str, pin: bytes) -> None:
        """Log in to a token.

        Args:
            module: path of the token's library.
            token_label: label of the token.
            pin: the user's PIN.

        Raises:
            SignerUnavailable: the extra is not installed, or library, token or PIN do not open.
        """
        try:
            import pkcs11
            from pkcs11.util.ec import encode_named_curve_parameters
        except ImportError:
            raise SignerUnavailable('signer.backend = "pkcs11" needs the extra: pip install "outlay[pkcs11]"') from None
        self._api = pkcs11
        self._curve: bytes = encode_named_curve_parameters("secp256k1")
        self._known: dict[str, tuple[Any, bytes]] = {}
        self._module, self._label, self._pin = module, token_label, pin
        self._open: Any = None
        serial = self._session.token.serial
        self.id: str = hashlib.sha256(f"pkcs11\n{token_label}\n".encode() + bytes(serial)).hexdigest()[:32]

    def __repr__(self) -> str:
        """Show the id only."""
        return f"Pkcs11Keys({self.id})"

    def make(self, wallet_id: str, index: int) -> KeyMade:
        """Return the key of a wallet, made on the first call; see ``Keys``."""
        private = self._api.ObjectClass.PRIVATE_KEY
        with self._asking():
            found = list(self._session.get_objects({self._attribute.CLASS: private, self._attribute.LABEL: wallet_id}))
            if len(found) > 1:
                raise InvariantBroken(f"the token holds {len(found)} keys of wallet {wallet_id}: it takes one")
            key_id = bytes(found[0][self._attribute.ID]) if found else self._generate(wallet_id)
        return self.find(key_id.hex())

    def find(self, reference: str) -> KeyMade:
        """Return the public side of a key; see ``Keys``."""
        return key_made(reference, self._pair(reference)[1])

    def sign(self, reference: str, digest: bytes) -> bytes:
        """Have a digest signed; see ``Keys``."""
        private, point = self._pair(reference)
        with self._asking():
            signature: bytes = private.sign(digest, mechanism=self._api.Mechanism.ECDSA)
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        return recoverable(r, s, digest, bytes.fromhex(key_made(reference, point).public_key_hex))

    def close(self) -> None:
        """Log out."""
        self._known.clear()
        if self._open is not None:
            with contextlib.suppress(self._api.PKCS11Error):  # a dead session is closed
                self._open.close()
            self._open = None

    @property
    def _session(self) -> Any:
        """The open session; opened anew after an error."""
        if self._open is None:
            try:
                token = self._api.lib(self._module).get_token(token_label=self._label)
                try:
                    self._open = token.open(rw=True, user_pin=self._pin.decode())
                except self._api.UserAlreadyLoggedIn:  # this process has: a login is good for all its sessions
                    self._open = token.open(rw=True)
            except (self._api.PKCS11Error, OSError, RuntimeError, UnicodeDecodeError) as error:
                raise SignerUnavailable(
                    f"the PKCS#11 token {self._label!r} of {self._module or 'no module'} does not open: {_name(error)};"
                    " check [signer] pkcs11_module, pkcs11_token and the PIN in passphrase_file"
                ) from None
        return self._open

    @property
    def _attribute(self) -> Any:
        return self._api.Attribute

    def _generate(self, wallet_id: str) -> bytes:
        key_id = secrets.token_bytes(_ID_SIZE)
        attribute = self._attribute
        parameters = self._session.create_domain_parameters(
            self._api.KeyType.EC, {attribute.EC_PARAMS: self._curve}, local=True
        )
        parameters.generate_keypair(
            store=True,
            id=key_id,
            label=wallet_id,
            mechanism=self._api.Mechanism.EC_KEY_PAIR_GEN,
            private_template={
                attribute.SENSITIVE: True,
                attribute.EXTRACTABLE: False,
                attribute.MODIFIABLE: False,
                attribute.SIGN: True,
            },
        )
        return key_id

    def _pair(self, reference: str) -> tuple[Any, bytes]:
        """Return the private key's handle and the public point, both by the random id they share."""
        if reference not in self._known:
            attribute, kinds = self._attribute, self._api.ObjectClass
            with self._asking():
                by_id = {attribute.ID: bytes.fromhex(reference)}
                private = list(self._session.get_objects({attribute.CLASS: kinds.PRIVATE_KEY, **by_id}))
                public = list(self._session.get_objects({attribute.CLASS: kinds.PUBLIC_KEY, **by_id}))
                if len(private) != 1 or len(public) != 1:
                    raise InvariantBroken(f"the token does not hold the key pair {reference}")
                if private[0][attribute.EXTRACTABLE] or not private[0][attribute.SENSITIVE]:
                    raise InvariantBroken(f"the key {reference} can be taken out of the token: it was not made here")
                point = _point(bytes(public[0][attribute.EC_POINT]))
            self._known[reference] = private[0], point
        return self._known[reference]

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._api.PKCS11Error as error:
            self.close()  # a token that was pulled out or restarted takes none of the old handles
            raise SignerUnavailable(f"the PKCS#11 token does not answer: {_name(error)}") from error


def _point(octets: bytes) -> bytes:
    """Return the point in an EC_POINT attribute: an OCTET STRING by the standard, bare with some tokens."""
    is_wrapped = len(octets) in (35, 67) and octets[:2] == bytes((0x04, len(octets) - 2))
    return octets[2:] if is_wrapped else octets


def _name(error: Exception) -> str:
    return str(error) or type(error).__name__
