"""The keystore file: it opens with its passphrase alone, and any change to it shows."""

import base64
import json
import pickle
import stat
import traceback
from pathlib import Path
from typing import Any

import pytest

from outlay.core.errors import InvalidInput, SignerUnavailable
from outlay.signer.keys import MasterKey
from outlay.signer.keystore import KdfParams, Keystore

CHEAP = KdfParams(memory_kib=64, time=1)
PASSPHRASE = b"correct horse battery staple"


class CountingEntropy:
    """Gives different bytes at every call, the same in every run."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def token(self, size: int) -> bytes:
        """Return ``size`` bytes."""
        self.given.append(bytes([len(self.given) + 1]) * size)
        return self.given[-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a keystore that exists."""
    path = tmp_path / "keystore.json"
    Keystore.create(path, PASSPHRASE, CountingEntropy(), params=CHEAP)
    return path


def edit(path: Path, change: Any) -> None:
    """Apply ``change`` to the document in the file."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_what_was_created_opens_again_with_the_same_keys(path: Path) -> None:
    opened = Keystore.open(path, PASSPHRASE)
    assert opened.find("3").address == MasterKey(b"\x01" * 64).wallet(3).address
    assert opened.id == json.loads(path.read_text())["id"]


def test_the_default_costs_what_the_design_says() -> None:
    assert KdfParams() == KdfParams(memory_kib=256 * 1024, time=3, parallelism=1)


def test_the_file_is_private_and_holds_no_secret_in_clear(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    secret = b"\x01" * 64
    for spelling in (secret, secret.hex().encode(), base64.b64encode(secret), PASSPHRASE):
        assert spelling not in content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_wrong_passphrase_is_named_as_such(path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="passphrase does not open") as refused:
        Keystore.open(path, PASSPHRASE + b"\n")
    text = "".join(traceback.format_exception(refused.value))
    assert PASSPHRASE.decode() not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(id="00" * 16),
        lambda d: d["kdf"].update(time=2),
        lambda d: d["kdf"].update(memory_kib=128),
        lambda d: d.update(extra=1),
        lambda d: d.update(nonce=base64.b64encode(b"\x09" * 12).decode()),
        lambda d: d.update(sealed=base64.b64encode(b"\x09" * 80).decode()),
        lambda d: d["kdf"].update(salt=base64.b64encode(b"\x09" * 16).decode()),
    ],
)
def test_a_changed_file_does_not_open(path: Path, change: Any) -> None:
    edit(path, change)
    with pytest.raises(SignerUnavailable, match="passphrase does not open"):
        Keystore.open(path, PASSPHRASE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(v=2), "version"),
        (lambda d: d["kdf"].update(name="scrypt"), "version"),
        (lambda d: d.update(cipher="none"), "version"),
        (lambda d: d.pop("sealed"), "not a keystore"),
        (lambda d: d.pop("kdf"), "not a keystore"),
        (lambda d: d.update(kdf=[]), "not a keystore"),
        (lambda d: d.update(nonce="*"), "not a keystore"),
        (lambda d: d["kdf"].update(memory_kib=2**40), "not a keystore"),
        (lambda d: d["kdf"].update(time=True), "not a keystore"),
        (lambda d: d["kdf"].update(more=1), "not a keystore"),
    ],
)
def test_a_file_of_another_kind_says_so(path: Path, change: Any, message: str) -> None:
    edit(path, change)
    with pytest.raises(SignerUnavailable, match=message):
        Keystore.open(path, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"[" * 100_000, b" " * 20_000 + b"{}"])
def test_garbage_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SignerUnavailable, match="not a keystore"):
        Keystore.open(path, PASSPHRASE)


def test_a_file_others_can_read_is_refused(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(SignerUnavailable, match="chmod 600"):
        Keystore.open(path, PASSPHRASE)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="cannot be read"):
        Keystore.open(tmp_path / "none.json", PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_a_keystore_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="never overwritten"):
        Keystore.create(path, b"other", CountingEntropy(), params=CHEAP)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        Keystore.create(tmp_path / "k.json", b"", CountingEntropy(), params=CHEAP)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="cannot be written"):
        Keystore.create(tmp_path / "no" / "k.json", PASSPHRASE, CountingEntropy(), params=CHEAP)


@pytest.mark.parametrize("changes", [{"memory_kib": 7}, {"time": 0}, {"parallelism": 17}, {"time": 1.0}])
def test_costs_have_limits(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        KdfParams(**changes)


def test_an_open_keystore_shows_nothing_of_itself(path: Path) -> None:
    keystore = Keystore.open(path, PASSPHRASE)
    assert repr(keystore) == f"Keystore({keystore.id})"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(keystore)
