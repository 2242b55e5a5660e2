"""The HTTP API alone: a real server in a thread, a clock that stands still, a stub signer, no chain and no engine.

What is sent goes over a plain socket, byte for byte, so that a test can send what no client library would.
What is stored can be compared: a refusal leaves nothing behind.
"""

import asyncio
import contextlib
import hashlib
import http.client
import json
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn
from litestar.exceptions import LitestarDeprecationWarning

from outlay import config as configuration
from outlay.actions.organization import found
from outlay.cli.listener import Listener
from outlay.core.asset import Asset
from outlay.core.audit import SESSION_REFUSED
from outlay.core.errors import ChainUnavailable, InvalidInput
from outlay.core.fees import Fees
from outlay.core.seams import Instant
from outlay.evidence.attestation import key_attestation, new_key_pair
from outlay.evidence.keys import PrivateKey, load_private_key
from outlay.evidence.seal import SealingKeys
from outlay.evidence.sign import sign_challenge
from outlay.prices.checked import CheckedPrices
from outlay.signer import PublicKey
from outlay.store.database import Database
from outlay.store.schema import metadata
from outlay.store.webhooks import Webhook
from outlay.system import SystemEntropy
from outlay.web.app import create_app
from outlay.web.gate import Gate
from outlay.web.limits import Limiter
from tests import postgres

NETWORK = "EthereumSepolia"
TOKEN = "0x" + "c0" * 20
CONFIGURATION = f"""
[networks.{NETWORK}]
chain_id = 31337
rpc_urls = ["http://127.0.0.1:1"]
finality = {{ blocks = 1 }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "50000000000000000"

[[assets]]
network = "{NETWORK}"
contract = "{TOKEN}"
symbol = "USDC"
decimals = 6

[prices.static]
ETH = "3000"
USDC = "1"
"""
RECIPIENT = "0x" + "1a" * 20
PAYER = ("Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read", "Wallets:Transfers:Abort")
"""What a service account that pays is permitted."""

BOOKKEEPING = frozenset({"spent_nonce", "group_mark"})
"""Tables that may change although nothing was done: used challenges, and the mark of the newest commit."""

GWEI = 10**9

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class StillClock:
    """Moves only when told to."""

    def __init__(self) -> None:
        self.instant: Instant = 1_767_323_045_678_901

    def now(self) -> Instant:
        """Return the instant it was moved to."""
        return self.instant


class StubSigner:
    """Makes addresses; signs nothing: no engine runs here."""

    async def create_key(self, wallet_id: str) -> PublicKey:
        """Return the same made-up key for the same wallet."""
        digest = hashlib.sha256(wallet_id.encode()).hexdigest()
        return PublicKey(key_id=f"key-{digest[:8]}", address="0x" + digest[:40], public_key_hex="02" + digest)


class StubReconciler:
    """Says that everything agrees: nothing was ever signed."""

    async def reconcile(self) -> dict[str, Any]:
        """Return that nothing differs."""
        return {"agrees": True, "wallets": []}

    async def signer_state(self) -> dict[str, Any]:
        """Return a journal in which nothing stands."""
        return {"journalId": "journal", "seeded": True, "minNonces": {}}


class StubCourier:
    """Accepts every URL but those at ``refused.example``, and keeps what it was asked."""

    def __init__(self) -> None:
        self.checked: list[str] = []

    async def check_url(self, url: str) -> None:
        """Remember the URL."""
        self.checked.append(url)
        if "refused.example" in url:
            raise InvalidInput("is not allowed", field="url")

    async def ping(self, webhook: Webhook) -> dict[str, str]:
        """Say that it went well."""
        return {"status": "200"}


class StubChains:
    """Answers what it was told to, or not at all."""

    def __init__(self) -> None:
        self.held: dict[str, int | None] = {}  #: asset key -> balance, None: no token; 0 where nothing was said
        self.asked: list[tuple[str, list[str]]] = []  #: each look at balances: address, asset keys
        self.prices = Fees(block_number=7, base_fee=3 * GWEI, tip_slow=GWEI, tip_standard=2 * GWEI, tip_fast=5 * GWEI)
        self.beside_gas = 0
        self.is_dead = False

    async def fees(self, network: str) -> Fees:
        """Return the prices."""
        if self.is_dead:
            raise ChainUnavailable("no RPC endpoint gave a usable answer")
        return self.prices

    async def data_fee(self, network: str) -> int:
        """Return what is asked beside gas."""
        return self.beside_gas

    async def balances(self, address: str, assets: Sequence[Asset]) -> list[int | None]:
        """Return what is held."""
        if self.is_dead:
            raise ChainUnavailable("no RPC endpoint gave a usable answer")
        self.asked.append((address, [asset.key for asset in assets]))
        return [self.held.get(asset.key, 0) for asset in assets]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]  #: names in lower case
    raw: bytes

    @property
    def body(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        """Return the error's code."""
        return str(self.body["error"]["code"])

    @property
    def details(self) -> Any:
        """Return the error's details."""
        return self.body["error"]["details"]

    @property
    def field(self) -> str | None:
        """Return the name of the member that was refused."""
        named: str | None = self.details.get("field")
        return named

    @property
    def message(self) -> str:
        """Return what the caller is told."""
        return str(self.body["error"]["message"])

    def ok(self) -> Any:
        """Return the parsed body of a success.

        Raises:
            AssertionError: it is none; the message shows the answer.
        """
        assert self.status == 200, f"{self.status}: {self.raw.decode(errors='replace')[:500]}"
        return self.body


def check_refusal(answer: Answer) -> None:
    """Check that an answer is a 4xx in the contract's shape, and repeats little of what was sent."""
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"].startswith("application/json")
    assert len(answer.raw) < 4096
    error = answer.body["error"]
    assert set(error) == {"id", "status", "code", "message", "details"}
    assert error["status"] == answer.status
    assert error["id"].startswith("err-")
    assert error["message"] == answer.body["message"] != ""


@dataclass(frozen=True, kw_only=True)
class Who:
    """Somebody who calls."""

    user_id: str
    username: str
    credential_id: str
    key: PrivateKey
    private: str = field(repr=False)  #: PEM
    token: str = field(repr=False)


@dataclass(kw_only=True)
class Door:
    """A running API and what is behind it."""

    gate: Gate
    clock: StillClock
    courier: StubCourier
    chains: StubChains
    port: int
    org_id: str
    admin: Who

    # Sending

    def send_raw(self, data: bytes | Sequence[bytes], *, method: str = "GET", timeout_s: float = 20) -> Answer:
        """Send exactly these bytes (or pieces of bytes) on a connection of their own and return the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            with contextlib.suppress(ConnectionError):  # the server may answer and hang up before it has all
                for piece in [data] if isinstance(data, bytes) else data:
                    connection.sendall(piece)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=headers, raw=response.read())

    def send_all(self, data: bytes, *, timeout_s: float = 20) -> bytes:
        """Send exactly these bytes and return all that comes until the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def send(self, method: str, target: str, body: bytes | None = None, headers: Headers = ()) -> Answer:
        """Make one call: ``target`` goes into the request line as it is; a body brings its length."""
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        lines = [f"{method} {target} HTTP/1.1", "host: localhost", "connection: close"]
        lines += [f"{name}: {value}" for name, value in given]
        if body is not None and not any(name.lower() == "transfer-encoding" for name, _ in given):
            lines.append(f"content-length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        return self.send_raw(head + (body or b""), method=method)

    def call(
        self, method: str, target: str, body: Any = None, *, token: str = "", action: str = "", **more: str
    ) -> Answer:
        """Make a call with a JSON body (``bytes`` go as they are), a bearer token and a user-action token."""
        headers = {"content-type": "application/json"} if body is not None else {}
        if token:
            headers["authorization"] = f"Bearer {token}"
        if action:
            headers["x-dfns-useraction"] = action
        headers.update({name.replace("_", "-"): value for name, value in more.items()})
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(method, target, raw, headers)

    def get(self, target: str, who: Who | None = None) -> Answer:
        """Read something as ``who``, or as the admin."""
        return self.call("GET", target, token=(who or self.admin).token)

    # Signing

    def open(self, who: Who, method: str, path: str, payload: Any = None) -> Answer:
        """Ask for a challenge; a ``payload`` that is text goes as it is."""
        text = payload if isinstance(payload, str) else "" if payload is None else json.dumps(payload)
        body = {"userActionHttpMethod": method, "userActionHttpPath": path, "userActionPayload": text}
        return self.call("POST", "/auth/action/init", body, token=who.token)

    def answer(self, who: Who, identifier: str, challenge: str, *, signer: Who | None = None) -> Answer:
        """Answer a challenge with a key, by default the caller's own."""
        by = signer or who
        factor = sign_challenge(by.key, by.credential_id, challenge)
        body = {"challengeIdentifier": identifier, "firstFactor": factor}
        return self.call("POST", "/auth/action", body, token=who.token)

    def sign(self, who: Who, method: str, path: str, payload: Any = None) -> str:
        """Return a user-action token for a call."""
        opened = self.open(who, method, path, payload).ok()
        return str(self.answer(who, opened["challengeIdentifier"], opened["challenge"]).ok()["userAction"])

    def write(self, who: Who, method: str, path: str, body: Any = None) -> Answer:
        """Sign a call and make it; ``bytes`` go as they are."""
        payload = body.decode() if isinstance(body, bytes) else body
        return self.call(method, path, body, token=who.token, action=self.sign(who, method, path, payload))

    def refused(self, who: Who, method: str, path: str, body: Any) -> Answer:
        """Make a call, signed if a challenge is to be had for it, and check that it is refused and leaves nothing."""
        before = self.stored()
        opened = self.open(who, method, path, body.decode("utf-8", "replace") if isinstance(body, bytes) else body)
        action = "none"
        if opened.status == 200:
            found = opened.body
            action = self.answer(who, found["challengeIdentifier"], found["challenge"]).ok()["userAction"]
        else:
            check_refusal(opened)
            assert opened.field
        answer = self.call(method, path, body, token=who.token, action=action)
        check_refusal(answer)
        assert self.stored() == before
        return answer

    # Everybody in it

    def service_account(self, name: str, operations: Collection[str]) -> Who:
        """Create a service account with a permission of its own."""
        permission = self.write(
            self.admin, "POST", "/permissions", {"name": f"{name} permission", "operations": sorted(operations)}
        ).ok()
        private, public = new_key_pair()
        body = {"name": name, "publicKey": public, "permissionId": permission["id"]}
        made = self.write(self.admin, "POST", "/auth/service-accounts", body).ok()
        token = made["accessTokens"][0]
        return Who(
            user_id=made["userInfo"]["userId"],
            username=name,
            credential_id=token["credId"],
            key=load_private_key(private),
            private=private,
            token=token["accessToken"],
        )

    def person(self, email: str, operations: Collection[str] = ()) -> Who:
        """Invite, register and log in a person whose votes count."""
        private, public = new_key_pair()
        body = {"email": email, "kind": "CustomerEmployee", "publicKey": public}
        invited = self.write(self.admin, "POST", "/auth/users", body).ok()
        begun = self.call(
            "POST", "/auth/registration/init", {"username": email, "registrationCode": invited["registrationCode"]}
        ).ok()
        info = key_attestation(private, begun["challenge"])
        self.call(
            "POST",
            "/auth/registration",
            {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": info}},
            token=begun["temporaryAuthenticationToken"],
        ).ok()
        if operations:
            permission = self.write(
                self.admin, "POST", "/permissions", {"name": f"{email} permission", "operations": sorted(operations)}
            ).ok()
            assignment = {"identityId": invited["userId"]}
            self.write(self.admin, "POST", f"/permissions/{permission['id']}/assignments", assignment).ok()
        who = Who(
            user_id=invited["userId"],
            username=email,
            credential_id=info["credId"],
            key=load_private_key(private),
            private=private,
            token="",
        )
        return self.log_in(who)

    def log_in(self, who: Who) -> Who:
        """Return the person with a new bearer token."""
        begun = self.call("POST", "/auth/login/init", {"username": who.username}).ok()
        factor = sign_challenge(who.key, who.credential_id, begun["challenge"])
        body = {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": factor}
        token = self.call("POST", "/auth/login", body).ok()["token"]
        return Who(
            user_id=who.user_id,
            username=who.username,
            credential_id=who.credential_id,
            key=who.key,
            private=who.private,
            token=token,
        )

    def wallet(self, *tags: str) -> Any:
        """Create a wallet."""
        body = {"network": NETWORK, **({"tags": list(tags)} if tags else {})}
        return self.write(self.admin, "POST", "/wallets", body).ok()

    # Looking behind it

    def run_write(self, function: Callable[[Any], Any]) -> Any:
        """Run a unit of our own, between those of the requests."""
        return asyncio.run(self.gate.db.write(function))

    def execute(self, sql: str, *parameters: Any) -> None:
        """Change rows behind the server's back."""
        marked = postgres.marked(self.gate.db.where, sql)
        self.run_write(lambda unit: unit.exec_driver_sql(marked, parameters))

    def wait_for_units(self, waiting: int) -> None:
        """Wait until at least ``waiting`` units stand in the writer's queue."""
        deadline = time.monotonic() + 20
        while self.gate.db._queue.qsize() < waiting:
            assert time.monotonic() < deadline, f"only {self.gate.db._queue.qsize()} units came"
            time.sleep(0.005)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds in the database."""
        return list(postgres.look(self.gate.db.where, sql, *parameters))

    def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that is stored, table by table, but for the bookkeeping.

        That somebody failed to log in is written down, as it should be: it is not among it.
        """
        names = sorted(table.name for table in metadata.sorted_tables if table.name not in BOOKKEEPING)
        found = {name: self.rows(f'SELECT * FROM "{name}" ORDER BY 1, 2') for name in names}
        return {**found, "audit_entry": [row for row in found["audit_entry"] if SESSION_REFUSED not in row]}

    @property
    def spent(self) -> int:
        """Return how many challenges were spent."""
        return int(self.rows("SELECT count(*) FROM spent_nonce")[0][0])


def _organization(db: Database, config: configuration.Config, clock: StillClock, seals: SealingKeys) -> tuple[str, Who]:
    private, public = new_key_pair()
    with db.engine.begin() as unit:
        made = found(
            unit,
            now=clock.now(),
            entropy=SystemEntropy(),
            config=config,
            admin="admin",
            admin_public_key=public,
            preset="none",
        )
    admin = Who(
        user_id=made.user_id,
        username="admin",
        credential_id=made.credential_id,
        key=load_private_key(private),
        private=private,
        token=seals.sign_token(made.claims),
    )
    return made.org_id, admin


@contextlib.contextmanager
def open_door_now(folder: Path, *, extra: str = "") -> Iterator[Door]:
    """Serve as ``open_door`` does, with a clock that shows the time of day."""
    ended = threading.Event()
    with open_door(folder, extra=extra, begins=time.time_ns() // 1000) as door:

        def tick() -> None:
            while not ended.wait(0.02):
                door.clock.instant = time.time_ns() // 1000

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield door
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def open_door(folder: Path, *, extra: str = "", begins: Instant | None = None) -> Iterator[Door]:
    """Serve a new organization without policies on a free local port until the block ends.

    Args:
        folder: an empty directory.
        extra: lines appended to the configuration.
        begins: where the clock stands.
    """
    clock = StillClock()
    clock.instant = begins or clock.instant
    with postgres.database(folder / "outlay.db") as where, _open_door(where, folder, extra, clock) as door:
        yield door


@contextlib.contextmanager
def _open_door(where: Path | str, folder: Path, extra: str, clock: StillClock) -> Iterator[Door]:
    entropy, courier, chains = SystemEntropy(), StubCourier(), StubChains()
    config = configuration.parse(CONFIGURATION + extra)
    db = Database(where)
    if isinstance(where, Path):
        metadata.create_all(db.engine)
    seals = SealingKeys.create(folder / "sealing-keys.json", entropy)
    org_id, admin = _organization(db, config, clock, seals)
    prices = CheckedPrices({symbol: Decimal(price) for symbol, price in config.prices.items()}, {}, began=0)
    gate = Gate(
        db=db,
        seals=seals,
        config=config,
        clock=clock,
        entropy=entropy,
        price_of=prices.find,
        webhook_public_key="whpk_test",
        limiter=Limiter.of(config.limits),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LitestarDeprecationWarning)  # of its next major version, which we do not take
        app = create_app(gate, StubSigner(), courier, chains, StubReconciler())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, http=Listener, ws="none", log_level="critical", access_log=False, lifespan="on")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the server does not start"
            time.sleep(0.01)
        try:
            yield Door(
                gate=gate,
                clock=clock,
                courier=courier,
                chains=chains,
                port=listening.getsockname()[1],
                org_id=org_id,
                admin=admin,
            )
        finally:
            server.should_exit = True
            thread.join(10)
            db.close()


def fresh_id() -> str:
    """Return an ``externalId`` nobody used."""
    return secrets.token_hex(8)


def transfer(**changes: Any) -> dict[str, Any]:
    """Return the body of a good transfer with some members changed; None leaves one out."""
    body = {"kind": "Native", "to": RECIPIENT, "amount": "1000", "externalId": fresh_id(), **changes}
    return {name: value for name, value in body.items() if value is not None}
