"""Where the files of one deployment are."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from outlay.config import Config
from outlay.core.errors import InvalidInput, SignerUnavailable

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Set by systemd: the folder of the credentials a unit was given, which only this service can read."""

_CREDENTIAL = "signer-passphrase"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one deployment are. Secrets lie outside the data directory, so a copy of it opens nothing."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "outlay.toml"

    @property
    def data(self) -> Path:
        """The data directory: database, key store, journal."""
        return self.root / "data"

    @property
    def database(self) -> Path:
        """The server's database."""
        return self.data / "outlay.db"

    def database_of(self, config: Config) -> Path | str:
        """Return the SQLite file, or the URL of the PostgreSQL database with its password: it must not be shown.

        Raises:
            InvalidInput: the file with the password is missing, or others can read it.
        """
        return self._with_password(config, config.database.url) or self.database

    def listen_url(self, config: Config) -> str:
        """Return the URL to listen on, with its password; empty: none is configured. Raises as ``database_of``."""
        return self._with_password(config, config.database.listen_url)

    def _with_password(self, config: Config, url: str) -> str:
        named = config.database.password_file
        if not url or not named:
            return url
        try:
            password = read_passphrase(self.root / named).decode()
        except (SignerUnavailable, UnicodeDecodeError) as error:
            raise InvalidInput(f"cannot read the password: {error}", field="database.password_file") from None
        head, _, rest = url.partition("@")
        return f"{head}:{quote(password, safe='')}@{rest}" if rest else url

    @property
    def serve_lock(self) -> Path:
        """Held by whoever works in this directory: exclusively by ``serve``, shared by ``api`` and ``worker``."""
        return self.data / "serve.lock"

    @property
    def keystore(self) -> Path:
        """The signer's encrypted keys."""
        return self.data / "signer-keys.json"

    @property
    def journal(self) -> Path:
        """The signer's journal."""
        return self.data / "signer-journal.db"

    @property
    def journal_lock(self) -> Path:
        """Held by the one process that may write the journal."""
        return self.data / "signer-journal.lock"

    @property
    def secrets(self) -> Path:
        """The directory of what unlocks things."""
        return self.root / "secrets"

    @property
    def sealing_keys(self) -> Path:
        """What challenges and tokens are sealed with."""
        return self.secrets / "sealing-keys.json"

    @property
    def webhook_key(self) -> Path:
        """The Ed25519 key of webhook signatures."""
        return self.secrets / "webhook-key.pem"

    @property
    def passphrase(self) -> Path:
        """The signer's passphrase, unless the configuration names another file."""
        return self.secrets / "signer-passphrase"

    @property
    def admin_key(self) -> Path:
        """The first admin's private key, when init made it."""
        return self.secrets / "admin-key.pem"

    def passphrase_file(self, config: Config) -> Path:
        """Return the passphrase file the configuration names."""
        named = config.signer.passphrase_file
        return self.root / named if named else self.passphrase

    def read_secret(self, named: str) -> str:
        """Return what is in a file of this deployment that the configuration names.

        Raises:
            OSError: missing, or others can read it.
        """
        try:
            return read_passphrase(self.root / named).decode(errors="replace")
        except SignerUnavailable as error:
            raise OSError(error.message) from None

    def socket(self, config: Config) -> Path:
        """Return where the signer listens."""
        named = config.signer.socket
        return self.root / named if named else self.data / "signer.sock"

    def unlocking(self, config: Config) -> bytes:
        """Return what opens the keys: passphrase, or PIN of a token.

        The file that the configuration names goes first, then a systemd credential ``signer-passphrase``, then the
        file that ``init`` made. Never the environment: children inherit it, and it shows in /proc.

        Raises:
            SignerUnavailable: missing, or others can read it.
        """
        folder = os.environ.get(CREDENTIALS)
        if not config.signer.passphrase_file and folder and (Path(folder) / _CREDENTIAL).exists():
            # Its mode is systemd's business: an access list shows as permissions of the group.
            return (Path(folder) / _CREDENTIAL).read_bytes().strip()
        return read_passphrase(self.passphrase_file(config))


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read.

    Raises:
        InvalidInput: the file exists.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(f"{path} exists already: it is not overwritten", field="dir") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def read_passphrase(path: Path) -> bytes:
    """Read a file with nothing but a secret: the signer's passphrase, or a password.

    Raises:
        SignerUnavailable: missing, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SignerUnavailable(f"{path} can be read by others: chmod 600 it")
        return path.read_bytes().strip()
    except OSError as error:
        raise SignerUnavailable(f"cannot read {path}: {error.strerror}") from error
