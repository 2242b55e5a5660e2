"""Keys in a PKCS#11 token and in AWS KMS: the same promises as the keystore's, and what is particular to each."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pkcs11
import pytest
from botocore.exceptions import ClientError
from coincurve import PrivateKey, PublicKey

from outlay.codec.evm import address_of
from outlay.core.errors import InvariantBroken, SignerRefused, SignerUnavailable
from outlay.signer.backend import Keys
from outlay.signer.ecdsa import ORDER, key_made, recoverable
from outlay.signer.keystore import KdfParams, Keystore
from outlay.signer.kms import KmsKeys
from outlay.signer.pkcs11 import Pkcs11Keys
from outlay.system import SystemEntropy
from tests.signer_process.backends import ON_TOKEN, PIN, REGION, TOKEN, kms

SIGNATURES = 200
"""Of which about 100 have s in the upper half when a device makes them, and 100 the other parity."""


@pytest.fixture
def token(pkcs11_module: str) -> Iterator[Pkcs11Keys]:
    """Return the keys of the run's token."""
    made = Pkcs11Keys(pkcs11_module, TOKEN, PIN)
    yield made
    made.close()


@pytest.fixture
def service() -> Iterator[KmsKeys]:
    """Return the keys of an empty AWS account."""
    with kms():
        made = KmsKeys(REGION)
        yield made
        made.close()


@pytest.fixture(params=["keystore", ON_TOKEN, "aws-kms"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    """Return the keys of each back-end in turn."""
    if request.param == "keystore":
        params = KdfParams(memory_kib=64, time=1)
        return Keystore.create(tmp_path / "keys.json", b"passphrase", SystemEntropy(), params=params)
    found: Keys = request.getfixturevalue("token" if request.param == "pkcs11" else "service")
    return found


def wallet(request: pytest.FixtureRequest) -> str:
    """Return a wallet id that no other test of the run uses: the token is shared."""
    return "wa-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


# What every back-end keeps


def test_a_wallet_has_one_key_and_keeps_it(keys: Keys, request: pytest.FixtureRequest) -> None:
    first, other = keys.make(wallet(request), 0), keys.make(wallet(request) + "-b", 1)

    assert keys.make(wallet(request), 0) == first == keys.find(first.reference)
    assert other.address != first.address
    assert first.reference
    point = PublicKey(bytes.fromhex(first.public_key_hex))
    assert len(first.public_key_hex) == 66
    assert first.address == address_of(point.format(compressed=False))


def test_every_signature_is_one_a_chain_takes(keys: Keys, request: pytest.FixtureRequest) -> None:
    """Two hundred digests: low s, and the parity that gives the key back, as coincurve computes it."""
    made = keys.make(wallet(request), 0)
    parities = set()
    for number in range(SIGNATURES):
        digest = hashlib.sha256(f"{request.node.name} {number}".encode()).digest()
        signature = keys.sign(made.reference, digest)
        assert len(signature) == 65
        assert 0 < int.from_bytes(signature[32:64], "big") <= ORDER // 2
        parities.add(signature[64])
        found = PublicKey.from_signature_and_message(signature, digest, hasher=None)
        assert found.format(compressed=True).hex() == made.public_key_hex
    assert parities == {0, 1}


def test_an_unknown_reference_is_no_key(keys: Keys, request: pytest.FixtureRequest) -> None:
    keys.make(wallet(request), 0)
    wrong = {"Keystore": "-1", "Pkcs11Keys": "00" * 16, "KmsKeys": "00000000-0000-4000-8000-000000000000"}

    with pytest.raises(InvariantBroken):
        keys.sign(wrong[type(keys).__name__], b"\1" * 32)


@pytest.mark.ci
def test_the_id_is_the_same_when_it_is_opened_again(pkcs11_module: str, token: Pkcs11Keys, service: KmsKeys) -> None:
    known = token.id
    token.close()

    again = Pkcs11Keys(pkcs11_module, TOKEN, PIN)
    assert again.id == known
    again.close()
    assert service.id == KmsKeys(REGION).id != KmsKeys("us-east-1").id


# Signatures of others


def signed(secret: int, digest: bytes) -> tuple[int, int, bytes]:
    key = PrivateKey.from_int(secret)
    signature = key.sign_recoverable(digest, hasher=None)
    point = key.public_key.format(compressed=True)
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), point


def test_the_upper_half_of_s_is_turned_round() -> None:
    digest = b"\7" * 32
    r, s, point = signed(12345, digest)

    assert recoverable(r, ORDER - s, digest, point) == recoverable(r, s, digest, point)


@pytest.mark.parametrize(
    "change",
    [
        lambda r, s: (0, s),
        lambda r, s: (r, 0),
        lambda r, s: (ORDER, s),
        lambda r, s: (r, ORDER),
        lambda r, s: (r + 1, s),
        lambda r, s: (r, s + 1),
        lambda r, s: (-r, s),
        lambda r, s: (5, s),
    ],
)
def test_a_signature_of_something_else_is_not_let_out(change: Callable[[int, int], tuple[int, int]]) -> None:
    digest = b"\7" * 32
    r, s, point = signed(12345, digest)

    with pytest.raises(InvariantBroken):
        recoverable(*change(r, s), digest, point)


def test_a_signature_of_another_key_is_not_let_out() -> None:
    digest = b"\7" * 32
    r, s, _ = signed(12345, digest)

    with pytest.raises(InvariantBroken):
        recoverable(r, s, digest, signed(54321, digest)[2])


def test_what_is_no_point_is_no_key() -> None:
    with pytest.raises(InvariantBroken):
        key_made("reference", b"\2" + b"\xff" * 32)


# PKCS#11


@pytest.mark.ci
def test_a_token_key_cannot_be_taken_out(token: Pkcs11Keys, request: pytest.FixtureRequest) -> None:
    made = token.make(wallet(request), 0)
    private = next(
        token._session.get_objects(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
                pkcs11.Attribute.ID: bytes.fromhex(made.reference),
            }
        )
    )

    assert not private[pkcs11.Attribute.EXTRACTABLE]
    assert private[pkcs11.Attribute.NEVER_EXTRACTABLE]
    with pytest.raises(pkcs11.AttributeSensitive):
        _ = private[pkcs11.Attribute.VALUE]


@pytest.mark.ci
def test_a_key_that_was_brought_in_is_not_used(token: Pkcs11Keys, request: pytest.FixtureRequest) -> None:
    """Somebody else has it as well."""
    session, name = token._session, wallet(request)
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: token._curve}, local=True
    )
    template = {pkcs11.Attribute.EXTRACTABLE: True, pkcs11.Attribute.SENSITIVE: False}
    parameters.generate_keypair(store=True, id=b"brought in", label=name, private_template=template)

    with pytest.raises(InvariantBroken, match="taken out"):
        token.make(name, 0)


@pytest.mark.ci
def test_a_wallet_with_two_token_keys_gets_neither(token: Pkcs11Keys, request: pytest.FixtureRequest) -> None:
    name = wallet(request)
    token._generate(name)
    token._generate(name)

    with pytest.raises(InvariantBroken, match="2 keys"):
        token.make(name, 0)


@pytest.mark.ci
def test_a_public_key_left_by_a_crash_is_passed_by(token: Pkcs11Keys, request: pytest.FixtureRequest) -> None:
    name = wallet(request)
    half = token._generate(name)
    by_id = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.Attribute.ID: half}
    next(token._session.get_objects(by_id)).destroy()

    made = token.make(name, 0)

    assert made.reference != half.hex()
    assert len(token.sign(made.reference, b"\1" * 32)) == 65


@pytest.mark.ci
def test_a_token_that_was_away_is_opened_again(token: Pkcs11Keys, request: pytest.FixtureRequest) -> None:
    made = token.make(wallet(request), 0)
    token._session.close()

    with pytest.raises(SignerUnavailable):
        token.sign(made.reference, b"\1" * 32)
    assert len(token.sign(made.reference, b"\1" * 32)) == 65


@pytest.mark.ci
@pytest.mark.parametrize("wrong", ["module", "token", "PIN"])
def test_a_token_that_does_not_open_says_what_to_check(pkcs11_module: str, wrong: str) -> None:
    """In a process of its own: this one may be logged in."""
    module = "/nowhere/lib.so" if wrong == "module" else pkcs11_module
    label, pin = "another" if wrong == "token" else TOKEN, b"0000" if wrong == "PIN" else PIN
    program = f"from outlay.signer.pkcs11 import Pkcs11Keys; Pkcs11Keys({module!r}, {label!r}, {pin!r})"

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert "SignerUnavailable" in ran.stderr
    assert "check [signer] pkcs11_module" in ran.stderr
    assert pin.decode() not in ran.stderr.split("SignerUnavailable")[-1]


# AWS KMS


def test_a_key_that_is_there_already_is_found_by_its_alias(service: KmsKeys) -> None:
    made = service.make("wa-1", 0)
    again = KmsKeys(REGION)

    assert again.make("wa-1", 0) == made
    assert made.reference.startswith("arn:aws:kms:")
    assert len(boto3.client("kms", REGION).list_keys()["Keys"]) == 1


def test_a_key_of_another_curve_is_not_used(service: KmsKeys) -> None:
    client: Any = boto3.client("kms", REGION)
    made = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName="alias/outlay/wa-1", TargetKeyId=made)

    with pytest.raises(InvariantBroken, match="secp256k1"):
        service.make("wa-1", 0)


def test_a_service_that_refuses_means_ask_again(service: KmsKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    made = service.make("wa-1", 0)

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "Sign")

    monkeypatch.setattr(service._kms, "sign", refuse)

    with pytest.raises(SignerUnavailable, match="slow down"):
        service.sign(made.reference, b"\1" * 32)


def test_the_service_is_told_that_it_gets_a_digest(service: KmsKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """What moto does with it is replaced here, so it would not notice."""
    made, asked, real = service.make("wa-1", 0), [], service._kms.sign

    def spy(**parameters: Any) -> Any:
        asked.append(parameters)
        return real(**parameters)

    monkeypatch.setattr(service._kms, "sign", spy)
    service.sign(made.reference, b"\1" * 32)

    assert [(each["MessageType"], each["SigningAlgorithm"], each["Message"]) for each in asked] == [
        ("DIGEST", "ECDSA_SHA_256", b"\1" * 32)
    ]


def test_a_wallet_id_that_is_no_alias_is_refused(service: KmsKeys) -> None:
    with pytest.raises(SignerRefused):
        service.make("wa 1", 0)


def test_no_region_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(SignerUnavailable, match="kms_region"):
        KmsKeys("")
