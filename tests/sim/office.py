"""The API as one process, and those who call it: programs that post and post again, approvers, an admin."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outlay.actions import decide as decisions
from outlay.actions import lift, people, policies, replace, wallets, withdraw
from outlay.actions import organization as organizations
from outlay.actions.act import TOKEN_LIFE, Act, SignedCall, authenticate
from outlay.actions.admit import Ask, Order
from outlay.actions.perform import Outcome, PayoutCall, perform, perform_payouts
from outlay.core.asset import Asset
from outlay.core.errors import HeadMoved, OutlayError, Refused
from outlay.core.faultpoint import fault
from outlay.core.price import Quote
from outlay.evidence.assertion import Assertion
from outlay.evidence.challenge import Preimage, action_challenge
from outlay.evidence.sign import sign_challenge
from outlay.signer import Freeze
from outlay.store import approvals
from outlay.store.database import Unit
from tests.actions.documents import policy_document
from tests.sim.loop import Dead, Process
from tests.sim.organization import USDC, Member, Wallet

if TYPE_CHECKING:
    from tests.sim.world import Simulation

PATIENCE = (0.5, 9.0)
"""Seconds a program waits before it asks again, at least and at most."""


class NoAnswer(Exception):
    """The caller never learns what became of its call."""


@dataclass(kw_only=True)
class Request:
    """One payout somebody wants, as the list the oracle reads."""

    external_id: str
    by: Member
    wallet: Wallet
    to: str
    amount: int  #: base units, of this request alone
    native: bool
    at: float  #: seconds of virtual time
    value: int  #: 10**-8 dollars
    id: str | None = None  #: once it was answered
    refused: str | None = None
    approved_by: dict[str, float] = field(default_factory=dict)  #: user id -> when the approval was taken


class Api:
    """The process that answers calls."""

    def __init__(self, sim: "Simulation") -> None:
        self._sim = sim
        self.start()

    def start(self) -> None:
        self.process = Process("api")
        self.clock = self._sim.clock_of("api")
        self.db = self._sim.database(self.process)

    async def call(
        self, by: Member, method: str, path: str, payload: Any, operation: str | None, action: Callable[[Act], Any]
    ) -> Any:
        """Sign and carry out one call as a client does.

        Raises:
            NoAnswer: the process died or is down. OutlayError: the answer was an error.
        """
        call = await self._sign(by, method, path, payload)
        return await self._reach(self._perform(by, call, method, path, payload, operation, action))

    async def admit(self, by: Member, path: str, payload: Any, order: Callable[[Act], Order]) -> Any:
        """Sign and carry out a request for a payout, together with all others that wait. Raises as ``call``."""
        call = await self._sign(by, "POST", path, payload)
        asked = PayoutCall(
            claims=by.actor.claims,
            call=call,
            method="POST",
            path=path,
            payload=payload,
            operations=("Wallets:Transfers:Create",),
            order=order,
        )
        return await self._reach(self._admit(asked))

    async def read(self, function: Callable[[Unit], Any]) -> Any:
        """Read something on somebody's behalf."""
        return await self._reach(self.db.read(function))

    async def _reach(self, doing: Any) -> Any:
        process = self.process
        if not process.alive:
            doing.close()
            raise NoAnswer
        task = process.spawn(doing)
        try:
            return await asyncio.shield(task)
        except (asyncio.CancelledError, Dead):
            if process.alive:
                task.cancel()
                raise
            raise NoAnswer from None

    async def _sign(self, by: Member, method: str, path: str, payload: Any) -> SignedCall:
        if not self.process.alive:
            raise NoAnswer
        preimage: Preimage = await self._reach(self._open(by, method, path, payload))
        answer = sign_challenge(by.key, by.actor.credential_id, action_challenge(preimage))
        return SignedCall(
            preimage=preimage,
            assertion=Assertion.from_document(answer),
            credential_uuid=by.actor.credential_uuid,
            token_expires=preimage.issued + TOKEN_LIFE,
        )

    async def _admit(self, asked: PayoutCall) -> Any:
        outcome = await self.db.write_item(self._admit_together, asked)
        fault("admit.after_commit")
        if outcome.refusal is not None:
            raise outcome.refusal
        return outcome.result

    def _admit_together(self, unit: Unit, calls: Sequence[PayoutCall]) -> list[Outcome | Exception]:
        sim = self._sim
        return perform_payouts(unit, calls, now=self.clock.now(), entropy=sim.entropy, config=sim.config)

    async def _open(self, by: Member, method: str, path: str, payload: Any) -> Preimage:
        def run(unit: Unit) -> Preimage:
            now = self.clock.now()
            caller = authenticate(unit, by.actor.claims, now=now)
            return organizations.open_action(
                unit,
                now=now,
                entropy=self._sim.entropy,
                caller=caller,
                method=method,
                path=path,
                payload=payload,
            )

        return await self.db.read(run)

    async def _perform(
        self,
        by: Member,
        call: SignedCall,
        method: str,
        path: str,
        payload: Any,
        operation: str | None,
        action: Callable[[Act], Any],
    ) -> Any:
        def run(unit: Unit) -> Outcome:
            return perform(
                unit,
                now=self.clock.now(),
                entropy=self._sim.entropy,
                config=self._sim.config,
                claims=by.actor.claims,
                call=call,
                method=method,
                path=path,
                payload=payload,
                operations=() if operation is None else (operation,),
                action=action,
            )

        outcome = await self.db.write(run)
        fault("admit.after_commit")
        if outcome.refusal is not None:
            raise outcome.refusal
        return outcome.result


class Office:
    """Everybody who calls the API during a run."""

    def __init__(self, sim: "Simulation", chance: random.Random) -> None:
        self._sim, self._chance = sim, chance
        self._opinions: dict[str, bool] = {}  # by transfer: most are approved by everybody
        self._voted: set[tuple[str, str, str]] = set()

    def begin_again(self) -> None:
        """Nobody knows any more which votes the database holds."""
        self._voted.clear()

    # --- payouts --------------------------------------------------------------------------------------------------

    async def post(self, request: Request) -> None:
        """Post a payout until there is a definite answer, now and then twice at once."""
        if self._chance.random() < 0.15:
            await asyncio.gather(self._post_until_answered(request), self._post_until_answered(request))
        else:
            await self._post_until_answered(request)

    async def _post_until_answered(self, request: Request) -> None:
        while request.refused is None:
            try:
                answer = await self.post_once(request)
            except HeadMoved:
                self._sim.trace("head moved", request.external_id)
            except Refused as error:
                self._sim.trace("refused", request.external_id, error.code)
                request.refused = error.code
                return
            except (NoAnswer, OutlayError) as error:
                self._sim.trace("unanswered", request.external_id, type(error).__name__)
            except Exception as error:
                # A read that fails is a 500 to the client, which asks again.
                self._sim.trace("broken", request.external_id, type(error).__name__)
            else:
                self._sim.check(request.id in (None, answer["id"]), f"{request.external_id} has two ids")
                request.id = answer["id"]
                self._sim.trace("accepted", request.external_id, answer["status"])
                return
            await asyncio.sleep(self._chance.uniform(*PATIENCE))

    async def post_once(self, request: Request) -> Any:
        """Post a payout and return the answer."""
        payload = {
            "kind": "Native" if request.native else "Erc20",
            "to": request.to,
            "amount": str(request.amount),
            "externalId": request.external_id,
        }
        if not request.native:
            payload["contract"] = USDC

        def order(act: Act) -> Order:
            ask = Ask(
                wallet_id=request.wallet.id,
                kind=payload["kind"],
                contract=payload.get("contract"),
                to=request.to,
                amount=payload["amount"],
                external_id=request.external_id,
            )

            def quote_of(asset: Asset) -> Quote:
                price = self._sim.config.prices[asset.symbol]
                return Quote(price=price, source="static", at=self._sim.api.clock.now())

            return Order(act=act, asks=[ask], quote_of=quote_of)

        path = f"/wallets/{request.wallet.id}/transfers"
        return await self._sim.api.admit(request.by, path, payload, order)

    async def withdraw(self, request: Request) -> None:
        """Take a payout back, if that is possible still."""
        if request.id is None:
            return
        path = f"/wallets/{request.wallet.id}/transfers/{request.id}/abort"
        wallet_id, transfer_id = request.wallet.id, request.id
        await self.attempt(
            "withdraw",
            self._sim.api.call(
                request.by,
                "PUT",
                path,
                {},
                "Wallets:Transfers:Abort",
                lambda act: withdraw.withdraw(act, wallet_id, transfer_id),
            ),
        )

    async def replace(self, request: Request, what: str) -> None:
        """Ask for a sent payout to be canceled or sped up, if that is possible still."""
        if request.id is None:
            return
        wallet_id, transfer_id = request.wallet.id, request.id
        change = replace.cancel if what == "cancel" else replace.speed_up
        fees = self._sim.fees()
        await self.attempt(
            f"{what} {request.external_id}",
            self._sim.api.call(
                request.by,
                "POST",
                f"/wallets/{wallet_id}/transfers/{transfer_id}/{what}",
                {},
                "Wallets:Transfers:Create",
                lambda act: change(act, wallet_id, transfer_id, fees, 0),
            ),
        )

    # --- people ---------------------------------------------------------------------------------------------------

    async def attempt(self, what: str, doing: Any) -> bool:
        """Do something once; tell whether the answer was a good one."""
        try:
            await doing
        except (NoAnswer, OutlayError) as error:
            self._sim.trace(what, "not done", getattr(error, "code", type(error).__name__))
            return False
        except Exception as error:
            self._sim.trace(what, "broken", type(error).__name__)
            return False
        self._sim.trace(what, "done")
        return True

    async def vote(self, person: Member) -> None:
        """Look at what waits for people and say something about each."""
        try:
            waiting = await self._sim.api.read(_waiting)
        except Exception:
            return
        for approval_id, transfer_id, groups in waiting:
            request = self._sim.request_of(transfer_id)
            if request is None or (person.user_id, approval_id, groups) in self._voted:
                continue
            opinion = self._opinions.setdefault(transfer_id, self._chance.random() < 0.85)
            if await self._decide(person, approval_id, request, "Approved" if opinion else "Denied"):
                self._voted.add((person.user_id, approval_id, groups))

    async def _decide(self, person: Member, approval_id: str, request: Request, value: str) -> bool:
        def decide(act: Act) -> Any:
            if value == "Approved":
                request.approved_by.setdefault(person.user_id, self._sim.now)
            return decisions.decide(act, approval_id, value=value, reason=None)

        return await self.attempt(
            f"vote {value}",
            self._sim.api.call(
                person,
                "POST",
                f"/v2/policy-approvals/{approval_id}/decisions",
                {"value": value},
                "Policies:Evaluations:Vote",
                decide,
            ),
        )

    async def edit_policy(self, name: str, rule: dict[str, Any], action: dict[str, Any], **filters: Any) -> None:
        """Replace a policy until there is a good answer."""
        policy_id = self._sim.organization.policies[name]
        document = policy_document(rule, action, **filters)

        def change(act: Act) -> Any:
            self._sim.policy_edited(name, rule)
            return policies.replace(act, policy_id, document)

        path = f"/v2/policies/{policy_id}"
        if await self._until_done(f"edit {name}", "PUT", path, document, "Policies:Update", change):
            self._sim.edited[name] = self._sim.now

    async def remove(self, person: Member) -> None:
        """Switch somebody off."""

        def change(act: Act) -> Any:
            self._sim.person_removed(person)
            return people.deactivate(act, person.user_id, service_account=False)

        path = f"/auth/users/{person.user_id}/deactivate"
        await self._until_done("deactivate", "PUT", path, {}, "Auth:Users:Deactivate", change)

    async def unfreeze(self, wallet: Wallet) -> bool:
        """Let a wallet go on after somebody has looked."""
        payload = {"reason": "looked at"}
        return await self.attempt(
            "unfreeze wallet",
            self._sim.api.call(
                self._sim.organization.admin,
                "PUT",
                f"/wallets/{wallet.id}/unfreeze",
                payload,
                "Wallets:Unfreeze",
                lambda act: wallets.unfreeze(act, wallet.id, reason="looked at"),
            ),
        )

    async def lift(self, freeze: Freeze) -> bool:
        """Let go what was stopped, once the server knows of it."""
        payload = {"scope": str(freeze.scope), "subject": freeze.subject, "reason": "looked at"}

        def action(act: Act) -> Any:
            answer = lift.lift(act, freeze.id, **payload)
            self._sim.stopped.pop(freeze.id, None)
            return answer

        path = f"/v1/freezes/{freeze.id}/lift"
        admin = self._sim.organization.admin
        return await self.attempt("lift", self._sim.api.call(admin, "PUT", path, payload, "Outlay:Unfreeze", action))

    async def _until_done(
        self, what: str, method: str, path: str, payload: Any, operation: str, action: Callable[[Act], Any]
    ) -> bool:
        admin = self._sim.organization.admin
        for _ in range(40):
            if await self.attempt(what, self._sim.api.call(admin, method, path, payload, operation, action)):
                return True
            await asyncio.sleep(self._chance.uniform(*PATIENCE))
        return False


def _waiting(unit: Unit) -> list[tuple[str, str, str]]:
    rows = approvals.pending(unit)
    return [(row.id, row.transfer_id, row.groups_digest) for row in rows if row.transfer_id is not None]
