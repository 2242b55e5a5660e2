"""An organization whose database anybody may edit, and the signer that has to see through it.

The organization is real (``tests.actions.world``): signed calls, carried out by the real actions. The signer is the
real core on a real journal file; it is asked as the engine asks it, with what the rows say: ``demand_of`` and the
records as they are stored.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from outlay.actions import wallets
from outlay.actions.demand import demand_of
from outlay.codec.signed import read_signed
from outlay.core.asset import NATIVE
from outlay.settings import SignerCap, SignerSettings
from outlay.signer import Demand, Purpose, Signed, SignerRefused, SignRequest, Why
from outlay.signer.core import SignerCore
from outlay.signer.journal import Journal
from outlay.signer.keystore import Keystore
from outlay.store import organizations, transfers
from tests.actions.world import DOLLAR, NETWORK, SETTINGS, USDC, World

MASTER = bytes(range(64))
FEE_CAP = 10**8
GAS = 60_000
DAY_S = 86400


def usdc_cap(**limits: Any) -> SignerCap:
    """Return a limit of the signer's own on USDC, in base units."""
    return SignerCap(network=NETWORK, asset=USDC, window_s=DAY_S, **limits)


class Bank:
    """The organization and its signer."""

    def __init__(
        self,
        folder: Path,
        *,
        caps: Sequence[SignerCap] = (),
        settings: str = SETTINGS,
        preset: str = "none",
        seed: int = 1,
        max_age_s: int = 7 * DAY_S,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.world = World(folder, settings=settings, preset=preset, seed=seed)
        self.path = folder / "journal.db"
        self.keys = Keystore(f"keystore {seed}", MASTER)
        self.settings = SignerSettings(caps=tuple(caps), request_max_age_s=max_age_s)
        self.journal = Journal.create(
            self.path, root=self.world.root, keystore_id=self.keys.id, journal_id=f"journal {seed}"
        )
        self.core = self._core()
        self._nonces: dict[str, int] = {}

    def _core(self) -> SignerCore:
        return SignerCore(self.keys, self.journal, settings=self.settings, clock=self.world.clock)

    def restart(self) -> None:
        """Let the signer forget everything but its files."""
        self.journal.close()
        self.journal = Journal.open(self.path, keystore_id=self.keys.id)
        self.core = self._core()

    def lose_journal(self, *, journal_id: str = "the new journal") -> None:
        """Put an empty journal in the place of one that was lost."""
        self.journal.close()
        for file in self.path.parent.glob("journal.db*"):
            file.unlink()
        self.journal = Journal.create(
            self.path, root=self.world.root, keystore_id=self.keys.id, journal_id=journal_id, seeded=False
        )
        self.core = self._core()
        self.push()

    def close(self) -> None:
        """Close both files."""
        self.journal.close()
        self.world.close()

    def wallet(self, *tags: str, network: str = NETWORK) -> str:
        """Create a funded wallet around a key of the signer's."""
        world = self.world
        wallet_id = wallets.new_wallet_id(world.entropy)
        key = self.core.create_key(wallet_id)
        payload: dict[str, Any] = {"network": network, **({"tags": list(tags)} if tags else {})}
        world.call(
            world.admin,
            "POST",
            "/wallets",
            payload,
            "Wallets:Create",
            lambda act: wallets.create(
                act,
                wallet_id=wallet_id,
                network=network,
                key_id=key.key_id,
                address=key.address,
                public_key=key.public_key_hex,
                name=None,
                external_id=None,
                tags=tags,
            ),
        )
        world.fund(wallet_id, USDC, 10**9 * DOLLAR)
        world.fund(wallet_id, NATIVE, 10**21)
        return wallet_id

    # --- what the engine does -------------------------------------------------------------------------------------

    def push(self) -> None:
        """Send the records that the signer lacks."""
        after = self.core.status().record_seq
        with self.world.unit() as unit:
            texts = organizations.record_texts(unit, after=after, limit=10_000)
        self.core.accept_records(texts)

    def demand(self, transfer_id: str) -> Demand:
        """Return what the rows say justifies a payout."""
        with self.world.unit() as unit:
            return Demand(**demand_of(unit, transfers.get(unit, transfer_id)))

    def request(self, transfer_id: str, /, **changes: Any) -> SignRequest:
        """Return what the engine asks for: the next nonce of the wallet in the row, and some fees."""
        row = self.world.row(transfer_id)
        wallet_id = changes.get("wallet_id", row.wallet_id)
        members: dict[str, Any] = {
            "wallet_id": wallet_id,
            "nonce": self._nonces.get(wallet_id, 0),
            "fence": 1,
            "gas_limit": GAS,
            "max_fee_per_gas": 100,
            "max_priority_fee_per_gas": 10,
            "fee_cap": FEE_CAP,
            "transfer_id": transfer_id,
            **changes,
        }
        if "demand" not in changes:
            members["demand"] = self.demand(transfer_id)
        return SignRequest(**members)

    def ask(self, transfer_id: str, /, **changes: Any) -> Signed | SignerRefused:
        """Push the records, then ask for one payout by its row."""
        self.push()
        request = self.request(transfer_id, **changes)
        (answer,) = self.core.sign([request])
        if isinstance(answer, Signed):
            self._nonces[request.wallet_id] = max(self._nonces.get(request.wallet_id, 0), request.nonce + 1)
        return answer

    def sign(self, transfer_id: str, /, **changes: Any) -> Signed:
        """Ask for one payout that the signer signs."""
        answer = self.ask(transfer_id, **changes)
        assert isinstance(answer, Signed), answer
        return answer

    def refuse(self, transfer_id: str, why: Why, said: str = "", /, **changes: Any) -> SignerRefused:
        """Ask for one payout that the signer refuses for this reason, and leaves no trace of."""
        before = self.core.status().sequence
        answer = self.ask(transfer_id, **changes)
        assert isinstance(answer, SignerRefused), "this was signed"
        assert (answer.why, said in answer.message) == (why, True), answer
        assert self.core.status().sequence == before
        return answer

    def void(self, wallet_id: str, nonce: int, **changes: Any) -> Signed | SignerRefused:
        """Ask for a void."""
        members: dict[str, Any] = {
            "wallet_id": wallet_id,
            "nonce": nonce,
            "fence": 1,
            "gas_limit": 21_000,
            "max_fee_per_gas": 1000,
            "max_priority_fee_per_gas": 100,
            "fee_cap": FEE_CAP,
            "purpose": Purpose.VOID,
            **changes,
        }
        (answer,) = self.core.sign([SignRequest(**members)])
        return answer

    # --- what the attacker does -----------------------------------------------------------------------------------

    def sql(self, statement: str, **values: Any) -> None:
        """Run a statement on the server's database."""
        with self.world.unit() as unit:
            unit.execute(sa.text(statement), values)

    def edit_row(self, transfer_id: str, **columns: Any) -> None:
        """Set columns of a transfer."""
        names = ", ".join(f'"{name}" = :{name}' for name in columns)
        self.sql(f"UPDATE transfer SET {names} WHERE id = :transfer", transfer=transfer_id, **columns)

    def evidence(self, subject: str) -> dict[str, Any]:
        """Return the stored evidence of a transfer or decision."""
        with self.world.unit() as unit:
            text = unit.execute(
                sa.text("SELECT document FROM evidence WHERE subject = :s"), {"s": subject}
            ).scalar_one()
        document: dict[str, Any] = json.loads(text)
        return document

    def write_evidence(self, subject: str, document: dict[str, Any]) -> None:
        """Replace the stored evidence of a transfer or decision."""
        text = json.dumps(document, separators=(",", ":"), sort_keys=True)
        self.sql("UPDATE evidence SET document = :document WHERE subject = :subject", document=text, subject=subject)

    def records(self) -> list[dict[str, Any]]:
        """Return the stored records."""
        with self.world.unit() as unit:
            return list(organizations.read_records(unit))


def paid(answer: Signed | SignerRefused) -> tuple[str, int]:
    """Return whom a signed USDC payment pays, and how many base units."""
    assert isinstance(answer, Signed), answer
    transaction = read_signed(answer.raw).transaction
    assert transaction.to == USDC
    return "0x" + transaction.data[16:36].hex(), int.from_bytes(transaction.data[36:], "big")


def bumped(request: SignRequest, *, percent: int = 13) -> SignRequest:
    """Return the same request with both fees raised."""
    return replace(
        request,
        demand=None,
        max_fee_per_gas=-(-request.max_fee_per_gas * (100 + percent) // 100),
        max_priority_fee_per_gas=-(-request.max_priority_fee_per_gas * (100 + percent) // 100),
    )
