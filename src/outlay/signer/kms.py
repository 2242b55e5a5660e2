"""Wallet keys in AWS KMS, one key a wallet. Needs the extra ``outlay[kms]``.

KMS signs any 32 bytes for whoever may call it: only the signer's role may be allowed ``kms:Sign``. Its signatures
differ each time; the same request gives the same bytes because the journal holds them.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final, final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from outlay.core.errors import InvariantBroken, SignerRefused, SignerUnavailable
from outlay.signer.backend import KeyMade
from outlay.signer.ecdsa import key_made, recoverable

_ALIAS: Final = re.compile(r"[A-Za-z0-9/_-]{1,128}")
_TIMEOUT_S: Final = 5


@final
class KmsKeys:
    """The keys of one account and region. A new key is found again by its alias, a known one by its full name."""

    def __init__(self, region: str, endpoint: str = "") -> None:
        """Prepare to call KMS; nothing is called yet.

        Args:
            region: AWS region.
            endpoint: another endpoint than the region's own, or empty.

        Raises:
            SignerUnavailable: the extra is not installed, or region or credentials are missing.
        """
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise SignerUnavailable('signer.backend = "aws-kms" needs the extra: pip install "outlay[kms]"') from None
        self._call_errors, self._refusals = (BotoCoreError, ClientError), ClientError
        options = Config(
            connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"mode": "standard", "total_max_attempts": 3}
        )
        try:
            self._kms: Any = boto3.client(
                "kms", region_name=region or None, endpoint_url=endpoint or None, config=options
            )
        except (BotoCoreError, ValueError) as error:
            raise SignerUnavailable(f"AWS KMS: {error}; check [signer] kms_region and the credentials") from None
        self.id: str = hashlib.sha256(f"aws-kms\n{self._kms.meta.region_name}".encode()).hexdigest()[:32]
        self._known: dict[str, KeyMade] = {}

    def __repr__(self) -> str:
        """Show the id only."""
        return f"KmsKeys({self.id})"

    def make(self, wallet_id: str, index: int) -> KeyMade:
        """Return the key of a wallet, made on the first call; see ``Keys``."""
        if not _ALIAS.fullmatch(wallet_id):
            raise SignerRefused("AWS KMS takes letters, digits, / _ and - in a wallet id", field="wallet_id")
        alias = f"alias/outlay/{wallet_id}"
        found = self._named(alias)
        if found is None:
            with self._asking():
                made = self._kms.create_key(
                    KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY", Description=f"Outlay wallet {wallet_id}"
                )
                # Stopping here leaves a key without a name, which nothing was ever paid to.
                self._kms.create_alias(AliasName=alias, TargetKeyId=made["KeyMetadata"]["KeyId"])
            found = made["KeyMetadata"]["Arn"]
        return self.find(found)

    def find(self, reference: str) -> KeyMade:
        """Return the public side of a key; see ``Keys``."""
        if reference not in self._known:
            with self._asking():
                answer = self._kms.get_public_key(KeyId=reference)
            public = load_der_public_key(answer["PublicKey"])
            if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256K1):
                raise InvariantBroken(f"the key {reference} is not one of secp256k1")
            point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            self._known[reference] = key_made(reference, point)
        return self._known[reference]

    def sign(self, reference: str, digest: bytes) -> bytes:
        """Have a digest signed; see ``Keys``."""
        public_key = bytes.fromhex(self.find(reference).public_key_hex)
        with self._asking():
            answer = self._kms.sign(
                KeyId=reference, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
            )
        r, s = decode_dss_signature(answer["Signature"])
        return recoverable(r, s, digest, public_key)

    def close(self) -> None:
        """Close the connections."""
        self._kms.close()

    def _named(self, alias: str) -> str | None:
        try:
            with self._asking():
                return str(self._kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"])
        except InvariantBroken:  # no such name
            return None

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._call_errors as error:
            if isinstance(error, self._refusals) and error.response["Error"]["Code"] == "NotFoundException":
                raise InvariantBroken(f"AWS KMS has no such key: {error}") from None
            raise SignerUnavailable(f"AWS KMS does not answer: {error}") from None
