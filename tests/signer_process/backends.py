"""Key back-ends to test with: a SoftHSM token, and AWS KMS as moto plays it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import moto.kms.utils
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto import mock_aws

PIN = b"1234"
TOKEN = "outlay"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
REGION = "eu-central-1"
ON_TOKEN = pytest.param("pkcs11", marks=pytest.mark.ci)
"""What only the build machine installs a program for."""


def find_softhsm() -> str:
    """Return the path of SoftHSM's library; the test fails if it is not installed."""
    for module in (os.environ.get("OUTLAY_SOFTHSM", ""), *MODULES):
        if module and Path(module).is_file():
            return module
    pytest.fail("SoftHSM is not installed: apt-get install softhsm2, or set OUTLAY_SOFTHSM to libsofthsm2.so")


@contextmanager
def softhsm(folder: Path) -> Iterator[str]:
    """Make a fresh token in ``folder`` and give the library's path.

    The library reads its configuration once a process, so all tests of a run share one token.
    """
    module = find_softhsm()
    tokens = folder / "tokens"
    tokens.mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    with mock.patch.dict(os.environ, {"SOFTHSM2_CONF": str(settings)}):
        command = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            TOKEN,
            "--pin",
            PIN.decode(),
            "--so-pin",
            "99999",
        ]
        made = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert made.returncode == 0, made.stdout + made.stderr
        yield module


@contextmanager
def kms() -> Iterator[None]:
    """Play AWS KMS in this process.

    moto hashes again what was said to be a digest, which AWS does not: what it signs with is replaced.
    """

    def sign(self: moto.kms.utils.ECDSAPrivateKey, message: bytes, _algorithm: str) -> bytes:
        signature: bytes = self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
        return signature

    credentials = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    with (
        mock_aws(),
        mock.patch.dict(os.environ, credentials),
        mock.patch.object(moto.kms.utils.ECDSAPrivateKey, "sign", sign),
    ):
        yield
