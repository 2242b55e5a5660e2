"""Proofs of payouts: honest ones from a whole organization, and what somebody who owns its server could put together.

The hostile server may do all but sign for people: it makes any challenge, keeps any row, and uses the wallet's key.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from outlay.actions import organization, people, sending
from outlay.actions.export import export_payout
from outlay.actions.sending import SignedBytes
from outlay.codec.evm import Eip1559, erc20_transfer, tx_hash
from outlay.config import parse
from outlay.core.policy import required_groups
from outlay.core.policy_document import read_policy
from outlay.evidence.assertion import Assertion
from outlay.evidence.canonical import canonical, digest, payload_digest
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.demand import order, portable
from outlay.evidence.history import verify_history
from outlay.evidence.payout import verify_payout
from outlay.evidence.report import Report
from outlay.signer.keys import SigningKey
from outlay.store import evidence, lanes, organizations
from tests.actions.world import ALICE, Actor, World

KEY, OTHER_KEY = SigningKey(b"\x07" * 32), SigningKey(b"\x08" * 32)
Document = dict[str, Any]


class Stage:
    """An organization with a wallet whose key is here."""

    def __init__(self, folder: Path, *, seed: int = 1, world: World | None = None) -> None:
        """Found it, with a payouts bot and two people."""
        self.world = world or World(folder, seed=seed)
        self.bot = self.world.service_account("payouts bot")
        self.one, self.two = (self.world.person(f"approver.{name}@example.com") for name in ("one", "two"))
        self.wallet = self.world.wallet("payouts", key=KEY)

    # What an honest server does

    def pay(self, dollars: int, *approvers: Actor, **named: Any) -> str:
        """Request a payout, have it approved and signed, and return its id."""
        paid: str = self.world.pay(self.bot, self.wallet, dollars, **named)["id"]
        for approver in approvers:
            self.world.decide(approver, paid, reason="checked")
        self.sign(paid)
        return paid

    def sign(self, transfer_id: str) -> None:
        """Bind a payout and sign its transaction."""
        world = self.world
        assert world.bind(transfer_id) == "assigned"
        row = world.row(transfer_id)
        with world.unit() as unit:
            bound = lanes.find_transaction(unit, row.transaction_id)
        assert bound is not None
        raw = signed_bytes(row.intent, nonce=bound.nonce)
        fence = world.lease(row.wallet_id)
        with world.work() as work:
            signed = SignedBytes(attempt_id=row.transaction_id, raw=raw, hash=tx_hash(raw), sequence=1)
            sending.store_signed(work, row.wallet_id, fence, [signed], journal_id="journal")

    def export(self, transfer_id: str) -> bytes:
        """Return the proof as the server gives it out."""
        with self.world.unit() as unit:
            return export_payout(unit, transfer_id)

    def proof(self, transfer_id: str) -> Document:
        """Return the proof, read."""
        document: Document = json.loads(self.export(transfer_id))
        return document

    def verify(self, document: Document) -> Report:
        """Check a document with this organization's root."""
        return verify_payout(canonical(document), self.world.root)

    def remove(self, actor: Actor) -> None:
        """Remove a person."""
        self.world.call(
            self.world.admin,
            "DELETE",
            f"/auth/users/{actor.user_id}",
            {},
            "Auth:Users:Delete",
            lambda act: people.delete(act, actor.user_id, service_account=False),
        )

    def switch_off(self, actor: Actor) -> None:
        """Deactivate a service account."""
        self.world.call(
            self.world.admin,
            "PUT",
            f"/auth/service-accounts/{actor.user_id}/deactivate",
            {},
            "Auth:ServiceAccounts:Deactivate",
            lambda act: people.deactivate(act, actor.user_id, service_account=True),
        )

    def unpermitted(self, email: str) -> Actor:
        """Return a person who registered and is permitted nothing."""
        with mock.patch.object(self.world, "permit"):
            return self.world.person(email)

    def apply(self, settings: str) -> None:
        """Let the admin sign other money settings."""
        self.world.config = parse(settings)
        signed = self.world.config.money_settings()
        self.world.call(
            self.world.admin,
            "PUT",
            "/v1/config",
            {"moneySettings": signed},
            "Config:Apply",
            lambda act: organization.apply_config(act, settings=signed),
        )

    # What is stored

    def records(self) -> list[Document]:
        """Return the whole chain."""
        with self.world.unit() as unit:
            return list(organizations.read_records(unit))

    def head(self) -> str:
        """Return the hash of the newest record."""
        with self.world.unit() as unit:
            return str(organizations.get(unit).head)

    def stored(self, subject: str) -> Document:
        """Return stored evidence, as a proof holds it."""
        with self.world.unit() as unit:
            (document,) = evidence.of(unit, subject)
        return portable(document)

    # What a hostile server does

    def signed(self, actor: Actor, method: str, path: str, payload: Document, **changes: Any) -> Document:
        """Let somebody sign a call whose challenge the server made up."""
        now = self.world.clock.step(micros=1)
        preimage = Preimage(
            **{
                "org": self.world.org_id,
                "identity": actor.user_id,
                "credentials": (actor.credential_uuid,),
                "method": method,
                "path": path,
                "payload_digest": payload_digest(payload),
                "records_head": self.head(),
                "nonce": f"nonce-{now}",
                "issued": now,
                "expires": now + 1000,
                **changes,
            }
        )
        answer = actor.sign(action_challenge(preimage))
        return {
            "v": 1,
            "preimage": preimage.document(),
            "payload": payload,
            "assertion": Assertion.from_document(answer).document(),
        }

    def request(self, actor: Actor, units: int = 5_000_000, *, wallet: str | None = None, **changes: Any) -> Document:
        """Let somebody sign a request of native base units that no server judged."""
        payload = {"kind": "Native", "to": ALICE, "amount": str(units), "externalId": "made-up"}
        return self.signed(actor, "POST", f"/wallets/{wallet or self.wallet}/transfers", payload, **changes)

    def vote(
        self,
        actor: Actor,
        request: Document,
        *policies: str,
        value: str = "Approved",
        approval: str = "x",
        **changes: Any,
    ) -> Document:
        """Let somebody sign a decision about a request, over the groups of policies as they are now."""
        bound = {
            "intent_digest": digest(intent_of(request)),
            "groups_digest": digest(list(required_groups(self.policy(each) for each in policies))),
        }
        path = f"/v2/policy-approvals/{approval}/decisions"
        return self.signed(actor, "POST", path, {"value": value}, **{**bound, **changes})

    def policy(self, policy_id: str) -> Any:
        """Return a policy as the records have it."""
        known = verify_history(self.records(), self.world.root).policies[policy_id]
        return read_policy(known.document, id=policy_id, version=known.version)

    def compose(
        self, request: Document, decisions: Sequence[Document] = (), asked: Sequence[str] = (), **changes: Any
    ) -> Document:
        """Put a proof together: the records so far, and a transaction that pays what was requested."""
        records = self.records()
        numbers = {digest(record): at for at, record in enumerate(records)}
        newest = max(numbers[each["preimage"]["recordsHead"]] for each in (request, *decisions))
        return {
            "v": 1,
            "records": records[: newest + 1],
            "payout": request,
            "asked": [{"policyId": each, "version": self.policy(each).version} for each in sorted(asked)],
            "decisions": sorted(decisions, key=order),
            "transaction": "0x" + signed_bytes(intent_of(request)).hex(),
            **changes,
        }


def intent_of(request: Document) -> Document:
    """Return the intent of a request of native coins, written out by hand."""
    payload, preimage = request["payload"], request["preimage"]
    return {
        "v": 1,
        "org": preimage["org"],
        "externalId": payload.get("externalId"),
        "initiator": preimage["identity"],
        "wallet": preimage["path"].split("/")[2],
        "network": "EthereumSepolia",
        "chainId": 31337,
        "asset": "native",
        "recipient": payload["to"],
        "amount": payload["amount"],
        "memo": "",
        "priority": "Standard",
    }


def signed_bytes(intent: Document, *, nonce: int = 0, key: SigningKey = KEY, **changes: Any) -> bytes:
    """Return the transaction that pays an intent, or something near it, signed."""
    amount, native = int(intent["amount"]), intent["asset"] == "native"
    transaction = Eip1559(
        **{
            "chain_id": intent["chainId"],
            "nonce": nonce,
            "max_priority_fee_per_gas": 1,
            "max_fee_per_gas": 100,
            "gas_limit": 100_000,
            "to": intent["recipient"] if native else intent["asset"],
            "value": amount if native else 0,
            "data": b"" if native else erc20_transfer(intent["recipient"], amount),
            **changes,
        }
    )
    return transaction.encode(key.sign(transaction.signing_hash()))
