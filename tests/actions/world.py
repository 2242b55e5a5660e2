"""One organization inside the test: a real SQLite file, a clock that obeys, seeded randomness, real signatures.

No HTTP, no chain, no signer: every write is a signed call carried out by ``outlay.actions.act.perform``, and the
engine's units are called as the engine calls them. A whole world costs some milliseconds.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from outlay.actions import (
    credentials,
    finality,
    organization,
    pats,
    people,
    permissions,
    policies,
    pools,
    sending,
    wallets,
    withdraw,
)
from outlay.actions import decide as decisions
from outlay.actions.act import TOKEN_LIFE, Act, SignedCall, authenticate
from outlay.actions.admit import Ask, request_transfer
from outlay.actions.finality import Final, Mined
from outlay.actions.perform import perform
from outlay.actions.sending import Candidate, SignedBytes
from outlay.actions.signed_message import SignedMessage
from outlay.actions.work import Work, open_work
from outlay.config import Config, parse
from outlay.core.asset import NATIVE, Asset
from outlay.core.effect import Effect
from outlay.core.fees import Offer
from outlay.core.ledger import inflow
from outlay.core.operation import FULL_ADMIN
from outlay.core.price import Quote
from outlay.core.seams import HOUR
from outlay.engine.expire import Expire
from outlay.evidence.assertion import Assertion
from outlay.evidence.attestation import key_attestation
from outlay.evidence.challenge import (
    CredentialPreimage,
    action_challenge,
    credential_challenge,
    login_challenge,
    registration_challenge,
)
from outlay.evidence.keys import new_key_pair
from outlay.evidence.sign import sign_challenge
from outlay.signer.keys import SigningKey
from outlay.store import approvals, lanes, ledger, transfers, users
from outlay.store import permissions as permission_rows
from outlay.store.database import Database, Row, Unit
from outlay.store.schema import event
from tests import postgres
from tests.actions.documents import policy_document
from tests.actions.seams import FakeClock, SeededEntropy, empty_database, forget_durability
from tests.passkeys import Passkey

NETWORK = "EthereumSepolia"
USDC = "0x" + "11" * 20
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
"""Two recipients."""

DOLLAR = 10**6
"""Base units of USDC."""

OFFER = Offer(gas_limit=100_000, max_fee_per_gas=100, max_priority_fee_per_gas=1)
FEE_CAP = 10**8

SETTINGS = f"""
[networks.{NETWORK}]
chain_id = 31337
rpc_urls = ["http://127.0.0.1:1"]
finality = {{ blocks = 1 }}
native = {{ symbol = "ETH", decimals = 18 }}
fee_cap = "{FEE_CAP}"

[[assets]]
network = "{NETWORK}"
kind = "Erc20"
contract = "{USDC}"
symbol = "USDC"
decimals = 6

[policies]
default = "allow"

[prices.static]
ETH = "2000"
USDC = "1"
"""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person or machine with a key and a bearer token."""

    user_id: str
    username: str
    private_key: str
    credential_id: str
    credential_uuid: str
    claims: dict[str, Any]
    passkey: Passkey | None = None  #: signs in the place of the key, which there is none of then

    def sign(self, challenge: str) -> dict[str, Any]:
        """Return the ``firstFactor`` that answers a challenge."""
        if self.passkey is not None:
            return self.passkey.used(challenge)
        return sign_challenge(self.private_key, self.credential_id, challenge)


class World:
    """The organization, and what is done in it. ``World(folder)`` founds it with one admin and no policies."""

    def __init__(self, folder: Path, *, settings: str = SETTINGS, preset: str = "none", seed: int = 1) -> None:
        self._open, self._numbers = False, itertools.count(1)
        self.config: Config = parse(settings)
        self.clock, self.entropy = FakeClock(), SeededEntropy(seed)
        self.prices: dict[str, Decimal] = dict(self.config.prices)
        self._closing = ExitStack()
        where = self._closing.enter_context(postgres.database(folder / "outlay.db"))
        self.db = Database(where)
        if isinstance(where, Path):
            where.write_bytes(empty_database())
            sa.event.listen(self.db.engine, "connect", forget_durability)
        private, public = new_key_pair()
        with self.unit() as unit:
            founded = organization.found(
                unit,
                now=self.clock.now(),
                entropy=self.entropy,
                config=self.config,
                admin="admin",
                admin_public_key=public,
                preset=preset,
            )
            row = permission_rows.find_by_name(unit, FULL_ADMIN)
            assert row is not None
            self._full_access = row.id
        self.org_id, self.root = founded.org_id, founded.root
        self.admin = Actor(
            user_id=founded.user_id,
            username="admin",
            private_key=private,
            credential_id=founded.credential_id,
            credential_uuid=founded.credential_uuid,
            claims=founded.claims,
        )

    def close(self) -> None:
        self.db.close()
        self._closing.close()

    @contextmanager
    def unit(self) -> Iterator[Unit]:
        """One database unit: kept if the block ends well."""
        assert not self._open, "a unit within a unit would wait for itself"
        self._open = True
        try:
            with self.db.engine.begin() as unit:
                yield unit
        finally:
            self._open = False

    @contextmanager
    def work(self) -> Iterator[Work]:
        """One unit as engine steps use it."""
        with self.unit() as unit:
            yield open_work(unit, now=self.clock.now(), entropy=self.entropy, config=self.config)

    # --- signed calls ---------------------------------------------------------------------------------------------

    def sign(self, actor: Actor, method: str, path: str, payload: Any = None) -> SignedCall:
        """Open a user action and answer its challenge with the actor's key."""
        with self.unit() as unit:
            caller = authenticate(unit, actor.claims, now=self.clock.now())
            preimage = organization.open_action(
                unit,
                now=self.clock.now(),
                entropy=self.entropy,
                caller=caller,
                method=method,
                path=path,
                payload=payload,
            )
        answer = actor.sign(action_challenge(preimage))
        return SignedCall(
            preimage=preimage,
            assertion=Assertion.from_document(answer),
            credential_uuid=actor.credential_uuid,
            token_expires=self.clock.now() + TOKEN_LIFE,
        )

    def forge(self, bearer: Actor, signer: Actor, method: str, path: str, payload: Any) -> SignedCall:
        """Return a call of ``bearer`` really signed by ``signer``, over a challenge that whoever can seal made up."""
        call = self.sign(bearer, method, path, payload)
        preimage = replace(call.preimage, credentials=(signer.credential_uuid,))
        answer = signer.sign(action_challenge(preimage))
        return replace(
            call,
            preimage=preimage,
            assertion=Assertion.from_document(answer),
            credential_uuid=signer.credential_uuid,
        )

    def send(
        self,
        actor: Actor,
        call: SignedCall | SignedMessage,
        method: str,
        path: str,
        payload: Any,
        operation: str | None,
        action: Callable[[Act], Any],
    ) -> Any:
        """Use a signed call; a refusal by the action is raised once its nonce is kept as spent."""
        with self.unit() as unit:
            outcome = perform(
                unit,
                now=self.clock.now(),
                entropy=self.entropy,
                config=self.config,
                claims=actor.claims,
                call=call,
                method=method,
                path=path,
                payload=payload,
                operations=() if operation is None else (operation,),
                action=action,
            )
        if outcome.refusal is not None:
            raise outcome.refusal
        return outcome.result

    def call(
        self, actor: Actor, method: str, path: str, payload: Any, operation: str | None, action: Callable[[Act], Any]
    ) -> Any:
        """Sign and carry out one call."""
        return self.send(actor, self.sign(actor, method, path, payload), method, path, payload, operation, action)

    # --- people and machines --------------------------------------------------------------------------------------

    def invite(self, email: str, *, public_key: str | None = None) -> tuple[str, str]:
        """Invite a person; return the user id and the registration code."""
        payload = {"email": email, "kind": "CustomerEmployee"}
        if public_key is not None:
            payload["publicKey"] = public_key
        answer = self.call(
            self.admin,
            "POST",
            "/auth/users",
            payload,
            "Auth:Users:Create",
            lambda act: people.invite(act, email=email, public_key=public_key, external_id=None),
        )
        return answer["userId"], answer["registrationCode"]

    def person(self, email: str, *, vouched: bool = True, permitted: bool = True) -> Actor:
        """Invite, register, log in and permit a person; ``vouched`` if the invitation names the key."""
        private, public = new_key_pair()
        user_id, code = self.invite(email, public_key=public if vouched else None)
        with self.unit() as unit:
            preimage, _ = people.begin_registration(
                unit, now=self.clock.now(), entropy=self.entropy, org_id=None, username=email, code=code
            )
        info = key_attestation(private, registration_challenge(preimage))
        with self.unit() as unit:
            answer = people.register(
                unit,
                now=self.clock.now(),
                entropy=self.entropy,
                preimage=preimage,
                code=code,
                server=self.config.server,
                credential_kind="Key",
                credential_info=dict(info),
                credential_name=None,
            )
        known = Actor(
            user_id=user_id,
            username=email,
            private_key=private,
            credential_id=info["credId"],
            credential_uuid=answer["credential"]["uuid"],
            claims={},
        )
        if permitted:
            self.permit(known)
        return self.log_in(known)

    def log_in(self, actor: Actor) -> Actor:
        """Return the actor with a fresh bearer token."""
        with self.unit() as unit:
            preimage, _ = people.begin_login(
                unit, now=self.clock.now(), entropy=self.entropy, username=actor.username, org_id=None
            )
        answer = actor.sign(login_challenge(preimage))
        with self.unit() as unit:
            claims = people.log_in(
                unit,
                now=self.clock.now(),
                entropy=self.entropy,
                preimage=preimage,
                assertion=Assertion.from_document(answer),
                origins=self.config.server.origins,
            )
        return replace(actor, claims=claims)

    def second_key(self, actor: Actor) -> Actor:
        """Return the same person signing with another key."""
        private, _ = new_key_pair()
        preimage = self.begin_key(actor)
        info = key_attestation(private, credential_challenge(preimage))
        answer = self.add_key(actor, preimage, info)
        return replace(
            actor, private_key=private, credential_id=info["credId"], credential_uuid=answer["credentialUuid"]
        )

    def begin_key(self, actor: Actor) -> CredentialPreimage:
        """Ask for the challenge of a new key."""
        with self.unit() as unit:
            caller = authenticate(unit, actor.claims, now=self.clock.now())
            preimage, _ = credentials.begin(unit, now=self.clock.now(), entropy=self.entropy, caller=caller)
        return preimage

    def add_key(self, actor: Actor, preimage: CredentialPreimage, info: dict[str, Any]) -> Any:
        """Add an attested key."""
        payload = {"credentialKind": "Key", "credentialInfo": info, "challengeIdentifier": "sealed"}
        return self.call(
            actor,
            "POST",
            "/auth/credentials",
            payload,
            None,
            lambda act: credentials.create(act, preimage=preimage, kind="Key", info=info, name="second"),
        )

    def switch_key(self, actor: Actor, uuid: str, state: str) -> Any:
        """Activate, deactivate or delete one of the actor's own keys."""
        action = {
            "activate": credentials.activate,
            "deactivate": credentials.deactivate,
            "delete": credentials.delete,
        }[state]
        if state == "delete":
            return self.call(
                actor, "DELETE", f"/auth/credentials/{uuid}", {}, None, lambda act: credentials.delete(act, uuid)
            )
        path, payload = f"/auth/credentials/{state}", {"credentialUuid": uuid}
        return self.call(actor, "PUT", path, payload, None, lambda act: action(act, uuid))

    def personal_token(
        self,
        actor: Actor,
        *operations: str,
        seconds: int | None = None,
        public_key: str | None = None,
        permission_id: str | None = None,
    ) -> tuple[Actor, str]:
        """Make a personal access token, limited to a permission or to a new one with ``operations``, if any.

        Return it and its id.
        """
        private, public = new_key_pair() if public_key is None else ("", public_key)
        permission_id = self.permission(*operations) if operations else permission_id
        name = f"token {next(self._numbers)}"
        limits = {"permissionId": permission_id, "secondsValid": seconds}
        payload = {"name": name, "publicKey": public, **{key: each for key, each in limits.items() if each is not None}}
        answer, claims = self.call(
            actor,
            "POST",
            "/auth/pats",
            payload,
            "Auth:Pats:Create",
            lambda act: pats.create(
                act,
                name=name,
                public_key=public,
                permission_id=permission_id,
                days_valid=None,
                seconds_valid=seconds,
                external_id=None,
            ),
        )
        with self.unit() as unit:
            key = users.find_credential_by_name(unit, answer["credId"])
        assert key is not None
        made = replace(
            actor, private_key=private, credential_id=answer["credId"], credential_uuid=key.id, claims=claims
        )
        return made, str(answer["tokenId"])

    def switch_token(self, actor: Actor, token_id: str, state: str) -> Any:
        """Activate, deactivate or delete a personal access token of the actor's."""
        action = {"activate": pats.activate, "deactivate": pats.deactivate, "delete": pats.delete}[state]
        path = f"/auth/pats/{token_id}" + ("" if state == "delete" else f"/{state}")
        method = "DELETE" if state == "delete" else "PUT"
        return self.call(actor, method, path, {}, None, lambda act: action(act, token_id))

    def permission(self, *operations: str) -> str:
        """Create a permission with these operations and return its id."""
        name = f"permission {next(self._numbers)}"
        payload = {"name": name, "operations": list(operations)}
        made = self.call(
            self.admin,
            "POST",
            "/permissions",
            payload,
            "Permissions:Create",
            lambda act: permissions.create(act, name=name, operations=list(operations)),
        )
        return str(made["id"])

    def service_account(self, name: str, *, permission_id: str | None = None) -> Actor:
        """Create a machine that may do everything, or what a permission says."""
        private, public = new_key_pair()
        permission_id = permission_id or self._full_access
        payload = {"name": name, "publicKey": public, "permissionId": permission_id}
        answer, claims = self.call(
            self.admin,
            "POST",
            "/auth/service-accounts",
            payload,
            "Auth:ServiceAccounts:Create",
            lambda act: people.create_service_account(
                act,
                name=name,
                public_key=public,
                permission_id=permission_id,
                days_valid=None,
                external_id=None,
            ),
        )
        info = answer["userInfo"]
        return Actor(
            user_id=info["userId"],
            username=name,
            private_key=private,
            credential_id=info["credentialId"],
            credential_uuid=info["credentialUuid"],
            claims=claims,
        )

    def permit(self, actor: Actor) -> None:
        """Give full access."""
        path = f"/permissions/{self._full_access}/assignments"
        self.call(
            self.admin,
            "POST",
            path,
            {"identityId": actor.user_id},
            "Permissions:Assign",
            lambda act: permissions.assign(act, self._full_access, identity_id=actor.user_id),
        )

    def forbid(self, actor: Actor) -> None:
        """Take every permission away."""
        with self.unit() as unit:
            held = list(permission_rows.held_by(unit, actor.user_id))
        for each in held:
            path = f"/permissions/{each.permission_id}/assignments/{each.assignment_id}"
            self.call(
                self.admin,
                "DELETE",
                path,
                {},
                "Permissions:Revoke",
                lambda act, each=each: permissions.revoke(act, each.permission_id, each.assignment_id),  # type: ignore[misc]
            )

    def deactivate(self, actor: Actor, *, service_account: bool = False) -> None:
        """Switch somebody off."""
        path = f"/auth/users/{actor.user_id}/deactivate"
        self.call(
            self.admin,
            "PUT",
            path,
            {},
            "Auth:Users:Deactivate",
            lambda act: people.deactivate(act, actor.user_id, service_account=service_account),
        )

    # --- wallets and policies -------------------------------------------------------------------------------------

    def wallet(self, *tags: str, dollars: int = 10**9, key: SigningKey | None = None) -> str:
        """Create a funded wallet, around ``key`` or a made-up one, and return its id."""
        wallet_id = wallets.new_wallet_id(self.entropy)
        payload: dict[str, Any] = {"network": NETWORK}
        if tags:
            payload["tags"] = list(tags)
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
                key_id=f"key-{wallet_id}",
                address="0x" + self.entropy.token(20).hex() if key is None else key.address,
                public_key="02" + self.entropy.token(32).hex() if key is None else key.public_key.hex(),
                name=None,
                external_id=None,
                tags=tags,
            ),
        )
        if dollars:
            self.fund(wallet_id, USDC, dollars * DOLLAR)
            self.fund(wallet_id, NATIVE, 10**21)
        return wallet_id

    def fund(self, wallet_id: str, asset: str, amount: int) -> None:
        """Post an inflow, base units."""
        with self.work() as work:
            lines = inflow(wallet=wallet_id, network=NETWORK, asset=asset, amount=amount)
            ledger.post(work.unit, lines, transfer_id=None, now=work.now, entropy=work.entropy)

    def tag(self, wallet_id: str, *tags: str) -> None:
        path = f"/wallets/{wallet_id}/tags"
        self.call(
            self.admin,
            "PUT",
            path,
            {"tags": list(tags)},
            "Wallets:Tags:Add",
            lambda act: wallets.add_tags(act, wallet_id, tags),
        )

    def untag(self, wallet_id: str, *tags: str) -> Any:
        path = f"/wallets/{wallet_id}/tags"
        return self.call(
            self.admin,
            "DELETE",
            path,
            {"tags": list(tags)},
            "Wallets:Tags:Remove",
            lambda act: wallets.remove_tags(act, wallet_id, tags),
        )

    def policy(self, rule: dict[str, Any], action: dict[str, Any], **filters: Any) -> str:
        """Create a policy and return its id."""
        document = policy_document(rule, action, **filters)
        answer = self.call(
            self.admin,
            "POST",
            "/v2/policies",
            document,
            "Policies:Create",
            lambda act: policies.create(act, document),
        )
        policy_id: str = answer["id"]
        return policy_id

    def replace_policy(self, policy_id: str, rule: dict[str, Any], action: dict[str, Any], **filters: Any) -> None:
        document = policy_document(rule, action, **filters)
        path = f"/v2/policies/{policy_id}"
        self.call(
            self.admin,
            "PUT",
            path,
            document,
            "Policies:Update",
            lambda act: policies.replace(act, policy_id, document),
        )

    def archive_policy(self, policy_id: str) -> None:
        path = f"/v2/policies/{policy_id}"
        self.call(self.admin, "DELETE", path, {}, "Policies:Delete", lambda act: policies.archive(act, policy_id))

    # --- payouts --------------------------------------------------------------------------------------------------

    def quote(self, asset: Asset) -> Quote | None:
        """Return the price as it is in this world now."""
        price = self.prices.get(asset.symbol)
        return None if price is None else Quote(price=price, source="static", at=self.clock.now())

    def pay(
        self,
        by: Actor,
        wallet_id: str,
        dollars: int,
        *,
        to: str = ALICE,
        external_id: str | None = None,
        units: int = 0,
        native: bool = False,
    ) -> dict[str, Any]:
        """Request a payout of USDC (``units`` adds base units), or of ``units`` native base units."""
        name = external_id or f"payout-{next(self._numbers)}"
        amount = str(units if native else dollars * DOLLAR + units)
        payload = {"kind": "Native" if native else "Erc20", "to": to, "amount": amount, "externalId": name}
        if not native:
            payload["contract"] = USDC
        path = f"/wallets/{wallet_id}/transfers"
        answer: dict[str, Any] = self.call(
            by,
            "POST",
            path,
            payload,
            "Wallets:Transfers:Create",
            lambda act: request_transfer(
                act,
                Ask(
                    wallet_id=wallet_id,
                    kind=payload["kind"],
                    contract=payload.get("contract"),
                    to=to,
                    amount=amount,
                    external_id=name,
                ),
                quote_of=self.quote,
            ),
        )
        return answer

    def pool(self, tag: str, *, network: str = NETWORK) -> str:
        """Make a pool of the wallets that carry a tag; return its id."""
        payload = {"name": f"pool {tag}", "network": network, "tag": tag}
        made = self.call(
            self.admin, "POST", "/v1/pools", payload, "Pools:Create", lambda act: pools.create(act, **payload)
        )
        return str(made["id"])

    def archive_pool(self, pool_id: str) -> Any:
        """Let a pool take nothing new."""
        path = f"/v1/pools/{pool_id}/archive"
        return self.call(self.admin, "POST", path, {}, "Pools:Archive", lambda act: pools.archive(act, pool_id))

    def drain(self, wallet_id: str, reason: str = "is looked after") -> Any:
        """Give a wallet no new work."""
        path, payload = f"/v1/wallets/{wallet_id}/drain", {"reason": reason}
        return self.call(
            self.admin, "POST", path, payload, "Wallets:Drain", lambda act: pools.drain(act, wallet_id, reason=reason)
        )

    def resume(self, wallet_id: str) -> Any:
        """Give a drained wallet work again."""
        path = f"/v1/wallets/{wallet_id}/resume"
        return self.call(self.admin, "POST", path, {}, "Wallets:Drain", lambda act: pools.resume(act, wallet_id))

    def pay_pool(
        self,
        by: Actor,
        pool_id: str,
        dollars: int,
        *,
        to: str = ALICE,
        external_id: str | None = None,
        units: int = 0,
        native: bool = False,
    ) -> dict[str, Any]:
        """Request a payout as ``pay`` does, of a pool."""
        ask = Ask(
            kind="Native" if native else "Erc20",
            contract=None if native else USDC,
            to=to,
            amount=str(units if native else dollars * DOLLAR + units),
            external_id=external_id or f"payout-{next(self._numbers)}",
            pool_id=pool_id,
        )
        payload = {
            "externalId": ask.external_id,
            "poolId": pool_id,
            "asset": ask.contract or NATIVE,
            "recipient": to,
            "amount": ask.amount,
        }
        answer: dict[str, Any] = self.call(
            by,
            "POST",
            "/v1/payouts",
            payload,
            "Wallets:Transfers:Create",
            lambda act: request_transfer(act, ask, quote_of=self.quote),
        )
        return answer

    def withdraw(self, by: Actor, transfer_id: str) -> None:
        wallet_id = self.row(transfer_id).wallet_id
        path = f"/wallets/{wallet_id}/transfers/{transfer_id}/abort"
        self.call(
            by,
            "PUT",
            path,
            {},
            "Wallets:Transfers:Abort",
            lambda act: withdraw.withdraw(act, wallet_id, transfer_id),
        )

    def decide(self, by: Actor, transfer_id: str, value: str = "Approved", *, reason: str | None = None) -> Any:
        """Decide about a held payout."""
        approval_id = self.approval(transfer_id).id
        payload: dict[str, Any] = {"value": value, **({} if reason is None else {"reason": reason})}
        return self.call(
            by,
            "POST",
            f"/v2/policy-approvals/{approval_id}/decisions",
            payload,
            "Policies:Evaluations:Vote",
            lambda act: decisions.decide(act, approval_id, value=value, reason=reason),
        )

    # --- the engine's units ---------------------------------------------------------------------------------------

    def lease(self, wallet_id: str) -> int:
        with self.unit() as unit:
            fence = lanes.lease(
                unit,
                wallet_id,
                holder="worker",
                first_nonce=0,
                now=self.clock.now(),
                until=self.clock.now() + HOUR,
            )
        assert fence is not None
        return fence

    def bind(self, transfer_id: str, *, offer: Offer | None = OFFER) -> str:
        """Judge again and bind; return the state the payout is in then."""
        wallet_id = self.row(transfer_id).wallet_id
        fence = self.lease(wallet_id)
        with self.work() as work:
            sending.bind(work, wallet_id, fence, [Candidate(transfer_id=transfer_id, offer=offer)], room=16)
        return self.state(transfer_id)

    def store_signed(self, transfer_id: str) -> None:
        """Store a signature for a bound payout."""
        row = self.row(transfer_id)
        fence = self.lease(row.wallet_id)
        with self.work() as work:
            signed = SignedBytes(
                attempt_id=row.transaction_id,
                raw=b"signed " + transfer_id.encode(),
                hash=f"0x{transfer_id}",
                sequence=next(self._numbers),
            )
            sending.store_signed(work, row.wallet_id, fence, [signed], journal_id="journal")

    def leave(self, transfer_id: str) -> None:
        """Bind and sign."""
        assert self.bind(transfer_id) == "assigned"
        self.store_signed(transfer_id)

    def mine(self, transfer_id: str) -> None:
        """Send a signed payout and see its receipt."""
        row = self.row(transfer_id)
        fence = self.lease(row.wallet_id)
        with self.work() as work:
            sending.note_sent(work, row.wallet_id, fence, [(row.transaction_id, "accepted")])
        with self.work() as work:
            seen = Mined(attempt_id=row.transaction_id, block_number=7, block_hash="0x07")
            finality.note_mined(work, [seen])

    def settle(self, transfer_id: str, kind: str = "exact", *, fee: int = 1000) -> str:
        """End a mined payout: ``exact`` pays, ``nothing`` is a final revert, ``mismatch`` pays half."""
        row = self.row(transfer_id)
        outflow = {"exact": row.amount, "nothing": 0, "mismatch": row.amount // 2}[kind]
        effect = Effect(kind=kind, outflow=outflow, why="half is missing")  # type: ignore[arg-type]
        fence = self.lease(row.wallet_id)
        with self.work() as work:
            final = Final(slot_id=row.transaction_id, effect=effect, fee=fee)
            finality.settle_payouts(work, fence, [final])
        return self.state(transfer_id)

    def expire(self) -> bool:
        """Run the engine's step that ends what its time has run out for."""
        return asyncio.run(Expire(self.db, self.clock, self.entropy, self.config).step())

    # --- what is stored -------------------------------------------------------------------------------------------

    def row(self, transfer_id: str) -> Row:
        with self.unit() as unit:
            return transfers.get(unit, transfer_id)

    def state(self, transfer_id: str) -> str:
        return str(self.row(transfer_id).state)

    def approval(self, transfer_id: str) -> Row:
        with self.unit() as unit:
            row = approvals.find_of(unit, transfer_id)
        assert row is not None, "nobody was asked"
        return row

    def evaluations(self, transfer_id: str, moment: str = "admission") -> Sequence[Row]:
        with self.unit() as unit:
            return transfers.evaluations(unit, transfer_id, moment=moment)

    def events(self, subject: str) -> list[str]:
        """Return the kinds of a subject's events, in order."""
        with self.unit() as unit:
            rows = unit.execute(sa.select(event.c.kind).where(event.c.subject == subject).order_by(event.c.subject_seq))
            return [row.kind for row in rows]

    def count(self, table: sa.Table) -> int:
        with self.unit() as unit:
            return unit.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
