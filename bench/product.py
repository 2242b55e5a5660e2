"""The product under measurement: a deployment on a database of choice, who may pay from it, and a look inside."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg

from bench.machine import cpu_s, tree
from bench.node import RECIPIENTS
from bench.paying import Payer
from outlay.cli.playground import NETWORK, Deployment, configuration, free_port
from outlay.client import Client
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.keys import load_private_key
from outlay.layout import Layout
from outlay.store.database import Database, Unit
from tests.postgres import Server

T = TypeVar("T")
TOKEN = "0x" + "11" * 20
FEE_CAP = 10**15
TAG = "payouts"


def sending(*, in_flight: int, poll_s: float) -> str:
    """Return the settings of ``[sending]`` that a bench changes, as TOML lines."""
    return f"in_flight_max = {in_flight}\npoll_s = {poll_s}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """A wallet that pays."""

    id: str
    address: str


class Product:
    """One deployment. It ends with ``close``."""

    def __init__(
        self,
        folder: Path,
        *,
        rpc_url: str,
        database: str,
        server: Server | None,
        settings: str = "",
        preset: str = "standard",
    ) -> None:
        """Make it; ``start`` runs it.

        Args:
            folder: a new directory for its files is made in here.
            rpc_url: the node.
            database: ``sqlite`` or ``postgresql``.
            server: where a database is made for it, if PostgreSQL.
            settings: lines of ``[sending]``.
            preset: the policies it begins with.
        """
        self.database, self.server = database, server
        self._rpc_url = rpc_url
        self.port = free_port()
        self._url = "" if server is None or database == "sqlite" else create_database(server)
        directory = folder / f"product-{secrets.token_hex(4)}"
        self.deployment, self.made = Deployment.initialize(
            directory, self._configuration(settings), self.port, preset=preset
        )
        self.layout = Layout(directory)
        self.hook_secret = ""  #: what deliveries are signed with, once ``prepare`` made an endpoint
        self._outside: Database | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.deployment.url

    @property
    def where(self) -> Path | str:
        """Its database: a file, or a URL."""
        return self._url or self.layout.database

    def start(self, settings: str | None = None) -> None:
        """Run it, with other lines of ``[sending]`` if given."""
        if settings is not None:
            self.layout.config.write_text(self._configuration(settings))
        self.deployment.start()

    def stop(self) -> None:
        """End its processes; the database stays."""
        self.deployment.stop()

    def close(self) -> None:
        """End everything."""
        if self._outside is not None:
            self._outside.close()
        self.deployment.stop()

    def read(self, function: Callable[[Unit], T]) -> T:
        """Look into its database from outside, on one snapshot."""
        if self._outside is None:
            self._outside = Database(self.where)
        return asyncio.run(self._outside.read(function))

    def processes(self) -> dict[str, list[int]]:
        """Return the process ids of its parts that run now: server, signer, database."""
        process = self.deployment.process
        assert process is not None
        parts = {"server": [process.pid], "signer": [pid for pid in tree(process.pid) if pid != process.pid]}
        if self._url and self.server is not None:
            parts["database"] = tree(_postmaster(self.server))
        return parts

    def cpu(self) -> dict[str, float]:
        """Return the processor time each part has used so far, seconds."""
        return {name: cpu_s(pids) for name, pids in self.processes().items()}

    def admin(self) -> Client:
        """Return a client of the first admin."""
        admin = self.made["admin"]
        return Client(
            self.url,
            token=admin["token"],
            credential_id=admin["credentialId"],
            private_key=Path(admin["privateKeyFile"]).read_text(),
        )

    def prepare(self, *, wallets: int = 1, hook: str = "") -> tuple[Payer, list[Wallet]]:
        """Set up who pays, from what, and where it is told of; the server must run.

        Args:
            wallets: how many are made, each tagged as the preset's policies want.
            hook: URL that is told of confirmed payouts; empty: nobody is.
        """
        admin, key = self.admin(), new_key_pair()
        names = ["Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read"]
        permission = admin.write("POST", "/permissions", {"name": "pay", "operations": names})
        account = admin.write(
            "POST",
            "/auth/service-accounts",
            {"name": "payouts", "publicKey": key[1], "permissionId": permission["id"], "daysValid": 1},
        )["accessTokens"][0]
        made = []
        for number in range(wallets):
            wallet = admin.write("POST", "/wallets", {"network": NETWORK, "name": f"hot {number}", "tags": [TAG]})
            made.append(Wallet(id=wallet["id"], address=wallet["address"]))
        self._list_recipients(admin)
        if hook:
            made_hook = admin.write("POST", "/webhooks", {"url": hook, "events": ["wallet.transfer.confirmed"]})
            self.hook_secret = str(made_hook["secret"])
        pass_second()
        payer = Payer(
            url=self.url,
            token=account["accessToken"],
            credential_id=account["credId"],
            key=load_private_key(key[0]),
            public_key=key[1],
            wallet_id=made[0].id,
            address=made[0].address,
        )
        return payer, made

    def _list_recipients(self, admin: Client) -> None:
        for policy in admin.read("/v2/policies")["items"]:
            if policy["rule"]["kind"] != "TransactionRecipientWhitelist":
                continue
            document = {name: policy[name] for name in ("name", "activityKind", "rule", "action", "filters")}
            document["rule"]["configuration"]["addresses"] = list(RECIPIENTS)
            for group in document["action"]["approvalGroups"]:
                group["approvers"] = {"userId": {"in": [self.made["admin"]["userId"]]}}
            admin.write("PUT", f"/v2/policies/{policy['id']}", document)

    def _configuration(self, settings: str) -> str:
        text = configuration(port=self.port, rpc_url=self._rpc_url, token=TOKEN)
        # No token is there to be watched.
        head, _, tail = text.partition("[[assets]]")
        text = head + "[prices.static]" + tail.partition("[prices.static]")[2]
        text = text.replace('fee_cap = "10000000000000000"', f'fee_cap = "{FEE_CAP}"')
        if settings:
            # As an installation has them: what the demo shortens is left at its default.
            text = text.partition("[sending]")[0] + "[sending]\n" + settings
        return text + (f'\n[database]\nurl = "{self._url}"\n' if self._url else "")


def pass_second() -> None:
    """Wait for the next second: signed requests name whole ones, and must be younger than the records they follow."""
    time.sleep(1.01 - time.time() % 1)


def _postmaster(server: Server) -> int:
    return int((server.folder / "data" / "postmaster.pid").read_text().split()[0])


def create_database(server: Server) -> str:
    """Make an empty database and return its URL."""
    name = f"bench_{secrets.token_hex(4)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
    return f"{server.url.rsplit('/', 1)[0]}/{name}"


@contextlib.contextmanager
def running(product: Product) -> Iterator[Product]:
    """Start a deployment and end it in any case."""
    try:
        product.start()
        yield product
    finally:
        product.close()


def percent(part: int, whole: int) -> float:
    """Return how much of ``whole`` is ``part``, in percent."""
    return 100.0 * part / whole if whole else 0.0


def totals(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    """Return processor time for one payout by part of the product, milliseconds."""
    return {name: round((after[name] - before.get(name, 0.0)) * 1e3 / count, 3) for name in after}
