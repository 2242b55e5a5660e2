"""The signer as it tells of itself, and putting its journal in place again after it was lost."""

from typing import Any, Protocol

from litestar import Controller, get, put
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from outlay.actions.reseed import reseed
from outlay.core.errors import PreconditionFailed
from outlay.web.body import StrictRequest
from outlay.web.dfns.identity import Body
from outlay.web.gate import Gate


class Reconciler(Protocol):
    """Compares ledger, journal and chain. Each method raises ``Unavailable`` when one of them gives no answer."""

    async def reconcile(self) -> dict[str, Any]:
        """Return what each wallet holds and has signed by the ledger, the journal and the chain."""
        ...

    async def signer_state(self) -> dict[str, Any]:
        """Return what the signer says of itself, and each wallet's lowest nonce that cannot have been signed."""
        ...


AnyReconciler = NamedDependency[SkipValidation[Reconciler]]


class ReseedSigner(Body):
    """Which journal, from which nonce on for each wallet, and what happened to the one before."""

    journalId: str
    minNonces: dict[str, int]
    reason: str


class SignerController(Controller):
    """``/v1/signer`` and ``/v1/reconciliation``."""

    path = "/v1"
    tags = ("Signer",)

    @get("/signer", summary="Read the state of the signer")
    async def read(self, request: StrictRequest, gate: Gate, reconciler: AnyReconciler) -> dict[str, Any]:
        """Return the signer's journal, how far it is, what it stopped, and what a re-seed would have to say now."""
        await gate.read(request, "Wallets:Read", lambda _unit, _caller: None)
        return await reconciler.signer_state()

    @put("/signer/reseed", summary="Put the journal of the signer in place again")
    async def reseed(
        self, request: StrictRequest, data: ReseedSigner, gate: Gate, reconciler: AnyReconciler
    ) -> dict[str, Any]:
        """Let the signer sign with a new journal after the one before was lost."""
        suggested = (await reconciler.signer_state())["minNonces"]
        # Lower ones could pay twice, higher ones would never be mined.
        wrong = {wallet for wallet in data.minNonces if data.minNonces[wallet] != suggested.get(wallet)}
        if wrong:
            raise PreconditionFailed(f"begin where GET /v1/signer says now: {', '.join(sorted(wrong))} differ")
        return await gate.write(
            request,
            "Signer:Reseed",
            lambda act: reseed(act, journal_id=data.journalId, min_nonces=data.minNonces, reason=data.reason),
        )

    @get("/reconciliation", summary="Compare ledger, journal and chain")
    async def reconcile(self, request: StrictRequest, gate: Gate, reconciler: AnyReconciler) -> dict[str, Any]:
        """Return, wallet by wallet, what the ledger, the signer's journal and the chain say, and where they differ."""
        await gate.read(request, ("Wallets:Read", "Wallets:Transfers:Read"), lambda _unit, _caller: None)
        return await reconciler.reconcile()
