"""An organization with everything that pays: the real engine and signer in this process, on a chain in memory.

Its database can be copied, put back as an older copy, or lost; the signer's journal can be lost too. Time and blocks
move only when told.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from coincurve import PublicKey as Point

from outlay.actions import lift, reseed, wallets
from outlay.actions.export import export_payout
from outlay.chains import Finality
from outlay.chains.evm import EvmChain
from outlay.chains.fake import FakeNetwork, FakeTransport
from outlay.chains.fake.ledger import Token
from outlay.chains.rpc import JsonRpc
from outlay.codec.signed import read_signed
from outlay.core.asset import NATIVE
from outlay.core.errors import ChainUnavailable, SignerUnavailable
from outlay.core.seams import SECOND
from outlay.engine.balance import Balance
from outlay.engine.confirm import Confirm
from outlay.engine.reconcile import Reconcile
from outlay.engine.recover import Recover, Recovered
from outlay.engine.route import Routing
from outlay.engine.send import Send
from outlay.engine.watch import Watch
from outlay.evidence.payout import verify_payout
from outlay.signer import Freeze, JournalSlot, PublicKey, Scope, Signed, SignerRefused, SignerStatus, SignRequest
from outlay.signer.core import SignerCore
from outlay.signer.journal import Journal
from outlay.signer.keystore import KdfParams, Keystore
from outlay.store import ledger, stops, transfers
from outlay.store import wallets as wallet_rows
from outlay.store.database import Database
from tests.actions.council import Council, ask, limit, written
from tests.actions.seams import empty_database, forget_durability
from tests.actions.world import NETWORK, SETTINGS, USDC, Actor
from tests.recovery.copies import copy_database

COINS, TOKENS = 10**19, 10**6 * 10**6
FINAL_AFTER = 3
RULES = (
    SETTINGS.replace('fee_cap = "100000000"', 'fee_cap = "10000000000000000"').replace(
        "finality = { blocks = 1 }", 'finality = { tag = "finalized" }'
    )
    + "\n[sending]\npoll_s = 1.0\nbump_after_s = 30\nbump_every_s = 30\nvoid_after_s = 100000\n"
)


class Inline:
    """The signer's core, asked directly; implements ``Signer``."""

    def __init__(self, core: SignerCore) -> None:
        self.core = core
        self.is_gone = False

    async def create_key(self, wallet_id: str) -> PublicKey:
        return self.core.create_key(wallet_id)

    async def accept_records(self, documents: Sequence[str]) -> SignerStatus:
        return self.core.accept_records(documents)

    async def sign(self, requests: Sequence[SignRequest]) -> list[Signed | SignerRefused]:
        if self.is_gone:
            raise SignerUnavailable("the signer does not answer")
        return self.core.sign(requests)

    async def journaled(self, wallet_id: str, fence: int, transfer_ids: Sequence[str]) -> frozenset[str]:
        return self.core.journaled(wallet_id, fence, transfer_ids)

    async def slots(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        return self.core.slots(after=after, limit=limit)

    async def touched(self, *, after: int = 0, limit: int = 100) -> list[JournalSlot]:
        return self.core.touched(after=after, limit=limit)

    async def records(self, *, after: int = -1, limit: int = 100) -> list[str]:
        return self.core.records(after=after, limit=limit)

    async def freeze(self, scope: Scope, subject: str, reason: str) -> Freeze:
        return self.core.freeze(scope, subject, reason)

    async def status(self) -> SignerStatus:
        return self.core.status()


class Mute(EvmChain):
    """The chain; sends get no answer while it is mute, and reach no node."""

    is_mute = False

    async def send_raw(self, raws: Sequence[bytes]) -> Any:
        if self.is_mute:
            raise ChainUnavailable("no endpoint answers")
        return await super().send_raw(raws)


class Drill(Council):
    """The organization, its signer, its chain, and its engine, run by hand."""

    def __init__(self, folder: Path, *, seed: int = 1) -> None:
        self.folder, self._lives = folder, 0
        self.signer: Inline | None = None
        self.known: dict[str, Actor] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.paid: dict[str, dict[str, Any]] = {}  #: each request that was made, by externalId
        reader = partial(read_signed, recover=_recover)
        self.network = FakeNetwork(chain_id=31337, coins={}, read=reader)
        self.network.safe_after, self.network.final_after = 1, FINAL_AFTER
        self.token = self.network.contracts.add(Token(address=USDC))
        super().__init__(folder, guarded=False, settings=RULES, seed=seed)
        self.replace(self.cap, self.asks(100))
        transport = FakeTransport(self.network)
        self.chain = Mute(JsonRpc(self.network.urls, transport, chain_id=31337), Finality(tag="finalized"))
        self.start()
        self.run_rounds(2 * FINAL_AFTER)

    def asks(self, dollars: int) -> dict[str, Any]:
        """Return a policy that asks one of three people above ``dollars``."""
        return written("Wallets:Sign", limit(dollars), ask(*self.approvers), walletTags={"hasAny": ["payouts"]})

    # --- parts ------------------------------------------------------------------------------------------------------

    def wallet(self, *tags: str, dollars: int = 10**9, key: Any = None) -> str:
        """Create a wallet with a key of the signer, and give it coins and tokens on the chain, if any."""
        if self.signer is None:
            self._open_signer(new=True)
        assert self.signer is not None and key is None
        wallet_id = wallets.new_wallet_id(self.entropy)
        made = self.signer.core.create_key(wallet_id)
        payload = {"network": NETWORK, **({"tags": list(tags)} if tags else {})}
        self.call(
            self.admin,
            "POST",
            "/wallets",
            payload,
            "Wallets:Create",
            lambda act: wallets.create(
                act,
                wallet_id=wallet_id,
                network=NETWORK,
                key_id=made.key_id,
                address=made.address,
                public_key=made.public_key_hex,
                name=None,
                external_id=None,
                tags=tags,
            ),
        )
        if dollars:
            self.give(made.address, COINS, TOKENS)
        return wallet_id

    def give(self, address: str, coins: int, tokens: int) -> None:
        """Let a wallet have base units of both, with the next block."""
        self.network.give(address, coins)
        self.network.give(address, tokens, self.token)

    def _open_signer(self, *, new: bool, seeded: bool = True) -> None:
        path = self.folder / "journal.db"
        if new and seeded:
            params = KdfParams(memory_kib=8, time=1)
            self.keys = Keystore.create(self.folder / "keys.json", b"passphrase", self.entropy, params=params)
        if new:
            name = self.entropy.token(16).hex()
            Journal.create(path, root=self.root, keystore_id=self.keys.id, journal_id=name, seeded=seeded).close()
        self.journal = Journal.open(path, root=self.root, keystore_id=self.keys.id)
        core = SignerCore(self.keys, self.journal, settings=self.config.signer, clock=self.clock)
        self.signer = Inline(core)

    def start(self) -> None:
        """Start an engine, as a new process would."""
        assert self.signer is not None
        self._lives += 1
        parts = (self.db, self.clock, self.entropy, self.config)
        chains = {NETWORK: self.chain}
        self.watch = Watch(self.db, self.signer)
        self.sender = Send(*parts, chains, self.signer, self.watch, holder=f"worker-{self._lives}")
        self.router = Routing(*parts)
        self.follower, self.comparer = Confirm(*parts, chains), Balance(*parts, chains)
        self.compared = Reconcile(self.db, self.clock, self.entropy, self.config, chains, self.signer)

    def recover(self) -> Recovered:
        """Recover, as a process does before it serves; then start its engine."""
        assert self.signer is not None
        found: Recovered = run(
            Recover(
                self.db, self.signer, self.config, self.clock, self.entropy, keep_token=self.tokens.__setitem__
            ).run()
        )
        self.start()
        status = self.signer.core.status()
        if status.seeded:
            with self.unit() as unit:
                assert stops.mark(unit) == (status.journal_id, status.sequence)
            if not self.frozen():
                self.check_slots()
        return found

    # --- time -------------------------------------------------------------------------------------------------------

    def run_rounds(self, rounds: int, *, seconds: float = 2, mine: bool = True, empty: bool = False) -> None:
        """Let time pass: the engine steps, a block is made (with nothing in it, if told so), and the engine looks."""

        async def round_() -> None:
            await self.watch.step()
            while await self.router.step() or await self.sender.step():
                self.clock.step(micros=1)
            if mine:
                self.network.mine(only=() if empty else None)
            await self.follower.step()
            await self.comparer.step()

        for _ in range(rounds):
            self.clock.step(micros=int(seconds * SECOND))
            run(round_())

    def run_until(self, done: Callable[[], bool], *, most: int = 60) -> None:
        """Let time pass until something is so."""
        for _ in range(most):
            if done():
                return
            self.run_rounds(1)
        raise AssertionError(f"not within {most} rounds: {self.states()}; frozen: {self.frozen()}")

    # --- payouts ----------------------------------------------------------------------------------------------------

    def pay(self, by: Actor, wallet_id: str, dollars: int, **options: Any) -> dict[str, Any]:
        answer = super().pay(by, wallet_id, dollars, **options)
        self.paid[answer["externalId"]] = {
            "by": by.user_id,
            "wallet": wallet_id,
            "dollars": dollars,
            "options": {**options, "external_id": answer["externalId"]},
        }
        return answer

    def pay_all_again(self, actors: dict[str, Actor]) -> dict[str, str]:
        """Post every request again; return the transfers by externalId."""
        found = {}
        for external_id, each in list(self.paid.items()):
            again = super().pay(actors[each["by"]], each["wallet"], each["dollars"], **each["options"])
            found[external_id] = again["id"]
        return found

    def vote_on(self, external_id: str, by: Actor) -> None:
        self.decide(by, self.id_of(external_id))

    def attempts(self) -> int:
        """Return how many transactions the signer has signed."""
        assert self.signer is not None
        return sum(len(slot.attempts) for slot in self.signer.core.slots(limit=1000))

    def id_of(self, external_id: str) -> str:
        with self.unit() as unit:
            row = transfers.find_by_external_id(unit, external_id)
        assert row is not None, external_id
        return str(row.id)

    def lift(self, freeze: Freeze) -> None:
        """Have the admin lift a freeze of the signer."""
        self.run_rounds(1)
        payload = {"scope": freeze.scope.value, "subject": freeze.subject, "reason": "the drill is over"}
        self.call(
            self.admin,
            "PUT",
            f"/v1/freezes/{freeze.id}/lift",
            payload,
            "Outlay:Unfreeze",
            lambda act: lift.lift(act, freeze.id, **payload),
        )

    def person(self, email: str, *, vouched: bool = True, permitted: bool = True) -> Actor:
        made = super().person(email, vouched=vouched, permitted=permitted)
        self.known[email] = made
        return made

    def verify_proofs(self) -> None:
        """Every payout that was paid can be proved offline, whatever became of the tables meanwhile."""
        for external_id in self.paid:
            transfer_id = self.id_of(external_id)
            with self.unit() as unit:
                proof = export_payout(unit, transfer_id)
            verify_payout(proof, self.root)

    def states(self) -> dict[str, str]:
        with self.unit() as unit:
            rows = unit.execute(sa.text("SELECT external_id, state, waiting_reason FROM transfer"))
            return {row[0]: row[1] if row[2] is None else f"{row[1]}: {row[2]}" for row in rows}

    def frozen(self) -> list[str]:
        with self.unit() as unit:
            return [row.frozen_reason for row in wallet_rows.everything(unit) if row.frozen_reason]

    def state_named(self, external_id: str) -> str:
        with self.unit() as unit:
            row = transfers.find_by_external_id(unit, external_id)
        return "none" if row is None else str(row.state)

    def all_confirmed(self) -> bool:
        return all(self.state_named(each) == "confirmed" for each in self.paid)

    # --- loss -------------------------------------------------------------------------------------------------------

    def copy(self, name: str = "copy.db") -> None:
        copy_database(self.db.path, self.folder / name)

    def put_back(self, name: str = "copy.db") -> None:
        """Stop everything and put an older copy of the database in its place."""
        self._swap(lambda path: copy_database(self.folder / name, path))

    def lose_database(self) -> None:
        """Stop everything and lose the database."""
        self._swap(lambda path: path.write_bytes(empty_database()))

    def _swap(self, put: Callable[[Path], object]) -> None:
        path = self.db.path
        self.db.close()
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        put(path)
        self.db = Database(path)
        sa.event.listen(self.db.engine, "connect", forget_durability)

    def put_back_journal(self, name: str) -> None:
        """Put an older copy of the journal in the place of the newest."""
        self.journal.close()
        copy_database(self.folder / name, self.folder / "journal.db")
        self._open_signer(new=False)

    def lose_journal(self) -> None:
        """Lose the signer's journal; a new one stands in its place, which knows nothing."""
        self.journal.close()
        for suffix in ("", "-wal", "-shm"):
            (self.folder / f"journal.db{suffix}").unlink(missing_ok=True)
        self._open_signer(new=True, seeded=False)

    def close(self) -> None:
        super().close()
        self.journal.close()

    def reseed(self) -> dict[str, Any]:
        """Ask for the new journal to be put in place, as the signer and the chain say; return the answer."""
        state = run(self.compared.signer_state())
        payload = {"journalId": state["journalId"], "minNonces": state["minNonces"], "reason": "the disk was lost"}
        answer: dict[str, Any] = self.call(
            self.admin,
            "PUT",
            "/v1/signer/reseed",
            payload,
            "Signer:Reseed",
            lambda act: reseed.reseed(
                act, journal_id=payload["journalId"], min_nonces=payload["minNonces"], reason=payload["reason"]
            ),
        )
        return answer

    # --- what must hold ---------------------------------------------------------------------------------------------

    def received(self, address: str) -> int:
        """Return what somebody got in tokens, final or not."""
        return self.network.head.state.tokens.get((USDC, address.lower()), 0)

    def check_slots(self) -> None:
        """Whatever the signer signed is stored, in the slot and for the transfer it was signed for."""
        assert self.signer is not None
        with self.unit() as unit:
            rows = unit.execute(
                sa.text(
                    "SELECT t.wallet_id, t.nonce, t.transfer_id, a.number, a.purpose, a.hash, a.raw FROM attempt a"
                    ' JOIN "transaction" t ON t.id = a.transaction_id WHERE a.raw IS NOT NULL'
                )
            )
            stored = {tuple(row) for row in rows}
        for slot in self.signer.core.slots(limit=1000):
            for number, each in enumerate(slot.attempts, start=1):
                place = (slot.wallet_id, slot.nonce, slot.transfer_id, number)
                assert (*place, each.purpose.value, each.hash, each.raw.hex()) in stored, place

    def check_books(self) -> None:
        """The ledger sums up, equals the chain, and so does the journal."""
        with self.unit() as unit:
            ledger.check(unit)
        found = run(self.compared.reconcile())
        assert found["agrees"], [each["findings"] for each in found["wallets"]]
        for each in found["wallets"]:
            for line in each["assets"]:
                assert line["verdict"] == "equal", (each["walletId"], line)
                assert line["ledger"] == line["chain"]

    def held(self, wallet_id: str, asset: str = NATIVE) -> int:
        with self.unit() as unit:
            return ledger.holdings(unit, wallet_id=wallet_id, asset=asset).total


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run engine code to its end."""
    return asyncio.run(work)


def _recover(digest: bytes, signature: bytes) -> bytes:
    return Point.from_signature_and_message(signature, digest, hasher=None).format(compressed=False)
