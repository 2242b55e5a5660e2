"""``outlay demo``: the whole path on a local chain, driven by the official Dfns Python SDK, checked at the end."""

import contextlib
import hashlib
import hmac
import json
import os
import queue
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from outlay.cli.output import facts
from outlay.cli.playground import ETH, NETWORK, USDC, Deployment, LocalChain, configuration, free_port, read_contract
from outlay.cli.profile import Profile, write_private, write_profile
from outlay.client import register
from outlay.core.address import checksum
from outlay.core.errors import OutlayError, Unavailable
from outlay.core.money import format_units
from outlay.evidence.attestation import new_key_pair

WAIT_S = 60.0
END = ("Confirmed", "Failed", "Rejected")
TOLD = {"Confirmed": "confirmed", "Failed": "failed", "Rejected": "rejected"}


@dataclass(slots=True)
class Payout:
    """One line of the story and of the final table."""

    name: str
    to: str
    amount: int  #: base units
    token: bool  #: dollars, or the chain's coin
    expected: str  #: status it must end in
    verdict: str = ""
    decided_by: str = ""
    transfer: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The amount for people."""
        return f"{format_units(self.amount, 6)} USDC" if self.token else f"{format_units(self.amount, 18)} ETH"


class Receiver:
    """The customer's side: a real HTTP receiver that verifies every event it is sent."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.events: list[dict[str, Any]] = []
        self.bad = 0
        self.secret = ""
        self.news: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        receiver = self

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._take(body, self.headers.get("x-dfns-webhook-signature", ""))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the demo prints events itself."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _take(self, body: bytes, signature: str) -> None:
        wanted = "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, signature):
            self.bad += 1
            return
        event = json.loads(body)
        self.events.append(event)
        self.news.put(event)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class Demo:
    """The story. Each method is one scene."""

    def __init__(self, console: Console, folder: Path, port: int) -> None:
        """Start the chain and the receiver."""
        self.console, self.folder, self.port = console, folder, port or free_port()
        self.chain = LocalChain(folder)
        self.receiver = Receiver()
        self.deployment: Deployment | None = None
        self.payouts: list[Payout] = []
        self.names: dict[str, str] = {}

    def close(self) -> None:
        """End everything that was started."""
        if self.deployment is not None:
            self.deployment.stop()
        self.chain.close()
        self.receiver.close()

    def say(self, text: str) -> None:
        """Print one step."""
        self.console.print(f"[bold cyan]>[/bold cyan] {text}", highlight=False)

    def tell_events(self) -> None:
        """Print the events that arrived since the last look."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self.receiver.news.get_nowait()
                self.console.print(
                    f"    [dim]event[/dim]  [green]{event['kind']}[/green]  [dim]{self._about(event)}[/dim]",
                    highlight=False,
                )

    def _about(self, event: dict[str, Any]) -> str:
        data = event["data"]
        if "approval" in data:
            request = data["approval"]["activity"]["transferRequest"]
            return f"{self._name(request)}: {data['approval']['status']}"
        if "policyEvaluation" in data:
            request = data["policyEvaluation"]["activity"]["transferRequest"]
            return f"{self._name(request)}: {data['policyEvaluation']['policy']['name']}"
        if "transferRequest" in data:
            return f"{self._name(data['transferRequest'])}: {data['transferRequest']['status']}"
        if "blockchainEvent" in data:
            seen = data["blockchainEvent"]
            asset = seen["metadata"]["asset"]
            return f"{format_units(int(seen['value']), asset['decimals'])} {asset['symbol']} arrived"
        return str(data.get("wallet", {}).get("name", ""))

    def _name(self, request: dict[str, Any]) -> str:
        return str(request.get("externalId", request["id"]))

    # Scenes

    def found(self) -> None:
        """Deploy the test dollar, create the organization, serve it."""
        self.token = self.chain.deploy(read_contract("TestDollar"))
        self.say(f"A local chain runs at {self.chain.url}; a test dollar is deployed on it.")
        text = configuration(port=self.port, rpc_url=self.chain.url, token=self.token)
        self.deployment, made = Deployment.initialize(self.folder / "deployment", text, self.port, preset="standard")
        self.deployment.start()
        self.say(f"[bold]outlay init[/bold] and [bold]outlay serve[/bold]: the API answers at {self.deployment.url}")
        self.console.print(f"    root fingerprint {made['rootFingerprint']}", style="dim", highlight=False)
        key = Path(made["admin"]["privateKeyFile"]).read_text()
        self.made = made
        self.admin_token = made["admin"]["token"]
        self.admin = self._sdk(self.admin_token, made["admin"]["credentialId"], key)

    def _sdk(self, token: str, credential: str, key: str) -> Any:
        from dfns_sdk import DfnsClient, DfnsClientConfig, KeySigner

        assert self.deployment is not None
        signer = KeySigner(credential_id=credential, private_key=key, app_origin=self.deployment.url)
        return DfnsClient(DfnsClientConfig(auth_token=token, base_url=self.deployment.url, signer=signer))

    def people(self) -> None:
        """A service account that may only ask for payouts, and two people who may only decide."""
        asks = self.admin.permissions.create_permission(
            {
                "name": "Asks for payouts",
                "operations": ["Wallets:Read", "Wallets:Transfers:Create", "Wallets:Transfers:Read"],
            }
        )
        votes = self.admin.permissions.create_permission(
            {"name": "Decides on payouts", "operations": ["Policies:Evaluations:Read", "Policies:Evaluations:Vote"]}
        )
        private, public = new_key_pair()
        made = self.admin.auth.create_service_account(
            {"name": "payouts-bot", "publicKey": public, "permissionId": asks["id"]}
        )
        token = made["accessTokens"][0]
        self.bot_keys = {"token": token["accessToken"], "credentialId": token["credId"], "privateKey": private}
        self.bot = self._sdk(token["accessToken"], token["credId"], private)
        self.say("A service account [bold]payouts-bot[/bold] with an Ed25519 key may ask for payouts, nothing else.")
        self.approvers = [self._join(f"{role}@demo.example", votes["id"]) for role in ("treasury", "controller")]
        self.say("Two people were invited, registered their own keys and may decide: treasury and controller.")

    def _join(self, email: str, permission_id: str) -> tuple[str, Any]:
        from outlay.client import log_in

        assert self.deployment is not None
        private, public = new_key_pair()
        user = self.admin.auth.create_user({"email": email, "kind": "CustomerEmployee", "publicKey": public})
        joined = register(self.deployment.url, username=email, code=user["registrationCode"], private_key=private)
        self.admin.permissions.assign_permission(permission_id, {"identityId": user["userId"]})
        token = log_in(self.deployment.url, username=email, credential_id=joined["credentialId"], private_key=private)
        self.names[user["userId"]] = email.split("@")[0]
        return user["userId"], self._sdk(token, joined["credentialId"], private)

    def policies(self) -> None:
        """Read the preset back and fill in who may approve and who is known."""
        self.known = ["0x" + secrets.token_hex(20) for _ in range(2)]
        voters = {"userId": {"in": [user_id for user_id, _ in self.approvers]}}
        for policy in self.admin.policies.list_policies({})["items"]:
            rule, action = policy["rule"], policy["action"]
            if rule["kind"] == "TransactionRecipientWhitelist":
                rule["configuration"]["addresses"] = [checksum(address) for address in self.known]
            for group in action.get("approvalGroups", []):
                group["approvers"] = voters
            body = {name: policy[name] for name in ("name", "activityKind", "rule", "action", "filters")}
            if action["kind"] == "RequestApproval":
                self.admin.policies.update_policy(policy["id"], body)
            self.console.print(f"    policy [bold]{policy['name']}[/bold] → {action['kind']}", highlight=False)
        self.say("The preset's policies now name the two approvers and two known recipients.")

    def wallet(self) -> None:
        """A webhook, and a funded hot wallet that the policies cover."""
        hook = self.admin.webhooks.create_webhook({"url": self.receiver.url, "events": ["*"]})
        self.receiver.secret = hook["secret"]
        self.hot = self.admin.wallets.create_wallet({"network": NETWORK, "name": "hot-1", "tags": ["payouts"]})
        self.chain.fund(self.hot["address"], 5 * ETH)
        self.chain.mint(self.token, self.hot["address"], 200_000 * USDC)
        self.say(f"Hot wallet [bold]hot-1[/bold] {checksum(self.hot['address'])} is tagged payouts and funded.")
        self._until(lambda: sum(e["kind"] == "wallet.blockchainevent.detected" for e in self.receiver.events) >= 2)
        self.tell_events()

    def pay(self) -> None:
        """Small ones flow, a large one waits and is approved, an unknown recipient is denied, the cap blocks."""
        first, second = self.known
        self._ask(Payout("payroll-001", first, 120 * USDC, True, "Confirmed"), "a small payout")
        self._ask(Payout("payroll-002", second, ETH // 100, False, "Confirmed"), "a small payout in the chain's coin")
        self._settle()
        self._ask(Payout("supplier-77", first, 15_000 * USDC, True, "Confirmed"), "a large payout")
        self._decide(self.approvers[0], "supplier-77", "Approved", "invoice 77 checked")
        self._settle()
        self._ask(Payout("refund-9", "0x" + secrets.token_hex(20), 50 * USDC, True, "Rejected"), "an unknown recipient")
        self._decide(self.approvers[1], "refund-9", "Denied", "nobody knows this address")
        self._settle()
        self._ask(Payout("sweep-1", first, 90_000 * USDC, True, "Rejected"), "a payout beyond the daily cap")
        self._settle()
        again = self.bot.wallets.transfer_asset(self.hot["id"], self._body(self.payouts[0]))
        if again["id"] != self.payouts[0].transfer["id"]:
            raise Unavailable("a retry made a second transfer")
        self.say(
            "payroll-001 was posted again with the same externalId: the same transfer answers, nobody is paid twice."
        )

    def _body(self, payout: Payout) -> dict[str, Any]:
        kind = {"kind": "Erc20", "contract": self.token} if payout.token else {"kind": "Native"}
        return {**kind, "to": payout.to, "amount": str(payout.amount), "externalId": payout.name}

    def _ask(self, payout: Payout, what: str) -> None:
        payout.transfer = self.bot.wallets.transfer_asset(self.hot["id"], self._body(payout))
        self.payouts.append(payout)
        status = payout.transfer["status"]
        payout.verdict = {"Pending": "held", "Rejected": "blocked"}.get(status, "allowed")
        payout.decided_by = {"held": "", "blocked": "policy"}.get(payout.verdict, "no policy triggered")
        self.say(f"{what}: [bold]{payout.name}[/bold], {payout.text} → [bold]{payout.verdict}[/bold]")
        if payout.transfer.get("reason"):
            self.console.print(f"    {payout.transfer['reason']}", style="yellow", highlight=False)

    def _decide(self, who: tuple[str, Any], name: str, value: str, reason: str) -> None:
        user_id, client = who
        pending = client.policies.list_approvals({"status": "Pending"})["items"]
        approval = next(a for a in pending if a["activity"]["transferRequest"].get("externalId") == name)
        for evaluation in approval["policyEvaluations"]:
            if evaluation["triggered"]:
                self.console.print(f"    {evaluation['reason']}", style="yellow", highlight=False)
        client.policies.create_approval_decision(approval["id"], {"value": value, "reason": reason})
        payout = next(p for p in self.payouts if p.name == name)
        payout.decided_by = f"{self.names[user_id]} {value.lower()}"
        self.say(f"{self.names[user_id]} {value.lower()} {name}: “{reason}”")

    def _settle(self) -> None:
        """Wait until every payout so far has ended and its last event arrived; print events meanwhile."""

        def done() -> bool:
            self.tell_events()
            for payout in self.payouts:
                if payout.transfer["status"] not in END:
                    payout.transfer = self.bot.wallets.get_transfer(self.hot["id"], payout.transfer["id"])
            return all(p.transfer["status"] in END and self._was_told(p) for p in self.payouts)

        self._until(done)
        self.tell_events()

    def _was_told(self, payout: Payout) -> bool:
        kind = f"wallet.transfer.{TOLD[payout.transfer['status']]}"
        return any(
            event["kind"] == kind and event["data"]["transferRequest"]["id"] == payout.transfer["id"]
            for event in list(self.receiver.events)
        )

    def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            if time.monotonic() > deadline:
                raise Unavailable(f"it did not happen within {WAIT_S:.0f} s; see {self.folder}")
            time.sleep(0.05)

    # The end

    def profile(self) -> dict[str, Any]:
        """Return what a program needs to pay through this server, keys included: they are worth nothing elsewhere."""
        assert self.deployment is not None
        return {
            "url": self.deployment.url,
            "admin": self.made["admin"],
            "serviceAccount": self.bot_keys,
            "walletId": self.hot["id"],
            "recipient": checksum(self.known[1]),
            "token": self.token,
            "chain": self.chain.url,
        }

    def _decided_by(self, payout: Payout) -> str:
        """Say who decided: nobody, a person, or the policy that blocked."""
        if payout.verdict != "blocked":
            return payout.decided_by
        for event in self.receiver.events:
            evaluation = event["data"].get("policyEvaluation")
            if evaluation is None or evaluation["activity"]["transferRequest"]["id"] != payout.transfer["id"]:
                continue
            if evaluation["policy"]["action"]["kind"] == "Block":
                return f"policy: {evaluation['policy']['name']}"
        return "policy"

    def table(self) -> Table:
        """Return the table of what became of each payout."""
        table = Table(title="What became of each payout", title_justify="left")
        for name in ("payout", "amount", "verdict", "who decided", "status"):
            table.add_column(name, justify="right" if name == "amount" else "left", overflow="fold")
        for payout in self.payouts:
            colour = {"Confirmed": "green", "Rejected": "yellow"}.get(payout.transfer["status"], "red")
            table.add_row(
                payout.name,
                payout.text,
                payout.verdict,
                self._decided_by(payout),
                f"[{colour}]{payout.transfer['status']}[/{colour}]",
            )
        return table

    def transactions(self) -> str:
        """Return the transaction of each payout, whole, and that the others have none."""
        return facts((each.name, each.transfer.get("txHash", "none: nothing was sent")) for each in self.payouts)

    def problems(self) -> Iterator[str]:
        """Compare chain, ledger and events; yield what does not agree."""
        paid: dict[tuple[str, bool], int] = {}
        for payout in self.payouts:
            if payout.transfer["status"] != payout.expected:
                yield f"{payout.name} is {payout.transfer['status']}, expected {payout.expected}"
            if payout.transfer["status"] == "Confirmed":
                paid[payout.to, payout.token] = paid.get((payout.to, payout.token), 0) + payout.amount
        for payout in self.payouts:
            shown = self.chain.token_balance(self.token, payout.to) if payout.token else self.chain.balance(payout.to)
            if shown != paid.get((payout.to, payout.token), 0):
                yield f"the chain shows {shown} for {payout.to}"
        yield from self._ledger_problems()
        if self.receiver.bad:
            yield f"{self.receiver.bad} events had a wrong signature"
        for payout in self.payouts:
            if not self._was_told(payout):
                yield f"no event told the end of {payout.name}"

    def _ledger_problems(self) -> Iterator[str]:
        held: dict[str, int] = {}
        for account in self._ledger():
            if account["owner"] == self.hot["id"]:
                amount = int(account["debits"]) - int(account["credits"])
                held[account["asset"]] = held.get(account["asset"], 0) + amount
        address = self.hot["address"]
        chain = {"native": self.chain.balance(address), self.token: self.chain.token_balance(self.token, address)}
        for asset, shown in chain.items():
            if held.get(asset, 0) != shown:
                yield f"the ledger holds {held.get(asset, 0)} of {asset}, the chain shows {shown}"

    def _ledger(self) -> list[dict[str, Any]]:
        from outlay.client import call

        assert self.deployment is not None
        answer = call(self.deployment.url, "GET", "/v1/ledger", token=self.admin_token)
        accounts: list[dict[str, Any]] = answer["accounts"]
        return accounts


def run(*, keep: bool, port: int, svg: Path | None, profile: Path | None) -> int:
    """Tell the story; return 0 only if chain, ledger and events agree at the end."""
    # Ended by whatever means, the demo takes its servers, chain and keys with it.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    console = Console(record=svg is not None, width=120 if svg is not None else None)
    with tempfile.TemporaryDirectory(prefix="outlay-demo-") as folder:
        demo = None
        try:
            demo = Demo(console, Path(folder), port)
            code = _tell(demo, console)
            if svg is not None:
                # Without the fonts that the picture would fetch from elsewhere when it is looked at.
                picture = console.export_svg(title="outlay demo", clear=False)
                svg.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))
            if keep and code == 0:
                _serve_on(demo, console, profile or Path(folder) / "profile.json")
        except OutlayError as error:
            console.print(f"[red]the demo stopped:[/red] {error.message}", highlight=False)
            code = 1
        except KeyboardInterrupt:
            code = 130
        finally:
            if demo is not None:
                demo.close()
    return code


def _tell(demo: Demo, console: Console) -> int:
    for scene in (demo.found, demo.people, demo.policies, demo.wallet, demo.pay):
        scene()
    console.print()
    console.print(demo.table())
    console.print(demo.transactions(), highlight=False, soft_wrap=True)
    problems = list(demo.problems())
    for problem in problems:
        console.print(f"[red]✗[/red] {problem}", highlight=False)
    if not problems:
        count = len(demo.receiver.events)
        console.print(f"[green]✓[/green] Chain balances, ledger and {count} verified events agree.", highlight=False)
    return 1 if problems else 0


def _serve_on(demo: Demo, console: Console, profile: Path) -> None:
    assert demo.deployment is not None
    root = demo.deployment.directory
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.unlink(missing_ok=True)
    with os.fdopen(os.open(profile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(demo.profile(), file, indent=2)
    admin = profile.with_name("admin.toml").absolute()
    write_private(admin.with_suffix(".token"), demo.admin_token)
    write_profile(
        admin,
        Profile(
            url=demo.deployment.url,
            token_file=admin.with_suffix(".token"),
            username="admin@localhost",
            credential=demo.made["admin"]["credentialId"],
            key_file=root / "secrets/admin-key.pem",
        ),
    )
    console.print(
        f"\nServing at {demo.deployment.url} until Ctrl-C. In another terminal:\n"
        f"  the dashboard   .venv/bin/outlay passkeys add --profile {profile.with_name('admin.toml')}\n"
        f"                  then sign in as admin@localhost at http://localhost:{demo.deployment.port}/dashboard\n"
        f"  to look around  .venv/bin/outlay payouts list --profile {profile.with_name('admin.toml')}\n"
        f"  to pay yourself .venv/bin/python examples/first_payout.py {profile}\n"
        f"  configuration   {root}/outlay.toml\n  admin's key     {root}/secrets/admin-key.pem\n"
        f"  chain           {demo.chain.url}\n  API             {demo.deployment.url}/openapi.json",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with contextlib.suppress(KeyboardInterrupt):
        while demo.deployment.process is not None and demo.deployment.process.poll() is None:
            time.sleep(0.5)
