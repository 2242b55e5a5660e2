"""Known faults, played out step by step: the real engine, store and signer against a fake network that obeys the test.

Nothing runs by itself: time passes when a test says so (``wait``), blocks come when it mines, and the engine looks
when it is told to (``run``). ``close`` compares ledger, chain and what was asked for, whatever a test was about.
"""

import itertools
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from outlay.actions import replace, wallets
from outlay.chains import Finality
from outlay.chains.evm import EvmChain
from outlay.chains.fake import CALM, FakeTransport, Mood, Token
from outlay.chains.rpc import JsonRpc
from outlay.codec.evm import Eip1559
from outlay.core.asset import NATIVE
from outlay.core.seams import SECOND
from outlay.engine.balance import Balance
from outlay.engine.confirm import Confirm
from outlay.engine.delays import Delays
from outlay.engine.expire import Expire
from outlay.engine.recurring import Recurring
from outlay.engine.refill import Refill
from outlay.engine.route import Routing
from outlay.engine.send import Send
from outlay.engine.watch import Watch
from outlay.prices.checked import CheckedPrices
from outlay.signer.journal import Journal
from outlay.signer.keystore import KdfParams, Keystore
from outlay.signer.local import SignerCore
from outlay.store import lanes, ledger, stops, transfers
from outlay.store import wallets as wallet_rows
from outlay.store.database import Row, Unit
from tests import fakes, postgres
from tests.actions.world import NETWORK, USDC, Actor, World
from tests.sim.loop import VirtualLoop

T = TypeVar("T")

COIN, DOLLAR = 10**18, 10**6
FEE_CAP = 10**16
POLL_S = 4
SEND = "eth_sendRawTransaction"
RECEIPT = "eth_getTransactionReceipt"
_PAID_OR_NOT = ("confirmed", "failed", "canceled", "rejected", "expired")


def settings(nodes: int, finality: str, trust: str, more: str, in_flight: int = 16) -> str:
    """Return the configuration of a stage."""
    urls = ", ".join(f'"http://node-{number}.invalid"' for number in range(1, nodes + 1))
    return f"""
[networks.{NETWORK}]
chain_id = 31337
rpc_urls = [{urls}]
trust = "{trust}"
finality = {{ {finality} }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "{FEE_CAP}"
{more}

[[assets]]
network = "{NETWORK}"
contract = "{USDC}"
symbol = "USDC"
decimals = 6

[sending]
poll_s = {POLL_S}
in_flight_max = {in_flight}
unseen_max_s = 600
bump_after_s = 30
bump_every_s = 20
void_after_s = 600

[prices.static]
ETH = "2000"
USDC = "1"
"""


class Stage:
    """An organization with one funded wallet, its engine, its signer, and the network."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int | Sequence[str] = 1,
        finality: str = "blocks = 3",
        more: str = "",
        base_fee: int = fakes.GWEI,
        in_flight: int = 16,
    ) -> None:
        """Found everything; two nodes or more have to agree.

        Args:
            folder: an empty directory.
            nodes: how many, or the client of each.
            finality: the rule, as the configuration says it.
            more: further settings of the network.
            base_fee: wei per gas.
            in_flight: unsettled transactions a wallet may have.
        """
        count = nodes if isinstance(nodes, int) else len(nodes)
        self.loop = VirtualLoop()
        self.network = fakes.network(nodes=nodes, base_fee=base_fee)
        self.node = self.network.nodes[0]
        self.token = self.network.contracts.add(Token(address=USDC))
        self.world = World(
            folder, settings=settings(count, finality, "quorum" if count > 1 else "single", more, in_flight), seed=7
        )
        self.config, self.clock = self.world.config, self.world.clock
        self.bot: Actor = self.world.service_account("payouts bot")
        self._found_signer(folder)
        name, _, value = finality.partition(" = ")
        self._rule = Finality(blocks=int(value)) if name == "blocks" else Finality(tag=value.strip('"'))
        self._holders = itertools.count(1)
        self._numbers = itertools.count(1)
        self.recipients: dict[str, str] = {}  #: transfer id -> whom it pays, nobody twice
        self.was_taken_back = False  #: the chain broke its own rule: then nothing can be compared
        self.start()
        self.wallet = self.new_wallet()

    def _found_signer(self, folder: Path) -> None:
        entropy, params = self.world.entropy, KdfParams(memory_kib=8, time=1)
        self._keys = keys = Keystore.create(folder / "keys.json", b"passphrase", entropy, params=params)
        journal_id = entropy.token(16).hex()
        self._journal = Journal.create(
            folder / "journal.db", root=self.world.root, keystore_id=keys.id, journal_id=journal_id
        )
        self.signer = SignerCore(keys, self._journal, settings=self.config.signer, clock=self.clock)

    def start(self) -> None:
        """Start a worker on what the one before left behind."""
        network = self.config.networks[NETWORK]
        rpc = JsonRpc(
            self.network.urls,
            FakeTransport(self.network),
            chain_id=self.network.chain_id,
            agreement=network.needs_agreement,
        )
        self.chain = EvmChain(rpc, self._rule, fee_model=network.fee_model, data_fee=network.data_fee)
        db: Any = _Inline(self.world)
        self.db = db
        signer: Any = _InlineSigner(self.signer)
        parts = (db, self.clock, self.world.entropy, self.config)
        chains = {NETWORK: self.chain}
        self._watch = Watch(db, signer)
        self.worker = Send(*parts, chains, signer, self._watch, holder=f"worker {next(self._holders)}")
        self.router = Routing(*parts)
        self._confirm, self._balance, self._expire = Confirm(*parts, chains), Balance(*parts, chains), Expire(*parts)
        prices = CheckedPrices(self.config.prices, {}, began=0).find
        self._refill, self._recurring = Refill(*parts, prices), Recurring(*parts, prices)
        self._delays = Delays(*parts)

    def close(self) -> None:
        """Compare what was asked for, ledger and chain, then end everything."""
        try:
            self.check()
        finally:
            self._journal.close()
            self.world.close()
            self.loop.close()

    # Doing

    def new_wallet(self, *tags: str, coins: int = 10 * COIN, dollars: int = 10_000) -> str:
        """Create a wallet with a key of the signer, pay in, and let the ledger know."""
        wallet_id = wallets.new_wallet_id(self.world.entropy)
        key = self.signer.create_key(wallet_id)
        self.world.call(
            self.world.admin,
            "POST",
            "/wallets",
            {"network": NETWORK, **({"tags": list(tags)} if tags else {})},
            "Wallets:Create",
            lambda act: wallets.create(
                act,
                wallet_id=wallet_id,
                network=NETWORK,
                key_id=key.key_id,
                address=key.address,
                public_key=key.public_key_hex,
                name=None,
                external_id=None,
                tags=tags,
            ),
        )
        self.network.give(key.address, coins)
        self.network.give(key.address, dollars * DOLLAR, self.token)
        self.network.mine(self._rule.blocks or 12)
        self.run()
        assert self.held(NATIVE, wallet_id=wallet_id) == {"spendable": coins, "reserved": 0}
        return wallet_id

    def pay(self, units: int = 7, *, native: bool = False, wallet_id: str | None = None) -> str:
        """Ask for a payout to somebody new; return its id."""
        recipient = "0x" + f"{next(self._numbers):02x}".rjust(40, "e")
        made = self.world.pay(self.bot, wallet_id or self.wallet, 0, to=recipient, units=units, native=native)
        self.recipients[made["id"]] = recipient
        return str(made["id"])

    def pay_pool(self, pool_id: str, units: int = 7, *, native: bool = False) -> str:
        """Ask a pool for a payout to somebody new; return its id."""
        recipient = "0x" + f"{next(self._numbers):02x}".rjust(40, "e")
        made = self.world.pay_pool(self.bot, pool_id, 0, to=recipient, units=units, native=native)
        self.recipients[made["id"]] = recipient
        return str(made["id"])

    def sent(self, units: int = 7, *, native: bool = False) -> str:
        """Ask for a payout and have it sent."""
        paid = self.pay(units, native=native)
        self.run()
        assert self.state(paid) == "broadcast", self.row(paid)
        return paid

    def cancel(self, paid: str) -> dict[str, Any]:
        """Cancel a payout that was sent."""
        return self._replace("cancel", replace.cancel, paid)

    def speed_up(self, paid: str) -> dict[str, Any]:
        """Speed a payout up that was sent."""
        return self._replace("speed-up", replace.speed_up, paid)

    def _replace(self, verb: str, action: Callable[..., dict[str, Any]], paid: str) -> dict[str, Any]:
        fees, data_fee = self.do(self.chain.fees()), self.do(self.chain.data_fee(250))
        wallet_id = self.row(paid).wallet_id
        answer: dict[str, Any] = self.world.call(
            self.world.admin,
            "POST",
            f"/wallets/{wallet_id}/transfers/{paid}/{verb}",
            None,
            "Wallets:Transactions:Create",
            lambda act: action(act, wallet_id, paid, fees, data_fee),
        )
        return answer

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; what it waits for takes no real time."""
        return self.loop.run_until_complete(coroutine)

    def wait(self, seconds: float) -> None:
        """Let time pass; nobody does anything meanwhile."""
        self.clock.step(micros=int(seconds * SECOND))
        self.loop.seconds += seconds

    def run(self, rounds: int = 2, *, every_s: float = POLL_S) -> None:
        """Let the engine look, so often."""
        for _ in range(rounds):
            self.wait(every_s)
            self.do(self._look())

    async def _look(self) -> None:
        await self._watch.step()
        while await self.router.step() or await self.worker.step():
            pass
        while await self._confirm.step():
            pass
        await self._balance.step()
        await self._expire.step()
        await self._refill.step()
        while await self._recurring.step():
            pass
        await self._delays.step()

    def mine(self, blocks: int = 1, **choice: Any) -> None:
        """Mine blocks one by one, and let the engine look after each."""
        for _ in range(blocks):
            self.network.mine(**choice)
            self.run(1)

    @contextmanager
    def mood(self, *moods: Mood) -> Iterator[None]:
        """Put the nodes, from the first on, into moods until the block ends; then all are calm."""
        for node, mood in zip(self.network.nodes, moods, strict=False):
            node.mood = mood
        try:
            yield
        finally:
            for node in self.network.nodes:
                node.mood = CALM

    def foreign(self, nonce: int, *, to: str, value: int = 1, max_fee_per_gas: int = 50 * fakes.GWEI) -> bytes:
        """Return a transaction that somebody else signed with the wallet's key."""
        reference = self._keys.make(self.wallet, 0).reference
        made = Eip1559(
            chain_id=self.network.chain_id,
            nonce=nonce,
            max_priority_fee_per_gas=5 * fakes.GWEI,
            max_fee_per_gas=max_fee_per_gas,
            gas_limit=21_000,
            to=to,
            value=value,
        )
        return made.encode(self._keys.sign(reference, made.signing_hash()))

    # Looking

    def unit(self, function: Callable[[Unit], T]) -> T:
        """Read something from the database."""
        with self.world.unit() as unit:
            return function(unit)

    def row(self, paid: str) -> Row:
        """Return a transfer."""
        return self.unit(lambda unit: transfers.get(unit, paid))

    def state(self, paid: str) -> str:
        """Return where a transfer stands."""
        return str(self.row(paid).state)

    def attempts(self, paid: str) -> list[Row]:
        """Return what was signed for a transfer, in order."""
        slot = self.row(paid).transaction_id
        known = [] if slot is None else self.unit(lambda unit: lanes.attempts(unit, slot))
        return [each for each in known if each.raw is not None]

    def raw(self, paid: str, number: int = -1) -> bytes:
        """Return the bytes of one attempt, by default the newest."""
        return bytes.fromhex(self.attempts(paid)[number].raw)

    def told(self, subject: str, kind: str) -> list[dict[str, Any]]:
        """Return what was told about a payout or a wallet by events of one kind, in order."""
        text = "SELECT data FROM event WHERE subject = ? AND kind = ? ORDER BY subject_seq"
        marked = postgres.marked(self.world.db.where, text)
        return [
            json.loads(row.data) for row in self.unit(lambda unit: unit.exec_driver_sql(marked, (subject, kind)).all())
        ]

    def history(self, paid: str) -> list[str]:
        """Return every event of a transfer, in order."""
        text = postgres.marked(self.world.db.where, "SELECT event FROM transition WHERE transfer_id = ? ORDER BY seq")
        return [row.event for row in self.unit(lambda unit: unit.exec_driver_sql(text, (paid,)).all())]

    def address(self, wallet_id: str | None = None) -> str:
        """Return the address of a wallet."""
        found = self.unit(lambda unit: wallet_rows.find(unit, wallet_id or self.wallet))
        assert found is not None
        return str(found.address)

    def holder(self) -> str:
        """Return which worker leads the wallet's lane."""
        found = self.unit(lambda unit: lanes.find(unit, self.wallet))
        assert found is not None
        return str(found.holder)

    def frozen(self, wallet_id: str | None = None) -> str | None:
        """Return why a wallet is frozen, if it is."""
        found = self.unit(lambda unit: wallet_rows.find(unit, wallet_id or self.wallet))
        assert found is not None
        return None if found.frozen_reason is None else str(found.frozen_reason)

    def network_frozen(self) -> str | None:
        """Return why the network is frozen, if it is."""
        found = self.unit(lambda unit: stops.find_network(unit, NETWORK))
        return None if found is None or found.frozen_reason is None else str(found.frozen_reason)

    def held(self, asset: str, *, wallet_id: str | None = None) -> dict[str, int]:
        """Return what the ledger holds for a wallet, base units."""
        found = self.unit(lambda unit: ledger.holdings(unit, wallet_id=wallet_id or self.wallet, asset=asset))
        return {"spendable": found.spendable, "reserved": found.reserved}

    def balance(self, address: str, *, native: bool = False) -> int:
        """Return what an address holds on the main branch: the truth, whatever nodes say."""
        state = self.network.head.state
        return state.coins.get(address, 0) if native else state.tokens.get((USDC, address), 0)

    def got(self, paid: str) -> int:
        """Return what a payout's recipient has got."""
        return self.balance(self.recipients[paid], native=self.row(paid).asset == NATIVE)

    def check(self) -> None:
        """Check that nobody got more than was asked for, that ends are true, and that the ledger says what is so."""
        if self.was_taken_back:
            return
        for paid in self.recipients:
            row = self.row(paid)
            assert self.got(paid) in (0, row.amount), row
            if row.state in _PAID_OR_NOT:
                assert self.got(paid) == (row.amount if row.state == "confirmed" else 0), row
        if self.frozen() is None and all(self.state(each) in _PAID_OR_NOT for each in self.recipients):
            address = self.address()
            for asset, native in ((NATIVE, True), (USDC, False)):
                assert self.held(asset) == {"spendable": self.balance(address, native=native), "reserved": 0}, asset


class _Inline:
    """Runs units on the spot; stands where ``Database`` does."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def write(self, function: Callable[[Unit], T]) -> T:
        with self._world.unit() as unit:
            return function(unit)

    read = write


class _InlineSigner:
    """The signer's core behind the protocol that the engine knows."""

    def __init__(self, core: SignerCore) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._core, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            return method(*arguments, **named)

        return call
