"""Public and private keys of credentials: which kinds are taken, in which form, and how each one verifies."""

import hashlib
import re
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from outlay.core.errors import InvalidInput

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_MAX_PEM = 8192
_RSA_BITS = range(2048, 8193)
_BLOCK = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----[A-Za-z0-9+/=\s]+-----END \1-----", re.ASCII)
_FORMS = "PEM with BEGIN PUBLIC KEY (Ed25519, P-256, secp256k1, RSA of 2048 bits or more) or BEGIN RSA PUBLIC KEY"

_ED25519_PRIME = 2**255 - 19
# The y coordinates of the eight points of small order; those of order 8 as RFC 8032 encodes them.
_ED25519_ORDER_8 = tuple(
    int.from_bytes(bytes.fromhex(text), "little")
    for text in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)
_ED25519_SMALL = frozenset({0, 1, _ED25519_PRIME - 1, *_ED25519_ORDER_8})


def load_public_key(pem: str, *, field: str) -> PublicKey:
    """Return the public key in ``pem``.

    Args:
        pem: one block of SPKI or, for RSA, PKCS #1; at most 8,192 characters.
        field: named in the error.

    Raises:
        InvalidInput: another form (OpenSSH, certificate, private key), another kind or curve, RSA below 2,048 bits or
            with an exponent below 65,537, an Ed25519 key of small order.
    """
    try:
        return _public_key(pem)
    except ValueError as error:
        raise InvalidInput(f"{field} is not a usable public key ({error}): send {_FORMS}", field=field) from error


@lru_cache(maxsize=4096)
def _public_key(pem: str) -> PublicKey:
    # Cached because each write verifies its assertion twice, and reading PEM costs about as much as verifying.
    text = pem.strip()
    if len(pem) > _MAX_PEM or _BLOCK.fullmatch(text) is None:
        raise ValueError("not one public PEM block")
    try:
        key = serialization.load_pem_public_key(text.encode("ascii"))
    except UnsupportedAlgorithm as error:
        raise ValueError("unknown kind of key") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        # With a key of small order one signature fits many messages: it would be evidence of nothing.
        y = int.from_bytes(key.public_bytes_raw(), "little") & (2**255 - 1)
        if y >= _ED25519_PRIME or y in _ED25519_SMALL:
            raise ValueError("an Ed25519 key of small order")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP256K1):
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS or key.public_numbers().e < 65537:
            raise ValueError("RSA weaker than 2048 bits and exponent 65537")
        return key
    raise ValueError("unknown kind of key")


def normal_pem(key: PublicKey) -> str:
    """Return the SPKI PEM text of ``key``: the one form that is stored."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def fingerprint(public_pem: str) -> str:
    """Return the SHA-256 of the key's SPKI DER bytes, in lower-case hex: the same for every spelling of the key.

    Raises:
        InvalidInput: as ``load_public_key``, field ``publicKey``.
    """
    der = load_public_key(public_pem, field="publicKey").public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def load_private_key(pem: str, *, field: str = "privateKey") -> PrivateKey:
    """Return the private key in an unencrypted PEM text.

    Raises:
        InvalidInput: another form, or a kind whose public key ``load_public_key`` refuses.
    """
    try:
        key = serialization.load_pem_private_key(pem.encode("utf-8"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"{field} is not an unencrypted private key in PEM", field=field) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput(f"{field} is not Ed25519, P-256, secp256k1 or RSA", field=field)
    load_public_key(normal_pem(key.public_key()), field=field)
    return key


def new_key_pair() -> tuple[str, str]:
    """Return a new Ed25519 key as private and public PEM text (PKCS #8 without encryption, SPKI)."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode("ascii"), normal_pem(key.public_key())


def sign_bytes(key: PrivateKey, message: bytes) -> bytes:
    """Return the signature the SDKs make: Ed25519 raw, ECDSA DER over SHA-256, RSA PKCS #1 v1.5 over SHA-256."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def signature_fits(key: PublicKey, signature: bytes, message: bytes, algorithm: str | None) -> bool:
    """Tell whether ``signature`` over ``message`` verifies.

    Args:
        key: decides the algorithm; the caller never does.
        signature: Ed25519 64 bytes, ECDSA DER, RSA PKCS #1 v1.5.
        message: the exact bytes signed.
        algorithm: what the client stated. None or ``SHA256`` for ECDSA; None, ``SHA256``, ``RSA-SHA256`` or
            ``SHA512`` for RSA; None for Ed25519. Anything else never fits.

    Source: dfns-api.md 2.7.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            if algorithm is not None:
                return False
            key.verify(signature, message)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if algorithm not in (None, "SHA256"):
                return False
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            digest = _RSA_DIGESTS.get(algorithm)
            if digest is None:
                return False
            key.verify(signature, message, padding.PKCS1v15(), digest)
    except InvalidSignature:
        return False
    return True


_RSA_DIGESTS: dict[str | None, hashes.HashAlgorithm] = {
    None: hashes.SHA256(),
    "SHA256": hashes.SHA256(),
    "RSA-SHA256": hashes.SHA256(),
    "SHA512": hashes.SHA512(),
}
