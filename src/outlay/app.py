"""The composition root: a directory on disk becomes a running server."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from outlay import locks
from outlay.actions.organization import Founded, found
from outlay.chains import Chain, Finality
from outlay.chains.evm import EvmChain
from outlay.chains.rpc import HttpTransport, JsonRpc
from outlay.child import SignerChild
from outlay.cli.logs import COUNTS
from outlay.config import Config, load
from outlay.core.asset import Asset
from outlay.core.errors import InvalidInput, InvariantBroken, OutlayError, Unavailable
from outlay.core.fees import Fees
from outlay.engine.admit_batches import AdmitBatches
from outlay.engine.anchor import Anchoring
from outlay.engine.balance import Balance
from outlay.engine.capacity import Capacity
from outlay.engine.confirm import Confirm
from outlay.engine.delays import Delays
from outlay.engine.deliver import Deliver
from outlay.engine.egress import Egress
from outlay.engine.expire import Expire
from outlay.engine.leases import HOUSEKEEPING, RENEW_S, Fenced, Leases
from outlay.engine.listen import listen
from outlay.engine.notify import NOTIFY, Collect, Courier, channels
from outlay.engine.offers import data_fee_of
from outlay.engine.prices import LOOK_S, PriceAlarms, PriceLooks, prices_of
from outlay.engine.reconcile import Reconcile
from outlay.engine.recover import Recover
from outlay.engine.recurring import Recurring
from outlay.engine.refill import Refill
from outlay.engine.route import Routing
from outlay.engine.send import Send
from outlay.engine.watch import Watch
from outlay.engine.webhook_signature import public_key_text
from outlay.evidence.attestation import new_key_pair
from outlay.evidence.keys import load_public_key, normal_pem
from outlay.evidence.seal import SealingKeys
from outlay.layout import Layout, write_secret
from outlay.observe.watcher import Watcher
from outlay.settings import Network
from outlay.signer import SignerStatus
from outlay.signer.client import SignerClient
from outlay.signing import create_journal, create_keys
from outlay.store import lanes, leases, organizations, postgresql, stops
from outlay.store.database import Database
from outlay.store.migrate import require_fitting, upgrade
from outlay.store.webhooks import Webhook
from outlay.system import SystemClock, SystemEntropy

if TYPE_CHECKING:
    from litestar import Litestar

IDLE_S = 0.05
"""Pause of the loops that only look at the database."""

LISTENING_S = 0.5
"""The same, for a process that is told when something was written."""

WATCH_S = 0.5
"""Pause between looks at what the signer has stopped."""

BEGIN_MAX_S = 5.0
"""How long a server that starts waits for recovery before it answers reads meanwhile."""

HOUSEKEEPING_S = 1.0
LOCK_PATIENCE_S = 2.0
WAIT_S, WAIT_MAX_S = 0.02, 2.0

Loop = tuple[str, Callable[[], Awaitable[bool]], float]
"""Name, step, and pause in seconds after a step that found nothing to do."""

_NOTHING = "{root} holds no deployment: run outlay init --dir {root}"

log = structlog.get_logger()


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
    if layout.database.exists() or layout.keystore.exists() or layout.journal.exists():
        raise InvalidInput(f"{layout.root} holds a deployment already", field="dir")
    where = layout.database_of(config)
    if isinstance(where, str):
        postgresql.check_new(where)
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
    keys = create_keys(layout, config, entropy)
    write_secret(layout.webhook_key, new_key_pair()[0].encode())
    seals = SealingKeys.create(layout.sealing_keys, entropy)
    upgrade(where)
    database = Database(where)
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
            genesis = organizations.record_texts(unit, after=-1, limit=1)
    finally:
        database.close()
    create_journal(layout, config, keys, root=founded.root, genesis=genesis)
    return Initialized(founded=founded, token=seals.sign_token(founded.claims), private_key_file=private_key_file)


class Role(StrEnum):
    """What a process of a deployment does."""

    SERVE = "serve"  #: everything; the signer is its child
    API = "api"  #: answers requests
    WORKER = "worker"  #: moves payouts, tells endpoints


class Application:
    """One process of a deployment: its API, its engine, or both. It reaches the signer by its socket only."""

    def __init__(self, layout: Layout, config: Config | None = None, *, role: Role = Role.SERVE) -> None:
        """Open the deployment in ``layout``; nothing runs yet.

        Raises:
            InvalidInput: no deployment there, or a wrong configuration. Unavailable: another process keeps it out.
        """
        self.layout, self.role = layout, role
        self.config = config or load(layout.config)
        self._lock, is_alone = _lock(layout, role)
        self._clock, self._entropy = SystemClock(), SystemEntropy()
        self.db = Database(_prepare(layout, self.config, role, is_alone=is_alone))
        self.db.clock = self._clock
        home = locks.name(self._lock)
        self._leases = Leases(self.db, self._clock, holder=f"{home}-{os.getpid()}-{secrets.token_hex(4)}")
        if is_alone:
            # Nobody else works here, so whoever held a lease from here is dead: it need not run out.
            with self.db.engine.begin() as unit:
                lanes.release_all(unit, prefix=home)
                leases.release_all(unit, prefix=home)
            if role is not Role.SERVE:
                locks.share(self._lock)
        self._signer = SignerClient(layout.socket(self.config))
        self._child = SignerChild(layout.root) if role is Role.SERVE else None
        self._webhook_key = _webhook_key(layout)
        self._transport = HttpTransport()
        self._prices = prices_of(self.config, self._clock.now())
        self._looks = PriceLooks(self._prices, self.config.live_prices, self._clock)
        self._watcher = Watcher(
            self.db,
            self._clock,
            self.config,
            role=role.value,
            has_engine=role is not Role.API,
            data=layout.data,
            socket=layout.socket(self.config),
            is_open=lambda: self._is_open,
            price_ages=lambda: self._prices.ages(self._clock.now()),
            log_counts=COUNTS,
        )
        self._signer.on_refusal = self._watcher.meter.count_refusal
        self._loops = self._watcher.loops
        self._beginning: asyncio.Task[None] | None = None
        self._is_open = False
        self._listen_url = layout.listen_url(self.config)
        self._listening: asyncio.Task[None] | None = None
        self._idle_s = LISTENING_S if self._listen_url else IDLE_S
        self._recovered: int | None = None  # the fence of the housekeeping under which this process has recovered
        self._target: int | None = None
        self._deliver: Deliver | None = None
        self._egress: Egress | None = None
        self._anchoring: Anchoring | None = None
        self._chains: Mapping[str, Chain] = {}

    def asgi(self, *, engine: bool = True) -> "Litestar":
        """Return the ASGI application; loops and signer run within its life, unless it shall have no ``engine``."""
        # Imported here, so that a worker loads no web framework.
        from outlay.web.app import create_app
        from outlay.web.gate import Gate
        from outlay.web.limits import Limiter

        gate = Gate(
            db=self.db,
            seals=SealingKeys.load(self.layout.sealing_keys, self._entropy),
            config=self.config,
            clock=self._clock,
            entropy=self._entropy,
            price_of=self._prices.find,
            webhook_public_key=public_key_text(self._webhook_key),
            limiter=Limiter.of(self.config.limits),
            is_open=lambda: self._is_open,
            is_live=self._watcher.health.is_live,
            is_ready=self._watcher.health.is_ready,
            on_admitted=self._watcher.count_admission,
        )
        starting = [self.start] if engine else []
        self._is_open = not engine
        return create_app(
            gate,
            self._signer,
            self,
            self,
            self,
            on_startup=starting,
            on_shutdown=[self.stop],
            on_call=self._watcher.meter.count_call,
        )

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

    async def data_fee(self, network: str) -> int:
        """Return the wei to set aside for what a transaction costs beside its gas on a configured network."""
        return await data_fee_of(self._chain(network))

    async def reconcile(self) -> dict[str, Any]:
        """Return what ledger, journal and chain say about each wallet."""
        return await self._compare().reconcile()

    async def signer_state(self) -> dict[str, Any]:
        """Return what the signer says of itself."""
        return await self._compare().signer_state()

    def _compare(self) -> Reconcile:
        return Reconcile(*self._parts, self._chains, self._signer)

    async def balances(self, address: str, assets: Sequence[Asset]) -> Sequence[int | None]:
        """Return the newest balance of each asset of one network in base units, in order; None: no token answers."""
        return await self._chain(assets[0].network).balances(address, assets)

    def _chain(self, network: str) -> Chain:
        if network not in self._chains:
            raise Unavailable("the server is starting")
        return self._chains[network]

    async def start(self) -> None:
        """Start what this role runs. Writes are refused until the database is known not to be an older copy."""
        await self._watcher.start()
        if self.config.live_prices:
            self._loops.start([("prices", self._looks.step, LOOK_S)])
        self._chains = {name: self._make_chain(network) for name, network in self.config.networks.items()}
        self._egress = Egress(allow_private_addresses=self.config.webhooks.allow_private_addresses)
        self._deliver = Deliver(
            self.db,
            self._clock,
            self._entropy,
            self._egress,
            signing_key=self._webhook_key,
            schedule_s=self.config.webhooks.retry_schedule_s,
            disable_after_s=self.config.webhooks.disable_after_s,
            leases=self._leases,
        )
        house = Fenced(self.db, self._leases, HOUSEKEEPING)
        self._anchoring = Anchoring(house, *self._parts[1:], key=self._webhook_key, egress=self._egress)
        if self._child is not None:
            await self._child.start()
        self._beginning = asyncio.create_task(self._begin(self._deliver), name="begin")
        await asyncio.wait([self._beginning], timeout=BEGIN_MAX_S)

    def _make_chain(self, network: Network) -> Chain:
        watcher = self._watcher.watch_rpc(network.name, len(network.rpc_urls))
        agreement = network.needs_agreement
        rpc = JsonRpc(
            network.rpc_urls, self._transport, chain_id=network.chain_id, agreement=agreement, watcher=watcher
        )
        self._watcher.add_rpc(network.name, rpc)
        finality = Finality(blocks=network.finality.blocks, tag=network.finality.tag)
        return EvmChain(rpc, finality, fee_model=network.fee_model, data_fee=network.data_fee)

    async def _begin(self, deliver: Deliver) -> None:
        """Recover, or wait for the worker that does; then open the door and start the loops."""
        if self.role is Role.API:
            await _until_done("catching_up", self._has_caught_up)
            await self._looks.wait_for_first()
            self._is_open = True
            return
        self._leases.want(HOUSEKEEPING)
        self._loops.start([("leases", self._leases.step, RENEW_S)])
        await _until_done("recovering", self._may_begin)
        await _until_done("checking_audit_log", self._check_log)
        await self._looks.wait_for_first()
        self._is_open = True
        house = self._leases.alone(HOUSEKEEPING, self._housekeeping())
        sending, watching = self._lane_loops()
        telling = self._telling()
        await _until_done("leasing", self._lease)
        batches = self._leases.alone(HOUSEKEEPING, self._batches())
        self._loops.start([*watching, ("housekeeping", house, HOUSEKEEPING_S), *telling])
        self._loops.start([("batches", batches, HOUSEKEEPING_S)], are_woken=True)
        self._loops.start([*sending, ("deliver", deliver.step, self._idle_s)], are_woken=True)
        if self._listen_url:
            self._listening = asyncio.create_task(listen(self._listen_url, self._loops.wake), name="listen")

    async def _check_log(self) -> bool:
        """Check what is new in the audit log before the door opens, in the process that keeps house."""
        if self._leases.fence(HOUSEKEEPING) is not None:
            await self._anchor().step()
        return True

    def _anchor(self) -> Anchoring:
        if self._anchoring is None:
            raise Unavailable("the server is starting")
        return self._anchoring

    async def _lease(self) -> bool:
        await self._leases.step()
        return True

    async def _may_begin(self) -> bool:
        """Recover, or tell whether whoever has the housekeeping has done so."""
        if await self._leases.take(HOUSEKEEPING) is None:
            return await self._has_caught_up()
        return await self._recover()

    def _housekeeping(self) -> Callable[[], Awaitable[bool]]:
        """Return the step of what one process at a time does."""
        db = Fenced(self.db, self._leases, HOUSEKEEPING)
        expire = Expire(db, self._clock, self._entropy, self.config)
        capacity = Capacity(db, self._clock, self._entropy, self.config)
        prices = self._prices.find
        refill = Refill(db, self._clock, self._entropy, self.config, prices)
        recurring = Recurring(db, self._clock, self._entropy, self.config, prices)
        reconcile = Reconcile(db, *self._parts[1:], self._chains, self._signer)
        anchoring = self._anchor()

        delays, alarms = Delays(db, *self._parts[1:]), PriceAlarms(db, *self._parts[1:], self._prices)
        paying = (expire.step, capacity.step, refill.step, recurring.step)
        steps = (*paying, reconcile.step, delays.step, alarms.step, anchoring.step)

        async def step() -> bool:
            if self._recovered != self._leases.fence(HOUSEKEEPING):
                # Taken over: what the process before did not finish is gone over again.
                await self._recover()
            moved, failed = False, None
            for each in steps:
                try:
                    moved = await each() or moved
                except Exception as error:
                    failed = failed or error  # what fails stops none of the others
            if failed is not None:
                raise failed
            return moved

        return step

    def _batches(self) -> Callable[[], Awaitable[bool]]:
        """Return the step that admits the rows of files; not before what was lost is here again."""
        house = Fenced(self.db, self._leases, HOUSEKEEPING)
        batches = AdmitBatches(house, *self._parts[1:], self._prices.find)

        async def step() -> bool:
            return self._recovered == self._leases.fence(HOUSEKEEPING) and await batches.step()

        return step

    @property
    def _parts(self) -> tuple[Database, SystemClock, SystemEntropy, Config]:
        return self.db, self._clock, self._entropy, self.config

    def _lane_loops(self) -> tuple[list[Loop], list[Loop]]:
        """Return loops that send and loops that watch, of each network its own: a dead one delays no other."""
        watch = Watch(self.db, self._signer)
        sends: list[Loop] = []
        looks: list[Loop] = [("watch", watch.step, WATCH_S)]
        for name in self._chains:
            only = (name,)
            send = Send(*self._parts, self._chains, self._signer, watch, holder=self._leases.holder, networks=only)
            self._leases.keep_lanes(send.serving)
            route = Routing(*self._parts, networks=only)
            sends.append((f"route {name}", route.step, self._idle_s))
            sends.append((f"send {name}", send.step, self._idle_s))
            # One process looks at a network; what two of them saw would be kept once, and asked for twice.
            watching = f"watch/{name}"
            self._leases.want(watching)
            parts = (Fenced(self.db, self._leases, watching), *self._parts[1:])
            confirm = Confirm(*parts, self._chains, networks=only)
            balance = Balance(*parts, self._chains, networks=only, compared=self._watcher.compared)
            look = self._leases.alone(watching, _both(confirm.step, balance.step))
            looks.append((f"confirm {name}", look, self.config.sending.poll_s))
        return sends, looks

    def _telling(self) -> list[Loop]:
        """Return the loops that tell people what happened, where the settings name a way to them."""
        if not self.config.notify.is_on or self._egress is None:
            return []
        self._leases.want(NOTIFY)
        parts = (Fenced(self.db, self._leases, NOTIFY), self._clock, self.config)
        steps = {"notify": Collect(*parts).step}
        for name, channel in channels(self.config, self._egress, self.layout.read_secret).items():
            steps[f"notify {name}"] = Courier(*parts, name, channel).step
        return [(name, self._leases.alone(NOTIFY, step), HOUSEKEEPING_S) for name, step in steps.items()]

    async def _recover(self) -> bool:
        fence = self._leases.fence(HOUSEKEEPING)
        db = Fenced(self.db, self._leases, HOUSEKEEPING)
        parts = (db, self._signer, self.config, self._clock, self._entropy)
        await Recover(*parts, keep_token=self._keep_token).run()
        await _check_root(self.db, self._signer)
        self._recovered = fence
        return True

    def _keep_token(self, user_id: str, claims: dict[str, Any]) -> None:
        """Write a service account's new token, in the place of the one that was lost with the database, to a file."""
        folder = self.layout.secrets / "tokens"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{user_id}.token"
        path.unlink(missing_ok=True)
        write_secret(path, SealingKeys.load(self.layout.sealing_keys, self._entropy).sign_token(claims).encode())
        log.warning("token_replaced", user=user_id, file=str(path))

    async def _has_caught_up(self) -> bool:
        """Tell whether a worker has put into the database all that the signer's journal held when this first asked."""
        status = await _check_root(self.db, self._signer)
        self._target = status.sequence if self._target is None else self._target
        journal_id, after = await self.db.read(stops.mark)
        unknown = await self._signer.slots(after=after if journal_id == status.journal_id else 0, limit=1)
        return not unknown or unknown[0].attempts[0].sequence > self._target

    async def stop(self) -> None:
        """End what ``start`` started, then close everything."""
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.gather(self._beginning, return_exceptions=True)
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._loops.stop()
        await self._watcher.stop()
        await self._anchor_last()
        if self._deliver is not None:
            await self._deliver.stop()
        await self._give_back()
        await self._transport.close()
        await self._signer.close()
        if self._child is not None:
            await self._child.stop()
        self.db.close()
        os.close(self._lock)

    async def _anchor_last(self) -> None:
        """Keep the newest hash of the audit log in its second place, in the process that keeps house."""
        try:
            if self._anchoring is not None and self._leases.fence(HOUSEKEEPING) is not None:
                await self._anchoring.anchor()
        except OutlayError as error:
            log.warning("anchor_failed", place="any", message=error.message)

    async def _give_back(self) -> None:
        """Release what is leased, so that other processes go on at once; if that fails, it runs out."""
        try:
            await self._leases.release()
        except OutlayError as error:
            log.warning("leases_not_released", message=error.message)


def _lock(layout: Layout, role: Role) -> tuple[int, bool]:
    """Keep others out of the directory as far as the role needs.

    Returns:
        The descriptor that holds the lock, and whether this process is the only one on the data directory now.

    Raises:
        Unavailable: another process is there that does not bear this one.
    """
    if not layout.data.is_dir():
        raise InvalidInput(_NOTHING.format(root=layout.root), field="dir")
    alone = locks.take(layout.serve_lock)
    if alone is not None:
        return alone, True
    shared = None if role is Role.SERVE else locks.take(layout.serve_lock, shared=True, patience_s=LOCK_PATIENCE_S)
    if shared is None:
        raise Unavailable(
            f"another server is running on {layout.data}: serve runs alone; api and worker run beside each other"
        )
    return shared, False


def _prepare(layout: Layout, config: Config, role: Role, *, is_alone: bool) -> Path | str:
    """Return where the database is, once it has the tables this program needs.

    One that was lost, or has none, is made anew from what the signer knows.

    Raises:
        InvalidInput: no deployment there. Unavailable: it has to be upgraded first, or is not durable.
    """
    where = layout.database_of(config)
    is_there = postgresql.has_tables(where) if isinstance(where, str) else where.exists()
    if not is_there and (role is Role.API or not layout.journal.exists()):
        raise InvalidInput(_NOTHING.format(root=layout.root), field="dir")
    if isinstance(where, str):
        postgresql.check_server(where)
    # On a server others may be at work whom this process cannot see: upgrading is for people to begin.
    if not is_there or (is_alone and not isinstance(where, str)):
        upgrade(where)
    require_fitting(where)
    return where


def _webhook_key(layout: Layout) -> Ed25519PrivateKey:
    key = load_pem_private_key(layout.webhook_key.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{layout.webhook_key} is not an Ed25519 key", field="webhook_key")
    return key


async def _check_root(db: Database, signer: SignerClient) -> SignerStatus:
    """Return the signer's status.

    Raises:
        InvariantBroken: it is pinned to another organization than the database's.
    """
    status = await signer.status()
    root = await db.read(lambda unit: organizations.get(unit).root)
    if status.root != root:
        raise InvariantBroken(
            f"the signer's journal is pinned to root {status.root}, the database says {root}: one of them was replaced"
        )
    return status


async def _until_done(name: str, step: Callable[[], Awaitable[bool]]) -> None:
    """Repeat a step until it tells that it is done; what fails is said once a time it changes."""
    wait_s, said = WAIT_S, ""
    while True:
        try:
            if await step():
                return
            problem = "not yet"
        except OutlayError as error:
            problem = error.message
        except Exception as error:
            # Nothing is written and nothing is sent before this is through; it is tried again like the rest.
            log.error("start_failed", step=name, exc_info=error)
            problem = repr(error)
        if problem != said:
            log.warning("start_waits", step=name, problem=problem)
            said = problem
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, WAIT_MAX_S)


def _both(first: Callable[[], Awaitable[bool]], second: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    async def step() -> bool:
        moved = await first()
        return await second() or moved

    return step
