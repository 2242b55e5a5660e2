"""A deployment to be hurt: prepared once, then copied, each copy with a chain and a port of its own.

What a copy has to show in the end is the same whatever happened to it: every payout that was asked for is on the
chain exactly once, the ledger equals the chain, and every event there was has arrived.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlay.cli.playground import Deployment, LocalChain, configuration, free_port
from outlay.client import ApiError, Client
from outlay.core.errors import OutcomeUnknown
from outlay.layout import Layout, read_passphrase
from outlay.signer.journal import Journal
from outlay.signer.keystore import KdfParams, Keystore
from outlay.system import SystemEntropy
from tests import postgres, tools
from tests.fault.warm import WarmDeployment
from tests.world import ETH, NETWORK, USDC, Identity, Receiver, World, place_of, until

PATIENCE_S = 120.0
"""How long a client keeps asking for one payout, and how long everything may take to come to rest: on a busy machine
a server may need 20 s to start."""

BLOCK_S = 0.1
IN_FLIGHT = 2
"""Transactions a wallet may have at once: so few that six payouts pass every point of sending three times."""


@dataclass(frozen=True, kw_only=True)
class Payout:
    """What a client wants to happen exactly once."""

    external_id: str
    to: str  #: nobody else is ever paid there
    amount: int
    contract: str | None  #: None: the native coin


def make_payouts(run: str, count: int, token: str) -> list[Payout]:
    """Return ``count`` payouts, coins and test dollars in turn, each of another amount to a recipient of its own."""
    return [
        Payout(
            external_id=f"{run}-{number}",
            to="0x" + os.urandom(20).hex(),
            amount=10**15 + number if number % 2 == 0 else 5 * USDC + number,
            contract=None if number % 2 == 0 else token,
        )
        for number in range(count)
    ]


class Stand:
    """One copy and what was asked of it."""

    def __init__(self, world: World, payer: Identity, wallet: Any, receiver: Receiver) -> None:
        """Take over a deployment that is not running yet."""
        self.world, self.wallet, self.receiver = world, wallet, receiver
        self.client = Client(
            world.url, token=payer.token, credential_id=payer.credential_id, private_key=payer.private_key
        )
        self._payouts: list[Payout] = []
        self._posters = ThreadPoolExecutor(1)

    def fund(self) -> None:
        """Put more on the wallet than all payouts need. The server has to notice by itself."""
        self.world.chain.fund(self.wallet["address"], 10 * ETH)
        self.world.chain.mint(self.world.token, self.wallet["address"], 1_000 * USDC)

    def post(self, payouts: Sequence[Payout]) -> "Future[list[Any]]":
        """Ask for payouts one after the other, in a thread; each is asked for until there is an answer."""
        self._payouts += payouts
        return self._posters.submit(lambda: [self._post(payout) for payout in payouts])

    def expect(self, payouts: Sequence[Payout]) -> None:
        """Have payouts be paid that are asked for in another way."""
        self._payouts += payouts

    def post_again(self) -> "Future[list[Any]]":
        """Ask for everything again, as a client does whose answers may be of a database that is gone."""
        return self._posters.submit(lambda: [self._post(payout) for payout in self._payouts])

    def _post(self, payout: Payout) -> Any:
        kind = {"kind": "Native"} if payout.contract is None else {"kind": "Erc20", "contract": payout.contract}
        body = {**kind, "to": payout.to, "amount": str(payout.amount), "externalId": payout.external_id}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                # Signed anew each time: only the externalId says that it is the same payout.
                return self.client.write("POST", f"/wallets/{self.wallet['id']}/transfers", body)
            except (OutcomeUnknown, ApiError) as error:
                if isinstance(error, ApiError) and error.status != 503:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def transfers(self) -> list[Any]:
        """Return every transfer of the wallet as the API shows it."""
        page = self.client.read(f"/wallets/{self.wallet['id']}/transfers?limit=100")
        assert "nextPageToken" not in page
        items: list[Any] = page["items"]
        return items

    def close(self) -> None:
        """Wait for whoever still posts."""
        self._posters.shutdown()

    # What must be true in the end

    def come_to_rest(self) -> None:
        """Wait until every payout has ended and every event has arrived.

        Raises:
            AssertionError: it takes too long; the message shows what is missing.
        """
        ends = ("Confirmed", "Failed", "Rejected")
        with contextlib.suppress(AssertionError):  # the checks below say more
            until(lambda: all(t["status"] in ends for t in self.transfers()), "", timeout_s=PATIENCE_S)
        open_ones = [t for t in self.transfers() if t["status"] not in ends]
        assert not open_ones, f"these payouts did not end: {open_ones}"
        with contextlib.suppress(AssertionError):
            until(lambda: not self._missing_events(), "", timeout_s=PATIENCE_S)
        missing = self._missing_events()
        assert not missing, f"these events never arrived: {missing}"

    def _missing_events(self) -> set[tuple[str, str]]:
        arrived = {arrival.headers["webhook-id"] for arrival in list(self.receiver.arrivals)}
        rows = self.world.rows("SELECT id, kind FROM event")
        return {(row["id"], row["kind"]) for row in rows if row["id"] not in arrived}

    def check(self) -> None:
        """Compare chain, API, ledger and events with what was asked for."""
        shown = {transfer["externalId"]: transfer for transfer in self.transfers()}
        assert shown.keys() == {payout.external_id for payout in self._payouts}
        assert len(self.transfers()) == len(shown), "one payout became two transfers"
        chain = self.world.chain
        for payout in self._payouts:
            assert shown[payout.external_id]["status"] == "Confirmed", shown[payout.external_id]
            paid = (chain.balance(payout.to), chain.token_balance(self.world.token, payout.to))
            wanted = (payout.amount, 0) if payout.contract is None else (0, payout.amount)
            assert paid == wanted, f"{payout} got {paid}"
        used = int(chain.rpc("eth_getTransactionCount", self.wallet["address"], "latest"), 16)
        assert used == len(self._payouts), f"{used} transactions for {len(self._payouts)} payouts"
        self._check_ledger(shown.values())
        self._check_events(shown)

    def _check_ledger(self, shown: Any) -> None:
        # The call itself fails unless every account equals its postings and every asset sums to zero.
        accounts = {row["id"]: row for row in self.client.read("/v1/ledger")["accounts"]}

        def balance(owner: str, asset: str, kind: str) -> int:
            row = accounts[f"{owner}/{asset}/{kind}"]
            return int(row["debits"]) - int(row["credits"])

        chain, address, token = self.world.chain, self.wallet["address"], self.world.token
        for asset, held in (("native", chain.balance(address)), (token, chain.token_balance(token, address))):
            assert balance(self.wallet["id"], asset, "spendable") == held
            assert balance(self.wallet["id"], asset, "reserved") == 0
            paid = sum(p.amount for p in self._payouts if (p.contract or "native") == asset)
            assert balance(NETWORK, asset, "paid") == paid
        assert balance(NETWORK, "native", "fees") == sum(int(transfer["fee"]) for transfer in shown)

    def _check_events(self, shown: dict[str, Any]) -> None:
        """Each payout told its whole story; this does not believe the server's own list of events."""
        told: dict[str, set[str]] = {external_id: set() for external_id in shown}
        for event in self.receiver.events():
            transfer = event["data"].get("transferRequest", {})
            if transfer.get("externalId") in told:
                told[transfer["externalId"]].add(event["kind"])
        story = {f"wallet.transfer.{word}" for word in ("requested", "broadcasted", "confirmed")}
        assert all(story <= kinds for kinds in told.values()), told


class Original:
    """The deployment that copies are made of: one wallet, one payout service account, one webhook for everything."""

    def __init__(self, folder: Path) -> None:
        """Make it, with a chain that ends again: copies bring their own."""
        self.receiver = Receiver()
        chain = LocalChain(folder)
        self._rpc_url, self._port = chain.url, free_port()
        try:
            self.token = _deploy_dollar(chain)
            text = configuration(port=self._port, rpc_url=chain.url, token=self.token, block_time_s=BLOCK_S)
            text = text.replace("finality = { blocks = 1 }", "finality = { blocks = 2 }")
            text = text.replace("[sending]", f"[sending]\nin_flight_max = {IN_FLIGHT}") + postgres.settings()
            deployment, self.made = Deployment.initialize(folder / "original", text, self._port, preset="none")
            make_unlocking_cheap(deployment.directory, self.made["rootFingerprint"])
            self.directory = deployment.directory
            deployment.start()
            try:
                self._set_up(World(chain, self.token, deployment, self.made))
            finally:
                deployment.stop()
            forget_the_chain(deployment.directory)
        finally:
            chain.close()

    def _set_up(self, world: World) -> None:
        self.payer = world.service_account("payouts bot")
        # First of all: what happened before an endpoint was added is not told to it.
        world.admin.sdk.webhooks.create_webhook({"url": self.receiver.url, "events": ["*"]})
        self.wallet = world.admin.sdk.wallets.create_wallet({"network": NETWORK, "name": "hot"})
        until(lambda: world.rows("SELECT count(*) AS n FROM delivery WHERE state = 'pending'")[0]["n"] == 0, "a rest")

    @contextlib.contextmanager
    def copy(self, folder: Path) -> Iterator[Stand]:
        """Yield a copy in ``folder`` with a running chain and a server that is not running yet."""
        folder.mkdir()
        with contextlib.ExitStack() as closing:
            chain = LocalChain(folder, block_time_s=BLOCK_S)
            closing.callback(chain.close)
            assert _deploy_dollar(chain) == self.token, "the first contract of a chain has always the same address"
            port, directory = free_port(), folder / "copy"
            shutil.copytree(self.directory, directory)
            config = directory / "outlay.toml"
            text = config.read_text().replace(self._rpc_url, chain.url)
            text = text.replace(f":{self._port}", f":{port}").replace(f"port = {self._port}", f"port = {port}")
            config.write_text(text)
            mine = place_of(directory)
            if isinstance(mine, str):
                copied = postgres.copy(mine)
                closing.callback(postgres.drop, copied)
                config.write_text(text.replace(mine, copied))
            deployment = WarmDeployment(directory, port, folder / "server.log")
            closing.callback(deployment.stop)
            stand = Stand(World(chain, self.token, deployment, self.made), self.payer, self.wallet, self.receiver)
            closing.callback(stand.close)
            yield stand

    def close(self) -> None:
        """Stop receiving."""
        self.receiver.close()


def _deploy_dollar(chain: LocalChain) -> str:
    return chain.deploy(tools.read_contracts()["TestDollar"]["bytecode"])


def forget_the_chain(directory: Path) -> None:
    """Let a deployment take another chain for its own: it stops a network whose final blocks changed."""
    postgres.change(place_of(directory), "DELETE FROM network_state")


def make_unlocking_cheap(directory: Path, root: str) -> None:
    """Replace the fresh keys of a deployment by others that open in no time: it will be opened dozens of times."""
    layout = Layout(directory)
    layout.keystore.unlink()
    layout.journal.unlink()
    params = KdfParams(memory_kib=64, time=1)
    keystore = Keystore.create(layout.keystore, read_passphrase(layout.passphrase), SystemEntropy(), params=params)
    Journal.create(layout.journal, root=root, keystore_id=keystore.id).close()
