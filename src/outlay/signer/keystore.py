"""The keystore: one file that holds the master secret, encrypted under a passphrase.

argon2id turns the passphrase into a key; AES-256-GCM seals the secret and binds the file's id, version and
cost parameters to it, so none of them can be changed unnoticed. The file is made once, with mode 0600, and
never overwritten: losing it loses the wallets.
"""

import base64
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, final

from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outlay.core.errors import InvalidInput, InvariantBroken, SignerUnavailable
from outlay.core.seams import Entropy
from outlay.evidence.canonical import canonical
from outlay.signer.backend import KeyMade
from outlay.signer.keys import MASTER_SIZE, MasterKey, SigningKey

VERSION: Final = 1
_FILE_MAX: Final = 16 * 1024
_SALT_SIZE: Final = 16
_NONCE_SIZE: Final = 12
_ID_SIZE: Final = 16
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KdfParams:
    """What opening a keystore costs; written into the file. The default needs about a second."""

    memory_kib: int = 262_144  #: KiB, 8 to 4 GiB
    time: int = 3  #: passes over the memory, 1 to 64
    parallelism: int = 1  #: lanes, 1 to 16

    def __post_init__(self) -> None:
        """Refuse costs out of range: a doctored file must not exhaust the machine.

        Raises:
            InvalidInput: a member is not an integer in its range.
        """
        limits = {"memory_kib": (8, 4 * 2**20), "time": (1, 64), "parallelism": (1, 16)}
        for name, (low, high) in limits.items():
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
                raise InvalidInput(f"{name} is an integer from {low} to {high}", field=name)


@final
class Keystore:
    """An unlocked keystore; implements ``Keys``. A key's reference is its index under the master secret."""

    __slots__ = ("_keys", "_master", "id")

    def __init__(self, keystore_id: str, master_secret: bytes) -> None:
        """Hold the keys of ``master_secret``; use ``create`` or ``open``."""
        self.id = keystore_id
        self._master = MasterKey(master_secret)
        self._keys: dict[str, SigningKey] = {}

    def __repr__(self) -> str:
        """Show the id only."""
        return f"Keystore({self.id})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("a private key does not leave the signer")

    def make(self, wallet_id: str, index: int) -> KeyMade:
        """Return the key of wallet ``index``, which alone it follows from; see ``Keys``."""
        return _made(str(index), self._master.wallet(index))

    def find(self, reference: str) -> KeyMade:
        """Return the key of a reference; see ``Keys``."""
        return _made(reference, self._key(reference))

    def sign(self, reference: str, digest: bytes) -> bytes:
        """Sign with the key of a reference; see ``Keys`` and ``SigningKey.sign``."""
        return self._key(reference).sign(digest)

    def _key(self, reference: str) -> SigningKey:
        if reference not in self._keys:
            if _INDEX.fullmatch(reference) is None:
                raise InvariantBroken("the keystore has no key of this reference")
            self._keys[reference] = self._master.wallet(int(reference))
        return self._keys[reference]

    @classmethod
    def create(cls, path: Path, passphrase: bytes, entropy: Entropy, *, params: KdfParams | None = None) -> "Keystore":
        """Make a new master secret, write it to ``path`` encrypted, and return the open keystore.

        Args:
            path: file to make, with mode 0600; its folder must exist.
            passphrase: at least one byte; its strength is what protects a stolen file.
            entropy: where secret, salt and nonce come from.
            params: what opening costs; the default suits a server.

        Raises:
            InvalidInput: an empty passphrase, or the file exists.
            SignerUnavailable: the file cannot be written.
        """
        if not passphrase:
            raise InvalidInput("give a passphrase that is not empty", field="passphrase")
        master = entropy.token(MASTER_SIZE)
        salt, nonce = entropy.token(_SALT_SIZE), entropy.token(_NONCE_SIZE)
        keystore_id = entropy.token(_ID_SIZE).hex()
        kdf = {"name": "argon2id", "salt": _text(salt), **asdict(params or KdfParams())}
        head = {"v": VERSION, "id": keystore_id, "cipher": "AES-256-GCM", "kdf": kdf}
        sealed = AESGCM(_derive(passphrase, salt, params or KdfParams())).encrypt(nonce, master, canonical(head))
        document = {**head, "nonce": _text(nonce), "sealed": _text(sealed)}
        _write_new(path, json.dumps(document, indent=2).encode() + b"\n")
        return cls(keystore_id, master)

    @classmethod
    def open(cls, path: Path, passphrase: bytes) -> "Keystore":
        """Return the keystore in the file ``path``.

        Raises:
            SignerUnavailable: the file is missing, readable by others, not a keystore of this version,
                or the passphrase does not open it.
        """
        document = _read(path)
        try:
            sealed, nonce = _octets(document.pop("sealed")), _octets(document.pop("nonce"))
            kdf = dict(document["kdf"])
            name, salt = kdf.pop("name"), _octets(kdf.pop("salt"))
            if document["v"] != VERSION or document["cipher"] != "AES-256-GCM" or name != "argon2id":
                raise SignerUnavailable(f"{path.name} is a keystore of a version this program cannot open")
            key = _derive(passphrase, salt, KdfParams(**kdf))
            keystore_id = str(document["id"])
            associated = canonical(document)
        except (KeyError, TypeError, ValueError, AttributeError, InvalidInput):
            raise SignerUnavailable(f"{path.name} is not a keystore: restore it from a backup") from None
        try:
            master = AESGCM(key).decrypt(nonce, sealed, associated)
            return cls(keystore_id, master)
        except (InvalidTag, ValueError, InvalidInput):
            raise SignerUnavailable(
                f"the passphrase does not open {path.name}, or the file was changed:"
                " check [signer] passphrase_file, else restore the keystore from a backup"
            ) from None


def _derive(passphrase: bytes, salt: bytes, params: KdfParams) -> bytes:
    try:
        return hash_secret_raw(
            secret=passphrase,
            salt=salt,
            time_cost=params.time,
            memory_cost=params.memory_kib,
            parallelism=params.parallelism,
            hash_len=32,
            type=Type.ID,
        )
    except (HashingError, MemoryError):
        raise SignerUnavailable(
            f"opening the keystore needs {params.memory_kib // 1024} MiB of memory for a moment: free some"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise SignerUnavailable(f"the keystore {path.name} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise SignerUnavailable(f"others can read the keystore {path.name}: chmod 600 it")
    try:
        document = json.loads(content) if len(content) <= _FILE_MAX else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SignerUnavailable(f"{path.name} is not a keystore: restore it from a backup")
    return document


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that did not exist, whole or not at all, and wait until the disk holds it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # made with mode 0600
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike a rename, this fails if the name is taken
        finally:
            draft.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise InvalidInput(f"{path.name} exists: a keystore is never overwritten", field="path") from None
    except OSError as error:
        raise SignerUnavailable(f"the keystore {path.name} cannot be written: {error.strerror}") from None


def _made(reference: str, key: SigningKey) -> KeyMade:
    return KeyMade(reference=reference, address=key.address, public_key_hex=key.public_key.hex())


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("base64 text expected")
    return base64.b64decode(text, validate=True)
