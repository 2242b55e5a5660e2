"""The organization every run starts from: founded once, with a migrated database, then copied in microseconds."""

import functools
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from outlay.actions import wallets
from outlay.config import Config
from outlay.core.seams import SECOND, Instant
from outlay.evidence.keys import PrivateKey, load_private_key, normal_pem
from outlay.store.migrate import upgrade
from outlay.store.schema import record
from tests.actions import world
from tests.actions.documents import BLOCK, ask, at_most, cap, group, over
from tests.actions.world import Actor, World
from tests.sim.signer import SignerFiles, found_signer

NETWORK = world.NETWORK
USDC = world.USDC
DOLLAR = world.DOLLAR
TAG = "payouts"
NODES = 3
FEE_CAP = 10**16
NATIVE_FUNDS = 10**20
TOKEN_FUNDS = 10**6 * DOLLAR
CAP, CAP_MINUTES = 1200, 5
COUNT, COUNT_MINUTES = 4, 60
ASK_ONE, ASK_TWO = 200, 500
"""Dollars above which one person, and two, have to agree."""

SETTINGS = f"""
[networks.{NETWORK}]
chain_id = 31337
rpc_urls = [{", ".join(f'"http://node-{n}"' for n in range(NODES))}]
finality = {{ tag = "finalized" }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "{FEE_CAP}"

[[assets]]
network = "{NETWORK}"
kind = "Erc20"
contract = "{USDC}"
symbol = "USDC"
decimals = 6

[policies]
default = "allow"

[sending]
poll_s = 4.0
in_flight_max = 6
ready_timeout_s = 7200
unseen_max_s = 1200
bump_after_s = 8
bump_every_s = 6
void_after_s = 60

[prices.static]
ETH = "2000"
USDC = "1"
"""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A person or machine, with the key loaded."""

    actor: Actor
    key: PrivateKey

    @property
    def user_id(self) -> str:
        return self.actor.user_id


@dataclass(frozen=True, kw_only=True)
class Wallet:
    """A wallet, as the simulated chain and the requests name it."""

    id: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Organization:
    """What a run copies."""

    config: Config
    database: bytes
    signer: SignerFiles
    admin: Member
    bots: tuple[Member, ...]
    people: tuple[Member, ...]
    wallets: tuple[Wallet, ...]
    policies: dict[str, str]  #: cap, count, one, two -> policy id
    now: Instant


def _migrated(folder: Path) -> bytes:
    path = folder / "migrated.db"
    upgrade(path)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as unit:
        content = _serialized(unit)
    engine.dispose()
    return content


def _serialized(unit: sa.Connection) -> bytes:
    driver: Any = unit.connection.driver_connection
    content = bytearray(driver.serialize())
    content[18] = content[19] = 1  # no write-ahead log in memory
    return bytes(content)


def _key_pairs(seed: int) -> Any:
    chance = random.Random(seed)

    def make() -> tuple[str, str]:
        key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return private.decode(), normal_pem(key.public_key())

    return make


def _member(actor: Actor) -> Member:
    return Member(actor=actor, key=load_private_key(actor.private_key))


@functools.cache
def organization() -> Organization:
    """Found the organization, once in a process and its children."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = _migrated(folder)
        with (
            mock.patch.object(world, "new_key_pair", _key_pairs(1)),
            mock.patch.object(world, "empty_database", lambda: content),
        ):
            made = World(folder, settings=SETTINGS)
            try:
                return _fill(made, folder)
            finally:
                made.close()


def _fill(made: World, folder: Path) -> Organization:
    bots = [made.service_account("first bot"), made.service_account("second bot")]
    people = [made.person(f"{name}@example.com") for name in ("approver-1", "approver-2", "approver-3")]
    signer = found_signer(folder, made.root, made.config, made.clock, made.entropy)
    paying = []
    for _ in range(2):
        made.clock.step(micros=SECOND)
        wallet_id = wallets.new_wallet_id(made.entropy)
        key = signer.create_key(wallet_id)

        def create(act: Any, wallet_id: str = wallet_id, key: Any = key) -> Any:
            return wallets.create(
                act,
                wallet_id=wallet_id,
                network=NETWORK,
                key_id=key.key_id,
                address=key.address,
                public_key=key.public_key_hex,
                name=None,
                external_id=None,
                tags=(TAG,),
            )

        payload = {"network": NETWORK, "tags": [TAG]}
        made.call(made.admin, "POST", "/wallets", payload, "Wallets:Create", create)
        paying.append(Wallet(id=wallet_id, address=key.address))
    policies = {
        "cap": made.policy(cap(CAP, minutes=CAP_MINUTES), BLOCK, tags=[TAG]),
        "count": made.policy(at_most(COUNT, minutes=COUNT_MINUTES, scope="recipient"), BLOCK),
        "one": made.policy(over(ASK_ONE), ask(group(*people))),
        "two": made.policy(over(ASK_TWO), ask(group(*people, quorum=2))),
    }
    with made.unit() as unit:
        documents = list(unit.execute(sa.select(record.c.document).order_by(record.c.seq)).scalars())
    files = signer.close(documents)
    with made.unit() as unit:
        database = _serialized(unit)
    return Organization(
        config=made.config,
        database=database,
        signer=files,
        admin=_member(made.admin),
        bots=tuple(map(_member, bots)),
        people=tuple(map(_member, people)),
        wallets=tuple(paying),
        policies=policies,
        now=made.clock.now(),
    )
