"""One run: the real engine, actions and store under virtual time, with everything drawn from one seed."""

import asyncio
import hashlib
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from coincurve import PublicKey

from outlay.chains import Finality
from outlay.chains.evm import EvmChain
from outlay.chains.fake import FakeNetwork, FakeTransport
from outlay.chains.fake.ledger import Token
from outlay.chains.rpc import EndpointFailed, JsonRpc
from outlay.codec.signed import read_signed
from outlay.core import faultpoint
from outlay.core.errors import InvariantBroken, SignerUnavailable
from outlay.core.fees import Fees
from outlay.core.seams import SECOND, Instant
from outlay.engine.balance import Balance
from outlay.engine.confirm import Confirm
from outlay.engine.expire import Expire
from outlay.engine.loop import run_forever
from outlay.engine.recover import Recover
from outlay.engine.send import Send
from outlay.engine.watch import Watch
from outlay.signer import Freeze, Purpose, Scope, Signed, SignRequest
from tests.actions.documents import BLOCK, ask, cap, group, over
from tests.actions.seams import SeededEntropy
from tests.sim.database import Disk, SimDatabase
from tests.sim.faults import RESTORED, Faults
from tests.sim.loop import Dead, Process, Stuck, VirtualLoop, current
from tests.sim.office import Api, Office, Request
from tests.sim.oracle import ENDED, Oracle
from tests.sim.organization import (
    ASK_ONE,
    ASK_TWO,
    CAP,
    CAP_MINUTES,
    DOLLAR,
    NATIVE_FUNDS,
    NETWORK,
    NODES,
    TAG,
    TOKEN_FUNDS,
    USDC,
    Member,
    Organization,
    organization,
)
from tests.sim.signer import SignerHost, SignerLine
from tests.sim.weather import SEND, Weather

STORM_S = 50.0
"""Seconds in which requests are made and faults strike."""
CALM_S = 1_500.0
"""Seconds after them within which everything has to end."""
BLOCK_S = 4.0
FINAL_AFTER = 4
"""Blocks behind the head that are final."""
SEND_PAUSE_S, FOLLOW_PAUSE_S = 3.5, 8.0
WORKERS = (1, 1, 2, 2, 3)
_UNFINISHED = f"SELECT DISTINCT state FROM transfer WHERE state NOT IN {ENDED}"


class SimClock:
    """The virtual time of day, as one process sees it."""

    def __init__(self, loop: VirtualLoop, start: Instant) -> None:
        self._loop, self._start = loop, start
        self.skew: Instant = 0

    def now(self) -> Instant:
        return self._start + round(self._loop.seconds * SECOND) + self.skew


class Worker:
    """One engine process."""

    def __init__(self, sim: "Simulation", number: int) -> None:
        self._sim, self.number, self._lives = sim, number, 0
        self.start()

    def start(self) -> None:
        self._lives += 1
        sim, name = self._sim, f"worker-{self.number}"
        self.process = process = Process(name)
        chance = sim.chance(f"{name} {self._lives}")
        chain = EvmChain(
            JsonRpc(sim.network.urls, _Wire(sim, process, chance), chain_id=sim.network.chain_id, agreement=True),
            Finality(tag="finalized"),
        )
        db, clock = sim.database(process), sim.clock_of(name)
        chains, parts = {NETWORK: chain}, (db, clock, sim.entropy, sim.config)
        signer = SignerLine(sim.signer, process, chance, sim.faults.ask)
        watch = Watch(db, signer)
        send = Send(*parts, chains, signer, watch, holder=f"{name}.{self._lives}")
        confirm, balance, expire = Confirm(*parts, chains), Balance(*parts, chains), Expire(*parts)

        async def follow() -> bool:
            moved = await confirm.step()
            return await balance.step() or moved

        process.spawn(run_forever("watch", watch.step, pause_s=15.0))
        process.spawn(run_forever("send", send.step, pause_s=SEND_PAUSE_S))
        process.spawn(run_forever("confirm", follow, pause_s=FOLLOW_PAUSE_S))
        process.spawn(run_forever("expire", expire.step, pause_s=15.0))


class _Wire:
    """A worker's way to the nodes; implements ``Transport``."""

    def __init__(self, sim: "Simulation", process: Process, chance: random.Random) -> None:
        self._sim, self._process, self._chance = sim, process, chance
        self._inner = FakeTransport(sim.network)

    async def post(self, url: str, body: bytes) -> bytes:
        self._process.check()
        await asyncio.sleep(self._chance.random() * 0.05)
        self._process.check()
        if SEND.encode() in body:
            calls = json.loads(body)
            calls = calls if isinstance(calls, list) else [calls]
            self._sim.oracle.sent([each["params"][0] for each in calls if each["method"] == SEND])
        try:
            async with asyncio.timeout(10.0):
                answer = await self._inner.post(url, body)
        except TimeoutError:
            raise EndpointFailed("no answer (TimeoutError)") from None
        self._process.check()
        return answer


class Simulation:
    """One seed."""

    def __init__(
        self, seed: int, *, only: Sequence[str] = (), folder: Path, disk: Disk, keep_trace: bool = False
    ) -> None:
        self.seed = seed
        self.organization: Organization = organization()
        self.config = self.organization.config
        self.loop = VirtualLoop()
        self.entropy = SeededEntropy(2**40 + seed)  # not what the organization was founded with
        self.disk = disk
        disk.load(self.organization.database)
        self.lines: list[str] | None = [] if keep_trace else None
        self._hash = hashlib.sha256()
        self.failures: list[str] = []  #: what never may happen and did
        self.cells: Counter[tuple[str, str]] = Counter()
        self.faults = Faults(seed, self.chance("faults"), on_strike=self._struck, states=self.states, only=only)
        self._deaths = self.chance("deaths")
        self._clocks: dict[str, SimClock] = {}
        self.network = self._network()
        self.signer = SignerHost(
            self.organization.signer,
            folder,
            self.config,
            self.clock_of("signer"),
            on_journaled=self._journaled,
            on_signed=self._signed,
        )
        self.oracle = Oracle(self)
        self.requests: list[Request] = []
        self.journaled: dict[str, float] = {}  #: transfer id -> when its first signature was in the journal
        self.signed: dict[str, float] = {}  #: transfer id -> when its first signature left the signer
        self.hashes: dict[str, tuple[SignRequest, bytes]] = {}  #: every signature that left the signer
        self.edits: list[tuple[float, str, dict[str, Any]]] = []  #: when an edit ran, of what, to which rule
        self.edited: dict[str, float] = {}  #: when an edit had surely happened
        self.worst_skew_s = 0.0
        self.is_recovering = False
        self._copies: list[tuple[float, bytes]] = []  #: of the database, and when each was made
        self.stopped: dict[str, tuple[Freeze, int]] = {}  #: what the signer stopped, and its journal's length then
        self.removed: dict[str, float] = {}
        self.api: Api
        self.office: Office
        self.workers: list[Worker] = []

    # --- parts ----------------------------------------------------------------------------------------------------

    def chance(self, what: str) -> random.Random:
        """Return a source of chance of its own for one part."""
        return random.Random(f"{self.seed} {what}")

    @property
    def now(self) -> float:
        """Seconds of virtual time."""
        return self.loop.seconds

    def clock_of(self, name: str) -> SimClock:
        return self._clocks.setdefault(name, SimClock(self.loop, self.organization.now))

    def database(self, process: Process) -> SimDatabase:
        chance = self.chance(f"database of {process.name} at {self.now}")
        return SimDatabase(self.disk, process, chance, self.faults.ask, self.oracle.look)

    def _network(self) -> FakeNetwork:
        coins = {each.address: NATIVE_FUNDS for each in self.organization.wallets}
        clients = ["geth", "nethermind", "erigon"][:NODES]
        network = FakeNetwork(chain_id=31337, nodes=clients, coins=coins, read=partial(read_signed, recover=_recover))
        network.safe_after, network.final_after = FINAL_AFTER // 2, FINAL_AFTER
        network.block_seconds = int(BLOCK_S)
        token = network.contracts.add(Token(address=USDC))
        for each in self.organization.wallets:
            network.give(each.address, TOKEN_FUNDS, token)
        network.mine(12)
        return network

    # --- what is noted --------------------------------------------------------------------------------------------

    def trace(self, *words: object) -> None:
        """Note a step: the same seed makes the same steps."""
        line = f"{self.now:10.3f} {' '.join(map(str, words))}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    @property
    def trace_hash(self) -> str:
        return self._hash.hexdigest()

    def check(self, holds: bool, what: str) -> None:
        """Note what does not hold. The run goes on: whoever is asked here may be the product's own code."""
        if not holds:
            self.failures.append(f"at {self.now:.1f} s: {what}")
            self.trace("FAILED", what)

    def request_of(self, transfer_id: str | None) -> Request | None:
        return next((each for each in self.requests if each.id == transfer_id), None)

    def request_named(self, external_id: str) -> Request | None:
        return next((each for each in self.requests if each.external_id == external_id), None)

    def policy_edited(self, name: str, rule: dict[str, Any]) -> None:
        self.edits.append((self.now, name, rule))

    def person_removed(self, person: Member) -> None:
        self.removed[person.user_id] = self.now

    def states(self) -> list[str]:
        """Return the states payouts are in that have not ended."""
        return [row[0] for row in self.disk.connection.execute(_UNFINISHED)]

    def _struck(self, kind: str) -> None:
        states = self.states()
        self.trace("fault", kind, ",".join(sorted(states)))
        self.cells.update((kind, state) for state in states)

    def _signed(self, request: SignRequest, answer: Signed) -> None:
        if answer.hash not in self.hashes:
            for freeze, sequence in self.stopped.values():
                is_new = answer.sequence > sequence
                self.check(not (is_new and self._covers(freeze, request)), f"signed although {freeze.scope} is stopped")
            self.trace("signed", request.wallet_id, request.nonce, request.purpose, answer.hash)
            self.hashes[answer.hash] = (request, answer.raw)
            if request.transfer_id is not None:
                self._journaled(request.transfer_id)
                self.signed.setdefault(request.transfer_id, self.now)

    def _journaled(self, transfer_id: str) -> None:
        self.journaled.setdefault(transfer_id, self.now)

    def _covers(self, freeze: Freeze, request: SignRequest) -> bool:
        """Tell whether a freeze forbids what was signed. A void pays nobody: whoever stops a person may cancel too."""
        by = None if request.purpose is Purpose.VOID else self.request_of(request.transfer_id)
        return freeze.scope in (Scope.ALL, Scope.NETWORK) or freeze.subject in (
            request.wallet_id,
            None if by is None else by.by.user_id,
        )

    def rival_of(self, tx_hash: str) -> bytes | None:
        """Return other bytes that were signed for the same slot, if there are any."""
        mine = self.hashes.get(tx_hash)
        if mine is None:
            return None
        for other, (request, raw) in self.hashes.items():
            if other != tx_hash and (request.wallet_id, request.nonce) == (mine[0].wallet_id, mine[0].nonce):
                return raw
        return None

    def set_skew(self, whose: "random.Random | str | None", size: Instant) -> str:
        """Let the clock of one process, of any by chance, or of all (None) be wrong by ``size``."""
        if whose is None:
            for clock in self._clocks.values():
                clock.skew = size
            return ""
        name = whose if isinstance(whose, str) else whose.choice(sorted(self._clocks))
        self._clocks[name].skew = size
        self.worst_skew_s = max(self.worst_skew_s, abs(size) / SECOND)
        self.trace("clock", name, size)
        return name

    def _at_point(self, label: str) -> None:
        process = current()
        if process is not None and self.faults.ask(f"crash.{label}") is not None:
            self.kill(process)
            raise Dead(process.name)

    # --- deaths ---------------------------------------------------------------------------------------------------

    def kill(self, process: Process) -> None:
        """Let a process die; its successor starts some time later."""
        if not process.alive:
            return
        self.trace("dies", process.name)
        process.kill()
        if process.name == "recovery":
            return
        if process is self.signer.process and not self.signer.busy:
            self.signer.stop()
        self.loop.call_later(self._deaths.uniform(0.5, 25.0), self._restart, process)

    def restore(self, chance: random.Random) -> None:
        """Put an older copy of the database in place. Nothing is served before it knows what the signer knows."""
        if not self._copies:
            return
        self.faults.strike(RESTORED)
        copied_at, content = chance.choice(self._copies)
        self.trace("restored", f"{copied_at:.3f}")
        self.is_recovering = True
        for process in [self.api.process, *(each.process for each in self.workers)]:
            process.kill()
        self.disk.load(content)
        self.oracle.begin_again()
        for request in self.requests:
            request.id = None
        self.office.begin_again()
        self.loop.create_task(self._recover())

    async def _recover(self) -> None:
        """Recover until it succeeds, dying now and then; then let everything begin."""
        chance = self.chance("recovery")
        while True:
            process = Process("recovery")
            line = SignerLine(self.signer, process, chance, self.faults.ask)
            recover = Recover(self.database(process), line, self.config, self.clock_of("recovery"), self.entropy)
            task = process.spawn(recover.run())
            await asyncio.wait([task])
            done = process.alive and not task.cancelled() and task.exception() is None
            error = None if task.cancelled() else task.exception()
            self.trace("recovered" if done else f"not recovered {type(error).__name__} {error}")
            process.kill()
            if done:
                break
            self.check(not isinstance(error, InvariantBroken), f"recovery gives up: {error}")
            await asyncio.sleep(chance.uniform(0.5, 5.0))
        self.is_recovering = False
        self.api.start()
        for each in self.workers:
            each.start()
        for request in [each for each in self.requests if each.at < self.now]:
            await self.office.post(request)

    def _restart(self, process: Process) -> None:
        if self.is_recovering and process is not self.signer.process:
            return
        self.trace("starts", process.name)
        if process is self.signer.process:
            self.signer.start()
        elif process is self.api.process:
            self.api.start()
        else:
            for each in self.workers:
                if each.process is process:
                    each.start()

    # --- the run --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end, and judge it: ``failures`` tells what must never happen and did."""
        asyncio.set_event_loop(self.loop)
        faultpoint.install(self._at_point)
        try:
            self.loop.run_until_complete(self._main())
            self.oracle.judge()
        except Stuck as error:
            self.check(False, str(error))
        finally:
            faultpoint.install(None)
            self._close()

    def _close(self) -> None:
        self.signer.stop()
        for process in [*(each.process for each in self.workers), self.api.process]:
            process.kill()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        self.loop.close()

    async def _main(self) -> None:
        chance = self.chance("main")
        self.signer.start()
        self.api = Api(self)
        self.office = Office(self, self.chance("office"))
        self.workers = [Worker(self, number) for number in range(chance.choice(WORKERS))]
        weather = self.weather = Weather(self, self.chance("weather"))
        blocks = self.loop.create_task(weather.make_blocks(BLOCK_S))
        await asyncio.sleep(7.0)  # the wallets' funds are seen
        self.requests = self._requests(chance)
        self.faults.live = True
        doing = [self.loop.create_task(self._make(each)) for each in self.requests]
        doing += [self.loop.create_task(self._vote_for_ever(each)) for each in self.organization.people]
        is_restored = RESTORED in self.faults.kinds
        # What people changed after a copy was made may be gone with the database: such runs have no edits.
        changes = [] if is_restored else [self.loop.create_task(each) for each in self._changes(chance)]
        doing += [self.loop.create_task(self._copy_for_ever())] if is_restored else []
        await weather.storm(STORM_S)
        self.faults.live = False
        self.trace("calm")
        await asyncio.gather(*doing[: len(self.requests)], *changes)
        await self._come_to_rest(weather)
        for task in [*doing, blocks]:
            task.cancel()

    def _requests(self, chance: random.Random) -> list[Request]:
        recipients = ["0x" + f"{each:02x}" * 20 for each in (0xA1, 0xB2, 0xC3, 0xD4)]
        found = []
        for number in range(chance.randint(7, 11)):
            dollars = chance.choice(
                [chance.randint(5, 150), chance.randint(5, 150), chance.randint(201, 480), chance.randint(501, 700)]
            )
            native = chance.random() < 0.15
            amount = (10**18 // 2000 * dollars if native else dollars * DOLLAR) + number
            found.append(
                Request(
                    external_id=f"payout-{number}",
                    by=chance.choice(self.organization.bots),
                    wallet=chance.choice(self.organization.wallets),
                    to=chance.choice(recipients),
                    amount=amount,
                    native=native,
                    at=self.now + chance.uniform(0, STORM_S * 0.7),
                    value=-(-amount * 2000 // 10**10) if native else amount * 100,
                )
            )
        return found

    async def _make(self, request: Request) -> None:
        chance = self.chance(request.external_id)
        await asyncio.sleep(max(0.0, request.at - self.now))
        await self.office.post(request)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice([chance.uniform(0, 2), chance.uniform(2, 20)]))
            what = chance.choice(["withdraw", "cancel", "speed-up"])
            await (self.office.withdraw(request) if what == "withdraw" else self.office.replace(request, what))

    async def _vote_for_ever(self, person: Member) -> None:
        chance = self.chance(person.user_id)
        while True:
            await asyncio.sleep(chance.uniform(4, 16))
            if person.user_id not in self.removed and self.states():
                await self.office.vote(person)

    def _changes(self, chance: random.Random) -> list[Coroutine[Any, Any, None]]:
        """Return what people change in the meantime."""
        office, people = self.office, self.organization.people
        one, two = ask(group(*people)), ask(group(*people, quorum=2))
        possible: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = [
            (0.3, partial(office.edit_policy, "cap", _cap(chance.choice([CAP // 2, CAP * 2])), BLOCK, tags=[TAG])),
            (0.2, partial(office.edit_policy, "one", over(chance.choice([ASK_ONE // 2, ASK_ONE * 2])), one)),
            (0.2, partial(office.edit_policy, "two", over(chance.choice([ASK_TWO // 2, ASK_TWO * 2])), two)),
            (0.2, partial(office.remove, people[2])),
            (0.25, partial(self._stop_and_go, chance.choice(list(Scope)), chance.uniform(5, 30))),
        ]
        return [_later(chance.uniform(5, STORM_S), do) for share, do in possible if chance.random() < share]

    async def _stop_and_go(self, scope: Scope, lasts: float) -> None:
        """Somebody stops something, and lets it go again."""
        subjects = {
            Scope.ALL: "",
            Scope.NETWORK: NETWORK,
            Scope.WALLET: self.organization.wallets[0].id,
            Scope.IDENTITY: self.organization.bots[0].user_id,
        }
        line = SignerLine(self.signer, Process("operator"), self.chance("operator"), lambda _port: None)
        while True:
            try:
                freeze = await line.freeze(scope, subjects[scope], "a rehearsal")
                sequence = (await line.status()).sequence
                break
            except SignerUnavailable:
                await asyncio.sleep(3.0)
        self.stopped[freeze.id] = (freeze, sequence)
        self.trace("stopped", freeze.scope, freeze.subject)
        await asyncio.sleep(lasts)
        # An answer may be lost: then the next one is that there is no such freeze.
        while not await self.office.lift(freeze) and (freeze.id in self.stopped or self._is_stopped(freeze)):
            await asyncio.sleep(6.0)

    def _is_stopped(self, freeze: Freeze) -> bool:
        return self.disk.connection.execute("SELECT 1 FROM stop WHERE id = ?", (freeze.id,)).fetchone() is not None

    def fees(self) -> Fees:
        """Return what a transaction costs now."""
        tip = self.network.suggested_tip
        head = self.network.head.number
        base_fee = self.network.base_fee
        return Fees(block_number=head, base_fee=base_fee, tip_slow=tip, tip_standard=tip, tip_fast=tip)

    async def _copy_for_ever(self) -> None:
        while True:
            await asyncio.sleep(6.0)
            self._copies.append((self.now, self.disk.copy()))

    async def _come_to_rest(self, weather: Weather) -> None:
        """Let everything end that can; somebody looks at wallets that were stopped."""
        weather.clear()
        until = self.now + CALM_S
        while self.now < until:
            await asyncio.sleep(10.0)
            if self.is_recovering:
                continue
            await self._look_at_wallets()
            if not self.states() and self._is_settled() and self._is_answered():
                return
        self.trace("not at rest", *self.states())

    def _is_answered(self) -> bool:
        return all(each.id is not None or each.refused is not None for each in self.requests)

    def _is_settled(self) -> bool:
        lanes = self.disk.connection.execute("SELECT next_nonce, settled_nonce FROM lane")
        return all(row[0] == row[1] for row in lanes)

    async def _look_at_wallets(self) -> None:
        frozen = self.disk.connection.execute("SELECT id, frozen_reason FROM wallet WHERE frozen_reason IS NOT NULL")
        for wallet_id, reason in frozen.fetchall():
            self.trace("frozen", wallet_id, reason)
            await self.office.unfreeze(next(each for each in self.organization.wallets if each.id == wallet_id))


def _recover(digest: bytes, signature: bytes) -> bytes:
    """Return who signed, faster than our own reader finds it."""
    return PublicKey.from_signature_and_message(signature, digest, hasher=None).format(compressed=False)


def _cap(dollars: int) -> dict[str, Any]:
    return cap(dollars, minutes=CAP_MINUTES)


async def _later(seconds: float, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.sleep(seconds)
    await do()


def simulate(seed: int, *, only: Sequence[str] = (), keep_trace: bool = False, disk: Disk | None = None) -> Simulation:
    """Run one seed to its end, and judge it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        sim = Simulation(seed, only=only, folder=Path(folder), disk=disk or Disk(), keep_trace=keep_trace)
        sim.run()
        return sim
