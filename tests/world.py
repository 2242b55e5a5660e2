"""A whole deployment for tests: a local chain, ``outlay serve``, and the official Python SDK for everybody in it.

A world takes about five seconds to open (two key derivations), so a test module opens one and shares it::

    @pytest.fixture(scope="module")
    def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
        with World.open(tmp_path_factory.mktemp("world")) as opened:
            yield opened

What happens is driven through the wire only; ``rows`` looks into the database without being able to change it.
The SDK's type hints are spelled in snake case while the wire is camel case, hence ``Any`` for its clients.
"""

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from dfns_sdk import DfnsClient, DfnsClientConfig, KeySigner

from outlay.cli.playground import ETH, NETWORK, USDC, Deployment, LocalChain, configuration, free_port
from outlay.config import load
from outlay.evidence.attestation import key_attestation
from outlay.layout import Layout
from tests import postgres, tools

__all__ = ["ETH", "NETWORK", "USDC", "Arrival", "Identity", "Invitation", "Receiver", "World", "new_key", "until"]

VOTER = ("Policies:Evaluations:Read", "Policies:Evaluations:Vote", "Policies:Read", "Wallets:Read")
"""What an approver is permitted unless a test says otherwise."""

PAYER = ("Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read")
"""What a payout service account is permitted unless a test says otherwise."""

ANONYMOUS = "nobody"
"""Bearer token of calls that need none: the SDK always sends one, and its HTTP library refuses an empty one."""

WAIT_S = 20.0
POLL_S = 0.03

KeyKind = str
_KEYS: Mapping[KeyKind, Callable[[], Any]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
KEY_KINDS = tuple(_KEYS)


def new_key(kind: KeyKind = "Ed25519") -> tuple[str, str]:
    """Return a new private key and its public key as PEM text; ``kind`` is one of ``KEY_KINDS``."""
    key = _KEYS[kind]()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def until(ready: Callable[[], Any], what: str, *, timeout_s: float = WAIT_S) -> Any:
    """Poll ``ready`` until it returns something true, and return that.

    Raises:
        AssertionError: nothing true within ``timeout_s``; the message says ``what`` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(POLL_S)


def place_of(directory: Path) -> Path | str:
    """Return where the database of a deployment is: a file or a URL."""
    layout = Layout(directory)
    return layout.database_of(load(layout.config))


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody who calls: the key that signs, the bearer token, and an SDK client that uses both."""

    user_id: str
    username: str
    credential_id: str
    private_key: str  #: PEM
    token: str
    sdk: Any  #: ``dfns_sdk.DfnsClient``


class HasId(Protocol):
    """Somebody, as far as policies name them."""

    @property
    def user_id(self) -> str:
        """Their id."""


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What an invited person was given."""

    user_id: str
    email: str
    code: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request a receiver got."""

    headers: Mapping[str, str]  #: names in lower case
    body: bytes  #: exactly as it came

    @property
    def event(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class Receiver:
    """An HTTP endpoint on a free local port that keeps what it gets, in the order it came.

    It answers 200, or the next of ``answers`` while there are any.
    """

    def __init__(self) -> None:
        """Listen, in a thread of its own."""
        self.arrivals: list[Arrival] = []
        self.answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            """Takes one delivery."""

            def do_POST(self) -> None:
                """Keep the request, then answer."""
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.arrivals.append(Arrival(headers, body))
                try:
                    status = receiver.answers.get_nowait()
                except queue.Empty:
                    status = 200
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the test has the arrivals."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def events(self, kind: str | None = None) -> list[Any]:
        """Return the events that came so far, parsed; only those of one kind where ``kind`` is given."""
        parsed = [arrival.event for arrival in list(self.arrivals)]
        return [event for event in parsed if kind is None or event["kind"] == kind]

    def wait_for(self, kind: str, matches: Callable[[Any], bool] = lambda _: True, *, timeout_s: float = WAIT_S) -> Any:
        """Return the first event of ``kind`` whose ``data`` satisfies ``matches``, once it has come."""

        def found() -> Any:
            return next((event for event in self.events(kind) if matches(event["data"])), None)

        try:
            return until(found, "", timeout_s=timeout_s)
        except AssertionError:
            came = [event["kind"] for event in self.events()]
            raise AssertionError(f"no event {kind} within {timeout_s:.0f} s; came: {came}") from None

    def close(self) -> None:
        """Stop listening; doing it twice is harmless."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class World:
    """The chain, the server and everybody in it. Made by ``World.open``."""

    def __init__(self, chain: LocalChain, token: str, deployment: Deployment, made: Any) -> None:
        """Take over what ``open`` made."""
        self.chain = chain
        self.token = token  #: address of the test dollar, in lower case
        self.deployment = deployment
        self.made = made  #: what ``outlay init --json`` printed
        self.org_id: str = made["orgId"]
        self._closing = contextlib.ExitStack()
        admin = made["admin"]
        self.admin = self.identity(
            user_id=admin["userId"],
            username="admin",
            credential_id=admin["credentialId"],
            private_key=Path(admin["privateKeyFile"]).read_text(),
            token=admin["token"],
        )

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        folder: Path,
        *,
        preset: str = "standard",
        block_time_s: float | None = None,
        extra: str = "",
        edit: Callable[[str], str] = lambda text: text,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator["World"]:
        """Start a chain and a server, and end both when the block ends.

        Args:
            folder: an empty directory; the deployment is made in ``folder/outlay``.
            preset: the policies that init writes.
            block_time_s: seconds between blocks; None mines a block for each transaction at once.
            extra: lines appended to the configuration.
            edit: changes the whole text of the configuration before init.
            environment: added to the server's environment, as in ``start``.
        """
        with contextlib.ExitStack() as closing:
            with mock.patch.dict(os.environ, {"OUTLAY_ANVIL": str(tools.anvil_binary())}):
                chain = LocalChain(folder, block_time_s=block_time_s)
            closing.callback(chain.close)
            token = chain.deploy(tools.read_contracts()["TestDollar"]["bytecode"])
            port = free_port()
            text = edit(configuration(port=port, rpc_url=chain.url, token=token, extra=extra + postgres.settings()))
            deployment, made = Deployment.initialize(folder / "outlay", text, port, preset=preset)
            closing.callback(postgres.drop, place_of(deployment.directory))
            closing.callback(deployment.stop)
            deployment.start(environment)
            world = cls(chain, token, deployment, made)
            closing.callback(world._closing.close)
            yield world

    # The server

    @property
    def url(self) -> str:
        """Return the base URL of the API."""
        return self.deployment.url

    @property
    def log(self) -> str:
        """Return what the server printed, over all its starts."""
        return self.deployment.log.read_text(errors="replace")

    def start(self, environment: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start the server again, with ``environment`` added to ours; without ``wait`` it may still be starting."""
        self.deployment.start(environment, wait=wait)

    def kill(self) -> None:
        """End the server as a power cut would."""
        self.deployment.kill()

    def restart(self, environment: Mapping[str, str] | None = None) -> None:
        """End the server politely and start it again."""
        self.deployment.stop()
        self.start(environment)

    def wait_for_death(self, *, timeout_s: float = WAIT_S) -> int:
        """Wait until the server has ended by itself, as at a crash point, and return its exit code."""
        process = self.deployment.process
        assert process is not None, "the server was not started"
        code = process.wait(timeout_s)
        self.deployment.process = None
        return code

    # People and machines

    def client(
        self, token: str = ANONYMOUS, *, credential_id: str | None = None, private_key: str | None = None
    ) -> Any:
        """Return an SDK client; without a key it can read and make the calls that nobody signs."""
        signer = None
        if credential_id is not None and private_key is not None:
            signer = KeySigner(credential_id=credential_id, private_key=private_key, app_origin=self.url)
        return self._closing.enter_context(
            DfnsClient(DfnsClientConfig(auth_token=token, base_url=self.url, signer=signer))
        )

    def identity(self, *, user_id: str, username: str, credential_id: str, private_key: str, token: str) -> Identity:
        """Return an identity with a client of its own."""
        sdk = self.client(token, credential_id=credential_id, private_key=private_key)
        return Identity(
            user_id=user_id,
            username=username,
            credential_id=credential_id,
            private_key=private_key,
            token=token,
            sdk=sdk,
        )

    def permission(self, name: str, operations: Sequence[str]) -> str:
        """Create a permission and return its id."""
        made = self.admin.sdk.permissions.create_permission({"name": name, "operations": list(operations)})
        return str(made["id"])

    def service_account(
        self, name: str, operations: Sequence[str] | None = PAYER, *, key_kind: KeyKind = "Ed25519"
    ) -> Identity:
        """Create a service account with a permission of its own; None leaves it without any."""
        private, public = new_key(key_kind)
        body = {"name": name, "publicKey": public}
        if operations is not None:
            body["permissionId"] = self.permission(f"{name} permission", operations)
        made = self.admin.sdk.auth.create_service_account(body)
        token = made["accessTokens"][0]
        return self.identity(
            user_id=made["userInfo"]["userId"],
            username=name,
            credential_id=token["credId"],
            private_key=private,
            token=token["accessToken"],
        )

    def invite(self, email: str, *, public_key: str | None = None) -> Invitation:
        """Invite a person, as the admin; with a public key only that key can take the invitation up."""
        body = {"email": email, "kind": "CustomerEmployee"}
        if public_key is not None:
            body["publicKey"] = public_key
        made = self.admin.sdk.auth.create_user(body)
        return Invitation(user_id=made["userId"], email=email, code=made["registrationCode"])

    def register(self, invitation: Invitation, private_key: str) -> Identity:
        """Take up an invitation with a key, then log in."""
        begun = self.client().auth.create_registration_challenge(
            {"orgId": self.org_id, "username": invitation.email, "registrationCode": invitation.code}
        )
        info = key_attestation(private_key, begun["challenge"])
        self.client(begun["temporaryAuthenticationToken"]).auth.register(
            {"firstFactorCredential": {"credentialKind": "Key", "credentialInfo": info, "credentialName": "key"}}
        )
        return self.log_in(
            Identity(
                user_id=invitation.user_id,
                username=invitation.email,
                credential_id=info["credId"],
                private_key=private_key,
                token="",
                sdk=None,
            )
        )

    def log_in(self, who: Identity) -> Identity:
        """Log in with the identity's key and return it with a new token and client."""
        anonymous = self.client()
        begun = anonymous.auth.create_login_challenge({"username": who.username, "orgId": self.org_id})
        signer = KeySigner(credential_id=who.credential_id, private_key=who.private_key, app_origin=self.url)
        answer = anonymous.auth.login(
            {"challengeIdentifier": begun["challengeIdentifier"], "firstFactor": signer.sign(begun)}
        )
        token = str(answer["token"])
        sdk = self.client(token, credential_id=who.credential_id, private_key=who.private_key)
        return replace(who, token=token, sdk=sdk)

    def person(
        self,
        email: str,
        operations: Sequence[str] = VOTER,
        *,
        vouched: str | None = "invitation",
        key_kind: KeyKind = "Ed25519",
    ) -> Identity:
        """Invite, register and log in a person who holds a permission of their own.

        Args:
            email: also the name to log in with.
            operations: what the person is permitted; none for nothing.
            vouched: who answers for the key, so that votes count: ``invitation`` (it named the key), ``admin``
                (by activating the user afterwards), or None (nobody yet).
        """
        private, public = new_key(key_kind)
        invitation = self.invite(email, public_key=public if vouched == "invitation" else None)
        who = self.register(invitation, private)
        if operations:
            permission = self.permission(f"{email} permission", operations)
            self.admin.sdk.permissions.assign_permission(permission, {"identityId": who.user_id})
        if vouched == "admin":
            self.admin.sdk.auth.activate_user(who.user_id)
        return who

    # Wallets, policies, transfers

    def wallet(
        self,
        name: str,
        *,
        tags: Sequence[str] = ("payouts",),
        coins: int = 10 * ETH,
        dollars: int = 50_000 * USDC,
    ) -> Any:
        """Create a wallet, pay in wei and base units of the test dollar, and wait until both can be spent."""
        body: dict[str, Any] = {"network": NETWORK, "name": name}
        if tags:
            body["tags"] = list(tags)
        made = self.admin.sdk.wallets.create_wallet(body)
        self.fund(made, coins=coins, dollars=dollars)
        return made

    def fund(self, wallet: Any, *, coins: int = 0, dollars: int = 0) -> None:
        """Pay into a wallet and wait until the ledger has it all."""
        wanted = {
            "native": self.spendable(wallet["id"], "native") + coins,
            self.token: self.spendable(wallet["id"], self.token) + dollars,
        }
        if coins:
            self.chain.fund(wallet["address"], coins)
        if dollars:
            self.chain.mint(self.token, wallet["address"], dollars)
        until(
            lambda: all(self.spendable(wallet["id"], asset) >= amount for asset, amount in wanted.items()),
            f"{wanted} in {wallet['id']}",
        )

    def spendable(self, wallet_id: str, asset: str) -> int:
        """Return what the ledger lets a wallet spend of an asset (``native`` or a token's address), in base units."""
        found = self.rows(
            "SELECT debits, credits FROM account WHERE owner = ? AND asset = ? AND kind = 'spendable'", wallet_id, asset
        )
        return sum(int(row["debits"]) - int(row["credits"]) for row in found)

    def fill_groups(self, people: Sequence[HasId]) -> list[Any]:
        """Name ``people`` in every group of every active policy, by PUT, and return the policies as answered."""
        filled = []
        for policy in self.admin.sdk.policies.list_policies({"status": "Active"})["items"]:
            if policy["action"]["kind"] != "RequestApproval":
                continue
            body = {name: policy[name] for name in ("name", "activityKind", "rule", "action", "filters")}
            for group in body["action"]["approvalGroups"]:
                group["approvers"] = {"userId": {"in": [who.user_id for who in people]}}
            filled.append(self.admin.sdk.policies.update_policy(policy["id"], body))
        return filled

    def watch(self, tag: str, approvers: Any, **group: Any) -> Any:
        """Create a policy under which every payout of the wallets with ``tag`` waits, and return it.

        Args:
            tag: a tag that no other policy watches, so that tests leave each other alone.
            approvers: as in the contract: ``{"userId": {"in": [...]}}``, or ``{}`` for any person.
            group: further members of its one group.
        """
        asked = {"name": "asked", "quorum": 1, "approvers": approvers, **group}
        return self.admin.sdk.policies.create_policy(
            {
                "name": f"Everything of {tag}",
                "activityKind": "Wallets:Sign",
                "rule": {"kind": "AlwaysTrigger"},
                "action": {"kind": "RequestApproval", "autoRejectTimeout": 60, "approvalGroups": [asked]},
                "filters": {"walletTags": {"hasAny": [tag]}},
            }
        )

    def pay(
        self, payer: Identity, wallet: Any, to: str, amount: int, external_id: str, *, contract: str | None = None
    ) -> Any:
        """Request a transfer of coins, or of the token at ``contract``, and return the answer."""
        asset = {"kind": "Native"} if contract is None else {"kind": "Erc20", "contract": contract}
        body = {**asset, "to": to, "amount": str(amount), "externalId": external_id}
        return payer.sdk.wallets.transfer_asset(wallet["id"], body)

    def wait_for(self, transfer: Any, *statuses: str, timeout_s: float = WAIT_S) -> Any:
        """Return the transfer once its status is one of ``statuses``.

        Raises:
            AssertionError: it is not within ``timeout_s``; the message shows the transfer.
        """
        seen: list[Any] = [transfer]

        def reached() -> Any:
            seen[0] = self.admin.sdk.wallets.get_transfer(transfer["walletId"], transfer["id"])
            return seen[0] if seen[0]["status"] in statuses else None

        try:
            return until(reached, "", timeout_s=timeout_s)
        except AssertionError:
            raise AssertionError(f"not {' or '.join(statuses)} within {timeout_s:.0f} s: {seen[0]}") from None

    def is_sent(self, attempt_id: str) -> bool:
        """Tell whether an attempt, by the id its transaction has on the wire, was sent."""
        found = self.rows("SELECT first_sent_at FROM attempt WHERE id = ?", attempt_id)
        return bool(found and found[0]["first_sent_at"])

    @contextlib.contextmanager
    def no_blocks(self) -> Iterator[None]:
        """Keep the chain from mining anything until the block ends."""
        self.chain.rpc("evm_setAutomine", False)
        try:
            yield
        finally:
            self.chain.rpc("evm_setAutomine", True)
            self.chain.rpc("evm_mine")

    # Looking on

    def rows(self, sql: str, *parameters: Any) -> list[postgres.Found]:
        """Return what a query finds in the server's database, opened so that nothing can be changed."""
        return postgres.look(place_of(self.deployment.directory), sql, *parameters)

    @contextlib.contextmanager
    def receiver(self, *kinds: str) -> Iterator[tuple[Receiver, Any]]:
        """Open an endpoint and subscribe it to ``kinds`` (all if none are given); unsubscribe it at the end.

        Yields:
            The receiver and the answer of the create call, which alone carries the secret.
        """
        receiver = Receiver()
        try:
            webhook = self.admin.sdk.webhooks.create_webhook({"url": receiver.url, "events": list(kinds) or ["*"]})
            yield receiver, webhook
            if self.deployment.process is not None:
                self.admin.sdk.webhooks.delete_webhook(webhook["id"])
        finally:
            receiver.close()
