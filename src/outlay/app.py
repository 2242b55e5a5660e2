"""The composition root: a directory on disk becomes a running server."""

import fcntl
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from litestar import Litestar

from outlay.actions.organization import Founded, found
from outlay.chains import Chain, Finality
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import HttpTransport, JsonRpc
from outlay.config import Config, load
from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput, SignerUnavailable, Unavailable
from outlay.core.fees import Fees
from outlay.engine.balance import Balance
from outlay.engine.confirm import Confirm
from outlay.engine.deliver import Deliver
from outlay.engine.egress import Egress
from outlay.engine.expire import Expire
from outlay.engine.loop import Loops
from outlay.engine.send import Send
from outlay.engine.webhook_signature import public_key_text
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.keys import load_public_key, normal_pem
from outlay.evidence.seal import SealingKeys
from outlay.prices.static import StaticPrices
from outlay.signer.journal import Journal
from outlay.signer.keystore import Keystore
from outlay.signer.local import LocalSigner
from outlay.store import lanes, organizations
from outlay.store.database import Database
from outlay.store.migrate import upgrade
from outlay.store.webhooks import Webhook
from outlay.system import SystemClock, SystemEntropy
from outlay.web.app import create_app
from outlay.web.gate import Gate

IDLE_S = 0.05
"""Pause of the loops that only look at the database."""


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

    @property
    def keystore(self) -> Path:
        """The signer's encrypted keys."""
        return self.data / "signer-keys.json"

    @property
    def journal(self) -> Path:
        """The signer's journal."""
        return self.data / "signer-journal.db"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialized:
    """What ``initialize`` made."""

    founded: Founded
    token: str  #: bearer token of the first admin, 24 hours
    private_key_file: Path | None


def initialize(
    layout: Layout, config_text: str, config: Config, *, preset: str, admin: str, admin_public_key: str | None
) -> Initialized:
    """Create a deployment in an empty directory: secrets, keys, database, genesis record.

    Raises:
        InvalidInput: the directory holds a deployment already.
    """
    clock, entropy = SystemClock(), SystemEntropy()
    if layout.database.exists() or layout.keystore.exists():
        raise InvalidInput(f"{layout.root} holds a deployment already", field="dir")
    if admin_public_key is not None:
        admin_public_key = normal_pem(load_public_key(admin_public_key, field="admin_public_key"))
    for directory in (layout.root, layout.data, layout.secrets):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_key_file = None
    if admin_public_key is None:
        private, admin_public_key = new_key_pair()
        write_secret(layout.admin_key, private.encode())
        private_key_file = layout.admin_key
    if not layout.config.exists():
        write_secret(layout.config, config_text.encode())
    passphrase_file = layout.passphrase_file(config)
    if not passphrase_file.exists():
        write_secret(passphrase_file, secrets.token_urlsafe(32).encode())
    write_secret(layout.webhook_key, new_key_pair()[0].encode())
    seals = SealingKeys.create(layout.sealing_keys, entropy)
    upgrade(layout.database)
    database = Database(layout.database)
    try:
        with database.engine.begin() as unit:
            founded = found(
                unit,
                now=clock.now(),
                entropy=entropy,
                config=config,
                admin=admin,
                admin_public_key=admin_public_key,
                preset=preset,
            )
    finally:
        database.close()
    keystore = Keystore.create(layout.keystore, read_passphrase(passphrase_file), entropy)
    Journal.create(layout.journal, root=founded.root, keystore_id=keystore.id).close()
    return Initialized(founded=founded, token=seals.sign_token(founded.claims), private_key_file=private_key_file)


def read_passphrase(path: Path) -> bytes:
    """Read the signer's passphrase.

    Raises:
        SignerUnavailable: missing, or others can read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SignerUnavailable(f"{path} can be read by others: chmod 600 it")
        return path.read_bytes().strip()
    except OSError as error:
        raise SignerUnavailable(f"cannot read the signer's passphrase file {path}: {error.strerror}") from error


def _lock(path: Path) -> int:
    """Make this process the only server of a data directory until it ends, however it ends; return the descriptor.

    Raises:
        Unavailable: another one is running.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Unavailable(f"another server is running on {path.parent}: one signer, one journal") from None
    return descriptor


class Application:
    """One process that does everything: API, engine and signer."""

    def __init__(self, layout: Layout, config: Config | None = None) -> None:
        """Open the deployment in ``layout``; nothing runs yet.

        Raises:
            InvalidInput: no deployment there, or a wrong configuration. SignerUnavailable: the keys stay locked.
        """
        self.layout = layout
        self.config = config or load(layout.config)
        if not layout.database.exists():
            raise InvalidInput(f"{layout.root} holds no deployment: run outlay init --dir {layout.root}", field="dir")
        self._lock = _lock(layout.data / "serve.lock")
        self._clock, self._entropy = SystemClock(), SystemEntropy()
        upgrade(layout.database)
        self.db = Database(layout.database)
        with self.db.engine.begin() as unit:
            root = organizations.get(unit).root
        keystore = Keystore.open(layout.keystore, read_passphrase(layout.passphrase_file(self.config)))
        self._journal = Journal.open(layout.journal, root=root, keystore_id=keystore.id)
        networks = {name: network.chain_id for name, network in self.config.networks.items()}
        self._signer = LocalSigner(keystore, self._journal, networks=networks, clock=self._clock)
        key = load_pem_private_key(layout.webhook_key.read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput(f"{layout.webhook_key} is not an Ed25519 key", field="webhook_key")
        self._webhook_key = key
        self._transport = HttpTransport()
        self._loops = Loops()
        self._deliver: Deliver | None = None
        self._egress: Egress | None = None
        self._chains: Mapping[str, Chain] = {}

    def asgi(self) -> Litestar:
        """Return the ASGI application; the engine runs within its life."""
        prices = StaticPrices(self.config.prices)
        gate = Gate(
            db=self.db,
            seals=SealingKeys.load(self.layout.sealing_keys, self._entropy),
            config=self.config,
            clock=self._clock,
            entropy=self._entropy,
            price_of=prices.find,
            webhook_public_key=public_key_text(self._webhook_key),
        )
        return create_app(gate, self._signer, self, self, on_startup=[self._start], on_shutdown=[self._stop])

    async def check_url(self, url: str) -> None:
        """Refuse a webhook URL that must not be called. Raises InvalidInput."""
        if self._egress is None:
            raise Unavailable("the server is starting")
        await self._egress.check_url(url)

    async def ping(self, webhook: Webhook) -> dict[str, str]:
        """Send a made-up event to an endpoint and say how it went."""
        if self._deliver is None:
            raise Unavailable("the server is starting")
        return await self._deliver.ping(webhook)

    async def fees(self, network: str) -> Fees:
        """Return what a transaction costs now on a configured network."""
        return await self._chain(network).fees()

    async def balances(self, address: str, assets: Sequence[Asset]) -> list[int]:
        """Return the newest balance of each asset in base units, in order; all are of one network."""
        return await self._chain(assets[0].network).balances(address, assets)

    def _chain(self, network: str) -> Chain:
        if network not in self._chains:
            raise Unavailable("the server is starting")
        return self._chains[network]

    async def _start(self) -> None:
        parts = (self.db, self._clock, self._entropy, self.config)
        chains = self._chains = {
            name: EvmChain(
                JsonRpc(network.rpc_urls, self._transport, chain_id=network.chain_id),
                Finality(blocks=network.finality.blocks, tag=network.finality.tag),
            )
            for name, network in self.config.networks.items()
        }
        self._egress = Egress(allow_private_addresses=self.config.webhooks.allow_private_addresses)
        self._deliver = Deliver(
            self.db,
            self._clock,
            self._entropy,
            self._egress,
            signing_key=self._webhook_key,
            schedule_s=self.config.webhooks.retry_schedule_s,
        )
        # The lock says that whoever held a lane is dead: nobody has to wait for a lease to run out.
        await self.db.write(lanes.release_all)
        holder = f"{os.getpid()}-{secrets.token_hex(4)}"
        send = Send(*parts, chains, self._signer, holder=holder)
        confirm, balance, expire = Confirm(*parts, chains), Balance(*parts, chains), Expire(*parts)

        async def follow() -> bool:
            moved = await confirm.step()
            return await balance.step() or moved

        poll_s = self.config.sending.poll_s
        self._loops.start(
            [
                ("send", send.step, IDLE_S),
                ("confirm", follow, poll_s),
                ("deliver", self._deliver.step, IDLE_S),
                ("expire", expire.step, 1.0),
            ]
        )

    async def _stop(self) -> None:
        await self._loops.stop()
        if self._deliver is not None:
            await self._deliver.stop()
        await self._transport.close()
        self.db.close()
        self._journal.close()
        os.close(self._lock)
